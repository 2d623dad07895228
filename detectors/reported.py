"""Limits on reported performance, as a user asks for them: `{metric: accuracy, below: 0.8}`.

They are rules on a number that people read, outside the false-alarm budget: they know nothing of season or dependence.
A report is judged when enough of its labels are in, and judged again whenever it is revised; so what was alarmed on
may be amended, or withdrawn. Charts never go back: whoever wants a promise takes the charts of error and calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from detectors.charts.calibration_map import expit
from detectors.outcome_specs import OutcomeSpec
from detectors.outcomes import JoinedRows, OutcomeTable, tabulate_outcomes
from detectors.performance import calibration, measure
from detectors.references import Reference
from schemas.layouts import Layout, ReportLimit, View
from schemas.verdicts import CalibrationReport, Metric, OutcomeReport

#: `Alarm.feature` of the first limit; the others follow downwards.
FIRST = -1_000
DETECTOR = "reported"
#: The share of the predictions that have an outcome; known at maturity.
COVERAGE = "coverage"
#: A mature report is judged with less labels than a limit asks for, when so much of what is usual is in.
OF_HABIT = 0.9
#: Simulated panes that a firing share is counted over.
DRAWS = 200

_CALIBRATED = ("ece", "ece_debiased", "slope", "intercept")
_OF_KIND = {
    "binary": (
        "accuracy", "precision", "recall", "f1", "specificity", "balanced_accuracy", "mcc", "roc_auc",
        "average_precision",
    ),
    "multiclass": ("top_1", "top_5", "balanced_accuracy", "mcc", "macro_f1"),
    "regression": ("mae", "bias", "rmse", "r2"),
}  # fmt: skip
_RANKED = ("roc_auc", "average_precision")
_OF_SCORES = ("log_loss", "brier", "brier_reliability", "brier_resolution")


def metrics_of(spec: OutcomeSpec) -> tuple[str, ...]:
    """Names that a limit may be on.

    >>> metrics_of(OutcomeSpec(kind="regression"))
    ('mae', 'bias', 'rmse', 'r2', 'coverage')
    """
    found = _OF_KIND[spec.kind]
    if spec.kind != "regression" and spec.probability:
        found += (*(_OF_SCORES if spec.kind == "binary" else ()), *_CALIBRATED)
    return (*found, COVERAGE)


def words(limit: ReportLimit) -> str:
    """A limit on one line; limits of a layout differ in it.

    >>> words(ReportLimit(metric="ece", above=0.1, view=View("country", "FR")))
    'ece above 0.1 in country=FR'
    """
    text = f"{limit.metric} {'below' if limit.above is None else 'above'} {bound(limit):g}"
    return text if limit.view == View() else f"{text} in {limit.view}"


def bound(limit: ReportLimit) -> float:
    """The number that must not be passed."""
    return limit.above if limit.above is not None else limit.below if limit.below is not None else math.nan


def passed(limit: ReportLimit, value: float) -> bool:
    """Whether a number is on the wrong side.

    >>> passed(ReportLimit(metric="accuracy", below=0.8), 0.79), passed(ReportLimit(metric="mae", above=2.0), 2.0)
    (True, False)
    """
    return value > limit.above if limit.above is not None else value < bound(limit)


def number(limit: ReportLimit, report: OutcomeReport, *, habit: float = math.nan) -> Metric | None:
    """The number that a limit is on; None while it is not judged: too few rows, too few of the labels, or no number.

    habit: the usual coverage at maturity, NaN unknown. An early report needs the limit's own coverage, because early
    labels may be unlike late ones; a mature one at most `OF_HABIT` of what is usual.
    """
    view = next((one for one in report.views if one.view == limit.view), None)
    if view is None or view.expected <= 0:
        return None
    if limit.metric == COVERAGE:
        share = view.n / view.expected
        known = not report.early and view.expected >= limit.least
        if not known:
            return None
        return Metric(name=COVERAGE, n=view.expected, value=share, low=None, high=None, interval="none")
    usual = limit.coverage if report.early or math.isnan(habit) else min(limit.coverage, OF_HABIT * habit)
    if view.n < usual * view.expected:
        return None
    return _judged(limit, view.metrics, view.calibration)


def _judged(limit: ReportLimit, metrics: Sequence[Metric], scores: CalibrationReport | None) -> Metric | None:
    found = next((one for one in metrics if one.name == limit.metric and not one.of), None)
    if limit.metric in _CALIBRATED and scores is not None:
        whole = Metric(name="ece", n=scores.n, value=scores.ece, low=None, high=None, interval="none")
        found = whole if limit.metric == "ece" else getattr(scores, limit.metric)
    return None if found is None or found.value is None or found.n < limit.least else found


def firing_share(
    limit: ReportLimit, *, reference: Reference, table: OutcomeTable, n: int, seed: int = 0
) -> float | None:
    """Share of reports on n independent rows that pass a limit although nothing changed, over 200 seeded panes.

    Rows are drawn from what the reference learned: its scores and what they meant. None where it did not learn that
    (more than two classes, regressions, labels of the model's own making, no outcomes).
    """
    labels = reference.labels
    learned = None if labels is None else labels.views.get(limit.view)
    if learned is None or learned.calibration is None or table.spec.kind != "binary" or limit.metric == COVERAGE:
        return None
    of_scores = limit.metric in _CALIBRATED
    if reference.spec("label") is not None and not of_scores and limit.metric not in (*_RANKED, *_OF_SCORES):
        return None
    rng = np.random.default_rng(seed)
    known = learned.calibration.map
    share = known.rows / known.rows.sum()
    row = rng.choice(share.size, size=(DRAWS, n), p=share).ravel()
    score = expit(known.place[row])
    outcome = (rng.random(row.size) < expit(known.logit[row])).astype(np.int64)
    rows = JoinedRows.of(score=score, outcome=outcome)
    counts = tabulate_outcomes(table, rows, np.repeat(np.arange(DRAWS), n), DRAWS)
    always = msgspec.structs.replace(limit, least=1)
    judged = [
        _judged(always, () if of_scores else measure(table, one), calibration(table, one) if of_scores else None)
        for one in counts
    ]
    values = [one.value for one in judged if one is not None and one.value is not None]
    return float(np.mean([passed(limit, value) for value in values])) if values else None


def limits_of(layout: Layout) -> list[tuple[tuple[int, int], ReportLimit]]:
    """Limits with the monitor that their alarms stand under: view and feature."""
    return [((layout.views.index(one.view), FIRST - i), one) for i, one in enumerate(layout.reported)]
