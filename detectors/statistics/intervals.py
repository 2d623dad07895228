"""95 % intervals of figures that are computed from counts: shares, sums of shares, means, and anything smooth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

#: The normal's 97.5 % quantile.
Z = 1.959963984540054
_SMALL_T = (12.706205, 4.302653)
_T_TERMS = ((Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96, (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384)
#: The least Poisson mean that shows 1, 2, 3 or more with 5 %: where few were seen, Wilson's end is too near.
_FEW = (0.051293, 0.355362, 0.817691)


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Interval of a share, `hits` of `n`; (0, 1) of nothing.

    Next to 0 and 1, where one to three hits (or misses) were seen, the end is Poisson's: without it shares of about one
    in n are covered in 83 to 90 %.

    >>> [round(end, 3) for end in wilson(70, 100)], [round(end, 4) for end in wilson(1, 100)]
    ([0.604, 0.781], [0.0005, 0.0545])

    Wilson 1927, "Probable inference, the law of succession, and statistical inference"; the ends: Brown, Cai, DasGupta
    2001, "Interval estimation for a binomial proportion".
    """
    if n <= 0:
        return 0.0, 1.0
    share, squared = hits / n, Z * Z
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    half = Z * math.sqrt(share * (1 - share) / n + squared / (4 * n * n)) / (1 + squared / n)
    low, high = max(0.0, middle - half) if hits > 0 else 0.0, min(1.0, middle + half) if hits < n else 1.0
    few = _FEW[: 2 if n <= 50 else 3]
    if 0 < hits <= len(few):
        low = min(low, few[int(hits) - 1] / n)
    if 0 < n - hits <= len(few):
        high = max(high, 1.0 - few[int(n - hits) - 1] / n)
    return low, high


def mean_of_shares(hits: Sequence[float], n: Sequence[float]) -> tuple[float, float]:
    """Interval of the plain mean of independent shares: Wilson's distances, in squares.

    >>> [round(end, 3) for end in mean_of_shares([8, 90], [10, 100])]
    [0.691, 0.935]

    Zou, Donner 2008, "Construction of confidence limits about effect measures: a general approach".
    """
    ends = [(h / m, *wilson(h, m)) for h, m in zip(hits, n, strict=True) if m > 0]
    if not ends:
        return 0.0, 1.0
    value = math.fsum(share for share, _, _ in ends) / len(ends)
    below = math.sqrt(math.fsum((share - low) ** 2 for share, low, _ in ends)) / len(ends)
    above = math.sqrt(math.fsum((high - share) ** 2 for share, _, high in ends)) / len(ends)
    return value - below, value + above


def mean(total: float, squares: float, n: float, *, least: float = 0.0) -> tuple[float, float, float]:
    """Mean of n values from their sum and sum of squares, with Student's interval; infinite below two values.

    least: a variance that theirs is not taken below.

    >>> tuple(round(end, 2) for end in mean(10.0, 30.0, 5.0))
    (2.0, 0.04, 3.96)
    """
    if n <= 0:
        return math.nan, -math.inf, math.inf
    value = total / n
    if n < 2:
        return value, -math.inf, math.inf
    half = student(n - 1) * math.sqrt(max(squares / n - value * value, least) / (n - 1))
    return value, value - half, value + half


def on_log(value: float, error: float, n: float) -> tuple[float, float]:
    """Interval of a positive figure of n rows with standard error `error`, Student's in its logarithm.

    >>> [round(end, 2) for end in on_log(2.0, 0.5, 10)]
    [1.14, 3.52]
    """
    if not (value > 0.0 and n > 1 and math.isfinite(error)):
        return 0.0, math.inf
    half = min(student(n - 1) * error / value, 700.0)
    return value * math.exp(-half), value * math.exp(half)


def student(df: float) -> float:
    """The 97.5 % quantile of Student's t, within 1 % of it.

    >>> [round(student(df), 2) for df in (1, 2, 4, 30, 1e9)]
    [12.71, 4.3, 2.77, 2.04, 1.96]

    Abramowitz, Stegun 1964, 26.7.5.
    """
    if df < 3:
        return _SMALL_T[max(1, int(df)) - 1]
    return Z + sum(term / df**power for power, term in enumerate(_T_TERMS, start=1))


def on_logit(value: float, error: float, df: float = math.inf) -> tuple[float, float]:
    """Interval of a figure in (0, 1) with standard error `error`, normal in its logit, so that it stays inside.

    df: degrees of freedom that the error rests on: then Student's.

    >>> [round(end, 3) for end in on_logit(0.9, 0.03)]
    [0.824, 0.945]
    """
    if not (0.0 < value < 1.0 and math.isfinite(error)):
        return 0.0, 1.0
    middle, half = math.log(value / (1 - value)), student(df) * error / (value * (1 - value))
    return 1 / (1 + math.exp(min(half - middle, 700.0))), 1 / (1 + math.exp(min(-half - middle, 700.0)))


def on_fisher(value: float, error: float) -> tuple[float, float]:
    """Interval of a correlation with standard error `error`, normal in its Fisher transform.

    >>> [round(end, 3) for end in on_fisher(0.9, 0.03)]
    [0.822, 0.945]
    """
    if not (-1.0 < value < 1.0 and math.isfinite(error)):
        return -1.0, 1.0
    middle, half = math.atanh(value), Z * error / (1.0 - value * value)
    return math.tanh(middle - half), math.tanh(middle + half)


def delta(counts: Floats, figure: Callable[[Floats], Floats]) -> tuple[float, float]:
    """A smooth figure of multinomial counts and its standard error, by numeric differences.

    counts: (cells,). figure: (…, cells) to (…), unchanged when all counts are multiplied by one number.

    >>> value, error = delta(np.array([30.0, 70.0]), lambda c: c[..., 0] / c.sum(axis=-1))
    >>> value, round(error, 4), round((0.3 * 0.7 / 100) ** 0.5, 4)
    (0.3, 0.0458, 0.0458)
    """
    n = float(counts.sum())
    value = float(figure(counts))
    cells = np.flatnonzero(counts > 0)
    if n < 2 or not math.isfinite(value):
        return value, math.inf
    step = 1e-4 * counts[cells]
    moved = np.zeros((cells.size, counts.size))
    moved[np.arange(cells.size), cells] = step
    slope = n * (figure(counts + moved) - figure(counts - moved)) / (2 * step)
    p = counts[cells] / n
    variance = float((p * slope**2).sum() - (p * slope).sum() ** 2) / n
    return value, math.sqrt(max(variance, 0.0))
