"""Files with rows: Parquet, CSV, ARFF and JSON Lines (each also .gz), read in chunks of bounded size.

A column is a `number` (float64, NaN missing, ±inf kept), a `text` (object array of str or None) or a `time` (int64 ms).
What it is, the file says (Parquet, ARFF), or its first chunk (CSV, JSON Lines); a caller may decide otherwise.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from detectors.rows import level_text
from schemas.errors import TriplineError

Kind: TypeAlias = Literal["number", "text", "time"]
Column: TypeAlias = npt.NDArray[Any]
Chunk: TypeAlias = dict[str, Column]

CHUNK_ROWS = 65_536
_BLOCK_BYTES = 8 << 20
#: What numbers' columns call nothing. In text columns only the empty string is: NA is a country.
_NULLS = ["", "NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "?", "#N/A", "-nan"]
_TRUTH = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false", "true": "true", "false": "false"}


class TableError(TriplineError):
    """A table that cannot be read: the file, the row (from 0) and the column where that is known."""

    exit_code = 2


@dataclass
class TableFile:
    """An open file: its columns in order, what each is, and its rows as often as one likes."""

    path: Path
    kinds: dict[str, Kind]
    header: bool = True
    total: int | None = None
    _arff: tuple[int, list[str]] | None = field(default=None, repr=False)

    @property
    def form(self) -> str:
        """Format by the file's name, without `.gz`."""
        return _form(self.path)

    def chunks(self, columns: Sequence[str], kinds: Mapping[str, Kind] | None = None) -> Iterator[Chunk]:
        """The rows of some columns, up to 65,536 at a time. kinds: what a column is to be read as.

        A text in a column that is to be a number is an error that names its row.
        """
        wanted: dict[str, Kind] = {name: (kinds or {}).get(name, self.kinds[name]) for name in columns}
        if not wanted:
            wanted = dict([next(iter(self.kinds.items()))])
        readers = {"parquet": _parquet, "csv": _csv, "arff": _csv, "jsonl": _json_lines}
        first = 0
        for chunk in readers[self.form](self, wanted):
            size = len(next(iter(chunk.values())))
            yield chunk
            first += size
        if first == 0:
            raise TableError(f"{self.path}: has no rows")


def open_table(path: Path, *, header: bool | None = None) -> TableFile:
    """Look at a file: its format by its name, its columns, their kinds. `TableError` says what cannot be read.

    header: whether a CSV's first line has names; None: it has unless every value there is a number, and then the
    columns are called c0, c1, …
    """
    form = _form(path)
    try:
        if form == "parquet":
            return _look_parquet(path)
        if form == "csv":
            return _look_csv(path, header)
        if form == "arff":
            return _look_arff(path)
        return _look_json_lines(path)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TableError(f"{path}: {reason}") from error
    except pa.ArrowInvalid as error:
        raise TableError(f"{path}: {str(error).splitlines()[0]}") from error


def levels_of(numbers: Column) -> Column:
    """Numbers as level names; each different number is turned once."""
    unique, place = np.unique(numbers, return_inverse=True)
    names = np.array([*(level_text(float(x)) for x in unique), None], dtype=object)[:-1]
    return names[place]


