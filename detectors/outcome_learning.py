"""Second pass over a table with outcomes: what was wrong, and how often scores came true, by view and block of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.charts.calibration import CalibrationReference, learn_calibration
from detectors.charts.calibration_map import learn_map
from detectors.charts.losses import LossReference, learn_losses
from detectors.class_charts import class_labels, learn_classes
from detectors.outcome_references import OutcomeReference, ViewOutcomes, rounded
from detectors.outcomes import (
    SCORE_BITS,
    JoinedRows,
    OutcomeSpec,
    OutcomeTable,
    P,
    class_codes,
    label_codes,
    labels_by_score,
    losses_of,
    spec_of,
    tabulate_outcomes,
)
from detectors.probabilities import ranks_of, share_of_two, shares_of
from detectors.profiles import BUCKETS, bucket_quantile
from detectors.rows import NO_TIME, Rows, as_levels
from detectors.seasonality import local_ms
from schemas.layouts import View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Blocks of a view: the finest of 10 s, 20 s, … of which there are no more than this.
BLOCKS, BLOCKS_OF_PARTS, FINEST_MS = 4096, 1024, 10_000
#: Labels that a view needs for a reference of its own.
LEAST_LABELS = 500
#: The share of the slowest class's labels that maturity waits for.
MATURE = 0.99
#: Lines of a table are counted in groups of so many cells at most.
_CELLS = 1 << 22


class OutcomeCounts:
    """Counts of outcomes by view and block.

    specs: of the features; classes: levels of the outcomes that were met. timed: first and last time, None for a bag.
    later_than: outcomes that came later than this many ms after their prediction are left out (0: none is).
    """

    def __init__(
        self,
        spec: OutcomeSpec,
        views: Sequence[View],
        *,
        timed: tuple[int, int] | None,
        timezone: str,
        later_than: int = 0,
    ) -> None:
        self.table, self._timezone, self._timed = OutcomeTable(spec), timezone, timed is not None
        self._later_than = later_than
        #: Outcomes that are older than their predictions by their own time: the stream refuses such a record.
        self.sooner = 0
        first, last = timed or (0, 0)
        self._views = {
            view: _ViewBlocks(
                self.table, first, last, most=BLOCKS if view == View() else BLOCKS_OF_PARTS, by_class=view == View()
            )
            for view in views
        }
        self._delays = np.zeros((self.table.delays, BUCKETS), dtype=np.int64)
        self._delayed = False

    def count(self, rows: Rows) -> None:
        """Count rows with an outcome; others say nothing."""
        joined, kept = joined_rows(self.table.spec, rows)
        sooner = kept & (joined.delay_ms < 0)
        self.sooner += int(sooner.sum())
        kept &= ~sooner
        if self._later_than:
            kept &= joined.delay_ms <= self._later_than
        index = np.flatnonzero(kept)
        if index.size == 0:
            return
        joined = joined.take(index)
        self._delayed |= bool(joined.delay_ms.any())
        ts = rows.ts[index] if self._timed else np.zeros(index.size, dtype=np.int64)
        by_column: dict[str, list[str | None]] = {}
        for view, blocks in self._views.items():
            here: Ints | None = None
            if view.column:
                if view.column not in by_column:
                    raw = rows.version if view.column == "version" else rows.segments.get(view.column)
                    by_column[view.column] = [None] * index.size if raw is None else as_levels(raw[index])
                here = np.flatnonzero([value == view.value for value in by_column[view.column]])
            blocks.add(joined if here is None else joined.take(here), ts if here is None else ts[here])
        whole = tabulate_outcomes(self.table, joined, np.zeros(index.size, np.int64), 1)[0]
        self._delays += whole[self.table.delay].reshape(-1, BUCKETS)

    def finish(self) -> OutcomeReference | None:
        """What was learned; None when there was no outcome."""
        whole = self._views[View()]
        if whole.n == 0:
            return None
        views = {
            view: rounded(blocks.learn(self._timezone, timed=self._timed))
            for view, blocks in self._views.items()
            if view == View() or blocks.n >= LEAST_LABELS
        }
        spec = self.table.spec
        names = spec.classes if self.table.delays > 1 else ("",)
        present = [(name, row) for name, row in zip(names, self._delays, strict=True) if row.sum()]
        return OutcomeReference(
            classes=spec.classes,
            n=whole.n,
            views=views,
            maturity_ms=max(_upper(row, MATURE) for _, row in present) if self._delayed else 0,
            counted_ms=self._later_than,
            delays={name: _upper(row, 0.5) for name, row in present} if self._delayed else {},
        )


def spec_for(specs: Sequence[FeatureSpec], levels: Sequence[str], *, positive: str = "") -> OutcomeSpec | None:
    """How a table's outcomes are counted; None when there is nothing to compare them with, or too many classes."""
    return spec_of(specs, levels, positive=positive)


