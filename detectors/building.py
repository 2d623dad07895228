"""Building a reference from a table in two passes of bounded memory: `survey` all chunks, `count` the same, `finish`.

Why two: the bins must be known before anything can be counted in them. Why blocks of time: profile and design effect
need every direction's sum along time, and directions are known only when all is counted; so counts are kept by base
block, as fine as 256 MB allow. Nothing depends on how the rows were cut into chunks. 10 million rows × 10 features with
six views take 320 MB and 8 s of CPU, two cores (`python -m loadtest.references`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.batches import BATCH_MS, LEAST_BATCHES, BatchClock
from detectors.bins import FeatureSpec
from detectors.counting import Counts
from detectors.derived import Derivation
from detectors.derived_specs import ALL, derived_specs
from detectors.horizon import Horizon
from detectors.joint_sample import JointSample
from detectors.learning import Spans, learn, learn_timeless, merged
from detectors.outcome_learning import OutcomeCounts, spec_for
from detectors.outcome_specs import OutcomeSpec, class_codes
from detectors.references import FeatureReference, Finding, Reference, ViewReference, identified
from detectors.rows import NO_TIME, Rows, as_levels
from detectors.rules import silence_limits
from detectors.seasonality import DAY, local_ms
from detectors.served import SERVED, STATUS_LEVELS, served_rows
from detectors.survey import Levels, Survey, hashes_of
from detectors.unlike_days import finding_of
from schemas.layouts import Layout, View

VIEWS, VIEW_ROWS_A_DAY = 64, 1000
FEW_ROWS = 500
OUTPUTS = {"score": "numeric", "label": "categorical", "value": "numeric"}
OUTCOME, OUTCOME_TIME = "outcome", "outcome_ts"
_CHUNK = 1 << 16


class ReferenceBuilder:
    """Learns a reference of one model.

    kind: `predictions` (columns `score`, `label`, `value` are outputs, `outcome` is what came true) or `features`.
    segments: columns of `Rows.segments` whose values become views when they have 1,000 rows a day. features: columns to
    keep, all when None. exclude: [from, to) in ms that a person leaves out. positive: the positive of two classes, "":
    by its name. maturity_ms: outcomes that came later (column `outcome_ts`) are not counted; 0: all are. batch_gap_ms:
    rows further apart are of two batches, and a pane is a batch (`batches`); 0: a pane is a slice of time.
    served: columns that say how a prediction was served (`detectors.served`); others of those names are features.
    derived: numeric features that `detectors.derived` makes further ones of; `ALL`: of all of them, up to 20.

    >>> rows = Rows(ts=np.arange(2000) * 600_000, columns={"x": np.arange(2000) % 50 * 1.0})
    >>> builder = ReferenceBuilder("m", "features")
    >>> builder.survey(rows)
    >>> builder.count(rows)
    >>> reference = builder.finish()
    >>> reference.n, reference.views[View()].features["x"].directions.names[:2]
    (2000, ('location', 'scale'))
    """

    def __init__(  # noqa: PLR0917 - the first four read in this order everywhere
        self,
        model: str,
        kind: str = "predictions",
        timezone: str = "UTC",
        segments: Sequence[str] = (),
        features: Sequence[str] | None = None,
        exclude: Sequence[tuple[int, int]] = (),
        *,
        positive: str = "",
        maturity_ms: int = 0,
        batch_gap_ms: int = 0,
        served: Sequence[str] = (),
        derived: Sequence[str] = (),
    ) -> None:
        strange = [name for name in served if name not in SERVED or kind != "predictions"]
        if strange:
            raise ValueError(f"served: {strange[0]!r} says nothing of how {kind} were served")
        local_ms(np.zeros(1, dtype=np.int64), timezone=timezone)  # an unknown zone is refused here
        # Batches have a clock of their own, without daylight saving.
        self._model, self._kind, self._timezone = model, kind, "UTC" if batch_gap_ms else timezone
        self._segments = tuple(segments)
        self._wanted = None if features is None else tuple(features)
        self._batch_gap_ms = batch_gap_ms
        # The pass that surveys and the one that counts cut the same batches.
        self._clocks = BatchClock(batch_gap_ms), BatchClock(batch_gap_ms)
        self._excluded: Spans = merged(tuple((int(begin), int(end)) for begin, end in exclude))
        self._served = tuple(name for name in SERVED if name in served)
        self._derived = tuple(dict.fromkeys(derived))
        self._joint = JointSample(None if self._derived == ALL else self._derived) if self._derived else None
        self._derivation: Derivation | None = None
        self._outputs = {**OUTPUTS, **{name: SERVED[name] for name in self._served}} if kind == "predictions" else {}
        self._survey = Survey(self._outputs)
        self._seen = self._untimed = 0
        self._first, self._last = np.iinfo(np.int64).max, -1
        self._horizon, self._strays = Horizon(), 0
        self._values = {column: Levels() for column in ("version", *self._segments)}
        self._positive, self._maturity_ms = positive, maturity_ms
        self._classes, self._has_outcomes = Levels(), False
        self._outcomes: OutcomeCounts | None = None
        self._counts: Counts | None = None
        self._findings: tuple[Finding, ...] = ()
        self._remarks: list[Finding] = []

    def remark(self, finding: Finding) -> None:
        """A finding of whoever reads the table, to stand among those made here. Before `finish`."""
        self._remarks.append(finding)

    def survey(self, rows: Rows) -> None:
        """First pass: take in a chunk, in the order of the table."""
        for name, cells in rows.columns.items():
            if len(cells) != len(rows):
                raise ValueError(f"{name}: {len(cells)} values for {len(rows)} rows")
        numbers = np.arange(self._seen, self._seen + len(rows), dtype=np.int64)
        self._seen += len(rows)
        rows = served_rows(rows, self._served)
        kept = self._kept(rows)
        if not kept.all():
            rows, numbers = rows.take(kept), numbers[kept]
        if len(rows) == 0:
            return
        if self._batch_gap_ms:
            rows = self._clocks[0].retimed(rows)
        timed = rows.ts[rows.ts != NO_TIME]
        self._untimed += len(rows) - timed.size
        if timed.size:
            self._horizon.add(timed)
        columns = {name: column for name, column in rows.columns.items() if self._is_feature(name)}
        self._survey.add(Rows(ts=rows.ts, columns=columns), numbers=numbers)
        if self._joint is not None:
            features = {name: column for name, column in columns.items() if name not in self._outputs}
            self._joint.add(features, hashes_of(numbers))
        outcomes = rows.columns.get(OUTCOME) if self._kind == "predictions" else None
        if outcomes is not None:
            self._has_outcomes = True
            if "score" in rows.columns or "label" in rows.columns:
                self._classes.add(as_levels(outcomes))
        for column, levels in self._values.items():
            values = rows.version if column == "version" else rows.segments.get(column)
            if values is not None:
                levels.add(as_levels(values))

    def count(self, rows: Rows) -> None:
        """Second pass over the same rows, in chunks of any size."""
        counts = self._counts = self._counts or self._plan()
        for at in range(0, len(rows), _CHUNK):
            piece = served_rows(rows.take(slice(at, at + _CHUNK)), self._served)
            kept = self._kept(piece)
            if self._batch_gap_ms:
                piece, kept = self._clocks[1].retimed(piece.take(kept)), np.ones(int(kept.sum()), dtype=np.bool_)
            if counts.timed:
                strays = kept & (piece.ts != NO_TIME) & self._horizon.strays(piece.ts)
                self._strays += int(strays.sum())
                kept &= (piece.ts != NO_TIME) & ~strays
            piece = piece if kept.all() else piece.take(kept)
            if self._derivation is not None:
                more = self._derivation.of_columns(piece.columns, len(piece))
                piece = replace(piece, columns={**piece.columns, **more})
            counts.count(piece)
            if self._outcomes is not None:
                self._outcomes.count(piece)

    def finish(self) -> Reference:
        """What was learned. A table of no rows gives a provisional reference of nothing, not an exception."""
        counts = self._counts = self._counts or self._plan()
        findings = [*self._findings, *self._remarks]
        if self._strays:
            rows = "1 row lies" if self._strays == 1 else f"{self._strays} rows lie"
            words = f"{rows} far from all others in time: left out; kept are those "
            words += _span(self._first, self._last + 1)
            findings.append(Finding("stray_time", "", words))
        if self._outcomes is not None and self._outcomes.sooner:
            words = f"{self._outcomes.sooner:,} outcomes are older than their predictions (outcome_ts): not counted"
            findings.append(Finding("outcomes", OUTCOME, words))
        features: dict[View, dict[str, FeatureReference]] = {counted.view: {} for counted in counts.views}
        for spec in counts.specs:
            model: FeatureReference | None = None
            once = None
            for counted in counts.views:
                blocks = counted.table[:, counts.slice_of(spec)]
                if not counts.timed:
                    found = learn_timeless(spec, blocks.sum(axis=0, dtype=np.int64))
                else:
                    spans = () if model is None else model.excluded
                    found, moved, once, unlike = learn(spec, blocks, counted.times, spans=spans, model=model, once=once)
                    if model is None:
                        findings += _findings(spec, found, moved, self._clocks[0] if self._batch_gap_ms else None)
                    if unlike and not self._batch_gap_ms:
                        findings.append(Finding("unlike_days", spec.name, finding_of(spec.name, unlike)))
                features[counted.view][spec.name] = found
                model = model or found
        n = counts.views[0].rows
        gaps = counts.gaps(self._timezone, self._excluded)
        silences = np.zeros(0, dtype=np.int64)
        if counts.timed and not self._batch_gap_ms:
            limits = silence_limits(gaps, days=(self._last + 1 - self._first) / DAY, rows=n)
            silences = counts.silences(self._timezone, self._excluded, limits)
        if n < FEW_ROWS:
            findings.append(Finding("few_rows", "", f"{n} rows: fewer than {FEW_ROWS} cannot carry a test"))
        findings += [Finding("excluded", "", f"left out by hand: {_span(begin, end)}") for begin, end in self._excluded]
        provisional = self._provisional(counts)
        if provisional:
            findings.append(Finding("short", "", provisional))
        return identified(
            Reference(
                model=self._model,
                kind=self._kind,
                timezone=self._timezone,
                start=self._first if counts.timed else 0,
                end=self._last + 1 if counts.timed else 0,
                n=n,
                specs=counts.specs,
                segments=self._segments,
                views={
                    counted.view: ViewReference(n=counted.rows, features=features[counted.view])
                    for counted in counts.views
                },
                gaps=gaps,
                silences=silences,
                findings=tuple(findings),
                provisional=provisional,
                excluded=self._excluded,
                outcomes=counts.outcomes(),
                batches=self._clocks[0].batches() if self._batch_gap_ms else None,
                served=tuple(name for name in self._served if name in {spec.name for spec in counts.specs}),
                derived=self._derivation,
                labels=None if self._outcomes is None else self._outcomes.finish(),
            )
        )

    def shadow(self, reference: Reference, layout: Layout) -> Reference:
        """The finished reference with what its own replay attained under a layout's settings; see `shadowing`.

        Without times, or with less than two days, there is nothing to replay, and of batches there are too few to judge
        each without itself: the reference as it is.
        """
        from detectors.shadowing import Past, shadow_of

        counts = self._counts
        if (
            counts is None
            or self._batch_gap_ms
            or not counts.timed
            or not reference.specs
            or counts.views[0].times.weekdays.size < 2
        ):
            return reference
        columns = {spec.name: counts.slice_of(spec) for spec in counts.specs}
        past = Past(counts.views[0].table, columns, counts.views[0].times)
        return identified(replace(reference, shadow=shadow_of(reference, layout, past)))

    def _kept(self, rows: Rows) -> npt.NDArray[np.bool_]:
        kept = np.ones(len(rows), dtype=np.bool_)
        for begin, end in self._excluded:
            kept &= (rows.ts < begin) | (rows.ts >= end)
        return kept

    def _is_feature(self, name: str) -> bool:
        if name in self._outputs:
            return True
        if self._kind == "predictions" and name in (OUTCOME, OUTCOME_TIME):
            return False
        return self._wanted is None or name in self._wanted

    def _plan(self) -> Counts:
        survey, findings = self._survey, []
        outputs = [name for name in self._outputs if name in survey.order]
        names = [name for name in survey.order if name not in outputs]
        if self._wanted is not None:
            findings += [
                Finding("absent", name, f"{name} is not in the table: it is left out")
                for name in self._wanted
                if name not in survey.order
            ]
            names = [name for name in self._wanted if name in names]
        specs = []
        for name in (*names, *outputs):
            spec, remarks = survey.spec(name)
            if name == "status" and name in self._served:
                spec, remarks = msgspec.structs.replace(spec, levels=STATUS_LEVELS), []
            specs.append(spec)
            findings += remarks
        if self._joint is not None:
            self._derivation, more, remarks = derived_specs(self._derived, specs, self._outputs, self._joint)
            specs += more
            findings += remarks
            self._joint = None
        if self._horizon.rows:
            self._horizon.close()
            self._first, self._last = self._horizon.low, self._horizon.high
        timed = self._last >= 0
        if timed and self._untimed:
            findings.append(Finding("no_time", "", f"{self._untimed} rows without a time are left out"))
        self._survey = Survey()  # the samples are not needed any more
        rows = survey.rows - (self._untimed if timed else 0)
        chosen, left = self._views(rows, max(1.0, (self._last - self._first) / DAY) if timed else 1.0)
        if left:
            words = f"{left} versions or segment values have rows enough but come after the {VIEWS} largest views"
            findings.append(Finding("views_left_out", "", words))
        if self._has_outcomes:
            levels = [level for level in self._classes.counts if level is not None]
            counted_as = spec_for(specs, levels, positive=self._positive)
            if counted_as is None:
                words = f"outcome: {len(levels)} classes, or no score, label or value to compare with: not counted"
                findings.append(Finding("outcomes", OUTCOME, words))
            else:
                findings += _strangers(specs, counted_as, levels)
                self._outcomes = OutcomeCounts(
                    counted_as,
                    [View(), *chosen],
                    timed=(self._first, self._last) if timed else None,
                    timezone=self._timezone,
                    later_than=self._maturity_ms,
                )
        self._findings = tuple(findings)
        return Counts(
            tuple(specs),
            chosen,
            rows,
            timed=(self._first, self._last) if timed else None,
            timezone=self._timezone,
            base_ms=BATCH_MS if self._batch_gap_ms else None,
        )

    def _views(self, rows: int, days: float) -> tuple[dict[View, int], int]:
        """Views beside the model that have rows enough, the largest first, with their rows; how many were left out."""
        large = [
            (n, View(column, value))
            for column, levels in self._values.items()
            for value, n in levels.counts.items()
            # One value for all rows is the model once more.
            if value is not None and n / days >= VIEW_ROWS_A_DAY and n < rows
        ]
        large.sort(key=lambda found: (-found[0], found[1]))
        return {view: n for n, view in large[: VIEWS - 1]}, max(0, len(large) - VIEWS + 1)

    def _provisional(self, counts: Counts) -> str:
        if not counts.timed:
            return "no times: bins and means only; season and dependence are learned from the stream's own first week"
        if self._batch_gap_ms:
            found = self._clocks[0].count
            few = f"{found} batches: {LEAST_BATCHES} are needed to know how batches differ"
            return few if found < LEAST_BATCHES else ""
        days = (self._last + 1 - self._first) / DAY
        # An hour's grace: a week of hourly rows spans six days and 23 hours.
        if days < 7 - 1 / 24:
            return f"{days:.1f} days: a week is needed to know the season"
        seen = counts.weekdays_seen()
        return "" if seen & {5, 6} else "no weekend seen: the season of a week is not known"


def _strangers(specs: Sequence[FeatureSpec], counted_as: OutcomeSpec, outcomes: Sequence[str]) -> list[Finding]:
    """A finding where no outcome is ever one of the labels: all would count as wrong."""
    labels = next((spec.levels for spec in specs if spec.name == "label"), ())
    if not labels or set(class_codes(counted_as, labels).tolist()) & set(class_codes(counted_as, outcomes).tolist()):
        return []
    named = [", ".join(repr(name) for name in sorted(some)[:5]) for some in (labels, outcomes)]
    words = f"outcome: no outcome ({named[1]}) is one of the labels ({named[0]}): every row counts as wrong"
    return [Finding("outcomes", OUTCOME, words)]


def _findings(
    spec: FeatureSpec, found: FeatureReference, moved: str | None, clock: BatchClock | None = None
) -> list[Finding]:
    spans = found.excluded
    if clock is not None:
        spans = tuple((clock.start_of(begin), clock.end_of(end)) for begin, end in spans)
    findings = [
        Finding("outage", spec.name, f"{spec.name}: missing, unseen or non-finite {_span(begin, end)}; left out")
        for begin, end in spans
    ]
    if moved is not None:
        findings.append(Finding("not_stationary", spec.name, f"{spec.name} is not stationary: {moved}"))
    return findings


def _span(begin: int, end: int) -> str:
    return f"from {_utc(begin)} to {_utc(end)}"


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
