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
    low, high = max(0.0, middle - half), min(1.0, middle + half)
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


def mean(total: float, squares: float, n: float) -> tuple[float, float, float]:
    """Mean of n values from their sum and sum of squares, with the normal interval; infinite below two values.

    >>> tuple(round(end, 3) for end in mean(10.0, 30.0, 5.0))
    (2.0, 0.614, 3.386)
    """
    if n <= 0:
        return math.nan, -math.inf, math.inf
    value = total / n
    if n < 2:
        return value, -math.inf, math.inf
    half = Z * math.sqrt(max(squares / n - value * value, 0.0) / (n - 1))
    return value, value - half, value + half


def on_logit(value: float, error: float) -> tuple[float, float]:
    """Interval of a figure in (0, 1) with standard error `error`, normal in its logit, so that it stays inside.

    >>> [round(end, 3) for end in on_logit(0.9, 0.03)]
    [0.824, 0.945]
    """
    if not (0.0 < value < 1.0 and math.isfinite(error)):
        return 0.0, 1.0
    middle, half = math.log(value / (1 - value)), Z * error / (value * (1 - value))
    return 1 / (1 + math.exp(min(half - middle, 700.0))), 1 / (1 + math.exp(min(-half - middle, 700.0)))


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