def joined_rows(spec: OutcomeSpec, rows: Rows) -> tuple[JoinedRows, npt.NDArray[np.bool_]]:
    """Rows of a table (`outcome`, `outcome_ts`, `score`, `label`, `value`), and which of them have an outcome."""
    n = len(rows)
    outcome = rows.columns.get("outcome")
    nothing = np.full(n, np.nan)
    if spec.kind == "regression":
        truth = _numbers(outcome, n)
        codes, kept = np.full(n, -1, np.int64), np.isfinite(truth)
    else:
        texts: list[str | None] = [None] * n if outcome is None else as_levels(outcome)
        codes, truth = class_codes(spec, texts), nothing
        kept = codes >= 0
    label, score = rows.columns.get("label"), _numbers(rows.columns.get("score"), n)
    ranks, shares = None, None
    # What has no score is no probability either: a row's own, or one that is refused.
    kept_of = np.isfinite(score)
    proba = [None] * n if rows.proba is None else [
        one if isinstance(one, dict) and kept else None for one, kept in zip(rows.proba, kept_of.tolist(), strict=True)
    ]  # fmt: skip
    if spec.kind == "binary" and any(proba):
        share = share_of_two(proba, spec.classes[1])
        score = np.where(np.isnan(share), score, share)
    if spec.kind == "multiclass" and any(proba):
        ranks = ranks_of(proba, {text: code for code, text in enumerate(spec.classes)})
        shares = shares_of(proba, spec.classes) if spec.probability else None
    came = _numbers(rows.columns.get("outcome_ts"), n)
    timed = np.isfinite(came) & (came != NO_TIME) & (rows.ts != NO_TIME)
    joined = JoinedRows.of(
        score=score,
        label=None if label is None or spec.kind == "regression" else label_codes(spec, as_levels(label)),
        value=_numbers(rows.columns.get("value"), n),
        outcome=codes,
        truth=truth,
        delay_ms=np.where(timed, np.nan_to_num(came) - rows.ts, 0.0).astype(np.int64),
        ranks=ranks,
        shares=shares,
    )
    return joined, kept


