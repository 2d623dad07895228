"""The chart of losses: its laws, what it promises of a rate, and how fast it is at a matched false-alarm rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from detectors.charts import losses, mixture
from detectors.charts.losses import BETTER, UNIT, WORSE, LossReference, build_losses, learn_losses
from detectors.charts.mixture import Mixture
from schemas.errors import ConfigurationError, FormatError

DAY, PANE = 86_400_000, 300_000
MONDAY = 4 * DAY
DEPENDENT = LossReference(n=20_000, total=2_000, deff=4.0, m3=(40.0, 0.0), n_bar=50.0, profile=np.full(168, 0.1))


def binary(panes: int, monitors: int, *, rate: float, seed: int, n: int = 32) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).binomial(n, rate, (panes, monitors)) * UNIT


def play(
    plan: losses.Losses, sums: npt.NDArray[np.int64], *, n: int = 32, charts: Mixture | None = None, first: int = 1
) -> tuple[Mixture, npt.NDArray[np.float64]]:
    """Charts after the panes, and the evidence after each (panes, 2, monitors)."""
    charts = charts or plan.start()
    found, rows = [], np.full(plan.monitors, n)
    for i, pane in enumerate(sums):
        charts, said = losses.tick(plan, charts, n=rows, sums=pane, pane=first + i)
        found.append(said.value)
    return charts, np.array(found)


def same(one: Mixture, other: Mixture) -> bool:
    return mixture.save(one) == mixture.save(other)


# Laws


def test_stopped_saved_restored_equals_never_stopped() -> None:
    plan = build_losses([DEPENDENT] * 5, budget=8640.0)
    sums = binary(60, 5, rate=0.2, seed=1)
    whole, _ = play(plan, sums)
    half, _ = play(plan, sums[:30])
    back = mixture.load(plan.start(), mixture.save(half))
    assert same(whole, play(plan, sums[30:], charts=back, first=31)[0])


def test_blocks_of_monitors_of_any_size_give_the_same_bits() -> None:
    references = [LossReference.plain(3_000, 100 * (i + 1)) for i in range(7)]
    share = np.full(7, 0.1)
    sums = binary(40, 7, rate=0.15, seed=2)
    whole = play(build_losses(references, budget=8640.0, share=share), sums)[0].r
    apart = [
        play(build_losses([one], budget=8640.0, share=share[:1]), sums[:, i : i + 1])[0].r
        for i, one in enumerate(references)
    ]
    np.testing.assert_array_equal(np.concatenate(apart, axis=-1), whole)


def test_a_pane_that_came_in_parts_gives_the_same_bits() -> None:
    """Losses are counted in integers of 2**-20, so parts add up to the whole exactly, in any order."""
    units = losses.in_units(np.random.default_rng(3).random(1000))
    forth = sum(int(part.sum()) for part in np.array_split(units, 7))
    assert forth == int(units[::-1].sum())


def test_a_pane_without_labels_changes_nothing() -> None:
    plan = build_losses([DEPENDENT], budget=8640.0)
    charts, _ = play(plan, binary(20, 1, rate=0.2, seed=4))
    after, _ = losses.tick(plan, charts, n=np.array([0]), sums=np.array([0]), pane=21)
    assert same(charts, after)


def test_input_is_not_changed() -> None:
    plan = build_losses([DEPENDENT], budget=8640.0)
    charts, sums = plan.start(), np.array([20 * UNIT])
    before = mixture.save(charts)
    losses.tick(plan, charts, n=np.array([32]), sums=sums, pane=1)
    assert mixture.save(charts) == before
    assert sums.tolist() == [20 * UNIT]


def test_better_is_worse_of_one_minus_the_loss() -> None:
    """An error rate of .3 and a hit rate of .7 are one thing, seen from both sides."""
    sums = binary(30, 1, rate=0.35, seed=5)
    errors = play(build_losses([LossReference.plain(2_000, 600)], budget=8640.0), sums)[1]
    hits = play(build_losses([LossReference.plain(2_000, 1_400)], budget=8640.0), 32 * UNIT - sums)[1]
    np.testing.assert_allclose(errors[:, WORSE], hits[:, BETTER], rtol=1e-9)


def test_a_reset_touches_only_the_sides_and_monitors_it_names() -> None:
    plan = build_losses([DEPENDENT] * 2, budget=8640.0)
    charts, _ = play(plan, binary(20, 2, rate=0.3, seed=6))
    again = losses.reset(charts, np.array([[True, False], [False, False]]))
    assert again.r[WORSE, :, 0].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(again.r[:, :, 1], charts.r[:, :, 1])
    np.testing.assert_array_equal(again.r[BETTER], charts.r[BETTER])


def test_a_damaged_or_foreign_state_is_named() -> None:
    plan = build_losses([DEPENDENT], budget=8640.0)
    raw = mixture.save(plan.start())
    with pytest.raises(FormatError, match="shape"):
        mixture.load(build_losses([DEPENDENT] * 2, budget=8640.0).start(), raw)
    with pytest.raises(FormatError, match="mixture"):
        mixture.load(plan.start(), raw[:-5])


# What a bet is


@pytest.mark.parametrize("rate", [0.0, 0.004, 0.1, 0.5, 0.93, 1.0])
def test_no_bet_grows_on_average_up_to_the_tolerance(rate: float) -> None:
    """E exp(L) = 1 at p⁺, for losses of 0 and 1, whatever the rate; and is below 1 at p0."""
    plan = build_losses([LossReference.plain(5_000, 5_000 * rate)], budget=100.0, tempered=False)
    zero, one = (
        losses.tick(plan, plan.start(), n=np.array([1]), sums=np.array([y * UNIT]), pane=1)[0].r[WORSE, :, 0]
        for y in (0, 1)
    )
    entering = mixture.entry(
        budget=100.0, fraction=plan.fraction, tolerance=plan.epsilon[:, None], n=np.ones(1), kappa=np.ones((2, 3, 1))
    )[WORSE, :, 0]
    upper = rate + float(plan.tolerance[WORSE, 0])
    assert upper <= (1.0 + rate) / 2.0
    np.testing.assert_allclose((1.0 - upper) * zero + upper * one, entering, rtol=1e-9)
    assert ((1.0 - rate) * zero + rate * one <= entering + 1e-12).all()


def test_a_loss_between_zero_and_one_is_no_worse_than_an_error_rate() -> None:
    """The factor of a bet is convex in the loss: half a loss gives less than the mean of none and a whole one."""
    plan = build_losses([LossReference.plain(5_000, 500)], budget=100.0)
    zero, half, one = (
        losses.tick(plan, plan.start(), n=np.array([1]), sums=np.array([s]), pane=1)[0].r for s in (0, UNIT // 2, UNIT)
    )
    assert (half < (zero + one) / 2.0).all()


def test_kappa_solves_its_equation() -> None:
    """κ(1 + ε/λ) = deff + M₃·λ/(3κ) with both grown by the pane's size, here twice the usual."""
    plan = build_losses([DEPENDENT], budget=8640.0)
    kappa = losses.temper(plan, np.array([100.0]))[WORSE, :, 0]
    fraction, epsilon = plan.fraction[WORSE, :, 0], plan.epsilon[WORSE, 0]
    np.testing.assert_allclose(kappa * (1 + epsilon / fraction), 7.0 + 4 * 40.0 * fraction / (3 * kappa), rtol=1e-12)


