"""Records of an input by which its log is known again: another log of the same name has others at these places.

Why: a topic that was deleted and made anew begins at offset 0. Where it has grown past a position, that position lies
within it, and says nothing. Kafka's topic ids would tell; no public name of our client shows them (aiokafka 0.14
speaks metadata up to version 5, ids came with 10).

The oldest milestone never goes: whenever a log was replaced, it is the one that is sure to be another record now. The
newest tells of a log that was put back from an older copy. Towards it they lie ever closer, six or seven in all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from streamer.core.records import Record

#: Of three in a row the middle one goes when the first is not so many times further back than the third.
_RATIO = 64


class Milestone(msgspec.Struct, array_like=True, frozen=True):
    """A record that was consumed: its offset, and 64 bits of its append time, key and value."""

    offset: int
    digest: int


def milestone(record: Record) -> Milestone:
    """What a record leaves behind. The append time is in it: a log that was written anew is another one.

    >>> from streamer.core.records import PlainRecord
    >>> one, other = (PlainRecord("predictions", 0, 7, at, None, b"{}") for at in (1_000, 1_001))
    >>> milestone(one).offset, milestone(one) == milestone(one), milestone(one) == milestone(other)
    (7, True, False)
    """
    key, value = record.key, record.value
    head = f"{record.timestamp}|{-1 if key is None else len(key)}|{-1 if value is None else len(value)}|"
    raw = b"".join((head.encode(), key or b"", value or b""))
    return Milestone(record.offset, int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big"))


def passed(milestones: Sequence[Milestone], record: Record) -> list[Milestone]:
    """Milestones, oldest first, with that of one more record; a few of those in between are gone.

    >>> from streamer.core.records import PlainRecord
    >>> found = []
    >>> for offset in range(0, 1_000_000, 100):
    ...     found = passed(found, PlainRecord("predictions", 0, offset, 0, None, b""))
    >>> [one.offset for one in found]
    [0, 817600, 986300, 998800, 999800, 999900]
    """
    found = [*milestones, milestone(record)]
    newest = record.offset
    at = 1
    while at < len(found) - 1:
        if newest - found[at - 1].offset < _RATIO * (newest - found[at + 1].offset):
            del found[at]
        else:
            at += 1
    return found
