"""A bag of rows and the stream's own first week: what is learned, when it may page, what a restart keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import counts, layout, rows

from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.results import UNDECIDED, ScopeResult
from detectors.rows import NO_TIME, Rows
from detectors.scopes import Scope, ScopeState, build_scope, in_force, load_state, save_state, skip_empty, update
from detectors.states import HEAD
from detectors.week import MOST_VALUES, WEEK_MS, Week
from schemas.alerts import Reason
from schemas.errors import FormatError

START, HOUR, EVENTS, WEEK = 1_736_121_600_000, 3_600_000, 60, 168  # Monday 2025-01-06
Level = Callable[[int], float]


@lru_cache(maxsize=2)
def bag(n: int = 20_000) -> Reference:
    table = Rows(ts=np.full(n, NO_TIME), columns=rows(1, n))
    builder = ReferenceBuilder("credit", "features")
    builder.survey(table)
    builder.count(table)
    return builder.finish()


@lru_cache(maxsize=4)
def scope(**settings: object) -> Scope:
    return build_scope(bag(), layout(bag(), pane_ms=HOUR, **settings))


def pane(number: int, level: Level, *, events: int = EVENTS, repeat: int = 1) -> npt.NDArray[np.int64]:
    drawn = rows(1000 + number, events // repeat)
    drawn["x0"] = drawn["x0"] + level(number)
    return counts(bag(), {name: np.repeat(values, repeat) for name, values in drawn.items()}, panes=1)[0]


def stream(
    of: Scope, level: Level, *, panes: int, state: ScopeState | None = None, first: int = 0, repeat: int = 1
) -> tuple[ScopeState, list[ScopeResult]]:
    state, results = state or of.start(), []
    for number in range(first, first + panes):
        state, result = update(of, state, start=START + number * HOUR, counts=pane(number, level, repeat=repeat))
        results.append(result)
    return state, results


def season(number: int) -> float:
    return float(0.5 * np.sin(2 * np.pi * number / 24))


def alarms(results: list[ScopeResult]) -> list[tuple[int, str]]:
    return [(i, alarm.evidence.feature) for i, result in enumerate(results) for alarm in result.alarms]


def test_nothing_pages_in_the_first_week_and_the_second_knows_the_season() -> None:
    state, results = stream(scope(), season, panes=3 * WEEK)
    assert [i for i, result in enumerate(results) if result.learned] == [WEEK]
    assert {int(status) for result in results[:WEEK] for status in result.status.ravel()} == {UNDECIDED}
    assert all(result.provisional for result in results[:WEEK])
    assert not any(result.provisional for result in results[WEEK:])
    assert alarms(results) == []
    at_noon, at_six = (in_force(scope(), state).mu(START + 4 * WEEK * HOUR + hour * HOUR)[0] for hour in (12, 6))
    assert at_six - at_noon == pytest.approx(0.5, abs=0.15)


def test_the_lesson_is_said_with_the_means_of_both_halves() -> None:
    _, results = stream(scope(), season, panes=WEEK + 1)
    assert len(results[-1].learned) == 3
    assert results[-1].learned[0].startswith("x0: location ")
    assert results[-1].learned[0].endswith(" in the second")


def test_a_stream_that_is_elsewhere_than_its_reference_is_drift_when_the_week_is_over() -> None:
    """The profile's shape is the stream's, its level the reference's."""
    _, results = stream(scope(), lambda number: season(number) + 0.4, panes=WEEK + 24)
    first = alarms(results)[0]
    assert WEEK < first[0] < WEEK + 12
    assert first[1] == "x0"


def test_a_change_after_the_week_is_found_and_named() -> None:
    _, results = stream(scope(), lambda number: 1.0 * (number >= WEEK + 30), panes=WEEK + 40)
    first = next(i for i, result in enumerate(results) if result.opened)
    evidence = results[first].alarms[0].evidence
    assert WEEK + 30 < first < WEEK + 35
    assert (evidence.feature, evidence.direction) == ("x0", "location up")


