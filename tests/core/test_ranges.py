"""The second line of defence of exactness: what joins, what came before, what stops the worker."""

from __future__ import annotations

import pytest

from schemas.errors import ProtocolBroken
from schemas.profiles import Progress
from streamer.core.ranges import Source, joins, taken

HERE = Source(begin=10, end=20, part=0, parts=1, seq=4, spoke_at=0)
FIRST_OF_TWO = Source(begin=10, end=20, part=0, parts=2, seq=4, spoke_at=0)


def said(begin: int, end: int, seq: int, part: int = 0, parts: int = 1) -> Progress:
    return Progress(source=0, begin=begin, end=end, part=part, parts=parts, seq=seq, caught_up=True, maxima={})


@pytest.mark.parametrize(
    ("before", "record", "expected"),
    [
        (None, said(700, 900, 30), True),
        (HERE, said(20, 30, 5), True),
        (HERE, said(20, 30, 9), True),
        (HERE, said(20, 20, 5), True),
        (HERE, said(10, 20, 4), False),
        (HERE, said(0, 10, 3), False),
        (HERE, said(10, 10, 3), False),
        (FIRST_OF_TWO, said(10, 20, 4, part=1, parts=2), True),
        (FIRST_OF_TWO, said(10, 20, 4, part=0, parts=2), False),
    ],
    ids=[
        "a source never seen may begin anywhere",
        "the next range",
        "sequences of a source may skip, for it does not write to every partition",
        "an empty range",
        "the same again",
        "an older one again",
        "an older empty one again",
        "the next part",
        "the same part again",
    ],
)
def test_a_record_is_the_next_or_came_before(before: Source | None, record: Progress, expected: bool) -> None:
    assert expected == joins(before, record)


@pytest.mark.parametrize(
    ("before", "record"),
    [
        (HERE, said(21, 30, 5)),
        (HERE, said(15, 30, 5)),
        (HERE, said(20, 30, 4)),
        (HERE, said(20, 30, 5, part=1, parts=2)),
        (FIRST_OF_TWO, said(20, 30, 5)),
        (HERE, said(10, 25, 4)),
    ],
    ids=[
        "a gap",
        "an overlap",
        "a sequence that does not grow",
        "a part without its first",
        "a transaction that was cut",
        "the same sequence with another range",
    ],
)
def test_whatever_else_stops_the_worker(before: Source, record: Progress) -> None:
    with pytest.raises(ProtocolBroken, match="does not join"):
        joins(before, record)


def test_caught_up_is_what_the_last_progress_said() -> None:
    assert taken(HERE, said(20, 30, 5), append_ts=7).caught_up
