"""Population stability index."""

from __future__ import annotations

import numpy as np

from detectors.statistics.tables import Counts, Floats, expected_sum, smoothed


def psi(reference: Counts, pane: Counts) -> Floats:
    """Population stability index, `Σ (q − p)·ln(q/p)`, in nats; 0 when equal, no upper end.

    reference, pane: (…, bins) counts; half a count is added to every bin (Krichevsky–Trofimov). The folk limits .1 and
    .25 mean little without n: read it beside `psi_noise`. Prefer `jensen_shannon` where a bounded number is wanted.

    >>> psi(np.array([80, 20]), np.array([20, 80])).round(3)
    np.float64(1.625)

    Yurdakul 2018, "Statistical properties of population stability index".
    """
    p, q = smoothed(reference), smoothed(pane)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))[()]


def psi_noise(reference: Counts, n: int) -> Floats:
    """What `psi` is on average over n events when nothing changed; near `(bins − 1)·(1/n + 1/N)` while bins are full.

    >>> psi_noise(np.full(10, 100_000), 1000).round(4)
    np.float64(0.0089)
    """
    return expected_sum(lambda p, q: (q - p) * np.log(q / p), reference=reference, n=n)[()]
