"""A worker whose state outgrows what it may have says so and stops; what it read is counted by the next one."""

from __future__ import annotations

import asyncio

import pytest
from brokers import Kafka
from counting import Counting, Summing
from fleets import PROFILES, make_topics, settings_for

from schemas.errors import MemoryExceeded
from streamer.app import Worker, resident
from streamer.kafka.settings import KafkaSettings


@pytest.fixture
def settings(kafka: Kafka, prefix: str) -> KafkaSettings:
    made = settings_for(kafka.bootstrap, prefix, slot="0")
    make_topics(made)
    return made


async def ended(settings: KafkaSettings, *, memory: int) -> Exception:
    stages = (Counting(PROFILES), Summing())
    async with Worker(settings, stages=stages, memory=memory) as worker, asyncio.timeout(30):
        return await worker.wait_until_failed()


async def test_beyond_its_memory_it_says_so_and_stops(settings: KafkaSettings) -> None:
    error = await ended(settings, memory=resident() // 2)
    assert isinstance(error, MemoryExceeded)
    assert error.exit_code == 74
    assert "limits.memory is" in str(error)
    assert "start more workers, or allow more; nothing was dropped" in str(error)


async def test_within_it_it_works(settings: KafkaSettings) -> None:
    stages = (Counting(PROFILES), Summing())
    async with Worker(settings, stages=stages, memory=100 * resident()) as worker, asyncio.timeout(30):
        await worker.wait_until_ready()
        await asyncio.sleep(2.5)  # two looks of its timer
        assert worker.failure is None
