"""Statistics against scipy on the same counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from detectors.statistics.chi2 import chi2
from detectors.statistics.cramers_v import cramers_v
from detectors.statistics.hellinger import hellinger
from detectors.statistics.jensen_shannon import jensen_shannon
from detectors.statistics.ks import ks
from detectors.statistics.l_infinity import l_infinity
from detectors.statistics.missing_rate import missing_rate, missing_rate_noise
from detectors.statistics.psi import psi
from detectors.statistics.total_variation import total_variation
from detectors.statistics.wasserstein import wasserstein, wasserstein_noise, wasserstein_sd

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


SMOOTH_P, SMOOTH_Q = (P + 0.5) / (P + 0.5).sum(), (Q + 0.5) / (Q + 0.5).sum()


def test_hellinger_is_the_euclidean_distance_of_roots() -> None:
    expected = distance.euclidean(np.sqrt(SMOOTH_P), np.sqrt(SMOOTH_Q)) / np.sqrt(2.0)
    assert hellinger(P, Q) == pytest.approx(expected)


def test_total_variation_is_half_of_the_city_block_distance() -> None:
    assert total_variation(P, Q) == pytest.approx(distance.cityblock(P / P.sum(), Q / Q.sum()) / 2.0)


def test_l_infinity_is_the_chebyshev_distance() -> None:
    assert l_infinity(P, Q) == pytest.approx(distance.chebyshev(P / P.sum(), Q / Q.sum()))


def test_chi2_is_that_of_the_contingency_table() -> None:
    with_empty = np.array([[*P.tolist(), 0], [*Q.tolist(), 0]])
    expected = stats.chi2_contingency([P, Q], correction=False).statistic
    assert chi2(*with_empty) == pytest.approx(expected)


def test_chi2_of_two_draws_of_one_distribution_has_its_law() -> None:
    """Its 95 % point over 4,000 draws is that of scipy's chi-square with bins − 1 degrees of freedom."""
    rng = np.random.default_rng(2)
    shares = P / P.sum()
    found = chi2(rng.multinomial(5_000, shares, size=4_000), rng.multinomial(300, shares, size=4_000))
    assert np.quantile(found, 0.95) == pytest.approx(stats.chi2(3).ppf(0.95), rel=0.05)


def test_cramers_v_is_that_of_a_table_with_equal_sides() -> None:
    table = np.rint(np.stack([SMOOTH_P, SMOOTH_Q]) * 10**9).astype(np.int64)
    expected = stats.contingency.association(table, method="cramer")
    assert cramers_v(P, Q) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shift", [0.2, 0.5])
def test_wasserstein_in_sd_of_a_shift_is_the_shift(shift: float) -> None:
    edges = stats.norm.ppf(np.arange(1, 64) / 64)
    upto = stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]) - shift)
    moved = np.rint(np.diff(upto) * 1e7).astype(np.int64)
    assert wasserstein_sd(np.full(64, 10**6), moved) == pytest.approx(shift, rel=0.05)
