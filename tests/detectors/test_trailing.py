"""Compared with yesterday or with the last days: only the means move, what stays resolves, a restart loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import DAY, T0, counts, layout, reference, rows

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.charts.tempered import steps
from detectors.results import ScopeResult
from detectors.rows import Rows
from detectors.scopes import Scope, ScopeState, build_scope, compared, load_state, save_state, skip_empty, update
from detectors.trailing import Trailing
from schemas.alerts import Reason
from schemas.errors import FormatError

HOUR, EVENTS = 3_600_000, 200
Level = Callable[[float], float]
WITH = {"yesterday": (1, 0), "last week": (1, 6), "trailing 7d": (7, 1), "reference": (0, 0)}


@lru_cache(maxsize=8)
def scope(compare: str, zone: str = "UTC") -> Scope:
    days, lag = WITH[compare]
    return build_scope(
        reference(), layout(reference(), pane_ms=HOUR, compare_days=days, compare_lag=lag, timezone=zone)
    )


@lru_cache(maxsize=2048)
def pane(number: int, level: float) -> npt.NDArray[np.int64]:
    drawn = rows(3000 + number, EVENTS)
    drawn["x0"] = drawn["x0"] + level
    return counts(reference(), drawn, panes=1)[0]


def stream(
    of: Scope, level: Level, *, days: float, state: ScopeState | None = None, first: int = 0
) -> tuple[ScopeState, list[ScopeResult]]:
    state, results = state or of.start(), []
    for number in range(first, round(days * 24)):
        state, result = update(of, state, start=T0 + number * HOUR, counts=pane(number, level(number / 24)))
        results.append(result)
    return state, results


def edges(results: list[ScopeResult]) -> list[tuple[str, int]]:
    """Day of every edge of an incident."""
    found = [("opened", i // 24) for i, result in enumerate(results) if result.opened]
    return sorted(found + [("resolved", i // 24) for i, result in enumerate(results) if result.resolved], key=_by_day)


def _by_day(edge: tuple[str, int]) -> int:
    return edge[1]


def step(day: float) -> float:
    return 0.6 if day >= 3.5 else 0.0


@pytest.mark.parametrize(("compare", "until"), [("yesterday", 5), ("trailing 7d", 11), ("last week", 11)])
def test_a_drift_that_stays_is_one_incident_that_becomes_the_reference(compare: str, until: int) -> None:
    _, results = stream(scope(compare), step, days=until + 3)
    assert edges(results) == [("opened", 3), ("resolved", until)]
    reasons = {cleared.reason for result in results for cleared in result.cleared}
    assert reasons == {Reason.BECAME_REFERENCE}


def test_against_the_reference_the_same_drift_stays() -> None:
    _, results = stream(scope("reference"), step, days=8)
    assert edges(results) == [("opened", 3)]


def test_a_drift_that_goes_away_is_below_the_limit_and_nothing_became_the_reference() -> None:
    _, results = stream(scope("trailing 7d"), lambda day: 0.6 if 3.5 <= day < 3.9 else 0.0, days=6)
    assert edges(results) == [("opened", 3), ("resolved", 4)]
    assert [cleared.reason for result in results for cleared in result.cleared] == [Reason.BELOW_CLEAR_LIMIT]


def test_a_slow_trend_alarms_against_the_reference_and_not_against_yesterday() -> None:
    assert edges(stream(scope("yesterday"), lambda day: 0.06 * day, days=10)[1]) == []
    assert edges(stream(scope("reference"), lambda day: 0.06 * day, days=10)[1])[0][0] == "opened"


def test_until_there_is_a_yesterday_the_reference_is_it() -> None:
    _, results = stream(scope("yesterday"), lambda _: 0.6, days=3)
    assert edges(results) == [("opened", 0), ("resolved", 1)]


def test_a_week_of_nothing_alarms_nowhere() -> None:
    found = {compare: edges(stream(scope(compare), lambda _: 0.0, days=14)[1]) for compare in WITH}
    assert not any(found.values())


def test_the_mean_is_that_of_the_days_that_are_named() -> None:
    def of_day(day: float) -> float:
        return 0.1 * int(day)

    state, _ = stream(scope("trailing 7d"), of_day, days=9.5)
    found, _, _ = compared(scope("trailing 7d"), state, start=T0 + 9 * DAY + 12 * HOUR, flat=np.append(pane(0, 0.0), 0))
    place = int(found.main[found.monitored.index("x0")])
    assert found.offset is not None
    # Day 9 looks at days 1 to 7: .1 to .7, .4 in the mean.
    assert found.offset[place] == pytest.approx(0.4, abs=0.03)


def test_days_are_those_of_the_zone() -> None:
    """Ten in the evening UTC is tomorrow in Tokyo: its yesterday holds what is today's in UTC."""
    start = T0 + DAY + 22 * HOUR
    flat = np.append(pane(0, 0.0), 0)
    offsets = []
    for zone in ("UTC", "Asia/Tokyo"):
        state, _ = stream(scope("yesterday", zone), lambda day: 0.5 * (day >= 1), days=1 + 22 / 24)
        found, _, _ = compared(scope("yesterday", zone), state, start=start, flat=flat)
        assert found.offset is not None
        offsets.append(float(found.offset[int(found.main[found.monitored.index("x0")])]))
    assert offsets[0] == pytest.approx(0.0, abs=0.05)
    # Of Tokyo's 2025-01-16, 9 of 24 hours are before the shift at midnight UTC.
    assert offsets[1] == pytest.approx(0.5 * 15 / 24, abs=0.05)


