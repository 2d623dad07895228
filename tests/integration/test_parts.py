"""The real parts themselves: they start, keep their data over a kill, and end."""

from __future__ import annotations

from brokers import Alertmanager, Kafka, eventually
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic


def read_all(kafka: Kafka, topic: str, *, n: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values: list[bytes] = []

    def look() -> bool:
        record = consumer.poll(0.5)
        if record is not None and record.error() is None:
            values.append(record.value())
        return len(values) >= n

    eventually(look)
    consumer.close()
    return values


def test_the_broker_keeps_what_it_has_over_a_kill(own_kafka: Kafka, prefix: str) -> None:
    """Same address, same data: what the crash tests rely on."""
    topic = prefix + "kept"
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": own_kafka.bootstrap})
    producer.produce(topic, b"before")
    producer.flush(10)
    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()
    producer.produce(topic, b"after")
    producer.flush(20)
    assert read_all(own_kafka, topic, n=2) == [b"before", b"after"]


def test_a_fresh_alertmanager_holds_nothing(alertmanager: Alertmanager) -> None:
    assert alertmanager.alerts() == []
    assert alertmanager.amtool("alert", "query", "-o", "json").strip() == "[]"
