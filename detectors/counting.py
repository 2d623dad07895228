"""Second pass over a table: counts of every view by block of time, in a fixed amount of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner, FeatureSpec
from detectors.feature_references import HOURS
from detectors.learning import Calendar, Spans, calendar
from detectors.packed import fixed
from detectors.profiles import Table
from detectors.quiet import chance_silences
from detectors.references import OutcomeTable
from detectors.rows import Rows, as_levels
from detectors.seasonality import HOUR, MONDAY_HOUR, hour_of_week, local_ms
from schemas.layouts import View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

FINEST_MS = 10_000
#: Under it, gaps are many enough for the longest to say what chance brings.
_SPARSE_MS = 1_800_000
TABLE_BYTES, MOST_BLOCKS = 256 << 20, 1 << 18
_YES = frozenset({"1", "true", "yes", "positive"})


@dataclass(eq=False)
class ViewCounts:
    """Counts of one view by base block: table (B, W), W all features' columns."""

    view: View
    times: Calendar
    table: npt.NDArray[np.int32]
    rows: int = 0


class Counts:
    """What is counted: specs, views and their blocks; filled by `count`."""

    def __init__(
        self,
        specs: tuple[FeatureSpec, ...],
        views: dict[View, int],
        rows: int,
        *,
        timed: tuple[int, int] | None,
        timezone: str,
        base_ms: int | None = None,
    ) -> None:
        self.specs, self.timed = specs, timed is not None
        self._table, self._binner = Table(specs), Binner(specs)
        self._width = sum(spec.width for spec in specs)
        self._starts = {spec.name: self._table.features[spec.name].start - 1 for spec in specs}
        self.views: list[ViewCounts] = []
        begin, last = timed or (0, 0)
        row_bytes = 4 * max(1, self._width)
        for view, n in {View(): rows, **views}.items():
            share = TABLE_BYTES if not views else TABLE_BYTES // 2 // (1 if view == View() else len(views))
            least = self.views[0].times.base_ms if self.views else FINEST_MS
            most = min(MOST_BLOCKS, share // row_bytes)
            base = base_ms or base_block(rows=n, first=begin, last=last, most=most, least=least)
            first = begin // base
            times = calendar(base_ms=base, first=first, blocks=last // base - first + 1, timezone=timezone)
            self.views.append(ViewCounts(view, times, np.zeros((times.blocks, self._width), dtype=np.int32)))
        blocks = self.views[0].times.blocks
        self._earliest = np.full(blocks, np.iinfo(np.int64).max)
        self._latest = np.full(blocks, -1, dtype=np.int64)
        self._first_hour = begin // HOUR
        self._by_hour = np.zeros(last // HOUR - self._first_hour + 1, dtype=np.int64)
        width = next((spec.width for spec in specs if spec.name == "score"), 0)
        self._outcome_n, self._outcome_sum = np.zeros(width, dtype=np.int64), np.zeros(width)
        self._outcomes_seen = False

    def slice_of(self, spec: FeatureSpec) -> slice:
        """Columns of a feature."""
        start = self._starts[spec.name]
        return slice(start, start + spec.width)

    def count(self, rows: Rows) -> None:
        """Count rows that all have a place: timed ones in a timed plan."""
        if len(rows) == 0:
            return
        columns = self._columns(rows)  # (features, n)
        ts = rows.ts if self.timed else np.zeros(len(rows), dtype=np.int64)
        _add(self.views[0], columns, ts)
        if self.timed:
            block = ts // self.views[0].times.base_ms - self.views[0].times.first
            np.minimum.at(self._earliest, block, ts)
            np.maximum.at(self._latest, block, ts)
            self._by_hour += np.bincount(ts // HOUR - self._first_hour, minlength=self._by_hour.size)
        for column in {counted.view.column for counted in self.views[1:]}:
            values = rows.version if column == "version" else rows.segments.get(column)
            if values is None:
                continue
            of_column = [counted for counted in self.views if counted.view.column == column]
            place = {counted.view.value: i for i, counted in enumerate(of_column)}
            at = np.array(
                [-1 if value is None else place.get(value, -1) for value in as_levels(values)], dtype=np.int64
            )
            order = np.argsort(at, kind="stable")
            ends = np.searchsorted(at[order], np.arange(len(of_column) + 1))
            for i, counted in enumerate(of_column):
                index = order[ends[i] : ends[i + 1]]
                _add(counted, columns[:, index], ts[index])
        self._count_outcomes(rows, columns)

    def _columns(self, rows: Rows) -> Ints:
        """Column within the table of each feature's value; (features, n)."""
        columns = np.empty((len(self.specs), len(rows)), dtype=np.int64)
        numeric = [
            np.asarray(rows.columns[spec.name], dtype=np.float64)
            if spec.name in rows.columns and rows.columns[spec.name].dtype.kind in "fiu"
            else np.full(len(rows), np.nan)
            for spec in self._binner.numeric
        ]
        codes = self._binner.codes_by_feature(np.stack(numeric)) if numeric else np.zeros((0, len(rows)))
        place = {spec.name: i for i, spec in enumerate(self.specs)}
        for i, spec in enumerate(self._binner.numeric):
            columns[place[spec.name]] = codes[i] + self._starts[spec.name]
        for i, spec in enumerate(self._binner.categorical):
            raw = rows.columns.get(spec.name)
            levels = [None] * len(rows) if raw is None else as_levels(raw)
            columns[place[spec.name]] = self._binner.level_codes(i, levels) + self._starts[spec.name]
        return columns

    def _count_outcomes(self, rows: Rows, columns: Ints) -> None:
        raw = rows.columns.get("outcome")
        at = next((i for i, spec in enumerate(self.specs) if spec.name == "score"), None)
        if raw is None or at is None:
            return
        if raw.dtype.kind in "fiu":
            y = raw.astype(np.float64)
        else:
            y = np.array([np.nan if text is None else float(text.lower() in _YES) for text in as_levels(raw)])
        known = np.isfinite(y)
        codes = columns[at][known] - self._starts["score"]
        self._outcome_n += np.bincount(codes, minlength=self._outcome_n.size)
        self._outcome_sum += np.bincount(codes, y[known], self._outcome_sum.size)
        self._outcomes_seen |= bool(known.any())

    def outcomes(self) -> OutcomeTable | None:
        """Scores and outcomes, when there were any."""
        if not self._outcomes_seen:
            return None
        return OutcomeTable(n=self._outcome_n, positives=fixed(self._outcome_sum))

    def weekdays_seen(self) -> set[int]:
        """Local weekdays with rows, Monday 0."""
        times = self.views[0].times
        return {int(day) for day in np.unique(times.weekdays[times.day[self._latest >= 0]])}

    def gaps(self, timezone: str, excluded: Spans) -> Ints:
        """Longest gap that touches each hour of the week, ms; an hour that was never seen takes the longest of all."""
        longest = np.zeros(HOURS, dtype=np.int64)
        if not self.timed:
            return longest
        filled = np.flatnonzero(self._latest >= 0)
        begins, ends = self._between(filled, excluded)
        lengths = ends - begins
        for touched in (begins, ends):
            np.maximum.at(longest, hour_of_week(local_ms(touched, timezone=timezone)), lengths)
        for i in np.flatnonzero(lengths > HOUR).tolist():
            inside = np.arange(begins[i], min(ends[i], begins[i] + HOURS * HOUR), HOUR)
            np.maximum.at(longest, hour_of_week(local_ms(inside, timezone=timezone)), lengths[i])
        seen = np.zeros(HOURS, dtype=np.bool_)
        seen[hour_of_week(local_ms(self._latest[filled], timezone=timezone))] = True
        longest[~seen] = np.maximum(longest[~seen], longest.max(initial=0))
        return longest

    def silences(self, timezone: str, excluded: Spans, limits: Floats) -> Ints:
        """Silences that chance brings, (168,) ms, see `quiet`; (0,) where all are within `limits`, those by the gaps.

        Also where none is longer than half an hour: there, the longest of many gaps is guide enough.
        """
        none = np.zeros(0, dtype=np.int64)
        if not self.timed:
            return none
        starts = (self._first_hour + np.arange(self._by_hour.size)) * HOUR
        open_hours = np.ones(starts.size, dtype=np.bool_)
        for begin, end in excluded:
            open_hours &= (starts + HOUR <= begin) | (starts >= end)
        hour = hour_of_week(local_ms(starts[open_hours], timezone=timezone))
        begins, ends = self._between(np.flatnonzero(self._latest >= 0), excluded)
        found = chance_silences(
            np.bincount(hour, self._by_hour[open_hours], HOURS).astype(np.float64),
            np.bincount(hour, minlength=HOURS).astype(np.float64),
            begins=local_ms(begins, timezone=timezone) / HOUR - MONDAY_HOUR,
            ends=local_ms(ends, timezone=timezone) / HOUR - MONDAY_HOUR,
        )
        return found if ((found > limits) & (found > _SPARSE_MS)).any() else none

    def _between(self, filled: Ints, excluded: Spans) -> tuple[Ints, Ints]:
        """Begins and ends, ms, of the gaps between filled blocks that no left-out span touches."""
        begins, ends = self._latest[filled[:-1]], self._earliest[filled[1:]]
        for begin, end in excluded:
            free = (ends <= begin) | (begins >= end)
            begins, ends = begins[free], ends[free]
        return begins, ends


def base_block(*, rows: int, first: int, last: int, most: int, least: int = FINEST_MS) -> int:
    """Length in ms of the base block: the least 10 s·2^k with a row per block on average and at most `most` blocks.

    >>> base_block(rows=8_064, first=0, last=8_063 * 151_000, most=1 << 18)
    160000
    """
    base = least
    while base <= (1 << 50) and (last // base - first // base + 1 > most or rows * base < last - first):
        base *= 2
    return base


def _add(counted: ViewCounts, columns: Ints, ts: Ints) -> None:
    counted.rows += ts.size
    if ts.size == 0 or columns.size == 0:
        return
    times, width = counted.times, counted.table.shape[1]
    block = ts // times.base_ms - times.first
    low, high = int(block.min()), int(block.max()) + 1
    if (high - low) * width <= 8 * columns.size + 4096:
        flat = columns + (block - low) * width
        size = (high - low) * width
        counted.table[low:high] += np.bincount(flat.ravel(), minlength=size).reshape(-1, width).astype(np.int32)
    else:  # rows scattered over time
        np.add.at(counted.table.reshape(-1), (columns + block * width).ravel(), 1)
