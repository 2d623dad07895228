"""How well a model does, from an outcome table: every figure with its n and a 95 % interval, and which one it is.

Intervals take the rows as independent. `wilson`: of a share. `wilson, combined`: of a mean of shares (MOVER), or of a
share that another figure follows from (F1). `delta`: normal, by the delta method; in the logit, the logarithm (of
1 − R², of the mean square) or Fisher's transform where that is said. `delong`: AUC's own, in the logit. `student`: of a
mean. What a table cannot say (no labels, one class) is not there.
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
from detectors.statistics.intervals import Z, delta, mean, mean_of_shares, on_fisher, on_log, on_logit, student, wilson
from detectors.statistics.ranking import average_precision, crowded, roc_auc, within_bins
from schemas.verdicts import CalibrationReport, Metric, ReliabilityRow

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Delays of two classes differ when their medians are this many times apart, each of at least so many outcomes.
UNLIKE, LEAST_DELAYS = 2.0, 50
#: Of fewer rows the parts of Brier's score have no interval: a group of scores has next to none of them.
LEAST_PARTED = 150
#: Rows that are added to a table of classes, right and wrong ones each, before its error is computed.
SOFTENED = 2.0
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
    expected = expected_of(table, counts)
    return int(counts[table.n]) / expected if expected else None


def expected_of(table: OutcomeTable, counts: Ints) -> int:
    """Predictions that could get an outcome: those that came by themselves, and at least those that have one.

    An echo brings its own along, which as a rule came by itself, too: counted twice, coverage could not pass one half.
    """
    return max(int(counts[table.expected]), int(counts[table.n]))


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
    balanced = float((right[kept] / actual[kept]).mean())
    low, high = mean_of_shares(right[kept].tolist(), actual[kept].tolist())
    if binary and not kept.all():  # nothing is known of half of it
        low, high = low / 2, (1.0 + high) / 2
    yield _metric("balanced_accuracy", n, balanced, low, high, "wilson, combined")
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
    if cells is None or min((actual > 0).sum(), (predicted > 0).sum()) < 2:
        return _metric("mcc", n, value, -1.0, 1.0, "none")
    soft, error = delta(_softened(cells, k), figure)
    low, high = on_fisher(soft, error)[0], on_fisher(value, error)[1]
    return _metric("mcc", n, value, min(value, low), max(value, high), "delta, fisher")


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
        both = table.sum(axis=-2) + table.sum(axis=-1)
        return np.asarray((2 * np.diagonal(table, axis1=-2, axis2=-1) / both).mean(axis=-1))

    soft, error = delta(_softened(cells, k), figure)
    low, high = on_logit(soft, error)[0], on_logit(value, error)[1]
    return _metric("macro_f1", n, value, min(value, low), max(value, high), "delta, logit")


def _softened(cells: Floats, k: int) -> Floats:
    """Two right rows and two wrong ones more, evenly over the classes: a table without a wrong row, or without a class,
    would say that there is no doubt (after Agresti, Coull 1998, "Approximate is better than exact").

    The lower end of an interval is about the figure of this table, the upper one about the figure as it is.
    """
    right = np.eye(k).ravel()
    return cells + SOFTENED * (right / k + (1.0 - right) / (k * k - k))


def _ranking(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    sums = score_sums(table, counts)
    n, y, p, pp, py = sums.T
    if y.sum() == 0 or y.sum() == n.sum():
        return
    total = int(n.sum())
    inside, spread = within_bins(n, y, p, pp, py)
    few = float(min(y.sum(), (n - y).sum()))
    off = crowded(n, y, p, spread, summed=table.spec.probability)

    def auc(inside: Floats) -> tuple[float, float]:
        return roc_auc(n - y, y, inside)

    def precision(inside: Floats) -> tuple[float, float]:
        return average_precision(n - y, y, spread | (off > 0), inside)

    for name, figure, interval in (("roc_auc", auc, "delong"), ("average_precision", precision, "delta, logit")):
        value, error = figure(inside)
        # DeLong's error rests on the rarer class.
        low, high = on_logit(value, error if few > 1 else math.inf, df=max(few - 1.0, 1.0))
        if off.any():
            low = max(0.0, low + figure(np.clip(inside - off, 0.0, 1.0))[0] - value)
            high = min(1.0, high + figure(np.clip(inside + off, 0.0, 1.0))[0] - value)
        yield _metric(name, total, value, low, high, interval)


def _losses(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    sums = score_sums(table, counts)
    n = int(sums[:, 0].sum())
    if n == 0:
        return
    of_losses = np.ldexp(counts[table.losses].reshape(2, 2).astype(float), -LOSS_BITS)
    for name, (total, squares), least in zip(("log_loss", "brier"), of_losses, _expected_variances(sums), strict=True):
        value, low, high = mean(total, squares, n, least=least)
        yield _metric(name, n, value, max(0.0, low), high, "student")
    groups = calibrated.grouped(sums)
    ends = wilson(float(sums[:, 1].sum()), n)
    spread = [end * (1 - end) for end in ends]
    most = 0.25 if ends[0] <= 0.5 <= ends[1] else max(spread)
    uncertainty = calibrated.brier_parts(groups).uncertainty
    yield _metric("brier_uncertainty", n, uncertainty, min(spread), most, "wilson, combined")
    share = groups[:, 2] / groups[:, 0]
    # A row more in each group, as its score has it: groups without a one would have no doubt.
    cells = np.concatenate((groups[:, 1] + share, groups[:, 0] - groups[:, 1] + 1.0 - share))

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
    bias = float((weight * rate * (1 - rate) / groups[:, 0]).sum())
    soft = cells[: share.size] / (groups[:, 0] + 1.0)
    noise = weight * soft * (1 - soft) / groups[:, 0]
    twice = 2.0 * float(noise @ noise)
    few = min(float(sums[:, 1].sum()), n - float(sums[:, 1].sum()))
    rest = few - 1.0 if few > 1 else n - 1.0  # what the errors rest on: the rarer class, where there is one
    for name, figure in (("brier_reliability", reliability), ("brier_resolution", resolution)):
        value, error = float(figure(cells_of(groups))), delta(cells, figure)[1]
        half = student(rest) * math.sqrt(max(error * error - twice / 2.0, twice))
        middle = value - bias
        if n < LEAST_PARTED:
            yield _metric(name, n, max(0.0, middle), 0.0, most if name == "brier_resolution" else 1.0, "none")
            continue
        yield _metric(name, n, max(0.0, middle), max(0.0, middle - half), max(0.0, middle + half), "delta")


def cells_of(groups: Floats) -> Floats:
    """Positives, then negatives, of groups of score bins."""
    return np.concatenate((groups[:, 1], groups[:, 0] - groups[:, 1]))


def _expected_variances(sums: Floats) -> tuple[float, float]:
    """Variances of log loss and Brier's of one row, if the scores were right: what is rare shows in them before it has
    come. Sums (bins, 3+): n, Σy, Σp.
    """
    n, _, total = sums[sums[:, 0] > 0][:, :3].T
    p = np.clip(total / n, 1e-12, 1.0 - 1e-12)
    found = []
    for one, zero in ((-np.log(p), -np.log1p(-p)), ((1.0 - p) ** 2, p**2)):
        first, second = ((n * (p * one**power + (1.0 - p) * zero**power)).sum() / n.sum() for power in (1, 2))
        found.append(max(float(second - first * first), 0.0))
    return found[0], found[1]


def _regression(table: OutcomeTable, counts: Ints) -> Iterator[Metric]:
    raw = counts[table.errors].astype(np.float64)
    n = int(raw[0])
    if n == 0:
        return
    e, size, e2, u, u2 = np.ldexp(raw[2:7], -LOSS_BITS) / n
    e4, u3, u4, e2u, e2u2 = np.ldexp(raw[7:12], -FOURTH_BITS) / n
    scale = table.spec.scale
    value, low, high = mean(e * n, e2 * n, n)
    yield _metric("bias", n, value * scale, low * scale, high * scale, "student")
    low, high = on_log(size, math.sqrt(max(e2 - size * size, 0.0) / max(n - 1, 1)), n)
    yield _metric("mae", n, size * scale, low * scale, high * scale, "student, log")
    # Bonett 2006, "Approximate confidence interval for standard deviation of nonnormal distributions": the factor is
    # for samples of few rows, whose kurtosis is too small.
    doubt = n / max(n - Z, 1.0) * math.sqrt(max(e4 - e2 * e2, 0.0) / max(n - 1, 1))
    low, high = (math.sqrt(end) for end in on_log(e2, doubt, n))
    yield _metric("rmse", n, math.sqrt(e2) * scale, low * scale, high * scale, "delta, log")
    variance = u2 - u * u
    if variance <= 0:
        return
    r2 = 1.0 - e2 / variance
    # ψ = (e² − mse)/V − mse·((u − ū)² − V)/V², the influence of a row on 1 − R².
    c4 = u4 - 4 * u * u3 + 6 * u * u * u2 - 3 * u**4
    both = e2u2 - 2 * u * e2u + u * u * e2 - e2 * variance
    psi = (e4 - e2 * e2) - 2 * (e2 / variance) * both + (e2 / variance) ** 2 * (c4 - variance * variance)
    doubt = n / max(n - Z, 1.0) * math.sqrt(max(psi, 0.0) / max(n - 1, 1)) / variance
    low, high = (1.0 - end for end in on_log(1.0 - r2, doubt, n)[::-1])
    yield _metric("r2", n, r2, low, high, "delta, log")


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
