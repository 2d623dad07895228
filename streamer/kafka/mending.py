"""What a broker's crash left half visible is written again: of a transaction, readers get to see all or nothing.

Why: the markers that end a transaction are written partition by partition, after the commit was decided. A broker that
dies meanwhile writes the rest when it is back; but one that is alone (Kafka 4.3.1) passes over partitions that its
metadata does not hold yet: "likely deleted already and hence can be skipped", says its log. The records of these stay
open until the barrier, or the broker itself when it fences, aborts them; the rest of their transaction shows. DESIGN 2
knows of transactions that lost all their markers (trap 1, by the same line), for which the barrier is enough.

How: every record carries a mark: who wrote it, in the how manieth transaction of his, as which record of it. An owner
of a task begins a transaction when the one before was decided. So, once nothing is open any more: every transaction of
an owner up to the last of which anything shows was committed, and what is in the logs of them and does not show is
written again, in its order, into its own partition, under its own mark. What an owner wrote after that shows nowhere,
to nobody: it stays away, and its input is read again. A repair that is cut short is itself such a transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import aiokafka
from aiokafka import TopicPartition

from streamer.core.records import Record
from streamer.kafka.reading import read_between

log = logging.getLogger(__name__)

#: Header that carries a record's mark.
MARK_HEADER = "tripline-transaction"
#: How far back from its end a log is looked at first, how much further each time, and how far for a task of which
#: nothing shows anywhere: a new `kafka.app` would read all that others ever wrote there.
_FIRST, _FURTHER, _FURTHEST = 16, 16, 1_000_000


class Mark(NamedTuple):
    """Place of a record among what a task wrote. owner: who has the task, while he has it; number, place: from 0."""

    task: str
    owner: str
    number: int
    place: int

    def encode(self) -> bytes:
        """As in the header.

        >>> Mark("tripline.profiling.3", "5f3a1b", 12, 0).encode()
        b'tripline.profiling.3|5f3a1b|12|0'
        """
        return "|".join(map(str, self)).encode()


def mark_of(record: Record) -> Mark | None:
    """The mark of a record; None when it has none, as what was not written by a task.

    >>> from streamer.core.records import PlainRecord
    >>> record = PlainRecord("windows", 0, 0, 0, None, None, [(MARK_HEADER, b"tripline.profiling.3|5f3a1b|12|0")])
    >>> mark_of(record)
    Mark(task='tripline.profiling.3', owner='5f3a1b', number=12, place=0)
    """
    for name, raw in record.headers:
        if name == MARK_HEADER:
            task, owner, number, place = raw.decode().rsplit("|", 3)
            return Mark(task, owner, int(number), int(place))
    return None


@dataclass
class Tail:
    """The end of one log, as far as it was looked at: records that are there, aborted ones too, and which of them show.

    begin: from where on it was read.
    """

    begin: int
    records: list[Record] = field(default_factory=list)
    visible: set[int] = field(default_factory=set)

    def shows(self, task: str) -> bool:
        """True when something that the task wrote shows: all that it committed before that shows too."""
        marks = (mark_of(record) for record in self.records if record.offset in self.visible)
        return any(mark is not None and mark.task == task for mark in marks)


def lacking(tails: Iterable[Tail], task: str) -> list[Record]:
    """What `task` has to write again, log by log, in order.

    >>> from streamer.core.records import PlainRecord
    >>> def wrote(topic, offset, mark):
    ...     return PlainRecord(topic, 0, offset, 0, None, mark.encode(), [(MARK_HEADER, mark.encode())])
    >>> position, window = wrote("changelog", 7, Mark("t", "a", 4, 1)), wrote("windows", 2, Mark("t", "a", 4, 0))
    >>> undecided = wrote("windows", 5, Mark("t", "a", 5, 0))
    >>> tails = [Tail(0, [position], {7}), Tail(0, [window, undecided])]
    >>> [record.value for record in lacking(tails, "t")]
    [b't|a|4|0']
    """
    there: list[dict[Mark, Record]] = []
    shown: list[set[Mark]] = []
    committed: dict[str, int] = {}
    for tail in tails:
        marked = [(mark, one) for one in tail.records if (mark := mark_of(one)) is not None and mark.task == task]
        # A repair that was cut short has left copies: the first of each will do.
        there.append({mark: one for mark, one in reversed(marked)})
        shown.append({mark for mark, one in marked if one.offset in tail.visible})
        for mark in shown[-1]:
            committed[mark.owner] = max(mark.number, committed.get(mark.owner, -1))
    return [
        log[mark]
        for log, visible in zip(there, shown, strict=True)
        for mark in sorted(log, key=lambda mark: log[mark].offset)
        if mark not in visible and mark.number <= committed.get(mark.owner, -1)
    ]


async def read_tails(
    raw: aiokafka.AIOKafkaConsumer,
    stable: aiokafka.AIOKafkaConsumer,
    ends: Mapping[TopicPartition, int],
    writers: Mapping[TopicPartition, Sequence[str]],
    *,
    stall_s: float,
) -> dict[TopicPartition, Tail]:
    """The logs from their `ends` back to where each of the tasks that write there has something that shows.

    raw, stable: an uncommitted and a committed reader. Nothing before `ends` may be open any more. A log in which a
    task has nothing that shows is read from its start; or its last million offsets, where nothing of that task shows
    in any of the logs: it has never committed anything, or its first transaction alone. Only what these tasks wrote is
    kept.
    """
    begins = await raw.beginning_offsets(list(ends))
    tails = {at: Tail(end) for at, end in ends.items()}
    step, open_ = _FIRST, set(ends)
    while open_:
        bounds = {at: (max(begins[at], ends[at] - step), tails[at].begin) for at in open_}
        records, shown = await asyncio.gather(
            read_marked(raw, bounds, writers, stall_s=stall_s), read_marked(stable, bounds, writers, stall_s=stall_s)
        )
        for at, (begin, _) in bounds.items():
            tail = tails[at]
            tail.begin = begin
            tail.records[:0] = records[at]
            tail.visible |= {record.offset for record in shown[at]}
        known = {task for at, tail in tails.items() for task in writers[at] if tail.shows(task)}
        for at in list(open_):
            lacking_there = [task for task in writers[at] if not tails[at].shows(task)]
            if tails[at].begin <= begins[at] or not lacking_there:
                open_.discard(at)
            elif step >= _FURTHEST:
                place, looked = f"{at.topic}/{at.partition}", ends[at] - tails[at].begin
                if known.isdisjoint(lacking_there):
                    log.info("%s: nothing of %s in the last %d offsets, nor elsewhere", place, lacking_there, looked)
                    open_.discard(at)
                else:
                    log.warning("%s: nothing of %s in the last %d offsets: reads on", place, lacking_there, looked)
        step *= _FURTHER
    return tails


async def read_marked(
    reader: aiokafka.AIOKafkaConsumer,
    bounds: Mapping[TopicPartition, tuple[int, int]],
    writers: Mapping[TopicPartition, Sequence[str]],
    *,
    stall_s: float,
) -> dict[TopicPartition, list[Record]]:
    """What the tasks `writers` of each log wrote there between its `bounds`."""
    found: dict[TopicPartition, list[Record]] = {at: [] for at in bounds}
    async for at, records in read_between(reader, bounds, stall_s=stall_s):
        found[at] += [one for one in records if (mark := mark_of(one)) is not None and mark.task in writers[at]]
    return found
