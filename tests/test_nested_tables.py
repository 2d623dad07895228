"""Tables of objects within objects: what becomes a column, what can be named, what is said to be left out."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.tables import Reading, Table

NEW_YEAR = 1_735_689_600
EVENTS = [
    {
        "req": {"at": NEW_YEAR + i, "user": {"country": "FR", "home": {"rooms": i}}},
        "in": {"age": 30.0 + i},
        "out": [{"p": 0.8}, {"p": 0.2}],
        "tags": ["a"],
    }
    for i in range(3)
]


@pytest.fixture(params=["nested.jsonl", "nested.parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found: Path = tmp_path / request.param
    if found.suffix == ".jsonl":
        found.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    else:
        pq.write_table(pa.Table.from_pylist(EVENTS), found)
    return found


def test_fields_at_any_depth_are_columns(path: Path) -> None:
    mapping = {"ts": "req.at", "segment.country": "req.user.country"}
    table = Table(path, Reading(mapping=mapping, segments=("country",)))
    [part] = table.parts()
    assert {name: column.tolist() for name, column in part.rows.columns.items()} == {
        "req.user.home.rooms": [0.0, 1.0, 2.0],
        "in.age": [30.0, 31.0, 32.0],
    }
    assert part.rows.segments["country"].tolist() == ["FR"] * 3
    assert part.rows.ts.tolist() == [1000 * (NEW_YEAR + i) for i in range(3)]


def test_lists_are_no_features_and_said_to_be_left_out(path: Path) -> None:
    [note] = Table(path, Reading(mapping={"ts": "req.at"})).file.notes
    assert note.startswith("lists are left out: out, tags")


def test_an_entry_of_a_list_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nested.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    table = Table(path, Reading(mapping={"ts": "req.at", "score": "out.1.p"}, features=("in.*", "tags.0")))
    [part] = table.parts()
    assert part.rows.columns["score"].tolist() == [0.2] * 3
    assert part.rows.columns["tags.0"].tolist() == ["a"] * 3
    assert table.features == ("in.age", "tags.0")


def test_a_feature_of_ours_that_is_an_object_now_and_then_is_missing_and_counted(tmp_path: Path) -> None:
    """As in the stream: of a wrong type. It was missing without a word."""
    path = tmp_path / "events.jsonl"
    odd = [{"a": 1.0, "b": "x"}, {"a": {"c": 2.0}, "b": [3.0]}, {"a": 3.0, "b": "y"}]
    path.write_text("".join(json.dumps({"ts": NEW_YEAR * 1000, "features": one}) + "\n" for one in odd))
    table = Table(path, Reading(), lenient=True)
    [part] = table.parts()
    assert {name: column.tolist() for name, column in part.rows.columns.items()} == {
        "a": [1.0, {"c": 2.0}, 3.0],
        "b": ["x", None, "y"],
    }
    assert table.tally.notes() == [
        "features.a: 1 text among its numbers, the first in row 1: \"{'c': 2.0}\"",
        "features.b: 1 object or list among its values, missing, the first in row 1: '[3.0]'",
    ]


def test_a_feature_of_ours_that_is_an_object_is_none(tmp_path: Path) -> None:
    """As in the stream, where it is of a wrong type."""
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"ts": NEW_YEAR * 1000, "features": {"a": 1.0, "b": {"c": 2.0}, "d": [3.0]}}) + "\n")
    assert Table(path, Reading()).features == ("a",)
