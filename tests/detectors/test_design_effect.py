"""Design effect: 1 for independent rows, the known value for dependent ones, and what directions lend to each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.bins import FeatureSpec
from detectors.design_effect import (
    _followed,
    added_skew_at,
    block_moments,
    deff_at,
    n_bar_at,
    step_proof_variance,
    tempering,
    third_moment_at,
    wander_at,
)
from detectors.directions import directions


def independent(blocks: int = 8000, n: float = 20.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, np.sqrt(n), (blocks, 1))


def test_independent_rows_have_a_design_effect_of_one() -> None:
    scales = block_moments(independent(), np.full(8000, 20.0))
    assert np.abs(scales.v[:4] - 1.0).max() < 0.1
    assert 1.0 <= deff_at(scales.lengths, scales.v, 1)[0] < 1.6


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.9])
def test_shocks_that_follow_an_autoregression_reach_their_long_run_variance(rho: float) -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, np.sqrt(20.0 * (1 - rho**2)), 20_000)
    sums = np.zeros(20_000)
    for t in range(1, 20_000):
        sums[t] = rho * sums[t - 1] + noise[t]
    scales = block_moments(sums[:, None], np.full(20_000, 20.0))
    expected = (1 + rho) / (1 - rho)
    assert scales.v[0, 0] == pytest.approx(1.0, abs=0.1)
    assert scales.v[8, 0] == pytest.approx(expected, rel=0.25)
    assert deff_at(scales.lengths, scales.v, 1)[0] == pytest.approx(expected, rel=0.6)


def test_rows_that_all_move_together_count_as_one() -> None:
    shock = np.random.default_rng(8).normal(0, 1, (4000, 1))
    scales = block_moments(20.0 * shock, np.full(4000, 20.0))
    assert scales.v[0, 0] == pytest.approx(20.0, rel=0.1)


def test_scales_go_to_a_third() -> None:
    scales = block_moments(independent(96, seed=9), np.full(96, 20.0))
    assert scales.lengths.tolist() == [1, 2, 4, 8, 16, 32]
    assert scales.n_bar.tolist() == [20.0 * h for h in (1, 2, 4, 8, 16, 32)]


def test_what_a_scale_shows_within_its_noise_is_not_taken() -> None:
    sums, counts = independent(96, seed=9), np.full(96, 20.0)
    first = float((sums[:, 0] ** 2).sum() / (20.0 * 96))
    pairs = float(((sums[1:, 0] + sums[:-1, 0]) ** 2).sum() / (40.0 * 95))
    assert abs(pairs / first - 1.0) < math.sqrt(2.0) * math.sqrt(2.0 / 71.0)
    assert block_moments(sums, counts).v[:2, 0].tolist() == pytest.approx([first, first])


def test_what_stands_out_is_taken_with_half_a_standard_error() -> None:
    sums, counts = np.tile(np.repeat([30.0, -30.0], 4)[:, None], (12, 1)), np.full(96, 20.0)
    pairs = float(((sums[1:, 0] + sums[:-1, 0]) ** 2).sum() / (40.0 * 95))
    noise = math.sqrt(2.0 / 71.0)
    taken = 1.0 - 2.0 * noise**2 / (pairs / 45.0 - 1.0) ** 2
    scales = block_moments(sums, counts)
    assert scales.v[0, 0] == pytest.approx(45.0)
    assert scales.v[1, 0] == pytest.approx(45.0 + taken * (pairs * (1.0 + 0.5 * noise) - 45.0))


def test_the_design_effect_of_clusters_is_not_the_noise_of_the_longest_blocks() -> None:
    """Runs of 25 blocks that share a value: V is 25; the largest of the plain ones was 36 in the median."""
    found = [np.repeat(np.random.default_rng([11, i]).normal(size=160), 25)[:, None] for i in range(15)]
    deffs = [block_moments(sums, np.ones(4000)).v.max() for sums in found]
    assert 23.0 < float(np.median(deffs)) < 30.0


def test_growth_at_one_pace_goes_on_where_blocks_are_few_and_settled_growth_does_not() -> None:
    """A calm fortnight of a stream that wanders: the last three scales have 20, 10 and 5 blocks, and stand still."""
    blocks = 1280.0 / 2.0 ** np.arange(9)
    growing = np.minimum(2.0 ** np.arange(9.0), 32.0)[:, None]
    settled = (2.0 - 0.5 ** np.arange(9.0))[:, None]
    assert _followed(growing, blocks)[-1, 0] > 1.3 * 32.0
    assert _followed(settled, blocks)[-1, 0] == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize(("rows_of_one", "least", "most"), [(1, 0.0, 0.0), (8, 1000.0, 4000.0)])
def test_sessions_of_a_rare_kind_add_a_third_moment_and_single_rows_none(
    rows_of_one: int, least: float, most: float
) -> None:
    """2 % missing, in sessions of 8 on average or row by row; 50 rows a pane, a fortnight. E k³/E k is 337, 1/√q 7."""
    rng = np.random.default_rng(4)
    n = 4032 * 50
    session = np.cumsum(rng.random(n) < 1 / rows_of_one)
    missing = (rng.random(session[-1] + 1) < 0.02)[session]
    phi = np.where(missing, 0.98, -0.02) / np.sqrt(0.02 * 0.98)
    residuals = (phi - phi.mean()).reshape(-1, 5).sum(axis=1)[:, None]
    found = block_moments(residuals, np.full(residuals.shape[0], 5.0))
    alone = np.array([((phi - phi.mean()) ** 3).mean()])
    added = added_skew_at(found._replace(lengths=found.lengths * 30_000), 300_000, n=float(n), alone=alone)
    assert least <= added[0] <= most


def test_wandering_is_what_half_a_day_and_more_shows_beyond_the_hours() -> None:
    scales = 86_400_000 >> np.arange(4, -1, -1)
    v = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 8.0], [1.0, 8.0], [3.25, 8.0]])
    n_bar = np.array([56.25, 112.5, 225.0, 450.0, 900.0])
    assert wander_at(scales, v, n_bar).tolist() == pytest.approx([0.05, math.sqrt(6.0 / 450.0)])
    assert wander_at(scales[:3], v[:3], n_bar[:3]).tolist() == [0.0, 0.0]
    assert wander_at(scales[:0], v[:0], n_bar[:0]).tolist() == [0.0, 0.0]


def test_a_segment_shrinks_to_its_model() -> None:
    sums, counts = independent(96, seed=10), np.full(96, 20.0)
    alone, lent = block_moments(sums, counts), block_moments(sums, counts, {32: np.array([50.0])})
    assert lent.v[:5].tolist() == alone.v[:5].tolist()
    assert lent.v[5, 0] == pytest.approx((11 * alone.v[5, 0] + 8 * 50.0) / 19)
    unknown = block_moments(sums, counts, {32: np.array([np.nan])})
    assert unknown.v.tolist() == alone.v.tolist()


def test_empty_blocks_carry_nothing_and_an_empty_stream_has_one() -> None:
    sums, counts = independent(), np.full(8000, 20.0)
    sums[1000:1500], counts[1000:1500] = 0.0, 0.0
    assert block_moments(sums, counts).v[0, 0] == pytest.approx(1.0, abs=0.1)
    assert block_moments(np.zeros((30, 1)), np.zeros(30)).v.tolist() == [[1.0]] * 4
    assert block_moments(np.zeros((1, 2)), np.ones(1)).lengths.tolist() == [1]


def test_a_step_raises_the_plain_variance_and_not_the_step_proof_one() -> None:
    sums = independent() + 10.0 * (np.arange(8000) >= 4000)[:, None] - 5.0
    counts = np.full(8000, 20.0)
    assert block_moments(sums, counts).v.max() > 100
    assert step_proof_variance(sums, counts).max() < 2.0
    assert step_proof_variance(independent(), counts)[0, 0] == pytest.approx(1.0, abs=0.1)


def test_a_pane_uses_the_scales_from_its_own_length_on() -> None:
    scales, v = np.array([10, 20, 40]), np.array([[0.5, 9.0], [4.0, 1.0], [2.0, 0.2]])
    assert deff_at(scales, v, 10).tolist() == [4.0, 9.0]
    assert deff_at(scales, v, 11).tolist() == [4.0, 1.0]
    assert deff_at(scales, v, 1000).tolist() == [2.0, 1.0]
    assert third_moment_at(scales, v - 3, 21).tolist() == [0.0, 0.0]
    assert deff_at(scales[:0], v[:0], 5).tolist() == [1.0, 1.0]


def test_n_bar_is_log_linear_between_scales_and_in_proportion_beyond() -> None:
    scales, n_bar = np.array([10, 40]), np.array([4.0, 16.0])
    assert n_bar_at(scales, n_bar, 20) == pytest.approx(8.0)
    assert n_bar_at(scales, n_bar, 80) == 32.0
    assert n_bar_at(scales, n_bar, 5) == 2.0
    assert n_bar_at(scales[:0], n_bar[:0], 5) == 1.0


def test_related_directions_lend_their_design_effect() -> None:
    spec = FeatureSpec(name="x", kind="numeric", edges=tuple(float(i) for i in range(31)), low=-1.0, high=40.0)
    found = directions(spec, np.array([*[100] * 32, 0, 0, 0, 0]))
    deff = np.array([16.0, 4.0, 1.0, 1.0, 2.0, 30.0, 5.0, 1.0])
    assert tempering(found, deff).tolist() == [16.0, 8.0, 4.0, 4.0, 16.0, 30.0, 5.0, 1.0]
    levels = FeatureSpec(name="c", kind="categorical", levels=tuple("abcdef"))
    along = directions(levels, np.array([*[10] * 6, 0, 0]))
    lent = tempering(along, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 9.0]))
    assert lent.tolist() == [5.0, 5.0, 5.0, 5.0, 5.0, 6.0, 1.0, 9.0]
