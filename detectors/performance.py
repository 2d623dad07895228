"""How well a model does, from an outcome table: every figure with its n and a 95 % interval, and which one it is.

Intervals take the rows as independent. `wilson`: of a share. `wilson, combined`: of a mean of shares (MOVER), or of a
share that another figure follows from (F1). `delta`: normal, by the delta method. `delta, logit`: normal in the logit.
`delong`: AUC's own, in the logit. `normal`: of a mean. What a table cannot say (no labels, one class) is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcomes import FOURTH_BITS, LOSS_BITS, SCORE_BITS, OutcomeTable
from detectors.profiles import BUCKETS, bucket_quantile
from detectors.statistics import calibration_error as calibrated
from detectors.statistics.intervals import Z, delta, mean, mean_of_shares, on_logit, wilson
from detectors.statistics.ranking import average_precision, roc_auc, within_bins
from schemas.verdicts import CalibrationReport, Metric, ReliabilityRow

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Delays of two classes differ when their medians are this many times apart, each of at least so many outcomes.
UNLIKE, LEAST_DELAYS = 2.0, 50
#: Early labels mislead when the coverage of the classes' pane is below this.
COVERED = 0.95


def measure(table: OutcomeTable, counts: Ints) -> list[Metric]:
    """Metrics of a pane, or of any sum of panes: counts (width,).

    >>> from detectors.outcomes import JoinedRows, OutcomeSpec, tabulate_outcomes
    >>> table = OutcomeTable(OutcomeSpec(kind="binary", classes=("0", "1"), edges=(0.25, 0.5, 0.75)))
    >>> rows = JoinedRows.of(score=np.array([0.1, 0.3, 0.6, 0.9]), outcome=np.array([0, 0, 1, 1]))
    >>> found = measure(table, tabulate_outcomes(table, rows, np.zeros(4, np.int64), 1)[0])
    >>> [(one.name, one.value, one.low) for one in found[:2]]
    [('accuracy', 1.0, 0.510109164), ('precision', 1.0, 0.177681)]
    """
    if table.spec.kind == "regression":
        return list(_regression(table, counts))
    found = list(_labels(table, counts))
    if table.spec.kind == "binary":
        found += _ranking(table, counts)
        found += _losses(table, counts) if table.spec.probability else []
    return found


def calibration(table: OutcomeTable, counts: Ints) -> CalibrationReport | None:
    """Calibration error, slope, intercept and reliability; None without probabilities that have an outcome.

    Of more than two classes it is the calibration of the largest probability as the chance that the label is right.
    """
    if not table.spec.probability or table.spec.kind == "regression":
        return None
    sums = score_sums(table, counts)
    n = int(sums[:, 0].sum())
    if n == 0:
        return None
    rows = calibrated.grouped(sums)
    error = calibrated.calibration_error(rows)
    slope, intercept = calibrated.line(sums)
    return CalibrationReport(
        n=n,
        ece=_nine(error.raw) or 0.0,
        ece_noise=_nine(error.noise) or 0.0,
        ece_debiased=_metric("ece_debiased", n, *error.debiased, "normal"),
        slope=_metric("slope", n, *slope, "wald"),
        intercept=_metric("intercept", n, *intercept, "wald"),
        reliability=[
            ReliabilityRow(int(rows_n), *(_nine(x) or 0.0 for x in others))
            for rows_n, *others in calibrated.reliability(rows)
        ],
    )


def score_sums(table: OutcomeTable, counts: Ints) -> Floats:
    """Score bins as numbers: (bins, 5) n, Σy, Σp, Σp², Σpy."""
    sums = counts[table.bins].reshape(-1, 5).astype(np.float64)
    sums[:, 2:] = np.ldexp(sums[:, 2:], -SCORE_BITS)
    return sums


def coverage(table: OutcomeTable, counts: Ints) -> float | None:
    """Share of the predictions that could get an outcome that have one; None when there were none."""
    expected = int(counts[table.expected])
    return int(counts[table.n]) / expected if expected else None


def delays(table: OutcomeTable, counts: Ints) -> dict[str, dict[str, float]]:
    """Quantiles p50, p90 and p99 of the delay in ms, by class; one entry "" where classes are not kept apart."""
    names = table.spec.classes if table.delays > 1 else ("",)
    rows = counts[table.delay].reshape(-1, BUCKETS)
    return {
        name: {f"p{percent}": bucket_quantile(row, percent / 100) or 0.0 for percent in (50, 90, 99)}
        for name, row in zip(names, rows, strict=True)
        if row.sum() > 0
    }


def unlike_delays(table: OutcomeTable, counts: Ints) -> tuple[str, str] | None:
    """The classes whose labels come soonest and latest, when early labels are not like late ones; else None.

    Then the performance of a pane that is not yet covered is biased towards the first.
    """
    if table.delays < 2:
        return None
    rows = counts[table.delay].reshape(-1, BUCKETS)
    return unlike_medians(
        {
            name: bucket_quantile(row, 0.5) or 0.0
            for name, row in zip(table.spec.classes, rows, strict=True)
            if row.sum() >= LEAST_DELAYS
        }
    )


def unlike_medians(medians: Mapping[str, float]) -> tuple[str, str] | None:
    """The same from median delays by class.

    >>> unlike_medians({"0": 43_200_000, "1": 7_200_000}), unlike_medians({"0": 50.0, "1": 40.0})
    (('1', '0'), None)
    """
    if len(medians) < 2:
        return None
    first, last = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    return (first, last) if medians[last] >= UNLIKE * max(medians[first], 1.0) else None


def errors_of(table: OutcomeTable, counts: Ints) -> tuple[int, int]:
    """Rows with a predicted label (or, of a regression, with a value), and how many of them are wrong."""
    right, _, actual = counts[table.margins].reshape(-1, 3).T
    n = int(actual.sum())
    return n, n - int(right.sum())


def _labels(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    right, predicted, actual = counts[table.margins].reshape(-1, 3).T.astype(float)
    n = int(actual.sum())
    if n == 0:
        return
    binary, classes = table.spec.kind == "binary", table.spec.classes
    yield _share("accuracy" if binary else "top_1", right.sum(), n)
    if not binary and counts[table.top][0] > 0:
        ranked, hit = counts[table.top].tolist()
        yield _share("top_5", hit, ranked)
    if binary:
        yield _share("precision", right[1], predicted[1])
        yield _share("recall", right[1], actual[1])
        yield _f1("f1", right[1], predicted[1], actual[1])
        yield _share("specificity", right[0], actual[0])
    kept = actual > 0
    yield _metric(
        "balanced_accuracy",
        n,
        float((right[kept] / actual[kept]).mean()),
        *mean_of_shares(right[kept].tolist(), actual[kept].tolist()),
        "wilson, combined",
    )
    yield _correlation(table, counts)
    if binary:
        return
    yield _macro_f1(table, counts)
    for name, r, p, a in zip(classes, right.tolist(), predicted.tolist(), actual.tolist(), strict=True):
        if a > 0:
            yield _share("recall", r, a, of=name)
        if p > 0:
            yield _share("precision", r, p, of=name)
        if a + p > 0:
            yield _f1("f1", r, p, a, of=name)


def _correlation(table: OutcomeTable, counts: Ints) -> Metric:
    """Matthews' correlation coefficient, by Gorodkin for more than two classes; its error needs the whole table."""
    right, predicted, actual = counts[table.margins].reshape(-1, 3).T.astype(float)
    n, k, cells = int(actual.sum()), right.size, _confusion(table, counts)

    def figure(cells: Floats) -> Floats:
        table = cells[..., : k * k].reshape(*cells.shape[:-1], k, k)
        t, p = table.sum(axis=-2), table.sum(axis=-1)
        c, s = np.trace(table, axis1=-2, axis2=-1), table.sum(axis=(-2, -1))
        return np.asarray(_mcc(c, s, t, p))

    value = float(_mcc(right.sum(), float(n), actual, predicted))
    if cells is None:
        return _metric("mcc", n, value, -1.0, 1.0, "none")
    _, error = delta(cells, figure)
    return _metric("mcc", n, value, max(-1.0, value - Z * error), min(1.0, value + Z * error), "delta")