def _form(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    for ending, form in {
        ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".arff": "arff",
        ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    }.items():  # fmt: skip
        if name.endswith(ending):
            return form
    raise TableError(f"{path}: unknown kind of file; known are .parquet, .csv, .arff, .jsonl and each of them with .gz")


def _open(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked when they are gzip's, whatever the file is called."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return io.BufferedReader(gzip.open(path), 1 << 20) if packed else path.open("rb")


def _distinct(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TableError(f"{path}: the column {name!r} is there twice")
        seen.add(name)


# Parquet ----------------------------------------------------------------------------------------------------------


def _look_parquet(path: Path) -> TableFile:
    file = pq.ParquetFile(path)
    kinds: dict[str, Kind] = {}
    for column in _flat(file.schema_arrow):
        kinds[column.name] = _arrow_kind(column.type)
    _distinct(path, list(kinds))
    return TableFile(path, kinds, total=file.metadata.num_rows)


def _flat(schema: pa.Schema) -> Iterator[Any]:
    for column in schema:
        if pa.types.is_struct(column.type):
            yield from (pa.field(f"{column.name}.{inner.name}", inner.type) for inner in column.type)
        elif not pa.types.is_nested(column.type):
            yield column


def _arrow_kind(kind: pa.DataType) -> Kind:
    if pa.types.is_dictionary(kind):
        return _arrow_kind(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "time" if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else "text"


def _parquet(table: TableFile, wanted: Mapping[str, Kind]) -> Iterator[Chunk]:
    # Without pre_buffer: it would keep every page that was ever read until the end.
    file = pq.ParquetFile(table.path, pre_buffer=False, buffer_size=1 << 20)
    present = set(file.schema_arrow.names)
    columns = sorted({name if name in present else name.partition(".")[0] for name in wanted})
    first = 0
    for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
        chunk = {}
        for name, kind in wanted.items():
            if name in present:
                array = batch.column(name)
            else:
                outer, _, inner = name.partition(".")
                array = pc.struct_field(batch.column(outer), inner)
            chunk[name] = _numpy(array, kind, table, name, first)
        first += batch.num_rows
        yield chunk


def _numpy(array: Any, kind: Kind, table: TableFile, name: str, first: int) -> Column:
    """An arrow array as a column of the wanted kind."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type) and kind != "text":
        array = array.dictionary_decode()
    if kind == "time":
        if _arrow_kind(array.type) == "text":
            times = written_times(array)
            return _texts(array) if times is None else times
        if array.null_count:
            row = first + int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise TableError(f"{table.path}: row {row}, column {name}: the time is missing")
        return np.asarray(array.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()), dtype=np.int64)
    if kind == "number":
        if _arrow_kind(array.type) == "text":
            return _parsed(_texts(array), table, name, first)
        return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    if _arrow_kind(array.type) == "number" and not pa.types.is_integer(array.type):
        return levels_of(np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)))
    return _texts(array)


def _texts(array: Any) -> Column:
    """Strings by way of a dictionary: one Python string per different value."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = array.dictionary.to_pylist()
    named = [v.isoformat() if hasattr(v, "isoformat") else level_text(v) for v in values]
    names = np.array([*named, None], dtype=object)
    index = array.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    texts: Column = names[index.astype(np.int64)]
    return texts


def _parsed(texts: Column, table: TableFile, name: str, first: int) -> Column:
    numbers = np.empty(len(texts), dtype=np.float64)
    for at, text in enumerate(texts):
        if text is None or text.strip() in _NULLS:
            numbers[at] = np.nan
            continue
        try:
            numbers[at] = float(text)
        except ValueError:
            raise _no_number(table, first + at, name, text) from None
    return numbers


def _no_number(table: TableFile, row: int, name: str, value: object) -> TableError:
    return TableError(
        f"{table.path}: row {row}, column {name}: {value!r} is not a number, but the column's first rows are; "
        f"mend the row, or read the column as text with --categorical {name}"
    )


# CSV and ARFF -----------------------------------------------------------------------------------------------------


def _look_csv(path: Path, header: bool | None) -> TableFile:
    with _open(path) as file:
        line = file.readline(1 << 20).decode("utf-8-sig", errors="replace")
    if not line.strip():
        raise TableError(f"{path}: has no rows")
    first = next(pacsv.open_csv(io.BytesIO(line.encode()), read_options=_read_options([], auto=True))).to_pydict()
    cells = [str(column[0]) for column in first.values()]
    numeric = all(_is_number(cell) for cell in cells)
    has_header = header if header is not None else not numeric
    names = [cell.strip() for cell in cells] if has_header else [f"c{i}" for i in range(len(cells))]
    _distinct(path, names)
    table = TableFile(path, dict.fromkeys(names, "text"), header=has_header)
    sample = next(_csv_strings(table, names), None)
    if sample is None:
        raise TableError(f"{path}: has no rows")
    table.kinds = {name: _guess(sample.column(name)) for name in names}
    return table


def _look_arff(path: Path) -> TableFile:
    kinds: dict[str, Kind] = {}
    lines = 0
    with _open(path) as file:
        for raw in file:
            lines += 1
            line = raw.decode("utf-8", errors="replace").strip()
            word = line[:10].lower()
            if word.startswith("@data"):
                break
            if word.startswith("@attribute"):
                name, kind = _arff_attribute(line[10:].strip(), path, lines)
                kinds[name] = kind
        else:
            raise TableError(f"{path}: has no @data")
    return TableFile(path, kinds, header=False, _arff=(lines, list(kinds)))


def _arff_attribute(text: str, path: Path, line: int) -> tuple[str, Kind]:
    quote = text[:1]
    name, _, rest = text[1:].partition(quote) if quote in ("'", '"') else text.replace("\t", " ").partition(" ")
    kind = rest.strip().lower()
    if not name or not kind:
        raise TableError(f"{path}: line {line}: @attribute needs a name and a type")
    return name, "number" if kind.split()[0] in ("numeric", "real", "integer") else "text"


def _read_options(names: list[str], *, auto: bool = False) -> Any:
    return pacsv.ReadOptions(
        block_size=_BLOCK_BYTES, column_names=None if auto else names, autogenerate_column_names=auto
    )


def _data(table: TableFile) -> IO[bytes]:
    """The rows' bytes, after a header."""
    file = _open(table.path)
    for _ in range(table._arff[0] if table._arff else int(table.header)):
        file.readline()
    return file


def _csv_strings(table: TableFile, names: list[str]) -> Iterator[Any]:
    """Batches with every column as it is written."""
    options = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    with _data(table) as file:
        try:
            yield from pacsv.open_csv(file, read_options=_read_options(names), convert_options=options)
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                raise


def _guess(array: Any) -> Kind:
    """A column is a number when each value of its first chunk is one, or nothing, and one is there."""
    values = pc.unique(pc.utf8_trim_whitespace(array)).to_pylist()
    real = [value for value in values if value not in _NULLS]
    return "number" if real and all(_is_number(value) for value in real) else "text"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _csv(table: TableFile, wanted: Mapping[str, Kind]) -> Iterator[Chunk]:
    names = list(table.kinds)
    # A number that is wanted as text is read as a number all the same: 1.0 and 1 are one level.
    as_number = {name for name in wanted if table.kinds[name] == "number"}
    options = pacsv.ConvertOptions(
        column_types={name: pa.float64() if name in as_number else pa.string() for name in names},
        include_columns=list(wanted),
        null_values=_NULLS,
        strings_can_be_null=False,
    )
    first = 0
    with _data(table) as file:
        try:
            for batch in _even(pacsv.open_csv(file, read_options=_read_options(names), convert_options=options)):
                chunk = {}
                for name, kind in wanted.items():
                    chunk[name] = _csv_column(batch.column(name), kind, table, name, first)
                first += batch.num_rows
                yield chunk
        except pa.ArrowInvalid as error:
            raise _located(table, as_number, error) from error


def _csv_column(array: Any, kind: Kind, table: TableFile, name: str, first: int) -> Column:
    if kind == "time" and (times := written_times(array)) is not None:
        return times
    if table.kinds[name] == "text":
        texts = _texts(array)
        texts[texts == ""] = None
        if table.form == "arff":
            texts[texts == "?"] = None
        unique = set(pc.unique(array).to_pylist()) - {""}
        if kind == "text" and unique and unique <= _TRUTH.keys():
            return np.array([_TRUTH.get(text) for text in texts], dtype=object)
        return _parsed(texts, table, name, first) if kind == "number" else texts
    numbers = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
    return levels_of(numbers) if kind == "text" else numbers


def written_times(array: Any) -> Column | None:
    """Texts as int64 ms where all are RFC 3339 or all are times without an offset (UTC); None where they are not."""
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")) if pa.types.is_string(array.type) else ():
        try:
            nanoseconds = np.asarray(pc.cast(array, kind).cast(pa.int64()), dtype=np.int64)
        except pa.ArrowInvalid:
            continue
        return nanoseconds // 1_000_000
    return None


def _even(batches: Any) -> Iterator[Any]:
    """Tables of exactly CHUNK_ROWS rows, the last one shorter."""
    held: list[Any] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        while rows >= CHUNK_ROWS:
            table = pa.Table.from_batches(held)
            yield table.slice(0, CHUNK_ROWS)
            rest = table.slice(CHUNK_ROWS)
            held, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield pa.Table.from_batches(held)


def _located(table: TableFile, numeric: set[str], error: Exception) -> TableError:
    """Arrow names a column by its number only: read again, as text, up to the row that it means."""
    first = 0
    try:
        for batch in _csv_strings(table, list(table.kinds)):
            for name in numeric:
                for at, text in enumerate(batch.column(name).to_pylist()):
                    if text.strip() not in _NULLS and not _is_number(text):
                        return _no_number(table, first + at, name, text)
            first += batch.num_rows
    except pa.ArrowInvalid as again:
        return TableError(f"{table.path}: after row {first}: {str(again).splitlines()[0]}")
    return TableError(f"{table.path}: {str(error).splitlines()[0]}")


# JSON Lines -------------------------------------------------------------------------------------------------------


def _look_json_lines(path: Path) -> TableFile:
    rows = next(_json_rows(path), None)
    if not rows:
        raise TableError(f"{path}: has no rows")
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    kinds: dict[str, Kind] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        numbers = values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        kinds[name] = "number" if numbers else "text"
    return TableFile(path, kinds)


def _json_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except msgspec.DecodeError:
                row = _lenient(line, path, number)
            if not isinstance(row, dict):
                raise TableError(f"{path}: line {number}: is not an object")
            rows.append(_flattened(row))
            if len(rows) == CHUNK_ROWS:
                yield rows
                rows = []
    if rows:
        yield rows


def _lenient(line: bytes, path: Path, number: int) -> Any:
    """NaN, Infinity and 1e400 are numbers to Python's parser; they count as what they are."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path}: line {number}: is not JSON: {error}") from error


def _flattened(row: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": v for inner, v in value.items() if not isinstance(v, dict | list)})
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def _json_lines(table: TableFile, wanted: Mapping[str, Kind]) -> Iterator[Chunk]:
    first = 0
    for rows in _json_rows(table.path):
        chunk: Chunk = {}
        for name, kind in wanted.items():
            values = [row.get(name) for row in rows]
            if kind == "number":
                chunk[name] = _json_numbers(values, table, name, first)
            else:
                chunk[name] = np.array([*map(level_text, values), None], dtype=object)[:-1]
        first += len(rows)
        yield chunk


def _json_numbers(values: list[Any], table: TableFile, name: str, first: int) -> Column:
    try:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    except (ValueError, TypeError):
        wrong = (i for i, v in enumerate(values) if v is not None and not isinstance(v, int | float))
        at = next(wrong, 0)
        raise _no_number(table, first + at, name, values[at]) from None
