"""The calibration chart: its laws, its words, and how fast it is at a matched false-alarm rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scored_labels import edges, exact, learned, pane, play, shares

from detectors.charts import calibration, calibration_map, mixture
from detectors.charts.calibration import BETS, CalibrationReference, build_calibration

HONEST = (0.0, 1.0)


def shipped(monitors: int = 1, **settings: object) -> calibration.Calibration:
    return build_calibration([exact()] * monitors, budget=8640.0, share=np.ones(monitors), **settings)  # type: ignore[arg-type]


def small() -> CalibrationReference:
    """Of 2,000 labels."""
    rng = np.random.default_rng(5)
    scores = rng.beta(2, 5, 2_000)
    return CalibrationReference.plain(learned(scores, rng.binomial(1, scores)))


# Laws


def test_stopped_saved_restored_equals_never_stopped() -> None:
    plan = shipped(3)
    half, _ = play(plan, shares(0.4, 1.0), 10, seed=1)
    back = mixture.load(plan.start(), mixture.save(half))
    one, other = (play(plan, shares(0.4, 1.0), 10, seed=2, charts=c, first=11)[0] for c in (half, back))
    assert mixture.save(one) == mixture.save(other)


def test_blocks_of_monitors_of_any_size_give_the_same_bits() -> None:
    """Two maps in one plan, and each alone."""
    references, share = [exact(), small()], np.array([0.5, 0.5])
    counts = pane(np.random.default_rng(3), shares(0.3, 1.0), 2, 200)
    plan = build_calibration(references, budget=8640.0, share=share)
    whole, _ = calibration.tick(plan, plan.start(), counts=counts, shift=np.array([0.1, 0.0]), pane=1)
    for i, one in enumerate(references):
        alone = build_calibration([one], budget=8640.0, share=share[:1])
        shift = np.array([0.1, 0.0])[i : i + 1]
        apart, _ = calibration.tick(alone, alone.start(), counts=counts[i : i + 1], shift=shift, pane=1)
        np.testing.assert_array_equal(apart.r[:, 0], whole.r[:, i])
        np.testing.assert_array_equal(apart.sums[:, :, 0], whole.sums[:, :, i])


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    rng = np.random.default_rng(4)
    scores, labels = rng.random(500), rng.integers(0, 2, 500)
    halves = [calibration_map.count_labels(edges(), scores[i::2], labels[i::2]) for i in (0, 1)]
    np.testing.assert_array_equal(halves[0] + halves[1], calibration_map.count_labels(edges(), scores, labels))


def test_a_pane_without_judged_labels_changes_nothing_and_input_stays() -> None:
    plan = shipped()
    charts, _ = play(plan, shares(0.4, 1.0), 10, seed=6)
    before, counts = mixture.save(charts), np.zeros((1, edges().size + 1, 2), np.int64)
    counts[0, 0] = 50  # far below every reference score
    assert mixture.save(calibration.tick(plan, charts, counts=counts, pane=11)[0]) == before
    assert mixture.save(charts) == before


def test_a_flat_profile_given_is_no_profile() -> None:
    plan, counts = shipped(), pane(np.random.default_rng(7), shares(0.4, 1.0), 1, 50)
    one, other = (
        calibration.tick(plan, plan.start(), counts=counts, shift=shift, pane=1)[1] for shift in (None, np.zeros(1))
    )
    np.testing.assert_array_equal(one, other)


# What a bet is


@pytest.mark.parametrize("moved", [-0.1, 0.0, 0.1])
def test_no_bet_grows_on_average_up_to_the_tolerance(moved: float) -> None:
    """In every bin and for every bet E exp L <= 1 at logit g + moved."""
    plan = shipped()
    y = calibration_map.expit(plan.logit + moved)[:, :, None]
    judged = (plan.weight > 0)[:, :, None]
    pay = plan.by_row[:, :, 6:]
    grown = (1.0 - y) * np.exp(-pay) + y * np.exp(plan.delta - pay)
    # δ is rounded to 2**-20 either way, and the tolerated c with it.
    assert np.where(judged, grown, 0.0).max() <= 1.0 + 1e-6
    assert (np.abs(plan.delta).max(axis=(0, 1)) > 0).all()


def test_a_small_reference_widens_the_tolerance_and_rests_the_bets_within_it() -> None:
    few = build_calibration([small()], budget=8640.0)
    assert 0.18 < few.epsilon[0] < 0.25
    assert few.active[:2].tolist() == [[0.0], [0.0]]  # ±.15
    assert few.active.mean() == pytest.approx(1.0)


def test_maps_are_monotone_and_follow_a_model_that_is_not_a_line() -> None:
    rng = np.random.default_rng(8)
    scores = rng.random(200_000)
    true = np.where(scores < 0.5, 0.5 * scores, 0.25 + 0.75 * (scores - 0.5) * 1.5)
    found = learned(scores, rng.binomial(1, true))
    assert (np.diff(found.logit[found.kept]) >= 0).all()
    probe = np.array([0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(found.at(probe), [0.1, 0.2, 0.3625, 0.5875], atol=0.03)


@pytest.mark.parametrize("label", [0, 1])
def test_labels_of_one_class_only_give_a_map(label: int) -> None:
    scores = np.random.default_rng(9).random(500)
    found = learned(scores, np.full(500, label))
    assert np.isfinite(found.logit).all()
    assert np.isfinite(CalibrationReference.plain(found).tolerance)


def test_shocks_of_a_pane_and_a_daily_cycle_are_learned() -> None:
    """A cycle of the logit goes into the profile, shocks into the design effect."""
    rng, panes = np.random.default_rng(10), 14 * 288
    starts = 4 * 86_400_000 + 300_000 * np.arange(panes)
    scores = rng.beta(2, 5, (panes, 30))
    cycle = 0.25 * np.sin(2 * np.pi * np.arange(panes) / 288)[:, None]
    x, found = calibration_map.logit_of(scores), []
    for shock in (0.0, 0.8):
        labels = rng.binomial(1, calibration_map.expit(x + cycle + shock * rng.normal(size=(panes, 1))))
        counts = np.stack([calibration_map.count_labels(edges(), s, y) for s, y in zip(scores, labels, strict=True)])
        logits = np.bincount(np.searchsorted(edges(), x.ravel()), x.ravel(), edges().size + 1)
        found.append(calibration.learn_calibration(edges(), counts, logits, starts, pane_ms=300_000))
    calm, shaken = found
    assert calm.deff[0] < 2.0
    assert shaken.deff[0] > 2.5
    np.testing.assert_allclose(calm.profile[[6, 18]], [0.25, -0.25], atol=0.1)


# Findings


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (0.6, 1.0, ("shifted up",)),
        (-0.6, 1.0, ("shifted down",)),
        (0.0, 0.5, ("over-confident",)),
        (0.0, 1.8, ("under-confident",)),
    ],
)
def test_a_finding_names_what_happened_and_implies_the_repair(a: float, b: float, words: tuple[str, ...]) -> None:
    """20,000 labels after a change about the middle m: the words, a and b, and the repaired map near the truth."""
    m = exact().map.middle
    plan = shipped()
    charts, value = play(plan, shares(m + a - b * m, b), 100, seed=11, n=200)
    found = calibration.finding(plan, charts, monitor=0)
    assert value[-1, 0] >= plan.limit[0]
    assert found.words == words
    assert (found.a, found.b) == (pytest.approx(a, abs=0.15), pytest.approx(b, abs=0.25))
    assert found.since <= 3
    probe = np.array([0.1, 0.3, 0.5])
    true = calibration_map.expit(m + a + b * (calibration_map.logit_of(probe) - m))
    np.testing.assert_allclose(found.repaired.at(probe), true, atol=0.05)


# Run lengths

#: Limit (panes) of the untempered chart with ε = 0 for one false alarm in 1e5 events, panes of 32: two sets of seeds,
#: 500 runs of 3,500 panes each, give 1,800 and 1,900 or so.
MATCHED = 1820.0


def matched(monitors: int) -> calibration.Calibration:
    plan = build_calibration(
        [exact()] * monitors,
        budget=3125.0,
        share=np.ones(monitors),
        tolerance=0.0,
        tempered=False,
        capped=False,
    )
    return replace(plan, limit=np.full(monitors, MATCHED))


@pytest.mark.slow
def test_the_matched_limit_gives_one_false_alarm_in_a_hundred_thousand_events() -> None:
    """150 runs of 3,125 panes: Σ min(T, end) / alarms within 25 % of 3,125 panes."""
    plan = matched(150)
    _, value = play(plan, shares(*HONEST), 3125, seed=20)
    over = np.maximum.accumulate(value, axis=0) >= plan.limit
    assert float((~over).sum() / over[-1].sum()) == pytest.approx(3125.0, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "most"), [(0.4, 1.0, 515.0), (-0.4, 0.7, 1050.0), (0.0, 1.6, 430.0)])
def test_lost_calibration_is_found_as_fast_as_promised(a: float, b: float, most: float) -> None:
    """Events from the change to the alarm after 60 quiet panes; 500 runs."""
    plan = matched(500)
    charts, value = play(plan, shares(*HONEST), 60, seed=21)
    charts = calibration.reset(charts, (value >= plan.limit).any(axis=0))
    _, value = play(plan, shares(a, b), 150, seed=22, charts=charts, first=61)
    over = value >= plan.limit
    assert over.any(axis=0).mean() >= 0.99
    assert float(32 * (over.argmax(axis=0) + 1)[over.any(axis=0)].mean()) <= most


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2.0, 5.0), (5.0, 2.0), (1.0, 9.0)])
def test_a_drift_of_the_scores_alone_is_silent(shape: tuple[float, float]) -> None:
    """Twenty references of 20,000 labels each, as shipped, panes of 50 for 2,000 panes: no alarm."""
    rng, references = np.random.default_rng(23), []
    for _ in range(20):
        scores = rng.beta(2, 5, 20_000)
        references.append(CalibrationReference.plain(learned(scores, rng.binomial(1, scores))))
    plan = build_calibration(references, budget=8640.0, share=np.ones(20))
    _, value = play(plan, shares(0.0, 1.0, shape), 2000, seed=24, n=50)
    assert (value < plan.limit).all()
    assert len(BETS) == plan.fraction.shape[0]
