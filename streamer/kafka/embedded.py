"""librdkafka's mock cluster as a broker inside this process: for `tripline demo` and quick tests, not for data.

What it lacks (measured): control batches carry a bad CRC, aborted records stay visible, zombies are not fenced, every
topic has four partitions, nothing is compacted or kept. So on it: one worker, no barrier, and no promise of exactness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import topic_specs

if TYPE_CHECKING:
    from confluent_kafka import Producer

#: Partitions of every topic of the mock cluster.
MOCK_PARTITIONS = 4
_ANSWER_S = 10.0


class EmbeddedBroker:
    """`async with EmbeddedBroker() as broker:` runs one; `broker.bootstrap_servers` is its address.

    >>> async def address() -> str:
    ...     async with EmbeddedBroker() as broker:
    ...         return broker.bootstrap_servers.split(":")[0]
    >>> asyncio.run(address())
    '127.0.0.1'
    """

    def __init__(self) -> None:
        self.bootstrap_servers = ""
        self._cluster: Producer | None = None

    async def __aenter__(self) -> EmbeddedBroker:
        # Late: a worker with a broker of its own need not wait for librdkafka.
        from confluent_kafka import Producer

        # The address is not used: the client makes its own cluster and lives in it. It says nothing on stderr.
        self._cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
        found = await asyncio.to_thread(self._cluster.list_topics, timeout=_ANSWER_S)
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in found.brokers.values())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster = None

    async def make_topics(self, settings: KafkaSettings) -> None:
        """Every topic of an application: the mock makes a topic when somebody asks for it."""
        specs = topic_specs(settings, sources=MOCK_PARTITIONS, profiles=MOCK_PARTITIONS)
        await self.make(spec.name for spec in specs)

    async def make(self, names: Iterable[str]) -> None:
        """Topics by their names."""
        assert self._cluster is not None
        for name in names:
            await asyncio.to_thread(self._cluster.list_topics, name, timeout=_ANSWER_S)
