"""Charts of calibration by class: quiet while probabilities mean what they did, and the class that lies is named."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import special

from detectors import outcome_scopes as scopes
from detectors.building import ReferenceBuilder
from detectors.class_charts import LEAST_INFORMATION
from detectors.outcome_frames import names_of
from detectors.outcome_scopes import OutcomeScope
from detectors.outcome_states import load_state, save_state
from detectors.outcomes import JoinedRows, expected_rows, tabulate_outcomes
from detectors.references import Reference, dumps, loads
from detectors.rows import Rows
from schemas.errors import ReferenceFileError
from schemas.layouts import Layout, View

HOUR = 3_600_000
START = 4 * 24 * HOUR
NAMES = ("bird", "cat", "dog")
ROWS = 100


def drawn(
    rng: np.random.Generator, n: int, *, loc: float = 0.0, sharp: float = 1.5, tilt: Any = 0.0, slope: float = 1.0
) -> tuple[Any, Any]:
    """Probabilities of three classes, and what came true: the softmax of their logs, tilted."""
    share = special.softmax(rng.normal(0, sharp, (n, 3)) + np.linspace(0, loc, 3), axis=1)
    true = special.softmax(np.log(share) * slope + np.asarray(tilt), axis=1)
    return share, (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def learned(*, proba: bool = True, slope: float = 1.0) -> Reference:
    n = ROWS * 24 * 14
    share, outcome = drawn(np.random.default_rng(1), n, slope=slope)
    names = np.array(NAMES, dtype=object)
    mappings = np.array([dict(zip(NAMES, row, strict=True)) for row in share.tolist()], dtype=object)
    rows = Rows(
        ts=START + np.arange(n) * (14 * 24 * HOUR // n),
        columns={"score": share.max(axis=1), "label": names[share.argmax(axis=1)], "outcome": names[outcome]},
        proba=mappings if proba else None,
    )
    builder = ReferenceBuilder("m")
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


@cache
def reference() -> Reference:
    return learned()


@cache
def bent() -> Reference:
    """Of a model whose probabilities were too extreme all along."""
    return learned(slope=0.6)


def scope_of(known: Reference) -> OutcomeScope:
    layout = Layout(
        model="m", from_ms=0, reference=known.id, monitored=("score", "label"), monitors=2, horizon_ms=7 * 24 * HOUR,
        maturity_ms=24 * HOUR,
    )  # fmt: skip
    found = scopes.build_outcome_scope(known, layout)
    assert found is not None
    return found


def told(scope: OutcomeScope, panes: int, *, seed: int, state: Any = None, first: int = 0, **how: Any) -> Any:
    """The state, the alarms (pane, evidence) and the last verdicts of panes of a hundred rows."""
    rng, alarms, said = np.random.default_rng(seed), [], None
    state = scope.start() if state is None else state
    for number in range(first, first + panes):
        share, outcome = drawn(rng, ROWS, **how)
        rows = JoinedRows.of(score=share.max(axis=1), label=share.argmax(axis=1), outcome=outcome, shares=share)
        counts = tabulate_outcomes(scope.table, rows, np.zeros(ROWS, np.int64), 1)
        counts += expected_rows(scope.table, np.array([ROWS]))
        start = START + number * HOUR
        state, said = scopes.update(scope, state, start=start, local=start, counts=counts)
        alarms += [(number, alarm) for alarm in said.alarms]
    return state, alarms, said


def test_each_class_has_a_chart_beside_those_of_the_model() -> None:
    """The three of them together weigh as much as one other chart of the model."""
    scope = scope_of(reference())
    assert [one.name for one in scope.monitors] == ["error", "calibration", *(f"calibration of {n}" for n in NAMES)]
    assert len({scope.monitor_of(m) for m in range(5)}) == 5
    assert names_of(reference()) == [one.name for one in scope.monitors]
    assert scope.prior.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 9, 1 / 9, 1 / 9])


def test_without_probabilities_in_the_reference_there_are_none() -> None:
    plain = learned(proba=False)
    assert [one.name for one in scope_of(plain).monitors] == ["error", "calibration"]
    assert b'"tripline_reference": 2' in dumps(plain)


def test_nothing_changed_says_nothing() -> None:
    assert told(scope_of(reference()), 400, seed=3)[1] == []


def test_the_class_that_has_become_rarer_is_named_with_direction_and_map() -> None:
    """A dog is rarer than its probability says: that chart says so, and with which words; later it is over again."""
    scope = scope_of(reference())
    state, alarms, _ = told(scope, 200, seed=4, tilt=(0.0, 0.0, -0.8))
    found = {alarm.evidence.feature: alarm.evidence for _, alarm in alarms}
    assert "shifted down" in found["calibration of dog"].direction
    assert "means" in found["calibration of dog"].note
    assert found["calibration of dog"].view == View()
    assert not any("shifted down" in found[name].direction for name in found if name.endswith(("bird", "cat")))
    state, _, said = told(scope, 300, seed=5, state=state, first=200)
    assert not state.member.any()
    assert {cleared.feature for cleared in said.cleared} == set()


@pytest.mark.parametrize("how", [{"loc": 2.0}, {"sharp": 3.0}, {"sharp": 0.7}])
@pytest.mark.parametrize("slope", [1.0, 0.6])
def test_probabilities_that_move_with_their_meaning_kept_are_no_finding(how: dict[str, float], slope: float) -> None:
    """Other classes, sharper or flatter ones: bins are a logit wide, and a chart knows their mean score."""
    scope = scope_of(reference() if slope == 1.0 else bent())
    alarms = told(scope, 400, seed=6, slope=slope, **how)[1]
    assert [alarm.evidence.feature for _, alarm in alarms if " of " in alarm.evidence.feature] == []


def test_outcomes_without_probabilities_move_no_chart_of_a_class() -> None:
    scope = scope_of(reference())
    rng = np.random.default_rng(7)
    share, outcome = drawn(rng, ROWS)
    rows = JoinedRows.of(score=share.max(axis=1), label=share.argmax(axis=1), outcome=outcome)
    counts = tabulate_outcomes(scope.table, rows, np.zeros(ROWS, np.int64), 1)
    _, said = scopes.update(scope, scope.start(), start=START, local=START, counts=counts)
    assert said.n.tolist() == [ROWS, ROWS, 0, 0, 0]
    assert said.value[2:].tolist() == [0.0] * 3


def test_saved_and_restored_goes_on_as_if_never_stopped() -> None:
    scope = scope_of(reference())
    state = told(scope, 60, seed=8, tilt=(0.0, 0.0, -0.8))[0]
    again = load_state(scope.start(), scope.plan, save_state(state))
    ours, theirs = (told(scope, 40, seed=9, state=one, first=60)[0] for one in (state, again))
    assert save_state(ours) == save_state(theirs)


def test_a_reference_with_classes_comes_back_from_its_file() -> None:
    """Equal bytes; a class that is none is refused with its place. Only such a file is of the newest format."""
    raw = dumps(reference())
    again = loads(raw)
    assert dumps(again) == raw
    assert again.labels is not None
    assert tuple(again.labels.views[View()].classes) == NAMES
    assert b'"tripline_reference": 4' in raw
    content = msgspec.json.decode(raw)
    content["labels"]["views"][0]["classes"][0]["name"] = "wolf"
    with pytest.raises(ReferenceFileError):
        loads(msgspec.json.encode(content))


def test_a_class_of_next_to_no_rows_has_no_chart() -> None:
    """Its tolerance would be wider than what is looked for."""
    known = reference().labels
    assert known is not None
    for one in known.views[View()].classes.values():
        assert float((one.map.rows * one.map.weight).sum()) >= LEAST_INFORMATION
        assert one.tolerance < 0.4
