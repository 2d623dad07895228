"""CSV and ARFF: streamed by arrow, with our own idea of what a number is and where a wrong one stands."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from detectors.rows import level_text
from streamer.table_columns import (
    CHUNK_ROWS,
    NULLS,
    Chunk,
    Column,
    Kind,
    TableError,
    TableFile,
    as_numbers,
    as_texts,
    is_packed,
    levels_of,
    no_number,
    refuse_repeated,
    unpacked,
    written_times,
)

_BLOCK_BYTES = 8 << 20
_HEADER_LINES = 1000
_TRUTH = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false", "true": "true", "false": "false"}


def look_csv(path: Path, header: bool | None) -> TableFile:
    """Columns by the first line, kinds by the first 8 MB."""
    with unpacked(path) as file:
        raw, lines = file.readline(1 << 20), 1
        # A name may have a line break within quotes.
        while raw.count(b'"') % 2 and lines < _HEADER_LINES and (more := file.readline(1 << 20)):
            raw, lines = raw + more, lines + 1
    line = raw.decode("utf-8-sig", errors="replace")
    if not line.strip():
        raise TableError(f"{path}: has no rows")
    delimiter = _delimiter(line)
    try:
        # Split into lines as Python does, which knows old files that end theirs with a carriage return.
        cells = next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise TableError(f"{path}: first line: {error}") from error
    numeric = all(_is_number(cell) for cell in cells)
    has_header = header if header is not None else not numeric
    # A column without a name is an index that pandas wrote.
    names = [(has_header and cell.strip()) or f"c{i}" for i, cell in enumerate(cells)]
    refuse_repeated(path, names)
    table = TableFile(path, dict.fromkeys(names, "text"), skip=lines if has_header else 0, delimiter=delimiter)
    sample = next(_csv_strings(table, names), None)
    if sample is None:
        raise TableError(f"{path}: has no rows")
    table.kinds = {name: _guess(sample.column(name)) for name in names}
    return table


def look_arff(path: Path) -> TableFile:
    """Columns and kinds by the head."""
    kinds: dict[str, Kind] = {}
    lines = 0
    with unpacked(path) as file:
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
    return TableFile(path, kinds, skip=lines, arff=True)


def _arff_attribute(text: str, path: Path, line: int) -> tuple[str, Kind]:
    quote = text[:1]
    name, _, rest = text[1:].partition(quote) if quote in ("'", '"') else text.replace("\t", " ").partition(" ")
    kind = rest.strip().lower()
    if not name or not kind:
        raise TableError(f"{path}: line {line}: @attribute needs a name and a type")
    return name, "number" if kind.split()[0] in ("numeric", "real", "integer") else "text"


def _delimiter(line: str) -> str:
    """What parts the columns: a comma, or else what is there most of semicolons, tabs and bars.

    >>> _delimiter("a;b"), _delimiter("a"), _delimiter('a,"b;c;d"')
    (';', ',', ',')
    """
    return "," if "," in line else max((",", ";", "\t", "|"), key=line.count)


def _opened(table: TableFile, options: Any) -> Any:
    """Arrow's reader of the rows. The file is arrow's own: one of Python's would be read by a thread of arrow's that an
    error leaves behind, and that ends the whole process when it meets the end of the interpreter.
    """
    source: Any = pa.OSFile(str(table.path), "rb")
    if is_packed(table.path):
        source = pa.CompressedInputStream(source, "gzip")
    return pacsv.open_csv(
        source,
        read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES, column_names=list(table.kinds), skip_rows=table.skip),
        parse_options=pacsv.ParseOptions(delimiter=table.delimiter, newlines_in_values=True),
        convert_options=options,
    )


def _csv_strings(table: TableFile, names: list[str]) -> Iterator[Any]:
    """Batches with every column as it is written."""
    options = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    try:
        yield from _opened(table, options)
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise


def _guess(array: Any) -> Kind:
    """A column is a number when each value of its first chunk is one, or nothing, and one is there."""
    values = pc.unique(pc.utf8_trim_whitespace(array)).to_pylist()
    real = [value for value in values if value not in NULLS]
    return "number" if real and all(_is_number(value) for value in real) else "text"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def read_csv(table: TableFile, wanted: Mapping[str, Kind], *, lenient: bool) -> Iterator[Chunk]:
    """Some columns of a CSV or ARFF, chunk by chunk. lenient: a text among numbers stays where it is, as a text."""
    # A number that is wanted as text is read as a number all the same: 1.0 and 1 are one level.
    numeric = {name for name in wanted if table.kinds[name] == "number"}
    first = 0
    try:
        for batch in _batches(table, wanted, numeric):
            yield {
                name: _mixed(batch.column(name), kind)
                if lenient and kind == "number" and table.kinds[name] == "text"
                else _csv_column(batch.column(name), kind, table, name, first)
                for name, kind in wanted.items()
            }
            first += batch.num_rows
        return
    except pa.ArrowInvalid as error:
        if not lenient or "conversion error" not in str(error):
            raise _located(table, numeric, error) from error
    skip = first
    for batch in _batches(table, wanted, set()):
        rest = batch.slice(min(skip, batch.num_rows))
        skip -= batch.num_rows - rest.num_rows
        if rest.num_rows:
            yield {
                name: _mixed(rest.column(name), kind)
                if name in numeric or kind == "number"
                else _csv_column(rest.column(name), kind, table, name, first)
                for name, kind in wanted.items()
            }
            first += rest.num_rows


def _batches(table: TableFile, wanted: Mapping[str, Kind], numeric: set[str]) -> Iterator[Any]:
    names = list(table.kinds)
    options = pacsv.ConvertOptions(
        column_types={name: pa.float64() if name in numeric else pa.string() for name in names},
        include_columns=list(wanted),
        null_values=NULLS,
        strings_can_be_null=False,
    )
    yield from _even(_opened(table, options))


def _mixed(array: Any, kind: Kind) -> Column:
    """Numbers where they are written, texts where they are not."""
    values = [_number_or_text(text) for text in array.to_pylist()]
    if any(isinstance(value, str) for value in values):
        column: Column = np.array([*(level_text(v) if kind == "text" else v for v in values), None], dtype=object)[:-1]
        return column
    numbers = np.array(values, dtype=np.float64)
    return levels_of(numbers) if kind == "text" else numbers


def _number_or_text(text: str) -> float | str:
    if text.strip() in NULLS:
        return float("nan")
    return float(text) if _is_number(text) else text


def _csv_column(array: Any, kind: Kind, table: TableFile, name: str, first: int) -> Column:
    if kind == "time" and (times := written_times(array)) is not None:
        return times
    if table.kinds[name] == "text":
        texts = as_texts(array)
        texts[texts == ""] = None
        if table.arff:
            texts[texts == "?"] = None
        unique = set(pc.unique(array).to_pylist()) - {""}
        if kind == "text" and unique and unique <= _TRUTH.keys():
            return np.array([_TRUTH.get(text) for text in texts], dtype=object)
        return as_numbers(texts, table, name, first) if kind == "number" else texts
    numbers = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
    return levels_of(numbers) if kind == "text" else numbers


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
                    if text.strip() not in NULLS and not _is_number(text):
                        return no_number(table, first + at, name, text)
            first += batch.num_rows
    except pa.ArrowInvalid as again:
        return TableError(f"{table.path}: after row {first}: {str(again).splitlines()[0]}")
    return TableError(f"{table.path}: {str(error).splitlines()[0]}")
