"""A secret stands in no message, and in nothing that is printed of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streamer.app import Address
from streamer.commands.check import print_config
from streamer.config import load_text
from streamer.connections import kafka_settings
from streamer.sinks.alertmanager import Access, connect

SECRET = "hunter2-hunter2"
MODELS = "models: {m: {reference: r, retrain: {when: drift for 30m}}}\n"
SOUND = f"""\
kafka: {{bootstrap_servers: "h:1", sasl: {{username: u, password: {{env: PW}}}}}}
alertmanager: {{urls: ["http://h:1"], basic_auth: {{username: u, password: {{file: pw}}}}}}
metrics: {{bearer_token: {{env: PW}}}}
mapping: {{predictions: {{fields: {{ts: at}}, features: "in.*", constants: {{model: m}}, timestamp: s}}}}
{MODELS}"""


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {bootstrap_servers: 'h:1', sasl: {username: u, password: SECRET}}",
        "kafka: {bootstrap_servers: 'h:1', sasl: {username: u, password: {value: SECRET}}}",
        "kafka: {bootstrap_servers: 'h:1', tls: {key_password: SECRET}}",
        "alertmanager: {urls: ['http://u:SECRET@h:1']}",
        "alertmanager: {urls: ['http://h:1'], bearer_token: SECRET}",
        "alertmanager: {urls: ['http://h:1'], basic_auth: 'u:SECRET'}",
        "alertmanager: {urls: ['http://h:1'], basic_auth: {username: u, password: [SECRET]}}",
        "alertmanager: {urls: ['http://h:1'], basic_auth: {username: u, passwd: SECRET}}",
        "metrics: {bearer_token: SECRET}",
    ],
)
def test_a_secret_that_stands_in_the_file_is_refused_and_not_said_again(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(text.replace("SECRET", SECRET) + "\n" + MODELS)
    assert SECRET not in str(caught.value)


def test_what_is_printed_of_a_configuration_says_where_secrets_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defaults and all, as JSON."""
    monkeypatch.setenv("PW", SECRET)
    (tmp_path / "pw").write_text(SECRET)
    (tmp_path / "tripline.yaml").write_text(SOUND)
    print_config(tmp_path / "tripline.yaml")
    said = capsys.readouterr().out
    plain = json.loads(said)
    assert SECRET not in said
    assert plain["kafka"]["sasl"]["password"] == {"env": "PW", "file": None}
    assert plain["metrics"]["host"] == "127.0.0.1"
    assert plain["models"]["m"]["pane"] == 300_000
    assert plain["mapping"]["predictions"]["timestamp"] == "s"


def test_no_value_that_holds_a_secret_shows_it(tmp_path: Path) -> None:
    loaded = load_text(SOUND, file=str(tmp_path / "tripline.yaml"))
    (tmp_path / "pw").write_text(SECRET + "\n")
    assert loaded.config.alertmanager is not None
    shown = [
        repr(kafka_settings(loaded, {"PW": SECRET})),
        repr(connect(loaded.config.alertmanager, {"PW": SECRET})),
        repr(Access(username="u", password=SECRET, bearer_token=SECRET, key_password=SECRET)),
        repr(Address("127.0.0.1", 9464, bearer_token=SECRET)),
        repr(loaded.config),
    ]
    assert [text for text in shown if SECRET in text] == []


def test_a_secret_file_is_read_without_its_line_end_and_a_lacking_one_is_named(tmp_path: Path) -> None:
    loaded = load_text(SOUND, file=str(tmp_path / "tripline.yaml"))
    alertmanager = loaded.config.alertmanager
    assert alertmanager is not None
    assert alertmanager.basic_auth is not None
    with pytest.raises(ConfigurationError, match=r"secret file .*pw: No such file"):
        alertmanager.basic_auth.password.read({})
    (tmp_path / "pw").write_text(SECRET + "\n")
    assert alertmanager.basic_auth.password.read({}) == SECRET
