"""`tripline doctor` over a real broker and real workers: what is well is said to be, what is not is named."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from brokers import Alertmanager, Kafka, eventually, free_port
from confluent_kafka.admin import AdminClient, NewPartitions
from deployments import Deployment, event
from test_worker_ends import make_anew

from streamer.kafka.survey import members
from streamer.kafka.topics import partition_counts


def findings(deployment: Deployment) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code, and findings by what was looked at."""
    done = deployment.tripline("doctor", "--json")
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout):
        found.setdefault(finding["check"], []).append(finding)
    return done.returncode, found


async def set_config(bootstrap: str, topic: str, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    named = {name.replace("_", "."): value for name, value in configs.items()}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=named)])
    await admin.close()


def levels(found: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    return {check: {finding["level"] for finding in of_check} for check, of_check in found.items()}


def test_a_deployment_that_is_well_is_said_to_be(
    kafka: Kafka, prefix: str, tmp_path: Path, alertmanager: Alertmanager
) -> None:
    """Nothing is wrong, the clocks were compared, and the state was read as a restart reads it."""
    with Deployment(kafka, prefix, tmp_path, more=f"alertmanager: {{urls: ['{alertmanager.url}']}}\n") as deployment:
        deployment.create()
        deployment.run()
        deployment.send(event(i * 10_000) for i in range(1_000))
        eventually(lambda: deployment.metric('tripline_events_applied_total{stage="monitoring"}') == 1_000)
        before = asyncio.run(partition_counts(deployment.settings))
        code, found = findings(deployment)
        assert asyncio.run(partition_counts(deployment.settings)) == before
    assert (code, levels(found)) == (
        0,
        {name: {"fine"} for name in (
            "topics", "replication", "retention", "file", "transactions", "clock", "workers", "state", "alertmanager"
        )},
    )  # fmt: skip
    said = {finding["where"]: finding["what"] for finding in found["workers"]}
    assert said["profiling"] == "1 workers, 2 tasks, 0 records wait"
    assert "of 4 changelogs: about 0." in found["state"][0]["what"]
    assert found["alertmanager"][0]["what"].startswith("answers, version 0.")


def test_what_is_not_well_is_named_with_its_place_and_a_way_out(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Nobody works, records wait, topics are set wrong, the file is not in force, nobody can be told."""
    dead = f"http://127.0.0.1:{free_port()}"
    with Deployment(kafka, prefix, tmp_path, more=f"alertmanager: {{urls: ['{dead}']}}\n") as deployment:
        deployment.create()
        deployment.run()
        deployment.send(event(i * 10_000) for i in range(100))
        eventually(lambda: deployment.metric('tripline_events_applied_total{stage="monitoring"}') == 100)
    deployment.send([event(2_000_000)] * 7)
    # A slot is kept for its worker until its session ends.
    groups = ["profiling", "monitoring"]
    eventually(lambda: not any(asyncio.run(members(deployment.settings, groups)).values()), within=20, every=0.5)
    deployment.file.write_text(deployment.file.read_text().replace("tolerance: 0.1", "tolerance: 0.2"))
    asyncio.run(
        set_config(
            kafka.bootstrap, f"{prefix}profiles",
            retention_ms="60000", message_timestamp_type="CreateTime", min_insync_replicas="2", cleanup_policy="delete",
        )
    )  # fmt: skip
    asyncio.run(set_config(kafka.bootstrap, f"{prefix}control", cleanup_policy="delete"))
    code, found = findings(deployment)
    named = {(finding["level"], finding["where"], finding["what"]) for each in found.values() for finding in each}
    assert code == 1
    for level, where, start in [
        ("wrong", f"{prefix}profiles", "carries CreateTime, not LogAppendTime"),
        ("wrong", f"{prefix}control", "cleanup.policy is delete, not compact"),
        ("wrong", f"{prefix}profiles", "has 1 in-sync copies of 1, fewer than min.insync.replicas 2"),
        ("wrong", f"{prefix}profiles", "keeps 1 min, but open and held panes need 2 h"),
        ("wrong", "profiling", "has no worker; 7 records wait"),
        ("wrong", dead, "ClientConnectorError"),
        ("warning", "", "m: from "),
        ("unknown", "this machine", "was not compared"),
    ]:
        assert any(
            (level, where) == (found_level, found_where) and what.startswith(start)
            for found_level, found_where, what in named
        ), (level, where, start, named)


def test_an_input_that_was_made_anew_is_named(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Shorter than the position first, then grown past it: what a worker would end with, before one is started."""
    with Deployment(kafka, prefix, tmp_path) as deployment:
        deployment.create()
        deployment.run()
        deployment.send(event(i * 10_000) for i in range(100))
        eventually(lambda: deployment.metric('tripline_events_applied_total{stage="monitoring"}') == 100)
    asyncio.run(make_anew(deployment.settings, deployment.input, partitions=2))
    found = []
    for events in ([], [event(i * 10_000) for i in range(500)]):
        deployment.send(events)
        code, by_check = findings(deployment)
        assert code == 1
        found.append({one["where"]: one["what"] for one in by_check["inputs"]})
    assert [set(of_time) for of_time in found] == [{"profiling/0", "profiling/1"}] * 2
    assert "past the log's end (0 to 0): this is not the log that was read" in found[0]["profiling/0"]
    assert "lies another record than was read there: this is not the log that was read" in found[1]["profiling/1"]


def test_state_of_a_newer_version_is_told_before_a_worker_meets_it(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """The changelogs are read as a restart would read them: run the new version's doctor before an upgrade, or a
    downgrade.
    """
    from aiokafka import AIOKafkaProducer
    from msgspec.msgpack import encode

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            changelog = deployment.settings.changelog("profiling")
            await producer.send_and_wait(changelog, encode({"format": 99}), b"position", partition=1)

    with Deployment(kafka, prefix, tmp_path) as deployment:
        deployment.create()
        assert deployment.tripline("apply").returncode == 0
    asyncio.run(write())
    code, found = findings(deployment)
    (fault,) = [finding for finding in found["state"] if finding["level"] == "wrong"]
    assert code == 1
    assert fault["where"] == "profiling/1"
    assert fault["what"].startswith("cannot be restored: FormatError: position record of format 99")


def test_a_broker_that_is_away_is_code_70(prefix: str, tmp_path: Path, kafka: Kafka) -> None:
    deployment = Deployment(kafka, prefix, tmp_path)
    deployment.file.write_text(deployment.file.read_text().replace(kafka.bootstrap, f"127.0.0.1:{free_port()}"))
    done = deployment.tripline("doctor")
    assert done.returncode == 70
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("wrong    broker: 127.0.0.1:")
    assert last == "1 wrong, 1 warning"


def test_an_input_that_grew_is_the_one_that_is_named(own_kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """And not the topics that stand as they were made: nobody is to widen these, too.

    On a broker of its own, that has never seen a group: that is no fault of the broker.
    """
    with Deployment(own_kafka, prefix, tmp_path) as deployment:
        deployment.create()
        assert deployment.tripline("apply").returncode == 0
    grown = AdminClient({"bootstrap.servers": own_kafka.bootstrap})
    grown.create_partitions([NewPartitions(deployment.input, 3)])[deployment.input].result(20)
    eventually(lambda: asyncio.run(partition_counts(deployment.settings))[deployment.input] == 3)
    says = f"{deployment.input} has 3 partitions, not 2; a count cannot change under a worker"
    done = deployment.tripline("topics", "check")
    assert (done.returncode, done.stdout) == (1, f"wrong: {says}\n")
    assert f"topic {says.replace(' has', ': has', 1)}" in deployment.tripline("check").stdout
    code, found = findings(deployment)
    assert (code, "file" in found) == (1, False), found
    assert [(one["where"], one["what"][:20]) for one in found["topics"]] == [
        ("", "the inputs have 3 pa"),
        (deployment.input, "has 3 partitions, no"),
    ]
