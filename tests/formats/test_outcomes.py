"""Outcomes as JSON, our own and foreign: what is read, what is refused, and who says which model is meant."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from streamer.core.records import PlainRecord
from streamer.formats.mapping import TopicMapping
from streamer.formats.outcomes import decode


def record(value: bytes, *, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()) -> PlainRecord:
    return PlainRecord("outcomes", 0, 0, 0, key, value, headers)


def read(value: bytes, **how: Any) -> tuple[Any, list[tuple[str, str]]]:
    made = record(value, **how)
    decoded = decode([made], [value], models=("credit",))
    return decoded.rows[0], [(one.reason.value, one.detail) for one in decoded.refusals]


@pytest.mark.parametrize(
    ("value", "label", "number"),
    [
        (b'{"id": "a", "ts": 5, "label": "yes"}', "yes", None),
        (b'{"id": 7, "ts": 5.5, "label": true, "business": {"eur": 3}}', True, None),
        (b'{"id": "a", "ts": "2025-01-01T00:00:00Z", "value": 2}', None, 2.0),
    ],
)
def test_an_outcome_says_a_class_or_a_number(value: bytes, label: object, number: float | None) -> None:
    row, refused = read(value)
    assert (row.label, row.value, refused) == (label, number, [])


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b"{", "decode", ""),
        (b"[]", "decode", "expected an object"),
        (b'{"ts": 5, "label": 1}', "schema", "id: is missing"),
        (b'{"id": "a", "label": 1}', "schema", "ts: is missing"),
        (b'{"id": "a", "ts": NaN, "label": 1}', "non_finite", "ts"),
        (b'{"id": "a", "ts": 5, "value": 1e999}', "non_finite", "value"),
        (b'{"id": "a", "ts": 5, "value": "2"}', "schema", "value: expected a number, got str"),
        (b'{"id": "a", "ts": 5, "label": [1]}', "schema", "label: expected a class, got list"),
        (b'{"id": true, "ts": 5, "label": 1}', "schema", "id: expected text, got bool"),
    ],
)
def test_what_is_no_outcome_is_refused_with_its_reason(value: bytes, reason: str, detail: str) -> None:
    row, [refused] = read(value)
    assert row is None
    assert (refused[0], refused[1][: len(detail)]) == (reason, detail)


@pytest.mark.parametrize(
    ("how", "model"),
    [
        ({}, None),
        ({"headers": (("model", b"churn"),)}, "churn"),
        ({"key": b"credit"}, "credit"),
        ({"key": b"an-id"}, None),
    ],
)
def test_header_or_key_speak_for_an_outcome_that_names_no_model(how: dict[str, Any], model: str | None) -> None:
    row, _ = read(b'{"id": "a", "ts": 5, "label": 1}', **how)
    assert row.model == model


def test_an_outcome_of_another_form_is_read_by_its_mapping() -> None:
    fields = {"id": "request.uuid", "ts": "at", "label": "truth.0"}
    mapping = TopicMapping(fields=fields, constants={"model": "credit"}, timestamp="s")
    values = [b'{"request": {"uuid": "u1"}, "at": 5, "truth": ["no"]}', b'{"at": 5, "truth": ["no"]}']
    decoded = decode([], values, models=(), mapping=mapping)
    first, second = decoded.rows
    assert first is not None
    assert second is None
    assert (first.id, first.ts, first.label, first.model) == ("u1", 5000, "no", "credit")
    assert [one.detail for one in decoded.refusals] == ["id: is missing"]


def test_an_echo_is_kept_as_it_came() -> None:
    row, _ = read(b'{"id": "a", "ts": 5, "label": 1, "prediction": {"id": "a", "score": 0.5}}')
    assert bytes(row.prediction) == b'{"id": "a", "score": 0.5}'
    slow, _ = read(b'{"id": "a", "ts": 5, "label": 1, "prediction": {"id": "a", "score": NaN}}')
    assert math.isnan(json.loads(bytes(slow.prediction))["score"])
