"""Counting rows by pane and cell: a table per (pane, cell, late), and the names of what is odd beside it.

The first two segment columns are crossed into cells; each further one has a table of its own, of the same events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.profiles import BUCKETS, bucket_of
from detectors.tabulate import tabulate
from schemas.profiles import DeltaRow, Extra
from streamer.core.admission import Arrivals, Group
from streamer.core.columns import Features, Marks, Names
from streamer.core.plans import Plan

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Rows of one delta: versions and segment values beyond share one cell per pane, `OTHER`.
CELLS = 4_096
OTHER = "__other__"
#: Kind of the extras that tell of it.
FOLDED = "folded"
#: Names kept per (pane, kind, feature), and per pane in all: those with the smallest hashes, so that what is kept of
#: a sum is what would be kept of its parts.
NAMES, NAMES_IN_ALL = 64, 1_024
_NAME = 64
#: A cost is counted in millionths, up to this many units.
_COST = 1e6
#: So many combinations of codes per row, and they are sorted; counted out otherwise.
_SPARSE = 4


class Counted(NamedTuple):
    """rows: (g,) what each table is of, the cells first; counts: (g, width); extremes: (g, Fn, 2) least and largest.

    folded: events of which a version or a segment value was one of too many for one delta. denied: values of features
    that may not be read.
    """

    rows: list[DeltaRow]
    counts: Ints
    extremes: Ints
    extras: list[Extra]
    folded: int = 0
    denied: int = 0


class Grouped(NamedTuple):
    """rows: what there is; cell: (n,) the place of each event's row. folded: (n,) by column, empty when none was."""

    rows: list[DeltaRow]
    cell: Ints
    folded: list[Bools]


def count(arrivals: Arrivals, group: Group) -> Counted:
    """Count the rows of one layout."""
    plan, at = group.plan, group.rows
    layout = plan.layout
    features = arrivals.values.features(plan, at)
    segments = [arrivals.values.segment(plan, column, at) for column in layout.segments]
    ts = arrivals.ts[at]
    version = Names(arrivals.version.codes[at], arrivals.version.names)
    columns = [bounded(column, layout.limits.string_length) for column in (version, *segments)]
    pane = ts // layout.pane_ms * layout.pane_ms
    cells = rows_of(pane, group.late, columns)
    append = arrivals.append[at] if arrivals.append is not None else None
    served = _Served(ts, append, arrivals.values.marks(plan, at))
    counts, extremes = _tables(plan, cells, features, served)
    odd = _oddities(plan, counts, cells.rows, cells.cell, features)
    counted = Counted(cells.rows, counts, extremes, odd, denied=features.denied)
    if not (layout.marginals or cells.folded):
        return counted
    parts, extras = [counted], [*counted.extras, *_folds(cells, ("version", *layout.segments))]
    folded = np.zeros(at.size, dtype=bool)
    for mask in cells.folded:
        folded |= mask
    for name in layout.marginals:
        column = bounded(arrivals.values.segment(plan, name, at), layout.limits.string_length)
        table = rows_of(pane, group.late, [columns[0], column], marginal=name)
        counts, extremes = _tables(plan, table, features, served)
        _oddities(plan, counts, table.rows, table.cell, features)  # for the schema section; names stand with the cells
        first = sum(len(part.rows) for part in parts)
        parts.append(Counted(table.rows, counts, extremes, []))
        for mask in table.folded:
            folded |= mask
        extras += [
            msgspec.structs.replace(extra, row=extra.row + first)
            for extra in _folds(table, ("version", name))
            if extra.feature == name  # of versions the cells tell
        ]
    return Counted(
        [row for part in parts for row in part.rows],
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.extremes for part in parts]),
        extras,
        int(folded.sum()),
        features.denied,
    )


