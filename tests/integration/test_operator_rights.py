"""Each command of people under exactly its lines of deploy/kafka-acls.csv, on a real broker with an authorizer."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from brokers import eventually
from deployments import Deployment, event
from lacking import without
from parts import PartMissing, kafka_libs
from secured import Certificates, SecuredKafka, rights_of
from test_tailing import ALERT, INCIDENT, TRIGGER, changed, record, request
from typer.testing import CliRunner

from streamer.commands import app
from streamer.kafka.tailing import publish

HOUR = 3_600_000
PASSWORD = "hunter2-hunter2"
ACCESS = """\
  bootstrap_servers: "{address}"
  tls: {{ca_file: {ca}}}
  sasl: {{username: {name}, password: {{file: password}}}}
"""
#: By principal. What each says must not depend on when it is asked.
COMMANDS = {
    "topics-create": "topics create --partitions 2 --replication 1",
    "topics-check": "topics check",
    "apply": "apply",
    "reset": "reset m --yes --by ann",
    "doctor": "doctor --json",
    "explain": "explain --model m --window 2025-01-06T02:30:00Z",
    "reference": "reference build --from-topic --model m --last 1d -o FOLDER/learned.json",
    "alerts-tail": "alerts tail --once --since earliest",
    "alerts-mark": "alerts mark i1 false --by ann",
    "triggers-tail": "triggers tail --once --since earliest",
    # A job that fails ends it.
    "triggers-exec": "triggers tail --exec false --since earliest --model fraud",
    "triggers-approve": "triggers approve t1 --by ann",
    "dlq-show": "dlq show --payload",
    "dlq-replay": "dlq replay --limit 1 --yes",
}
#: Commands that read what is in the inputs; in this deployment there is nothing in two of these.
OF_INPUTS, IDLE = ("reference", "dlq-show", "dlq-replay"), ("predictions", "outcomes")


#: A doctor watches for some seconds: each fifth of its rights, for time (all were tried when the list was made).
STEPS = {"doctor": 5}
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """A deployment in which there is something for every command to say, and files for each principal."""

    kafka: SecuredKafka
    deployment: Deployment

    @property
    def folder(self) -> Path:
        return self.deployment.folder

    def said(self, command: str, file: Path) -> tuple[int, object]:
        """Exit code of a command, and what it printed: of a doctor its findings, of others words without numbers."""
        words = [word.replace("FOLDER", str(self.folder)) for word in COMMANDS[command].split()]
        if command == "apply":  # something to put in force, each time
            file.write_text(re.sub(r"tolerance: [0-9.]+", f"tolerance: {next(NUMBERS) / 1000}", file.read_text()))
        with warnings.catch_warnings():
            # A command that is refused something ends with connections open, as its process would.
            warnings.simplefilter("ignore")
            code, text = invoked(words, file)
            gc.collect()
        if command == "doctor" and text.startswith("["):
            found = json.loads(text)
            return code, {(one["level"], one["check"], one["where"]) for one in found if one["check"] != "broker"}
        return code, re.sub(r"[0-9a-f]{16}|[0-9]+", "#", text)

    def file_of(self, name: str) -> Path:
        """The configuration with which a principal connects."""
        text = self.deployment.file.read_text()
        values = {"address": self.kafka.secure, "ca": self.kafka.certificates.ca, "name": name}
        line = next(line for line in text.splitlines(keepends=True) if "bootstrap_servers" in line)
        file = self.folder / f"{name}.yaml"
        file.write_text(text.replace(line, ACCESS.format(**values)))
        return file


def invoked(words: list[str], file: Path) -> tuple[int, str]:
    """Exit code and output of a command in this process; nothing of it is left when this returns."""
    done = CliRunner().invoke(app, [*words, "-c", str(file)])
    return getattr(done.exception, "exit_code", done.exit_code), done.stdout


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    version, folder = request.config.getoption("--kafka"), tmp_path_factory.mktemp("rights")
    try:
        kafka_libs(version)
        broker = SecuredKafka(folder / "kafka", Certificates(folder / "tls"), version=version)
    except PartMissing as missing:
        without(missing)
        raise
    try:
        broker.start()
        with Deployment(broker, "", folder, more="alertmanager: {urls: ['http://127.0.0.1:1']}\n") as deployment:
            text = deployment.file.read_text().replace("{predictions: null, features: features, outcomes: null}", "{}")
            text = text.replace("app: app", "app: tripline").replace("topic_prefix: ", "topic_prefix: ''")
            deployment.file.write_text(text)
            deployment.input = "features"
            (folder / "password").write_text(PASSWORD)
            deployment.create()
            deployment.run()
            deployment.send([*(event(i * HOUR // 60) for i in range(400)), *[b"{oops"] * 60])
            applied = 'tripline_events_applied_total{stage="monitoring"}'
            eventually(lambda: deployment.metric(applied) == 400, within=40)
            leave(deployment)
            yield Site(broker, deployment)
    finally:
        broker.stop()


def leave(deployment: Deployment) -> None:
    """What models that drifted would have left: an incident, an alert, a request that waits and one that does not."""
    requests = [request(changed(TRIGGER, state="pending")), request(changed(TRIGGER, id="t2", model="fraud"))]
    left = [record("incidents", INCIDENT, key="credit|3"), record("alerts", ALERT, key="a1"), *requests]
    asyncio.run(publish(deployment.settings, left))


def test_every_principal_of_the_file_has_its_command() -> None:
    lines = (Path(__file__).parents[2] / "deploy" / "kafka-acls.csv").read_text().splitlines()
    named = {line.partition(",")[0].removeprefix("User:tripline-") for line in lines if not line.startswith("#")}
    assert named - {"worker"} == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_under_exactly_its_rights(site: Site, command: str) -> None:
    """With them it says what it says to somebody who may do everything; without any one of them it does not."""
    name = f"tripline-{command}"
    rights = rights_of(f"User:{name}")
    site.kafka.add_user(name, PASSWORD)
    file = site.file_of(name)
    expected = site.said(command, site.deployment.file)
    site.kafka.grant(rights)
    assert site.said(command, file) == expected
    needless = []
    tried = rights if command not in OF_INPUTS else [one for one in rights if one.name not in IDLE]
    for right in tried[:: STEPS.get(command, 1)]:
        site.kafka.revoke(right)
        if site.said(command, file) == expected:
            needless.append(str(right))
        site.kafka.grant([right])
    assert needless == []
