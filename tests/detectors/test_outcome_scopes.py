"""Charts of outcomes: quiet while nothing changes, and say what has when it has."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import special

from detectors import outcome_scopes as scopes
from detectors.building import ReferenceBuilder
from detectors.outcome_scopes import OutcomeScope, OutcomeState
from detectors.outcome_states import load_state, save_state
from detectors.outcomes import JoinedRows, expected_rows, tabulate_outcomes
from detectors.references import Reference
from detectors.rows import Rows
from detectors.scopes import build_scope
from schemas.errors import FormatError
from schemas.layouts import Layout, View

HOUR = 3_600_000
START = 4 * 24 * HOUR
ROWS = 100


def scored(rng: np.random.Generator, n: int, *, a: float = 0.0, b: float = 1.0) -> tuple[Any, Any]:
    score = rng.beta(2, 5, n)
    return score, rng.binomial(1, special.expit(a + b * special.logit(score)))


def reference_of(*, outcomes: bool = True, days: int = 14, segments: bool = False) -> Reference:
    rng = np.random.default_rng(1)
    n = ROWS * 24 * days
    score, outcome = scored(rng, n)
    columns = {"score": score, "x": rng.normal(0, 1, n)}
    rows = Rows(
        ts=START + (np.arange(n) * (24 * days * HOUR // n)),
        columns={**columns, "outcome": outcome.astype(float)} if outcomes else columns,
        segments={"country": np.where(rng.random(n) < 0.5, "FR", "DE").astype(object)} if segments else {},
    )
    builder = ReferenceBuilder("m", "predictions", segments=["country"] if segments else ())
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def layout_of(reference: Reference, **more: Any) -> Layout:
    layout = Layout(
        model="m",
        from_ms=0,
        reference=reference.id,
        monitored=("x", "score"),
        monitors=2,
        horizon_ms=7 * 24 * HOUR,
        maturity_ms=24 * HOUR,
    )
    return msgspec.structs.replace(layout, **more)


def scope_of(reference: Reference, **more: Any) -> OutcomeScope:
    found = scopes.build_outcome_scope(reference, layout_of(reference, **more))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of()


@pytest.fixture(scope="module")
def scope(reference: Reference) -> OutcomeScope:
    return scope_of(reference)


def pane_of(scope: OutcomeScope, score: Any, outcome: Any, *, expected: int | None = None, view: Any = None) -> Any:
    rows = JoinedRows.of(score=score, outcome=outcome)
    whole = tabulate_outcomes(scope.table, rows, np.zeros(len(rows), np.int64), 1)
    whole += expected_rows(scope.table, np.array([len(rows) if expected is None else expected]))
    parts = [whole]
    for i in range(1, len(scope.views)):
        of_view = rows.take(np.flatnonzero(view == i))
        parts.append(
            tabulate_outcomes(scope.table, of_view, np.zeros(len(of_view), np.int64), 1)
            + expected_rows(scope.table, np.array([len(of_view)]))
        )
    return np.concatenate(parts)


def run(
    scope: OutcomeScope, panes: int, *, seed: int = 0, a: float = 0.0, b: float = 1.0, state: OutcomeState | None = None
) -> tuple[OutcomeState, list[scopes.OutcomeResult]]:
    rng = np.random.default_rng(seed)
    state, said = scope.start() if state is None else state, []
    first = 0 if state.begun < 0 else 10_000
    for number in range(first, first + panes):
        start = START + number * HOUR
        score, outcome = scored(rng, ROWS, a=a, b=b)
        state, result = scopes.update(scope, state, start=start, local=start, counts=pane_of(scope, score, outcome))
        said.append(result)
    return state, said


def alarms_of(said: list[scopes.OutcomeResult]) -> list[Any]:
    return [(i, alarm.evidence) for i, result in enumerate(said) for alarm in result.alarms]


def test_nothing_changed_says_nothing(scope: OutcomeScope) -> None:
    """A month of hourly panes like the reference's: no alarm, and every monitor says ok."""
    _, said = run(scope, 720, seed=5)
    assert alarms_of(said) == []
    assert (np.stack([result.status for result in said]) == 1).mean() > 0.95


def test_more_errors_page_with_rate_and_onset(scope: OutcomeScope) -> None:
    """Errors that grow by half are found, with the rate as it is now, and it resolves when they are gone."""
    state, _ = run(scope, 200, seed=6)
    state, worse = run(scope, 60, seed=7, b=-0.5, state=state)
    found = dict((evidence.feature, (pane, evidence)) for pane, evidence in reversed(alarms_of(worse)))
    pane, evidence = found["error"]
    assert (evidence.detector, evidence.direction, evidence.unit) == ("losses", "worse", "share")
    assert pane < 30
    assert evidence.size is not None
    assert evidence.onset is not None
    assert evidence.size_low < evidence.size < evidence.size_high
    assert evidence.onset >= START + 9_990 * HOUR
    assert state.member.any()
    _, well = run(scope, 200, seed=8, state=state._replace(begun=START + 10_060 * HOUR - 10_000 * HOUR))
    assert {cleared.feature for result in well for cleared in result.cleared} >= {scopes.FEATURE["losses"]}


