"""Deltas and progress: the wire between the two stages. All numbers are integers; everything adds, but extremes.

A record of `profiles` is msgpack of one of the two tagged structs below. Ranges are in units of *input position*: the
sum of the next offsets of the source's inputs. The records that one source writes to one `profiles` partition join:
each begins where the one before ended, and the parts of one transaction count `part` up to `parts - 1`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.errors import FormatError

Ints: TypeAlias = npt.NDArray[np.int64]

#: 2: rows of marginal tables.
PROFILES_FORMAT = 2
DISTRIBUTION, OUTCOME = 0, 1

_LIMITS = np.array([1 << (7 * k) for k in range(1, 10)], dtype=np.uint64)


class DeltaRow(msgspec.Struct, array_like=True, frozen=True):
    """Which (pane, cell) a row of a delta's table belongs to. late: decided by the source, per record (DESIGN 3).

    marginal: the column whose table it is a row of, `segment` its one value; "" for a row of the cells. A row of a
    marginal table holds events that the rows of the cells hold too: they are no further events.
    """

    pane: int
    version: str
    segment: tuple[str, ...]
    late: bool = False
    marginal: str = ""


class Extra(msgspec.Struct, array_like=True, frozen=True):
    """A named count beside the table (`unseen` level, `unknown` feature, `wrong_type`); the 64 smallest by hash.

    `folded`: events of the row's pane whose value in column `feature` was one of too many for one delta.
    """

    row: int
    kind: str
    feature: str
    name: str
    count: int


class Delta(msgspec.Struct, array_like=True, tag="d", tag_field="t"):
    """What one transaction of a stage-1 task counted for one model.

    body: `encode_sparse` of the rows' tables laid end to end, each `width` wide. extremes: `encode_ints` of
    (rows, numeric features, 2): least and largest fixed-point value, least > largest where there was none.
    max_ts: running maximum of the model's accepted timestamps at this source, after this delta.
    """

    source: int
    begin: int
    end: int
    part: int
    parts: int
    seq: int
    model: str
    layout: str
    max_ts: int
    width: int
    rows: list[DeltaRow]
    body: bytes
    extremes: bytes = b""
    extras: list[Extra] = []
    kind: int = DISTRIBUTION
    format: int = PROFILES_FORMAT


class Progress(msgspec.Struct, array_like=True, tag="p", tag_field="t"):
    """What a source says to every `profiles` partition at least once a second.

    caught_up: it had read to the end of its inputs. maxima: running maximum per model of that partition.
    """

    source: int
    begin: int
    end: int
    part: int
    parts: int
    seq: int
    caught_up: bool
    maxima: dict[str, int]
    format: int = PROFILES_FORMAT


_decoder = msgspec.msgpack.Decoder(Delta | Progress)
_encoder = msgspec.msgpack.Encoder()


def encode(record: Delta | Progress) -> bytes:
    """Bytes of a record of the `profiles` topic."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Delta | Progress:
    """Record of the `profiles` topic; `FormatError` when damaged or newer than this code."""
    try:
        record: Delta | Progress = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"profiles record: {error}") from error
    if record.format > PROFILES_FORMAT:
        raise FormatError(f"profiles record of format {record.format}; this worker reads up to {PROFILES_FORMAT}")
    return record


def encode_ints(values: Ints) -> bytes:
    """Zigzag LEB128 of signed integers, in order.

    >>> encode_ints(np.array([0, -1, 1, 300])).hex()
    '000102d804'
    """
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    return _encode_unsigned(zigzag)


def decode_ints(raw: bytes) -> Ints:
    """Inverse of `encode_ints`.

    >>> decode_ints(bytes.fromhex("000102d804"))
    array([  0,  -1,   1, 300])
    """
    unsigned = _decode_unsigned(raw)
    return (unsigned >> np.uint64(1)).view(np.int64) ^ -(unsigned & np.uint64(1)).view(np.int64)


def encode_sparse(flat: Ints) -> bytes:
    """A mostly empty vector: count of entries, gaps between their indices, their values.

    >>> encode_sparse(np.array([0, 0, 5, 0, -2])).hex()
    '0202010a03'
    """
    index = np.flatnonzero(flat)
    values = flat[index]
    head = np.array([index.size], dtype=np.uint64)
    gaps = np.diff(index, prepend=-1) - 1
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    return _encode_unsigned(np.concatenate([head, gaps.astype(np.uint64), zigzag]))


def decode_sparse(raw: bytes) -> tuple[Ints, Ints]:
    """Indices (strictly ascending) and values of `encode_sparse`; `FormatError` when damaged.

    >>> decode_sparse(bytes.fromhex("0202010a03"))
    (array([2, 4]), array([ 5, -2]))
    """
    unsigned = _decode_unsigned(raw)
    count = int(unsigned[0]) if unsigned.size else -1
    if unsigned.size != 2 * count + 1:
        raise FormatError(f"sparse vector: {unsigned.size} numbers for {count} entries")
    index = np.cumsum(unsigned[1 : count + 1].view(np.int64) + 1) - 1
    zigzag = unsigned[count + 1 :]
    return index, (zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)


def _encode_unsigned(values: npt.NDArray[np.uint64]) -> bytes:
    if values.size == 0:
        return b""
    if values.max() < 128:
        return values.astype(np.uint8).tobytes()
    large = np.flatnonzero(values >= 128)  # few: counts are small
    size = np.searchsorted(_LIMITS, values[large], side="right") + 1
    extra = np.zeros(values.size, dtype=np.int64)
    extra[large] = size - 1
    ends = np.cumsum(extra + 1)
    starts = ends - extra - 1
    out = np.empty(int(ends[-1]), dtype=np.uint8)
    out[starts] = values.astype(np.uint8) & 0x7F
    at, rest, left = starts[large], values[large], size - 1
    for _ in range(int(left.max())):
        out[at] |= 0x80
        at, rest = at + 1, rest >> np.uint64(7)
        out[at] = rest.astype(np.uint8) & 0x7F
        left = left - 1
        more = left > 0
        at, rest, left = at[more], rest[more], left[more]
    return out.tobytes()


def _decode_unsigned(raw: bytes) -> npt.NDArray[np.uint64]:
    octets = np.frombuffer(raw, dtype=np.uint8)
    if octets.size == 0:
        return np.zeros(0, dtype=np.uint64)
    last = octets < 128
    if last.all():
        return octets.astype(np.uint64)
    if not last[-1]:
        raise FormatError("varint: the last number is cut")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(octets.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 9:
        raise FormatError("varint: a number of more than ten bytes")
    septets = (octets & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(septets, starts)
