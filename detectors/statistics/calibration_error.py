"""Are probabilities right, on counts by score bin: calibration error, reliability table, slope, Brier's parts."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.calibration_map import expit
from detectors.statistics.intervals import Z, student, wilson

Floats: TypeAlias = npt.NDArray[np.float64]

#: Rows of a reliability table; neighbouring bins are put together to as many groups of about equal size; where rows are
#: few to fewer, so that a group has 20 of them, but to four at least.
GROUPS, LEAST_GROUPS, OF_A_GROUP = 15, 4, 20
_NEWTON = 50


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class CalibrationError(NamedTuple):
    """Mean absolute gap between score and frequency. raw: as it is counted; noise: its value for perfect scores at
    this n; debiased: √(raw² − noise²), with a normal interval that does not go below 0.
    """

    raw: float
    noise: float
    debiased: Estimate


class Brier(NamedTuple):
    """Parts of the Brier score: reliability (less is better) − resolution + uncertainty, with what bins hide put back
    (within, the part that the variation of scores within bins accounts for): their sum is the score, exactly.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def grouped(sums: Floats, groups: int | None = None) -> Floats:
    """Neighbouring bins put together: sums (bins, columns), column 0 the rows, to at most `groups` of about equal size.

    groups: by default at most 15, by the number of rows.

    >>> grouped(np.array([[5.0, 1.0], [0.0, 0.0], [5.0, 2.0], [10.0, 8.0]]), groups=2).tolist()
    [[10.0, 3.0], [10.0, 8.0]]
    """
    sums = sums[sums[:, 0] > 0]
    if not len(sums):
        return sums
    if groups is None:
        groups = min(max(int(sums[:, 0].sum()) // OF_A_GROUP, LEAST_GROUPS), GROUPS)
    middle = np.cumsum(sums[:, 0]) - sums[:, 0] / 2
    group = np.minimum((groups * middle / sums[:, 0].sum()).astype(np.int64), groups - 1)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.asarray(np.add.reduceat(sums, starts, axis=0))


def reliability(sums: Floats) -> list[tuple[float, float, float, float, float]]:
    """Rows of a reliability table, (n, mean score, frequency, low, high) by Wilson, from grouped sums (n, Σy, Σp, …).

    >>> [[round(x, 2) for x in row] for row in reliability(np.array([[100.0, 30.0, 25.0]]))]
    [[100.0, 0.25, 0.3, 0.22, 0.4]]
    """
    return [(n, p / n, y / n, *wilson(y, n)) for n, y, p, *_ in sums.tolist()]


def calibration_error(sums: Floats) -> CalibrationError:
    """From grouped sums (groups, 4): n, Σy, Σp, Σp².

    >>> found = calibration_error(np.array([[1000.0, 130.0, 100.0, 10.5], [1000.0, 470.0, 500.0, 251.0]]))
    >>> round(found.raw, 3), round(found.noise, 3), round(found.debiased.value, 3)
    (0.03, 0.01, 0.028)
    """
    n, y, p, pp = sums[:, :4].T
    total = float(n.sum())
    if total == 0:
        return CalibrationError(math.nan, math.nan, Estimate(math.nan, 0.0, 1.0))
    variance = np.maximum(p - pp, 0.0)  # Σ p(1 − p): of Σy, if the scores are right
    raw = float(np.abs(y - p).sum()) / total
    noise = float(np.sqrt(2.0 / math.pi * variance).sum()) / total
    value = math.sqrt(max(raw * raw - noise * noise, 0.0))
    few = min(float(y.sum()), total - float(y.sum()))
    half = student(few - 1.0 if few > 1 else total) * math.sqrt(float(variance.sum())) / total
    # Where the gap is all of one sign, noise adds nothing to it, and taking noise out takes too much.
    high = max(value + half, math.sqrt(max((raw + half) ** 2 - noise * noise, 0.0)))
    return CalibrationError(raw, noise, Estimate(value, max(0.0, value - half), high))


def line(sums: Floats) -> tuple[Estimate, Estimate]:
    """Slope of logit frequency on logit score, and intercept at slope 1 ("in the large"), from sums (bins, 3+).

    1 and 0 for right scores; a slope below 1 is over-confidence. By maximum likelihood at the bins' mean scores, with
    Wald intervals; infinite where the data do not say (one class only).

    >>> sums = np.array([[1000.0, 200.0, 100.0], [1000.0, 500.0, 500.0], [1000.0, 800.0, 900.0]])
    >>> slope, intercept = line(sums)
    >>> round(slope.value, 2), abs(round(intercept.value, 2))
    (0.63, 0.0)

    Cox 1958, "Two further applications of a model for binary regression".
    """
    n, y, p = sums[sums[:, 0] > 0][:, :3].T
    nothing = Estimate(math.nan, -math.inf, math.inf)
    if not 0 < y.sum() < n.sum():
        return nothing, nothing
    share = np.clip(p / n, 1e-12, 1 - 1e-12)
    x = np.log(share) - np.log1p(-share)
    alone = _newton(np.ones((1, x.size)), x, n, y)
    both = _newton(np.stack([np.ones(x.size), x]), np.zeros(x.size), n, y) if np.ptp(x) > 0 else None
    return nothing if both is None else both[1], nothing if alone is None else alone[0]


def brier_parts(sums: Floats) -> Brier:
    """From sums (groups, 5): n, Σy, Σp, Σp², Σpy.

    >>> parts = brier_parts(np.array([[4.0, 1.0, 1.0, 0.26, 0.3], [4.0, 3.0, 3.0, 2.26, 2.3]]))
    >>> [round(part, 3) for part in parts]
    [0.0, 0.062, 0.25, -0.022]

    Stephenson, Coelho, Jolliffe 2008, "Two extra components in the Brier score decomposition".
    """
    n, y, p, pp, py = sums[sums[:, 0] > 0][:, :5].T
    total = float(n.sum())
    if total == 0:
        return Brier(math.nan, math.nan, math.nan, math.nan)
    base = float(y.sum()) / total
    reliable = float((n * (p / n - y / n) ** 2).sum()) / total
    resolved = float((n * (y / n - base) ** 2).sum()) / total
    uncertain = base * (1 - base)
    whole = float((pp - 2 * py + y).sum()) / total
    return Brier(reliable, resolved, uncertain, whole - (reliable - resolved + uncertain))


def _newton(x: Floats, offset: Floats, n: Floats, y: Floats) -> list[Estimate] | None:
    """Maximum likelihood of logit E y/n = βx + offset; None when it does not settle (perfectly told apart)."""
    beta = np.zeros(len(x)) if len(x) == 1 else np.array([0.0, 1.0])
    for _ in range(_NEWTON):
        g = expit(beta @ x + offset)
        information = (x * (n * g * (1 - g))) @ x.T
        # Of its diagonal's product next to nothing is left: the two columns say the same.
        if not np.linalg.det(information) > 1e-12 * float(np.diag(information).prod()):
            return None
        step = np.linalg.solve(information, x @ (y - n * g))
        # A step of at most 2 in logit: from far off Newton's overshoots.
        beta = beta + step / max(1.0, float(np.abs(step).max()) / 2.0)
        if np.abs(step).max() < 1e-9:
            errors = np.sqrt(np.diag(np.linalg.inv(information)))
            return [Estimate(b, b - Z * e, b + Z * e) for b, e in zip(beta.tolist(), errors.tolist(), strict=True)]
    return None
