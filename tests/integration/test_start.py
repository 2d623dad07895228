"""Where a worker without a position begins."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import aiokafka
import pytest
from brokers import Kafka
from counting import Counting, Summing
from fleets import PROFILES, counted, make_topics, settings_for

from streamer.app import Worker
from streamer.kafka.settings import KafkaSettings


async def send(settings: KafkaSettings, *values: str) -> None:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait(settings.topic("predictions"), value.encode(), partition=0)


async def counts_of(settings: KafkaSettings, *, until: str) -> Counter[str]:
    """What a worker counts, once it has counted `until`."""
    async with Worker(settings, stages=(Counting(PROFILES), Summing())) as worker, asyncio.timeout(30):
        while not (found := await asyncio.to_thread(counted, settings))[until]:
            assert worker.failure is None
            if not worker.waits_for():
                await send(settings, until)
    return found


@pytest.mark.parametrize(("start", "expected"), [("earliest", {"old", "new"}), ("latest", set())])
async def test_it_starts_where_it_is_told(kafka: Kafka, prefix: str, start: str, expected: set[str]) -> None:
    settings = settings_for(kafka.bootstrap, prefix, start=start)
    await asyncio.to_thread(make_topics, settings)
    await send(settings, "old", "new")
    found = await counts_of(settings, until="end")
    assert set(found) == expected | {"end"}


async def test_it_starts_at_a_time(kafka: Kafka, prefix: str) -> None:
    settings = settings_for(kafka.bootstrap, prefix)
    await asyncio.to_thread(make_topics, settings)
    await send(settings, "old")
    await asyncio.sleep(0.01)
    at = time.time_ns() // 1_000_000
    await send(settings, "new")
    found = await counts_of(settings_for(kafka.bootstrap, prefix, start=at), until="end")
    assert set(found) == {"new", "end"}


async def test_latest_is_kept_over_a_restart(kafka: Kafka, prefix: str) -> None:
    """The first position is written at once: what comes while the worker is away is counted."""
    settings = settings_for(kafka.bootstrap, prefix, start="latest", slot="0")
    await asyncio.to_thread(make_topics, settings)
    async with Worker(settings, stages=(Counting(PROFILES), Summing())) as worker:
        await asyncio.wait_for(worker.wait_until_ready(), 20)
    await send(settings, "away")
    found = await counts_of(settings, until="end")
    assert set(found) == {"away", "end"}
