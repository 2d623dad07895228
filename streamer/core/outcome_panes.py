"""Outcome panes at stage 2: what became of the predictions of an hour, until the horizon has passed.

A pane collects for charts until its end plus `maturity`; what comes after that, or was late at its source, stands in
reports only. Panes live for days, so they are in the changelog (`outcome|start|layout|model`): a pane is written when
it is charted and when it has been dirty for a while, and a restart replays what came since. `through` is the first
record of `profiles` that is not in the written one.

Charted is decided by what is closed: a row that meets a pane whose time has passed goes to its late table. So the
order of the log decides, and neither batches nor restarts do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np

from schemas.layouts import Layout
from schemas.profiles import DeltaRow
from streamer.core.cells import OTHER
from streamer.core.forms import Column, Form
from streamer.core.positions import MONITORING_FORMAT
from streamer.core.tallies import PackedTally, Rows, Slot, Tally

#: A dirty pane is written after so many records of `profiles`, or so much append time.
FLUSH_RECORDS, FLUSH_MS = 2_000, 60_000
#: A pane is reported again when half as much time again has passed since its end, and at least this much.
LEAST_REVISION_MS = 300_000
#: And all but at once when so many labels have come since that its figures are others: a fourth more, and this many.
SOON_MS, MANY, MORE = 10_000, 20, 4
_BITS = (1 << 64) - 1


class OutcomeRecord(msgspec.Struct, kw_only=True):
    """An outcome pane in the changelog; see `OutcomePane`."""

    on_time: PackedTally
    late: PackedTally
    revision: int
    charted: bool
    unsaid: bool
    said_at: int
    through: int
    digest: int
    told: int = -1
    format: int = MONITORING_FORMAT


class OutcomePane:
    """Outcomes of the predictions made in one pane.

    on_time: what charts consume; late: the rest. charted: its maturity has passed. revision: of the next report;
    said_at: append time of the last one; unsaid: something came since. through: records before it are in the written
    pane; dirty_from, dirty_at: the first record since, and its append time, −1 when there is none. digest: of the
    integers. labels: matches so far, less those taken back; told: how many there were at the last report.
    """

    __slots__ = (
        "_further",
        "_known",
        "charted",
        "digest",
        "dirty_at",
        "dirty_from",
        "form",
        "labels",
        "late",
        "on_time",
        "revision",
        "said_at",
        "start",
        "through",
        "told",
        "unsaid",
    )

    def __init__(self, form: Form, start: int) -> None:
        assert form.outcomes is not None
        width = form.outcomes.table.width
        self.form, self.start = form, start
        further = bool(form.marginals)
        self.on_time = Tally(width=width, numeric=0, marginals=further)
        self.late = Tally(width=width, numeric=0, marginals=further)
        self.revision, self.charted, self.unsaid, self.said_at = 0, False, False, -1
        self.through, self.dirty_from, self.dirty_at, self.digest = 0, -1, -1, 0
        self.labels = self.told = 0
        self._known: tuple[set[str], ...] = tuple(set() for _ in form.columns)
        self._further: dict[str, set[str]] = {name: set() for name in form.marginals}

    @property
    def layout(self) -> Layout:
        """Its layout."""
        return self.form.layout

    @property
    def end(self) -> int:
        """End of the predictions' time, ms."""
        return self.start + self.layout.outcome_pane_ms

    @property
    def due(self) -> int:
        """When charts take it, ms of event time."""
        return self.end + self.layout.maturity_ms

    @property
    def gone(self) -> int:
        """When no outcome can come any more, and it is let go."""
        return self.end + max(self.layout.horizon_ms, self.layout.maturity_ms) + self.layout.maturity_ms

    def add(self, rows: Rows, take: Sequence[int], *, late: bool, offset: int, now: int) -> int:
        """Add rows `take` of a delta from the record at `offset`; how many matches went to `__other__`."""
        late = late or self.charted
        tally = self.late if late else self.on_time
        self.unsaid = True
        if self.dirty_from < 0:
            self.dirty_from, self.dirty_at = offset, now
        cells = [row for row in take if not rows.rows[row].marginal]
        self.labels += sum(rows.events[row] for row in cells)
        # Cells first: a marginal row finds the versions that they have admitted.
        folded = self._add(tally, rows, cells, late=late)
        if tally.marginals is not None:
            self._add(tally.marginals, rows, [row for row in take if rows.rows[row].marginal], late=late)
        return folded

    def _add(self, tally: Tally, rows: Rows, take: Sequence[int], *, late: bool) -> int:
        if not take:
            return 0
        places = [self._place(rows.rows[row]) for row in take]
        tally.add(rows, take, [tally.slot(place) for place in places])
        told = ["marginal" if rows.rows[row].marginal else "outcomes" for row in take]
        marks = [_mark(self.form.id, self.start, late, place, of) for place, of in zip(places, told, strict=True)]
        weights = rows.weights[list(take)] * np.array(marks, dtype=np.uint64)
        self.digest = (self.digest + int(weights.sum(dtype=np.uint64))) & _BITS
        return sum(
            rows.events[row]
            for row, place in zip(take, places, strict=True)
            if place != (rows.rows[row].version, rows.rows[row].segment)
        )

    def stale(self, *, at: int, now: int) -> bool:
        """It has been dirty for long enough to be written. at: next record; now: append time."""
        return self.dirty_from >= 0 and (at - self.dirty_from >= FLUSH_RECORDS or now - self.dirty_at >= FLUSH_MS)

    def tells(self, *, now: int) -> bool:
        """Enough time has passed to report it again, or enough has come. now: append time, ms.

        Labels of a day that a nightly job brings, or a history that is read anew, would wait for half of their age.
        """
        if not self.unsaid:
            return False
        waited = now - self.said_at
        if waited >= SOON_MS and self.labels - self.told >= max(MANY, self.told // MORE):
            return True
        return waited >= max(LEAST_REVISION_MS, (self.said_at - self.end) // 2)

    def said(self, *, now: int) -> None:
        """It was reported."""
        self.revision += 1
        self.unsaid, self.said_at, self.told = False, now, self.labels

    def record(self, *, through: int) -> OutcomeRecord:
        """As the changelog keeps it; it is clean from then on."""
        self.through, self.dirty_from, self.dirty_at = through, -1, -1
        return OutcomeRecord(
            on_time=self.on_time.pack(),
            late=self.late.pack(),
            revision=self.revision,
            charted=self.charted,
            unsaid=self.unsaid,
            said_at=self.said_at,
            through=through,
            digest=self.digest,
            told=self.told,
        )

    @classmethod
    def restored(cls, form: Form, start: int, record: OutcomeRecord) -> OutcomePane:
        """Inverse of `record`."""
        pane = cls(form, start)
        width = pane.on_time.width
        pane.on_time, pane.late = (Tally.unpack(one, width=width) for one in (record.on_time, record.late))
        pane.revision, pane.charted, pane.unsaid = record.revision, record.charted, record.unsaid
        pane.said_at, pane.through, pane.digest = record.said_at, record.through, record.digest
        pane.labels = int(pane.on_time.counts[:, 0].sum() + pane.late.counts[:, 0].sum())
        pane.told = pane.labels if record.told < 0 else record.told  # written by a version that did not count them
        for version, segment in [*pane.on_time.slots, *pane.late.slots]:
            for known, value in zip(pane._known, (version, *segment), strict=True):
                known.add(value)
        for tally in (pane.on_time, pane.late):
            if form.marginals and tally.marginals is None:  # written before outcomes were counted by them
                tally.marginals = Tally(width=width, numeric=0)
            for _, (column, value) in () if tally.marginals is None else tally.marginals.slots:
                pane._further[column].add(value)
        return pane

    def _place(self, row: DeltaRow) -> Slot:
        if not row.marginal:
            return self._admit(row.version, row.segment)
        version = _admitted(self._known[0], row.version, self.form.columns[0])
        value = _admitted(self._further[row.marginal], row.segment[0], self.form.marginals[row.marginal])
        return version, (row.marginal, value)

    def _admit(self, version: str, segment: Sequence[str]) -> Slot:
        found = [
            _admitted(known, value, column)
            for known, value, column in zip(self._known, (version, *segment), self.form.columns, strict=True)
        ]
        return found[0], tuple(found[1:])


def _admitted(known: set[str], value: str, column: Column) -> str:
    if value in known or value in column.named or value == OTHER:
        return value
    if len(known - column.named - {OTHER}) >= column.limit:
        return OTHER
    known.add(value)
    return value


@lru_cache(maxsize=4096)
def _mark(layout: str, start: int, late: bool, slot: Slot, of: str) -> int:
    told = "\x1f".join([layout, str(start), str(late), of, slot[0], *slot[1]])
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "little") | 1
