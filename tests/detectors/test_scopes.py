"""A model's monitors through the days of an incident: silence, alarm, members, resolve, cooldown, hard rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import DAY, EVENTS, PANE, T0, counts, layout, play, quiet, reference, rows

from detectors import seasonality
from detectors.profiles import NO_LARGEST, NO_LEAST
from detectors.results import DRIFT, OK, THE_MODEL, UNDECIDED, ScopeResult
from detectors.scopes import Scope, build_scope, quiet_panes, skip_empty, update
from schemas.alerts import Evidence, Reason
from schemas.errors import ConfigurationError
from schemas.layouts import Expectation, View

Panes = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def scope() -> Scope:
    return build_scope(reference(), layout(reference()))


def drifted(panes: int, *, shift: float = 1.0, seed: int = 5, missing: float = 0.0) -> Panes:
    return counts(reference(), rows(seed, panes * EVENTS, shift=shift, missing=missing), panes=panes)


def story(scope: Scope, *parts: Panes) -> list[ScopeResult]:
    return play(scope, np.concatenate(parts))[1]


def when(results: list[ScopeResult], what: str) -> list[int]:
    return [i for i, result in enumerate(results) if getattr(result, what)]


def evidence(results: list[ScopeResult]) -> list[Evidence]:
    return [alarm.evidence for result in results for alarm in result.alarms if not alarm.renewed]


def test_nothing_happens_in_a_quiet_week(scope: Scope) -> None:
    """Verdicts are ok, with a visible change of about .15 sd for a number."""
    results = story(scope, quiet(scope.reference, 7 * 288))
    assert [when(results, what) for what in ("alarms", "opened", "resolved")] == [[], [], []]
    assert results[-1].status[0].tolist() == [OK, OK, OK]
    place = scope.monitored.index("x0")
    assert 0.12 < results[-1].visible_change[0, place] < 0.2
    assert results[-1].n[0].tolist() == [EVENTS] * 3


def test_a_shift_of_one_deviation_is_named_sized_and_dated(scope: Scope) -> None:
    results = story(scope, quiet(scope.reference, 200), drifted(40))
    opened = when(results, "opened")
    found = evidence(results)[0]
    assert 202 <= opened[0] <= 204
    assert (found.feature, found.detector, found.direction, found.unit) == ("x0", "distribution", "location up", "sd")
    assert found.size_low < 1.0 < found.size_high
    assert found.onset == T0 + 200 * PANE
    assert found.onset_low <= T0 + 200 * PANE <= found.onset_high
    assert found.raw_size == pytest.approx(1.0, abs=0.3)
    assert (found.before, found.after) == (pytest.approx(0.0, abs=0.1), pytest.approx(1.0, abs=0.3))
    assert found.value >= found.limit
    assert results[opened[0]].status[0, scope.monitored.index("x0")] == DRIFT


def test_missing_values_are_named_by_their_share(scope: Scope) -> None:
    """A tenth missing: no hard rule, the share and its interval."""
    found = evidence(story(scope, quiet(scope.reference, 20), drifted(40, shift=0.0, missing=0.1)))[0]
    assert (found.feature, found.direction, found.unit) == ("x0", "missing up", "share")
    assert found.size_low < 0.1 < found.size_high
    assert found.size == pytest.approx(0.1, abs=0.05)


def test_a_level_that_grows_is_named(scope: Scope) -> None:
    """Grey goes from a tenth to three tenths."""
    columns = rows(9, 40 * EVENTS)
    columns["colour"][::4] = "grey"
    found = evidence(story(scope, quiet(scope.reference, 20), counts(scope.reference, columns, panes=40)))[0]
    assert (found.feature, found.direction, found.unit) == ("colour", "level grey up", "share")
    assert found.size_low < 0.325 < found.size_high


def test_an_incident_resolves_when_the_data_is_back_and_not_before(scope: Scope) -> None:
    results = story(scope, quiet(scope.reference, 20), drifted(200), quiet(scope.reference, 60, seed=8))
    assert when(results, "opened") == [when(results, "opened")[0]]
    resolved = when(results, "resolved")
    assert len(resolved) == 1
    assert 224 <= resolved[0] <= 240
    cleared = [cleared for result in results for cleared in result.cleared]
    assert {one.reason for one in cleared} == {Reason.BELOW_CLEAR_LIMIT}
    assert DRIFT not in results[-1].status


def test_a_drift_that_stays_is_one_incident(scope: Scope) -> None:
    results = story(scope, quiet(scope.reference, 20), drifted(600))
    assert len(when(results, "opened")) == 1
    assert when(results, "resolved") == []
    assert len([alarm for result in results for alarm in result.alarms if alarm.renewed]) > 10


def test_an_alarm_in_the_cooldown_is_absorbed_with_its_reason(scope: Scope) -> None:
    """The cooldown is a thousand panes: a second drift within it opens nothing and says why."""
    patient = build_scope(reference(), layout(reference(), cooldown_panes=1000))
    results = story(patient, drifted(60), quiet(reference(), 40), drifted(40))
    assert len(when(results, "opened")) == 1
    absorbed = [one for result in results for one in result.absorbed]
    assert {one.reason for one in absorbed} == {Reason.IN_COOLDOWN}
    assert {one.alarm.evidence.feature for one in absorbed} == {"x0"}


def test_after_the_cooldown_a_second_drift_is_a_second_incident(scope: Scope) -> None:
    results = story(scope, drifted(60), quiet(reference(), 60), drifted(40))
    assert len(when(results, "opened")) == 2


def test_a_provisional_model_is_shown_and_silent() -> None:
    """Alarms are absorbed as provisional, verdicts undecided; a user may insist, and the alert says so."""
    short = replace(reference(), provisional="3 days")
    results = story(build_scope(short, layout(short)), drifted(40))
    assert when(results, "opened") == []
    assert {one.reason for result in results for one in result.absorbed} == {Reason.PROVISIONAL}
    assert set(results[-1].status[0].tolist()) == {UNDECIDED}
    insisting = story(build_scope(short, layout(short, page_provisional=True)), drifted(40))
    assert "provisional" in evidence(insisting)[0].note


def test_a_dead_feature_pages_at_the_first_pane_also_when_provisional() -> None:
    short = replace(reference(), provisional="3 days")
    results = story(build_scope(short, layout(short)), quiet(short, 5), drifted(10, missing=1.0), quiet(short, 20))
    assert when(results, "opened") == [5]
    found = results[5].alarms[0]
    assert (found.evidence.detector, found.evidence.direction, found.evidence.size) == ("missing", "missing up", 1.0)
    assert found.reason == Reason.HARD_RULE
    assert when(results, "resolved") == [20]
    assert results[20].cleared[0].reason == Reason.RULE_MET_AGAIN


def test_a_feature_out_of_its_range_pages_at_the_first_pane(scope: Scope) -> None:
    results = story(scope, quiet(scope.reference, 5), drifted(3, shift=50.0))
    assert when(results, "opened") == [5]
    assert (results[5].alarms[0].evidence.detector, results[5].alarms[0].evidence.direction) == ("range", "above up")


def test_unseen_levels_page_at_the_first_pane(scope: Scope) -> None:
    columns = rows(3, 3 * EVENTS)
    columns["colour"][:] = "mauve"
    results = story(scope, counts(scope.reference, columns, panes=3))
    assert results[0].alarms[0].evidence.direction == "unseen up"


def test_a_rule_on_few_events_waits_for_twenty(scope: Scope) -> None:
    """Eight events a pane, all missing: the third pane has twenty-four."""
    panes = counts(scope.reference, rows(3, 5 * 8, missing=1.0), panes=5)
    assert when(story(scope, panes), "opened") == [2]


def test_a_thousand_copies_of_a_row_do_not_page() -> None:
    """In one pane, or half and half over two, of twelve features at once."""
    of = reference(numbers=12, events=15)
    scope = build_scope(of, layout(of))
    panes = quiet(of, 30, n=15, numbers=12)
    row = counts(of, rows(77, 1, numbers=12), panes=1)
    whole, half = panes.copy(), panes.copy()
    whole[20] += 1000 * row[0]
    half[20:22] += 500 * row[0]
    assert when(story(scope, whole), "opened") == []
    assert when(story(scope, half), "opened") == []


def test_silence_pages_after_two_empty_panes_and_clears_when_events_are_back(scope: Scope) -> None:
    results = story(scope, quiet(scope.reference, 5), np.zeros((4, 1, scope.reference.table.width), np.int64))
    silent = results[6].alarms[0]
    assert when(results, "opened") == [6]
    assert (silent.feature, silent.reason, silent.evidence.detector) == (THE_MODEL, Reason.SILENCE, "silence")
    assert (silent.evidence.size, silent.evidence.unit, silent.evidence.onset) == (2.0 * PANE, "ms", T0 + 5 * PANE)
    hour = seasonality.hour_of_week(np.array([scope.local(T0 + 6 * PANE)]))[0]
    assert silent.evidence.before == scope.silence[hour]
    back = story(
        scope,
        quiet(scope.reference, 5),
        np.zeros((4, 1, scope.reference.table.width), np.int64),
        quiet(scope.reference, 9),
    )
    assert when(back, "resolved") == [14]


def test_quiet_panes_says_when_the_silence_pages(scope: Scope) -> None:
    state, _ = play(scope, quiet(scope.reference, 5))
    assert quiet_panes(scope, state, start=T0 + 5 * PANE, panes=100) == 1
    _, result = skip_empty(scope, state, start=T0 + 5 * PANE, panes=100)
    assert result.alarms[0].pane == T0 + 6 * PANE
    assert (result.start, result.end) == (T0 + 5 * PANE, T0 + 105 * PANE)


def test_expectations_are_taken_at_their_word() -> None:
    """Each rule on its own pane: one missing value, too few rows, one unseen level, a tenth missing."""
    of = reference()
    expect = (
        Expectation(feature="x0", required=True),
        Expectation(feature="x0", missing_below=0.05),
        Expectation(feature="colour", levels_closed=True),
        Expectation(feature="", rows_at_least=30),
    )
    columns = rows(4, 30)
    columns["x0"][0] = np.nan
    columns["colour"][1] = "mauve"
    scope = build_scope(of, layout(of, expect=expect))
    first, _ = update(scope, scope.start(), start=T0, counts=counts(of, columns, panes=1)[0])
    assert sorted(rule for _, _, rule in first.met) == ["levels", "required"]
    second, result = update(scope, first, start=T0 + PANE, counts=counts(of, rows(5, 25, missing=0.5), panes=1)[0])
    assert sorted(rule for _, _, rule in second.met) == ["levels", "missing", "required", "rows"]
    assert sorted(alarm.evidence.detector for alarm in result.alarms) == ["missing", "rows"]
    assert {alarm.evidence.before for alarm in result.alarms if alarm.evidence.detector == "rows"} == {30.0}
    assert [alarm.renewed for alarm in result.alarms if alarm.evidence.detector == "missing"] == [True]


def test_a_range_is_judged_by_the_extremes_of_the_pane() -> None:
    of = reference()
    spec = of.spec("x0")
    assert spec is not None
    expect = (Expectation(feature="x0", range=(-10.0, 10.0)),)
    scope = build_scope(of, layout(of, expect=expect))
    pane = quiet(of, 1)[0]
    at = [one.name for one in of.table.numeric].index("x0")
    extremes = np.full((1, 2, 2), [NO_LEAST, NO_LARGEST])
    extremes[0, at] = np.array([-9, 9]) * 2**spec.scale_bits
    _, inside = update(scope, scope.start(), start=T0, counts=pane, extremes=extremes)
    extremes[0, at, 1] = 11 * 2**spec.scale_bits
    _, outside = update(scope, scope.start(), start=T0, counts=pane, extremes=extremes)
    assert inside.alarms == ()
    assert (outside.alarms[0].evidence.detector, outside.alarms[0].evidence.direction) == ("range", "outside the range")


def test_a_range_inside_the_reference_needs_no_extremes() -> None:
    """Bins that lie wholly outside are enough."""
    of = reference()
    scope = build_scope(of, layout(of, expect=(Expectation(feature="x0", range=(-0.5, 0.5)),)))
    _, result = update(scope, scope.start(), start=T0, counts=quiet(of, 1)[0])
    assert result.alarms[0].evidence.detector == "range"


def test_a_change_in_one_segment_is_found_there() -> None:
    """FR moves by a deviation, DE does not: the segment is named, the model's own row of verdicts too."""
    of = reference(segments=True)
    views = (View(), View("country", "DE"), View("country", "FR"))
    scope = build_scope(of, layout(of, views=views, segments=("country",), monitors=9))
    german = counts(of, rows(1, 60 * 25), panes=60)
    french = counts(of, rows(2, 60 * 25, shift=1.0), panes=60)
    _, results = play(scope, np.concatenate([german + french, german, french], axis=1))
    found = evidence(results)
    assert {(one.feature, one.view) for one in found} == {("x0", View()), ("x0", View("country", "FR"))}
    assert scope.prior.tolist() == pytest.approx([1 / 6] * 3 + [1 / 12] * 6)


