"""A real broker with TLS, SCRAM and an authorizer; a real Alertmanager behind TLS and a password; and what leaks."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from brokers import Alertmanager, Process, eventually, free_port
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from deployments import Deployment, event
from lacking import without
from parts import PartMissing, kafka_libs
from secured import Certificates, Right, SecuredKafka, rights_of

from streamer.sinks.alertmanager import Access, AlertmanagerSink
from streamer.sinks.errors import SinkError

WORKER, PASSWORD = "tripline-worker", "hunter2-hunter2"
CONFIGURATION = """\
kafka:
  bootstrap_servers: "{secure}"
  profiles_partitions: 2
  session_timeout: 6s
  broker_timeout: 10s
  tls: {{ca_file: {ca}}}
  sasl: {{username: {worker}, password: {{file: password}}}}
metrics: {{port: {port}, bearer_token: {{env: METRICS_TOKEN}}}}
alertmanager: {{urls: ["http://127.0.0.1:1"]}}
start: earliest
max_alert_age: off
models:
  m: {{reference: reference.json, pane: 1h, lateness: 10s}}
"""
#: bcrypt of "test".
WEB = """\
tls_server_config:
  cert_file: {certificate}
  key_file: {key}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {ca}
basic_auth_users: {{tripline: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay}}
"""


@pytest.fixture(scope="module")
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A broker on which the worker's user has exactly the rights of deploy/kafka-acls.csv."""
    version, folder = request.config.getoption("--kafka"), tmp_path_factory.mktemp("secured")
    try:
        kafka_libs(version)
        broker = SecuredKafka(folder / "kafka", Certificates(folder / "tls"), version=version)
    except PartMissing as missing:
        without(missing)
        raise
    try:
        broker.start()
        broker.add_user(WORKER, PASSWORD)
        broker.grant(rights_of(f"User:{WORKER}"))
        yield broker
    finally:
        broker.stop()


