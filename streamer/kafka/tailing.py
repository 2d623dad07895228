"""Read a topic of ours outside of any task, for people and scripts: from a time on, to its end or for ever.

Nothing here takes part in a worker's groups or transactions; readers see committed records only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
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
    async with _opened(settings, logical, since) as consumer:
        return await _to_end(consumer)


async def retained(
    settings: KafkaSettings, logical: str, *, partition: int, since: Since = "earliest"
) -> AsyncGenerator[list[Record], None]:
    """What one partition still holds from `since` to its end as it is now, in its order, some records at a time."""
    place = aiokafka.TopicPartition(settings.topic(logical), partition)
    if place not in await _places(settings, [logical]):
        raise ConfigurationError(f"{place.topic} has no partition {partition}")
    async with _started(settings, _reader(settings)) as consumer:
        _begin(consumer, await _starts(consumer, [place], since))
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            if records := await _poll(consumer):
                yield records


async def follow(settings: KafkaSettings, *logical: str, since: Since = "latest") -> AsyncGenerator[Record, None]:
    """Records of topics from `since` on, those that are there in the order of their times, then as they come."""
    async with _opened(settings, logical, since) as consumer:
        for record in await _to_end(consumer):
            yield record
        while True:
            for record in await _poll(consumer):
                yield record


async def follow_as(
    settings: KafkaSettings, *logical: str, group: str, since: Since = "latest", to_end: bool = False
) -> AsyncGenerator[Record, None]:
    """Records of topics after those that `group` has done; the first time, from `since` on.

    A record counts as done when the next one is asked for: whoever stops before, sees it again (at least once). One
    reader per group: two would both see everything. to_end: to their end as it is now, not for ever.
    """
    places = await _places(settings, logical)
    async with _started(settings, settings.consumer(role=group, group_id=group, auto_offset_reset="none")) as consumer:
        consumer.assign(places)
        done = {place: await consumer.committed(place) for place in places}
        fresh = await _starts(consumer, [place for place in places if done[place] is None], since)
        for place in places:
            consumer.seek(place, fresh[place] if place in fresh else done[place])
        # The place to begin is kept at once: nothing that comes while we are away is missed.
        await consumer.commit({place: await consumer.position(place) for place in places})
        ends = await consumer.end_offsets(places) if to_end else {}
        while not to_end or any([await consumer.position(place) < end for place, end in ends.items()]):
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


def _reader(settings: KafkaSettings) -> aiokafka.AIOKafkaConsumer:
    # Each topic that it hears of for the first time costs one of these waits.
    return settings.consumer(role="tail", retry_backoff_ms=10)


@asynccontextmanager
async def _opened(
    settings: KafkaSettings, logical: Sequence[str], since: Since
) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    places = await _places(settings, logical)
    async with _started(settings, _reader(settings)) as consumer:
        _begin(consumer, await _starts(consumer, places, since))
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


async def _starts(
    consumer: aiokafka.AIOKafkaConsumer, places: Sequence[aiokafka.TopicPartition], since: Since
) -> dict[aiokafka.TopicPartition, int]:
    """Where to read from, by partition."""
    if not places:
        return {}
    if since == "earliest":
        begins: dict[aiokafka.TopicPartition, int] = await consumer.beginning_offsets(list(places))
        return begins
    ends: dict[aiokafka.TopicPartition, int] = await consumer.end_offsets(list(places))
    if since == "latest":
        return ends
    found = await consumer.offsets_for_times(dict.fromkeys(places, since))
    return {place: at.offset if at is not None else ends[place] for place, at in found.items()}


def _begin(consumer: aiokafka.AIOKafkaConsumer, starts: Mapping[aiokafka.TopicPartition, int]) -> None:
    """Read from there. At once after `assign`: a fetch from elsewhere would be waited for, half a second."""
    consumer.assign(list(starts))
    for place, offset in starts.items():
        consumer.seek(place, offset)


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