def rows_of(pane: Ints, late: Bools, columns: Sequence[Names], *, marginal: str = "") -> Grouped:
    """The distinct (pane, version, segment, late), and the place of each row's among them.

    pane, late: (n,); columns: the version, then the segments. marginal: the column whose own table the rows are of.

    >>> version = Names(np.array([0, 0, 1]), ["a", "b"])
    >>> rows, cell, _ = rows_of(np.array([60, 60, 0]), np.zeros(3, dtype=bool), [version])
    >>> [(row.pane, row.version) for row in rows], cell
    ([(0, 'b'), (60, 'a')], array([1, 1, 0]))
    """
    columns = list(columns)
    if int(pane.min()) == int(pane.max()):
        panes, code = pane[:1], np.zeros_like(pane)
    else:
        panes, code = np.unique(pane, return_inverse=True)
    was_late = late.astype(np.int64)
    sizes = [len(column.names) for column in columns]
    first, cell = _distinct([code, was_late, *(column.codes for column in columns)], [panes.size, 2, *sizes])
    folded: list[Bools] = []
    if first.size > CELLS:
        fewer = [_folded(column, first) for column in columns]
        folded = [new.codes == len(new.names) - 1 for new in fewer]
        columns = fewer
        sizes = [len(column.names) for column in columns]
        first, cell = _distinct([code, was_late, *(column.codes for column in columns)], [panes.size, 2, *sizes])
    texts = [map(column.names.__getitem__, column.codes[first].tolist()) for column in columns]
    places = zip(pane[first].tolist(), late[first].tolist(), zip(*texts, strict=True), strict=True)
    rows = [DeltaRow(start, names[0], names[1:], is_late, marginal) for start, is_late, names in places]
    return Grouped(rows, cell, folded)


def bounded(column: Names, limit: int) -> Names:
    """The column with texts beyond the limit cut, and told apart by a hash."""
    if max(map(len, column.names)) <= limit:
        return column
    return Names(column.codes, [name if len(name) <= limit else _short(name, limit) for name in column.names])


def _short(name: str, limit: int) -> str:
    mark = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return name[: max(limit - len(mark) - 1, 0)] + "~" + mark


def _distinct(codes: Sequence[Ints], sizes: Sequence[int]) -> tuple[Ints, Ints]:
    """A row for each distinct combination of codes, and the place of each row's combination among them."""
    key, span = codes[0], sizes[0]
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        if span * size >= 1 << 62:  # ten thousand panes of a million cells: begin anew with what there is
            found, key = np.unique(key, return_inverse=True)
            span = found.size
        key, span = key * size + code, span * size
    n = key.size
    if span > _SPARSE * n + 1024:
        _, first, place = np.unique(key, return_index=True, return_inverse=True)
        return first, place
    first_of = np.full(span, n, dtype=np.int64)
    first_of[key[::-1]] = np.arange(n - 1, -1, -1)
    there = np.flatnonzero(first_of < n)
    place_of = np.empty(span, dtype=np.int64)
    place_of[there] = np.arange(there.size)
    return first_of[there], place_of[key]


