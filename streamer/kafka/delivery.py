"""From Kafka to the agents: one consumer per stage, its tasks, their restores, and the batches that are due.

Why not Faust's topics: 80–100 µs per event, tables that overcount after a kill (DESIGN 2). Why manual positions: the
truth is in the changelog, written in the same transaction as the outputs; the group only says who has which partition.
The rebalance callbacks run beside everything else and their exceptions are swallowed: they note what changed, wait for
commits in flight, and return; restores run in a task of their own with the partitions paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import aiokafka
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from mode import Service

from schemas.errors import BrokerUnavailable, PositionLost, TriplineError
from streamer.core.control import Control
from streamer.kafka.assignment import misfit
from streamer.kafka.reading import start_client
from streamer.kafka.recognising import refuse_others
from streamer.kafka.refusals import explained
from streamer.kafka.restore import Gap, restore_tasks
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Sensor, Stage
from streamer.kafka.tasks import Status, Task, Work
from streamer.kafka.topics import await_broker
from streamer.kafka.transactions import Ledger

log = logging.getLogger(__name__)

#: A fetch that gave fewer records than this is followed by a pause, so that the next one gives more.
_FEW = 500
_PAUSE_S = 0.025
#: A fetch answer older than this says nothing about the end of the log now.
_FRESH_MS = 2_000
_LAG_TOOLS_S = 5.0
#: How often it is looked whether what was committed shows.
_SHOWN_S = 5.0
#: How often it is looked whether the inputs are still the logs that were read.
_SAME_S = 10.0


class Delivery(Service):  # type: ignore[misc]
    """Service that puts `Work` on `channel` as it is due, for the partitions that the group gives this worker.

    sources, profiles: partitions of the stage's inputs, and of what it spreads over. control: the newest value.
    failed: told once of whatever ends the worker.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        stage: Stage,
        *,
        partitions: int,
        profiles: int,
        channel: Any,
        control: Callable[[], Control],
        failed: Callable[[Exception], None],
        sensor: Sensor,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.stage = stage
        self.tasks: dict[int, Task] = {}
        self._ledgers: dict[int, Ledger] = {}
        self.settled = False
        self.restore_seconds: float | None = None
        self._settings, self._partitions, self._profiles = settings, partitions, profiles
        self._channel, self._control, self._failed, self._sensor = channel, control, failed, sensor
        self._consumer: aiokafka.AIOKafkaConsumer = None
        self._epoch = 0
        self._works: asyncio.Queue[Work] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._restore: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def ready(self) -> bool:
        """The group has spoken, and every task that it gave us is restored."""
        return self.settled and all(task.status is Status.READY for task in self.tasks.values())

    def lags(self) -> dict[tuple[int, str], int]:
        """Offsets that are in the log and not committed, by (partition, input), as of the last fetch."""
        found = {}
        for partition, task in self.tasks.items():
            for name, intake in task.intakes.items():
                if intake.at in self._consumer.assignment():
                    stable = self._consumer.last_stable_offset(intake.at)
                    done = task.committed_positions.get(name)
                    if stable is not None and done is not None:
                        found[partition, name] = max(0, stable - done)
        return found

    async def on_start(self) -> None:
        """Connect and join the group; assignment and restore follow."""
        settings, session = self._settings, self._settings.session_timeout_ms
        static: dict[str, Any] = (
            {} if settings.slot is None else {"group_instance_id": f"{settings.group(self.stage.name)}-{settings.slot}"}
        )
        self._consumer = settings.consumer(
            role=self.stage.name,
            group_id=settings.group(self.stage.name),
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 5,
            # A position that is not in the log is for an operator to decide on, never reset.
            auto_offset_reset="none",
            fetch_max_wait_ms=250,
            metadata_max_age_ms=settings.metadata_ms,
            **static,
        )
        await start_client(settings, self._consumer)
        self._consumer.subscribe([settings.topic(name) for name in self.stage.inputs], listener=_Listener(self))

    async def quiesce(self) -> None:
        """Cut no more batches, and see those that are under way committed. The agents must still run."""
        self._stopping = True
        if self._restore is not None:
            self._restore.cancel()
        await self._drain(self._settings.stop_timeout_s / 2)

    async def on_stop(self) -> None:
        """Leave; what is in flight now may be committed or not."""
        self._stopping = True
        for task in self.tasks.values():
            task.close()
        stops = [asyncio.create_task(ledger.stop()) for ledger in self._ledgers.values()]
        if self._consumer is not None:
            stops.append(asyncio.create_task(self._consumer.stop()))
        stops += self._closing
        if stops:
            # With the broker away some would not end.
            done, hanging = await asyncio.wait(stops, timeout=1.5)
            for stop in hanging:
                stop.cancel()
            await asyncio.gather(*done, return_exceptions=True)

    async def revoked(self) -> None:
        """The group is about to give partitions away: let what is in flight end, so that nobody is fenced for it."""
        self._epoch += 1
        self.settled = False
        await self._drain(self._settings.session_timeout_ms / 2_000)

    def assigned(self, given: Iterable[TopicPartition]) -> None:
        """The group has spoken. Tasks that stay go on where they are; tasks that left are closed; new ones restored."""
        given = set(given)
        self._epoch += 1
        partitions = {at.partition for at in given}
        wanted = len(self.stage.inputs) * len(partitions)
        if self._restore is not None:
            self._restore.cancel()
        if len(given) != wanted or not partitions <= set(range(self._partitions)):
            self._restore = asyncio.create_task(self._doubt(), name=f"doubt {self.stage.name}")
            return
        for partition, task in list(self.tasks.items()):
            if partition not in partitions or task.status is not Status.READY:
                self._retire(task)
        for partition in sorted(partitions - self.tasks.keys()):
            self._ledgers[partition] = Ledger(self._settings, stage=self.stage.name, partition=partition)
            self.tasks[partition] = Task(
                self._settings,
                self.stage,
                partition=partition,
                ledger=self._ledgers[partition],
                control=self._control,
                failed=self._failed,
                freed=self._on_freed,
                sensor=self._sensor,
            )
        for task in self.tasks.values():
            self._place(task)
        fresh = {partition: task for partition, task in self.tasks.items() if task.status is Status.RESTORING}
        self.settled = True
        log.info("%s: tasks %s, %d to restore", self.stage.name, sorted(self.tasks), len(fresh))
        whole = self._restore_all(fresh) if given or self._settings.embedded else self._doubt(when_gone=True)
        self._restore = asyncio.create_task(whole, name=f"restore {self.stage.name}")
        self._wake.set()

    @Service.task  # type: ignore[untyped-decorator]
    async def _deliver(self) -> None:
        try:
            while not self.should_stop and not self._stopping:
                few = await self._fetch()
                self._offer_all()
                if few:
                    await asyncio.sleep(min(_PAUSE_S, self._wait()))
                    self._offer_all()
        except asyncio.CancelledError:
            raise
        except OffsetOutOfRangeError as error:
            self._failed(await self._lost(error))
        except Exception as error:
            if not self._stopping:
                self._failed(_explained(self._settings, self.stage, error))

    @Service.task  # type: ignore[untyped-decorator]
    async def _put(self) -> None:
        try:
            # A channel without a reader drops what it is given.
            while not self._channel.subscriber_count:
                await asyncio.sleep(0.01)
            while not self.should_stop:
                await self._channel.put(await self._works.get())
        except Exception as error:
            self._failed(error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _tell_lag_tools(self) -> None:
        """The group's offsets, for tools that show a lag; nothing of ours reads them."""
        while not self.should_stop:
            await self.sleep(_LAG_TOOLS_S)
            offsets = {
                intake.at: task.committed_positions[name]
                for task in self.tasks.values()
                if task.status is Status.READY
                for name, intake in task.intakes.items()
            }
            if offsets and self.settled:
                try:
                    await self._consumer.commit(offsets)
                except (KafkaError, ValueError) as error:  # a partition that has just been taken away
                    log.debug("%s: %s", self.stage.name, error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _see_what_shows(self) -> None:
        """End the worker when something that it committed stays hidden: the marker is lost, a restart mends it.

        The next transaction there would show it too. But where an incident or a trigger waits, that may be next week.
        """
        while not self.should_stop and not self._settings.embedded:
            await self.sleep(_SHOWN_S)
            unseen = [(ledger, at) for ledger in self._ledgers.values() for at in ledger.unseen]
            if not unseen or not self.settled:
                continue
            try:
                ends = await self._consumer.end_offsets([at for _, at in unseen])
            except (KafkaError, ValueError) as error:  # away for now, or for good: others notice
                log.debug("%s: %s", self.stage.name, error)
                continue
            patience = self._settings.broker_timeout_s
            for ledger in dict.fromkeys(ledger for ledger, _ in unseen):
                for at, since in ledger.hidden(ends).items():
                    if at in ends and time.monotonic() > since + patience:
                        place = f"{at.topic}/{at.partition}"
                        hidden = f"task {ledger.name}: what was committed to {place} is hidden for {patience:g} s"
                        self._failed(BrokerUnavailable(f"{hidden}: its marker is lost; a restart writes it again"))

    @Service.task  # type: ignore[untyped-decorator]
    async def _see_the_same_logs(self) -> None:
        """End the worker when an input was made anew and has grown past where it is: no fetch would tell."""
        while not self.should_stop and not self._settings.embedded:
            await self.sleep(_SAME_S)
            logs = {
                task.intakes[name].at: known
                for task in self.tasks.values()
                if task.status is Status.READY
                for name, known in self.stage.milestones(task.state).items()
                if name in task.intakes
            }
            try:
                await refuse_others(self._settings, f"{self.stage.name}-recognise", logs)
            except PositionLost as error:
                self._failed(error)
            except (TriplineError, ValueError) as error:  # the broker is away, or the topic: others notice
                log.debug("%s: %s", self.stage.name, error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _see_what_grows(self) -> None:
        """End the worker when an input has more partitions than it counts.

        The group's leader would see it, and give them out. But a leader that was killed and is back in its slot is not
        told that it leads: then nobody looks, until somebody else comes or goes.
        """
        while not self.should_stop and not self._settings.embedded:
            await self.sleep(_SHOWN_S)
            counts = self._counts()
            if self.settled and not self._stopping and max(counts.values()) > self._partitions:
                error = misfit(self._settings, self.stage.name, counts, partitions=self._partitions)
                self._restore = asyncio.create_task(self._leave(error), name=f"leave {self.stage.name}")

    async def _fetch(self) -> bool:
        """Get what there is for the tasks that want it; True when it was little."""
        intakes = {
            intake.at: intake
            for task in self.tasks.values()
            if self.settled
            for intake in task.hungry
        }
        if not intakes:
            if not self._consumer.assignment():
                # Nothing can come of it but the error of a group that we may not join.
                await self._consumer.getmany()
            self._wake.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.001, self._wait()))
            return False
        epoch = self._epoch
        try:
            got = await self._consumer.getmany(*intakes, timeout_ms=max(1, int(self._wait() * 1000)))
        except NoOffsetForPartitionError:
            # A partition whose restore has not said yet where to read; `_place` overrides it.
            return True
        if epoch != self._epoch:
            # What came across a rebalance may be anything: each task goes on where it was.
            for task in self.tasks.values():
                self._place(task)
            return False
        now, clock_ms = time.monotonic(), int(time.time() * 1000)
        rows = 0
        for at, intake in intakes.items():
            records = got.get(at)
            if records:
                rows += len(records)
            reached = await self._consumer.position(at)
            intake.add(records or [], reached=reached, now=now)
            stable, polled = self._consumer.last_stable_offset(at), self._consumer.last_poll_timestamp(at)
            fresh = polled is not None and clock_ms - polled < _FRESH_MS
            intake.caught_up = fresh and stable is not None and reached >= stable
        return rows < _FEW

    def _offer_all(self) -> None:
        for task in self.tasks.values():
            self._offer(task)

    def _offer(self, task: Task) -> None:
        if self.settled and not self._stopping:
            batch = task.offer(time.monotonic())
            if batch is not None:
                self._works.put_nowait(Work(task, batch))

    def _on_freed(self, task: Task) -> None:
        self._offer(task)
        self._wake.set()

    def _wait(self) -> float:
        now = time.monotonic()
        return min((task.wait(now) for task in self.tasks.values()), default=1.0)

    def _place(self, task: Task) -> None:
        """Tell the consumer where a task goes on; a task that is not ready is paused."""
        for intake in task.intakes.values():
            with contextlib.suppress(IllegalStateError):  # taken away again: the next assignment says
                # A seek also throws away what was fetched from elsewhere.
                self._consumer.seek(intake.at, intake.reached)
                if task.status is Status.READY:
                    self._consumer.resume(intake.at)
                else:
                    self._consumer.pause(intake.at)

    async def _restore_all(self, fresh: dict[int, Task]) -> None:
        if not fresh:
            return
        began = time.monotonic()
        ledgers = {partition: self._ledgers[partition] for partition in fresh}
        restored = restore_tasks(self._settings, self.stage, self._control(), ledgers, profiles=self._profiles)
        try:
            async with contextlib.aclosing(restored):
                async for partition, state, notes in restored:
                    fresh[partition].open(state, notes)
                    self._place(fresh[partition])
                    self._wake.set()
            self.restore_seconds = time.monotonic() - began
            log.info("%s: %d tasks restored in %.2f s", self.stage.name, len(fresh), self.restore_seconds)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failed(_explained(self._settings, self.stage, error))

    def _retire(self, task: Task) -> None:
        task.close()
        del self.tasks[task.partition]
        closing = asyncio.create_task(self._ledgers.pop(task.partition).stop())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _drain(self, seconds: float) -> None:
        """Until nothing is in flight, or `seconds` have passed."""
        end = time.monotonic() + seconds
        while not all(task.quiet for task in self.tasks.values()):
            if time.monotonic() > end:
                log.warning("%s: commits still in flight after %g s", self.stage.name, seconds)
                return
            await asyncio.sleep(0.005)

    async def _lost(self, error: OffsetOutOfRangeError) -> Exception:
        at, position = next(iter(error.args[0].items()))
        begins, ends = await self._consumer.beginning_offsets([at]), await self._consumer.end_offsets([at])
        return Gap(at=at, position=position, begin=begins[at], end=ends[at]).error()

    def _counts(self) -> dict[str, int]:
        """Partitions by input, as the consumer knows them: it may know nothing yet."""
        of = self._consumer.partitions_for_topic
        return {name: len(of(self._settings.topic(name)) or ()) for name in self.stage.inputs}

    async def _doubt(self, *, when_gone: bool = False) -> None:
        """End the worker for what the group gave it. when_gone: only if an input is not there any more."""
        try:
            there = await await_broker(self._settings)
        except (KafkaError, TriplineError, TimeoutError, OSError) as error:
            self._failed(_explained(self._settings, self.stage, error))
            return
        counts = {name: there.get(self._settings.topic(name), 0) for name in self.stage.inputs}
        if not when_gone or not all(counts.values()):
            await self._leave(misfit(self._settings, self.stage.name, counts, partitions=self._partitions))

    async def _leave(self, error: Exception) -> None:
        """End the worker, when the group has forgotten what it gave us: a static member would get the same again."""
        self._stopping = True
        if self._settings.slot is not None:
            wait_s = self._settings.session_timeout_ms / 1_000 + 1
            log.error("%s; ends in %g s, when its session in the group is over", error, wait_s)
            with contextlib.suppress(asyncio.TimeoutError, KafkaError):
                await asyncio.wait_for(self._consumer.stop(), 1.5)
            await asyncio.sleep(wait_s)
        self._failed(error)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._delivery.revoked()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._delivery.assigned(assigned)


def _explained(settings: KafkaSettings, stage: Stage, error: Exception) -> Exception:
    return explained(stage.name, error, settings) if isinstance(error, KafkaError | TimeoutError | OSError) else error
