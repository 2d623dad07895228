"""What a command has committed is seen to show before the command says so; what a crash hides is written again.

A worker looks when it restores (mending.py). A command has no restore: it ends, and nobody comes after it who would
know what it wrote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import aiokafka
from aiokafka import TopicPartition

from schemas.errors import BrokerUnavailable
from streamer.core.records import Record
from streamer.kafka.mending import Mark, mark_of, read_marked
from streamer.kafka.reading import ends_of
from streamer.kafka.transactions import Ledger

log = logging.getLogger(__name__)

#: How often what is hidden is written again: each time the broker has crashed once more.
_TRIES = 3


async def show_all(
    ledger: Ledger,
    raw: aiokafka.AIOKafkaConsumer,
    stable: aiokafka.AIOKafkaConsumer,
    begins: Mapping[TopicPartition, int],
    *,
    patience_s: float,
) -> int:
    """See that all shows that `ledger` has committed since `begins`; how many records had to be written again.

    raw, stable: an uncommitted and a committed reader. begins: ends of the logs before the first of it. What hangs for
    `patience_s` is ended by an aborted transaction of the same writer. `BrokerUnavailable` when others hide it, or when
    it does not show in the end.
    """
    again = 0
    for _ in range(_TRIES):
        own = await _own(raw, begins, ledger.task, stall_s=patience_s)
        last = {at: max(record.offset for record in records) for at, records in own.items() if records}
        if behind := await _behind(stable, last, patience_s=patience_s):
            barrier = await ledger.abort_everywhere(list(behind))
            if behind := await _behind(stable, barrier, patience_s=patience_s):
                named = ", ".join(sorted(f"{at.topic}/{at.partition}" for at in behind))
                raise BrokerUnavailable(
                    f"all was written and committed; another writer's open transaction hides the end of {named}, so "
                    "whether it shows could not be seen. `tripline doctor` says whether that transaction hangs"
                )
        shown = await _own(stable, begins, ledger.task, stall_s=patience_s)
        hidden = [
            record
            for at, records in own.items()
            for mark, record in _by_mark(records).items()
            if mark not in _by_mark(shown[at])
        ]
        if not hidden:
            return again
        log.warning("a crash of the broker hid %d committed records: written again", len(hidden))
        await ledger.write_again(hidden)
        again += len(hidden)
    raise BrokerUnavailable(f"{len(hidden)} records that were committed do not show, though written again and again")


def _by_mark(records: list[Record]) -> dict[Mark, Record]:
    """The first of each, in order: those after it are copies."""
    found: dict[Mark, Record] = {}
    for record in records:
        if (mark := mark_of(record)) is not None:
            found.setdefault(mark, record)
    return found


async def _own(
    reader: aiokafka.AIOKafkaConsumer, begins: Mapping[TopicPartition, int], task: str, *, stall_s: float
) -> dict[TopicPartition, list[Record]]:
    ends = await ends_of(reader, list(begins))
    bounds = {at: (begin, ends[at]) for at, begin in begins.items()}
    return await read_marked(reader, bounds, {at: [task] for at in begins}, stall_s=stall_s)


async def _behind(
    stable: aiokafka.AIOKafkaConsumer, last: Mapping[TopicPartition, int], *, patience_s: float
) -> dict[TopicPartition, int]:
    """Of the logs those whose stable end has not passed an offset after so long."""
    clock = asyncio.get_running_loop().time
    behind, deadline = dict(last), clock() + patience_s
    while behind:
        ends = await ends_of(stable, list(behind))
        behind = {at: offset for at, offset in behind.items() if ends[at] <= offset}
        if not behind or clock() > deadline:
            break
        await asyncio.sleep(0.05)
    return behind
