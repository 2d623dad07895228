"""The Beta quantile against scipy, from no labels to ten million."""

from __future__ import annotations

import pytest
from scipy import stats

from detectors.jeffreys import beta_distribution, jeffreys_quantile


@pytest.mark.parametrize("at", [3e-5, 0.025, 0.5, 0.9, 1 - 3e-5])
@pytest.mark.parametrize(
    ("errors", "n"),
    [(0, 0), (0, 30), (30, 30), (1, 2000), (0.4, 7.3), (200, 2000), (1_000, 1_000_000), (5e6, 1e7), (9e6, 1e7)],
)
def test_the_quantile_is_that_of_scipy(errors: float, n: float, at: float) -> None:
    expected = stats.beta.ppf(at, errors + 0.5, n - errors + 0.5)
    assert jeffreys_quantile(errors, n, at=at) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("x", [0.0, 1e-9, 0.1, 0.3, 0.5, 0.99, 1.0])
def test_the_distribution_function_is_that_of_scipy(x: float) -> None:
    assert beta_distribution(x, 3.5, 17.5) == pytest.approx(stats.beta.cdf(x, 3.5, 17.5), rel=1e-11, abs=1e-300)
