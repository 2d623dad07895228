"""Tables of every kind become the same rows; what cannot be read is named with its row and column."""

from __future__ import annotations

import datetime as dt
import gzip
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors.rows import NO_TIME, Rows
from streamer.table_files import CHUNK_ROWS, TableError
from streamer.tables import Reading, Table, parse_mapping, parse_rows, reading_of

NEW_YEAR = 1_735_689_600_000
CSV = "ts,age,country,score\n2025-01-01T00:00:00Z,41,FR,0.5\n2025-01-01T00:00:01Z,,NA,1e400\n"


def write(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def only(table: Table) -> Rows:
    [part] = table.parts()
    return part.rows


def plain(rows: Rows) -> dict[str, list[object]]:
    return {name: column.tolist() for name, column in rows.columns.items()}


def refused(path: Path, reading: Reading | None = None) -> str:
    with pytest.raises(TableError) as caught:
        list(Table(path, reading or Reading()).parts())
    assert caught.value.exit_code == 2
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_a_csv_has_numbers_texts_and_nothing(tmp_path: Path, name: str) -> None:
    table = Table(write(tmp_path, CSV, name), Reading(segments=("country",)))
    rows = only(table)
    assert (table.kind, table.features, table.outputs) == ("predictions", ("age",), ("score",))
    assert rows.ts.tolist() == [NEW_YEAR, NEW_YEAR + 1000]
    assert rows.segments["country"].tolist() == ["FR", "NA"]
    assert plain(rows)["score"] == [0.5, math.inf]
    assert np.isnan(rows.columns["age"]).tolist() == [False, True]


def test_the_same_rows_come_from_parquet_json_lines_and_csv(tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "ts": pa.array([dt.datetime(2025, 1, 1, tzinfo=dt.UTC)]),
                "n": pa.array([3], pa.int64()),
                "c": pa.array(["x"]).dictionary_encode(),
                "t": [True],
            }
        ),
        tmp_path / "data.parquet",
    )
    write(tmp_path, '{"ts": 1735689600000, "n": 3, "c": "x", "t": true}\n', "data.jsonl")
    write(tmp_path, "ts,n,c,t\n1735689600,3,x,True\n")
    write(
        tmp_path,
        "@relation r\n@attribute ts numeric\n@attribute n real\n@attribute 'c' {x,y}\n@attribute t {True,False}\n"
        "@data\n1735689600000,3,x,True\n",
        "data.arff",
    )
    found = {
        name: (only(table).ts.tolist(), plain(only(table)))
        for name in ("data.parquet", "data.jsonl", "data.csv", "data.arff")
        for table in [Table(tmp_path / name, Reading())]
    }
    expected = ([NEW_YEAR], {"n": [3.0], "c": ["x"], "t": ["true"]})
    assert found == dict.fromkeys(found, expected)


def test_our_own_events_as_json_lines_are_a_table(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"id":"a","model":"m","ts":1735689600000,"features":{"age":41},"segment":{"country":"FR"},"score":0.5}\n'
        '{"id":"b","model":"m","ts":1735689600001,"features":{"age":NaN},"segment":{"country":"DE"},"score":0.1}\n',
        "events.jsonl",
    )
    table = Table(path, Reading(segments=("country",)))
    assert (table.features, table.outputs) == (("age",), ("score",))
    assert only(table).segments["country"].tolist() == ["FR", "DE"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1735689600", NEW_YEAR),
        ("1735689600000", NEW_YEAR),
        ("1735689600000000", NEW_YEAR),
        ("1735689600000000000", NEW_YEAR),
        ("1735689600.25", NEW_YEAR + 250),
        ("2025-01-01", NEW_YEAR),
        ("2025-01-01 00:00:00", NEW_YEAR),
        ("2025-01-01T01:00:00.5+01:00", NEW_YEAR + 500),
        ("2025-01-01 00:00:00.5 UTC", NEW_YEAR + 500),
    ],
)
def test_a_time_is_what_people_write(tmp_path: Path, written: str, expected: int) -> None:
    assert only(Table(write(tmp_path, f"ts,a\n{written},1\n"), Reading())).ts.tolist() == [expected]