def test_a_strict_chart_is_tempered_more() -> None:
    rows = np.array([50.0])
    strict, usual = (build_losses([DEPENDENT], budget=8640.0, strict=flag) for flag in (True, False))
    assert (losses.temper(strict, rows) > losses.temper(usual, rows)).all()


def test_a_thousand_copies_of_an_error_in_two_panes_do_not_page() -> None:
    plan = build_losses([LossReference.plain(20_000, 2_000)], budget=8640.0)
    charts, _ = play(plan, binary(100, 1, rate=0.1, seed=8))
    _, value = play(plan, np.full((2, 1), 500 * UNIT), n=500, charts=charts, first=101)
    assert value[:, WORSE].max() < 8640.0


def test_rates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="loss in"):
        LossReference.plain(10, 11)
    with pytest.raises(ConfigurationError, match="budget"):
        build_losses([DEPENDENT], budget=0.0)
    with pytest.raises(ConfigurationError, match="tolerance"):
        build_losses([DEPENDENT], budget=100.0, tolerance=np.array([[0.1]]))


# What is learned


def test_no_labels_at_all_are_a_reference_that_sees_nothing() -> None:
    """Half a rate, the widest tolerance; a verdict, never an exception."""
    nothing = learn_losses(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), pane_ms=PANE)
    assert (nothing.rate, nothing.tolerance()) == (0.5, 0.25)
    _, value = play(build_losses([nothing], budget=8640.0), binary(50, 1, rate=0.5, seed=9))
    assert value.max() < 8640.0