def _confusion(table: OutcomeTable, counts: Ints) -> Floats | None:
    """Who was taken for whom, (classes²,); None where that is not counted in full."""
    cells = counts[table.confusion].astype(float)
    return cells if cells.size and not counts[table.outside].any() else None


def _mcc(c: Floats | float, s: Floats | float, t: Floats, p: Floats) -> Floats:
    top = c * s - (t * p).sum(axis=-1)
    below = np.sqrt(np.maximum((s * s - (p * p).sum(axis=-1)) * (s * s - (t * t).sum(axis=-1)), 0.0))
    return np.asarray(np.divide(top, below, out=np.zeros(np.shape(top)), where=below > 0))


def _macro_f1(table: OutcomeTable, counts: Ints) -> Metric:
    """Mean F1 over the classes that occur; its error needs the whole table."""
    right, predicted, actual = counts[table.margins].reshape(-1, 3).T.astype(float)
    n, k, cells = int(actual.sum()), right.size, _confusion(table, counts)
    kept = actual + predicted > 0
    value = float((2 * right[kept] / (actual + predicted)[kept]).mean())
    if cells is None:
        return _metric("macro_f1", n, value, 0.0, 1.0, "none")

    def figure(cells: Floats) -> Floats:
        table = cells.reshape(*cells.shape[:-1], k, k)
        both = (table.sum(axis=-2) + table.sum(axis=-1))[..., kept]
        return np.asarray((2 * np.diagonal(table, axis1=-2, axis2=-1)[..., kept] / both).mean(axis=-1))

    _, error = delta(cells, figure)
    return _metric("macro_f1", n, value, *on_logit(value, error), "delta, logit")


