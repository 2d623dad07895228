"""`tripline run`: the real stages, from the file to the page that says ready."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from urllib.request import urlopen

from aiokafka import AIOKafkaProducer
from brokers import Kafka, Process, eventually, free_port, promtool_check_metrics

from tests.histories import START, write_reference

CONFIGURATION = """\
kafka:
  bootstrap_servers: "{bootstrap}"
  app: {prefix}app
  topic_prefix: {prefix}
  inputs: {{predictions: {prefix}predictions, features: null, outcomes: null}}
  profiles_partitions: 2
metrics: {{port: {port}}}
models:
  m: {{reference: reference.json, pane: 1h, tolerance: {tolerance}}}
"""


def tripline(folder: Path, *arguments: str) -> Process:
    """`tripline ARGUMENTS` in `folder`, started."""
    command = [sys.executable, "-c", "from streamer.commands import main; main()", *arguments]
    process = Process(command=command, log=folder / f"{arguments[0]}.log")
    process.spawn()
    return process


def test_it_puts_the_file_in_force_counts_and_refuses_another_file(
    kafka: Kafka, prefix: str, tmp_path: Path, promtool: str
) -> None:
    write_reference(tmp_path)
    file, port = tmp_path / "tripline.yaml", free_port()
    values = {"bootstrap": kafka.bootstrap, "prefix": prefix, "port": port}
    file.write_text(CONFIGURATION.format(**values, tolerance=0.1))

    make = tripline(tmp_path, "topics", "create")
    eventually(lambda: not make.running, within=30)
    assert make.code == 0, make.tail()
    worker = tripline(tmp_path, "run", "--slot", "0")
    eventually(lambda: page(port, "readyz") == "ok\n" or not worker.running, within=40, what="ready")
    metrics = page(port, "metrics")
    worker.stop(within=8)
    assert worker.code == 0, worker.tail()
    assert promtool_check_metrics(metrics) == ""
    assert 'tripline_events_dropped_total{reason="late",stage="profiling"} 0.0' in metrics
    assert 'tripline_events_dropped_total{reason="over_limit",stage="monitoring"} 0.0' in metrics
    assert 'tripline_incidents_total{state="firing"} 0.0' in metrics
    assert "tripline_delta_events_folded_total 0.0" in metrics
    assert "tripline_marginals_folded_total 0.0" in metrics

    file.write_text(CONFIGURATION.format(**values, tolerance=0.2))
    other = tripline(tmp_path, "run", "--slot", "0")
    eventually(lambda: not other.running, within=30)
    assert other.code == 2
    assert "tripline apply" in other.tail()

    check = tripline(tmp_path, "topics", "check")
    eventually(lambda: not check.running, within=30)
    assert check.code == 0, check.tail()


FOREIGN = """\
start: earliest
mapping:
  features: {fields: {ts: meta.at, segment.device: user.device}, features: "in.*", constants: {feature_set: m}}
"""


def test_a_worker_reads_as_control_says_and_refuses_a_file_with_another_mapping(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """Foreign events are counted, three segment columns and all; the mapping is not the worker's own to choose."""
    write_reference(tmp_path)
    file, port = tmp_path / "tripline.yaml", free_port()
    values = {"bootstrap": kafka.bootstrap, "prefix": prefix, "port": port, "tolerance": 0.1}
    text = CONFIGURATION.replace("features: null", "features: {prefix}features")
    text = text.replace("pane: 1h", "pane: 1h, segments: [country, plan, device]")
    file.write_text(text.format(**values) + FOREIGN)
    make = tripline(tmp_path, "topics", "create")
    eventually(lambda: not make.running, within=30)
    assert make.code == 0, make.tail()
    asyncio.run(fill(kafka, f"{prefix}features", 200))

    worker = tripline(tmp_path, "run", "--slot", "0")
    counted = 'tripline_events_applied_total{stage="monitoring"} 200.0'
    eventually(lambda: counted in page(port, "metrics") or not worker.running, within=60, what="200 events")
    assert 'tripline_events_applied_total{stage="profiling"} 200.0' in page(port, "metrics")
    worker.stop(within=8)
    assert worker.code == 0, worker.tail()

    file.write_text(file.read_text().replace("meta.at", "at"))
    other = tripline(tmp_path, "run", "--slot", "0")
    eventually(lambda: not other.running, within=30)
    assert other.code == 2
    assert "input features: what is appended from" in other.tail()


async def fill(kafka: Kafka, topic: str, n: int) -> None:
    """So many foreign events."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for i in range(n):
            event = {"meta": {"at": START + i * 1000}, "in": {"age": 40, "country": "FR"}, "user": {"device": "tv"}}
            await producer.send(topic, json.dumps(event).encode())
        await producer.flush()


def page(port: int, name: str) -> str:
    """A page of the worker; empty when it does not answer with 200."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/{name}", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
