"""Workers as processes under a small supervisor, events for them, and a checker of what they wrote."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from brokers import Process, eventually, free_port
from confluent_kafka import Producer

from streamer.core.records import Record
from streamer.kafka.reading import ends_of, read_between
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import create_topics, partition_counts, topic_specs

HERE = Path(__file__).parent
SOURCES, PROFILES = 4, 3


def settings_for(bootstrap: str, prefix: str, **more: Any) -> KafkaSettings:
    """Settings of a test's own application and topics."""
    inputs = {"predictions": prefix + "predictions", "features": prefix + "features"}
    defaults = {"session_timeout_ms": 6_000, "start": "earliest", "replication": 1}
    return KafkaSettings(
        bootstrap_servers=bootstrap, app=prefix + "app", topic_prefix=prefix, inputs=inputs, **(defaults | more)
    )


def make_topics(settings: KafkaSettings, *, sources: int = SOURCES) -> None:
    """Every topic of an application."""
    asyncio.run(create_topics(settings, topic_specs(settings, sources=sources, profiles=PROFILES)))


class Fleet:
    """Worker processes by slot; one that ends is started again after a short while, until `stop`.

    more: further options of counting_worker.py.
    """

    def __init__(self, settings: KafkaSettings, folder: Path, *, slots: int, restart: bool = True, **more: Any) -> None:
        self.ended: list[tuple[int, int]] = []
        self.ports = [free_port() for _ in range(slots)]
        self._settings, self._restart, self._more = settings, restart, more
        self._stopping = threading.Event()
        self.workers = [self._process(folder, slot) for slot in range(slots)]
        for worker in self.workers:
            worker.spawn()
        self._watch = threading.Thread(target=self._supervise, daemon=True)
        self._watch.start()

    def _process(self, folder: Path, slot: int) -> Process:
        own = {"slot": str(slot), "profiles": PROFILES, "page": self.ports[slot]}
        options = {**asdict(self._settings), **own, **self._more}
        options.pop("security")
        command = [sys.executable, str(HERE / "counting_worker.py"), json.dumps(options)]
        # As pip leaves an installation: compiled. A start that compiles everything takes twice as long.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder.parent / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return Process(command=command, log=folder / f"worker-{slot}.log", environment=environment)

    def _supervise(self) -> None:
        while not self._stopping.wait(0.1):
            for slot, worker in enumerate(self.workers):
                if not worker.running:
                    self.ended.append((slot, worker.code))
                    if self._restart and not self._stopping.is_set():
                        worker.spawn()
        # Here and not in `stop`: a child ends with the thread that started it.
        for worker in self.workers:
            worker.stop(within=8)

    def stop(self) -> None:
        """End every worker with SIGTERM."""
        self._stopping.set()
        self._watch.join(30)

    def kill(self) -> None:
        """SIGKILL to every worker; none comes back."""
        self._restart = False
        self._stopping.set()
        for worker in self.workers:
            worker.kill()
        self._watch.join(30)

    def terminate(self, slot: int) -> None:
        """SIGTERM to one worker; the supervisor starts it again."""
        os.kill(self.workers[slot].pid, signal.SIGTERM)

    def page(self, slot: int, name: str) -> str:
        """A page of a worker; empty when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[slot]}/{name}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def ready(self, slot: int) -> bool:
        """Assigned and restored."""
        return self.page(slot, "readyz") == "ok\n"

    def metric(self, name: str, *, slot: int = 0, **labels: str) -> float:
        """Sum of a metric's samples that have these labels; -1 when there is none."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        found = [
            float(line.rpartition(" ")[2])
            for line in self.page(slot, "metrics").splitlines()
            if line.startswith((name + " ", name + "{")) and wanted <= set(re.findall(r'\w+="[^"]*"', line))
        ]
        return sum(found) if found else -1.0

    def tasks(self, slot: int) -> float:
        """Tasks that a worker has ready, of both stages."""
        return self.metric("tripline_tasks", slot=slot, status="ready")


class Feeder:
    """Values for `predictions` at a steady rate, in a thread; `truth` is what was acknowledged."""

    def __init__(self, settings: KafkaSettings, *, rate: int = 4_000, seed: int = 1) -> None:
        self.truth: Counter[str] = Counter()
        self._topic, self._rate, self._rng = settings.topic("predictions"), rate, random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "enable.idempotence": True,
                "queue.buffering.max.messages": 2_000_000,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for _ in range(self._rate // 20):
                self.send(f"m{self._rng.randrange(20)}", self._rng.randrange(SOURCES))
            self._producer.poll(0)
            time.sleep(0.05)

    def send(self, value: str, partition: int) -> None:
        self._producer.produce(self._topic, value.encode(), partition=partition)
        self.truth[value] += 1

    def stop(self) -> Counter[str]:
        """No more; everything sent is in the log."""
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(60) == 0
        return self.truth


def read_topic(settings: KafkaSettings, name: str) -> list[Record]:
    """Committed records of a topic, to its end as it is now; `name` as Kafka knows it."""

    async def read() -> list[Record]:
        there = await partition_counts(settings)
        reader = settings.consumer(
            role="checker", auto_offset_reset="earliest", fetch_max_wait_ms=100, retry_backoff_ms=10
        )
        await reader.start()
        try:
            logs = [TopicPartition(name, partition) for partition in range(there.get(name, 0))]
            begins, ends = await reader.beginning_offsets(logs), await ends_of(reader, logs)
            found: list[Record] = []
            async for _, records in read_between(reader, {at: (begins[at], ends[at]) for at in logs}):
                found += records
            return found
        finally:
            await reader.stop()

    return asyncio.run(read())


def counted(settings: KafkaSettings) -> Counter[str]:
    """What stage 1 says, summed."""
    total: Counter[str] = Counter()
    for record in read_topic(settings, settings.topic("profiles")):
        total.update(json.loads(record.value)["counts"])
    return total


def summed(settings: KafkaSettings) -> Counter[str]:
    """What stage 2's last windows say; each window of a partition came once, in order."""
    windows: dict[int, Record] = {}
    for record in read_topic(settings, settings.topic("windows")):
        last = windows.get(record.partition)
        assert int(record.key) == (int(last.key) if last else 0) + 1
        windows[record.partition] = record
    total: Counter[str] = Counter()
    for record in windows.values():
        totals = json.loads(record.value)
        assert all(zlib.crc32(value.encode()) % PROFILES == record.partition for value in totals)
        total.update(totals)
    return total


def wait_until_counted(settings: KafkaSettings, truth: Counter[str], *, within: float = 60) -> None:
    """Until both stages have said as many as there are."""
    eventually(lambda: counted(settings).total() >= truth.total(), within=within, every=0.5, what="all counted")
    eventually(lambda: summed(settings).total() >= truth.total(), within=within, every=0.5, what="all summed")


def check_exact(settings: KafkaSettings, truth: Counter[str]) -> None:
    """Deltas sum to the truth; no range of a source comes twice; each window comes once; the last are the truth."""
    ranges: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for record in read_topic(settings, settings.topic("profiles")):
        said = json.loads(record.value)
        ranges.setdefault((said["source"], record.partition), []).append((said["seq"], said["begin"], said["end"]))
    for said_there in ranges.values():
        assert said_there == sorted(said_there)
        assert all(before[2] <= after[1] for before, after in itertools.pairwise(said_there))
    assert counted(settings) == truth
    assert summed(settings) == truth
