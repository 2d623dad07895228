"""Predictions that wait for their outcomes: a ring of rows in arrays, found by a hash of their id, many at once.

Why not a dict: a row of a binary model takes 33 bytes here and its place in the index four more; a dict takes 300. Rows
are numbered in the order of the log and leave in that order, when no later outcome can be theirs. Chains lead from a
newer row to an older one, so that a row that left ends every chain it is in: nothing is ever deleted from the index.

Times of the log are whole seconds (`append`, its running maximum); event times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Words: TypeAlias = npt.NDArray[np.uint64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Codes of classes that a multiclass prediction is ranked by.
RANKS = 5
#: No outcome yet.
NONE = -1
#: Seconds beyond 2106 do not fit a row; such a prediction is not joined.
LATEST_S = (1 << 32) - 2

_LOW = (1 << 32) - 1
_DIGEST = (1 << 64) - 1
_PIECE = 65_536
_ALWAYS: dict[str, npt.DTypeLike] = {
    "key": "<u8",
    "seconds": "<u4",
    "millis": "<u2",
    "append": "<u4",
    "score": "<f4",
    "cell": "<u4",
    "label": "i1",
    "outcome": "i1",
    "delay": "u1",
}
#: Columns that only some kinds of model have: made when the first row brings one.
_SOME: dict[str, tuple[npt.DTypeLike, float]] = {"value": ("<f8", np.nan), "truth": ("<f8", np.nan)}


class Rows(NamedTuple):
    """Predictions, (n,) each, in the order of the log. key: of the id. ts: ms. append: s, of the log, never falling.

    score: NaN none. label: code, −1 none. cell: code. value: of a regression. ranks: (n, 5) codes, −1 none.
    """

    key: Words
    ts: Ints
    append: Ints
    score: Floats
    label: Ints
    cell: Ints
    value: Floats | None = None
    ranks: Ints | None = None

    def take(self, at: Ints | slice) -> Rows:
        """Some of them."""
        return Rows(
            key=self.key[at],
            ts=self.ts[at],
            append=self.append[at],
            score=self.score[at],
            label=self.label[at],
            cell=self.cell[at],
            value=None if self.value is None else self.value[at],
            ranks=None if self.ranks is None else self.ranks[at],
        )


class Pending:
    """Rows numbered `first` up to `next`; there is room for `room` of them from the start.

    >>> pending = Pending(limit=100)
    >>> two = np.array([7, 9], dtype=np.uint64)
    >>> nothing, zeros = np.full(2, np.nan), np.zeros(2, dtype=np.int64)
    >>> pending.append(Rows(two, zeros + 1500, zeros + 2, nothing, zeros - 1, zeros))
    2
    >>> [(at.tolist(), numbers.tolist()) for at, numbers in pending.find(np.array([9, 8, 7], dtype=np.uint64))]
    [([0, 2], [1, 0])]
    >>> pending.ts(np.array([1])).tolist()
    [1500]
    """

    def __init__(self, limit: int, *, first: int = 0, room: int = 0) -> None:
        self.limit = limit
        self.first = self.next = first
        self.digest = 0
        self._size = max(4_096, room)
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(self._size, dtype=kind) for name, kind in _ALWAYS.items()
        }
        self._ranks: npt.NDArray[np.int8] | None = None
        self._back = np.zeros(self._size, dtype=np.uint32)  # how far the one before it in its chain is; 0: none
        self._heads = np.zeros(
            1 << max(12, (room // 2).bit_length()), dtype=np.uint32
        )  # low bits of number + 1 of the latest in the chain

    def __len__(self) -> int:
        return self.next - self.first

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; those of columns that some kinds of model have included."""
        ranks = 0 if self._ranks is None else self._ranks.nbytes
        return sum(column.nbytes for column in self._columns.values()) + self._back.nbytes + self._heads.nbytes + ranks

    def append(self, rows: Rows) -> int:
        """Take in rows, as many as the limit lets; how many those are."""
        n = min(rows.key.size, max(0, self.limit - len(self)))
        for at in range(0, n, _PIECE):
            self._append(rows.take(slice(at, min(at + _PIECE, n))))
        return n

    def find(self, keys: Words) -> Iterator[tuple[Ints, Ints]]:
        """Rows of `keys`: places in `keys` and numbers of rows; of one key the newer rows come first."""
        at = np.arange(keys.size)
        numbers = self._latest(keys & np.uint64(self._heads.size - 1))
        while True:
            live = numbers >= self.first
            if not live.all():
                at, numbers = at[live], numbers[live]
            if not at.size:
                return
            here = numbers % self._size
            same = self._columns["key"][here] == keys[at]
            if same.any():
                yield at[same], numbers[same]
            back = self._back[here]
            more = np.flatnonzero(back)
            at, numbers = at[more], numbers[more] - back[more].astype(np.int64)

    def ts(self, numbers: Ints) -> Ints:
        """Event times of rows, ms."""
        here = numbers % self._size
        ts: Ints = self._columns["seconds"][here].astype(np.int64) * 1000 + self._columns["millis"][here]
        return ts

    def append_s(self, numbers: Ints) -> Ints:
        """Append times of rows, s: the largest of the log up to them."""
        return self._of("append", numbers).astype(np.int64)

    def cell(self, numbers: Ints) -> Ints:
        """Codes of cells."""
        return self._of("cell", numbers).astype(np.int64)

    def label(self, numbers: Ints) -> Ints:
        """Codes of predicted classes, −1 none."""
        return self._of("label", numbers).astype(np.int64)

    def score(self, numbers: Ints) -> Floats:
        """Scores, NaN none."""
        return self._of("score", numbers).astype(np.float64)

    def value(self, numbers: Ints) -> Floats:
        """Predicted values, NaN none."""
        return self._some("value", numbers)

    def ranks(self, numbers: Ints) -> Ints | None:
        """Codes of the most probable classes (n, 5); None where no row has any."""
        return None if self._ranks is None else self._ranks[numbers % self._size].astype(np.int64)

    def outcome(self, numbers: Ints) -> Ints:
        """Codes of outcomes, 0 where a regression's is known, −1 none."""
        return self._of("outcome", numbers).astype(np.int64)

    def truth(self, numbers: Ints) -> Floats:
        """Outcomes of regressions, NaN none."""
        return self._some("truth", numbers)

    def delay(self, numbers: Ints) -> Ints:
        """What `settle` was told of the delay."""
        return self._of("delay", numbers).astype(np.int64)

    def settle(self, numbers: Ints, outcome: Ints, delay: Ints, truth: Floats | None) -> None:
        """Outcomes of rows, one for each row: in place of what was known before. delay: 0 to 255."""
        before = self._mark(numbers)
        here = numbers % self._size
        self._columns["outcome"][here] = outcome
        self._columns["delay"][here] = delay
        if truth is not None:
            self._column("truth")[here] = truth
        self._move_digest(self._mark(numbers) - before)

    def forget(self, first: int) -> None:
        """Rows before number `first` leave."""
        first = min(first, self.next)
        for at in range(self.first, first, _PIECE):
            numbers = np.arange(at, min(at + _PIECE, first))
            self._move_digest(np.uint64(0) - self._mark(numbers) - self._of("key", numbers))
        self.first = max(self.first, first)

    def recode(self, new: Ints) -> None:
        """Cells have other codes: `new` by the old one."""
        column = self._columns["cell"]
        for here, _ in self._runs(self._size):
            column[here] = new[column[here]]

    def columns(self, start: int, stop: int) -> dict[str, bytes]:
        """What rows `start` up to `stop` were appended with, little endian, by column; outcomes aside."""
        here = np.arange(start, stop) % self._size
        found = {
            name: column[here].tobytes()
            for name, column in self._columns.items()
            if name not in ("outcome", "delay", "truth")
        }
        if self._ranks is not None:
            found["ranks"] = self._ranks[here].tobytes()
        return found

    def _of(self, name: str, numbers: Ints) -> npt.NDArray[Any]:
        return self._columns[name][numbers % self._size]

    def _some(self, name: str, numbers: Ints) -> Floats:
        if name not in self._columns:
            return np.full(numbers.size, _SOME[name][1])
        return self._columns[name][numbers % self._size]

    def _column(self, name: str) -> npt.NDArray[Any]:
        if name not in self._columns:
            kind, empty = _SOME[name]
            self._columns[name] = np.full(self._size, empty, dtype=kind)
        return self._columns[name]

    def _mark(self, numbers: Ints) -> Words:
        """What the outcomes of rows add to the digest, modulo 2**64; 0 where there is none."""
        outcome = self.outcome(numbers)
        state = (outcome + 1).astype(np.uint64) | (self.delay(numbers).astype(np.uint64) << np.uint64(8))
        if "truth" in self._columns:
            truth = self._columns["truth"][numbers % self._size]
            # Rows of other kinds have none, whether the column is there or not.
            state += np.where(np.isnan(truth), np.uint64(0), truth.view(np.uint64) << np.uint64(1))
        mark: Words = np.where(outcome == NONE, np.uint64(0), self._of("key", numbers) * (state * np.uint64(2)))
        return mark

    def _move_digest(self, by: Words) -> None:
        self.digest = (self.digest + int(by.sum(dtype=np.uint64))) & _DIGEST

    def _append(self, rows: Rows) -> None:
        n = rows.key.size
        self._make_room(n)
        here = np.arange(self.next, self.next + n) % self._size
        seconds = rows.ts // 1000
        written: dict[str, npt.NDArray[np.generic]] = {
            "key": rows.key,
            "seconds": seconds,
            "millis": rows.ts - seconds * 1000,
            "append": rows.append,
            "score": rows.score,
            "cell": rows.cell,
            "label": rows.label,
        }
        for name, column in written.items():
            self._columns[name][here] = column
        self._columns["outcome"][here] = NONE
        self._columns["delay"][here] = 0
        for name in ("value", "truth"):
            if name == "value" and rows.value is not None:
                self._column("value")[here] = rows.value
            elif name in self._columns:
                self._columns[name][here] = np.nan
        if rows.ranks is not None and self._ranks is None:
            self._ranks = np.full((self._size, RANKS), -1, dtype=np.int8)
        if self._ranks is not None:
            self._ranks[here] = -1 if rows.ranks is None else rows.ranks
        self._link(self.next, rows.key)
        self._move_digest(rows.key)
        self.next += n

    def _link(self, start: int, keys: Words) -> None:
        """Put rows numbered from `start` on into the chains of their keys."""
        slots = (keys & np.uint64(self._heads.size - 1)).astype(np.int64)
        order = np.argsort(slots, kind="stable")
        slots, numbers = slots[order], start + order
        shared = np.flatnonzero(slots[1:] == slots[:-1]) + 1
        before = self._latest(slots)
        before[shared] = numbers[shared - 1]  # of those that share a slot, each leads to the one before it
        back = numbers - before
        self._back[numbers % self._size] = np.where((before >= self.first) & (back <= _LOW), back, 0)
        last = np.ones(slots.size, dtype=bool)
        last[shared - 1] = False
        self._heads[slots[last]] = (numbers[last] + 1) & _LOW

    def _latest(self, slots: npt.NDArray[np.integer]) -> Ints:
        """Number of the latest row of each slot; where there is none, a row that left or one of another slot."""
        latest: Ints = self.next - 1 - ((self.next - self._heads[slots].astype(np.int64)) & _LOW)
        return latest

    def _make_room(self, n: int) -> None:
        needed = len(self) + n
        if needed > self._size:
            # By little: what is touched once stays in memory.
            self._resize(max(needed, min(self._size + max(self._size // 16, 16_384), self.limit + _PIECE)))
        if needed > 2 * self._heads.size:
            self._heads = np.zeros(2 * self._heads.size, dtype=np.uint32)
            for at in range(self.first, self.next, _PIECE):
                stop = min(at + _PIECE, self.next)
                self._relink(at, stop)

    def _relink(self, start: int, stop: int) -> None:
        """Link rows that are there already, the oldest first."""
        following, self.next = self.next, start
        self._link(start, self._columns["key"][np.arange(start, stop) % self._size])
        self.next = following

    def _resize(self, size: int) -> None:
        runs = list(self._runs(size))
        for name, column in self._columns.items():
            self._columns[name] = _moved(column, size, runs)
        self._back = _moved(self._back, size, runs)
        if self._ranks is not None:
            self._ranks = _moved(self._ranks, size, runs)
        self._size = size

    def _runs(self, size: int) -> Iterator[tuple[slice, slice]]:
        """Places of the rows now and in a ring of `size`, by runs that neither ring breaks."""
        at = self.first
        while at < self.next:
            here, there = at % self._size, at % size
            n = min(self.next - at, self._size - here, size - there)
            yield slice(here, here + n), slice(there, there + n)
            at += n


Kept = TypeVar("Kept", bound=np.generic)


def _moved(column: npt.NDArray[Kept], size: int, runs: list[tuple[slice, slice]]) -> npt.NDArray[Kept]:
    # Not filled: what was never written costs no memory.
    moved = np.empty((size, *column.shape[1:]), dtype=column.dtype)
    for here, there in runs:
        moved[there] = column[here]
    return moved
