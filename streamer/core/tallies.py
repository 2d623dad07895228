"""Integer tables of cells: a delta's rows go in, a sum comes out, and at rest they are small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.profiles import NO_LARGEST, NO_LEAST
from schemas.errors import FormatError
from schemas.profiles import Delta, DeltaRow, decode_ints, decode_sparse, encode_ints, encode_sparse

Ints: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = npt.NDArray[np.uint64]
#: What a row is counted under: version, segment values; in a table of marginals version, (column, value).
Slot: TypeAlias = tuple[str, tuple[str, ...]]

_ZERO = np.zeros(1, dtype=np.uint64)


class Rows(NamedTuple):
    """A delta, decoded. column, values: entries of its sparse table, row by row. bounds: (rows + 1,), where rows begin.

    events: per row. least, largest: (rows, numeric features). weights: (rows,), what a row adds to a digest, per mark.
    """

    rows: Sequence[DeltaRow]
    width: int
    column: Ints
    values: Ints
    bounds: Ints
    events: list[int]
    least: Ints
    largest: Ints
    weights: Bits


class PackedTally(msgspec.Struct, array_like=True, frozen=True):
    """A tally at rest."""

    width: int
    numeric: int
    slots: list[Slot]
    body: bytes
    extremes: bytes
    marginals: PackedTally | None = None


class Tally:
    """Counts of cells as one table; a slot is a cell.

    counts: (slots, width). least, largest: (slots, numeric features), fixed point, least > largest where none.
    marginals: the same events once more, by the values of each marginal column; None where there is no such column.

    >>> tally = Tally(width=3, numeric=0)
    >>> tally.slot(("v1", ("FR",))), tally.slot(("v1", ("DE",))), tally.counts.shape
    (0, 1, (2, 3))
    """

    __slots__ = ("_counts", "_largest", "_least", "marginals", "numeric", "slots", "width")

    def __init__(self, *, width: int, numeric: int, marginals: bool = False) -> None:
        self.width, self.numeric = width, numeric
        self.marginals = Tally(width=width, numeric=numeric) if marginals else None
        self.slots: dict[Slot, int] = {}
        self._counts: Ints = np.zeros((0, width), dtype=np.int64)
        self._least: Ints = np.zeros((0, numeric), dtype=np.int64)
        self._largest: Ints = np.zeros((0, numeric), dtype=np.int64)

    @property
    def counts(self) -> Ints:
        """Sums, one row per slot."""
        return self._counts[: len(self.slots)]

    @property
    def least(self) -> Ints:
        """Least fixed-point value of each numeric feature, one row per slot."""
        return self._least[: len(self.slots)]

    @property
    def largest(self) -> Ints:
        """Largest fixed-point value of each numeric feature, one row per slot."""
        return self._largest[: len(self.slots)]

    def slot(self, key: Slot) -> int:
        """Row of `key`, made when it is new."""
        at = self.slots.get(key)
        if at is None:
            at = self.slots[key] = len(self.slots)
            self._reserve(at + 1)
        return at

    def add(self, rows: Rows, take: Sequence[int], slots: Sequence[int]) -> None:
        """Add rows `take` of a delta, in ascending order, to `slots`, one for each."""
        first, stop = take[0], take[-1] + 1
        lengths = np.diff(rows.bounds[first : stop + 1])
        entries = slice(rows.bounds[first], rows.bounds[stop])
        column, values = rows.column[entries], rows.values[entries]
        if len(take) < stop - first:
            chosen = np.zeros(stop - first, dtype=bool)
            chosen[np.array(take) - first] = True
            here = np.repeat(chosen, lengths)
            column, values, lengths = column[here], values[here], lengths[chosen]
        target = column + np.repeat(np.array(slots) * self.width, lengths)
        flat = self._counts.reshape(-1)
        if len(set(slots)) == len(slots):
            flat[target] += values
        else:
            np.add.at(flat, target, values)
        if self.numeric:
            slot, row = np.array(slots), np.array(take)
            np.minimum.at(self._least, slot, rows.least[row])
            np.maximum.at(self._largest, slot, rows.largest[row])

    def pack(self) -> PackedTally:
        """The tally at rest."""
        extremes = np.stack([self.least, self.largest], axis=-1).ravel()
        return PackedTally(
            width=self.width,
            numeric=self.numeric,
            slots=list(self.slots),
            body=encode_sparse(self.counts.ravel()),
            extremes=encode_ints(extremes),
            marginals=None if self.marginals is None else self.marginals.pack(),
        )

    @classmethod
    def unpack(cls, packed: PackedTally, *, width: int | None = None) -> Tally:
        """Inverse of `pack`. width: of the table as it is today, where it has grown at its end since."""
        tally = cls(width=packed.width if width is None else max(width, packed.width), numeric=packed.numeric)
        for key in packed.slots:
            tally.slot(key)
        index, values = decode_sparse(packed.body)
        row, column = np.divmod(index, packed.width)
        tally._counts[row, column] = values
        extremes = decode_ints(packed.extremes).reshape(len(packed.slots), packed.numeric, 2)
        tally.least[:], tally.largest[:] = extremes[..., 0], extremes[..., 1]
        if packed.marginals is not None:
            tally.marginals = cls.unpack(packed.marginals, width=width)
        return tally

    def _reserve(self, slots: int) -> None:
        more = max(slots, 2 * len(self._counts), 4) - len(self._counts)
        if slots <= len(self._counts):
            return
        self._counts = np.concatenate([self._counts, np.zeros((more, self.width), dtype=np.int64)])
        self._least = np.concatenate([self._least, np.full((more, self.numeric), NO_LEAST)])
        self._largest = np.concatenate([self._largest, np.full((more, self.numeric), NO_LARGEST)])


def decode_rows(delta: Delta) -> Rows:
    """Entries of a delta's table by row; `FormatError` when they do not fit its rows.

    >>> delta = Delta(source=0, begin=0, end=1, part=0, parts=1, seq=1, model="m", layout="l", max_ts=0, width=2,
    ...               rows=[DeltaRow(0, "v", ())], body=encode_sparse(np.array([3, 1])))
    >>> decode_rows(delta).events
    [3]
    """
    index, values = decode_sparse(delta.body)
    count, width = len(delta.rows), delta.width
    if index.size and int(index[-1]) >= count * width:
        raise FormatError(f"delta of {delta.model}: entry {int(index[-1])} in {count} rows of {width}")
    starts = np.arange(count + 1) * width
    bounds = np.searchsorted(index, starts)
    column = index - np.repeat(starts[:-1], np.diff(bounds))
    # Column 0 is n; an absent entry is a zero.
    events = np.zeros(count, dtype=np.int64)
    first = np.flatnonzero(np.diff(bounds) > 0)
    counted = first[column[bounds[first]] == 0]
    events[counted] = values[bounds[counted]]
    extremes = decode_ints(delta.extremes)
    if count and extremes.size % (2 * count):
        raise FormatError(f"delta of {delta.model}: {extremes.size} extremes for {count} rows")
    pairs = extremes.reshape(count, -1, 2)
    running = np.concatenate([_ZERO, np.cumsum(_mixed(width)[column] * values.view(np.uint64))])
    weights = running[bounds[1:]] - running[bounds[:-1]]
    return Rows(delta.rows, width, column, values, bounds, events.tolist(), pairs[..., 0], pairs[..., 1], weights)


def merged(one: Tally, other: Tally) -> Tally:
    """Sum of two tallies; `one` itself when the other is empty."""
    if not other.slots:
        return one
    both = Tally(width=one.width, numeric=one.numeric)
    for part in (one, other):
        slots = np.array([both.slot(key) for key in part.slots], dtype=np.int64)
        if slots.size:
            both.counts[slots] += part.counts
            both.least[slots] = np.minimum(both.least[slots], part.least)
            both.largest[slots] = np.maximum(both.largest[slots], part.largest)
    if one.marginals is not None and other.marginals is not None:
        both.marginals = merged(one.marginals, other.marginals)
    return both


@lru_cache(maxsize=64)
def _mixed(width: int) -> Bits:
    """A well mixed odd number per column (splitmix64)."""
    z = (np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)
