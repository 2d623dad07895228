"""Topics from outside: write records, read a topic whole as a read_committed reader sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.core.records import PlainRecord

SECONDS = 30.0


def produce(
    bootstrap: str, topic: str, records: Sequence[tuple[int, bytes | None, bytes]], *, seconds: float = 0.0
) -> None:
    """Write (partition, key, value), evenly over `seconds`, and wait until the broker has them all."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "enable.idempotence": True, "log_level": 0})
    begun = time.monotonic()
    for i, (partition, key, value) in enumerate(records):
        if i % 100 == 0:
            producer.poll(0)
            time.sleep(max(0.0, begun + seconds * i / len(records) - time.monotonic()))
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(SECONDS) == 0


def read(bootstrap: str, topic: str) -> list[PlainRecord]:
    """Everything in a topic up to its end as it is now, committed only, by partition and offset."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        known = consumer.list_topics(topic, timeout=SECONDS).topics[topic]
        assert known.error is None, known.error
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in known.partitions])
        # Of a log that grows without a pause a reader is never told that it has come to the end.
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=SECONDS)[1] for p in known.partitions
        }
        found, at_end, trouble, reached = [], set[int](), None, time.monotonic()
        while len(at_end) < len(known.partitions):
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                if message.offset() < ends[message.partition()]:
                    found.append(_plain(message))
                if message.offset() + 1 >= ends[message.partition()]:
                    at_end.add(message.partition())
            elif message is not None and message.error().code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            else:
                # Any other error passes, or keeps the end away.
                trouble = trouble if message is None else message.error()
                assert time.monotonic() < reached + SECONDS, f"{topic}: no end within {SECONDS} s: {trouble}"
                continue
            reached = time.monotonic()
    finally:
        consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def partitions(bootstrap: str) -> dict[str, int]:
    """Partition counts of all topics."""
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=SECONDS).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _plain(message: Any) -> PlainRecord:
    return PlainRecord(
        message.topic(), message.partition(), message.offset(), message.timestamp()[1],
        message.key(), message.value(), tuple(message.headers() or ()),
    )  # fmt: skip
