"""Cramér's V between level and side."""

from __future__ import annotations

import numpy as np

from detectors.statistics.tables import Counts, Floats, expected_sum, smoothed


def cramers_v(reference: Counts, pane: Counts) -> Floats:
    """How well a value tells whether it is of the reference or of the pane: `√(½·Σ(p − q)²/(p + q))`, 0 … 1.

    reference, pane: (…, bins) counts; half a count is added to every bin (Krichevsky–Trofimov). Both sides weigh the
    same: V of the plain table falls with the size of the reference, which says nothing about the change.

    >>> cramers_v(np.array([80, 20]), np.array([20, 80])).round(3)
    np.float64(0.594)

    Cramér 1946, "Mathematical Methods of Statistics", section 21.9.
    """
    return np.asarray(np.sqrt(np.maximum(_terms(smoothed(reference), smoothed(pane)).sum(axis=-1), 0.0)))[()]


def cramers_v_noise(reference: Counts, n: int) -> Floats:
    """Root mean square of `cramers_v` over n events when nothing changed; near `√((bins − 1)/4·(1/n + 1/N))`.

    >>> cramers_v_noise(np.full(10, 100_000), 1000).round(4)
    np.float64(0.0472)
    """
    return np.sqrt(np.maximum(expected_sum(_terms, reference=reference, n=n), 0.0))[()]


def _terms(p: Floats, q: Floats) -> Floats:
    return np.asarray((p - q) ** 2 / (p + q) / 2.0)
