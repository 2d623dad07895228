"""What the statistics share: shares out of counts, and the value expected when nothing changed.

Why an expected value: a PSI of .2 over 50 events and 37 bins is what chance gives. Most statistics are a sum over bins
of a function of (p̂, q̂); its mean when both sides are draws of one distribution needs only the bins' binomials, taken
here exactly enough for small expected counts (a sum over the Poisson weights) and by the second-order expansion above.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lgamma
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]

#: Half a count per bin (Krichevsky–Trofimov): an empty bin is never divided by.
HALF = 0.5
#: Bins with fewer expected events are summed, count by count, up to the second.
_FEW, _MOST = 8.0, 40
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def smoothed(counts: Counts) -> Floats:
    """Shares of the bins along the last axis, with half a count in each.

    >>> smoothed(np.array([1, 0, 0]))
    array([0.6, 0.2, 0.2])
    """
    with_half = counts + HALF
    return np.asarray(with_half / with_half.sum(axis=-1, keepdims=True))


def expected_sum(term: Callable[[Floats, Floats], Floats], *, reference: Counts, n: int) -> Floats:
    """Mean of `Σ_b term(p̂_b, q̂_b)` when n events are drawn from what the reference was drawn from. (…,).

    reference: (…, bins) counts. Given c of N reference events in a bin, its count among n is beta-binomial with c + ½:
    summed where few are expected, by nodes in √count above.
    """
    if n <= 0:
        return np.zeros(reference.shape[:-1])
    total = reference.sum(axis=-1, keepdims=True)
    bins = reference.shape[-1]
    p = smoothed(reference)
    few = p * n < _FEW
    counts = np.arange(min(_MOST, n) + 1, dtype=float)
    mine = (reference + HALF)[..., None]
    others = (total - reference + HALF * (bins - 1))[..., None]
    none = log_gamma(others + n) - log_gamma(others) - log_gamma(mine + others + n) + log_gamma(mine + others)
    before = counts[1:] - 1.0
    ratio = np.log((n - before) / counts[1:] * (mine + before) / (others + n - counts[1:]))
    chance = np.exp(none + np.concatenate([np.zeros_like(mine), np.cumsum(ratio, axis=-1)], axis=-1))
    exact = (term(p[..., None], (counts + HALF) / (n + HALF * bins)) * chance).sum(axis=-1)
    # The spread of √count is near 1/2 whatever the mean (Anscombe), wider by the reference's own noise.
    mean = (p * n)[..., None]
    spread = np.sqrt((1.0 + n / np.maximum(total, 1)) * (1.0 - p))[..., None] / 2.0
    around = np.sqrt(np.maximum(mean - spread**2, 0.0)) + _NODES * spread
    smooth = (term(p[..., None], (np.maximum(around, 0.0) ** 2 + HALF) / (n + HALF * bins)) * _WEIGHTS).sum(axis=-1)
    return np.asarray(np.where(few, exact, smooth).sum(axis=-1))


def log_gamma(values: Floats) -> Floats:
    """Logarithm of Γ of positive values, elementwise."""
    flat = [lgamma(value) for value in values.ravel().tolist()]
    return np.array(flat).reshape(values.shape)
