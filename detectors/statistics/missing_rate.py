"""Share of events without a value."""

from __future__ import annotations

import numpy as np

from detectors.statistics.tables import Counts, Floats


def missing_rate(missing: Counts, n: Counts) -> Floats:
    """Missing of n events, a share; 0 without events.

    >>> missing_rate(np.array([5, 0]), np.array([50, 0]))
    array([0.1, 0. ])
    """
    return (missing / np.maximum(n, 1))[()]


def missing_rate_noise(missing: int, total: int, n: int) -> tuple[float, float]:
    """Mean and standard deviation of `missing_rate` over n events when nothing changed.

    missing, total: of the reference, with half a missing event added (Krichevsky–Trofimov), so that a reference that
    never missed one still allows some noise.

    >>> mean, deviation = missing_rate_noise(100, 10_000, 400)
    >>> round(mean, 4), round(deviation, 4)
    (0.01, 0.0051)
    """
    q = (missing + 0.5) / (total + 1.0)
    return q, float(np.sqrt(q * (1.0 - q) * (1.0 / max(n, 1) + 1.0 / max(total, 1))))
