"""`alerts tail`, `triggers tail --exec`, `approve` and `reject` over a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from brokers import Kafka, free_port

from schemas.alerts import Alert, AlertState, Evidence, Incident, Reason
from schemas.envelopes import Message, wrap
from schemas.errors import BrokerUnavailable
from schemas.triggers import Approval, RetrainTrigger
from streamer.commands import alerts, triggers
from streamer.core.control import Control
from streamer.core.records import Output
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import follow_as, history, publish
from streamer.kafka.topics import create_topics, topic_specs

AGE = Evidence(feature="age", detector="distribution", direction="location up", size=0.4, onset=0)
TRIGGER = RetrainTrigger(
    id="t1",
    model="credit",
    version="3",
    policy="default",
    state="approved",
    incident="i1",
    window_end=60_000,
    opened_at=0,
    reference="r",
    evidence=[AGE],
)
INCIDENT = Incident(
    id="i1",
    model="credit",
    version="3",
    state=AlertState.FIRING,
    severity="page",
    opened_at=0,
    updated_at=60_000,
    sequence=0,
    evidence=[AGE],
    open_alerts=1,
)
ALERT = Alert(
    id="a1",
    incident="i1",
    model="fraud",
    version="3",
    state=AlertState.FIRING,
    reason=Reason.ABOVE_LIMIT,
    evidence=AGE,
    starts_at=0,
    window_end=60_000,
    layout="l",
    reference="r",
)


def changed(trigger: RetrainTrigger, **fields: object) -> RetrainTrigger:
    return msgspec.structs.replace(trigger, **fields)


def record(topic: str, message: Message, *, key: str, partition: int = 0) -> Output:
    value, headers = wrap(message, id=key, source="/tripline/0", subject=key, at=0)
    return Output(topic, key.encode(), value, partition, headers)


def request(trigger: RetrainTrigger, *, partition: int = 0) -> Output:
    return record("retrain-triggers", trigger, key=trigger.id, partition=partition)


@pytest.fixture
def settings(kafka: Kafka, prefix: str) -> KafkaSettings:
    made = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, topic_prefix=prefix, app=prefix.strip("-"), inputs={}, replication=1
    )
    asyncio.run(create_topics(made, topic_specs(made, sources=2, profiles=2)))
    return made


def send(settings: KafkaSettings, *outputs: Output) -> None:
    asyncio.run(publish(settings, outputs))


def test_alerts_tail_prints_incidents_and_alerts_in_the_order_of_time(
    settings: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    send(settings, record("alerts", ALERT, key="a1", partition=1), record("incidents", INCIDENT, key="credit|3"))
    alerts.tail(settings, since="earliest", once=True)
    assert capsys.readouterr().out.splitlines() == [
        "1970-01-01 00:01 UTC    alert    firing    fraud, version 3: age rose by 0.40 sd (above_limit)",
        "1970-01-01 00:01 UTC  INCIDENT   firing    credit, version 3: age rose by 0.40 sd since 1970-01-01 00:00 UTC",
    ]


def test_alerts_tail_as_json_is_one_object_a_line_of_the_asked_model(
    settings: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    send(settings, record("alerts", ALERT, key="a1"), record("incidents", INCIDENT, key="credit|3"))
    alerts.tail(settings, since="earliest", once=True, model="credit", as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["incident"]["id"] == "i1"


def test_a_tail_from_now_does_not_show_the_past(settings: KafkaSettings, capsys: pytest.CaptureFixture[str]) -> None:
    send(settings, request(TRIGGER))
    triggers.tail(settings, once=True)
    assert capsys.readouterr().out == ""


def test_exec_once_runs_what_there_is_and_returns(settings: KafkaSettings, tmp_path: Path) -> None:
    """As a timer starts it: nothing new is nothing to do, and what was done is not done again."""
    jobs = tmp_path / "jobs"
    for name in ("first", "second"):
        send(settings, request(changed(TRIGGER, id=name)))
        for _ in range(2):
            triggers.tail(settings, since="earliest", once=True, execute=f"cat >> {jobs}; echo >> {jobs}")
    assert [json.loads(line)["id"] for line in jobs.read_text().splitlines()] == ["first", "second"]


def run_jobs(settings: KafkaSettings, command: str) -> None:
    """`triggers tail --exec`, from the earliest on, until the job says stop (exit 9)."""
    with pytest.raises(triggers.JobFailed, match="ended with 9"):
        triggers.tail(settings, since="earliest", execute=command)


def test_exec_runs_the_command_once_for_each_approved_trigger(settings: KafkaSettings, tmp_path: Path) -> None:
    """A failed job is not done: the next start begins with it, and never again with those before it."""
    states: Sequence[RetrainTrigger] = [
        changed(TRIGGER, id="asked", state="pending"),
        changed(TRIGGER, id="first"),
        changed(TRIGGER, id="dry", state="dry_run"),
        changed(TRIGGER, id="second"),
    ]
    send(settings, *(request(trigger) for trigger in states))
    seen = tmp_path / "seen"
    run_jobs(settings, f"cat >> {seen}; echo >> {seen}; ! grep -q second {seen} || exit 9")
    run_jobs(settings, f"cat >> {seen}; echo >> {seen}; exit 9")
    assert [json.loads(line)["id"] for line in seen.read_text().splitlines()] == ["first", "second", "second"]


async def test_what_comes_while_a_follower_is_away_is_not_missed(settings: KafkaSettings) -> None:
    """The place to begin is kept before the first record: "latest" means the first start, not every start."""
    async with aclosing(follow_as(settings, "retrain-triggers", group="jobs")) as following:
        waiting = asyncio.ensure_future(anext(following))
        async with asyncio.timeout(20):
            while not await committed(settings, "jobs"):
                await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await publish(settings, [request(TRIGGER, partition=1)])
    async with asyncio.timeout(20), aclosing(follow_as(settings, "retrain-triggers", group="jobs")) as again:
        assert (await anext(again)).key == b"t1"


async def committed(settings: KafkaSettings, group: str) -> bool:
    """Whether the group has a place in both partitions."""
    async with settings.consumer(role="test", group_id=group) as consumer:
        places = [TopicPartition(settings.topic("retrain-triggers"), number) for number in range(2)]
        return None not in [await consumer.committed(place) for place in places]


def approvals(settings: KafkaSettings) -> dict[str, Approval]:
    control = Control()
    for found in asyncio.run(history(settings, "control")):
        control = control.apply(found.key or b"", found.value, offset=found.offset)
    return control.approvals


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_persons_word_reaches_control(settings: KafkaSettings, decision: str) -> None:
    send(settings, request(changed(TRIGGER, state="pending")))
    written = triggers.decide(settings, "t1", decision, by="ana")  # type: ignore[arg-type]
    assert approvals(settings) == {"t1": written}
    assert (written.decision, written.by) == (decision, "ana")


def test_what_is_decided_is_not_decided_again(settings: KafkaSettings) -> None:
    send(settings, request(changed(TRIGGER, state="pending")))
    send(settings, request(changed(TRIGGER, state="rejected", decided_by="ana")))
    with pytest.raises(triggers.TriggerUnknown, match="t1 is rejected by ana: there is nothing to decide"):
        triggers.decide(settings, "t1", "approve", by="bob")
    assert approvals(settings) == {}


def test_an_unknown_trigger_is_said(settings: KafkaSettings) -> None:
    with pytest.raises(triggers.TriggerUnknown, match="no trigger nope"):
        triggers.decide(settings, "nope", "approve", by="bob")


def test_no_broker_is_an_error_with_an_exit_code() -> None:
    away = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable) as caught:
        alerts.tail(away, once=True)
    assert caught.value.exit_code == 70