def test_shocks_common_to_a_pane_are_learned_as_dependence_and_skew() -> None:
    rng = np.random.default_rng(10)
    rates = 1.0 / (1.0 + np.exp(2.2 - rng.normal(0, 0.7, 4032)))
    starts = MONDAY + PANE * np.arange(4032)
    learned = learn_losses(rng.binomial(50, rates) * UNIT, np.full(4032, 50), starts, pane_ms=PANE)
    assert 3.0 < learned.deff < 15.0
    assert learned.m3[0] > 10.0
    assert learned.m3[1] == 0.0


# Run lengths

#: Limit (panes) at which the one-sided, untempered chart without tolerance has one false alarm per 1e5 events, in panes
#: of 32 at a rate of .1: from 600 runs of 4,000 panes, 434 alarms.
MATCHED = 1495.0


def matched(monitors: int) -> losses.Losses:
    return build_losses(
        [LossReference.plain(20_000, 2_000)] * monitors,
        budget=3125.0,
        share=np.ones(monitors),
        tolerance=np.zeros((2, monitors)),
        tempered=False,
        capped=False,
    )


def mean_delay(rate: float, *, seed: int) -> float:
    """Events from the change to the alarm, after 60 quiet panes; 500 runs."""
    plan = matched(500)
    charts, value = play(plan, binary(60, 500, rate=0.1, seed=seed))
    charts = losses.reset(charts, value.max(axis=0) >= MATCHED)
    _, value = play(plan, binary(200, 500, rate=rate, seed=seed + 1), charts=charts, first=61)
    over = value[:, WORSE] >= MATCHED
    assert over.any(axis=0).all()
    return float(32 * (over.argmax(axis=0) + 1).mean())


@pytest.mark.slow
def test_the_matched_limit_gives_one_false_alarm_in_a_hundred_thousand_events() -> None:
    """300 runs of 3,125 panes: Σ min(T, end) / alarms within 20 % of 3,125 panes."""
    _, value = play(matched(300), binary(3125, 300, rate=0.1, seed=11))
    over = np.maximum.accumulate(value[:, WORSE], axis=0) >= MATCHED
    attained = float((~over).sum() / over[-1].sum())
    assert attained == pytest.approx(3125.0, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "most"), [(0.15, 515.0), (0.2, 190.0), (0.3, 80.0)])
def test_a_risen_error_rate_is_found_as_fast_as_promised(rate: float, most: float) -> None:
    assert mean_delay(rate, seed=20) <= most


@pytest.mark.slow
def test_as_shipped_independent_labels_keep_the_budget_and_a_doubled_rate_is_found_in_ten_panes() -> None:
    """30 days of 5-minute panes of 50, 40 monitors: not one alarm on either side; .1 → .2 in 10 panes, .15 in 50."""
    plan = build_losses([LossReference.plain(200_000, 20_000)] * 40, budget=8640.0, share=np.ones(40))
    charts, value = play(plan, binary(8640, 40, rate=0.1, seed=12, n=50), n=50)
    assert int((value >= plan.limit).sum()) == 0
    doubled = play(plan, binary(50, 40, rate=0.2, seed=13, n=50), n=50, charts=charts, first=8641)[1][:, WORSE]
    half_more = play(plan, binary(300, 40, rate=0.15, seed=14, n=50), n=50, charts=charts, first=8641)[1][:, WORSE]
    assert np.median((doubled >= plan.limit).argmax(axis=0) + 1) <= 10
    assert np.median((half_more >= plan.limit).argmax(axis=0) + 1) <= 50


@pytest.mark.slow
def test_the_size_interval_covers_the_truth_and_the_onset_is_near() -> None:
    """.1 → .2 from pane 101 on, 60 runs: in the interval at least 95 %, onset off by 2 panes at most in the median."""
    plan = build_losses([LossReference.plain(200_000, 20_000)] * 60, budget=8640.0, share=np.ones(60))
    charts, _ = play(plan, binary(100, 60, rate=0.1, seed=15, n=50), n=50)
    charts, _ = play(plan, binary(12, 60, rate=0.2, seed=16, n=50), n=50, charts=charts, first=101)
    found = [losses.finding(plan, charts, side=WORSE, monitor=i, pane=112) for i in range(60)]
    assert np.mean([one.low <= 0.1 <= one.high for one in found]) >= 0.95
    assert np.median([abs(one.since - 101) for one in found]) <= 2
