"""Deltas become panes: integer tables that add, slot by slot, whatever the order they come in.

Why: a pane is what a chart consumes once, so what is in it must not depend on batching, on restarts or on which source
spoke first. Counts add, extremes take the least and the largest, caps act in the order of the log, and a digest over
the integers says whether a rebuilt pane is the one that was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from schemas.profiles import DeltaRow, Extra
from streamer.core.cells import NAMES_IN_ALL, OTHER, kept
from streamer.core.forms import Column, Form
from streamer.core.tallies import Rows, Slot, Tally

#: Digests are sums modulo 2**64.
DIGEST_BITS = (1 << 64) - 1


class Extras:
    """Named counts beside the tables, bounded as in a batch of stage 1: the smallest by hash, with exact counts.

    A name that is among the smallest in the end was so all the time: it was never put out, so its count is whole.

    >>> extras = Extras()
    >>> extras.add(Extra(0, "unseen", "country", "XX", 2))
    >>> extras.sorted()
    [('unseen', 'country', 'XX', 2)]
    """

    __slots__ = ("_counts",)

    def __init__(self, named: Iterable[tuple[str, str, str, int]] = ()) -> None:
        self._counts = {(kind, feature, name): count for kind, feature, name, count in named}

    def add(self, extra: Extra) -> None:
        """Count one."""
        name = (extra.kind, extra.feature, extra.name)
        self._counts[name] = self._counts.get(name, 0) + extra.count
        if len(self._counts) > 2 * NAMES_IN_ALL:
            self._prune()

    def sorted(self) -> list[tuple[str, str, str, int]]:
        """(kind, feature, name, count), in one order whatever the order of arrival."""
        self._prune()
        return sorted((*name, count) for name, count in self._counts.items())

    def _prune(self) -> None:
        self._counts = {name: self._counts[name] for name in kept(self._counts)}


class Place(NamedTuple):
    """Where rows of one version and segment are counted. mark: of the slot, in digests; folded: it is `__other__`."""

    slot: int
    mark: int
    folded: bool


class Folded(NamedTuple):
    """What went to `__other__`: events, and events × marginal columns."""

    events: int = 0
    marginals: int = 0


class Pane:
    """An open pane of one model under one layout.

    on_time: what charts consume. late: what only reports show. first_offset: the oldest record that fed it.
    digest: of its integers.
    """

    __slots__ = (
        "_further",
        "_known",
        "_places",
        "digest",
        "extras",
        "first_offset",
        "form",
        "late",
        "on_time",
        "start",
    )

    def __init__(self, form: Form, *, start: int, first_offset: int) -> None:
        self.form, self.start, self.first_offset = form, start, first_offset
        self.on_time, self.late = form.tally(), form.tally()
        self.extras = Extras()
        self.digest = 0
        self._known: tuple[set[str], ...] = tuple(set() for _ in form.columns)
        self._further: dict[str, set[str]] = {name: set() for name in form.marginals}
        self._places: dict[tuple[str, tuple[str, ...], bool, str], Place] = {}

    def add(self, rows: Rows, take: Sequence[int], named: Iterable[Extra], *, late: bool) -> Folded:
        """Add rows `take` of a delta, all late or all on time, with their extras; what of them was folded."""
        for extra in named:
            self.extras.add(extra)
        tally = self.late if late else self.on_time
        if tally.marginals is None:
            return Folded(self._add(tally, rows, take, late=late))
        cells = [row for row in take if not rows.rows[row].marginal]
        further = [row for row in take if rows.rows[row].marginal]
        # Cells first: a marginal row finds the versions that they have admitted.
        folded = self._add(tally, rows, cells, late=late) if cells else 0
        return Folded(folded, self._add(tally.marginals, rows, further, late=late) if further else 0)

    def admit(self, version: str, segment: Sequence[str]) -> Slot:
        """The slot that a version and its segment values are counted under, within the layout's limits."""
        admitted = (
            _admit(known, value, column)
            for known, value, column in zip(self._known, (version, *segment), self.form.columns, strict=True)
        )
        return next(admitted), tuple(admitted)

    def admit_marginal(self, version: str, column: str, value: str) -> Slot:
        """The slot that a version and its value of a marginal column are counted under."""
        of_version = _admit(self._known[0], version, self.form.columns[0])
        return of_version, (column, _admit(self._further[column], value, self.form.marginals[column]))

    def _add(self, tally: Tally, rows: Rows, take: Sequence[int], *, late: bool) -> int:
        places = [self._place(tally, rows.rows[row], late=late) for row in take]
        tally.add(rows, take, [place.slot for place in places])
        weighted = rows.weights[list(take)] * np.array([place.mark for place in places], dtype=np.uint64)
        self.digest = (self.digest + int(weighted.sum(dtype=np.uint64))) & DIGEST_BITS
        return sum(rows.events[row] for row, place in zip(take, places, strict=True) if place.folded)

    def _place(self, tally: Tally, row: DeltaRow, *, late: bool) -> Place:
        name = (row.version, row.segment, late, row.marginal)
        known = self._places.get(name)
        if known is not None:
            return known
        if row.marginal:
            asked = (row.version, (row.marginal, *row.segment))
            key = self.admit_marginal(row.version, row.marginal, *row.segment)
        else:
            asked = (row.version, row.segment)
            key = self.admit(row.version, row.segment)
        told = [self.form.id, str(self.start), str(late), *(["marginal"] if row.marginal else []), key[0], *key[1]]
        mark = int.from_bytes(hashlib.blake2b("\x1f".join(told).encode(), digest_size=8).digest(), "little") | 1
        place = Place(tally.slot(key), mark, key != asked)
        if not place.folded:  # of the folded ones there may be any number
            self._places[name] = place
        return place


def _admit(known: set[str], value: str, column: Column) -> str:
    if value in known or value in column.named or value == OTHER:
        return value
    if len(known) >= column.limit:
        return OTHER
    known.add(value)
    return value