def test_a_version_without_a_reference_takes_the_models_and_a_segment_is_silent() -> None:
    of = reference()
    views = (View(), View("version", "2"), View("country", "XX"))
    scope = build_scope(of, layout(of, views=views, segments=("country",), monitors=9))
    assert "compared with the whole model's reference" in scope.notes[3]
    assert "no reference of its own: silent" in scope.notes[6]
    assert scope.paging.tolist() == [True] * 6 + [False] * 3


def test_day_is_counted_for_the_visible_change(scope: Scope) -> None:
    """Ten times the traffic sees a smaller change, from the first whole day on."""
    few = play(scope, quiet(scope.reference, 1))[1][-1].visible_change[0]
    state = scope.start()
    pane = quiet(scope.reference, 1, n=500)[0]
    day = -(-T0 // DAY) * DAY
    for i in range(289):
        state, result = update(scope, state, start=day + i * PANE, counts=pane)
    assert (result.visible_change[0] < few - 0.01).all()


def test_a_feature_that_the_reference_lacks_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"credit\.monitored: the reference has no feature 'x9'"):
        build_scope(reference(), layout(reference(), monitored=("x9",)))


def test_views_begin_with_the_model() -> None:
    with pytest.raises(ConfigurationError, match=r"credit\.views: the first view must be the whole model"):
        build_scope(reference(), layout(reference(), views=(View("version", "1"),)))


def test_long_panes_and_small_budgets_have_no_cap() -> None:
    of = reference()
    scope = build_scope(of, layout(of, pane_ms=2 * 3_600_000))
    assert scope.budget == 360.0
    # Larger than any limit, and its exponential is a number.
    assert (scope.bets.cap == 600.0).all()
