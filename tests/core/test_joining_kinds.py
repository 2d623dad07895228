"""The join of models of several classes and of regressions: what was kept of a prediction is what it said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from detectors.bins import FeatureSpec
from detectors.class_calibration import class_calibration
from detectors.outcomes import JoinedRows, OutcomeTable, tabulate_outcomes
from detectors.references import Reference
from detectors.rows import Rows
from schemas.control import Cluster
from streamer.core.control import Control
from streamer.core.plans import outcome_table
from streamer.core.profiling import profile_rows, start
from tests.core.outcomes import BEGIN, Run, joined, outcome, prediction, record, summed

NAMES = ("cat", "cow", "dog", "emu", "fox", "gnu")
LABEL = FeatureSpec(name="label", kind="categorical", levels=NAMES)
SCORE = FeatureSpec(name="score", kind="numeric", edges=(0.2, 0.4), low=0.0, high=1.0, scale_bits=20, clip=2.0)
VALUE = FeatureSpec(name="value", kind="numeric", edges=(10.0, 20.0, 30.0), low=0.0, high=40.0, scale_bits=8, clip=99.0)


def control_of(*specs: FeatureSpec) -> tuple[Control, OutcomeTable]:
    reference = Reference(model="m", specs=specs, views={}, id="r")
    layout = joined("m", "r", from_ms=0)
    control = Control(models={"m": (layout,)}, references={"r": reference}, cluster=Cluster(sources=1, profiles=1))
    table = outcome_table(reference, layout)
    assert table is not None
    return control, table


def run(control: Control, predictions: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> Run:
    """Everything in one batch each, with a restart between the two."""
    found = Run.begun(control)
    found.take([record(one, append=9, offset=at) for at, one in enumerate(predictions)])
    found.crash()
    found.take([record(one, append=9, offset=at, topic="outcomes") for at, one in enumerate(outcomes)])
    return found


def only_table(found: Run, width: int) -> list[int]:
    [counts] = summed(found.outputs).values()
    return [counts[at] for at in range(width)]


def test_ranks_of_a_prediction_of_many_classes_are_kept_until_its_outcome() -> None:
    control, table = control_of(LABEL, SCORE)
    shares = {"cat": 0.4, "cow": 0.25, "dog": 0.15, "emu": 0.1, "fox": 0.06, "gnu": 0.04}
    predictions = [prediction(0, model="m", id=name, proba=shares, score=None) for name in ("x", "y", "z")]
    told = [outcome(5, model="m", id=name, label=label) for name, label in (("x", "cat"), ("y", "fox"), ("z", "gnu"))]
    again = outcome(6, model="m", id="z", label="cow")
    ranks = np.tile(np.arange(5), (3, 1))
    rows = JoinedRows.of(
        score=np.full(3, 0.4),
        label=np.zeros(3, dtype=np.int64),
        outcome=np.array([0, 4, 1]),
        delay_ms=np.full(3, 5),
        ranks=ranks,
    )
    expected = tabulate_outcomes(table, rows, np.zeros(3, dtype=np.int64), 1)[0]
    expected[table.expected] = 3
    assert only_table(run(control, predictions, [*told, again]), table.width) == expected.tolist()
    assert expected[table.top].tolist() == [3, 3]


def test_an_echo_brings_the_probability_of_every_class() -> None:
    """What waits for its outcome keeps none of them: there a correction could not take them out again."""
    control, table = control_of(LABEL, SCORE)
    shares = {"cat": 0.5, "cow": 0.25, "dog": 0.25}
    said = prediction(0, model="m", id="x", proba=shares, score=None)
    waits = prediction(0, model="m", id="y", proba=shares, score=None)
    told = [outcome(5, model="m", id="x", label="cow", prediction=said), outcome(5, model="m", id="y", label="cow")]
    found = np.array(only_table(run(control, [waits], told), table.width))
    counts = {(one.kind, one.of): (one.n, one.frequency.value) for one in class_calibration(table, found)}
    assert counts == {("predicted", "cat"): (2, 0.0)} | {
        ("one_vs_rest", name): (1, float(name == "cow")) for name in NAMES
    }
    every = {one.of: one.score for one in class_calibration(table, found) if one.kind == "one_vs_rest"}
    assert every == {**dict.fromkeys(NAMES, 0.0), **shares}


def test_rows_of_a_table_bring_the_probability_of_every_class_too() -> None:
    """No outcome comes later that would have to take them out; what they say of it that cannot be is refused."""
    control, table = control_of(LABEL, SCORE)
    shares = {"cat": 0.5, "cow": 0.25, "dog": 0.25}
    proba = np.array([shares, {"cat": 0.5, "cow": 0.1}, "much", None], dtype=object)
    columns = {"score": np.full(4, 0.5), "label": np.full(4, "cat", object), "outcome": np.full(4, "cow", object)}
    state, outputs = profile_rows(
        start(control, 0, next={}), Rows(ts=np.full(4, BEGIN), columns=columns, proba=proba), control, "m"
    )
    [counts] = summed(outputs).values()
    found = class_calibration(table, np.array([counts[at] for at in range(table.width)]))
    every = {one.of: (one.n, one.score) for one in found if one.kind == "one_vs_rest"}
    assert every == {name: (1, shares.get(name, 0.0)) for name in NAMES}
    assert counts[table.top.start] == 1
    letters = [json.loads(one.value or b"") for one in outputs if one.topic == "dead-letter"]
    assert [letter["detail"] for letter in letters] == [
        "proba: does not sum to 1", "proba: expected an object of numbers"
    ]  # fmt: skip
    assert (state.applied, state.drops["schema"]) == (2, 2)


def test_a_corrected_echo_takes_out_what_it_had_put_in() -> None:
    control, table = control_of(LABEL, SCORE)
    said = prediction(0, model="m", id="x", proba={"cat": 0.5, "cow": 0.25, "dog": 0.25}, score=None)
    told = [outcome(5, model="m", id="x", label=label, prediction=said) for label in ("cow", "cow", "dog")]
    alone = [prediction(0, model="m", id="y", score=None)]
    whole = only_table(run(control, alone, told), table.width)
    assert whole == only_table(run(control, alone, told[2:]), table.width)
    # An echo of another prediction under that id corrects what was kept of the first; its shares are no one's.
    other = {**said, "proba": {"emu": 0.6, "cow": 0.4}}
    found = run(control, alone, [told[0], outcome(6, model="m", id="x", label="emu", prediction=other)])
    by_class = np.array(only_table(found, table.width))[table.by_class].reshape(len(NAMES), -1, 3).sum(axis=1)
    assert by_class[:, :2].tolist() == [[1, int(name == "cow")] for name in NAMES]


def test_a_regression_is_joined_by_numbers_and_corrected_by_numbers() -> None:
    control, table = control_of(VALUE)
    predictions = [prediction(0, model="m", id=f"p{i}", score=None, value=10.5 + i) for i in range(3)]
    told = [outcome(5, model="m", id=f"p{i}", label=None, value=12.0) for i in range(3)]
    more = [outcome(7, model="m", id="p0", label=None, value=12.0), outcome(7, model="m", id="p1", label="11.25")]
    found = run(control, predictions, [*told, *more])
    rows = JoinedRows.of(
        value=np.array([10.5, 11.5, 12.5]), truth=np.array([12.0, 11.25, 12.0]), delay_ms=np.full(3, 5)
    )
    expected = tabulate_outcomes(table, rows, np.zeros(3, dtype=np.int64), 1)[0]
    expected[table.expected] = 3
    assert only_table(found, table.width) == expected.tolist()
    assert found.state.join is not None
    counts = found.state.join.counts
    assert (counts["matched"], counts["duplicate"], counts["corrected"]) == (3, 1, 1)


def test_a_regression_refuses_an_outcome_that_is_no_number() -> None:
    control, _ = control_of(VALUE)
    found = run(control, [prediction(0, model="m", value=1.0, score=None)], [outcome(5, model="m", label="high")])
    assert found.state.drops["schema"] == 1


def test_the_score_of_probabilities_is_that_of_the_positive_that_the_layout_names() -> None:
    """`no` may be the class that a team looks for; a score that an event gives itself stays as it is."""
    two = FeatureSpec(name="label", kind="categorical", levels=("no", "yes"))
    reference = Reference(model="m", specs=(two, SCORE), views={}, id="r")
    layout = joined("m", "r", positive="no")
    control = Control(models={"m": (layout,)}, references={"r": reference}, cluster=Cluster(sources=1, profiles=1))
    shares = {"no": 0.75, "yes": 0.25}
    predictions = [prediction(0, model="m", id="a", proba=shares, score=None)]
    found = run(control, predictions, [outcome(5, model="m", id="a", label="no")])
    table = outcome_table(reference, layout)
    assert table is not None
    assert table.spec.classes == ("yes", "no")
    counts = only_table(found, table.width)
    by_score = np.array(counts[table.bins]).reshape(-1, 5)
    [at] = np.flatnonzero(by_score[:, 0]).tolist()
    assert (by_score[at, 0], by_score[at, 1], by_score[at, 2]) == (1, 1, round(0.75 * 2**30))
