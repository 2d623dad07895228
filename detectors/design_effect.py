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

#: Blocks that a segment's model stands for, beside the segment's own.
PRIOR_BLOCKS = 8.0
#: Overlapping blocks tell as much of a variance as this many times the blocks beside each other.
_OVERLAP = 1.5
#: Of a scale's own variance is taken what exceeds `_NOISE` times the noise, and where it is larger than expected,
#: `_UPPER` standard errors more: few blocks.
_NOISE, _UPPER = 2.0, 0.5
_TINY = 1e-12
#: Standard errors that a third moment must stand out by.
_SURE = 3.0
#: From this scale on a wandering mean shows in too few blocks for a design effect to tell how far it goes, …
_SLOW_MS = 43_200_000
#: … and what it adds is what exceeds the scale this many times finer.
_FASTER = 8


class Scales(NamedTuple):
    """What blocks of `lengths` (s,) base blocks show: v, m3 (s, k) per row, n_bar (s,)."""

    lengths: Ints
    v: Floats
    m3: Floats
    n_bar: Floats


def block_moments(residuals: Floats, counts: Floats, prior: dict[int, Floats] | None = None) -> Scales:
    """Moments of block sums over h = 1, 2, 4, … up to a third of the reference, each read beside the finer ones.

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
    v = _followed(v, blocks / lengths)
    for i, h in enumerate(lengths.tolist()):
        if prior is not None and h in prior:
            known, own = np.isfinite(prior[h]), blocks / h + PRIOR_BLOCKS * (i > 0)
            lent = (own * v[i] + PRIOR_BLOCKS * np.where(known, prior[h], 0.0)) / (own + PRIOR_BLOCKS)
            v[i] = np.where(known, lent, v[i])
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


def added_skew_at(scales: Scales, pane_ms: int, *, n: float, alone: Floats) -> Floats:
    """Third moment per row (k,) that dependence adds to that of independent rows, by the scale that shows it best.

    Of the scales of a pane and more. Three standard errors are taken off, so that few blocks show none. scales:
    lengths in ms; n: rows; alone: (k,) third moment of a row.

    >>> made = Scales(np.array([10_000]), np.array([[4.0]]), np.array([[60.0]]), np.array([10.0]))
    >>> added_skew_at(made, 10_000, n=10_000.0, alone=np.array([5.0])).round(1)
    array([47.4])
    """
    if scales.lengths.size == 0:
        return np.zeros(alone.size)
    first = min(int(np.searchsorted(scales.lengths, pane_ms)), scales.lengths.size - 1)
    # Of B sums with variance s: √(15 s³/B); overlapping blocks tell as much as half again as many.
    noise = np.sqrt(15.0 / _OVERLAP / n) * scales.v[first:] ** 1.5 * scales.n_bar[first:, None]
    added = scales.m3[first:] - alone
    sure = np.sign(added) * np.maximum(0.0, np.abs(added) - _SURE * noise)
    at = (np.abs(added) / np.maximum(noise, _TINY)).argmax(axis=0)
    surest: Floats = sure[at, np.arange(alone.size)]
    return surest


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


def wander_at(scales_ms: Ints, v: Floats, n_bar: Floats) -> Floats:
    """How far, in sd, each direction's mean wanders from day to day (k,); 0 where the reference shows nothing of it.

    `√((V_h − V_{h/8}) / rows in a block)`, the largest over scales of half a day and more. A fortnight holds few such
    blocks: the next month may go twice as far, so this is for the tolerance, where a design effect would be too small.

    >>> scales = 43_200_000 >> np.arange(3, -1, -1)
    >>> wander_at(scales, np.array([[2.0], [3.0], [4.0], [20.0]]), np.array([900.0, 1800.0, 3600.0, 7200.0])).round(3)
    array([0.05])
    """
    found = np.zeros(v.shape[1])
    for i in np.flatnonzero(scales_ms >= _SLOW_MS).tolist():
        finer = int(np.searchsorted(scales_ms, scales_ms[i] // _FASTER))
        found = np.maximum(found, np.sqrt(np.maximum(0.0, v[i] - v[finer]) / max(float(n_bar[i]), 1.0)))
    return found


def _followed(own: Floats, blocks: Floats) -> Floats:
    """V by scale, from the blocks' own (s, k), by how many (s,) they are: each is what the finer scales lead to expect,
    unless its blocks stand out of their noise (James and Stein, positive part).

    The largest of a dozen scales is what tempers. Were each taken as it is, the noise of the longest would be the
    result: deff 207 where it is 140, and half again as slow. And a scale that is shrunk to the next finer one is too
    low where V still grows, as of a mean that wanders over days: a fortnight has few such blocks, and every hundredth
    happens to be calm. So what is expected of a scale is that growth g goes on as it slowed before, `g·(g/g₋₁)²`: near
    0 once V has settled, all of it where V grew at one pace.
    """
    v = own.copy()
    before, growth = np.zeros(own.shape[1]), np.zeros(own.shape[1])
    for i in range(1, blocks.size):
        slowed = growth / np.maximum(before, _TINY)
        expected = v[i - 1] * (1.0 + np.where(slowed < 1.0, growth * slowed**2, before))
        noise = np.sqrt(2.0 / max(1.0, _OVERLAP * float(blocks[i]) - 1.0))
        apart = own[i] / np.maximum(expected, _TINY) - 1.0
        taken = np.maximum(0.0, 1.0 - _NOISE * noise**2 / np.maximum(apart**2, _TINY))
        upper = np.where(apart > 0.0, own[i] * (1.0 + _UPPER * noise), own[i])
        v[i] = expected + taken * (upper - expected)
        before, growth = growth, np.maximum(0.0, v[i] / np.maximum(v[i - 1], _TINY) - 1.0)
    return v


def _blocks_of(running: Floats, length: int) -> Floats:
    """Sums over overlapping blocks, from running sums that begin with 0; stride an eighth of the length."""
    stride = max(1, length // 8)
    found: Floats = running[length::stride] - running[: running.size - length : stride]
    return found


def _dyadic(blocks: int) -> Ints:
    """1, 2, 4, … up to a third of the blocks, and 1 in any case."""
    return np.array([1 << i for i in range(max(1, (blocks // 3).bit_length()))], dtype=np.int64)
