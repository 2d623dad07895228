"""What a score means: the map from scores to frequencies, learned by bins; the reference of the calibration chart.

The map is a logistic line in logit p with bin residuals shrunk towards it, made monotone: a line alone misses what a
boosted model does at the ends, bins alone follow the noise. Bins are quantiles *and* a fixed grid in logit, so that a
shift of the scores within a bin cannot be taken for a change of what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

QUANTILES = 25
GRID = 0.25
#: Scores beyond σ(±8), 3 in 10,000, are one bin on either side.
MOST = 8.0
#: Bins with fewer reference rows say nothing: what they mean is not known.
LEAST_ROWS = 20
#: A map is taken as no steeper than this within a bin. A bin whose mean score is further than that from the
#: reference's, in logit, is not judged: at .5 a map that is flat at its end gave 2 false alarms a budget, at .3 .25.
STEEPEST, FARTHEST = 2.0, 0.3
#: The line is shrunk to "the score is the probability" by this precision, so that it exists without an outcome too.
_PRIOR = 0.01
_NEWTON = 50


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationMap:
    """Frequencies by bin of the score. edges (bins − 1,) in logit p, bins (a, b]; place (bins,): mean logit p in it;
    logit (bins,): of the frequency there; rows (bins,) of the reference; kept (bins,): those with enough of them.
    """

    edges: Floats
    place: Floats
    logit: Floats
    rows: Floats

    @property
    def kept(self) -> Bools:
        """Bins that are judged."""
        return np.asarray(self.rows >= LEAST_ROWS)

    @property
    def weight(self) -> Floats:
        """Information g(1 − g) of one row in each bin, 0 in those that are not kept. (bins,)."""
        g = expit(self.logit)
        return np.asarray(np.where(self.kept, g * (1.0 - g), 0.0))

    @property
    def middle(self) -> float:
        """m: the mean logit of the frequency, by information; slopes turn about it."""
        weight = self.rows * self.weight
        return float((weight * self.logit).sum() / weight.sum()) if weight.any() else 0.0

    @property
    def slopes(self) -> Floats:
        """How much the logit of the frequency moves with that of the score around each bin; (bins,), 1 if unknown."""
        found, known = np.ones(self.rows.size), np.flatnonzero(self.kept)
        order = known[np.argsort(self.place[known], kind="stable")]
        order = order[np.diff(self.place[order], prepend=-np.inf) > 1e-6]
        if order.size > 1:
            found[order] = np.clip(np.gradient(self.logit[order], self.place[order]), 0.0, STEEPEST)
        return found

    def within(self, rows: Floats, scores: Floats) -> tuple[Floats, Bools]:
        """What the scores of a pane move the logit by within their bins, and which bins they leave judged; (…, bins) of
        rows and Σp.

        Bins of .25 logit need none of this; where they are wide, the mean score of a bin moves with the traffic, and
        what it means with it, by the slope of the map there. Where it has moved far, as in the bins without an end,
        nothing is known of what it means now.
        """
        there = rows > 0
        p = np.divide(scores, rows, out=np.full(rows.shape, 0.5), where=there)
        p = np.clip(p, 1e-12, 1.0 - 1e-12)
        moved = np.where(there, np.log(p) - np.log1p(-p) - self.place, 0.0)
        judged = np.asarray(np.abs(moved) <= FARTHEST)
        return np.asarray(np.where(judged, self.slopes * moved, 0.0)), judged

    def at(self, scores: Floats) -> Floats:
        """Frequencies that scores stand for, linear in logit between bins: a repaired map is applied with this."""
        known = self.kept if self.kept.any() else np.ones(self.rows.size, dtype=np.bool_)
        order = np.argsort(self.place[known], kind="stable")
        return expit(np.interp(logit_of(scores), self.place[known][order], self.logit[known][order]))


def logit_of(scores: Floats) -> Floats:
    """Logit of probabilities, at most 8 either way.

    >>> logit_of(np.array([0.0, 0.5, 0.9])).round(2)
    array([-8. ,  0. ,  2.2])
    """
    p = np.clip(scores, 1e-12, 1.0 - 1e-12)
    return np.asarray(np.clip(np.log(p) - np.log1p(-p), -MOST, MOST))


def expit(x: Floats) -> Floats:
    """The probability of a logit.

    >>> expit(np.array([0.0, -800.0])).tolist()
    [0.5, 0.0]
    """
    # By tanh: no overflow, no branches.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def calibration_edges(scores: Floats) -> Floats:
    """Edges in logit p: the 25-quantiles of the reference's scores (those that differ), and every .25 from −8 to 8.

    >>> edges = calibration_edges(np.random.default_rng(0).beta(2, 5, 10_000))
    >>> edges.size, edges[0], float(np.diff(edges).max())
    (89, np.float64(-8.0), 0.25)
    """
    grid = np.arange(-MOST, MOST + GRID / 2, GRID)
    if scores.size == 0:
        return grid
    cuts = np.quantile(logit_of(scores), np.arange(1, QUANTILES) / QUANTILES, method="inverted_cdf")
    return np.unique(np.concatenate((grid, cuts)))


def count_labels(edges: Floats, scores: Floats, labels: Ints) -> Ints:
    """Counts (bins, 2) of labels 0 and 1 by bin of their score; they add over panes and shards.

    >>> count_labels(np.array([0.0]), np.array([0.2, 0.9, 0.9]), np.array([0, 1, 0])).tolist()
    [[1, 0], [1, 1]]
    """
    place = 2 * np.searchsorted(edges, logit_of(scores), side="left") + labels
    return np.bincount(place, minlength=2 * (edges.size + 1)).reshape(-1, 2).astype(np.int64)


def learn_map(edges: Floats, counts: Ints, logits: Floats) -> CalibrationMap:
    """The map from counts (bins, 2) and sums of logit p (bins,) of a reference. Counts may be expected ones.

    >>> rng = np.random.default_rng(0)
    >>> scores = rng.beta(2, 5, 20_000)
    >>> labels = rng.binomial(1, scores)
    >>> edges = calibration_edges(scores)
    >>> x = logit_of(scores)
    >>> sums = np.bincount(np.searchsorted(edges, x), x, edges.size + 1)
    >>> found = learn_map(edges, count_labels(edges, scores, labels), sums)
    >>> found.at(np.array([0.1, 0.3, 0.6])).round(2)
    array([0.1 , 0.3 , 0.61])
    """
    if counts.shape != (edges.size + 1, 2) or logits.shape != counts.shape[:1]:
        raise ConfigurationError(f"counts: must be ({edges.size + 1}, 2), got {counts.shape} and {logits.shape}")
    rows, ones = counts.sum(axis=1).astype(np.float64), counts[:, 1].astype(np.float64)
    corners = np.concatenate(([edges[0]], edges, [edges[-1]]))
    middles = (corners[:-1] + corners[1:]) / 2.0
    place = np.divide(logits, rows, out=middles.copy(), where=rows > 0)
    intercept, slope = _line(place, rows, ones)
    line = np.clip(intercept + slope * place, -2 * MOST, 2 * MOST)
    g = expit(line)
    found = CalibrationMap(edges=edges, place=place, logit=line, rows=rows)
    information = rows * g * (1.0 - g)
    known = found.kept & (information > 0)
    if not known.any():
        return found
    weight, residual = information[known], (ones - rows * g)[known] / information[known]
    # DerSimonian and Laird: the variance between bins beyond what their own noise explains.
    mean = (weight * residual).sum() / weight.sum()
    excess = (weight * (residual - mean) ** 2).sum() - (weight.size - 1)
    scale = weight.sum() - (weight * weight).sum() / weight.sum()
    between = max(0.0, float(excess / scale)) if scale > 0 else 0.0
    shrunk = line.copy()
    shrunk[known] += residual * between / (between + 1.0 / weight)
    shrunk[known] = _rising(shrunk[known], weight)
    order = np.flatnonzero(known)
    return CalibrationMap(edges=edges, place=place, logit=np.interp(place, place[order], shrunk[order]), rows=rows)


def _line(place: Floats, rows: Floats, ones: Floats) -> tuple[float, float]:
    """Intercept and slope of a logistic regression by Newton's method, shrunk a little to 0 and 1."""
    x = np.stack([np.ones(place.size), place])
    beta, centre = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    loss = _cost(beta, x, rows, ones, centre)
    for _ in range(_NEWTON):
        g = expit(beta @ x)
        gradient = x @ (ones - rows * g) - _PRIOR * (beta - centre)
        step = np.linalg.solve((x * (rows * g * (1.0 - g))) @ x.T + _PRIOR * np.eye(2), gradient)
        size = 1.0
        while size > 1e-6 and _cost(beta + size * step, x, rows, ones, centre) > loss:
            size /= 2.0
        beta = beta + size * step
        loss = _cost(beta, x, rows, ones, centre)
        if np.abs(size * step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def _cost(beta: Floats, x: Floats, rows: Floats, ones: Floats, centre: Floats) -> float:
    line = beta @ x
    return float((rows * np.logaddexp(0.0, line) - ones * line).sum() + _PRIOR / 2.0 * ((beta - centre) ** 2).sum())


def _rising(values: Floats, weights: Floats) -> Floats:
    """The nearest non-decreasing sequence: pool adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (v2, w2, n2), (v1, w1, n1) = blocks.pop(), blocks.pop()
            blocks.append(((v1 * w1 + v2 * w2) / (w1 + w2), w1 + w2, n1 + n2))
    return np.repeat([value for value, _, _ in blocks], [n for _, _, n in blocks])
