"""`apply`, `check` and `reference build --from-topic` over a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from brokers import Kafka, free_port

from schemas.errors import BrokerUnavailable, ConfigurationError
from streamer.commands.apply import applied, apply, control_of_topic
from streamer.commands.check import check
from streamer.commands.connecting import settings_from
from streamer.commands.reference import build
from streamer.commands.run import put_in_force
from streamer.config import Loaded, load
from streamer.kafka.topics import create_topics, topic_specs
from tests.histories import EVERY, HOUR, START, reference, rows, write_reference

CONFIGURATION = """\
kafka:
  bootstrap_servers: "{bootstrap}"
  app: {prefix}app
  topic_prefix: {prefix}
  inputs: {{predictions: {prefix}predictions, features: {prefix}features, outcomes: null}}
  profiles_partitions: 2
models:
  m:
    reference: reference.json
    pane: 1h
    tolerance: {tolerance}
"""
MAPPING = """\
mapping:
  features: {fields: {ts: at}, features: "in.*", constants: {feature_set: m}}
"""


def configured(folder: Path, kafka: str, prefix: str, *, tolerance: float = 0.1) -> Loaded:
    write_reference(folder)
    path = folder / "tripline.yaml"
    path.write_text(CONFIGURATION.format(bootstrap=kafka, prefix=prefix, tolerance=tolerance))
    return load(path)


def make_topics(loaded: Loaded) -> None:
    settings = settings_from(loaded)
    specs = topic_specs(settings, sources=3, profiles=2)
    asyncio.run(create_topics(settings, specs))


def test_a_configuration_is_put_in_force_once_and_a_change_comes_later(
    kafka: Kafka, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = configured(tmp_path, kafka.bootstrap, prefix)
    make_topics(loaded)
    settings, path = settings_from(loaded), tmp_path / "tripline.yaml"

    apply(path, dry_run=True)
    assert capsys.readouterr().out.endswith("(not applied)\n")
    apply(path)
    assert capsys.readouterr().out.startswith("m: new, from the beginning: 2 features × 1 views")
    control = asyncio.run(control_of_topic(settings))
    assert control.cluster is not None
    assert (control.cluster.sources, control.cluster.profiles) == (3, 2)
    assert control.reference(reference().id) is not None
    apply(path)
    assert capsys.readouterr().out == "in force already: nothing to change\n"

    before = time.time_ns() // 1_000_000
    configured(tmp_path, kafka.bootstrap, prefix, tolerance=0.2)
    # From when on it would hold was not asked: nothing is said of it.
    with pytest.raises(ConfigurationError, match=r"in force with `tripline apply`:\n  m: tolerance differs$"):
        asyncio.run(put_in_force(load(path), settings))
    apply(path, as_json=True)
    [change] = json.loads(capsys.readouterr().out)
    assert change["differences"] == ["tolerance"]
    layouts = asyncio.run(control_of_topic(settings)).models["m"]
    assert [layout.tolerance for layout in layouts] == [0.1, 0.2]
    assert layouts[1].from_ms >= before + 2 * HOUR
    assert layouts[1].from_ms % HOUR == 0

    path.write_text(path.read_text().replace("  m:\n", "  n:\n"))
    apply(path)
    assert capsys.readouterr().out.startswith("m: not in the file, but still in force")


def test_a_mapping_is_in_force_by_the_topic_and_a_file_that_differs_starts_no_worker(
    kafka: Kafka, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What changes a result travels on `control`: a worker's own file does not decide how it reads."""
    loaded = configured(tmp_path, kafka.bootstrap, prefix)
    make_topics(loaded)
    settings, path = settings_from(loaded), tmp_path / "tripline.yaml"
    path.write_text(path.read_text() + MAPPING)
    apply(path)
    assert "input features: read by a mapping of ts, from the beginning" in capsys.readouterr().out
    asyncio.run(put_in_force(load(path), settings))

    before = time.time_ns() // 1_000_000
    path.write_text(path.read_text().replace("ts: at", "ts: when"))
    with pytest.raises(ConfigurationError, match="input features: what is appended from"):
        asyncio.run(put_in_force(load(path), settings))
    apply(path, as_json=True)
    [change] = json.loads(capsys.readouterr().out)
    assert (change["input"], change["new"], change["mapping"]["fields"]) == ("features", False, {"ts": "when"})
    found = asyncio.run(control_of_topic(settings)).mappings["features"]
    assert [mapping.fields["ts"] for mapping in found] == ["at", "when"]
    assert found[1].from_ms >= before + 120_000
    asyncio.run(put_in_force(load(path), settings))


def test_topics_that_are_not_there_are_refused(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    loaded = configured(tmp_path, kafka.bootstrap, prefix)
    with pytest.raises(ConfigurationError, match="make it with `tripline topics create`"):
        asyncio.run(applied(loaded, settings_from(loaded)))


def test_a_broker_that_is_away_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = configured(tmp_path, f"127.0.0.1:{free_port()}", "x-")
    with pytest.raises(BrokerUnavailable):
        asyncio.run(applied(loaded, settings_from(loaded)))
    assert check(tmp_path / "tripline.yaml") == 0
    assert "note: topics were not looked at" in capsys.readouterr().out


def test_check_asks_the_broker_about_topics(
    kafka: Kafka, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = configured(tmp_path, kafka.bootstrap, prefix)
    assert check(tmp_path / "tripline.yaml") == 0
    assert f"topic {prefix}predictions: is not there" in capsys.readouterr().out
    make_topics(loaded)
    assert check(tmp_path / "tripline.yaml") == 0
    assert "topic" not in capsys.readouterr().out


def test_a_reference_is_learned_from_a_topic(
    kafka: Kafka, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = configured(tmp_path, kafka.bootstrap, prefix)
    make_topics(loaded)
    table = rows(8 * 24, start=START, seed=9)

    async def fill() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            columns = zip(table.ts.tolist(), table.columns["age"].tolist(), table.columns["country"], strict=True)
            for i, (ts, age, country) in enumerate(columns):
                event = {"feature_set": "m", "ts": ts, "features": {"age": age, "country": country}}
                await producer.send(f"{prefix}features", json.dumps(event).encode(), partition=i % 3)
            await producer.send(f"{prefix}features", b"{oops", partition=0)
            await producer.send(f"{prefix}features", b'{"feature_set":"other","ts":1,"features":{}}', partition=0)

    asyncio.run(fill())
    build(
        None, model="m", output=tmp_path / "learned.json", from_topic=True, last="1h",
        config=tmp_path / "tripline.yaml", as_json=True,
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["kind"]) == (8 * 24 * HOUR // EVERY, "features")
    assert [feature["name"] for feature in found["features"]] == ["age", "country"]
    assert found["provisional"] == ""
