"""A small world under a seeded scheduler: workers run the real rim on a simulated log, and who goes on next is chance.

A worker is one owner of one task: `restore_tasks`, `Ledger` and `Task` of the product, driven as `Delivery` drives
them. Between any two calls of a client it may be killed, or stopped while another takes its task, and go on as a
zombie. Time is virtual: nothing sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from schemas.errors import BrokerUnavailable, TaskTaken
from streamer.core.control import Control
from streamer.core.records import PlainRecord
from streamer.kafka.restore import restore_tasks
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.simulated import SimulatedLog, SimulatedSettings
from streamer.kafka.stages import Counts, Stage
from streamer.kafka.tasks import Status, Task
from streamer.kafka.transactions import Ledger

#: How often a worker goes on, a marker is written, an input grows, for each other.
GOES_ON, MARKER, FEED = 24, 12, 6
#: Steps between two faults, in the mean.
CALM_STEPS = 40


class Fed(NamedTuple):
    """A record to come. input: logical topic; at: its append time."""

    partition: int
    value: bytes
    at: int
    input: str = "predictions"


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is moved by waiting on it."""

    def __init__(self) -> None:
        super().__init__(_NoWait(self))
        self.now = 0.0

    def time(self) -> float:
        """Seconds that would have passed."""
        return self.now


