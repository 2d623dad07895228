"""Real producers, real partitions: which topic's records lie where no outcome meets its prediction."""

from __future__ import annotations

import asyncio
import json

from brokers import Kafka
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streamer.kafka.key_samples import copartition_findings
from streamer.kafka.settings import KafkaSettings


def fill(kafka: Kafka, topic: str, *, partitioner: str) -> None:
    """200 records keyed by their ids, by librdkafka with one of its partitioners."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": partitioner})
    for i in range(200):
        producer.produce(topic, json.dumps({"id": f"id-{i}"}).encode(), f"id-{i}".encode())
    assert producer.flush(30) == 0


def findings(kafka: Kafka, predictions: str, outcomes: str) -> list[str]:
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, inputs={"predictions": predictions, "outcomes": outcomes}
    )
    return asyncio.run(copartition_findings(settings, {predictions: 4, outcomes: 4}))


def test_a_librdkafka_producer_beside_a_java_one_is_named(kafka: Kafka, prefix: str) -> None:
    """The default of librdkafka, `consistent_random`, hashes by CRC32; `murmur2_random` is what Java's does."""
    fill(kafka, prefix + "java", partitioner="murmur2_random")
    fill(kafka, prefix + "c", partitioner="consistent_random")
    hashed, apart = findings(kafka, prefix + "java", prefix + "c")
    assert hashed.startswith(f"{prefix}c is hashed by CRC32, {prefix}java by murmur2")
    assert hashed.endswith("set `partitioner=murmur2_random` on its librdkafka producer")
    assert apart.startswith("of 200 ids that are among the last records")


def test_two_producers_of_one_hash_are_left_alone(kafka: Kafka, prefix: str) -> None:
    fill(kafka, prefix + "p", partitioner="murmur2_random")
    fill(kafka, prefix + "o", partitioner="murmur2_random")
    assert findings(kafka, prefix + "p", prefix + "o") == []