class Secured(Deployment):
    """A deployment whose operator uses the plain listener, and whose worker the secured one."""

    def __init__(self, kafka: SecuredKafka, folder: Path) -> None:
        super().__init__(kafka, "", folder, environment={"METRICS_TOKEN": "s3cret-token"})
        plain = self.file.read_text()
        plain = plain.replace("{predictions: null, features: features, outcomes: null}", "{}")
        plain = plain.replace("app: app", "app: tripline")
        plain = plain.replace("topic_prefix: ", "topic_prefix: ''")
        self.plain, self.file = folder / "operator.yaml", folder / "operator.yaml"
        self.plain.write_text(plain + "alertmanager: {urls: ['http://127.0.0.1:1']}\n")
        self.input = "features"
        (folder / "password").write_text(PASSWORD + "\n")
        self.secure = folder / "tripline.yaml"
        values = {"secure": kafka.secure, "ca": kafka.certificates.ca, "worker": WORKER, "port": self.port}
        self.secure.write_text(CONFIGURATION.format(**values))

    def prepare(self) -> None:
        """What an operator does: topics, and the configuration put in force."""
        self.create()
        done = self.tripline("apply")
        assert done.returncode == 0, done.stderr
        self.file = self.secure

    def ask(self, name: str, token: str = "") -> int:
        """Status of a page, asked with a token; 0 when nobody answers."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}")
        if token:
            asked.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(asked, timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def deployment(secured: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with Secured(secured, tmp_path_factory.mktemp("deployment")) as found:
        found.prepare()
        yield found


def log_of(worker: Process) -> str:
    return worker.log.read_text(errors="replace")


def refused(user: dict[str, str], topic: str) -> str:
    """Name of the error that a write to a topic ends with."""
    producer, said = Producer(user), list[str]()
    producer.produce(topic, b"{}", on_delivery=lambda error, _: said.append(error.name() if error else ""))
    producer.flush(20)
    return said[0]


def test_a_worker_with_exactly_the_listed_rights_works_and_may_do_nothing_else(
    secured: SecuredKafka, deployment: Secured
) -> None:
    """End to end over TLS and SCRAM-SHA-512; a signal reads another password; no log holds one."""
    worker = deployment.start()
    deployment.send(event(i * 10_000) for i in range(400))
    applied = b'tripline_events_applied_total{stage="monitoring"} 400.0'

    def page() -> bytes:
        asked = urllib.request.Request(f"http://127.0.0.1:{deployment.port}/metrics")
        asked.add_header("Authorization", "Bearer s3cret-token")
        try:
            with urllib.request.urlopen(asked, timeout=2) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    eventually(lambda: applied in page() or not worker.running, within=40, what="400 events")
    assert worker.running, worker.tail()
    assert [deployment.ask("metrics"), deployment.ask("metrics", "wrong"), deployment.ask("healthz")] == [401, 401, 200]

    user = {
        "bootstrap.servers": secured.secure, "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
        "ssl.ca.location": str(secured.certificates.ca), "sasl.username": WORKER, "sasl.password": PASSWORD,
        "log_level": "0",
    }  # fmt: skip
    assert {refused(user, topic) for topic in ("features", "control")} == {"TOPIC_AUTHORIZATION_FAILED"}
    admin = AdminClient(user)
    with pytest.raises(KafkaException, match="AUTHORIZATION_FAILED"):
        admin.create_topics([NewTopic("another", 1, 1)])["another"].result(20)

    secured.add_user(WORKER, "another-password")
    (deployment.folder / "password").unlink()
    os.kill(worker.pid, signal.SIGHUP)
    eventually(lambda: "SIGHUP: goes on as it is" in log_of(worker), within=10)
    (deployment.folder / "password").write_text("another-password")
    os.kill(worker.pid, signal.SIGHUP)
    eventually(lambda: log_of(worker).count("tasks restored") >= 4, within=30, what="restored anew")
    deployment.send(event(5_000_000 + i * 10_000) for i in range(50))
    eventually(lambda: b'applied_total{stage="profiling"} 50.0' in page() or not worker.running, within=30)
    worker.stop(within=10)
    assert worker.code == 0, worker.tail()
    assert [word for word in (PASSWORD, "another-password", "s3cret-token") if word in log_of(worker)] == []
    secured.add_user(WORKER, PASSWORD)
    (deployment.folder / "password").write_text(PASSWORD)


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("Write on topic audit", 77, "does not allow it: topic audit"),
        ("Read on topic windows", 77, "does not allow it: topic windows"),
        ("Read on group tripline.profiling", 77, "does not allow it: group tripline.profiling"),
        ("Write on transactional-id tripline.monitoring.", 77, "does not allow it: transactional id tripline.monitor"),
    ],
)
def test_without_one_of_its_rights_it_says_which_and_ends(
    secured: SecuredKafka, deployment: Secured, place: str, code: int, words: str
) -> None:
    (right,) = [right for right in rights_of(f"User:{WORKER}") if str(right) == place]
    secured.revoke(right)
    try:
        done = deployment.tripline("run", "--slot", "0")
    finally:
        secured.grant([right])
    assert words in done.stderr
    assert done.returncode == code


def test_a_wrong_password_is_told_at_once_and_not_shown(secured: SecuredKafka, deployment: Secured) -> None:
    """Exit 77: no supervisor need try again."""
    file = deployment.folder / "wrong.yaml"
    file.write_text(deployment.secure.read_text().replace("{file: password}", "{env: WRONG}"))
    deployment.file = file
    deployment.environment["WRONG"] = "letmein-letmein"
    for words in (["run", "--slot", "0"], ["doctor"]):
        done = deployment.tripline(*words)
        assert done.returncode == 77, done.stderr
        assert "Authentication failed" in done.stdout + done.stderr
        assert "letmein" not in done.stdout + done.stderr
    deployment.file = deployment.secure


def test_a_broker_that_an_unknown_authority_vouches_for_is_not_trusted(deployment: Secured) -> None:
    file = deployment.folder / "untrusted.yaml"
    text = deployment.secure.read_text()
    file.write_text("\n".join(line for line in text.splitlines() if "ca_file" not in line).replace(
        "  sasl:", "  tls: {check_hostname: true}\n  sasl:"
    ))  # fmt: skip
    deployment.file = file
    done = deployment.tripline("topics", "check")
    deployment.file = deployment.secure
    assert done.returncode == 77
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_a_certificate_with_a_key_under_a_password_is_a_way_in(secured: SecuredKafka, deployment: Secured) -> None:
    """Without SASL: the broker takes the name in the certificate for the user's; without one it lets nobody in."""
    certificate, key = secured.certificates.issue(WORKER, key_password="key-password")
    files = f"certificate_file: {certificate}, key_file: {key}, key_password: {{env: KEY_PASSWORD}}"
    lines = [line for line in deployment.secure.read_text().splitlines() if "sasl:" not in line]
    text = "\n".join(lines).replace(secured.secure, secured.mutual)
    ours = text.replace(f"ca_file: {secured.certificates.ca}", f"ca_file: {secured.certificates.ca}, {files}")
    stranger, stranger_key = Certificates(deployment.folder / "strangers").issue(WORKER)
    other = f"certificate_file: {stranger}, key_file: {stranger_key}"
    shut_out = text.replace("broker_timeout: 10s", "broker_timeout: 2s")
    ways = {
        "mutual": ours,
        "none": shut_out,
        "strange": shut_out.replace("ca_file", other + ", ca_file"),
        "locked": ours.replace("KEY_PASSWORD", "WRONG_PASSWORD"),
    }
    deployment.environment |= {"KEY_PASSWORD": "key-password", "WRONG_PASSWORD": "guess-guess"}
    for name, way in ways.items():
        (deployment.folder / f"{name}.yaml").write_text(way)

    def said(name: str, *words: str) -> tuple[int, str]:
        deployment.file = deployment.folder / f"{name}.yaml"
        done = deployment.tripline(*words)
        deployment.file = deployment.secure
        return done.returncode, done.stdout + done.stderr

    deployment.file = deployment.folder / "mutual.yaml"
    worker = deployment.start()
    deployment.file = deployment.secure
    eventually(lambda: deployment.ask("readyz") == 200 or not worker.running, within=40, what="ready")
    worker.stop(within=10)
    assert worker.code == 0, worker.tail()
    assert "key-password" not in log_of(worker)

    none, strange, locked = (said(name, "run", "--slot", "0") for name in ("none", "strange", "locked"))
    # All that a client library sees of it is a connection that is closed, as a broker does that goes away.
    assert (none[0], strange[0], locked[0]) == (70, 70, 2)
    assert "does it want a certificate of ours, or another one (kafka.tls)?" in none[1]
    assert "does it want a certificate of ours, or another one (kafka.tls)?" in strange[1]
    assert f"tls: {secured.certificates.ca}, {certificate}, {key}: " in locked[1]
    assert "guess-guess" not in locked[1]


