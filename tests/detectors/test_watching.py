"""Limits on statistics: rules outside the budget, and how often one is passed when nothing changed."""

from __future__ import annotations

import numpy as np
import pytest
from panes_of_counts import EVENTS, counts, layout, play, quiet, reference, rows

from detectors.scopes import build_scope, load_state, save_state
from detectors.watching import firing_share, judge, watched
from schemas.alerts import Reason
from schemas.errors import ConfigurationError
from schemas.layouts import Watch

OF = reference(numbers=1, events=20)


def limited(statistic: str = "ks", above: float = 0.3, feature: str = "x0", **settings: object) -> object:
    watch = (Watch(feature=feature, statistic=statistic, above=above),)  # type: ignore[arg-type]
    return build_scope(OF, layout(OF, watch=watch, clear_for=2, **settings))


def test_a_limit_that_is_passed_alarms_at_once_and_is_met_again_after_two_panes() -> None:
    shifted = counts(OF, rows(3, 2 * EVENTS, numbers=1, shift=2.0), panes=2)
    scope = limited()
    _, results = play(scope, np.concatenate([quiet(OF, 3, numbers=1), shifted, quiet(OF, 6, numbers=1)]))  # type: ignore[arg-type]
    [alarm] = results[3].alarms
    evidence = alarm.evidence
    assert (alarm.reason, evidence.detector, evidence.direction) == (Reason.HARD_RULE, "ks", "ks above 0.3")
    assert (evidence.n, evidence.unit) == (EVENTS, "share")
    assert 0.3 < evidence.size < 1.0  # type: ignore[operator]
    assert [result.opened for result in results].index(True) == 3
    assert any(result.resolved for result in results)


def test_a_limit_on_a_feature_that_is_not_tested_alarms_too() -> None:
    scope = limited(monitored=("colour",), monitors=1)
    shifted = counts(OF, rows(3, EVENTS, numbers=1, shift=3.0), panes=1)
    _, [result] = play(scope, shifted)  # type: ignore[arg-type]
    assert [alarm.evidence.detector for alarm in result.alarms] == ["ks"]


def test_a_pane_with_few_events_says_nothing() -> None:
    scope = limited()
    few = counts(OF, rows(3, 19, numbers=1, shift=3.0), panes=1)
    enough = counts(OF, rows(3, 20, numbers=1, shift=3.0), panes=1)
    _, results = play(scope, np.concatenate([few, enough]))  # type: ignore[arg-type]
    assert [len(result.alarms) for result in results] == [0, 1]


def test_the_state_of_a_limit_is_saved() -> None:
    scope = limited()
    shifted = counts(OF, rows(3, 2 * EVENTS, numbers=1, shift=3.0), panes=2)
    state, _ = play(scope, shifted[:1])  # type: ignore[arg-type]
    again = load_state(scope, save_state(state))  # type: ignore[arg-type]
    _, [result] = play(scope, shifted[1:], state=again, first=1)  # type: ignore[arg-type]
    assert (result.alarms, again.open) == ((), True)


def test_the_value_is_that_of_the_statistic() -> None:
    watch = (
        Watch(feature="x0", statistic="psi", above=0.2),
        Watch(feature="colour", statistic="l_infinity", above=0.1),
    )
    limits = watched(watch, reference=OF, features=("x0", "colour"))
    pane = quiet(OF, 1, numbers=1)[0, 0]
    found = [judge(one, pane) for one in limits]
    assert [value[1] for value in found if value] == [EVENTS, EVENTS]
    shares = OF.views[next(iter(OF.views))].features["colour"].counts
    own = pane[limits[1].columns]
    assert found[1] == pytest.approx((np.abs(shares / shares.sum() - own / own.sum()).max(), EVENTS))


def test_a_statistic_that_needs_order_is_refused_for_levels() -> None:
    with pytest.raises(ConfigurationError, match="ks is for numbers; colour is categorical"):
        limited(feature="colour")


@pytest.mark.parametrize(("n", "low", "high"), [(50, 0.99, 1.0), (200, 0.1, 0.2), (500, 0.0, 0.001)])
def test_psi_above_a_fifth_is_what_chance_gives_at_fifty_events(n: int, low: float, high: float) -> None:
    """Of a feature of 34 equal bins; numpy's own draws from the same shares say the same."""
    bins = np.full(34, 1_000)
    share = firing_share("psi", reference=bins, above=0.2, n=n)
    assert low <= share <= high
    assert firing_share("psi", reference=bins, above=0.2, n=n, seed=1) == pytest.approx(share, abs=0.03)