def test_the_doubt_about_yesterday_doubles_kappa_by_the_end_of_the_day() -> None:
    state, _ = stream(scope("yesterday"), lambda _: 0.0, days=2 - 1 / 24)
    flat = np.append(pane(0, 0.0), 0)
    found, _, doubt = compared(scope("yesterday"), state, start=T0 + 47 * HOUR, flat=flat)
    assert doubt is not None
    assert doubt == pytest.approx(2.0)
    mu = found.mu(T0 + 47 * HOUR)
    sure, unsure = steps(found.bets, flat=flat, mu=mu), steps(found.bets, flat=flat, mu=mu, doubt=doubt)
    assert unsure.kappa == pytest.approx(2.0 * np.asarray(sure.kappa))


def test_a_day_without_events_leaves_the_last_one_before_it() -> None:
    state, _ = stream(scope("yesterday"), lambda _: 0.3, days=2)
    state, _ = skip_empty(scope("yesterday"), state, start=T0 + 2 * DAY, panes=24)
    found, _, _ = compared(scope("yesterday"), state, start=T0 + 3 * DAY, flat=np.append(pane(0, 0.0), 0))
    assert found.offset is not None
    assert found.offset[int(found.main[found.monitored.index("x0")])] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("stop", [1, 24, 86, 100, 130])
def test_save_restore_and_go_on_equals_never_stopped(stop: int) -> None:
    of = scope("yesterday")
    whole, results = stream(of, step, days=6)
    before, _ = stream(of, step, days=stop / 24)
    again, rest = stream(of, step, days=6, state=load_state(of, save_state(before)), first=stop)
    assert save_state(again) == save_state(whole)
    assert [r.value.tolist() for r in rest] == [r.value.tolist() for r in results[stop:]]
    assert [r.cleared for r in rest] == [r.cleared for r in results[stop:]]


def test_a_day_is_written_once() -> None:
    state, _ = stream(scope("yesterday"), step, days=3)
    after, _ = stream(scope("yesterday"), step, days=3.5, state=state, first=72)
    old, new = save_state(state), save_state(after)
    days = [key for key in old if key.startswith("day")]
    assert len(days) == 2
    assert [old[key] for key in days] == [new[key] for key in days]
    assert old["today"] != new["today"]


def test_no_more_days_are_kept_than_are_needed() -> None:
    state = Trailing.start(monitors=1, directions=2)
    for day in range(100):
        state = state.on(day, days=7, lag=1).add(n=np.array([5]), shift=np.array([1.0, 2.0]))
    assert sorted(state.days) == list(range(84, 99))


def test_a_damaged_day_is_refused() -> None:
    state, _ = stream(scope("yesterday"), step, days=2)
    saved = save_state(state)
    day = next(key for key in saved if key.startswith("day"))
    with pytest.raises(FormatError, match=f"block `{day}`"):
        load_state(scope("yesterday"), {**saved, day: b"\x90"})
    with pytest.raises(FormatError, match="no block `today`"):
        load_state(scope("yesterday"), {key: raw for key, raw in saved.items() if key != "today"})


def test_a_shift_that_stays_in_a_feature_with_a_season_alarms_once() -> None:
    """Its spread then has a season that the profile lacks: compared with the last days it alarmed twice a day."""
    every = 60_000

    def drawn(seed: int, start: int, days: int, shift: float = 0.0) -> Rows:
        ts = start + np.arange(days * DAY // every, dtype=np.int64) * every
        swing = 0.5 * np.sin(2 * np.pi * ts / DAY) + np.where(ts >= start + 3 * DAY, shift, 0.0)
        return Rows(ts=ts, columns={"x": np.random.default_rng(seed).normal(size=ts.size) + swing})

    builder, history = ReferenceBuilder("m", "features"), drawn(1, T0 - 14 * DAY, 14)
    builder.survey(history)
    builder.count(history)
    known = builder.finish()
    of = build_scope(known, layout(known, pane_ms=HOUR, compare_days=1, compare_lag=0))
    live = drawn(2, T0, 12, shift=0.8)
    codes = Binner(known.specs).codes(live.columns["x"][:, None])[:, 0]
    state, results = of.start(), []
    for number, inside in enumerate(codes.reshape(-1, HOUR // every)):
        table = np.zeros((1, known.table.width), dtype=np.int64)
        place = known.table.features["x"]
        table[0, 0] = inside.size
        table[0, place] = np.bincount(inside, minlength=place.stop - place.start)
        state, result = update(of, state, start=T0 + number * HOUR, counts=table)
        results.append(result)
    assert [day for what, day in edges(results) if what == "opened"] == [3]
