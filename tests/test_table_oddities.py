"""Tables that are not quite right: each oddity is counted and named by its place, and all else counts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.table_columns import TableError
from streamer.table_csv import values_among
from streamer.table_tally import Tally
from streamer.tables import Reading, Table
from tests.test_tables import NEW_YEAR, only, plain, refused, write

#: 1,000 good lines: what is odd below is less than one in a hundred.
GOOD = "".join(f"{NEW_YEAR + i},{i % 97},x\n" for i in range(1000))
HEAD = "ts,a,b\n"


def notes(table: Table) -> list[str]:
    list(table.parts())
    return table.tally.notes()


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (b"1735689600,7\n", "1 line that cannot be read left out, the first is line 1,002: has 2 cells, the others 3"),
        (b"1,2,3,4\n", "1 line that cannot be read left out, the first is line 1,002: has 4 cells, the others 3"),
        (b"1,2,\xe9\n", "1 line that cannot be read left out, the first is line 1,002: is not UTF-8 text"),
        (b"1,\xe9,x\n", "1 line that cannot be read left out, the first is line 1,002: is not UTF-8 text"),
        (b"1,\xe9\n", "1 line that cannot be read left out, the first is line 1,002: has 2 cells, the others 3"),
        (b"1,2,\xe9,\xff\n", "1 line that cannot be read left out, the first is line 1,002: has 4 cells, the others 3"),
    ],
)
def test_a_line_that_is_none_is_left_out_and_named(tmp_path: Path, line: bytes, note: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes((HEAD + GOOD).encode() + line + f"{NEW_YEAR},5,y\n".encode())
    table = Table(path, Reading())
    rows = only(table)
    assert (len(rows), rows.columns["a"][-1], rows.columns["b"][-1]) == (1001, 5.0, "y")
    assert table.tally.notes() == [note]
    assert table.tally.left_out == {"unreadable_lines": 1}


def test_a_long_file_with_every_kind_of_bad_line_counts_each_once(tmp_path: Path) -> None:
    """Arrow stops at a line that is of a wrong length and no UTF-8: what was read before is not read twice."""
    long = "".join(f"{NEW_YEAR + i},{i},{'y' * 90}\n" for i in range(120_000))
    bad = b"1,\xe9\n" + b"2,3,\xe9\n" + b"3,\xff,x\n" + b"4,5\n"
    path = tmp_path / "data.csv"
    path.write_bytes((HEAD + long).encode() + bad + GOOD.encode() + bad)
    table = Table(path, Reading())
    parts = [part.rows for part in table.parts()]
    numbers = np.concatenate([rows.columns["a"] for rows in parts])
    expected = np.concatenate([np.arange(120_000.0), np.arange(1000) % 97])
    assert np.array_equal(numbers, expected)
    assert table.tally.left_out == {"unreadable_lines": 8}
    assert table.tally.notes()[0].startswith("8 lines that cannot be read left out, the first is line 120,002: ")


def test_a_line_of_json_that_is_none_is_left_out_and_named(tmp_path: Path) -> None:
    good = "".join(f'{{"ts": {NEW_YEAR}, "a": {i}}}\n' for i in range(1000))
    table = Table(write(tmp_path, good + "{oops\n[1]\n", "data.jsonl"), Reading())
    assert len(only(table)) == 1000
    [note] = table.tally.notes()
    assert note.startswith("2 lines that cannot be read left out, the first is line 1,001: is not JSON")


@pytest.mark.parametrize("word", ["error", "12 kg", "1,5"])
def test_a_few_words_leave_a_column_one_of_numbers(tmp_path: Path, word: str) -> None:
    text = HEAD + f'{NEW_YEAR},"{word}",x\n' + GOOD
    table = Table(write(tmp_path, text), Reading())
    rows = only(table)
    assert math.isnan(rows.columns["a"][0])
    assert rows.columns["a"][1:4].tolist() == [0.0, 1.0, 2.0]
    assert table.tally.notes() == [f"a: 1 text among its numbers, the first in row 0: {word!r}"]
    kept = Table(write(tmp_path, text), Reading(), lenient=True)
    assert only(kept).columns["a"][:2].tolist() == [word, 0.0]


@pytest.mark.parametrize("nothing", ["N/A", "n/a", "-", "--", "<NA>", "NULL", " ", "#N/A", "."])
def test_the_usual_words_for_nothing_are_nothing(tmp_path: Path, nothing: str) -> None:
    table = Table(write(tmp_path, HEAD + f"{NEW_YEAR},{nothing},x\n{NEW_YEAR},1,x\n"), Reading())
    assert np.isnan(only(table).columns["a"]).tolist() == [True, False]
    assert table.tally.notes() == []


def test_a_column_with_many_words_is_a_category(tmp_path: Path) -> None:
    text = HEAD + "".join(f"{NEW_YEAR},{'high' if i % 50 == 0 else i % 7},x\n" for i in range(1000))
    assert Table(write(tmp_path, text), Reading()).kinds == {"a": "text", "b": "text"}


def test_words_in_a_typed_file_are_counted_and_told_once_per_reading(tmp_path: Path) -> None:
    values = [*range(500), "n.n."]
    text = "".join(f'{{"ts": {NEW_YEAR}, "a": {json.dumps(value)}}}\n' for value in values)
    table = Table(write(tmp_path, text, "data.jsonl"), Reading())
    for _ in range(2):
        assert notes(table) == ["a: 1 text among its numbers, the first in row 500: 'n.n.'"]
    assert math.isnan(only(table).columns["a"][500])


@pytest.mark.parametrize("time", ["", "N/A", "soon"])
def test_a_row_without_a_time_is_dropped_not_the_table(tmp_path: Path, time: str) -> None:
    table = Table(write(tmp_path, HEAD + GOOD + f"{time},5,y\n"), Reading())
    rows = only(table)
    assert (rows.ts[-1], rows.ts[-2]) == (-1, NEW_YEAR + 999)
    assert table.tally.untimed.count == 1
    assert table.tally.notes()[-1].startswith("1 row without a time dropped, the first is row 1,000: ")


def test_written_times_may_be_missing_too(tmp_path: Path) -> None:
    table = Table(write(tmp_path, "ts,a\n2025-01-01,1\n,2\n2025-01-01,3\n"), Reading())
    assert only(table).ts.tolist() == [NEW_YEAR, -1, NEW_YEAR]
    pq.write_table(
        pa.table({"ts": pa.array([None, 1735689600000], pa.timestamp("ms")), "a": [1, 2]}), tmp_path / "a.parquet"
    )
    assert only(Table(tmp_path / "a.parquet", Reading())).ts.tolist() == [-1, NEW_YEAR]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_numbers_of_seconds(tmp_path: Path, unit: str) -> None:
    """Also where they are to be a category: by their numbers."""
    of_unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    took = pa.array([90 * of_unit, None, -of_unit], pa.duration(unit))
    pq.write_table(pa.table({"ts": [NEW_YEAR] * 3, "took": took}), tmp_path / "a.parquet")
    column = only(Table(tmp_path / "a.parquet", Reading())).columns["took"]
    assert column[[0, 2]].tolist() == [90.0, -1.0]
    assert math.isnan(column[1])
    as_category = Table(tmp_path / "a.parquet", Reading(categorical=("took",)))
    assert only(as_category).columns["took"].tolist() == ["90", None, "-1"]


def test_one_time_in_other_units_does_not_change_what_the_others_mean(tmp_path: Path) -> None:
    text = "ts,a\n" + "".join(f"{NEW_YEAR // 1000 + i},{i}\n" for i in range(99)) + "4070908800000,99\n"
    assert only(Table(write(tmp_path, text), Reading())).ts[:2].tolist() == [NEW_YEAR, NEW_YEAR + 1000]


def test_a_first_line_that_looks_like_data_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "2025-01-01,41,FR,0.5\n2025-01-02,37,DE,0.25\n")
    assert refused(path).startswith("line 1: has '2025-01-01', '41', '0.5' where names of columns are expected")
    table = Table(path, Reading(header=False, mapping={"ts": "c0"}))
    assert (table.features, len(only(table))) == (("c1", "c2", "c3"), 2)
    named = Table(path, Reading(header=True, mapping={"ts": "2025-01-01"}))
    assert (named.features, len(only(named))) == (("41", "FR", "0.5"), 1)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["ts", "a"], []),
        (["ts", "0", "1", "2"], []),
        (["id", "2019", "2020", "2021"], []),
        (["", "0"], []),
        (["ts", "nan", "inf"], []),
        (["FR", "41", "7"], ["41", "7"]),
        (["FR", "41"], ["41"]),
        (["a", "-1.5e3"], ["-1.5e3"]),
        (["2025-01-01T00:00:00Z", "x"], ["2025-01-01T00:00:00Z"]),
    ],
)
def test_names_that_are_values_are_known_by_their_form(names: list[str], values: list[str]) -> None:
    assert values_among(names) == values


OWN = [
    {"id": "1", "model": "m", "ts": NEW_YEAR, "features": {"a": 1.0}, "score": 0.5},
    {"id": "2", "model": "other", "ts": NEW_YEAR, "features": {"a": 9.0}, "score": 0.9},
    {"id": "3", "model": "m", "ts": NEW_YEAR + 1, "features": {"a": 2.0}, "score": 0.6},
]


def test_rows_of_other_models_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(json.dumps(event) + "\n" for event in OWN), "events.jsonl")
    table = Table(path, Reading(), model="m", ids=True)
    [part] = table.parts()
    assert part.rows.columns["a"].tolist() == [1.0, 2.0]
    assert part.places is not None
    assert (part.first, part.places.tolist(), part.ids) == (0, [0, 2], ["1", "3"])
    assert (table.tally.others, table.tally.notes()) == (1, ["1 row of other models left out"])


def test_a_table_says_whose_its_rows_are_only_where_it_is_told_or_ours(tmp_path: Path) -> None:
    path = write(tmp_path, "ts,model,a\n2025-01-01,golf,1\n2025-01-01,polo,2\n")
    assert Table(path, Reading(), model="m").features == ("model", "a")
    mapped = Table(path, Reading(mapping={"model": "model"}), model="polo")
    assert plain(only(mapped)) == {"a": [2.0]}
    with pytest.raises(TableError, match=r"has no row of model 'm'; there are rows of 'golf', 'polo'"):
        list(Table(path, Reading(mapping={"model": "model"}), model="m").parts())


def proba(**shares: object) -> dict[str, object]:
    return {"id": "1", "model": "m", "ts": NEW_YEAR, "features": {"a": 1.0}, "proba": shares}


@pytest.mark.parametrize("name", ["events.jsonl", "events.parquet"])
def test_probabilities_become_score_and_label_as_in_the_stream(tmp_path: Path, name: str) -> None:
    events = [proba(no=0.7, yes=0.3), proba(no=0.2, yes=0.8), proba(no=0.25, yes=0.5, maybe=0.25), proba()]
    if name.endswith("jsonl"):
        path = write(tmp_path, "".join(json.dumps(event) + "\n" for event in events), name)
    else:
        full = [{**e, "proba": {"no": None, "yes": None, "maybe": None} | dict(e["proba"])} for e in events]  # type: ignore[call-overload]
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(full), path)
    table = Table(path, Reading())
    assert (table.kind, table.features, table.outputs) == ("predictions", ("a",), ("score", "label"))
    rows = only(table)
    assert rows.columns["score"][:3].tolist() == [0.3, 0.8, 0.5]
    assert math.isnan(rows.columns["score"][3])
    assert rows.columns["label"].tolist() == ["no", "yes", "yes", None]


def test_a_score_of_its_own_comes_before_probabilities(tmp_path: Path) -> None:
    events = [{**proba(no=0.7, yes=0.3), "score": 0.9}, {**proba(no=0.7, yes=0.3), "label": "x"}]
    path = write(tmp_path, "".join(json.dumps(event) + "\n" for event in events), "events.jsonl")
    assert plain(only(Table(path, Reading()))) == {"a": [1.0, 1.0], "score": [0.9, 0.3], "label": ["no", "x"]}


def test_a_probability_that_is_none_is_kept_for_the_stage_that_refuses_it(tmp_path: Path) -> None:
    events = [proba(no=0.7, yes="much"), *[proba(no=0.7, yes=0.3)] * 200]
    path = write(tmp_path, "".join(json.dumps(event) + "\n" for event in events), "events.jsonl")
    assert only(Table(path, Reading(), lenient=True)).columns["score"][:2].tolist() == ["much", 0.3]


def test_probabilities_as_json_in_a_column_are_read_as_those_of_an_event(tmp_path: Path) -> None:
    """In a CSV there is no other way: a column `proba` of objects is no feature, and one of numbers is one."""
    texts = ['{"no": 0.7, "yes": 0.3}', '{"no": 0.2, "yes": 0.8}', "", '{"no": 0.25, "yes": 0.5, "maybe": 0.25}']
    lines = [f'2025-01-01,1,"{text.replace(chr(34), chr(34) * 2)}"' for text in texts]
    path = write(tmp_path, "ts,a,proba\n" + "\n".join(lines) + "\n")
    table = Table(path, Reading())
    assert (table.kind, table.features, table.outputs) == ("predictions", ("a",), ("score", "label"))
    rows = only(table)
    assert rows.columns["score"][[0, 1, 3]].tolist() == [0.3, 0.8, 0.5]
    assert rows.columns["label"].tolist() == ["no", "yes", None, "yes"]
    assert rows.proba is not None
    assert [None if one is None else len(one) for one in rows.proba] == [2, 2, None, 3]
    plain_numbers = write(tmp_path, "ts,a,proba\n2025-01-01,1,0.25\n2025-01-01,1,0.5\n")
    assert Table(plain_numbers, Reading()).features == ("a", "proba")


@pytest.mark.parametrize("name", ["events.jsonl", "events.csv"])
def test_a_reference_does_not_learn_from_probabilities_that_are_none(tmp_path: Path, name: str) -> None:
    """The stream refuses such rows; one score of 1.5 would make a reference take all of them for ranks."""
    shares = [{"a": 1.5, "b": -0.5}, {"a": 0.5, "b": 0.2}, *[{"a": 0.4, "b": 0.6}] * 300]
    if name.endswith("jsonl"):
        text = "".join(json.dumps({"ts": NEW_YEAR, "features": {"x": 1}, "proba": one}) + "\n" for one in shares)
    else:
        quoted = [json.dumps(one).replace('"', '""') for one in shares]
        text = "ts,x,proba\n" + "".join(f'2025-01-01,1,"{one}"\n' for one in quoted)
    table = Table(write(tmp_path, text, name), Reading())
    rows = only(table)
    assert np.isnan(rows.columns["score"][:2]).all()
    assert (rows.columns["score"][2], rows.columns["label"][:3].tolist()) == (0.6, [None, None, "b"])
    assert table.tally.words["proba"].count == 2


def test_another_column_may_hold_the_probabilities(tmp_path: Path) -> None:
    path = write(tmp_path, "ts,a,votes\n2025-01-01,1,\"{\"\"b\"\": 1.0}\"\n")
    table = Table(path, Reading(mapping={"proba": "votes"}))
    assert table.features == ("a",)
    assert only(table).columns["label"].tolist() == ["b"]
    with pytest.raises(TableError, match="--map: proba=vote: there is no such column; did you mean votes"):
        Table(path, Reading(mapping={"proba": "vote"}))


def test_a_probability_that_cannot_be_read_is_counted_and_left_to_the_stage(tmp_path: Path) -> None:
    good = '"{""a"": 0.4, ""b"": 0.6}"'
    path = write(tmp_path, "ts,x,proba\n2025-01-01,1,nonsense\n" + f"2025-01-01,1,{good}\n" * 200)
    table = Table(path, Reading(), lenient=True)
    rows = only(table)
    assert rows.proba is not None
    assert rows.proba[:2].tolist() == ["nonsense", {"a": 0.4, "b": 0.6}]
    assert table.tally.words["proba"].count == 1
    broken = write(tmp_path, "ts,x,proba\n" + "2025-01-01,1,{a\n" * 9)
    with pytest.raises(TableError, match=r"column proba: '\{a' is no JSON object of numbers, nor are 9 of the first 9"):
        list(Table(broken, Reading()).parts())


def test_a_reading_without_oddities_says_nothing() -> None:
    assert (Tally().notes(), Tally().left_out) == ([], {})
