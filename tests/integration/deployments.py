"""A small deployment over a real broker: a file, its topics, `tripline run` as a process, other commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from brokers import Kafka, Process, eventually, free_port
from confluent_kafka import Producer

from streamer.commands.connecting import settings_from
from streamer.config import load
from streamer.kafka.settings import KafkaSettings
from tests.histories import START, write_reference

CONFIGURATION = """\
kafka:
  bootstrap_servers: "{bootstrap}"
  app: {prefix}app
  topic_prefix: {prefix}
  inputs: {{predictions: null, features: {prefix}features, outcomes: null}}
  profiles_partitions: 2
  session_timeout: 6s
metrics: {{port: {port}}}
start: earliest
max_alert_age: off
models:
  m: {{reference: reference.json, pane: 1h, lateness: 10s, {model}}}
"""
TRIPLINE = [sys.executable, "-c", "from streamer.commands import main; main()"]


class Deployment:
    """Feature set `m` of `tests.histories` on two partitions, started as `tripline` is started.

    model: more keys of its section; more: more lines of the file. environment: beside this process's own.
    """

    def __init__(
        self,
        kafka: Kafka,
        prefix: str,
        folder: Path,
        *,
        model: str = "tolerance: 0.1",
        more: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.file, self.port = folder, folder / "tripline.yaml", free_port()
        self.bootstrap, self.input = kafka.bootstrap, f"{prefix}features"
        self.environment = {**os.environ, **(environment or {})}
        write_reference(folder)
        values = {"bootstrap": kafka.bootstrap, "prefix": prefix, "port": self.port, "model": model}
        self.file.write_text(CONFIGURATION.format(**values) + more)
        self.workers: list[Process] = []

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers:
            worker.stop(within=8)

    @property
    def settings(self) -> KafkaSettings:
        """Of clients as the file says."""
        return settings_from(load(self.file))

    def tripline(self, *arguments: str, within: float = 60) -> subprocess.CompletedProcess[str]:
        """`tripline ARGUMENTS`, and what it said; `-c` is added."""
        command = [*TRIPLINE, *arguments, "-c", str(self.file)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=within, check=False, env=self.environment
        )

    def create(self) -> None:
        """Topics of two partitions."""
        done = self.tripline("topics", "create", "--partitions", "2", "--replication", "1")
        assert done.returncode == 0, done.stderr

    def start(self, slot: int = 0) -> Process:
        """A worker, started."""
        worker = Process(
            command=[*TRIPLINE, "run", "-c", str(self.file), "--slot", str(slot)],
            log=self.folder / f"worker-{len(self.workers)}.log",
            environment=self.environment,
        )
        worker.spawn()
        self.workers.append(worker)
        return worker

    def run(self) -> Process:
        """A worker, ready."""
        worker = self.start()
        eventually(lambda: self.page("readyz") == "ok\n" or not worker.running, within=40, what="ready")
        assert worker.running, worker.tail()
        return worker

    def page(self, name: str) -> str:
        """A page of the worker; empty when it does not answer with 200."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, line: str) -> float:
        """Value of the sample that is written so on the page; -1 where there is none."""
        found = [text for text in self.page("metrics").splitlines() if text.rpartition(" ")[0] == line]
        return float(found[0].rpartition(" ")[2]) if found else -1.0

    def send(self, values: Iterable[bytes]) -> int:
        """Records on the input, in turn over its partitions; how many."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        n = 0
        for n, value in enumerate(values, start=1):
            producer.produce(self.input, value, partition=n % 2)
            producer.poll(0)
        assert producer.flush(30) == 0
        return n


def event(at: int, *, age: float = 41.0, country: str = "FR", **more: Any) -> bytes:
    """A feature row `at` ms after the end of the reference."""
    said = {"feature_set": "m", "ts": START + at, "features": {"age": age, "country": country}, **more}
    return json.dumps(said).encode()
