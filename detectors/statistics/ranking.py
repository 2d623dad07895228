"""How well scores rank, from counts by score bin: ROC AUC and average precision.

The order within a bin is lost. What is kept of it, the mean score of the positives and the spread of all, gives it
back to first order. From 20,000 rows on, of scores where the reference's were, AUC is then within .002 of that of the
raw rows, whatever the shape; of fewer rows it is within a fifth of its interval's half width, or .002. Where scores
crowd in a bin that the reference hardly used, no such thing holds, and the interval is wider by what the bin may hide
(`crowded`). `python -m loadtest.binned_ranking` measures it.
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
#: Where so few pairs of a positive and a negative share a bin, their order is one of few.
_FEW_PAIRS = 12
#: A bin that so many of all pairs share is crowded, and so far off its order may be then: where its scores are known to
#: differ, and where they are too close to 0 or 1 for the sums to tell.
CROWDED, OFF = 1 / 32, 0.25
BLIND, BLIND_OFF = 1 / 512, 0.5
#: Places within a bin at which precision is taken.
_PLACES = 8


def within_bins(n: Floats, y: Floats, p: Floats, pp: Floats, py: Floats) -> tuple[Floats, Bools]:
    """AUC within each bin, ½ where nothing is known, and whether its scores differ. Sums (bins,), Σy the positives.

    >>> one = [np.array([x]) for x in (4.0, 2.0, 2.0, 1.05, 1.1)]
    >>> within_bins(*one)[0].round(3)
    array([0.75])
    """
    negatives = n - y
    both = (y > 0) & (negatives > 0)
    share = np.maximum(n, 1.0)
    variance = np.maximum(pp / share - (p / share) ** 2, 0.0)
    spread = (n > 1) & (variance > _TIE)
    gap = np.divide(py, y, out=np.zeros(n.shape), where=both)
    gap = gap - np.divide(p - py, negatives, out=np.zeros(n.shape), where=both)
    inside = np.where(both & spread, 0.5 + _PER_SD * gap / np.sqrt(np.maximum(variance, _TIE)), 0.5)
    inside, pairs = np.clip(inside, 0.0, 1.0), np.maximum(y * negatives, 1.0)
    few = both & spread & (pairs <= _FEW_PAIRS)
    return np.where(few, np.round(inside * pairs) / pairs, inside), spread


def crowded(n: Floats, y: Floats, p: Floats, spread: Bools, *, summed: bool = True) -> Floats:
    """How far the AUC within a bin may be off, (bins,); 0 where so few pairs share the bin that it does not matter.

    summed: Σp is known; of scores that only rank it is not.

    >>> crowded(np.array([100.0, 4.0]), np.array([50.0, 2.0]), np.array([40.0, 3.0]), np.array([True, True])).tolist()
    [0.25, 0.0]
    """
    pairs = y * (n - y)
    whole = float(y.sum() * (n - y).sum())
    mean = p / np.maximum(n, 1.0)
    blind = ~spread & (mean > 0) & (mean < 1) & (mean * (1 - mean) < math.sqrt(_TIE)) | (not summed)
    found = np.where(spread & (pairs > CROWDED * whole), OFF, 0.0)
    return np.asarray(np.where(blind & (pairs > BLIND * whole), BLIND_OFF, found))


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


def average_precision(
    negatives: Floats, positives: Floats, spread: Bools, inside: Floats | float = 0.5
) -> tuple[float, float]:
    """Mean precision over the positives from the highest score down, and its standard error by the delta method.

    spread: bins whose scores differ, elsewhere they are ties. Within them the negatives lie evenly, and the positives
    evenly over as much of the bin, from its upper or its lower end, as the AUC `inside` says.

    >>> ties = np.zeros(3, dtype=bool)
    >>> value, error = average_precision(np.array([6.0, 3.0, 1.0]), np.array([1.0, 3.0, 6.0]), ties)
    >>> round(value, 3)
    0.772
    """
    bins = positives.size
    if positives.sum() == 0:
        return math.nan, math.inf
    down = slice(None, None, -1)

    above = np.broadcast_to(np.asarray(inside, dtype=np.float64), positives.shape)[down]
    span = 2.0 * np.minimum(1.0 - above, above)  # of the bin, that positives lie in
    begin = np.where(above >= 0.5, 0.0, 1.0 - span)

    def figure(counts: Floats) -> Floats:
        n1, n0 = counts[..., :bins][..., down], counts[..., bins:][..., down]
        n, before1 = n1 + n0, np.cumsum(n1, axis=-1) - n1
        before = np.cumsum(n, axis=-1) - n
        precision = (before1 + n1) / np.maximum(before + n, 1e-300)
        mixed = np.zeros(n.shape)
        for place in (np.arange(_PLACES) + 0.5) / _PLACES:
            # Half a positive more: the one that stands there counts itself.
            hits = before1 + place * n1 + 0.5 * np.minimum(n1, 1.0)
            mixed += hits / np.maximum(hits + (before - before1) + n0 * (begin + span * place), 1e-300)
        precision = np.where(spread[down], mixed / _PLACES, precision)
        return np.asarray((n1 * precision).sum(axis=-1) / n1.sum(axis=-1))

    return delta(np.concatenate((positives, negatives)), figure)
