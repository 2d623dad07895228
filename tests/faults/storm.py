"""An application in a storm: a real broker and Alertmanager behind proxies, real workers under a supervisor, a stream.

`Storm` is what faults act on (kinds.py); what it wrote is looked at afterwards (evidence.py). All chance is the plan's.
"""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import logs
import numpy as np
import orjson
from brokers import Alertmanager, eventually, free_port
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from schemas.errors import BrokerUnavailable
from streamer.commands.bench_topics import STREAM_MS, Site, build_references, configured
from streamer.commands.measured_worker import tripline
from streamer.core.control import Control
from streamer.core.records import PlainRecord
from streamer.generating import Applicants, Applications, Ints, Shift
from tests.faults.clusters import Brokers
from tests.faults.proxies import Proxy
from tests.faults.watching import Watcher

STEPPING = Path(__file__).parents[1] / "integration" / "steps.py"
#: A worker that ends for another reason than a kill or trouble with the broker is a defect.
EXPECTED_EXITS = frozenset({-9, 70, 73})
MODELS = ("lending-north", "lending-south")
PANE_MS = 60_000
#: Event time runs this much faster than the clock.
PACE = 30
SESSION_MS = 6_000
TIMESTAMPS = "message.timestamp.type"
#: A worker that has lived for so long is started again at once.
SETTLED_S = 5.0

MODEL = """\
  {model}:
    reference: {model}.json
    pane: 1m
    lateness: 5s
    hold: 5m
    segments: [country]
    tolerance: {tolerance}
    retrain: {{when: drift, cooldown: 30m, mode: auto}}
    outcomes: {{horizon: 20m, maturity: 3m, pane: 2m, early_outcome_wait: 30s}}
"""
#: Run before anything else in a worker whose clock is an hour ahead.
CLOCK = """\
import time as _time
_ahead = 3600
_time.time = lambda _now=_time.time: _now() + _ahead
_time.time_ns = lambda _now=_time.time_ns: _now() + _ahead * 1_000_000_000
"""


