"""The same worker on the broker inside the process: what the demo stands on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import aiokafka
from counting import Counting, Summing

from streamer.app import Worker
from streamer.kafka.embedded import MOCK_PARTITIONS, EmbeddedBroker
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import history


async def test_a_worker_counts_on_the_embedded_broker() -> None:
    async with EmbeddedBroker() as broker:
        settings = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, embedded=True, start="earliest", slot="0", linger_ms=20
        )
        await broker.make_topics(settings)
        truth = Counter(f"m{n % 7}" for n in range(5_000))
        async with Worker(settings, stages=(Counting(MOCK_PARTITIONS), Summing())) as worker:
            await asyncio.wait_for(worker.wait_until_ready(), 20)
            async with aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
                for n in range(5_000):
                    await producer.send("predictions", f"m{n % 7}".encode(), partition=n % MOCK_PARTITIONS)
            total = asyncio.create_task(_summed(settings, 5_000))
            failed = asyncio.create_task(worker.wait_until_failed())
            await asyncio.wait([total, failed], timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert worker.failure is None
            assert await total == truth
            failed.cancel()


async def _summed(settings: KafkaSettings, wanted: int) -> Counter[str]:
    while True:
        last = {}
        for record in await history(settings, "windows"):
            last[record.partition] = json.loads(record.value or b"{}")
        total: Counter[str] = Counter()
        for of_partition in last.values():
            total.update(of_partition)
        if total.total() >= wanted:
            return total
        await asyncio.sleep(0.1)
