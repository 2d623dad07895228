"""What the Kafka rim needs to know of the world: addresses, names and times. Frozen; made by the composition root.

Nothing in here changes a result: what does is on the `control` topic. Times are seconds where a client library wants
them, milliseconds otherwise; each name says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import aiokafka

INPUTS = ("predictions", "features", "outcomes")


@dataclass(frozen=True, kw_only=True)
class KafkaSettings:
    """How to reach Kafka, what our topics are called there, and how long to wait for it.

    bootstrap_servers: `host:port[,host:port…]`. app: prefix of groups, transactional ids and changelogs.
    topic_prefix: put before every topic but the inputs. inputs: logical name → topic; a name that is left out is not
    read. slot: static membership `{app}-{stage}-{slot}`; None: dynamic. start: where a task without a position begins.
    security: keyword arguments that every aiokafka client gets (`security_protocol`, `ssl_context`, `sasl_*`).
    embedded: librdkafka's mock cluster: no CRC check, no barrier, one worker.

    batch_rows, batch_bytes: bounds of one transaction; 4,000 rows, for at 2,000 its requests and numpy's calls cost a
    seventh more per event (9.9 µs against 8.7, `tripline bench throughput`). linger_ms: how long a batch waits for
    more; up to slow_linger_ms where that would hold fewer than slow_rows. tick_ms: a task says how far it is at least
    this often.
    metadata_ms: how often a consumer looks whether its topics have changed.
    broker_timeout_s: how long the broker may be silent before the worker gives up (exit 70).

    >>> settings = KafkaSettings(bootstrap_servers="127.0.0.1:9092", topic_prefix="eu-")
    >>> settings.topic("windows"), settings.topic("predictions"), settings.changelog("profiling")
    ('eu-windows', 'predictions', 'eu-tripline-profiling-changelog')
    """

    bootstrap_servers: str
    app: str = "tripline"
    topic_prefix: str = ""
    inputs: Mapping[str, str] = field(default_factory=lambda: {name: name for name in INPUTS})
    slot: str | None = None
    start: Literal["latest", "earliest"] | int = "latest"
    accept_gap: bool = False
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    embedded: bool = False
    batch_rows: int = 4_000
    batch_bytes: int = 8_000_000
    linger_ms: int = 100
    slow_linger_ms: int = 500
    slow_rows: int = 20
    tick_ms: int = 1_000
    session_timeout_ms: int = 10_000
    broker_timeout_s: float = 60.0
    stop_timeout_s: float = 4.0
    fetch_bytes: int = 1_000_000
    replication: int = -1
    profiles_partitions: int = 8
    metadata_ms: int = 60_000

    def topic(self, logical: str) -> str:
        """Name on Kafka of a logical topic."""
        return self.inputs[logical] if logical in self.inputs else self.topic_prefix + logical

    def changelog(self, stage: str) -> str:
        """Name on Kafka of a stage's changelog."""
        return f"{self.topic_prefix}{self.app}-{stage}-changelog"

    def group(self, stage: str) -> str:
        """Consumer group of a stage."""
        return f"{self.app}.{stage}"

    def client(self, role: str) -> dict[str, Any]:
        """Arguments of every aiokafka client. role: part of the client id that a broker's log shows."""
        slot = "" if self.slot is None else f"-{self.slot}"
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": f"{self.app}-{role}{slot}",
            # One request may take this long; what takes longer is tried again until broker_timeout_s.
            "request_timeout_ms": 20_000,
            **self.security,
        }

    def consumer(self, *topics: str, role: str, committed: bool = True, **more: Any) -> aiokafka.AIOKafkaConsumer:
        """A consumer, not started. Reads committed records only, unless `committed` is False."""
        return aiokafka.AIOKafkaConsumer(
            *topics,
            enable_auto_commit=False,
            isolation_level="read_committed" if committed else "read_uncommitted",
            # librdkafka's mock writes control batches with a bad CRC.
            check_crcs=not self.embedded,
            max_partition_fetch_bytes=self.fetch_bytes,
            **(self.client(role) | more),
        )

    def producer(self, *, role: str, transactional_id: str) -> aiokafka.AIOKafkaProducer:
        """A transactional producer, not started. linger 0: a transaction is a batch already."""
        return aiokafka.AIOKafkaProducer(
            transactional_id=transactional_id,
            # Longer than we wait for the broker: a transaction outlives any outage that the worker survives.
            transaction_timeout_ms=int(self.broker_timeout_s * 1000) + 30_000,
            max_batch_size=900_000,
            max_request_size=16_000_000,
            linger_ms=0,
            **self.client(role),
        )
