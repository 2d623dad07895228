"""From the configuration to Kafka's clients, and from a topic's records to a table: everything but the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streamer.config import Loaded, load_text
from streamer.connections import kafka_settings
from streamer.core.records import PlainRecord
from streamer.topic_tables import reader

MODELS = "models: {m: {reference: r}}\n"


def loaded(text: str, folder: Path = Path()) -> Loaded:
    return load_text(text + MODELS, file=str(folder / "tripline.yaml"))


def event(value: bytes, *, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()) -> PlainRecord:
    return PlainRecord("predictions", 0, 0, 0, key, value, headers)


def test_addresses_names_and_times_come_from_the_file() -> None:
    settings = kafka_settings(
        loaded(
            "kafka: {bootstrap_servers: ['a:1', 'b:2'], app: eu, topic_prefix: eu-, linger: 200ms, "
            "inputs: {predictions: logs.scored, outcomes: null}}\nstart: earliest\n"
        ),
        {},
        slot="3",
    )
    assert (settings.bootstrap_servers, settings.app, settings.topic("windows")) == ("a:1,b:2", "eu", "eu-windows")
    assert dict(settings.inputs) == {"predictions": "logs.scored", "features": "features"}
    assert (settings.linger_ms, settings.start, settings.slot, dict(settings.security)) == (200, "earliest", "3", {})


def test_a_password_comes_from_the_environment_and_is_not_shown() -> None:
    text = "kafka: {bootstrap_servers: h:1, sasl: {username: u, password: {env: KAFKA_PASSWORD}}}\n"
    settings = kafka_settings(loaded(text), {"KAFKA_PASSWORD": "hunter2"})
    assert settings.security["security_protocol"] == "SASL_PLAINTEXT"
    assert settings.security["sasl_plain_password"] == "hunter2"
    assert "hunter2" not in repr(settings)
    with pytest.raises(ConfigurationError, match=r"tripline\.yaml:1: kafka: the environment has no KAFKA_PASSWORD"):
        kafka_settings(loaded(text), {})


def test_a_file_of_tls_stands_beside_the_configuration(tmp_path: Path) -> None:
    text = "kafka: {bootstrap_servers: h:1, tls: {ca_file: ca.pem}}\n"
    with pytest.raises(ConfigurationError, match=r"kafka: tls: .*/ca\.pem: No such file"):
        kafka_settings(loaded(text, tmp_path), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "kafka: is missing: this command needs a broker"),
        (
            "kafka: {bootstrap_servers: h:1, inputs: {predictions: null, features: null, outcomes: null}}\n",
            "kafka.inputs: names no topic",
        ),
    ],
)
def test_what_cannot_connect_is_said_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kafka_settings(loaded(text), {})
    assert expected in str(caught.value)


def test_an_event_of_a_topic_is_read_as_it_is() -> None:
    read = reader(loaded(""), "predictions")
    assert read(event(b'{"id":"a","model":"m","ts":1,"score":0.5}')) == {"id": "a", "model": "m", "ts": 1, "score": 0.5}
    assert read(event(b"{oops")) is None
    assert read(event(b"[1]")) is None


def test_header_or_key_name_the_model_where_the_event_does_not() -> None:
    read = reader(loaded(""), "predictions")
    assert [
        (read(event(b"{}", key=b"k")) or {})["model"],
        (read(event(b"{}", key=b"k", headers=(("model", b"h"),))) or {})["model"],
        (read(event(b'{"model":"m"}', key=b"k")) or {})["model"],
    ] == ["k", "h", "m"]


def test_probabilities_by_class_become_score_and_label() -> None:
    read = reader(loaded(""), "predictions")
    found = read(event(b'{"model":"m","proba":{"no":0.7,"yes":0.3}}'))
    assert found == {"model": "m", "score": 0.3, "label": "no"}


def test_a_foreign_event_is_read_by_the_mapping_of_its_input() -> None:
    mapping = "mapping: {predictions: {fields: {ts: at}, features: in.*, constants: {model: m}, timestamp: s}}\n"
    read = reader(loaded(mapping), "predictions")
    assert read(event(b'{"at":1,"in":{"x":2}}')) == {"ts": 1000, "features": {"x": 2}, "model": "m"}
