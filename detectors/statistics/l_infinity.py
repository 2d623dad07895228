"""Largest change of a share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from detectors.statistics.tables import Counts, Floats


def l_infinity(reference: Counts, pane: Counts) -> Floats:
    """Largest difference of the shares of one bin, `max |p − q|`; 0 … 1. For categories: how much one level moved.

    reference, pane: (…, bins) counts; no smoothing; nothing on one side gives 0. Blind to many small moves, which
    `total_variation` sums.

    >>> l_infinity(np.array([50, 30, 20]), np.array([20, 30, 50])).round(2)
    np.float64(0.3)

    Conover 1999, "Practical Nonparametric Statistics", chapter 6, for the continuous sibling.
    """
    n, m = reference.sum(axis=-1, keepdims=True), pane.sum(axis=-1, keepdims=True)
    gap = np.abs(reference / np.maximum(n, 1) - pane / np.maximum(m, 1)).max(axis=-1, initial=0.0)
    return np.where((n[..., 0] > 0) & (m[..., 0] > 0), gap, 0.0)[()]


def l_infinity_noise(reference: Counts, n: int) -> Floats:
    """What `l_infinity` is on average over n events when nothing changed.

    The mean of the largest of |√p·Z − p·Σ√p·Z| over 1,024 seeded draws (within 3 %), times `√(1/n + 1/N)`.

    >>> l_infinity_noise(np.full(10, 100_000), 1000).round(4)
    np.float64(0.0178)
    """
    total = reference.sum(axis=-1)
    p = reference / np.maximum(total, 1)[..., None]
    rows = p.reshape(-1, p.shape[-1])
    largest = np.array([_largest(row.tobytes()) for row in rows]).reshape(total.shape)
    return np.asarray(largest * np.sqrt(1.0 / max(n, 1) + 1.0 / np.maximum(total, 1)))[()]


@lru_cache(maxsize=16)
def _draws(bins: int) -> Floats:
    """Standard normal draws (1024, bins), the same for every distribution: seeded, once."""
    return np.random.default_rng(1946).normal(size=(1024, bins))


@lru_cache(maxsize=8192)
def _largest(shares: bytes) -> float:
    """Mean of the largest deviation of a multinomial with these shares (float64), at n = 1 in the normal limit."""
    p = np.frombuffer(shares)
    steps = np.sqrt(p) * _draws(p.size)
    return float(np.abs(steps - p * steps.sum(axis=1, keepdims=True)).max(axis=1, initial=0.0).mean())
