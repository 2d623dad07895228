"""Batches of a table: rows that lie together in time, with a longer gap to the next, as a nightly or weekly job leaves.

A batch becomes one pane, however long it took and whenever it ran: its rows are given the middle of the batch's own
slot on a clock of our making, `BATCH_MS` from one to the next. A slot is a week long so that every batch stands at the
same hour of the week: there is no season to learn, and the design effect is that over batches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.rows import NO_TIME, Rows

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

BATCH_MS = 7 * 86_400_000
#: Fewer batches than this cannot say how batches differ.
LEAST_BATCHES = 8
#: The first slot: past 1980, before which no event is believed.
_FIRST = 1000 * BATCH_MS


class Batches(msgspec.Struct, frozen=True, kw_only=True):
    """How a reference was cut: gap_ms between rows of two batches, count, spacing_ms from one start to the next on
    average, and the real times [start, end), ms.
    """

    gap_ms: int
    count: int
    spacing_ms: int
    start: int
    end: int


class BatchClock:
    """Slots of rows in the order of the table. A row more than `gap_ms` later than all before it begins a batch.

    >>> hour = 3_600_000
    >>> clock = BatchClock(6 * hour)
    >>> slots = clock.slots(np.array([0, hour, 24 * hour, 25 * hour, 2 * hour]))  # the last one came late
    >>> (slots - slots[0]) // BATCH_MS
    array([0, 0, 1, 1, 1])
    >>> clock.count, clock.start_of(int(slots[2])), clock.end_of(int(slots[2]) + BATCH_MS // 2) - 1
    (2, 86400000, 90000000)
    """

    def __init__(self, gap_ms: int) -> None:
        self.gap_ms = gap_ms
        self._begins: list[int] = []
        self._ends: list[int] = []

    @property
    def count(self) -> int:
        """Batches so far."""
        return len(self._begins)

    def slots(self, ts: Ints, sound: Bools | None = None) -> Ints:
        """Times on the batches' own clock, (n,) ms; rows without a sound time keep theirs."""
        sound = ts != NO_TIME if sound is None else sound & (ts != NO_TIME)
        found = ts.copy()
        known = ts[sound]
        if known.size == 0:
            return found
        latest = self._ends[-1] if self._ends else int(known[0]) - self.gap_ms - 1
        running = np.maximum.accumulate(np.append(latest, known))
        begins = np.flatnonzero(np.diff(running) > self.gap_ms)
        number = self.count - 1 + np.searchsorted(begins, np.arange(known.size), side="right")
        lasts = np.append(begins[1:], known.size)[: begins.size]
        for at, last in zip(begins.tolist(), lasts.tolist(), strict=True):
            self._close(int(running[at]))
            self._begins.append(int(known[at]))
            self._ends.append(int(running[last]))
        self._close(int(running[-1]))
        found[sound] = _FIRST + number * BATCH_MS + BATCH_MS // 2
        return found

    def retimed(self, rows: Rows, sound: Bools | None = None) -> Rows:
        """Rows on the batches' own clock."""
        return replace(rows, ts=self.slots(rows.ts, sound))

    def start_of(self, slot: int) -> int:
        """Real time of the first row of the batch whose slot holds a time, ms."""
        return self._begins[self._number(slot // BATCH_MS)]

    def end_of(self, slot_end: int) -> int:
        """Real time after the last row of the batch whose slot ends at a time, ms."""
        return self._ends[self._number(slot_end // BATCH_MS - 1)] + 1

    def batches(self) -> Batches | None:
        """What was cut; None before the first row."""
        if not self._begins:
            return None
        spacing = (self._begins[-1] - self._begins[0]) // max(1, self.count - 1)
        return Batches(
            gap_ms=self.gap_ms,
            count=self.count,
            spacing_ms=max(1, spacing),
            start=self._begins[0],
            end=self._ends[-1] + 1,
        )

    def _close(self, latest: int) -> None:
        if self._ends:
            self._ends[-1] = max(self._ends[-1], latest)

    def _number(self, slot: int) -> int:
        return min(max(0, slot - _FIRST // BATCH_MS), self.count - 1)