def test_written_times_in_parquet_are_times(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"ts": ["2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z"], "a": [1, 2]}), tmp_path / "a.parquet"
    )
    assert only(Table(tmp_path / "a.parquet", Reading())).ts.tolist() == [NEW_YEAR, NEW_YEAR + 1000]


def test_times_of_two_forms_in_one_column_are_read_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path, "ts,a\n2025-01-01,1\n2025-01-01T00:00:00Z,2\n")
    assert only(Table(path, Reading())).ts.tolist() == [NEW_YEAR, NEW_YEAR]


def test_a_table_without_times_takes_every_and_start(tmp_path: Path) -> None:
    table = Table(write(tmp_path, "1,2\n3,4\n5,6\n"), Reading(every=1000, start=NEW_YEAR, first=1))
    [part] = table.parts()
    assert (part.first, part.rows.ts.tolist(), plain(part.rows)) == (
        1, [NEW_YEAR + 1000, NEW_YEAR + 2000], {"c0": [3.0, 5.0], "c1": [4.0, 6.0]},
    )  # fmt: skip


def test_a_bag_of_rows_is_read_only_when_it_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n1\n")
    assert only(Table(path, Reading(), timeless=True)).ts.tolist() == [NO_TIME]
    assert refused(path).startswith("has no time column `ts`; map one with --map ts=COLUMN")


def test_features_are_chosen_by_name_glob_and_range(tmp_path: Path) -> None:
    path = write(tmp_path, "0,1,2,3,4\n5,6,7,8,9\n")
    reading = Reading(every=1, start=0, features=("c1..c2", "*4"))
    assert Table(path, reading).features == ("c1", "c2", "c4")


def test_mapped_columns_are_no_features(tmp_path: Path) -> None:
    path = write(tmp_path, "timestamp,identifier,y_pred_proba,y_pred,loan_defaulted,age\n2025-01-01,a,0.2,0,1,30\n")
    mapping = parse_mapping("ts=timestamp,id=identifier,score=y_pred_proba,label=y_pred,outcome=loan_defaulted")
    table = Table(path, Reading(mapping=mapping))
    assert (table.kind, table.features) == ("predictions", ("age",))
    assert plain(only(table)) == {"age": [30.0], "score": [0.2], "label": ["0"]}


def test_numbers_that_are_names_are_levels_as_in_the_stream(tmp_path: Path) -> None:
    path = write(tmp_path, "ts,a\n2025-01-01,2.0\n2025-01-01,2\n2025-01-01,2.5\n2025-01-01,\n")
    assert plain(only(Table(path, Reading(categorical=("a",))))) == {"a": ["2", "2", "2.5", None]}


def test_many_rows_come_in_chunks_and_a_slice_of_them_is_the_same(tmp_path: Path) -> None:
    size = CHUNK_ROWS + 10
    path = write(tmp_path, "ts,a\n" + "".join(f"{NEW_YEAR + i},{i}\n" for i in range(size)))
    parts = list(Table(path, Reading()).parts())
    assert [(part.first, len(part.rows)) for part in parts] == [(0, CHUNK_ROWS), (CHUNK_ROWS, 10)]
    sliced = list(Table(path, Reading(first=CHUNK_ROWS - 1, last=CHUNK_ROWS + 1)).parts())
    assert [(part.first, part.rows.columns["a"].tolist()) for part in sliced] == [
        (CHUNK_ROWS - 1, [CHUNK_ROWS - 1.0]), (CHUNK_ROWS, [float(CHUNK_ROWS)]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no rows"),
        ("ts,a\n", "has no rows"),
        ("ts,a,a\n1,2,3\n", "the column 'a' is there twice"),
        ("ts,a\n,2\n", "row 0, column ts: nothing is not a time"),
        ("ts,a\nyesterday,1\n", "row 0, column ts: 'yesterday' is not a time"),
        ("ts,a\n1,2,3\n", "line 2: has 3 cells, the others 2"),
    ],
)
def test_a_csv_that_cannot_be_read_says_where(tmp_path: Path, text: str, expected: str) -> None:
    assert refused(write(tmp_path, text)).startswith(expected)


def test_text_of_another_width_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("ts,a\n1735689600000,1\n".encode("utf-16"))
    assert refused(path) == "is UTF-16 text; save it as UTF-8"


