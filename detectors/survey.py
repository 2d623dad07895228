"""First pass over a table: what its columns are. Bounded memory, the same result however the rows are cut into chunks.

A numeric column keeps a uniform sample (the rows with the smallest hashes of their number), its range and what is
missing; a categorical one its levels with exact counts, the first 65,536 of them.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.references import Finding
from detectors.rows import Rows, as_levels

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Hashes: TypeAlias = npt.NDArray[np.uint64]

SAMPLE, SAMPLE_OF_ALL_COLUMNS = 262_144, 1 << 23
COUNTED_LEVELS, KEPT_LEVELS = 65_536, 256
_QUANTILES = 32
#: Numbers that somebody counts on: at most so many for each row, or so large a share of them larger than the last.
_DENSE, _EVER_LARGER = 20, 0.95
#: So many levels say whether a column is of times.
_LOOKED_AT = 64
_WHOLE_FROM, _WORD = 2.0**53, 2.0**64


class Levels:
    """Counts of the first `COUNTED_LEVELS` different values; the rest are counted together in `beyond`."""

    def __init__(self) -> None:
        self.counts: Counter[str | None] = Counter()
        self.beyond = 0

    def add(self, values: list[str | None]) -> None:
        """Take in some rows' values, None for missing."""
        self.counts.update(values)
        if len(self.counts) > COUNTED_LEVELS:
            # In the order of their first row, so that how the rows were cut does not matter.
            for level in list(self.counts)[COUNTED_LEVELS:]:
                self.beyond += self.counts.pop(level)


class Sample:
    """The finite values of the `limit` rows with the smallest hashes, and the range of all.

    rises: how many values are larger than the one in the row before.
    """

    def __init__(self) -> None:
        self.hashes: Hashes = np.zeros(0, dtype=np.uint64)
        self.values: Floats = np.zeros(0)
        self.threshold = np.uint64(2**64 - 1)
        self.low, self.high = np.inf, -np.inf
        self.finite = 0
        self.rises, self.last = 0, np.inf

    def add(self, values: Floats, hashes: Hashes, limit: int) -> None:
        """Take in some rows' values with their hashes."""
        finite = np.isfinite(values)
        if not finite.all():
            values, hashes = values[finite], hashes[finite]
        if values.size == 0:
            return
        self.finite += values.size
        self.rises += int(np.count_nonzero(np.diff(values, prepend=self.last) > 0))
        self.last = float(values[-1])
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        small = hashes <= self.threshold
        self.hashes = np.concatenate([self.hashes, hashes[small]])
        self.values = np.concatenate([self.values, values[small]])
        if self.values.size > limit + limit // 4:
            self.shrink(limit)

    @property
    def counts_on(self) -> bool:
        """Whether values that are whole and never the same twice are numbers that go on: dense, or ever larger.

        Amounts in a small unit need be neither, however seldom one comes twice.
        """
        return self.high - self.low < _DENSE * self.finite or self.rises > _EVER_LARGER * self.finite

    def shrink(self, limit: int) -> None:
        """Keep the `limit` smallest hashes."""
        if self.values.size > limit:
            kept = np.argpartition(self.hashes, limit - 1)[:limit]
            self.hashes, self.values = self.hashes[kept], self.values[kept]
            self.threshold = self.hashes.max()