class Storm:
    """Everything that runs. slots: workers that are always there; one more comes and goes.

    ahead: slots whose clock is; held_back: those that are not started again; accepting: those that accept a gap; steps:
    where the next worker of a slot dies. kept: of inputs, by logical name, what their logs may not hold any more.
    """

    def __init__(
        self, folder: Path, *, version: str, slots: int = 2, partitions: int = 4, rate: int = 600, brokers: int = 1
    ) -> None:
        self.folder, self.partitions, self.rate = folder, partitions, rate
        self.kafka = Brokers(folder, version=version, brokers=brokers)
        self.alertmanager = Alertmanager(folder / "alertmanager")
        self.alertmanager.start()
        self.alert_line = Proxy(port=free_port(), target=self.alertmanager.port)
        self.site = Site(bootstrap=self.kafka.bootstrap, folder=folder, name="storm")
        self.slots = list(range(slots))
        self.tolerance = 0.1
        self.exits: list[tuple[int, int]] = []
        self.last_words: list[str] = []
        self.ahead: set[int] = set()
        self.held_back: set[int] = set()
        self.accepting: set[int] = set()
        self.steps: dict[int, str] = {}
        self.kept: dict[str, dict[tuple[int, int], PlainRecord]] = {}
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._spawned: dict[int, float] = {}
        self._ports = {slot: free_port() for slot in range(slots + 1)}
        self._over, self._fed = threading.Event(), threading.Event()
        self._flows, self._quiet = threading.Event(), threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self.sent = 0

    def __enter__(self) -> Storm:
        clock = self.folder / "clock"
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(CLOCK)
        build_references(self.site, MODELS, per_day=1_500.0)
        self.site.create_input(self.partitions)
        self.site.create_input(self.partitions, topic=self.site.outcomes)
        self.configure()
        self.site.command("topics", "create", "-c", str(self.file(0)))
        self.site.command("apply", "-c", str(self.file(0)))
        self.kafka.topic = f"{self.site.name}-profiles"
        self.watcher = Watcher(self.site.bootstrap, f"{self.site.name}-profiles")
        for slot in self.slots:
            self.spawn(slot)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._supervise, self._feed)]
        for thread in self._threads:
            thread.start()
        eventually(lambda: all(self.ready(slot) for slot in self.slots), within=60, what=f"workers: {self.tail(0)}")
        return self

    def __exit__(self, *raised: object) -> None:
        self._fed.set()
        self._flows.set()
        self._over.set()
        for thread in getattr(self, "_threads", []):
            thread.join(20)
        for child in self._children.values():
            child.kill()
            child.wait()
        if hasattr(self, "watcher"):
            self.watcher.close()
        self.alert_line.close()
        self.alertmanager.stop()
        self.kafka.close()

    def file(self, slot: int) -> Path:
        """Configuration of a slot."""
        return self.folder / f"slot-{slot}.yaml"

    def configure(self) -> None:
        """Write the configuration files, with the tolerance as it is now."""
        for slot, port in self._ports.items():
            told = f"http://127.0.0.1:{self.alert_line.port}"
            text = configured(
                self.site, name=self.site.name, port=port, outcomes=True, profiles=2,
                kafka="  session_timeout: 6s\n  broker_timeout: 30s\n",
                more=f'alertmanager: {{urls: ["{told}"], resend: 2s}}\n',
            )  # fmt: skip
            models = (MODEL.format(model=model, tolerance=self.tolerance) for model in MODELS)
            self.file(slot).write_text(text + "".join(models))

    def spawn(self, slot: int) -> None:
        """Start a worker in a slot."""
        # As pip leaves an installation: compiled. A start that compiles everything takes twice as long.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(self.folder / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if slot in self.ahead:
            there = [str(self.folder / "clock"), *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(there)
        command = [*tripline(), "run", "-c", str(self.file(slot)), "--slot", str(slot)]
        self._spawned[slot] = time.monotonic()
        if slot in self.accepting:
            command.append("--accept-gap")
        if step := self.steps.pop(slot, ""):
            plan = self.folder / f"steps-{slot}"
            plan.write_text(step)
            command[: len(tripline())] = [sys.executable, str(STEPPING), str(plan)]
        with (self.folder / f"worker-{slot}.log").open("ab") as out:
            self._children[slot] = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    def topic(self, name: str) -> str:
        """Name on Kafka of an input, or of what workers write."""
        return {"predictions": self.site.input, "outcomes": self.site.outcomes}.get(name, f"{self.site.name}-{name}")

    def keep(self, name: str) -> None:
        """Read an input, and keep what was read: the log may not."""
        of = self.kept.setdefault(name, {})
        there = logs.read(self.site.bootstrap, self.topic(name))
        of.update({(record.partition, record.offset): record for record in there})

    def recreate(self, name: str, records: Iterable[PlainRecord], *, copied: bool = False) -> None:
        """Delete an input and make it anew with these records. copied: with their append times, else of now."""
        topic, admin = self.topic(name), AdminClient({"bootstrap.servers": self.site.bootstrap, "log_level": 0})
        admin.delete_topics([topic])[topic].result(30)
        eventually(lambda: topic not in admin.list_topics(timeout=30).topics, within=30, what=f"{topic} deleted")
        eventually(lambda: self._made(topic), within=30, every=0.5, what=f"{topic} made anew")
        if copied:
            _stamped(admin, topic, "CreateTime")
        producer = self._producer()
        for record in records:
            producer.produce(topic, record.value, record.key, record.partition, timestamp=record.timestamp)
        assert producer.flush(60) == 0
        _stamped(admin, topic, "LogAppendTime")

    def _made(self, topic: str) -> bool:
        try:
            self.site.create_input(self.partitions, topic=topic)
        except BrokerUnavailable as error:  # not quite gone
            if "TOPIC_ALREADY_EXISTS" not in str(error):
                raise
            return False
        return True

    def hold_stream(self) -> None:
        """No more events for now; all of them are in the log."""
        self._quiet.clear()
        self._flows.clear()
        assert self._quiet.wait(90)

    def go_on(self) -> None:
        """The stream goes on where it was held."""
        self._flows.set()

    def child(self, slot: int) -> subprocess.Popen[bytes]:
        """The process in a slot."""
        return self._children[slot]

    def end(self, slot: int, number: int, *, respawn: bool = True) -> int:
        """Send a signal to a slot's worker and wait until it is gone: its exit code."""
        with self._lock:
            child = self._children[slot]
            if not respawn:
                self.held_back.add(slot)
            child.send_signal(number)
            return child.wait(30)

    def ends(self, slot: int) -> int:
        """How often a slot's worker has ended so far."""
        return sum(one == slot for one, _ in self.exits)

    def ready(self, slot: int) -> bool:
        """Assigned and restored."""
        from urllib.request import urlopen

        try:
            with urlopen(f"http://127.0.0.1:{self._ports[slot]}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def tail(self, slot: int) -> str:
        """End of a worker's log."""
        log = self.folder / f"worker-{slot}.log"
        return log.read_text(errors="replace")[-3_000:] if log.exists() else ""

    def stop_stream(self) -> None:
        """No more events; all of them are in the log."""
        self._fed.set()
        self._threads[1].join(60)

    def leave(self) -> list[int]:
        """SIGTERM to every worker: their exit codes. Nothing is said or counted after it."""
        return [self.end(slot, signal.SIGTERM, respawn=False) for slot in self.slots]

    def _note(self, slot: int, code: int) -> None:
        """How a worker ended; one whose file an operator is just putting in force refuses it, and comes again."""
        words = self.tail(slot)
        if code == 2 and "differs from what is in force" in words[-1_000:]:
            return
        self.exits.append((slot, code))
        if code not in EXPECTED_EXITS:
            self.last_words.append(f"slot {slot} ended with {code}:\n{words}")

    def _supervise(self) -> None:
        """Start what has ended again: at once, but for one that does not even live for a while."""
        backoff: dict[int, float] = {}
        while not self._over.wait(0.05):
            with self._lock:
                for slot, child in list(self._children.items()):
                    if child.poll() is None or slot in self.held_back:
                        continue
                    self._note(slot, child.returncode)
                    lived = time.monotonic() - self._spawned[slot]
                    wait = 0.0 if lived > SETTLED_S else min(backoff.get(slot, 0.0) + 0.2, 1.0)
                    backoff[slot] = wait
                    time.sleep(wait)
                    self.spawn(slot)

    def _producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.site.bootstrap, "enable.idempotence": True, "linger.ms": 20, "log_level": 0,
                "queue.buffering.max.messages": 2_000_000, "message.timeout.ms": 0,
            }
        )  # fmt: skip

    def _feed(self) -> None:
        producer, begun = self._producer(), time.monotonic()
        for i, (name, partition, event) in enumerate(_events(self.partitions, self.rate)):
            if self._fed.is_set():
                break
            if not self._flows.is_set():
                assert producer.flush(60) == 0
                self._quiet.set()
                held = time.monotonic()
                self._flows.wait()
                begun += time.monotonic() - held
                # What a producer knows of a topic, its sequence too, is of the one that was there.
                producer = self._producer()
            producer.produce(self.topic(name), event, partition=partition)
            self.sent += 1
            if i % 50 == 0:
                producer.poll(0)
                time.sleep(max(0.0, begun + i / self.rate - time.monotonic()))
        assert producer.flush(60) == 0

    def control(self) -> Control:
        """What is on `control`."""
        control = Control()
        for record in self.site.read(f"{self.site.name}-control"):
            control = control.apply(record.key(), record.value(), offset=record.offset())
        return control