def test_a_word_far_behind_the_head_is_missing_and_named_by_its_row(tmp_path: Path) -> None:
    rows = "".join(f"{NEW_YEAR + i},{'x' * 100},{i}\n" for i in range(90_000))
    table = Table(write(tmp_path, "ts,pad,a\n" + rows + f"{NEW_YEAR},x,oops\n"), Reading())
    values = np.concatenate([part.rows.columns["a"] for part in table.parts()])
    assert (values[:-1].tolist(), math.isnan(values[-1])) == ([float(i) for i in range(90_000)], True)
    assert table.tally.notes() == ["a: 1 text among its numbers, the first in row 90,000: 'oops'"]


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_a_lenient_reader_keeps_a_word_among_numbers_where_it_is(tmp_path: Path, name: str) -> None:
    size = 3 * CHUNK_ROWS
    values = [*range(size), "oops", 7.5]
    if name.endswith(".csv"):
        text = "ts,pad,a\n" + "".join(f"{NEW_YEAR},{'x' * 40},{value}\n" for value in values)
    else:
        lines = (f'"{value}"' if value == "oops" else value for value in values)
        text = "".join(f'{{"ts": {NEW_YEAR}, "pad": "x", "a": {value}}}\n' for value in lines)
    table = Table(write(tmp_path, text, name), Reading(), lenient=True)
    found = [value for part in table.parts() for value in part.rows.columns["a"].tolist()]
    assert found == values


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("data.jsonl", '{"ts": 1}\n[1]\n', "line 2: is not an object"),
        ("data.jsonl", '{"ts": 1}\n{oops\n', "line 2: is not JSON"),
        ("data.txt", "a", "unknown kind of file; known are .parquet, .csv"),
        ("data.parquet", "a", "Parquet"),
        ("data.arff", "@relation r\n", "has no @data"),
    ],
)
def test_other_files_that_cannot_be_read_say_why(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert expected in refused(write(tmp_path, text, name))


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading(features=("agee",)), "--features: agee: there is no such column; did you mean age?"),
        (Reading(mapping={"score": "scor"}), "--map: score=scor: there is no such column; did you mean score?"),
        (Reading(mapping={"tss": "ts"}), "--map: tss is neither a field nor a segment, did you mean ts?"),
        (Reading(segments=("contry",)), "segment contry: there is no such column; did you mean country?"),
        (Reading(every=1000), "--every and --start belong together"),
        (Reading(first=7), "has no rows 7:; it has 2"),
    ],
)
def test_options_that_do_not_fit_the_table_say_what_would(tmp_path: Path, reading: Reading, expected: str) -> None:
    assert refused(write(tmp_path, CSV), reading).startswith(expected)


@pytest.mark.parametrize("text", ["a:b", "5", "3:2", "-1:4"])
def test_rows_must_be_a_range(text: str) -> None:
    with pytest.raises(TableError, match="--rows"):
        parse_rows(text)


def test_options_come_before_the_configuration() -> None:
    base = Reading(mapping={"ts": "at"}, features=("a",), every=5)
    found = reading_of(base, map="id=key", features="b,c", rows="1:2", start="2025-01-01")
    assert found == Reading(
        mapping={"ts": "at", "id": "key"}, features=("b", "c"), every=5, start=NEW_YEAR, first=1, last=2
    )


@pytest.mark.parametrize(("option", "text"), [("every", "5"), ("start", "noon"), ("map", "ts"), ("map", "a=b,a=c")])
def test_a_wrong_option_is_named(option: str, text: str) -> None:
    with pytest.raises(TableError, match=f"--{option}: "):
        reading_of(Reading(), **{option: text})


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_columns_may_be_parted_by_something_else(tmp_path: Path, delimiter: str) -> None:
    text = "ts,a,b\n1735689600,1,x\n".replace(",", delimiter)
    assert plain(only(Table(write(tmp_path, text), Reading()))) == {"a": [1.0], "b": ["x"]}


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_line_breaks_within_quotes_are_part_of_names_and_values(tmp_path: Path, name: str) -> None:
    # More than one block of 8 MB.
    rows = "".join(f'{NEW_YEAR + i},{i},"a\n{"x" * 300}, ""é"""\n' for i in range(40_000))
    table = Table(write(tmp_path, 'ts,"n\no",text\n' + rows, name), Reading())
    found = [part.rows for part in table.parts()]
    assert table.features == ("n\no", "text")
    assert np.concatenate([rows.columns["n\no"] for rows in found]).tolist() == list(range(40_000))
    assert {text for rows in found for text in rows.columns["text"]} == {f'a\n{"x" * 300}, "é"'}


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_end_as_other_systems_end_them_and_a_mark_of_order_is_skipped(tmp_path: Path, end: str) -> None:
    text = "\ufeffts,a,b\n1735689600,1,x\n1735689601,2,y\n".replace("\n", end)
    assert plain(only(Table(write(tmp_path, text), Reading()))) == {"a": [1.0, 2.0], "b": ["x", "y"]}