def _ranking(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    sums = score_sums(table, counts)
    n, y, p, pp, py = sums.T
    if y.sum() == 0 or y.sum() == n.sum():
        return
    total = int(n.sum())
    inside, spread = within_bins(n, y, p, pp, py)
    value, error = roc_auc(n - y, y, inside)
    yield _metric("roc_auc", total, value, *on_logit(value, error), "delong")
    value, error = average_precision(n - y, y, spread)
    yield _metric("average_precision", total, value, *on_logit(value, error), "delta, logit")


def _losses(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    sums = score_sums(table, counts)
    n = int(sums[:, 0].sum())
    if n == 0:
        return
    for name, (total, squares) in zip(
        ("log_loss", "brier"), np.ldexp(counts[table.losses].reshape(2, 2).astype(float), -LOSS_BITS), strict=True
    ):
        value, low, high = mean(total, squares, n)
        yield _metric(name, n, value, max(0.0, low), high, "normal")
    groups = calibrated.grouped(sums)
    ends = wilson(float(sums[:, 1].sum()), n)
    spread = [end * (1 - end) for end in ends]
    most = 0.25 if ends[0] <= 0.5 <= ends[1] else max(spread)
    uncertainty = calibrated.brier_parts(groups).uncertainty
    yield _metric("brier_uncertainty", n, uncertainty, min(spread), most, "wilson, combined")
    cells = np.concatenate((groups[:, 1], groups[:, 0] - groups[:, 1]))
    share = groups[:, 2] / groups[:, 0]

    def reliability(counts: Floats) -> Floats:
        y, rows = counts[..., : share.size], counts[..., : share.size] + counts[..., share.size :]
        return np.asarray((rows * (share - y / rows) ** 2).sum(axis=-1) / rows.sum(axis=-1))

    def resolution(counts: Floats) -> Floats:
        y, rows = counts[..., : share.size], counts[..., : share.size] + counts[..., share.size :]
        base = y.sum(axis=-1, keepdims=True) / rows.sum(axis=-1, keepdims=True)
        return np.asarray((rows * (y / rows - base) ** 2).sum(axis=-1) / rows.sum(axis=-1))

    # Both are sums of squares: what noise alone adds to them, and to the slopes that their errors are made of, is
    # taken out (Ferro, Fricker 2012, "A bias-corrected decomposition of the Brier score"); of the variance half of
    # it only, as squares are skewed: all of it covers 92 %, half 95 %.
    weight, rate = groups[:, 0] / n, groups[:, 1] / groups[:, 0]
    noise = rate * (1 - rate) / groups[:, 0]
    bias, twice = float((weight * noise).sum()), 2.0 * float((weight * noise) @ (weight * noise))
    for name, figure in (("brier_reliability", reliability), ("brier_resolution", resolution)):
        value, error = delta(cells, figure)
        half = Z * math.sqrt(max(error * error - twice / 2.0, twice))
        middle = value - bias
        yield _metric(name, n, max(0.0, middle), max(0.0, middle - half), max(0.0, middle + half), "delta")


def _regression(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    raw = counts[table.errors].astype(np.float64)
    n = int(raw[0])
    if n == 0:
        return
    e, size, e2, u, u2 = np.ldexp(raw[2:7], -LOSS_BITS) / n
    e4, u3, u4, e2u, e2u2 = np.ldexp(raw[7:12], -FOURTH_BITS) / n
    scale = table.spec.scale
    for name, first in (("mae", size), ("bias", e)):
        value, low, high = mean(first * n, e2 * n, n)
        yield _metric(name, n, value * scale, low * scale, high * scale, "normal")
    half = Z * math.sqrt(max(e4 - e2 * e2, 0.0) / n)
    ends = (math.sqrt(max(e2 - half, 0.0)), math.sqrt(e2 + half))
    yield _metric("rmse", n, math.sqrt(e2) * scale, ends[0] * scale, ends[1] * scale, "delta")
    variance = u2 - u * u
    if variance <= 0:
        return
    r2 = 1.0 - e2 / variance
    # ψ = (e² − mse)/V − mse·((u − ū)² − V)/V², the influence of a row on 1 − R².
    c4 = u4 - 4 * u * u3 + 6 * u * u * u2 - 3 * u**4
    both = e2u2 - 2 * u * e2u + u * u * e2 - e2 * variance
    psi = (e4 - e2 * e2) - 2 * (e2 / variance) * both + (e2 / variance) ** 2 * (c4 - variance * variance)
    half = Z * math.sqrt(max(psi, 0.0) / n) / variance
    yield _metric("r2", n, r2, r2 - half, min(1.0, r2 + half), "delta")


def _share(name: str, hits: float, n: float, *, of: str = "") -> Metric:
    value = hits / n if n else math.nan
    return _metric(name, int(n), value, *wilson(hits, n), "wilson", of=of)


def _f1(name: str, right: float, predicted: float, actual: float, *, of: str = "") -> Metric:
    """2J/(1 + J) of the share J of right ones among those that either the model or the truth calls so."""
    either = predicted + actual - right
    low, high = wilson(right, either)
    value = 2 * right / (predicted + actual) if either else math.nan
    return _metric(name, int(either), value, 2 * low / (1 + low), 2 * high / (1 + high), "wilson, combined", of=of)


def _metric(name: str, n: int, value: float, low: float, high: float, interval: str, *, of: str = "") -> Metric:  # noqa: PLR0917 - a row of a table
    return Metric(name=name, n=n, value=_nine(value), low=_nine(low), high=_nine(high), interval=interval, of=of)


def _nine(value: float) -> float | None:
    """Nine digits; None for what is no number or has no end."""
    return float(f"{value:.9g}") if math.isfinite(value) else None
