"""Verdicts and window reports: what Tripline says about one pane of one model."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from schemas.layouts import View


class Status(StrEnum):
    """`undecided` is a verdict: there is not enough evidence to say more, and `visible_change` says what would be."""

    UNDECIDED = "undecided"
    OK = "ok"
    DRIFT = "drift"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judgement on one feature of one view.

    value: evidence (w·R, in panes); limit: what it must pass to alarm alone (A). n: events in the pane;
    effective_n: what they count as under the design effect. size: change since `onset` in `unit`, with its interval.
    visible_change: the smallest change, in reference sd, that a day like this one would show with 90 % power.
    shape: of a drift, `step`, `ramp` or `block`, "" while it is too early to say; size_now: over the last panes, in
    `unit`.
    """

    status: Status
    value: float
    limit: float
    n: int
    effective_n: float
    reference: str
    direction: str = ""
    onset: int | None = None
    size: float | None = None
    size_low: float | None = None
    size_high: float | None = None
    unit: str = "sd"
    visible_change: float | None = None
    note: str = ""
    shape: str = ""
    size_now: float | None = None


class FeatureReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Descriptive figures and the verdict on one feature; `*_noise` is the value expected with nothing changed.

    statistics: further ones that the configuration asks for, by name: value, and what it is with nothing changed.
    """

    feature: str
    n: int
    missing: float
    mean: float | None = None
    least: float | None = None
    largest: float | None = None
    psi: float | None = None
    psi_noise: float | None = None
    jensen_shannon: float | None = None
    jensen_shannon_noise: float | None = None
    ks: float | None = None
    ks_noise: float | None = None
    statistics: dict[str, tuple[float, float]] = {}
    verdict: Verdict | None = None


class ViewReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tested view in a window."""

    view: View
    n: int
    features: list[FeatureReport] = []


class CellCount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Events of one cell in a window, late ones included."""

    version: str
    segment: tuple[str, ...]
    n: int


class MarginalCount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Events of one version with one value of a marginal column in a window, late ones included."""

    column: str
    version: str
    value: str
    n: int


class WindowReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened in `[start, end)` (ms) of a model. Key on Kafka: `model|start|revision`.

    revision: 0 at the close; late events make further ones, with `late_n` so far. end may span many empty panes.
    cells: of the first two segment columns, crossed; each event is in one of them. marginals: of each further column by
    itself; each event is in one row of every column.
    quantiles: p50, p90 and p99 of `delay_ms`, `latency_ms` and `cost`, upper ends of buckets of which two make a
    doubling; rates: `error`, `unknown_feature`, `wrong_type`; costs: n, sum and mean, where events carry them.
    false_alarms_spent, false_alarms_stated: incidents that people marked false, and how many the budget allows.
    """

    model: str
    layout: str
    reference: str
    start: int
    end: int
    revision: int
    n: int
    late_n: int
    cells: list[CellCount]
    views: list[ViewReport]
    quantiles: dict[str, float] = {}
    rates: dict[str, float] = {}
    costs: dict[str, float] = {}
    provisional: bool = False
    findings: list[str] = []
    false_alarms_spent: int = 0
    false_alarms_stated: float = 0.0
    marginals: list[MarginalCount] = []


class Metric(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A figure of performance with its 95 % interval; null where the data do not say (no labels, an open end).

    n: rows it rests on. interval: its method, `wilson`, `delta`, `delong`, `student`, `normal`, `wald` or `none`,
    and in what (`delta, logit`). of: a class, "" for all.
    """

    name: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    interval: str
    of: str = ""


class ReliabilityRow(msgspec.Struct, frozen=True, array_like=True):
    """Scores of about one size: n, mean score, frequency of the outcome and its 95 % interval."""

    n: int
    score: float
    frequency: float
    low: float
    high: float


class CalibrationReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether scores are frequencies. ece: mean gap between the two; ece_noise: what perfect scores would show at this
    n; slope: 1 is right, less is over-confident; intercept: 0 is right, more says outcomes are more frequent.
    """

    n: int
    ece: float
    ece_noise: float
    ece_debiased: Metric
    slope: Metric
    intercept: Metric
    reliability: list[ReliabilityRow] = []


class ClassCalibration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the probability of one class of several is its frequency.

    kind: `predicted`, among rows for which the model said the class, frequency that of its being right; `one_vs_rest`,
    over all rows that carried every class's probability. score: mean probability. The rest as in `CalibrationReport`.
    """

    of: str
    kind: Literal["predicted", "one_vs_rest"]
    n: int
    score: float
    frequency: Metric
    ece: float
    ece_noise: float
    slope: Metric
    intercept: Metric


class OutcomeVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a chart of outcomes says of one view at a pane's maturity.

    feature: `error`, `calibration`, or `calibration of CLASS`, one class of several against the rest.
    """

    view: View
    feature: str
    verdict: Verdict


class OutcomeViewReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How well the model did in one view. expected: predictions; n: those with an outcome so far. classes: calibration
    by class, of more than two.
    """

    view: View
    n: int
    expected: int
    metrics: list[Metric] = []
    calibration: CalibrationReport | None = None
    classes: list[ClassCalibration] = []


class OutcomeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How well a model did on the predictions made in `[start, end)` (ms). Key: `model|outcomes|start|revision`.

    early: the charts have not taken the pane yet, labels still come. n: predictions with an outcome, of `expected`;
    coverage: n over expected. late_n: of them those that came after the charts. delays: quantiles of the labels' delay
    in ms by class. verdicts: of the charts, in the report of the pane's maturity only: charts never go back.
    """

    model: str
    layout: str
    reference: str
    start: int
    end: int
    revision: int
    early: bool
    n: int
    expected: int
    late_n: int
    coverage: float | None
    views: list[OutcomeViewReport]
    delays: dict[str, dict[str, float]] = {}
    verdicts: list[OutcomeVerdict] = []
    provisional: bool = False
    findings: list[str] = []
