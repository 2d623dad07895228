"""Jensen–Shannon distance."""

from __future__ import annotations

import numpy as np

from detectors.statistics.tables import Counts, Floats, expected_sum, smoothed


def jensen_shannon(reference: Counts, pane: Counts) -> Floats:
    """Jensen–Shannon distance, the root of the divergence in bits; 0 when equal, 1 when the supports are disjoint.

    reference, pane: (…, bins) counts; half a count is added to every bin (Krichevsky–Trofimov). Read it beside
    `jensen_shannon_noise`: at small n it is mostly noise. Prefer `ks` for an ordered feature that shifts as a whole.

    >>> jensen_shannon(np.array([8, 2]), np.array([2, 8])).round(3)
    np.float64(0.476)

    Lin 1991, "Divergence measures based on the Shannon entropy".
    """
    return np.asarray(np.sqrt(np.maximum(_terms(smoothed(reference), smoothed(pane)).sum(axis=-1), 0.0)))[()]


def jensen_shannon_noise(reference: Counts, n: int) -> Floats:
    """Root mean square of `jensen_shannon` over n events when nothing changed.

    Near `√((bins − 1)/(8 ln 2)·(1/n + 1/N))` while bins are full.

    >>> jensen_shannon_noise(np.full(10, 100_000), 1000).round(3)
    np.float64(0.04)
    """
    return np.sqrt(np.maximum(expected_sum(_terms, reference=reference, n=n), 0.0))[()]


def _terms(p: Floats, q: Floats) -> Floats:
    middle = (p + q) / 2.0
    return np.asarray((p * np.log2(p / middle) + q * np.log2(q / middle)) / 2.0)
