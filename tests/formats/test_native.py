"""Our own events: the typed way and the lenient way come to the same row."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.formats.lenient import Refused, parse, parse_native, too_deep
from streamer.formats.native import NativeFormat
from streamer.formats.shapes import STRANGERS, Shapes, Sketch

SKETCH = Sketch(features={"age": "number", "city": "text", "grade": "scalar"}, segments=("country",))
UNSLOTTED = Sketch(features={'the "age"': "number"}, segments=("back\\slash",))
SHAPES = Shapes.of({"credit": SKETCH, "churn": Sketch(features={}), "odd": UNSLOTTED}, kind="predictions")
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5)
EVENTS = st.fixed_dictionaries(
    {"id": SCALARS, "model": st.sampled_from(["credit", "churn", "x", None]), "ts": SCALARS},
    optional={
        "version": SCALARS,
        "features": st.none()
        | st.dictionaries(st.sampled_from(["age", "city", "grade", "new"]), SCALARS | st.just([1])),
        "segment": st.none() | st.dictionaries(st.sampled_from(["country", "other"]), SCALARS),
        "score": SCALARS,
        "proba": st.none() | st.dictionaries(st.text(max_size=2), SCALARS, max_size=2),
        "label": SCALARS | st.just([]),
        "value": SCALARS,
        "latency_ms": SCALARS,
        "cost": SCALARS,
        "status": SCALARS,
        "other": SCALARS,
    },
)


def typed(value: bytes) -> object:
    try:
        assert SHAPES.decoder is not None
        return msgspec.to_builtins(SHAPES.decoder.decode(value))
    except msgspec.DecodeError:
        return None


def leniently(value: bytes) -> object:
    try:
        return msgspec.to_builtins(parse(parse_native(value), SHAPES)[1])
    except Refused:
        return None


@settings(max_examples=400, deadline=None)
@given(EVENTS)
def test_what_the_typed_decoder_takes_the_lenient_one_takes_to_the_same_row(event: dict[str, Any]) -> None:
    """Otherwise a result would depend on which way a record happened to go."""
    value = json.dumps(event).encode()
    fast = typed(value)
    assert fast is None or fast == leniently(value)


@pytest.mark.parametrize("n", [1, STRANGERS, STRANGERS + 5])
def test_a_decoder_that_knows_the_strangers_refuses_none(n: int) -> None:
    features = {f"new{i}": [i] for i in range(n)}
    value = json.dumps({"id": "a", "model": "credit", "ts": 1, "features": features}).encode()
    first = NativeFormat(SHAPES)
    notes = first.decode([], [value]).notes
    learned = NativeFormat(Shapes.of({"credit": SKETCH}, kind="predictions", strangers=first.strangers))
    row: Any = learned.decode([], [value]).rows[0]
    assert [(note.kind, note.name) for note in notes] == [("unknown", name) for name in features]
    assert len(first.strangers["credit"]) == min(n, STRANGERS)
    assert row is not None
    assert learned.strangers == {}


def test_names_that_msgspec_gives_no_slot_are_read_all_the_same() -> None:
    event = {"id": "a", "model": "odd", "ts": 1, "features": {'the "age"': 41}, "segment": {"back\\slash": "x"}}
    row: Any = NativeFormat(SHAPES).decode([], [json.dumps(event).encode()]).rows[0]
    assert (row.features.f0, row.segment.s0) == (41.0, "x")


def test_strangers_without_a_slot_stay_strangers() -> None:
    value = b'{"id": "a", "model": "credit", "ts": 1, "features": {"a\\tb": 1, "fine": 1}}'
    first = NativeFormat(SHAPES)
    assert len(first.decode([], [value]).notes) == 2
    assert first.strangers == {"credit": {"fine"}}


def test_rows_after_a_refused_one_are_decoded() -> None:
    good = b'{"id": "a", "model": "credit", "ts": 1}'
    decoded = NativeFormat(SHAPES).decode([], [b"{", good, good, b"", good])
    assert [row is not None for row in decoded.rows] == [False, True, True, False, True]
    assert [refusal.at for refusal in decoded.refusals] == [0, 3]


def test_numbers_that_are_no_json_are_not_finite() -> None:
    value = b'{"id": "a", "model": "credit", "ts": 1, "features": {"age": -Infinity, "grade": NaN}, "cost": NaN}'
    row: Any = parse(parse_native(value), SHAPES)[1]
    assert (row.features.f0, row.features.f2, row.cost) == (-math.inf, None, None)


def test_depth_is_counted_outside_of_strings() -> None:
    padding = b" " * 1_024
    assert not too_deep(b'["' + b'\\"[' * 100 + b'"]' + padding, 32)
    assert not too_deep(b"[]" * 100 + padding, 32)
    assert not too_deep(b"[" * 32 + padding, 32)
    assert too_deep(b"[" * 33 + padding, 32)
    assert too_deep(b'{"[":' * 33 + padding, 32)


def test_a_million_brackets_are_no_more_than_too_deep() -> None:
    assert too_deep(b"[" * 1_000_000, 32)
