"""Bad input: a record is dropped with its reason, counted, and dead-lettered with its place; the rest counts."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import DeadLetter
from streamer.core.drops import LETTERS
from streamer.core.profiling import apply, start
from streamer.core.records import Batch, Output, PlainRecord
from tests.core.stage1 import BEGIN, CONTROL, SOURCE, event, record, summed

SOUND = [record(event(id="before"), offset=0), record(event(id="after"), offset=9)]
SURROGATE = b'{"id": "\\ud800", "model": "credit", "ts": 1735689600000}'


def letters(outputs: list[Output]) -> list[DeadLetter]:
    return [msgspec.json.decode(out.value or b"", type=DeadLetter) for out in outputs if out.topic == "dead-letter"]


def raw(**fields: Any) -> bytes:
    return json.dumps(event(**fields)).encode()


@pytest.mark.parametrize(
    ("reason", "value", "detail"),
    [
        ("decode", b"", "Expecting value"),
        ("decode", None, "no value"),
        ("decode", b"\xff\xfe", "not UTF-8"),
        ("decode", b"{", "Expecting property name"),
        ("decode", b"[1, 2]", "expected an object, got list"),
        ("decode", b"null", "expected an object, got null"),
        ("decode", b"\xef\xbb\xbf{}", "BOM"),
        ("decode", SURROGATE, "UTF-8"),
        ("schema", raw(id=None), "id: is missing"),
        ("schema", raw(id=""), "id: is empty"),
        ("schema", raw(id=[1]), "id: got list"),
        ("schema", raw(ts=None), "ts: is missing"),
        ("schema", raw(ts=True), "ts: expected a number or text, got bool"),
        ("schema", raw(ts="yesterday"), "ts: expected RFC 3339"),
        ("schema", raw(model=None), "model: is missing"),
        ("schema", raw(model=5), "model: expected text, got int"),
        ("schema", raw(features=[1, 2]), "features: expected an object, got list"),
        ("schema", raw(segment="FR"), "segment: expected an object, got str"),
        ("schema", raw(score="high"), "score: expected a number, got str"),
        ("schema", raw(proba={"a": None}), "proba: a probability is null"),
        ("schema", raw(label={}), "label: got object"),
        ("schema", raw(ts=BEGIN // 1000), "seconds?"),
        ("schema", raw(ts=BEGIN * 1000), "microseconds?"),
        ("schema", raw(ts=12), "before 1980"),
        ("schema", raw(ts="1970-01-01T00:00:00Z"), "before 1980"),
        ("unknown_model", raw(model="someone else's"), ""),
        ("non_finite", raw(ts=math.nan), "ts"),
        ("non_finite", raw(score=math.inf), "score"),
        ("non_finite", raw(score=None, proba={"a": math.nan}), "a"),
        ("non_finite", raw(value=math.nan), "value"),
        ("non_finite", raw(score=0).replace(b'"score": 0', b'"score": 1e400'), "score"),
        ("too_large", b" " * 10_000_000 + raw(), "bytes"),
        ("too_deep", b"[" * 2_000, ""),
        ("too_deep", raw(extra=None).replace(b"null", b'{"a": ' * 2_000 + b"1" + b"}" * 2_000), ""),
        ("future", raw(ts=BEGIN + 3_600_000), ""),
        ("duplicate", raw(id="before"), ""),
        ("over_limit", raw(id="x" * 257), "id"),
        ("over_limit", raw(id="x" * 100_000), "id"),
    ],
)
def test_a_bad_record_is_dropped_with_its_reason_and_the_rest_counts(
    reason: str, value: bytes | None, detail: str
) -> None:
    """One bad record between two sound ones: a letter with place and hash, never the payload."""
    bad = record(value, offset=7)
    state, outputs = apply(start(CONTROL, SOURCE), Batch("predictions", [SOUND[0], bad, SOUND[1]], 10), CONTROL)
    (letter,) = letters(outputs)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (reason, "predictions", SOURCE, 7)
    assert detail in letter.detail
    assert (letter.sha256, letter.size) == (hashlib.sha256(value or b"").hexdigest(), len(value or b""))
    assert letter.payload is None
    assert (state.applied, state.drops[reason], state.consumed) == (2, 1, 3)


@pytest.mark.parametrize(
    "value",
    [
        raw(features={"age": math.nan}),
        raw(features={"age": -math.inf}),
        raw(features={"age": 0}).replace(b'"age": 0', b'"age": 1e400'),
        raw(features={"age": 0}).replace(b'"age": 0', b'"age": ' + b"9" * 500),
        raw(features={"age": 0}).replace(b'"age": 0', b'"age": -' + b"9" * 5_000),
    ],
)
def test_a_feature_that_is_not_finite_counts_in_its_bin(value: bytes) -> None:
    state, outputs = apply(start(CONTROL, SOURCE), Batch("predictions", [record(value)], 1), CONTROL)
    (table,) = summed([outputs], CONTROL).tables.values()
    assert (state.applied, table["age", "non_finite"], table["wrong_type", ""]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("found", "kind"), [("41", "str"), (True, "bool"), ([1], "list"), ({"a": 1}, "object"), ([[math.nan]], "list")]
)
def test_a_feature_of_a_wrong_type_counts_as_missing_and_is_named(found: object, kind: str) -> None:
    one = record(raw(features={"age": found}))
    state, outputs = apply(start(CONTROL, SOURCE), Batch("predictions", [one], 1), CONTROL)
    truth = summed([outputs], CONTROL)
    (table,) = truth.tables.values()
    assert (state.applied, table["age", "missing"], table["wrong_type", ""]) == (1, 1, 1)
    assert [key[-3:] for key in truth.extras] == [("wrong_type", "age", kind)]


@pytest.mark.parametrize(
    ("key", "headers"),
    [(b"credit", ()), (b"a customer", [("trace", b"x"), ("model", b"credit")]), (None, [("model", b"credit")])],
)
def test_a_header_or_the_key_names_the_model_where_the_event_does_not(key: bytes | None, headers: Any) -> None:
    one = record({"id": "a", "ts": BEGIN}, key=key, headers=headers)
    state, _ = apply(start(CONTROL, SOURCE), Batch("predictions", [one], 1), CONTROL)
    assert state.applied == 1


def test_what_the_event_says_is_stronger_than_its_header() -> None:
    one = record(event(), key=b"churn", headers=[("model", b"churn")])
    state, _ = apply(start(CONTROL, SOURCE), Batch("predictions", [one], 1), CONTROL)
    assert list(state.maxima) == ["credit"]


def test_beyond_twenty_letters_of_a_reason_one_record_counts_the_others() -> None:
    records = [record(b"{", offset=i) for i in range(50)] + [record(b"[" * 2_000, offset=50)]
    state, outputs = apply(start(CONTROL, SOURCE), Batch("predictions", records, 51), CONTROL)
    found = letters(outputs)
    assert [(one.reason, one.kind, one.count, one.offset) for one in found[LETTERS - 1 :]] == [
        ("decode", "record", 1, LETTERS - 1),
        ("too_deep", "record", 1, 50),
        ("decode", "suppressed", 50 - LETTERS, LETTERS),
    ]
    assert state.drops["decode"] == 50


def test_a_payload_is_there_only_when_asked_for() -> None:
    state = start(CONTROL, SOURCE, dead_letter_payload=True)
    _, outputs = apply(state, Batch("predictions", [record(b"{"), record(b"{" + b" " * 100_000, offset=1)], 2), CONTROL)
    assert [one.payload for one in letters(outputs)] == [base64.b64encode(b"{").decode(), None]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["id", "model", "version", "ts", "features", "score", "proba", "label", "value", "segment", "cost", "status"]
    ),
    JSONS
    | st.sampled_from(["credit", BEGIN, {"age": 5}, {"age": [1]}, {"age": math.nan}, {"new": 1}, {"country": "FR"}]),
)
NAMED = st.dictionaries(st.text(max_size=4), JSONS, max_size=4)
VALUES = (
    st.none()
    | st.binary()
    | NAMED.map(lambda found: json.dumps(event(features=found, segment=found)).encode())
    | FIELDS.map(lambda fields: json.dumps(event(**fields)).encode())
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.none() | st.binary(), st.integers(-1, 1 << 60)), max_size=12),
    st.lists(st.tuples(st.text(), st.binary()), max_size=2),
)
def test_no_bytes_no_key_and_no_header_raise_and_all_are_accounted_for(
    made: list[tuple[bytes | None, bytes | None, int]], headers: list[tuple[str, bytes]]
) -> None:
    records = [
        PlainRecord("predictions", SOURCE, i, append, key, value, headers)
        for i, (value, key, append) in enumerate(made)
    ]
    state, outputs = apply(start(CONTROL, SOURCE), Batch("predictions", records, len(records)), CONTROL)
    told = sum(letter.count for letter in letters(outputs))
    assert state.consumed == len(records) == state.applied + told == state.applied + sum(state.drops.values())
