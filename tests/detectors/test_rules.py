"""Hard rules in numbers: which silence is normal, which shares are not, what a range needs."""

from __future__ import annotations

import numpy as np
import pytest
from panes_of_counts import layout, reference

from detectors import rules
from detectors.scopes import build_scope
from schemas.layouts import Expectation


def test_a_normal_feature_is_judged_on_twenty_events() -> None:
    of = reference()
    scope = build_scope(of, layout(of))
    assert scope.monitors.rules.need[rules.MISSING].tolist() == [20.0] * 3
    assert scope.monitors.rules.judged.all()


def test_dense_traffic_is_silent_after_twice_its_longest_gap() -> None:
    limits = rules.silence_limits(np.full(168, 5_000), days=14, rows=10_000_000)
    assert limits.tolist() == [10_000.0] * 168


def test_a_weekend_without_traffic_is_a_habit() -> None:
    """Sixty hours in the weekend, half a minute else: a Wednesday is judged in minutes, a Sunday in days."""
    gaps = np.full(168, 30_000)
    gaps[115:] = 60 * 3_600_000
    limits = rules.silence_limits(gaps, days=14, rows=1_000_000)
    assert limits[50] < 120_000
    assert limits[150] == 120 * 3_600_000


def test_an_outage_in_the_reference_is_no_habit_of_other_days() -> None:
    gaps = np.full(168, 60_000)
    gaps[[33, 34, 35]] = 3 * 3_600_000
    limits = rules.silence_limits(gaps, days=14, rows=1_000_000)
    assert limits[34] == 6 * 3_600_000
    assert limits[[34 + 24, 34 + 48, 34 + 120]].tolist() == [120_000.0] * 3


def test_gaps_that_differ_from_day_to_day_are_of_clusters() -> None:
    """2,500 rows a day in clusters of 20: longest gaps of 2 to 20 minutes; a silence is more than twice that."""
    gaps = np.random.default_rng(1).gumbel(480_000, 180_000, 168).clip(60_000).astype(np.int64)
    limits = rules.silence_limits(gaps, days=14, rows=35_000)
    assert limits.min() > 15 * 60_000
    assert limits.max() < 60 * 60_000


def test_nothing_known_is_never_silent() -> None:
    assert np.isinf(rules.silence_limits(np.zeros(168, np.int64), days=0, rows=1000)).all()


@pytest.mark.parametrize(
    ("bounds", "outside"),
    [((None, None), 0), ((-100.0, 100.0), 0), ((0.0, None), 17), ((-0.5, 0.5), 21)],
)
def test_a_range_counts_the_bins_wholly_outside(bounds: tuple[float | None, float | None], outside: int) -> None:
    """With `below` where the low end is inside the reference, with `above` likewise."""
    of = reference()
    (rule,) = rules.expectations(
        [Expectation(feature="x0", range=bounds)],
        specs=of.specs,
        slices=of.table.features,
        features=("x0",),
    )
    assert len(rule.outside) == pytest.approx(outside, abs=1)


def test_a_rule_on_a_feature_that_is_not_there_is_left_out() -> None:
    of = reference()
    found = rules.expectations(
        [Expectation(feature="nope", required=True)], specs=of.specs, slices=of.table.features, features=()
    )
    assert found == ()
