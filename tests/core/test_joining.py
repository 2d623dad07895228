"""The join: what the two logs say alone decides, whatever the order they are read in, whatever the batches."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.rows import Rows
from schemas.errors import ProtocolBroken
from schemas.layouts import Limits
from streamer.core.profiling import profile_rows, start
from tests.core.outcomes import (
    BEGIN,
    CONTROL,
    HOUR,
    WAIT,
    Logs,
    Run,
    by_hand,
    joined,
    logs,
    outcome,
    prediction,
    record,
    summed,
    without_zeros,
)
from tests.core.stage1 import control_of


def read(of: Logs, seed: int, **how: Any) -> Run:
    run = Run.begun()
    run.read(of, random.Random(seed), **how)
    return run


def test_every_table_is_the_one_that_is_counted_by_hand() -> None:
    of = logs(1_500, 1)
    truth = by_hand(of, CONTROL)
    run = read(of, 1, lead=200)
    assert summed(run.outputs) == without_zeros(truth.tables)
    words = ("matched", "corrected", "duplicate", "unmatched_outcome", "schema", "on_record")
    assert min(truth.counts[name] for name in words) > 10


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), lead=st.sampled_from([1, 7, 50, 400, 5_000]))
def test_any_interleaving_and_any_batches_give_the_same_tables(seed: int, lead: int) -> None:
    of = logs(150, seed)
    run = read(of, seed + 1, lead=lead)
    assert summed(run.outputs) == without_zeros(by_hand(of, CONTROL).tables)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_task_that_dies_anywhere_comes_back_as_it_was(seed: int) -> None:
    of = logs(150, seed)
    whole, broken = read(of, seed, lead=50), read(of, seed, lead=50, crashes=0.3)
    assert summed(broken.outputs) == summed(whole.outputs) == without_zeros(by_hand(of, CONTROL).tables)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_outcomes_are_accounted_for(seed: int) -> None:
    """Consumed is applied, waiting and dropped; each outcome is exactly one of what it can be."""
    of = logs(800, seed)
    truth = by_hand(of, CONTROL).counts
    state = read(of, seed, lead=100, crashes=0.05).state
    assert state.join is not None
    counts, drops = state.join.counts, state.drops
    assert state.consumed == state.applied + state.waiting + sum(drops.values()) == len(of.predictions + of.outcomes)
    assert counts["matched"] == truth["matched"] + truth["on_record"]
    assert (counts["corrected"], counts["duplicate"]) == (truth["corrected"], truth["duplicate"])
    assert drops["unmatched_outcome"] + state.waiting == truth["unmatched_outcome"]
    assert drops["schema"] == truth["schema"]


def test_an_outcome_waits_for_its_prediction_as_long_as_it_may() -> None:
    """It is counted as waiting, in the changelog like the rest, and dropped with its place once no one can come."""
    run = Run.begun()
    run.take([record(outcome(0), append=0, offset=7, topic="outcomes")])
    assert (run.state.waiting, run.state.drops["unmatched_outcome"]) == (1, 0)
    run.crash()
    run.take([record(prediction(WAIT, id="b"), append=WAIT)])
    assert run.state.waiting == 1
    run.take([record(prediction(WAIT + 2_000, id="c"), append=WAIT + 2_000, offset=1)])
    assert (run.state.waiting, run.state.drops["unmatched_outcome"]) == (0, 1)
    [letter] = [one for one in run.outputs if one.topic == "dead-letter"]
    assert letter.key == b"outcomes|3|7"


def test_where_all_was_read_a_stream_without_predictions_does_not_keep_outcomes() -> None:
    run = Run.begun()
    run.take([record(outcome(0), append=0, topic="outcomes")])
    later = WAIT + 120_000
    run.take([record(outcome(later, id="b"), append=later, offset=1, topic="outcomes")], caught_up=True)
    assert (run.state.waiting, run.state.drops["unmatched_outcome"]) == (1, 1)


def test_pending_predictions_leave_and_take_their_records_with_them() -> None:
    """Nothing is kept beyond horizon and hold: no row, and no record of the changelog but the last."""
    run = Run.begun()
    for i in range(40):
        at = i * HOUR
        run.take([record(prediction(at, id=f"p{i}"), append=at, offset=i)], caught_up=True)
        run.crash()
    assert run.state.join is not None
    assert len(run.state.join.pending) == 8
    assert sum(key.startswith(b"join|") for key in run.changelog) == 8


def test_beyond_the_limit_predictions_count_and_are_not_joined() -> None:
    """The limit shows as coverage: they are expected, and their outcomes find nobody."""
    limited = control_of(joined("churn", "churn", limits=Limits(pending_rows=2)))
    run = Run.begun(limited)
    run.take([record(prediction(i, id=f"p{i}", model="churn"), append=i, offset=i) for i in range(5)])
    told = [record(outcome(9, id=f"p{i}", model="churn"), append=9, offset=i, topic="outcomes") for i in range(5)]
    run.take(told)
    assert run.state.join is not None
    assert (run.state.applied, run.state.join.counts["over_limit"]) == (7, 3)
    [table] = summed(run.outputs).values()
    assert (table[0], table[1]) == (2, 5)


def test_an_outcome_without_a_model_is_of_the_prediction_with_its_id() -> None:
    run = Run.begun()
    run.take([record(prediction(0, id="x", model="churn"), append=0)])
    run.take([record(outcome(5, id="x", model=None), append=5, topic="outcomes")])
    assert run.state.join is not None
    assert run.state.join.counts["matched"] == 1


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"model": "nobody"}, "unknown_model", ""),
        ({"label": "perhaps"}, "schema", "label: 'perhaps' is none of 0, 1"),
        ({"label": None}, "schema", "label: is missing, and so is value"),
        ({"id": ""}, "schema", "id: is empty"),
        ({"id": None}, "schema", "id: is missing"),
        ({"id": "x" * 300}, "over_limit", "id"),
        ({"ts": 5}, "schema", "ts: 5 is before 1980"),
        ({"ts": None}, "schema", "ts: is missing"),
        ({"ts": BEGIN + 400_000}, "future", ""),
        ({"value": math.nan}, "non_finite", "value"),
        ({"label": math.inf}, "non_finite", "label"),
        ({"model": 7}, "schema", "model: expected text, got int"),
        ({"prediction": {"id": "a"}}, "schema", "prediction: ts: is missing"),
        ({"prediction": prediction(0, model="churn")}, "schema", "prediction: is of model 'churn'"),
        ({"prediction": prediction(0, proba={"0": 0.5, "1": 0.9})}, "schema", "prediction: proba: does not sum to 1"),
    ],
)
def test_a_bad_outcome_is_dropped_with_its_reason_and_the_others_count(
    fields: dict[str, Any], reason: str, detail: str
) -> None:
    run = Run.begun()
    run.take([record(prediction(0), append=0)])
    told = [outcome(0, **fields), outcome(0)]
    run.take([record(one, append=0, offset=at, topic="outcomes") for at, one in enumerate(told)])
    assert run.state.join is not None
    assert (run.state.drops[reason], run.state.join.counts["matched"]) == (1, 1)
    [letter] = [json.loads(one.value or b"") for one in run.outputs if one.topic == "dead-letter"]
    assert (letter["reason"], letter.get("detail", "")[: len(detail)]) == (reason, detail)


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"proba": {"0": -0.1, "1": 1.1}}, "schema", "proba: outside [0, 1]"),
        ({"proba": {"0": 0.7, "1": 0.7}}, "schema", "proba: does not sum to 1"),
        ({"outcome": "perhaps"}, "schema", "outcome: is none of the classes"),
        ({"outcome": 1, "outcome_ts": 5}, "schema", "outcome_ts: is no time after 1980"),
        ({"outcome": 1, "outcome_ts": BEGIN + HOUR}, "future", "outcome_ts"),
        ({"outcome": 1, "outcome_ts": BEGIN - 1}, "schema", "outcome_ts: is before the prediction's ts"),
        ({"outcome": math.nan}, "non_finite", "outcome"),
    ],
)
def test_a_prediction_that_says_what_cannot_be_is_dropped_with_its_reason(
    fields: dict[str, Any], reason: str, detail: str
) -> None:
    run = Run.begun()
    run.take([record(prediction(0, **fields), append=0)])
    assert run.state.drops[reason] == 1
    [letter] = [json.loads(one.value or b"") for one in run.outputs if one.topic == "dead-letter"]
    assert letter["detail"] == detail


def test_an_echo_needs_no_prediction_and_its_repeats_are_known() -> None:
    """It is matched at once; equal again is a duplicate, different a correction. Its prediction may have come by
    itself, too, and is expected only then.
    """
    run = Run.begun()
    echoes = [outcome(9, prediction=prediction(0), label=label) for label in (1, 1, 0)]
    run.take([record(one, append=9, offset=at, topic="outcomes") for at, one in enumerate(echoes)])
    assert run.state.join is not None
    found = {name: run.state.join.counts[name] for name in ("matched", "echoed", "duplicate", "corrected")}
    assert found == {"matched": 1, "echoed": 1, "duplicate": 1, "corrected": 1}
    [table] = summed(run.outputs).values()
    assert (table[0], table[1]) == (1, 0)


def test_a_table_is_joined_row_by_row() -> None:
    """`profile_rows` takes the columns outcome and outcome_ts; a row without an outcome is expected and lacks it."""
    columns = {
        "score": np.array([0.1, 0.9, 0.4]),
        "outcome": np.array(["0", "1", None], dtype=object),
        "outcome_ts": np.array([BEGIN + 5, BEGIN + 5 * HOUR, 0]),
    }
    rows = Rows(ts=np.full(3, BEGIN), columns=columns, version=None, segments={})
    state, outputs = profile_rows(start(CONTROL, 0, next={}), rows, CONTROL, "churn")
    on_time, late = (table for _, table in sorted(summed(outputs).items()))
    assert (on_time[0], on_time[1], late[0], state.applied) == (1, 3, 1, 3)
    assert not any(one.key.startswith(b"join|") for one in outputs)


def test_a_row_whose_outcome_is_older_than_itself_is_refused_and_the_others_count() -> None:
    """As in a record; where there is no outcome its time says nothing."""
    columns = {
        "score": np.array([0.1, 0.9, 0.4]),
        "outcome": np.array(["0", "1", None], dtype=object),
        "outcome_ts": np.array([BEGIN, BEGIN - 1, BEGIN - 1]),
    }
    rows = Rows(ts=np.full(3, BEGIN), columns=columns, version=None, segments={})
    state, outputs = profile_rows(start(CONTROL, 0, next={}), rows, CONTROL, "churn")
    [table] = summed(outputs).values()
    assert (state.applied, state.drops["schema"], table[0], table[1]) == (2, 1, 1, 2)
    [letter] = [json.loads(one.value or b"") for one in outputs if one.topic == "dead-letter"]
    assert letter["detail"] == "outcome_ts: is before the prediction's ts"


def test_a_changelog_with_a_record_missing_is_refused() -> None:
    run = Run.begun()
    run.take([record(prediction(0), append=0)])
    del run.changelog[b"join|0"]
    with pytest.raises(ProtocolBroken, match="records 0 to 0 of the join are wanted"):
        run.crash()