class _NoWait(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.now += max(timeout or 0.0, 0.001)
        return super().select(0)


@dataclass(eq=False)
class Worker:
    """An owner of a task. waits: what it is about to do, and the future that lets it."""

    stage: Stage
    partition: int
    coroutine: asyncio.Task[None] | None = None
    waits: list[tuple[str, asyncio.Future[None]]] = field(default_factory=list)
    paused: bool = False
    dead: bool = False
    job: Task | None = None

    @property
    def task(self) -> tuple[str, int]:
        """Which task it owns."""
        return self.stage.name, self.partition


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Which faults there may be. hanging: markers of a decided transaction are lost; partly: some of them, too."""

    kills: bool = True
    zombies: bool = True
    hanging: bool = True
    partly: bool = True


class World:
    """Workers for every task of `stages`, and what happened to them: faults by kind, and how workers ended."""

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        seed: int,
        sources: int = 2,
        profiles: int = 2,
        control: Control | None = None,
        faults: Faults | None = None,
        rows: int = 7,
        ledger: Callable[..., Any] = Ledger,
    ) -> None:
        self.rng = random.Random(seed)
        self.stages, self.control, self.faults, self.rows = (
            tuple(stages),
            control or Control(),
            faults or Faults(),
            rows,
        )
        self.sources, self.profiles = sources, profiles
        self.happened: Counter[str] = Counter()
        self.ended: list[Exception] = []
        self.workers: list[Worker] = []
        self._ledger, self._over = ledger, False
        names = KafkaSettings(bootstrap_servers="simulated:0", profiles_partitions=profiles)
        counts = {names.topic(name): sources for stage in stages if stage.spreads for name in stage.inputs}
        counts |= {names.topic("dead-letter"): sources, names.topic("profiles"): profiles}
        counts |= {names.topic(name): profiles for stage in stages if not stage.spreads for name in stage.writes}
        counts |= {names.changelog(stage.name): sources if stage.spreads else profiles for stage in stages}
        self.log = SimulatedLog(counts)
        self.settings = SimulatedSettings(log=self.log, batch_rows=rows, start="earliest", profiles_partitions=profiles)

    def run(self, feed: Sequence[Fed], *, faults: int, most: int = 100_000) -> None:
        """Feed records while so many faults happen; then until all of it is through."""
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(self._run(list(feed), faults, most))

    @property
    def refused(self) -> list[Exception]:
        """Why workers ended that neither the broker nor another owner had made to."""
        return [error for error in self.ended if not isinstance(error, BrokerUnavailable | TaskTaken)]

    def visible(self, name: str) -> list[PlainRecord]:
        """Committed records of a logical topic."""
        return self.log.visible(self.settings.topic(name))

    def changelog(self, stage: str) -> list[PlainRecord]:
        """Committed records of a stage's changelog."""
        return self.log.visible(self.settings.changelog(stage))

    def written(self, name: str, partition: int) -> int:
        """How many records a partition of an input was given."""
        return self.log.partition(self.settings.topic(name), partition).end

    async def _run(self, feed: list[Fed], faults: int, most: int) -> None:
        feed.reverse()
        for stage in self.stages:
            for partition in range(self.sources if stage.spreads else self.profiles):
                self._spawn(stage, partition)
        try:
            for _ in range(most):
                await self._settle()
                if not feed and faults <= 0:
                    self._over = True
                    for worker in self.workers:
                        worker.paused = False
                    if self._through():
                        return
                faults -= self._step(feed, faulty=faults > 0)
            raise AssertionError(f"not through after {most} steps: {self.happened}, ended {self.ended[-3:]}")
        finally:
            for worker in self.workers:
                worker.dead = True
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _settle(self) -> None:
        """Until every worker waits for its turn."""
        before = None
        while (now := sum(len(worker.waits) for worker in self.workers)) != before:
            before = now
            for _ in range(3):
                await asyncio.sleep(0)

    def _step(self, feed: list[Fed], *, faulty: bool) -> int:
        """One thing happens; 1 when it was a fault."""
        able = [worker for worker in self.workers if worker.waits and not worker.paused]
        ending = self.log.ends_pending()
        things = ["go on"] * GOES_ON * bool(able) + ["marker"] * MARKER * bool(ending) + ["feed"] * FEED * bool(feed)
        if faulty and self.rng.random() < 1 / CALM_STEPS:
            things = ["kill"] * self.faults.kills + ["stop"] * self.faults.zombies
            things += ["hang"] * bool(self.faults.hanging and ending)
        thing = self.rng.choice(things) if things else "nothing"
        if thing == "go on":
            self._go_on(self.rng.choice(able))
        elif thing == "marker":
            name = self.rng.choice(ending)
            self.log.write_marker(name, self.rng.choice(self.log.pending(name)))
        elif thing == "feed":
            for _ in range(min(len(feed), self.rng.randint(1, self.rows))):
                one = feed.pop()
                self.log.partition(self.settings.topic(one.input), one.partition).append(None, one.value, at=one.at)
        elif thing == "kill":
            self._kill(self.rng.choice(self.workers))
        elif thing == "stop":
            self._stop(self.rng.choice(self.workers))
        elif thing == "hang":
            self._crash(self.rng.choice(ending))
        self.happened[thing] += 1
        return int(thing in {"kill", "stop", "hang"})

    def _crash(self, name: str) -> None:
        """The broker crashes, and loses markers of a transaction: all, or some. Its owner may well survive that.

        One that waits for its barrier to be passed does not: it would wait until it gives up.
        """
        waiting, waits = self.log.pending(name), self.log.ending(name) == "abort"
        lost = self.rng.sample(waiting, self.rng.randint(1, len(waiting))) if self.faults.partly else waiting
        self.happened["partly"] += len(lost) < len(waiting)
        self.log.lose_markers(name, lost)
        if not self.faults.partly or waits or self.rng.random() < 0.5:
            for worker in [one for one in self.workers if name.endswith(".".join(map(str, one.task)))]:
                self._kill(worker)

    def _go_on(self, worker: Worker) -> None:
        _, future = worker.waits.pop(self.rng.randrange(len(worker.waits)))
        if not future.done():
            future.set_result(None)

    def _kill(self, worker: Worker) -> None:
        self._bury(worker)
        if not any(other.task == worker.task and not other.paused for other in self.workers):
            self._spawn(worker.stage, worker.partition)

    def _stop(self, worker: Worker) -> None:
        """Stop one for longer than its session: another takes its task. A stopped one goes on, as a zombie."""
        if worker.paused:
            worker.paused = False
            return
        worker.paused = True
        if not any(other.task == worker.task and not other.paused for other in self.workers):
            self._spawn(worker.stage, worker.partition)

    def _bury(self, worker: Worker) -> None:
        worker.dead = True
        self.workers.remove(worker)
        assert worker.coroutine is not None
        worker.coroutine.cancel()

    def _spawn(self, stage: Stage, partition: int) -> None:
        worker = Worker(stage, partition)
        self.workers.append(worker)
        worker.coroutine = asyncio.get_running_loop().create_task(self._live(worker))

    def _through(self) -> bool:
        """Every task has an owner that has committed all there is, and nothing is on its way."""
        done = {worker.task for worker in self.workers if worker.job is not None and self._has_all(worker.job)}
        settled = all(log.stable == log.end for log in self.log.partitions.values())
        return settled and not self.log.ends_pending() and done == {worker.task for worker in self.workers}

    def _has_all(self, task: Task) -> bool:
        logs = [(intake, self.log.partitions[intake.at]) for intake in task.intakes.values()]
        return (
            task.status is Status.READY
            and task.quiet
            and not task.stage.pending(task.state)
            and all(not intake.rows and intake.reached == log.end == log.stable for intake, log in logs)
        )

    async def _live(self, worker: Worker) -> None:
        try:
            await self._work(worker)
        except asyncio.CancelledError:
            return
        except Exception as error:
            self.ended.append(error)
            if not worker.dead:
                self._bury_ended(worker)

    def _bury_ended(self, worker: Worker) -> None:
        worker.dead = True
        self.workers.remove(worker)
        # Only a supervisor that has no other owner starts it again.
        if not any(other.task == worker.task and not other.paused for other in self.workers):
            self._spawn(worker.stage, worker.partition)

    async def _work(self, worker: Worker) -> None:
        async def turn(what: str) -> None:
            if worker.dead:
                raise asyncio.CancelledError
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            worker.waits.append((what, future))
            await future

        settings = replace(self.settings, turn=turn)
        stage, failures = worker.stage, list[Exception]()
        ledger = self._ledger(settings, stage=stage.name, partition=worker.partition)
        task = Task(
            settings,
            stage,
            partition=worker.partition,
            ledger=ledger,
            control=lambda: self.control,
            failed=failures.append,
            freed=lambda _: None,
            sensor=_Silent(),
        )
        restored = restore_tasks(settings, stage, self.control, {worker.partition: ledger}, profiles=self.profiles)
        async with contextlib.aclosing(restored):
            async for _, state, notes in restored:
                task.open(state, notes)
        worker.job, now = task, 0.0
        while True:
            await turn("work")
            if failures:
                raise failures[0]
            if self._over and self.log.hangs(ledger.task):
                # Before the end, what comes next there shows it too; a real worker looks every few seconds.
                raise BrokerUnavailable("what was committed is hidden")
            now += 0.0 if self._over else 0.3
            for intake in task.intakes.values():
                log = self.log.partitions[intake.at]
                records, reached = log.read(intake.reached, limit=self.rng.randint(1, 3 * self.rows))
                intake.add(list(records), reached=reached, now=now - 50)
                intake.caught_up = reached == log.stable
            batch = task.offer(now)
            if batch is not None:
                task.take(batch)


class _Silent:
    def restored(self, partition: int, counts: Counts) -> None: ...
    def committed(self, partition: int, counts: Counts, seconds: float) -> None: ...
    def gone(self, partition: int) -> None: ...