@pytest.mark.parametrize(
    ("a", "b", "words"), [(0.8, 1.0, "shifted up"), (-0.8, 1.0, "shifted down"), (0.0, 0.5, "over-confident")]
)
def test_calibration_says_which_way(scope: OutcomeScope, a: float, b: float, words: str) -> None:
    """Scores that mean something else are found; the direction is in words, with what scores mean now."""
    state, _ = run(scope, 100, seed=9)
    turn = special.logit(2 / 7) * (1 - b) if b != 1.0 else 0.0
    _, said = run(scope, 100, seed=10, a=a + turn, b=b, state=state)
    found = [evidence for _, evidence in alarms_of(said) if evidence.feature == "calibration"]
    assert words in found[0].direction
    assert "0.3 means" in found[0].note


def test_scores_that_drift_with_calibration_intact_are_no_calibration_alarm(scope: OutcomeScope) -> None:
    """Other scores, the same meaning: the chart of calibration is silent."""
    rng = np.random.default_rng(11)
    state, alarms = scope.start(), []
    for number in range(500):
        score = rng.beta(4, 3, ROWS) if number > 100 else rng.beta(2, 5, ROWS)
        counts = pane_of(scope, score, rng.binomial(1, score))
        start = START + number * HOUR
        state, said = scopes.update(scope, state, start=start, local=start, counts=counts)
        alarms += [alarm.evidence.feature for alarm in said.alarms]
    assert "calibration" not in alarms


def test_labels_held_back_move_no_chart(scope: OutcomeScope) -> None:
    """Two days of panes that have only their positives: left out, and said; no alarm, then or after."""
    rng = np.random.default_rng(12)
    state, waits, alarms = scope.start(), 0, 0
    for number in range(200):
        score, outcome = scored(rng, ROWS)
        kept = outcome == 1 if 100 <= number < 148 else np.ones(ROWS, dtype=bool)
        counts = pane_of(scope, score[kept], outcome[kept], expected=ROWS)
        start = START + number * HOUR
        state, said = scopes.update(scope, state, start=start, local=start, counts=counts)
        waits += bool(said.waits)
        alarms += len(said.alarms)
    assert (waits, alarms) == (48, 0)


def test_a_segment_of_its_own_is_the_one_that_alarms() -> None:
    """One segment over-confident, the other as ever: its chart speaks first."""
    reference = reference_of(segments=True)
    views = (View(), View("country", "DE"), View("country", "FR"))
    scope = scope_of(reference, segments=("country",), views=views, monitors=6)
    rng = np.random.default_rng(13)
    state, alarms = scope.start(), []
    for number in range(400):
        score = rng.beta(2, 5, ROWS)
        view = 1 + (rng.random(ROWS) < 0.5)
        sharp = special.expit(special.logit(2 / 7) + 0.4 * (special.logit(score) - special.logit(2 / 7)))
        outcome = rng.binomial(1, np.where((view == 2) & (number > 100), sharp, score))
        start = START + number * HOUR
        counts = pane_of(scope, score, outcome, view=view)
        state, said = scopes.update(scope, state, start=start, local=start, counts=counts)
        alarms += [(str(alarm.evidence.view), alarm.evidence.feature) for alarm in said.alarms]
    assert ("country=FR", "calibration") in alarms
    assert not [alarm for alarm in alarms if alarm[0] == "country=DE"]


def test_without_outcomes_in_the_reference_the_adaptive_chart_watches_errors() -> None:
    """No map, so no calibration; a rise of the error rate is found and says that labels are taken as independent."""
    scope = scope_of(reference_of(outcomes=False))
    assert [one.kind for one in scope.monitors] == ["losses"]
    state, said = run(scope, 200, seed=14)
    assert alarms_of(said) == []
    _, worse = run(scope, 50, seed=15, b=-0.5, state=state)
    evidence = alarms_of(worse)[0][1]
    assert "no outcomes" in evidence.note
    assert evidence.size > 0.3


def test_the_budget_is_parted_not_doubled(reference: Reference) -> None:
    """1/A of features and 1/A of outcomes, in one clock, sum to the budget's."""
    layout = layout_of(reference)
    own = scope_of(reference)
    features = build_scope(reference, layout)
    in_panes = own.budget * layout.outcome_pane_ms / layout.pane_ms
    assert 1 / features.budget + 1 / in_panes == pytest.approx(1 / layout.budget_panes)
    off = msgspec.structs.replace(layout, horizon_ms=0)
    assert build_scope(reference, off).budget == layout.budget_panes
    assert scopes.build_outcome_scope(reference, off) is None


@pytest.mark.parametrize("outcomes", [True, False])
def test_saved_and_restored_goes_on_as_if_never_stopped(outcomes: bool) -> None:
    """Equal bytes after 40 more panes; another scope's state is refused."""
    scope = scope_of(reference_of(outcomes=outcomes))
    state, _ = run(scope, 60, seed=16, b=-0.5)
    again = load_state(scope.start(), scope.plan, save_state(state))
    ours, theirs = run(scope, 40, seed=17, state=state)[0], run(scope, 40, seed=17, state=again)[0]
    assert save_state(ours) == save_state(theirs)
    with pytest.raises(FormatError):
        load_state(scope.start(), scope.plan, b"\x91\x01")
