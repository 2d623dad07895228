"""`tripline explain --window` over a real broker: a worker's verdict, computed anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from brokers import Kafka
from typer.testing import CliRunner

from detectors.references import dumps
from schemas.control import Cluster
from streamer.commands import app
from streamer.core.control import publish_cluster, publish_layout, publish_reference
from streamer.core.records import Output
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import publish
from streamer.kafka.topics import create_topics, topic_specs
from streamer.spans import rfc3339
from tests.core.stage2 import BEGIN, PANE, Log, Reader, Source, control, layout, reference, steady


@pytest.fixture
def config(kafka: Kafka, prefix: str, tmp_path: Path) -> Path:
    """A configuration; its topics hold a recording of 16 panes, and the window reports of the first 12."""
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, app=prefix + "app", topic_prefix=prefix, replication=1, inputs={}
    )
    asyncio.run(create_topics(settings, topic_specs(settings, sources=1, profiles=1)))
    log = Log()
    steady(log, [Source()], layout(), panes=16, shifts=dict.fromkeys(range(6, 16), 0.8))
    reader = Reader.start(control()).read(log)
    windows = [output for output in reader.outputs if output.topic == "windows"][:12]
    in_force = [
        publish_cluster(Cluster(sources=1, profiles=1)),
        *publish_reference(reference().id, dumps(reference())),
        publish_layout(layout()),
    ]
    profiles = [Output("profiles", b"m", record.value, 0) for record in log.records]
    asyncio.run(publish(settings, [*in_force, *profiles, *windows]))
    file = tmp_path / "tripline.yaml"
    file.write_text(
        f"kafka: {{bootstrap_servers: '{kafka.bootstrap}', topic_prefix: {prefix}}}\n"
        "models: {m: {reference: r.json}}\n"
    )
    return file


def said(config: Path, pane: int, *more: str) -> str:
    at = rfc3339(BEGIN + pane * PANE + 5)
    done = CliRunner().invoke(app, ["explain", "--model", "m", "--window", at, "-c", str(config), *more])
    return done.output if done.exit_code == 0 else repr(done.exception)


def test_a_verdict_of_the_stream_is_computed_anew(config: Path) -> None:
    text = said(config, 8, "--feature", "x")
    assert text.startswith("m, x (model), ")
    assert "evidence Σ w·R" in text
    assert text.splitlines()[-1].endswith("equal to the window report, digit for digit")
    gone = said(config, 13, "--view", "country=FR")
    assert gone.startswith("m, x (country=FR), ")
    assert gone.splitlines()[-1].endswith("from the charts' beginning on; the window report is gone")
    assert "the pane of m at 2024-12-30T10:00:00Z has not closed yet" in said(config, 60)
