"""Total variation distance."""

from __future__ import annotations

import numpy as np

from detectors.statistics.tables import Counts, Floats, log_gamma, smoothed


def total_variation(reference: Counts, pane: Counts) -> Floats:
    """Share of the mass that must move, `½·Σ|p − q|`; 0 when equal, 1 when the supports are disjoint.

    reference, pane: (…, bins) counts; no smoothing; nothing on one side gives 0. The plainest number to explain, but
    `total_variation_noise` falls with √n only and grows with the bins: prefer `l_infinity` for one level.

    >>> total_variation(np.array([80, 20]), np.array([20, 80])).round(3)
    np.float64(0.6)

    Levin, Peres, Wilmer 2009, "Markov Chains and Mixing Times", section 4.1.
    """
    n, m = reference.sum(axis=-1, keepdims=True), pane.sum(axis=-1, keepdims=True)
    gap = np.abs(reference / np.maximum(n, 1) - pane / np.maximum(m, 1)).sum(axis=-1) / 2.0
    return np.where((n[..., 0] > 0) & (m[..., 0] > 0), gap, 0.0)[()]


def total_variation_noise(reference: Counts, n: int) -> Floats:
    """What `total_variation` is on average over n events when nothing changed; near `.4·Σ√(p(1 − p)·(1/n + 1/N))`.

    Exact for a large reference: a binomial deviates by `2ν·C(n, ν)·pᵛ·(1 − p)ⁿ⁻ᵛ⁺¹` on average, ν = ⌊np⌋ + 1.

    >>> total_variation_noise(np.full(10, 100_000), 1000).round(4)
    np.float64(0.0378)

    De Moivre 1730; Diaconis, Zabell 1991, "Closed form summation for classical distributions".
    """
    if n <= 0:
        return np.zeros(reference.shape[:-1])[()]
    p = smoothed(reference)
    v = np.floor(n * p) + 1.0
    choose = log_gamma(np.full_like(v, n + 1.0)) - log_gamma(v + 1.0) - log_gamma(np.maximum(n - v, 0.0) + 1.0)
    deviation = np.exp(np.log(2.0 * v) + choose + v * np.log(p) + (n - v + 1.0) * np.log1p(-p))
    own = np.sqrt(1.0 + n / np.maximum(reference.sum(axis=-1), 1))
    return np.asarray(deviation.sum(axis=-1) / n / 2.0 * own)[()]
