"""Whether an input is the log that was read, or another one of its name: milestones are looked up, never applied.

Looked at when a task is restored, and every few seconds while it works: a topic that is deleted, made anew and filled
past the position between two fetches would otherwise be read on as if nothing had happened. What was counted of it by
then cannot be taken back; the older milestones still tell, so that no restart goes on either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

import aiokafka
from aiokafka import TopicPartition

from schemas.errors import PositionLost
from streamer.core.milestones import Milestone, milestone
from streamer.kafka.reading import ends_of, open_reader, read_between
from streamer.kafka.settings import KafkaSettings

#: A milestone is one record: no more than its own batch need come. A larger batch comes all the same.
_FETCH_BYTES = 64_000
#: What an operator is told of a log that is not the one that was read.
ANOTHER_LOG = "this is not the log that was read; was the topic made anew? Then start a new `kafka.app`"


async def refuse_others(
    settings: KafkaSettings, role: str, milestones: Mapping[TopicPartition, Sequence[Milestone]]
) -> None:
    """`PositionLost` when at a milestone of one of the logs another record lies now than was read there."""
    if not any(milestones.values()):
        return
    # Uncommitted: a crash of the broker may set the stable end back for a while.
    async with open_reader(replace(settings, fetch_bytes=_FETCH_BYTES), role, committed=False) as raw:
        for at, other in (await others(raw, milestones, stall_s=settings.broker_timeout_s)).items():
            raise stranger(at, other)


def stranger(at: TopicPartition, other: Milestone) -> PositionLost:
    """The error that names the place.

    >>> print(stranger(TopicPartition("predictions", 3), Milestone(7, 0)))  # doctest: +ELLIPSIS
    predictions/3: at 7 lies another record than was read there: this is not the log that was read; was the topic ...
    """
    place = f"{at.topic}/{at.partition}: at {other.offset}"
    return PositionLost(f"{place} lies another record than was read there: {ANOTHER_LOG}")


async def others(
    reader: aiokafka.AIOKafkaConsumer,
    milestones: Mapping[TopicPartition, Sequence[Milestone]],
    *,
    stall_s: float,
) -> dict[TopicPartition, Milestone]:
    """The first milestone of each log at which another record lies now; a log that is what it was is left out.

    What retention or compaction took says nothing, nor what lies past the log's end: a fetch from there fails by
    itself.
    """
    places = [at for at, known in milestones.items() if known]
    begins, ends = await reader.beginning_offsets(places), await ends_of(reader, places)
    there = {at: [one for one in milestones[at] if begins[at] <= one.offset < ends[at]] for at in places}
    found: dict[TopicPartition, Milestone] = {}
    for row in zip_longest(*there.values()):
        wanted = {at: one for at, one in zip(there, row, strict=True) if one is not None and at not in found}
        bounds = {at: (one.offset, one.offset + 1) for at, one in wanted.items()}
        async for at, records in read_between(reader, bounds, stall_s=stall_s):
            for record in records:
                if record.offset == wanted[at].offset and milestone(record) != wanted[at]:
                    found[at] = wanted[at]
    return found
