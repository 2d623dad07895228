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
from streamer.core.tallies import Rows, Slot

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


class Pane:
    """An open pane of one model under one layout.

    on_time: what charts consume. late: what only reports show. first_offset: the oldest record that fed it.
    digest: of its integers.
    """

    __slots__ = ("_known", "_places", "digest", "extras", "first_offset", "form", "late", "on_time", "start")

    def __init__(self, form: Form, *, start: int, first_offset: int) -> None:
        self.form, self.start, self.first_offset = form, start, first_offset
        self.on_time, self.late = form.tally(), form.tally()
        self.extras = Extras()
        self.digest = 0
        self._known: tuple[set[str], ...] = tuple(set() for _ in form.columns)
        self._places: dict[tuple[str, tuple[str, ...], bool], Place] = {}

    def add(self, rows: Rows, take: Sequence[int], named: Iterable[Extra], *, late: bool) -> int:
        """Add rows `take` of a delta, all late or all on time, with their extras.

        Returns how many events went to `__other__`.
        """
        for extra in named:
            self.extras.add(extra)
        places = [self._place(rows.rows[row], late=late) for row in take]
        (self.late if late else self.on_time).add(rows, take, [place.slot for place in places])
        weighted = rows.weights[list(take)] * np.array([place.mark for place in places], dtype=np.uint64)
        self.digest = (self.digest + int(weighted.sum(dtype=np.uint64))) & DIGEST_BITS
        return sum(rows.events[row] for row, place in zip(take, places, strict=True) if place.folded)

    def admit(self, version: str, segment: Sequence[str]) -> Slot:
        """The slot that a version and its segment values are counted under, within the layout's limits."""
        admitted = (
            _admit(known, value, column)
            for known, value, column in zip(self._known, (version, *segment), self.form.columns, strict=True)
        )
        return next(admitted), tuple(admitted)

    def _place(self, row: DeltaRow, *, late: bool) -> Place:
        known = self._places.get((row.version, row.segment, late))
        if known is not None:
            return known
        key = self.admit(row.version, row.segment)
        raw = "\x1f".join([self.form.id, str(self.start), str(late), key[0], *key[1]]).encode()
        mark = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little") | 1
        slot = (self.late if late else self.on_time).slot(key)
        place = Place(slot, mark, key != (row.version, row.segment))
        if not place.folded:  # of the folded ones there may be any number
            self._places[row.version, row.segment, late] = place
        return place


def _admit(known: set[str], value: str, column: Column) -> str:
    if value in known or value in column.named or value == OTHER:
        return value
    if len(known) >= column.limit:
        return OTHER
    known.add(value)
    return value
