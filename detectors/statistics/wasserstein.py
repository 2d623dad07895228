"""Wasserstein distance on bins."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from detectors.statistics.tables import Counts, Floats, smoothed


def wasserstein(reference: Counts, pane: Counts, positions: Floats) -> Floats:
    """Mean distance that mass must move, `∫ |F − G| dx`, in the unit of `positions`.

    reference, pane: (…, bins) counts of ordered bins; positions: (bins,) where each bin's mass stands, ascending, in
    reference sd (normal scores) or raw units. A pure shift by δ gives δ; `ks` says where the gap is widest instead.

    >>> wasserstein(np.array([10, 10, 0]), np.array([0, 10, 10]), np.array([-1.0, 0.0, 1.0]))
    np.float64(1.0)

    Vallender 1974.
    """
    n, m = reference.sum(axis=-1, keepdims=True), pane.sum(axis=-1, keepdims=True)
    gap = np.cumsum(reference, axis=-1) / np.maximum(n, 1) - np.cumsum(pane, axis=-1) / np.maximum(m, 1)
    return np.asarray((np.abs(gap[..., :-1]) * np.diff(positions)).sum(axis=-1))[()]


def wasserstein_noise(reference: Counts, n: int, positions: Floats) -> Floats:
    """What `wasserstein` is on average over n events when nothing changed: `∫ √(2/π·F(1 − F)·(1/n + 1/N)) dx`.

    >>> wasserstein_noise(np.array([50, 50]), 100, np.array([0.0, 1.0])).round(3)
    np.float64(0.056)
    """
    total = reference.sum(axis=-1)
    upto = np.cumsum(reference, axis=-1) / np.maximum(total, 1)[..., None]
    spread = np.sqrt(2.0 / np.pi * upto * (1.0 - upto))[..., :-1]
    scale = np.sqrt(1.0 / max(n, 1) + 1.0 / np.maximum(total, 1))
    return np.asarray((spread * np.diff(positions)).sum(axis=-1) * scale)[()]


def wasserstein_sd(reference: Counts, pane: Counts) -> Floats:
    """`wasserstein` in reference sd: every bin's mass stands at its normal score under the reference.

    reference, pane: (…, bins) counts of ordered bins, lowest first. A shift of the whole by δ sd gives about δ, however
    the values are distributed.

    >>> wasserstein_sd(np.array([16, 34, 34, 16]), np.array([0, 16, 34, 50])).round(2)
    np.float64(0.78)
    """
    return wasserstein(reference, pane, _positions(reference))


def wasserstein_sd_noise(reference: Counts, n: int) -> Floats:
    """What `wasserstein_sd` is on average over n events when nothing changed.

    >>> wasserstein_sd_noise(np.full(32, 10_000), 100).round(3)
    np.float64(0.117)
    """
    return wasserstein_noise(reference, n, _positions(reference))


def _positions(reference: Counts) -> Floats:
    rows = smoothed(reference).reshape(-1, reference.shape[-1])
    return np.array([_scores(row.tobytes()) for row in rows]).reshape(reference.shape)


@lru_cache(maxsize=8192)
def _scores(shares: bytes) -> tuple[float, ...]:
    """Normal score of the middle of each of the bins with these shares (float64)."""
    p, normal = np.frombuffer(shares), NormalDist()
    return tuple(normal.inv_cdf(float(at)) for at in np.clip(np.cumsum(p) - p / 2.0, 1e-9, 1.0 - 1e-9))
