"""The last records of a topic, for a look at how they were spread over its partitions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from aiokafka import TopicPartition

from streamer.copartition import Sampled, apart, misplaced, spread_of
from streamer.kafka.settings import KafkaSettings

_POLL_MS = 500


async def sampled(settings: KafkaSettings, topic: str, partitions: int, *, each: int = 100) -> list[Sampled]:
    """The last `each` records of each partition, as far as they can be had within a second without news."""
    reader = settings.consumer(role="check", auto_offset_reset="earliest", fetch_max_wait_ms=100)
    await reader.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        reader.assign(places)
        begins, ends = await asyncio.gather(reader.beginning_offsets(places), reader.end_offsets(places))
        for place in places:
            reader.seek(place, max(begins[place], ends[place] - each))
        found: list[Sampled] = []
        while True:
            got = await reader.getmany(timeout_ms=_POLL_MS)
            records = [record for of_place in got.values() for record in of_place]
            found += [Sampled(record.key, record.partition, _id_of(record.value)) for record in records]
            positions = [await reader.position(place) for place in places]
            if not records or all(at >= ends[place] for place, at in zip(places, positions, strict=True)):
                return found
    finally:
        await reader.stop()


async def copartition_findings(settings: KafkaSettings, there: Mapping[str, int]) -> list[str]:
    """Why outcomes may not meet their predictions, in words; `there`: partitions by topic."""
    names = [settings.inputs.get(name, "") for name in ("predictions", "outcomes")]
    if any(name not in there for name in names):
        return []
    samples = [await sampled(settings, name, there[name]) for name in names]
    predictions, outcomes = (spread_of(name, there[name], sample) for name, sample in zip(names, samples, strict=True))
    if predictions.partitions == outcomes.partitions and not all(samples):
        return []
    found = misplaced(predictions, outcomes)
    wrong, both = apart(*samples)
    if wrong:
        found.append(
            f"of {both} ids that are among the last records of {names[0]} and {names[1]}, {wrong} lie in different "
            "partitions: they are not joined"
        )
    return found


def _id_of(value: bytes | None) -> str:
    """The id in one of our own events; "" in anything else."""
    try:
        event = json.loads(value or b"")
    except ValueError:
        return ""
    found = event.get("id") if isinstance(event, dict) else None
    return str(found) if isinstance(found, str | int) else ""
