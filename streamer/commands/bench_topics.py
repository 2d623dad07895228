"""What the benchmarks need of a broker: a site of topics, filled with applications, read back whole.

Here stand also the references and the configuration that `bench throughput` and `bench latency` run under.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import BrokerUnavailable
from streamer.commands.histories import FEATURES, MAP, write_history
from streamer.commands.measured_worker import tripline
from streamer.generating import Applicants

SECONDS = 30.0
#: A Monday at noon; the reference is the two weeks before.
STREAM_MS = 1_742_212_800_000


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a benchmark runs: broker, folder of its files, name that its topics begin with."""

    bootstrap: str
    folder: Path
    name: str

    @property
    def input(self) -> str:
        """Topic of the predictions."""
        return f"{self.name}-predictions"

    @property
    def outcomes(self) -> str:
        """Topic of the outcomes."""
        return f"{self.name}-outcomes"

    def create_input(self, partitions: int, *, topic: str = "") -> None:
        """The prediction topic, or another input, stamped by the broker. `BrokerUnavailable` when nobody answers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient, NewTopic

        name = topic or self.input
        made = NewTopic(name, partitions, config={"message.timestamp.type": "LogAppendTime"})
        causes: list[str] = []
        client = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "error_cb": lambda error: causes.append(error.str())}
        )
        try:
            client.create_topics([made])[name].result(SECONDS)
        except (TimeoutError, KafkaException) as error:
            client.poll(0)  # what the connections came to is told here, and not by the error
            why = next(iter(causes), str(error)) or "no answer"
            raise BrokerUnavailable(f"{self.bootstrap}: no topic {name} within {SECONDS:.0f} s: {why}") from error

    def fill(self, events: Iterable[bytes], *, partitions: int, topic: str = "") -> int:
        """Write events to the partitions in turn; returns their bytes. Waits until the broker has them all."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 50, "batch.size": 1_000_000})
        written = 0
        for i, event in enumerate(events):
            while True:
                try:
                    producer.produce(topic or self.input, event, partition=i % partitions)
                    break
                except BufferError:
                    producer.poll(0.1)
            written += len(event)
        if producer.flush(SECONDS):
            raise RuntimeError(f"{self.bootstrap}: the broker did not take all events in {SECONDS:.0f} s")
        return written

    def read(self, topic: str) -> list[Any]:
        """Messages of a topic as a read_committed reader sees them, partition by partition."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap, "group.id": "bench", "enable.auto.commit": False,
                "isolation.level": "read_committed", "enable.partition.eof": True,
            }
        )  # fmt: skip
        found, ended, trouble, reached = [], set[int](), None, time.monotonic()
        try:
            places = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
            consumer.assign([TopicPartition(topic, place, OFFSET_BEGINNING) for place in places])
            while len(ended) < len(places):
                message = consumer.poll(1.0)
                if message is not None and message.error() is None:
                    found.append(message)
                elif message is not None and message.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())  # of a log that grows more than once
                else:
                    # Any other error passes, or keeps the end away.
                    trouble = trouble if message is None else message.error()
                    if time.monotonic() > reached + SECONDS:
                        raise RuntimeError(f"{topic}: its end was not reached in {SECONDS:.0f} s: {trouble}")
                    continue
                reached = time.monotonic()
        finally:
            consumer.close()
        return found

    def command(self, *arguments: str) -> str:
        """What `tripline ARGUMENTS` prints; RuntimeError with its words when it fails."""
        done = subprocess.run(
            [*tripline(), *arguments], cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise RuntimeError(f"tripline {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def site(bootstrap: str | None) -> Iterator[Site]:
    """A fresh site at a broker that is there, or, in a source tree with `.parts/`, at one started for it."""
    with tempfile.TemporaryDirectory(prefix="tripline-bench-") as name, contextlib.ExitStack() as ends:
        folder = Path(name)
        if bootstrap is None:
            bootstrap = ends.enter_context(_own_broker(folder / "kafka"))
        yield Site(bootstrap=bootstrap, folder=folder, name=f"bench-{secrets.token_hex(3)}")


def configured(
    where: Site, *, name: str, port: int, outcomes: bool = False, profiles: int = 4, kafka: str = "", more: str = ""
) -> str:
    """A configuration up to its models: an application of its own that reads the site's inputs from their beginning.

    kafka, more: further lines of that section, and of the file.
    """
    told = json.dumps(where.outcomes if outcomes else None)
    return (
        "kafka:\n"
        f"  bootstrap_servers: {json.dumps(where.bootstrap.split(','))}\n"
        f"  app: {json.dumps(name)}\n"
        f"  topic_prefix: {json.dumps(f'{name}-')}\n"
        f"  inputs: {{predictions: {json.dumps(where.input)}, features: null, outcomes: {told}}}\n"
        f"  profiles_partitions: {profiles}\n"
        f"{kafka}"
        f"metrics: {{port: {port}}}\n"
        f"{more}"
        "start: earliest\n"
        "max_alert_age: off\n"
        "models:\n"
    )


def build_references(where: Site, models: Iterable[str], *, per_day: float = 5_000.0) -> None:
    """`MODEL.json` in the site's folder, each from two weeks of its own applicants, by `tripline reference build`."""
    for i, model in enumerate(models):
        history = Applicants(seed=100 + i, models=(model,), per_day=per_day)
        write_history(where.folder / f"{model}.parquet", history, end=STREAM_MS)
        where.command(
            "reference", "build", f"{model}.parquet", "--model", model, "--segments", "country",
            "--map", MAP, "--features", FEATURES, "-o", f"{model}.json",
        )  # fmt: skip


def summary(where: Site) -> dict[str, Any]:
    """Machine and versions, for the reader of a figure."""
    import os
    import platform
    from importlib.metadata import version

    names = ("tripline", "aiokafka", "faust-streaming", "numpy", "msgspec")
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


@contextlib.contextmanager
def _own_broker(folder: Path) -> Iterator[str]:
    launchers = Path(__file__).resolve().parents[2] / "tests" / "integration"
    if not (launchers / "brokers.py").exists():
        raise RuntimeError("no --bootstrap given, and no source tree here to start a broker from")
    sys.path.append(str(launchers))
    brokers = importlib.import_module("brokers")
    try:
        kafka = brokers.Kafka(folder)
    except brokers.PartMissing as missing:
        raise RuntimeError(f"no --bootstrap given, and {missing}") from missing
    try:
        yield kafka.start().bootstrap
    finally:
        kafka.stop()


def written(file: Path | None, found: dict[str, Any]) -> None:
    """Write findings as JSON when a file is named."""
    if file is not None:
        file.write_text(json.dumps(found, indent=2) + "\n")
