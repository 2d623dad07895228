"""The notify agent on a real Kafka and real Alertmanagers: the latest state of every incident arrives everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Alertmanager, Kafka
from counting import Counting, Summing
from fleets import PROFILES, make_topics, settings_for

from schemas.alerts import AlertState, Incident
from schemas.envelopes import wrap
from streamer.app import Notify, Worker
from streamer.core.notifying import Notifier, NotifyPolicy
from streamer.core.records import Output
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import publish
from streamer.sinks.alertmanager import AlertmanagerSink


def incident(model: str, state: AlertState, *, sequence: int) -> Output:
    now = time.time_ns() // 1_000_000
    record = Incident(
        id=f"id-{model}",
        model=model,
        version="1",
        state=state,
        severity="page",
        opened_at=now - 60_000,
        resolved_at=now if state is AlertState.RESOLVED else None,
        updated_at=now,
        sequence=sequence,
        evidence=[],
        open_alerts=1,
    )
    value, headers = wrap(record, id=f"{model}-{sequence}", source="/tripline/0", subject=model, at=now)
    return Output("incidents", f"{model}|1".encode(), value, len(model) % PROFILES, headers)


def worker_telling(settings: KafkaSettings, *replicas: Alertmanager) -> Worker:
    policy = NotifyPolicy(backoff_ms=100, backoff_limit_ms=500)
    urls = [replica.url for replica in replicas]
    notify = Notify(lambda: Notifier(urls, policy), AlertmanagerSink())
    return Worker(settings, stages=(Counting(PROFILES), Summing()), notify=notify)


async def until(look: Callable[[], bool], *, within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await asyncio.to_thread(look):
            await asyncio.sleep(0.05)


@pytest.fixture
def settings(kafka: Kafka, prefix: str) -> KafkaSettings:
    made = settings_for(kafka.bootstrap, prefix, slot="0")
    make_topics(made)
    return made


async def test_only_the_latest_state_of_an_incident_is_told(
    settings: KafkaSettings, alertmanager: Alertmanager
) -> None:
    """The topic is read to its end before the first POST: what is over already never fires."""
    told = [
        incident("over", AlertState.FIRING, sequence=0),
        incident("lasting", AlertState.FIRING, sequence=0),
        incident("over", AlertState.RESOLVED, sequence=1),
    ]
    await publish(settings, told)
    async with worker_telling(settings, alertmanager) as worker:
        await until(lambda: len(alertmanager.alerts(model="lasting")) == 1)
        assert alertmanager.alerts(model="over") == []
        await publish(settings, [incident("lasting", AlertState.RESOLVED, sequence=1)])
        await until(lambda: alertmanager.alerts(model="lasting") == [])
        assert worker.failure is None


async def test_a_replica_that_was_away_gets_the_latest_state_and_nobody_waits_for_it(
    settings: KafkaSettings, alertmanagers: Callable[[], Alertmanager], tmp_path: Path
) -> None:
    here, away = alertmanagers(), alertmanagers()
    away.stop()
    async with worker_telling(settings, here, away):
        await publish(settings, [incident("credit", AlertState.FIRING, sequence=0)])
        await until(lambda: len(here.alerts(model="credit")) == 1)
        await asyncio.to_thread(away.start)
        await until(lambda: len(away.alerts(model="credit")) == 1)
