"""How much less than independent rows a stream's rows say: variance of block sums per row, by time scale.

`V_h` is 1 for rows that are independent given the profile, and n for panes of n rows that all move together: "a pane
of 1,200 events counts as 40 independent ones" is V = 30. It is learned over all time scales because clusters show at
the scale of seconds and a wandering mean at that of hours, and kept by scale because the pane is chosen later.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.directions import Directions

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Blocks that the next finer scale (and, for a segment, its model's same scale) stand for.
PRIOR_BLOCKS = 8.0


class Scales(NamedTuple):
    """What blocks of `lengths` (s,) base blocks show: v, m3 (s, k) per row, n_bar (s,)."""

    lengths: Ints
    v: Floats
    m3: Floats
    n_bar: Floats


def block_moments(residuals: Floats, counts: Floats, prior: dict[int, Floats] | None = None) -> Scales:
    """Moments of block sums over h = 1, 2, 4, … up to a third of the reference, each shrunk to the finer scale.

    residuals: (B, k) `S − n·μ` by base block, μ fitted without the block's day; counts: (B,) rows. Blocks overlap, with
    a stride of an eighth of their length. prior: (k,) by length, nan where unknown, counted as 8 more blocks (a
    segment's model).

    >>> rng = np.random.default_rng(1)
    >>> counts = np.full(6000, 10.0)
    >>> independent = rng.normal(0, np.sqrt(10), (6000, 1))
    >>> block_moments(independent, counts).v[:6].round(1).ravel()
    array([1., 1., 1., 1., 1., 1.])
    """
    blocks, k = residuals.shape
    lengths = _dyadic(blocks)
    v, m3, n_bar = np.zeros((lengths.size, k)), np.zeros((lengths.size, k)), np.zeros(lengths.size)
    rows = np.zeros(lengths.size)
    total = np.concatenate([[0.0], np.cumsum(counts)])
    for i, h in enumerate(lengths.tolist()):
        n = _blocks_of(total, h)
        rows[i] = n.sum()
        n_bar[i] = (n * n).sum() / rows[i] if rows[i] else 0.0
    for j in range(k):
        sums = np.concatenate([[0.0], np.cumsum(residuals[:, j])])
        for i, h in enumerate(lengths.tolist()):
            r = _blocks_of(sums, h)
            # Sums, not dot products: those of BLAS differ with its number of threads.
            square = r * r
            v[i, j] = square.sum() / rows[i] if rows[i] else 1.0
            m3[i, j] = (square * r).sum() / rows[i] if rows[i] else 0.0
    for i, h in enumerate(lengths.tolist()):
        own = blocks / h
        weighted, weight = own * v[i], np.full(k, own)
        if i > 0:
            weighted, weight = weighted + PRIOR_BLOCKS * v[i - 1], weight + PRIOR_BLOCKS
        if prior is not None and h in prior:
            known = np.isfinite(prior[h])
            weighted = weighted + np.where(known, PRIOR_BLOCKS * prior[h], 0.0)
            weight = weight + np.where(known, PRIOR_BLOCKS, 0.0)
        v[i] = weighted / weight
    return Scales(lengths, v, m3, n_bar)


def step_proof_variance(sums: Floats, counts: Floats) -> Floats:
    """V_h (s, k) that a step in the mean does not inflate: from differences of adjacent blocks, by their median.

    For streams that learn from their own first days, and to judge whether a reference is stationary. Scales with fewer
    than 16 pairs of blocks are left out (but the finest).

    >>> rng = np.random.default_rng(2)
    >>> sums = rng.normal(0, np.sqrt(10), (4000, 1)) + 10 * (np.arange(4000) > 2000)[:, None]
    >>> bool(step_proof_variance(sums, np.full(4000, 10.0)).max() < 1.6)
    True
    """
    found: list[Floats] = []
    for h in _dyadic(sums.shape[0]).tolist():
        whole = sums.shape[0] // h * h
        s = sums[:whole].reshape(-1, h, sums.shape[1]).sum(axis=1)
        n = counts[:whole].reshape(-1, h).sum(axis=1)
        pairs = np.flatnonzero((n[1:] > 0) & (n[:-1] > 0))
        if found and pairs.size < 16:
            break
        if pairs.size == 0:
            found.append(np.ones(sums.shape[1]))
            continue
        s1, n1, s2, n2 = s[pairs], n[pairs, None], s[pairs + 1], n[pairs + 1, None]
        # .455: median of chi-square with one degree of freedom.
        found.append(np.median((s1 / n1 - s2 / n2) ** 2 / (1 / n1 + 1 / n2), axis=0) / 0.455)
    return np.stack(found)


def deff_at(scales_ms: Ints, v: Floats, pane_ms: int) -> Floats:
    """Design effect (k,) of each direction for panes of `pane_ms`: the largest V over scales at least that long, or 1.

    A pane longer than every scale takes the longest one. Without scales (a bag of rows): 1.

    >>> deff_at(np.array([10_000, 20_000, 40_000]), np.array([[9.0], [0.5], [3.0]]), 15_000)
    array([3.])
    """
    if scales_ms.size == 0:
        return np.ones(v.shape[1])
    first = min(int(np.searchsorted(scales_ms, pane_ms)), scales_ms.size - 1)
    largest: Floats = np.maximum(1.0, v[first:].max(axis=0))
    return largest


def third_moment_at(scales_ms: Ints, m3: Floats, pane_ms: int) -> Floats:
    """M₃ (k,) for panes of `pane_ms`, at least 0: the seam of DETECTION 3 (errors are skewed)."""
    if scales_ms.size == 0:
        return np.zeros(m3.shape[1])
    first = min(int(np.searchsorted(scales_ms, pane_ms)), scales_ms.size - 1)
    largest: Floats = np.maximum(0.0, m3[first:].max(axis=0))
    return largest


def n_bar_at(scales_ms: Ints, n_bar: Floats, pane_ms: int) -> float:
    """Rows in the pane of an average row, `Σn²/Σn`, at `pane_ms`: between scales log-linear, beyond them in proportion.

    >>> n_bar_at(np.array([10_000, 20_000]), np.array([5.0, 10.0]), 40_000)
    20.0
    """
    if scales_ms.size == 0 or float(n_bar.max()) <= 0.0:
        return 1.0
    known = np.maximum(n_bar, 1.0)
    least, most = float(scales_ms[0]), float(scales_ms[-1])
    if pane_ms <= least:
        return max(1.0, float(known[0]) * pane_ms / least)
    if pane_ms >= most:
        return float(known[-1]) * pane_ms / most
    return float(np.exp(np.interp(np.log(pane_ms), np.log(scales_ms), np.log(known))))


def tempering(directions: Directions, deff: Floats) -> Floats:
    """The design effects that κ uses: those of related directions lend to each other (DETECTION 2).

    Shape: the geometric mean with the largest of the four. Below and above: at least that largest. Levels: at least
    the 80 % quantile of the levels'. Missing, unseen and non-finite keep their own. deff, result: (k,).

    >>> from detectors.directions import directions as along
    >>> from detectors.bins import FeatureSpec
    >>> found = along(FeatureSpec(name="x", kind="numeric", edges=(1.0,)), np.array([5, 5, 0, 0, 0, 0]))
    >>> found.names
    ('location', 'below', 'above', 'missing', 'non_finite')
    >>> tempering(found, np.array([4.0, 1.0, 9.0, 2.0, 1.0]))
    array([4., 4., 9., 2., 1.])
    """
    kinds = np.array(directions.kinds)
    out = deff.astype(np.float64).copy()
    shape, outside, level = kinds == "shape", kinds == "range", kinds == "level"
    if shape.any():
        largest = deff[shape].max()
        out[shape] = np.sqrt(deff[shape] * largest)
        out[outside] = np.maximum(deff[outside], largest)
    if level.any():
        out[level] = np.maximum(deff[level], np.quantile(deff[level], 0.8))
    return out


def _blocks_of(running: Floats, length: int) -> Floats:
    """Sums over overlapping blocks, from running sums that begin with 0; stride an eighth of the length."""
    stride = max(1, length // 8)
    found: Floats = running[length::stride] - running[: running.size - length : stride]
    return found


def _dyadic(blocks: int) -> Ints:
    """1, 2, 4, … up to a third of the blocks, and 1 in any case."""
    return np.array([1 << i for i in range(max(1, (blocks // 3).bit_length()))], dtype=np.int64)
