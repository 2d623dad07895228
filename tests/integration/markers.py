"""Log segments of a stopped broker, read and cut byte by byte: a crash that loses a transaction's marker, made at will.

Layout: Kafka protocol, "Record Batch" of magic 2; the markers are batches of one record whose key ends in their kind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Base offset, length of what follows, leader epoch, magic, CRC, attributes.
_HEAD = struct.Struct(">qiibIh")
_UNTIL_LENGTH, _CONTROL = 12, 0x20
#: Of a batch's own fields until its first record, and of a marker's record until the kind in its key.
_FIELDS, _KIND = 61, 7
COMMIT = 1


class Batch(NamedTuple):
    """A batch in a segment. at: its first byte; marker: 0 an abort, 1 a commit, None: records."""

    at: int
    offset: int
    marker: int | None


def batches(segment: Path) -> Iterator[Batch]:
    """Batches of a segment, to the last whole one."""
    raw, at = segment.read_bytes(), 0
    while at + _FIELDS <= len(raw):
        offset, length, _, _, _, attributes = _HEAD.unpack_from(raw, at)
        if length <= 0 or at + _UNTIL_LENGTH + length > len(raw):
            return
        marker = struct.unpack_from(">h", raw, at + _FIELDS + _KIND)[0] if attributes & _CONTROL else None
        yield Batch(at, offset, marker)
        at += _UNTIL_LENGTH + length


def lose_last_commit(data: Path, topic: str, partition: int) -> bool:
    """Cut a stopped broker's log before its last commit marker; False when it has none.

    Records behind it, which nobody has committed, go with it: nobody may be about to commit them any more.
    """
    segment = max((data / f"{topic}-{partition}").glob("*.log"))
    markers = [batch for batch in batches(segment) if batch.marker == COMMIT]
    if markers:
        with segment.open("r+b") as log:
            log.truncate(markers[-1].at)
    return bool(markers)