def test_an_index_that_pandas_wrote_has_a_name(tmp_path: Path) -> None:
    assert Table(write(tmp_path, ",ts,a\n0,1735689600,1\n"), Reading()).features == ("c0", "a")


@pytest.mark.parametrize("name", ["data.csv.gz", "data.jsonl.gz"])
def test_a_file_cut_short_far_behind_its_head_is_an_error_of_the_file(tmp_path: Path, name: str) -> None:
    numbers = np.random.default_rng(1).integers(0, 10**12, 300_000).tolist()
    text = "a,b\n" + "".join(f"{n},{'x' * 60}\n" for n in numbers)  # three blocks
    path = write(tmp_path, text if "csv" in name else "".join(f'{{"a": {n}}}\n' for n in numbers), name)
    path.write_bytes(path.read_bytes()[:-1000])
    table = Table(path, Reading(), timeless=True)
    with pytest.raises(TableError, match=r"data\..*: \w+"):
        list(table.parts())


def test_text_that_is_not_utf_8_leaves_no_thread_that_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"ts,a\n" + "1735689600,é\n".encode("latin-1") * 1000)
    code = (
        "import sys; from pathlib import Path; from streamer.tables import Reading, Table, TableError\n"
        "try: Table(Path(sys.argv[1]), Reading())\n"
        "except TableError as error: sys.exit(str(error))"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "line 2: is not UTF-8 text" in ended.stderr


def test_json_lines_hold_numbers_texts_and_what_is_not_finite_as_the_stream_does(tmp_path: Path) -> None:
    path = write(tmp_path, '{"ts": 0, "a": 1}\n{"ts": 0, "a": NaN}\n{"ts": 0, "a": -1e400}\n{"ts": 0}\n', "d.jsonl")
    values = only(Table(path, Reading())).columns["a"]
    assert values[:3].tolist() == [1.0, math.inf, -math.inf]
    assert math.isnan(values[3])


def test_a_text_among_numbers_changes_nothing_about_its_neighbours(tmp_path: Path) -> None:
    """NaN beside it is not finite, as it is in the stream and in a chunk without texts; it was missing once."""
    lines = ('"a": 1', '"a": NaN', '"a": "words"', '"a": 1' + "0" * 400, '"b": 1')
    path = write(tmp_path, "".join(f'{{"ts": 0, {line}}}\n' for line in lines), "d.jsonl")
    table = Table(path, Reading(features=("a",)), kinds={"a": "number"}, lenient=True)
    values = only(table).columns["a"].tolist()
    assert values == [1.0, math.inf, "words", math.inf, None]


@pytest.mark.parametrize("value", ['"1.5"', "true"])
def test_a_number_as_a_text_is_of_a_wrong_type(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f'{{"ts": 0, "a": 1}}\n{{"ts": 0, "a": {value}}}\n', "d.jsonl")
    kept = Table(path, Reading(), kinds={"a": "number"}, lenient=True)
    assert only(kept).columns["a"].tolist() == [1, "1.5" if '"' in value else True]
    with pytest.raises(TableError, match=r"row 1, column a: .* is not a number, nor are 1 of"):
        list(Table(path, Reading(), kinds={"a": "number"}).parts())


def test_a_lenient_reader_keeps_a_text_among_scores_from_the_first_row_on(tmp_path: Path) -> None:
    path = write(tmp_path, "ts,score\n1735689600,oops\n1735689600,0.5\n")
    assert only(Table(path, Reading(), lenient=True)).columns["score"].tolist() == ["oops", 0.5]
    assert "row 0, column score: 'oops' is not a number" in refused(path)
