"""Laws over every statistic of the catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.catalogue import STATISTICS, Statistic

EVERY = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS.keys())
REFERENCE = np.array([[400, 300, 200, 99, 1], [10, 0, 0, 90, 900]])


def drawn(n: int, runs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(n, row / row.sum(), size=runs) for row in REFERENCE])


@EVERY
def test_equal_shares_are_no_distance(statistic: Statistic) -> None:
    np.testing.assert_allclose(statistic.value(REFERENCE, REFERENCE), [0.0, 0.0], atol=1e-12)


@EVERY
def test_it_stays_within_its_ends(statistic: Statistic) -> None:
    found = statistic.value(np.array([1_000_000, 0]), np.array([0, 1_000_000]))
    assert 0.5 < found <= statistic.most


@EVERY
def test_many_rows_equal_one_by_one(statistic: Statistic) -> None:
    panes = drawn(50, 1, seed=1)[:, 0]
    one_by_one = [float(statistic.value(p, q)) for p, q in zip(REFERENCE, panes, strict=True)]
    np.testing.assert_array_equal(statistic.value(REFERENCE, panes), one_by_one)


@EVERY
def test_input_is_not_changed(statistic: Statistic) -> None:
    reference, pane = REFERENCE.copy(), drawn(50, 1, seed=2)[:, 0]
    kept = pane.copy()
    statistic.value(reference, pane)
    statistic.noise(reference, 50)
    np.testing.assert_array_equal(reference, REFERENCE)
    np.testing.assert_array_equal(pane, kept)


@EVERY
def test_an_empty_pane_gives_a_number_not_an_exception(statistic: Statistic) -> None:
    nothing = np.zeros_like(REFERENCE)
    assert np.isfinite(statistic.value(REFERENCE, nothing)).all()
    assert np.isfinite(statistic.value(nothing, nothing)).all()
    assert np.isfinite(statistic.noise(REFERENCE, 0)).all()
    assert np.isfinite(statistic.noise(nothing, 50)).all()


@EVERY
@pytest.mark.parametrize("n", [20, 200, 2000])
def test_the_noise_is_what_chance_gives(statistic: Statistic, n: int) -> None:
    """Mean over 2,000 draws with nothing changed (the root mean square for a root), the reference large."""
    large = REFERENCE * 1000
    found = statistic.value(large[:, None, :], drawn(n, 2000, seed=n))
    mean = np.sqrt((found**2).mean(axis=1)) if statistic.root else found.mean(axis=1)
    np.testing.assert_allclose(statistic.noise(large, n), mean, rtol=0.1)
