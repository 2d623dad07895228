"""How well scores rank, from counts by score bin: ROC AUC and average precision.

The order within a bin is lost. What is kept of it, the mean score of the positives and the spread of all, gives it
back to first order; the values are then within .002 of those on the raw rows (tests/detectors/test_performance.py).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.statistics.intervals import delta

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Half the width of a flat distribution in sd is √3; a difference of means of one sd is so much of an AUC.
_PER_SD = 1.0 / math.sqrt(12.0)
#: Scores closer than this (sd, squared) are ties: fixed-point sums cannot tell them apart.
_TIE = 2.0**-28


def within_bins(n: Floats, y: Floats, p: Floats, pp: Floats, py: Floats) -> tuple[Floats, Bools]:
    """AUC within each bin, ½ where nothing is known, and whether its scores differ. Sums (bins,), Σy the positives.

    >>> one = [np.array([x]) for x in (4.0, 2.0, 2.0, 1.05, 1.1)]
    >>> within_bins(*one)[0].round(3)
    array([0.758])
    """
    negatives = n - y
    both = (y > 0) & (negatives > 0)
    share = np.maximum(n, 1.0)
    variance = np.maximum(pp / share - (p / share) ** 2, 0.0)
    spread = (n > 1) & (variance > _TIE)
    gap = np.divide(py, y, out=np.zeros(n.shape), where=both)
    gap = gap - np.divide(p - py, negatives, out=np.zeros(n.shape), where=both)
    inside = np.where(both & spread, 0.5 + _PER_SD * gap / np.sqrt(np.maximum(variance, _TIE)), 0.5)
    return np.clip(inside, 0.0, 1.0), spread


def roc_auc(negatives: Floats, positives: Floats, inside: Floats | float = 0.5) -> tuple[float, float]:
    """Area under the ROC curve and its standard error, from counts by bin in ascending score.

    inside: AUC within a bin, ½ for ties. NaN without both classes. The error is DeLong's on the bins.

    >>> value, error = roc_auc(np.array([6.0, 3.0, 1.0]), np.array([1.0, 3.0, 6.0]))
    >>> round(value, 3), round(error, 3)
    (0.825, 0.093)

    DeLong, DeLong, Clarke-Pearson 1988, "Comparing the areas under two or more correlated ROC curves".
    """
    n0, n1 = float(negatives.sum()), float(positives.sum())
    if n0 == 0 or n1 == 0:
        return math.nan, math.inf
    # Share of the other class that a positive (a negative) of this bin stands above (below).
    above = (np.cumsum(negatives) - negatives + inside * negatives) / n0
    below = (n1 - np.cumsum(positives) + inside * positives) / n1
    value = float((positives * above).sum() / n1)
    if n0 < 2 or n1 < 2:
        return value, math.inf
    of_positives = float((positives * (above - value) ** 2).sum()) / (n1 - 1)
    of_negatives = float((negatives * (below - value) ** 2).sum()) / (n0 - 1)
    return value, math.sqrt(of_positives / n1 + of_negatives / n0)


def average_precision(negatives: Floats, positives: Floats, spread: Bools) -> tuple[float, float]:
    """Mean precision over the positives from the highest score down, and its standard error by the delta method.

    spread: bins whose scores differ; within them positives and negatives are taken as mixed evenly, elsewhere as ties.

    >>> ties = np.zeros(3, dtype=bool)
    >>> value, error = average_precision(np.array([6.0, 3.0, 1.0]), np.array([1.0, 3.0, 6.0]), ties)
    >>> round(value, 3)
    0.772
    """
    bins = positives.size
    if positives.sum() == 0:
        return math.nan, math.inf
    down = slice(None, None, -1)

    def figure(counts: Floats) -> Floats:
        n1, n0 = counts[..., :bins][..., down], counts[..., bins:][..., down]
        n, before1 = n1 + n0, np.cumsum(n1, axis=-1) - n1
        before = np.cumsum(n, axis=-1) - n
        after = np.maximum(before + n, 1e-300)
        share = np.divide(n1, n, out=np.zeros(n.shape), where=n > 0)
        tied = (before1 + n1) / after
        first = before <= 0
        log = np.log(after / np.where(first, after, before))
        mixed = share + np.where(n > 0, (before1 - before * share) / np.maximum(n, 1e-300), 0.0) * log
        precision = np.where(spread[down], np.where(first, share, mixed), tied)
        return np.asarray((n1 * precision).sum(axis=-1) / n1.sum(axis=-1))

    return delta(np.concatenate((positives, negatives)), figure)