def _stamped(admin: AdminClient, topic: str, by: str) -> None:
    """Whose times records of a topic carry from now on."""
    config = ConfigResource(ConfigResource.Type.TOPIC, topic)
    config.add_incremental_config(ConfigEntry(TIMESTAMPS, by, incremental_operation=AlterConfigOpType.SET))
    admin.incremental_alter_configs([config])[config].result(30)


def _events(partitions: int, rate: int) -> Iterator[tuple[str, int, bytes]]:
    """Input, partition and value. Events nearly in order, some late, some bad, some repeated; the applicants change
    twice, for ten minutes each. Outcomes after a while: some never, corrected, twice, too early, of nobody.
    """
    drawn = np.random.default_rng(3)
    shifts = tuple(
        Shift(start=STREAM_MS + at * PANE_MS, end=STREAM_MS + (at + 10) * PANE_MS, income=-1.5, utilisation=2.0)
        for at in (15, 45)
    )
    applicants = Applicants(seed=5, models=MODELS, versions=("1", "2"), shifts=shifts)
    step = 1_000
    told: list[tuple[int, int, int, bytes]] = []  # due, a number, partition, value
    for part in itertools.count():
        due = STREAM_MS + (part * step + np.arange(step, dtype=np.int64)) * 1000 * PACE // rate
        ts = np.maximum(due - drawn.integers(0, 3_000, step), STREAM_MS)
        late = drawn.random(step) < 0.003
        ts[late] -= drawn.integers(PANE_MS, 8 * PANE_MS, int(late.sum()))
        odd, place = drawn.random(step), drawn.integers(0, partitions, step).tolist()
        chosen = applicants.at(ts, part=part)
        for at, outcome in _outcomes(chosen, due, drawn):
            heapq.heappush(told, (outcome.pop("due"), len(told) + part * 10 * step, place[at], orjson.dumps(outcome)))
        for i, event in enumerate(chosen.events()):
            while told and told[0][0] <= due[i]:
                _, _, partition, outcome = heapq.heappop(told)
                yield "outcomes", partition, outcome
            yield "predictions", place[i], event
            if odd[i] < 0.001:
                yield "predictions", place[i], event  # a repeated id
            elif odd[i] < 0.002:
                yield "predictions", place[i], event[:-20]  # cut
            elif odd[i] < 0.003:
                yield "predictions", place[i], event.replace(b"lending-", b"lonely-")  # no such model


def _outcomes(chosen: Applications, due: Ints, drawn: np.random.Generator) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row and what becomes of it, `due` when; delays have a heavy tail: some pass maturity, and some the horizon."""
    n = len(chosen)
    delay = np.minimum(20_000 * (1 + drawn.pareto(0.9, n)), 1_800_000).astype(np.int64).tolist()
    shape, bad = drawn.random(n), drawn.random(n)
    for i, (name, model, when, score) in enumerate(zip(chosen.ids, chosen.model, chosen.ts, chosen.score, strict=True)):
        if shape[i] < 0.1:
            continue
        at = int(due[i]) + (delay[i] if shape[i] < 0.99 else -5_000)
        first = {"id": name, "model": model, "ts": int(when) + delay[i], "label": int(bad[i] < score), "due": at}
        if shape[i] < 0.11:
            yield i, {**first, "id": f"nobody-{name}"}
        elif shape[i] < 0.13:
            yield i, {**first, "label": 1 - first["label"], "due": at + 60_000}
        elif shape[i] < 0.14:
            yield i, {**first, "due": at + 30_000}
        elif shape[i] < 0.142:
            yield i, {**first, "label": None, "due": at + 30_000}
        yield i, first
