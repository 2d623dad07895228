"""Statistics against scipy on the same counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from detectors.statistics.jensen_shannon import jensen_shannon
from detectors.statistics.ks import ks
from detectors.statistics.missing_rate import missing_rate, missing_rate_noise
from detectors.statistics.psi import psi
from detectors.statistics.wasserstein import wasserstein, wasserstein_noise

P, Q = np.array([40, 30, 20, 10]), np.array([5, 20, 30, 60])


def test_jensen_shannon_is_scipys_on_shares_with_half_a_count() -> None:
    assert jensen_shannon(P, Q) == pytest.approx(distance.jensenshannon(P + 0.5, Q + 0.5, base=2))


def test_ks_is_scipys_on_the_bins_as_values() -> None:
    values = np.arange(4)
    assert ks(P, Q) == pytest.approx(stats.ks_2samp(np.repeat(values, P), np.repeat(values, Q)).statistic)


def test_wasserstein_is_scipys() -> None:
    places = np.array([-1.0, 0.0, 0.5, 3.0])
    assert wasserstein(P, Q, places) == pytest.approx(stats.wasserstein_distance(places, places, P, Q))


def test_wasserstein_noise_is_what_chance_gives() -> None:
    places, rng = np.array([-1.0, 0.0, 0.5, 3.0]), np.random.default_rng(0)
    large = P * 100_000
    found = wasserstein(large, rng.multinomial(200, P / P.sum(), size=3000), places)
    assert wasserstein_noise(large, 200, places) == pytest.approx(found.mean(), rel=0.05)


def test_psi_is_twice_the_symmetric_divergence() -> None:
    p, q = (P + 0.5) / (P + 0.5).sum(), (Q + 0.5) / (Q + 0.5).sum()
    assert psi(P, Q) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))


def test_the_missing_rate_lies_within_its_noise() -> None:
    rng = np.random.default_rng(1)
    mean, deviation = missing_rate_noise(2000, 100_000, 400)
    rates = missing_rate(rng.binomial(400, 0.02, size=4000), np.full(4000, 400))
    assert mean == pytest.approx(0.02, abs=1e-4)
    assert deviation == pytest.approx(rates.std(), rel=0.05)
