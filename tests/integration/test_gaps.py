"""What retention took from under stage 2, with the real charts: refused with both offsets, accepted with an account."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import pytest
from brokers import Kafka
from test_marked_incidents import closed, in_force, page, profiles, said
from test_worker_ends import delete_up_to_end

from schemas.alerts import AuditRecord, Reason
from schemas.errors import PositionLost
from schemas.verdicts import WindowReport
from streamer.app import Address, Worker
from streamer.core.records import Output
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import publish
from streamer.kafka.topics import create_topics, topic_specs
from streamer.stages import Monitoring
from tests.core.stage2 import BEGIN, PANE


@cache
def records() -> list[Output]:
    """Two a pane: its delta, and the progress that closes it. Of 41 the last is the delta of an open pane."""
    return profiles(30, shifted=range(0))


@pytest.fixture
def settings(kafka: Kafka, prefix: str) -> KafkaSettings:
    made = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, app=prefix + "app", topic_prefix=prefix, replication=1, slot="0",
        inputs={"predictions": prefix + "predictions"}, session_timeout_ms=6_000,
    )  # fmt: skip
    asyncio.run(create_topics(made, topic_specs(made, sources=1, profiles=1)))
    return made


async def counted(settings: KafkaSettings, *, events: int) -> None:
    """Run a worker until stage 2 has taken in so many events."""
    line = f'tripline_position_consumed_events{{partition="0",stage="monitoring"}} {float(events)}'
    stages = (Monitoring(),)
    async with Worker(settings, stages=stages, page=Address("127.0.0.1", 0)) as worker, asyncio.timeout(60):
        await worker.wait_until_ready()
        while line not in await page(worker):
            assert worker.failure is None
            await asyncio.sleep(0.05)


async def ended(settings: KafkaSettings) -> Exception:
    """How a worker ends."""
    async with Worker(settings, stages=(Monitoring(),)) as worker, asyncio.timeout(60):
        while worker.failure is None:
            await asyncio.sleep(0.05)
        return worker.failure


async def accepted(settings: KafkaSettings, *, rest: int, last: int) -> tuple[list[WindowReport], list[AuditRecord]]:
    """What a worker that accepts says, with the records from `rest` on, when pane `last` is closed."""
    async with Worker(replace(settings, accept_gap=True), stages=(Monitoring(),)) as worker, asyncio.timeout(60):
        await worker.wait_until_ready()
        await publish(settings, records()[rest:])
        while True:
            assert worker.failure is None
            found = await closed(settings, 1)
            if found[-1].end >= BEGIN + (last + 1) * PANE:
                notes = await said(settings, "audit", AuditRecord)
                return found, [note for note in notes if note.reason is Reason.GAP_ACCEPTED]
            await asyncio.sleep(0.1)


async def test_open_panes_whose_records_retention_took_begin_anew_when_that_is_accepted(
    settings: KafkaSettings,
) -> None:
    await publish(settings, [*in_force(), *records()[:41]])
    await counted(settings, events=21 * 60)
    end = await asyncio.to_thread(_sync, settings)
    lost = await ended(settings)
    assert isinstance(lost, PositionLost)
    assert lost.exit_code == 72
    assert f"({end} to {end}): retention took what open panes were counted from; `tripline run" in str(lost)
    windows, [note] = await accepted(settings, rest=41, last=28)
    assert (note.decision, note.details["to"]) == ("gap accepted, open panes begin anew", end)
    counts = {report.start: report.n for report in windows if report.revision == 0}
    expected = {BEGIN + pane * PANE: 60 for pane in range(29)} | {BEGIN + 20 * PANE: 0}
    assert counts == expected
    # Accepted once: the next worker finds nothing amiss.
    await counted(settings, events=30 * 60)


async def test_records_that_retention_took_unread_are_passed_over_when_that_is_accepted(
    settings: KafkaSettings,
) -> None:
    await publish(settings, [*in_force(), *records()[:41]])
    await counted(settings, events=21 * 60)
    await publish(settings, records()[41:44])
    end = await asyncio.to_thread(_sync, settings)
    lost = await ended(settings)
    assert isinstance(lost, PositionLost)
    assert f"({end} to {end}): retention took what was not counted; `tripline run --accept-gap`" in str(lost)
    windows, [note] = await accepted(settings, rest=44, last=28)
    assert (note.decision, note.details["to"]) == ("gap accepted", end)
    counts = {report.start: report.n for report in windows if report.revision == 0}
    gone = {BEGIN + pane * PANE: 0 for pane in (20, 21)}
    assert counts == {BEGIN + pane * PANE: 60 for pane in range(29)} | gone


def _sync(settings: KafkaSettings) -> int:
    return asyncio.run(delete_up_to_end(settings, settings.topic("profiles"), partition=0))