class _ViewBlocks:
    """Counts of one view: rows, losses, and outcomes by score, by block."""

    def __init__(self, table: OutcomeTable, first: int, last: int, *, most: int, by_class: bool = False) -> None:
        self.table, self.block_ms, self._by_class = table, FINEST_MS, by_class
        while last // self.block_ms - first // self.block_ms + 1 > most:
            self.block_ms *= 2
        self._first = first // self.block_ms
        blocks = last // self.block_ms - self._first + 1
        bins = (table.bins.stop - table.bins.start) // 5 if table.spec.probability else 0
        self._rows, self._losses = np.zeros(blocks, np.int64), np.zeros(blocks, np.int64)
        self._labels, self._scores = np.zeros((blocks, bins, 2), np.int64), np.zeros(bins, np.int64)
        #: Of the whole model, made when the first row brings every class's probability.
        self._of_classes: tuple[Ints, Floats] | None = None
        self.n = 0

    def add(self, joined: JoinedRows, ts: Ints) -> None:
        block = ts // self.block_ms - self._first
        at = 0
        step = max(1, _CELLS // self.table.width)
        self.n += len(joined)
        order = np.argsort(block, kind="stable")
        different, starts = np.unique(block[order], return_index=True)
        ends = [*starts[1:].tolist(), block.size]
        while at < different.size:  # so many blocks at a time
            stop = min(at + step, different.size)
            take = order[int(starts[at]) : ends[stop - 1]]
            group = np.searchsorted(different[at:stop], block[take])
            self._put(different[at:stop], tabulate_outcomes(self.table, joined.take(take), group, stop - at))
            at = stop

    def _put(self, blocks: Ints, counts: Ints) -> None:
        n, losses = losses_of(self.table, counts)
        self._rows[blocks] += n
        self._losses[blocks] += losses
        if self._scores.size:
            self._labels[blocks] += labels_by_score(self.table, counts)
            self._scores += counts[:, self.table.bins].reshape(len(counts), -1, 5)[..., P].sum(axis=0)
        if self._by_class and counts[:, self.table.by_class].any():
            labels, scores = class_labels(self.table, counts)
            if self._of_classes is None:
                blocks_of = (self._rows.size, *labels.shape[1:])
                self._of_classes = np.zeros(blocks_of, np.int64), np.zeros(blocks_of[:-1])
            self._of_classes[0][blocks] += labels
            self._of_classes[1][blocks] += scores

    def learn(self, timezone: str, *, timed: bool) -> ViewOutcomes:
        blocks = self._rows.size
        starts = (self._first + np.arange(blocks, dtype=np.int64)) * self.block_ms
        local = local_ms(starts, timezone=timezone)
        losses: LossReference | None = None
        if self._rows.any():
            losses = LossReference.plain(float(self._rows.sum()), float(self._losses.sum()) / (1 << 20))
            if timed:
                losses = learn_losses(self._losses, self._rows, local, pane_ms=self.block_ms)
        calibration: CalibrationReference | None = None
        if self._labels.any():
            edges, logits = chart_edges(self.table), self._logits()
            calibration = CalibrationReference.plain(learn_map(edges, self._labels.sum(axis=0), logits))
            if timed:
                calibration = learn_calibration(edges, self._labels, logits, local, pane_ms=self.block_ms)
        counted = self._rows if self._rows.any() else self._labels.sum(axis=(1, 2))
        classes: dict[str, CalibrationReference] = {}
        if self._of_classes is not None:
            classes = learn_classes(self.table, *self._of_classes, local if timed else None, block_ms=self.block_ms)
        return ViewOutcomes(
            losses=losses,
            calibration=calibration,
            block_ms=self.block_ms,
            n_bars=_n_bars(counted.astype(np.float64)),
            classes=classes,
        )

    def _logits(self) -> Floats:
        """Rows times the logit of a bin's mean score: in whole numbers up to the last step, whatever the chunks."""
        rows = self._labels.sum(axis=(0, 2)).astype(np.float64)
        mean = np.clip(np.ldexp(self._scores / np.maximum(rows, 1.0), -SCORE_BITS), 1e-12, 1.0 - 1e-12)
        return np.asarray(rows * (np.log(mean) - np.log1p(-mean)))


def chart_edges(table: OutcomeTable) -> Floats:
    """Edges of the score bins in logit, as the chart of calibration has them."""
    p = np.clip(table.edges, 1e-12, 1.0 - 1e-12)
    return np.asarray(np.log(p) - np.log1p(-p))


def _n_bars(counts: Floats) -> Floats:
    """Σn²/Σn of blocks 1, 2, 4, … times as long."""
    found = []
    while counts.size and counts.sum() > 0:
        found.append(float((counts * counts).sum() / counts.sum()))
        if counts.size < 3:
            break
        even = counts[: counts.size // 2 * 2]
        rest = counts[even.size :]
        counts = np.concatenate((even.reshape(-1, 2).sum(axis=1), rest))
    return np.array(found or [1.0])


def _numbers(column: npt.NDArray[np.generic] | None, n: int) -> Floats:
    if column is None:
        return np.full(n, np.nan)
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    found = np.full(n, np.nan)
    for i, text in enumerate(as_levels(column)):
        try:
            found[i] = np.nan if text is None else float(text)
        except ValueError:
            continue
    return found


def _upper(counts: Ints, share: float) -> int:
    """Upper end in ms of the bucket in which the quantile lies."""
    return int(np.ceil(bucket_quantile(counts, share) or 0.0))
