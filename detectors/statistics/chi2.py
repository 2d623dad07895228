"""Chi-square statistic of two samples."""

from __future__ import annotations

import numpy as np

from detectors.statistics.tables import Counts, Floats, smoothed


def chi2(reference: Counts, pane: Counts) -> Floats:
    """Pearson's X² that reference and pane are draws of one distribution; 0 when equal, no upper end.

    reference, pane: (…, bins) counts; bins that are empty on both sides count for nothing. It grows with n for the same
    change, unlike `cramers_v`: read it beside `chi2_noise`, its degrees of freedom. 0 without events on one side.

    >>> chi2(np.array([80, 20]), np.array([20, 80])).round(2)
    np.float64(72.0)

    Pearson 1900, 1911; Press et al., "Numerical Recipes", section 14.3.
    """
    total, n = reference.sum(axis=-1, keepdims=True), pane.sum(axis=-1, keepdims=True)
    both = reference + pane
    gap = np.sqrt(n / np.maximum(total, 1)) * reference - np.sqrt(total / np.maximum(n, 1)) * pane
    terms = np.where(both > 0, gap**2 / np.maximum(both, 1), 0.0)
    return np.asarray(np.where((total > 0) & (n > 0), terms, 0.0).sum(axis=-1))[()]


def chi2_noise(reference: Counts, n: int) -> Floats:
    """What `chi2` is on average over n events when nothing changed: the bins that have events, less one.

    Given the sum of both sides, a bin's term is `1 − its share` on average; a bin that the reference lacks counts by
    the chance that it comes at all (half a count in the reference).

    >>> chi2_noise(np.full(10, 100_000), 1000).round(2)
    np.float64(9.0)
    """
    if n <= 0:
        return np.zeros(reference.shape[:-1])[()]
    p = smoothed(reference)
    some = np.where(reference > 0, 1.0, -np.expm1(n * np.log1p(-p)))
    total = reference.sum(axis=-1)
    return np.asarray(np.where(total > 0, (some * (1.0 - p)).sum(axis=-1), 0.0))[()]