def test_a_week_with_a_step_teaches_nothing_and_the_next_is_tried() -> None:
    """While it is not stationary it stays provisional; the level after the step is then drift, as it should be."""
    _, results = stream(scope(), lambda number: 0.6 * (number > 80), panes=2 * WEEK + 12)
    said = {i: result.learned for i, result in enumerate(results) if result.learned}
    assert sorted(said) == [WEEK, 2 * WEEK]
    assert said[WEEK][0].startswith("not stationary while learning: x0, location is ")
    assert results[WEEK].provisional
    assert not results[2 * WEEK].provisional
    assert alarms(results)[0][0] > 2 * WEEK


def test_dependence_is_learned_too() -> None:
    """Every row comes ten times: a pane of 60 counts as six."""
    state, results = stream(scope(), lambda _: 0.0, panes=2 * WEEK, repeat=10)
    learned = in_force(scope(), state)
    place = int(learned.main[learned.monitored.index("x0")])
    assert 6 < learned.bets.deff[place] < 25
    assert alarms(results) == []


def test_a_week_with_events_on_few_days_teaches_nothing() -> None:
    state, _ = stream(scope(), season, panes=60)
    state, _ = skip_empty(scope(), state, start=START + 60 * HOUR, panes=WEEK - 60)
    _, [result] = stream(scope(), season, panes=1, first=WEEK, state=state)
    assert result.learned == ("events on 3 days of the first week: too few to learn from",)
    assert result.provisional


def test_who_paged_while_learning_clears_by_the_lesson() -> None:
    """`page_provisional`: a person insisted."""
    insisting = scope(page_provisional=True)
    _, results = stream(insisting, lambda number: 1.2 * (number > 161), panes=WEEK + 2)
    opened = next(i for i, result in enumerate(results) if result.opened)
    assert opened < WEEK
    assert [cleared.reason for cleared in results[WEEK].cleared] == [Reason.LEARNED]
    assert results[WEEK].resolved
    assert not any(result.provisional for result in results[WEEK:])


@pytest.mark.parametrize("stop", [1, 63, 64, 100, WEEK - 1, WEEK, WEEK + 1, WEEK + 20])
def test_save_restore_and_go_on_equals_never_stopped(stop: int) -> None:
    whole, results = stream(scope(), season, panes=WEEK + 30)
    before, _ = stream(scope(), season, panes=stop)
    restored = load_state(scope(), save_state(before))
    again, rest = stream(scope(), season, panes=WEEK + 30 - stop, state=restored, first=stop)
    assert save_state(again) == save_state(whole)
    assert [result.value.tolist() for result in rest] == [result.value.tolist() for result in results[stop:]]
    assert [result.learned for result in rest] == [result.learned for result in results[stop:]]


def test_only_the_part_of_the_week_that_changed_is_written_again() -> None:
    before, _ = stream(scope(), season, panes=130)
    after, _ = stream(scope(), season, panes=1, state=before, first=130)
    old, new = save_state(before), save_state(after)
    assert sorted(old) == sorted(["0", HEAD, "week0", "week1", "week2"])
    assert [key for key in old if key.startswith("week") and old[key] != new[key]] == ["week2"]


def test_a_week_of_many_monitors_is_kept_in_longer_blocks() -> None:
    class Wide:
        monitors, direction_monitor = 6_400, np.zeros(64_000, np.int64)

    week = Week.start(Wide, pane_ms=60_000)  # type: ignore[arg-type]
    assert week.block_ms > 60_000
    assert (6_400 + 64_000) * (WEEK_MS // week.block_ms + 1) <= MOST_VALUES
    assert week.length == 1


def test_a_damaged_part_is_refused() -> None:
    state, _ = stream(scope(), season, panes=3)
    for key, raw in (("week0", b"\x91"), ("own0", b"nothing")):
        with pytest.raises(FormatError, match=f"block `{key.rstrip('0')}"):
            load_state(scope(), {**save_state(state), key: raw})


def test_a_reference_with_times_learns_nothing_from_the_stream() -> None:
    from panes_of_counts import reference

    timed = build_scope(reference(), layout(reference()))
    assert timed.start().week is None
    assert not timed.learns