def _folded(column: Names, first: Ints) -> Names:
    """The column with all values but the `CELLS // 64` most frequent of the distinct cells as `OTHER`."""
    frequency = np.bincount(column.codes[first], minlength=len(column.names))
    kept = np.argsort(-frequency, kind="stable")[: CELLS // 64]
    codes = np.full(len(column.names), kept.size, dtype=np.int64)
    codes[kept] = np.arange(kept.size)
    return Names(codes[column.codes], [*(column.names[i] for i in kept.tolist()), OTHER])


def _folds(grouped: Grouped, names: Sequence[str]) -> list[Extra]:
    """How many events each column lost to `OTHER`, by pane; at the first row of it. names: of the columns."""
    if not any(mask.any() for mask in grouped.folded):
        return []
    first: dict[tuple[int, bool], int] = {}
    home = np.array([first.setdefault((row.pane, row.late), at) for at, row in enumerate(grouped.rows)])
    lost = [np.bincount(home[grouped.cell[mask]], minlength=1) for mask in grouped.folded]
    return [
        Extra(row, FOLDED, name, f"into {OTHER}", int(number[row]))
        for name, number in zip(names, lost, strict=True)
        for row in np.flatnonzero(number).tolist()
    ]


class _Served(NamedTuple):
    """Times of events and how they were served: (n,) each."""

    ts: Ints
    append: Ints | None
    marks: Marks


def _tables(plan: Plan, grouped: Grouped, features: Features, served: _Served) -> tuple[Ints, Ints]:
    """Counts (g, width) and extremes (g, Fn, 2) of the groups."""
    cell, g = grouped.cell, len(grouped.rows)
    counts, least, largest = tabulate(plan.table, plan.binner, features.numeric, features.categorical, cell, g)
    _sections(plan, counts, cell, served)
    return counts, np.stack([least, largest], axis=-1)


def _sections(plan: Plan, counts: Ints, cell: Ints, served: _Served) -> None:
    ts, append, marks = served
    table, g = plan.table, counts.shape[0]
    if append is not None:
        delay = np.maximum(append - ts, 0).astype(np.float64)
        known = append >= 0
        counts[:, table.delay] = _buckets(delay, cell, g, known=None if known.all() else known)
    if marks.latency is not None:
        counts[:, table.latency] = _buckets(marks.latency, cell, g, known=~np.isnan(marks.latency))
    if marks.cost is not None:
        known = ~np.isnan(marks.cost)
        money = np.rint(np.clip(marks.cost[known], -_COST, _COST) * 1e6).astype(np.int64)
        counts[:, table.cost.start] = np.bincount(cell[known], minlength=g)
        counts[:, table.cost_sizes] = _buckets(marks.cost * 1e6, cell, g, known=known)
        np.add.at(counts[:, table.cost.start + 1], cell[known], money)
    if marks.status is not None:
        for kind in (0, 1):
            counts[:, table.status.start + kind] = np.bincount(cell[marks.status == kind], minlength=g)


def _buckets(milliseconds: npt.NDArray[np.float64], cell: Ints, g: int, *, known: npt.NDArray[np.bool_] | None) -> Ints:
    if known is not None:
        milliseconds, cell = milliseconds[known], cell[known]
    return np.bincount(cell * BUCKETS + bucket_of(milliseconds), minlength=g * BUCKETS).reshape(g, BUCKETS)


def _oddities(plan: Plan, counts: Ints, rows: list[DeltaRow], cell: Ints, features: Features) -> list[Extra]:
    """Extras by name, bounded per pane; the schema section counts all of them."""
    if not features.odd:
        return []
    g = len(rows)
    which = np.repeat(np.arange(len(features.odd)), [odd.rows.size for odd in features.odd])
    found, numbers = np.unique(which * g + cell[np.concatenate([odd.rows for odd in features.odd])], return_counts=True)
    names = [odd[:3] for odd in features.odd]
    by_pane: dict[int, dict[tuple[str, str, str], list[tuple[int, int]]]] = {}
    for key, number in zip(found.tolist(), numbers.tolist(), strict=True):
        by_pane.setdefault(rows[key % g].pane, {}).setdefault(names[key // g], []).append((key % g, number))
    for column, kind in enumerate(("unknown", "wrong_type"), start=plan.table.schema.start):
        mine = np.array([name[0] == kind for name in names])[found // g]
        np.add.at(counts[:, column], found[mine] % g, numbers[mine])
    merged: dict[tuple[int, str, str, str], int] = {}
    for of_pane in by_pane.values():
        for name in kept(of_pane):
            for row, number in of_pane[name]:
                at = (row, name[0], name[1], _cut(name[2]))
                merged[at] = merged.get(at, 0) + number
    return [Extra(row, kind, feature, name, number) for (row, kind, feature, name), number in sorted(merged.items())]


def kept(names: Collection[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Of (kind, feature, name) those that a pane keeps: the smallest by hash, `NAMES` per feature; all of `FOLDED`.

    >>> len(kept([("unseen", "city", str(i)) for i in range(1000)]))
    64
    """
    if len(names) <= NAMES:
        return list(names)
    by_feature: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for name in sorted(names, key=_hash):
        by_feature.setdefault(name[:2], []).append(name)
    chosen = (name for found in by_feature.values() for name in found[:NAMES])
    return sorted(chosen, key=lambda name: (name[0] != FOLDED, _hash(name)))[:NAMES_IN_ALL]


def _hash(name: tuple[str, str, str]) -> bytes:
    return hashlib.blake2b("\x1f".join((*name[:2], _cut(name[2]))).encode("utf-8", "replace"), digest_size=8).digest()


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