async def test_alertmanager_behind_tls_and_a_password(secured: SecuredKafka, tmp_path: Path) -> None:
    """A real one with a web.config: without password, its authority or our certificate no POST goes through."""
    certificate, key = secured.certificates.issue("alertmanager")
    web = tmp_path / "web.yml"
    web.write_text(WEB.format(certificate=certificate, key=key, ca=secured.certificates.ca))
    alertmanager = Alertmanager(tmp_path / "alertmanager", port=free_port())
    alertmanager.command.append(f"--web.config.file={web}")
    alertmanager.spawn()
    url = f"https://127.0.0.1:{alertmanager.port}"
    ca = str(secured.certificates.ca)
    ours, our_key = map(str, secured.certificates.issue("tripline", key_password="key-password"))
    proved = Access(ca_file=ca, certificate_file=ours, key_file=our_key, key_password="key-password")
    accesses = [
        replace(proved, username="tripline", password="test"),
        replace(proved, username="tripline", password="wrong"),
        proved,
        Access(username="tripline", password="test"),
        Access(username="tripline", password="test", ca_file=ca),
    ]
    try:
        await asyncio.to_thread(eventually, lambda: b"Listening on" in alertmanager.log.read_bytes(), within=20)
        said = [await status(access, url) for access in accesses]
    finally:
        alertmanager.stop()
    assert said[0].startswith("0.")
    assert ["401" in said[1], "401" in said[2], "CERTIFICATE_VERIFY_FAILED" in said[3]] == [True] * 3
    assert not said[4].startswith("0.")
    assert not [words for words in said if "wrong" in words or "test" in words.replace("/tests", "")]


async def status(access: Access, url: str) -> str:
    async with AlertmanagerSink(access) as sink:
        try:
            return (await sink.status(url)).version
        except SinkError as error:
            return str(error)


def test_the_rights_in_deploy_are_of_one_worker_and_narrow() -> None:
    """No wildcard, no cluster right, nothing that could make or change topics."""
    rights = rights_of(f"User:{WORKER}")
    assert {right.operation for right in rights} == {"Read", "Write"}
    assert {right.resource for right in rights} == {"topic", "group", "transactional-id"}
    assert [right for right in rights if "*" in right] == []
    assert {right.name for right in rights if right.pattern == "prefixed"} == {
        "tripline.profiling.",
        "tripline.monitoring.",
    }
    assert Right("User:tripline-worker", "topic", "literal", "control", "Write") not in rights
