"""Read a topic of ours outside of any task, for people and scripts: from a time on, to its end or for ever.

Nothing here takes part in a worker's groups or transactions; readers see committed records only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import aiokafka
from aiokafka.errors import KafkaError

from schemas.errors import ConfigurationError
from streamer.core.records import Output, Record
from streamer.kafka.refusals import explained
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import partition_counts

Since = Literal["earliest", "latest"] | int
_POLL_MS = 500


async def history(settings: KafkaSettings, *logical: str, since: Since = "earliest") -> list[Record]:
    """Records of topics from `since` to their end as it is now, in the order of their times."""
    async with _opened(settings, logical) as consumer:
        await _seek(consumer, since)
        return await _to_end(consumer)


async def retained(
    settings: KafkaSettings, logical: str, *, partition: int, since: Since = "earliest"
) -> AsyncGenerator[list[Record], None]:
    """What one partition still holds from `since` to its end as it is now, in its order, some records at a time."""
    place = aiokafka.TopicPartition(settings.topic(logical), partition)
    if place not in await _places(settings, [logical]):
        raise ConfigurationError(f"{place.topic} has no partition {partition}")
    async with _started(settings, settings.consumer(role="tail")) as consumer:
        consumer.assign([place])
        await _seek(consumer, since)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            if records := await _poll(consumer):
                yield records


async def follow(settings: KafkaSettings, *logical: str, since: Since = "latest") -> AsyncGenerator[Record, None]:
    """Records of topics from `since` on, those that are there in the order of their times, then as they come."""
    async with _opened(settings, logical) as consumer:
        await _seek(consumer, since)
        for record in await _to_end(consumer):
            yield record
        while True:
            for record in await _poll(consumer):
                yield record


async def follow_as(
    settings: KafkaSettings, *logical: str, group: str, since: Since = "latest"
) -> AsyncGenerator[Record, None]:
    """Records of topics after those that `group` has done; the first time, from `since` on.

    A record counts as done when the next one is asked for: whoever stops before, sees it again (at least once). One
    reader per group: two would both see everything.
    """
    places = await _places(settings, logical)
    async with _started(settings, settings.consumer(role=group, group_id=group, auto_offset_reset="none")) as consumer:
        consumer.assign(places)
        done = {place: await consumer.committed(place) for place in places}
        await _seek(consumer, since, only=[place for place in places if done[place] is None])
        for place, offset in done.items():
            if offset is not None:
                consumer.seek(place, offset)
        # The place to begin is kept at once: nothing that comes while we are away is missed.
        await consumer.commit({place: await consumer.position(place) for place in places})
        while True:
            for record in await _poll(consumer):
                yield record
                place = aiokafka.TopicPartition(record.topic, record.partition)
                await consumer.commit({place: record.offset + 1})


async def publish(settings: KafkaSettings, outputs: Sequence[Output]) -> None:
    """Send records, all acknowledged by every in-sync replica when this returns."""
    producer = aiokafka.AIOKafkaProducer(**settings.client("publish"), acks="all", enable_idempotence=True)
    try:
        await producer.start()
        for output in outputs:
            await producer.send_and_wait(
                settings.topic(output.topic),
                output.value,
                key=output.key,
                partition=output.partition,
                headers=list(output.headers),
            )
    except KafkaError as error:
        raise explained("", error, settings) from error
    finally:
        await producer.stop()


@asynccontextmanager
async def _opened(settings: KafkaSettings, logical: Sequence[str]) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    places = await _places(settings, logical)
    async with _started(settings, settings.consumer(role="tail")) as consumer:
        consumer.assign(places)
        yield consumer


@asynccontextmanager
async def _started(
    settings: KafkaSettings, consumer: aiokafka.AIOKafkaConsumer
) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise explained("", error, settings) from error
    finally:
        await consumer.stop()


async def _places(settings: KafkaSettings, logical: Sequence[str]) -> list[aiokafka.TopicPartition]:
    there = await partition_counts(settings)
    names = [settings.topic(name) for name in logical]
    missing = [name for name in names if name not in there]
    if missing:
        raise ConfigurationError(f"no topic {', '.join(missing)}; make it with `tripline topics create`")
    return [aiokafka.TopicPartition(name, number) for name in names for number in range(there[name])]


async def _seek(
    consumer: aiokafka.AIOKafkaConsumer, since: Since, *, only: Sequence[aiokafka.TopicPartition] | None = None
) -> None:
    places = sorted(consumer.assignment()) if only is None else list(only)
    if not places:
        return
    ends = await consumer.end_offsets(places)
    if since == "latest":
        starts = ends
    elif since == "earliest":
        starts = await consumer.beginning_offsets(places)
    else:
        found = await consumer.offsets_for_times(dict.fromkeys(places, since))
        starts = {place: at.offset if at is not None else ends[place] for place, at in found.items()}
    for place in places:
        consumer.seek(place, starts[place])


async def _to_end(consumer: aiokafka.AIOKafkaConsumer) -> list[Record]:
    ends = await consumer.end_offsets(sorted(consumer.assignment()))
    found: list[Record] = []
    # Positions, not the offsets of records: a transaction's marker is the last thing in a log.
    while any([await consumer.position(place) < end for place, end in ends.items()]):
        found += await _poll(consumer)
    return sorted(found, key=lambda record: (record.timestamp, record.partition, record.offset))


async def _poll(consumer: aiokafka.AIOKafkaConsumer) -> list[Record]:
    polled = await consumer.getmany(timeout_ms=_POLL_MS)
    return [record for place in sorted(polled) for record in polled[place]]
