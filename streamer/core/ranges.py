"""Do the records of a source join? The second line of defence of exactness, behind Kafka's transactions.

Why: a broker that is killed can make an old transaction visible again (DESIGN 2, trap 1), and a stage-1 task that was
restored wrongly would count a range twice or not at all. Each record says which input range it covers; here the ranges
must join. What comes twice is dropped and counted; whatever else does not fit stops the worker.
"""

from __future__ import annotations

import msgspec

from schemas.errors import ProtocolBroken
from schemas.profiles import Delta, Progress


class Source(msgspec.Struct):
    """Where a source stands, and what it said last.

    begin, end, part, parts, seq: of its last record. spoke_at: append time of that. caught_up: as of its last progress.
    stalled: it has been announced as silent. said: maxima by model that hold once the transaction's last part is here:
    a pane must not close on the word of the first part while its rows are in the second.
    """

    begin: int
    end: int
    part: int
    parts: int
    seq: int
    spoke_at: int
    caught_up: bool = False
    stalled: bool = False
    said: dict[str, int] = {}

    @property
    def complete(self) -> bool:
        """All parts of its last transaction are here."""
        return self.part == self.parts - 1


def joins(source: Source | None, record: Delta | Progress) -> bool:
    """True when `record` is the next of its source, False when all of it was here before.

    A source that was never seen may begin anywhere. Raises `ProtocolBroken` on a gap or an overlap.

    >>> first = Progress(source=0, begin=0, end=5, part=0, parts=1, seq=1, caught_up=False, maxima={})
    >>> here = Source(begin=0, end=5, part=0, parts=1, seq=1, spoke_at=0)
    >>> joins(None, first), joins(here, first)
    (True, False)
    """
    if source is None:
        return True
    same_range = (record.begin, record.end, record.parts) == (source.begin, source.end, source.parts)
    if record.seq == source.seq and same_range:
        if record.part <= source.part:
            return False
        if record.part == source.part + 1:
            return True
    if record.seq > source.seq and record.begin == source.end and record.part == 0 and source.complete:
        return True
    if record.seq < source.seq and record.end <= source.end:
        return False
    raise ProtocolBroken(
        f"source {record.source}: range [{record.begin}, {record.end}) part {record.part + 1} of {record.parts}, "
        f"sequence {record.seq}, does not join [{source.begin}, {source.end}) part {source.part + 1} of "
        f"{source.parts}, sequence {source.seq}"
    )


def taken(source: Source | None, record: Delta | Progress, *, append_ts: int) -> Source:
    """The source after `record`."""
    said = record.caught_up if isinstance(record, Progress) else bool(source and source.caught_up)
    return Source(
        begin=record.begin,
        end=record.end,
        part=record.part,
        parts=record.parts,
        seq=record.seq,
        spoke_at=append_ts,
        caught_up=said,
        said={} if source is None else source.said,
    )
