"""What an alarm is named after, where the bet that won is of another direction than what has moved most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from panes_of_counts import layout, reference

from detectors import evidence
from detectors.bins import Binner, FeatureSpec
from detectors.charts import tempered
from detectors.directions import directions
from detectors.rows import Rows
from detectors.scopes import build_scope
from detectors.survey import Survey

OF = reference(numbers=1, events=20)
SCOPE = build_scope(OF, layout(OF))
EVENTS = 400.0


def name(*, winner: str, sign: float, moved: dict[str, float]) -> str:
    """Name of an alarm of x0 that a bet on `winner` won, when its shape directions moved by so many sd."""
    bets, learned = SCOPE.bets, SCOPE.monitors.learned[0]
    places = [learned.names.index(of) for of in moved]
    charts = SCOPE.start().charts
    on = np.isin(bets.bet_direction, places) & (bets.bet_monitor == 0)
    by_direction = np.zeros(bets.direction_monitor.size)
    by_direction[places] = list(moved.values())
    won = np.flatnonzero((bets.bet_direction == learned.names.index(winner)) & (bets.sign == sign))[0]
    charts = replace(
        charts,
        r=np.where(np.arange(bets.size) == won, 1e6, 1.0),
        events=np.where(on, EVENTS, 0.0),
        moved=by_direction[bets.bet_direction] * EVENTS,
        since=np.ones_like(charts.since),
    )
    found = evidence.find(bets, charts, learned, monitor=0, pane=4, profile=lambda _: np.zeros(by_direction.size))
    return f"{found.words} {found.size:.2g}"


@pytest.mark.parametrize(
    ("winner", "sign", "moved", "expected"),
    [
        ("skew", -1.0, {"location": 0.7, "skew": -0.5}, "location up 0.7"),
        ("scale", -1.0, {"location": 0.3, "scale": -0.4}, "scale down -0.4"),
        ("scale", 1.0, {"location": 1.2, "scale": 1.1}, "location up 1.2"),
        ("tails", 1.0, {"location": 0.05, "tails": 0.4}, "tails up 0.4"),
        ("tails", 1.0, {"location": 0.05, "scale": -0.7, "tails": 0.6}, "scale down -0.7"),
        ("tails", 1.0, {"location": 0.05, "scale": 0.2, "tails": 0.6}, "tails up 0.6"),
    ],
    ids=["a long tail lifted", "mostly narrower", "far shifted", "tails alone", "constant", "longer tails"],
)
def test_an_alarm_is_named_location_where_that_moved_most_or_explains_it(
    winner: str, sign: float, moved: dict[str, float], expected: str
) -> None:
    """Half a sd added to amounts of money: the bet on their skew won, its cap being the higher; they are larger."""
    assert name(winner=winner, sign=sign, moved=moved) == expected


def test_the_size_is_counted_by_the_boldest_bet_of_as_much_evidence() -> None:
    """A capped change moves every bet alike; the timid one rose before it, and halves the size."""
    bets, learned = SCOPE.bets, SCOPE.monitors.learned[0]
    ups = (bets.bet_direction == learned.names.index("location")) & (bets.sign > 0) & (bets.bet_monitor == 0)
    order = np.flatnonzero(ups)[np.argsort(bets.fraction[ups])]
    timid, middle, bold = order.tolist()
    charts = SCOPE.start().charts
    r, moved, events = np.ones(bets.size), np.zeros(bets.size), np.zeros(bets.size)
    since = np.ones_like(charts.since)
    r[order] = np.array([1e6, 1e5, 1e5]) / bets.weight[order]
    moved[timid], events[timid] = 120.0, 320.0
    moved[middle], events[middle] = 120.0, 200.0
    moved[bold], events[bold], since[bold] = 120.0, 120.0, 3
    charts = replace(charts, r=r, moved=moved, events=events, since=since)

    def size(charts: tempered.Charts) -> tuple[float, int]:
        nothing = np.zeros(bets.direction_monitor.size)
        found = evidence.find(bets, charts, learned, monitor=0, pane=4, profile=lambda _: nothing)
        return found.size, found.onset

    weaker = replace(charts, r=np.where(np.arange(bets.size) == bold, r / 100.0, r))
    assert size(charts) == (1.0, 1)
    assert size(weaker) == (0.6, 1)


@pytest.mark.parametrize(
    ("shift", "missing"), [(0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (-3.0, 0.0), (0.7, 0.3)], ids=lambda x: f"{x:g}"
)
def test_a_shift_is_reported_as_large_as_it_was(shift: float, missing: float) -> None:
    """The outermost bins and missing values hide a part of it: 2 sd were called 1.7, and 3 sd 2.1."""
    rng = np.random.default_rng(7)
    before = rng.normal(size=40_000)
    after = before + shift
    for values in (before, after):
        values[: int(missing * values.size)] = np.nan
    survey = Survey()
    survey.add(Rows(ts=np.arange(before.size), columns={"x": before}))
    spec, _ = survey.spec("x")
    first, second = (
        np.bincount(Binner((spec,)).codes(values[:, None])[:, 0], minlength=spec.width) for values in (before, after)
    )
    along = directions(spec, first).phi[:, 0]
    [found] = evidence.latent(spec, first, along, [float((second - first) @ along) / before.size])
    assert found == pytest.approx(shift, rel=0.03)


def test_few_different_values_are_answered_as_they_are() -> None:
    """A share of ones that went from .1 to .3 is no shift by so many sd."""
    spec = FeatureSpec(name="flag", kind="numeric", edges=(0.0,), low=0.0, high=1.0)
    counts = np.array([900, 100, 0, 0, 0, 0])
    assert evidence.latent(spec, counts, directions(spec, counts).phi[:, 0], [0.66, -0.1]) == [0.66, -0.1]
