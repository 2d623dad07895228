"""Foreign JSON by a mapping."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamer.core.mappings import input_mapping
from streamer.core.profiling import apply, start
from streamer.core.records import Batch
from streamer.formats.mapping import TopicMapping, split
from tests.core.stage1 import BEGIN, CONTROL, SOURCE, record, summed

MAPPING = TopicMapping(
    fields={
        "id": "request.id",
        "ts": "meta.at",
        "score": "output.scores.1",
        "version": "meta.model_version",
        "segment.country": "request.geo.country",
    },
    features={"age": r"input.client\.age", "grade": "input.grade"},
    constants={"model": "credit"},
)


def foreign(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "request": {"id": "r1", "geo": {"country": "FR"}},
        "meta": {"at": BEGIN, "model_version": 7},
        "input": {"client.age": 41, "grade": 2, "unused": 1},
        "output": {"scores": [0.9, 0.1]},
    }
    return {**made, **changes}


def counted(mapping: TopicMapping, *events: Any) -> tuple[dict[str, int], dict[tuple[Any, ...], Any]]:
    control = replace(CONTROL, mappings={"predictions": (input_mapping("predictions", mapping),)})
    records = [record(event, offset=i) for i, event in enumerate(events)]
    state, outputs = apply(start(control, SOURCE), Batch("predictions", records, len(records)), control)
    return {reason: n for reason, n in state.drops.items() if n}, dict(summed([outputs], control).tables)


def test_fields_features_segments_and_constants_come_from_their_paths() -> None:
    drops, tables = counted(MAPPING, foreign())
    ((key, table),) = tables.items()
    assert drops == {}
    assert key[1:4] == (BEGIN, "7", ("FR",))
    assert (table["age", "bin 1"], table["grade", "2"], table["score", "bin 0"], table["unknown", ""]) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("unit", "at"),
    [
        ("ms", BEGIN),
        ("ms", str(BEGIN)),
        ("s", BEGIN // 1000),
        ("s", BEGIN / 1000),
        ("us", BEGIN * 1000),
        ("ns", BEGIN * 1_000_000),
        ("rfc3339", "2025-01-01T00:00:00Z"),
        ("rfc3339", "2025-01-01T01:00:00+01:00"),
        ("%d.%m.%Y %H:%M", "01.01.2025 00:00"),
        ("%d.%m.%Y %H:%M %z", "01.01.2025 02:00 +0200"),
    ],
)
def test_times_are_read_in_their_unit(unit: str, at: object) -> None:
    mapping = TopicMapping(fields={"id": "id", "ts": "at"}, constants={"model": "credit"}, timestamp=unit)
    drops, tables = counted(mapping, {"id": "a", "at": at})
    assert (drops, [key[1] for key in tables]) == ({}, [BEGIN])


@pytest.mark.parametrize(
    ("unit", "at"), [("s", "soon"), ("s", True), ("ms", []), ("%Y", "25"), ("rfc3339", "25"), ("s", "²")]
)
def test_a_time_that_cannot_be_read_is_dropped(unit: str, at: object) -> None:
    mapping = TopicMapping(fields={"id": "id", "ts": "at"}, constants={"model": "credit"}, timestamp=unit)
    assert counted(mapping, {"id": "a", "at": at})[0] == {"schema": 1}


def test_a_whole_object_can_be_the_features() -> None:
    mapping = TopicMapping(fields={"id": "id", "ts": "at", "model": "m"}, features="in.*")
    _, tables = counted(mapping, {"id": "a", "at": BEGIN, "m": "credit", "in": {"age": 20, "shoe": 44}})
    (table,) = tables.values()
    assert (table["age", "bin 0"], table["unknown", ""]) == (1, 1)


def test_without_an_id_nothing_repeats() -> None:
    mapping = TopicMapping(fields={"ts": "at"}, constants={"model": "credit"})
    drops, tables = counted(mapping, {"at": BEGIN}, {"at": BEGIN})
    assert (drops, sum(table["n", ""] for table in tables.values())) == ({}, 2)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, "schema"),
        (foreign(request={"geo": 5}), "schema"),
        (foreign(output={"scores": ["a", "b"]}), "schema"),
        (foreign(output={"scores": [0.1, float("nan")]}), "non_finite"),
        (b"{", "decode"),
        (b"[]", "schema"),
    ],
)
def test_what_is_not_where_the_mapping_says_is_dropped_with_its_reason(event: Any, reason: str) -> None:
    assert counted(MAPPING, event)[0] == {reason: 1}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"fields": {"ts": "a", "when": "b"}}, "'when' is none of ours"),
        ({"fields": {"id": "a"}}, "ts must be mapped"),
        ({"fields": {"ts": "a"}, "features": "in"}, "features"),
        ({"fields": {"ts": "a"}, "timestamp": "minutes"}, "timestamp"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_when_it_is_built(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TopicMapping(**settings)


def test_a_path_may_hold_positions_and_dots() -> None:
    assert split(r"a.0.b\.c.00") == ("a", 0, "b.c", 0)
    assert json.loads('{"0": 1}') == {"0": 1}