class Survey:
    """What the columns of a table are.

    >>> survey = Survey()
    >>> survey.add(Rows(ts=np.arange(4), columns={"x": np.array([1.0, 2.0, 2.0, 3.0])}))
    >>> spec, findings = survey.spec("x")
    >>> spec.edges, spec.low, spec.high
    ((1.0, 2.0), 1.0, 3.0)
    """

    def __init__(self, forced: dict[str, str] | None = None) -> None:
        self.rows = 0
        self.numeric: dict[str, Sample] = {}
        self.levels: dict[str, Levels] = {}
        self.order: dict[str, None] = {}
        self._forced = forced or {}

    def add(self, rows: Rows, *, first_row: int | None = None, numbers: Ints | None = None) -> None:
        """Take in rows; `numbers` (or `first_row` and on) are their numbers in the table, which seed the sample."""
        if numbers is None:
            start = self.rows if first_row is None else first_row
            numbers = np.arange(start, start + len(rows), dtype=np.int64)
        self.rows += len(rows)
        hashes = hashes_of(numbers)
        for name, column in rows.columns.items():
            self.order.setdefault(name)
            if self._is_numeric(name, column):
                sample = self.numeric.setdefault(name, Sample())
                # Plus zero: -0.0 is 0.0, whichever of them comes first.
                sample.add(column.astype(np.float64, copy=False) + 0.0, hashes, self._limit)
            else:
                self.levels.setdefault(name, Levels()).add(as_levels(column))

    def spec(self, name: str) -> tuple[FeatureSpec, list[Finding]]:
        """Spec of a column, and what is remarkable about it. A column of both types is categorical."""
        if name in self.levels:
            return self._categorical(name)
        sample = self.numeric[name]
        sample.shrink(self._limit)
        values = np.sort(sample.values)
        findings = []
        if values.size == 0:
            words = f"{name} has no value in any of {self.rows} rows: only its absence is tested"
            return FeatureSpec(name=name, kind="numeric", clip=1.0), [Finding("all_missing", name, words)]
        clip, scale_bits = fixed_point_of(max(abs(sample.low), abs(sample.high)))
        spec = FeatureSpec(
            name=name,
            kind="numeric",
            edges=quantile_edges(values, high=sample.high),
            low=sample.low,
            high=sample.high,
            scale_bits=scale_bits,
            clip=clip,
        )
        if sample.low == sample.high:
            words = f"{name} is always {sample.low:g}: a change shows as below, above or missing only"
            findings.append(Finding("constant", name, words))
        elif values.size >= 1000 and np.unique(values).size == values.size and _counts(values):
            words = f"{name} is whole and never the same twice: it looks like an identifier; leave it out"
            words += " (only its absence is tested)" if sample.counts_on else ""
            findings.append(Finding("id_like", name, words))
            if sample.counts_on:
                # As of an identifier of letters, only its absence is tested: each new one would be out of range.
                return FeatureSpec(name=name, kind="categorical"), findings
        return spec, findings

    @property
    def _limit(self) -> int:
        return max(16_384, min(SAMPLE, SAMPLE_OF_ALL_COLUMNS // max(1, len(self.numeric))))

    def _is_numeric(self, name: str, column: npt.NDArray[Any]) -> bool:
        return self._forced.get(name, "numeric") == "numeric" and column.dtype.kind in "fiu"

    def _categorical(self, name: str) -> tuple[FeatureSpec, list[Finding]]:
        found = self.levels[name]
        counts: Counter[str | None] = Counter({level: n for level, n in found.counts.items() if level is not None})
        findings = []
        if name in self.numeric and self.numeric[name].finite:
            counts.update(as_levels(self.numeric[name].values))
            words = f"{name} holds numbers and words: it is counted by level; say its type in the mapping"
            findings.append(Finding("mixed_types", name, words))
        present = sum(counts.values()) + found.beyond
        ordered = sorted(counts, key=lambda level: (-counts[level], str(level)))
        many = f"{len(ordered)}" if not found.beyond else f"more than {len(ordered)}"
        if present == 0:
            words = f"{name} has no value in any of {self.rows} rows: only its absence is tested"
            findings.append(Finding("all_missing", name, words))
        elif present >= 1000 and (found.beyond > present / 2 or len(ordered) > present / 2):
            kind, what = ("times", "times") if _are_times(ordered) else ("id_like", "an identifier")
            words = f"{name} has {many} levels in {present} rows: it looks like {what}; leave it out"
            words += ", or make a number of it (an age, an hour)" if kind == "times" else ""
            findings.append(Finding(kind, name, words))
            ordered = []
        elif len(ordered) == 1 and not found.beyond:
            words = f"{name} is always {ordered[0]!r}: a change shows as unseen or missing only"
            findings.append(Finding("constant", name, words))
        elif _are_times(ordered):
            words = f"{name} has dates or times for levels: each new one will be unseen; make a number of it (an age)"
            findings.append(Finding("times", name, words))
        if len(ordered) > KEPT_LEVELS:
            kept = sum(counts[level] for level in ordered[:KEPT_LEVELS])
            words = (
                f"{name} has {many} levels: the {KEPT_LEVELS} largest are kept, the others"
                f" ({(present - kept) / present:.1%} of the rows) count as unseen"
            )
            findings.append(Finding("many_levels", name, words))
        levels = tuple(str(level) for level in ordered[:KEPT_LEVELS])
        return FeatureSpec(name=name, kind="categorical", levels=levels), findings


def _are_times(levels: list[str | None]) -> bool:
    """Whether levels are dates or times as ISO 8601 writes them, as far as the most frequent ones say.

    >>> _are_times(["2025-01-31", "2025-01-31T14:00:00Z"]), _are_times(["2025", "20250131", "FR"]), _are_times([])
    (True, False, False)
    """
    some = [str(level) for level in levels[:_LOOKED_AT]]
    return bool(some) and all(map(_is_time, some))


def _is_time(level: str) -> bool:
    # Written without a mark between them, figures are a number as well.
    if level[4:5] != "-":
        return False
    try:
        datetime.fromisoformat(level)
    except ValueError:
        return False
    return True


def _counts(values: Floats) -> bool:
    """Whether sorted values may be numbers that somebody counted on.

    Beyond 2**53 every float is whole: that says something only of what a machine word holds, as ids of 64 bits do.
    """
    if (values % 1.0).any():
        return False
    return bool(np.abs(values).max() < _WHOLE_FROM or (values[0] >= 0.0 and values[-1] < _WORD))


def quantile_edges(ordered: Floats, *, high: float) -> tuple[float, ...]:
    """The unique inverted-CDF quantiles k/32 of sorted values that lie below `high`, the maximum.

    >>> quantile_edges(np.arange(64.0), high=63.0)[:3]
    (1.0, 3.0, 5.0)
    """
    # ceil(k·n/32) − 1 in whole numbers: no rounding can move an edge.
    at = [-(-k * ordered.size // _QUANTILES) - 1 for k in range(1, _QUANTILES)]
    edges = np.unique(ordered[at])
    return tuple(float(edge) for edge in edges[edges < high])


def fixed_point_of(largest: float) -> tuple[float, int]:
    """Clip and scale bits for a column of values up to `largest`: 40 bits, four times the range.

    >>> fixed_point_of(100.0)
    (512.0, 31)
    """
    if largest == 0.0:
        return 4.0, 38
    exponent = int(np.frexp(largest)[1]) + 2
    clip = float(np.ldexp(1.0, exponent)) if exponent < 1024 else float(np.finfo(np.float64).max)
    return clip, int(np.clip(40 - exponent, -1000, 1000))


def hashes_of(numbers: Ints) -> Hashes:
    """Splitmix64 of row numbers: a fixed shuffle."""
    x = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
