"""Files with rows: Parquet, CSV, ARFF and JSON Lines (each also .gz), read in chunks of bounded size.

What a column is, the file says (Parquet, ARFF), or its first chunk (CSV, JSON Lines); a caller may decide otherwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamer.table_columns import (
    CHUNK_ROWS,
    Chunk,
    Column,
    Kind,
    TableError,
    TableFile,
    arrow_kind,
    as_column,
    refuse_repeated,
)
from streamer.table_csv import look_arff, look_csv, read_csv
from streamer.table_json import look_json_lines, read_json_lines
from streamer.table_tally import Tally

__all__ = ["CHUNK_ROWS", "Chunk", "Column", "Kind", "TableError", "TableFile", "chunks_of", "form_of", "open_table"]

#: What readers raise over a file that is cut short, damaged or not there.
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeDecodeError)


def open_table(path: Path, *, header: bool | None = None) -> TableFile:
    """Look at a file: its format by its name, its columns, their kinds. `TableError` says what cannot be read.

    header: whether a CSV's first line has names; None: it has unless every value there is a number, and then the
    columns are called c0, c1, …
    """
    form = form_of(path)
    try:
        if form == "parquet":
            return _look_parquet(path)
        if form == "csv":
            return look_csv(path, header)
        if form == "arff":
            return look_arff(path)
        return look_json_lines(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def chunks_of(
    table: TableFile,
    columns: Sequence[str],
    kinds: Mapping[str, Kind] | None = None,
    *,
    lenient: bool = False,
    tally: Tally | None = None,
) -> Iterator[Chunk]:
    """The rows of some columns, up to 65,536 at a time. kinds: what a column is to be read as.

    A text in a column that is to be a number is missing, and counted in `tally`; when `lenient` the chunk has an object
    array with the text in it, for a reader that counts wrong types as the stream does.
    """
    wanted: dict[str, Kind] = {name: (kinds or {}).get(name, table.kinds[name]) for name in columns}
    if not wanted:
        wanted = dict([next(iter(table.kinds.items()))])
    readers = {"parquet": _read_parquet, "csv": read_csv, "arff": read_csv, "jsonl": read_json_lines}
    first = 0
    chunks = readers[form_of(table.path)](table, wanted, lenient=lenient, tally=Tally() if tally is None else tally)
    while (chunk := _next(chunks, table.path)) is not None:
        size = len(next(iter(chunk.values())))
        yield chunk
        first += size
    if first == 0:
        raise TableError(f"{table.path}: has no rows")


def _next(chunks: Iterator[Chunk], path: Path) -> Chunk | None:
    """The next chunk; what breaks half way (a file cut short, a disk) is an error of the file, not of its reader."""
    try:
        return next(chunks, None)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TableError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TableError(f"{path}: {reason.splitlines()[0] if reason else type(error).__name__}")


def form_of(path: Path) -> str:
    """`parquet`, `csv`, `arff` or `jsonl`, by the file's name."""
    name = path.name.lower().removesuffix(".gz")
    for ending, form in {
        ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".arff": "arff",
        ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    }.items():  # fmt: skip
        if name.endswith(ending):
            return form
    raise TableError(f"{path}: unknown kind of file; known are .parquet, .csv, .arff, .jsonl and each of them with .gz")


def _look_parquet(path: Path) -> TableFile:
    file = pq.ParquetFile(path)
    kinds: dict[str, Kind] = {}
    lists: list[str] = []
    for names, kind in _flat(file.schema_arrow):
        if pa.types.is_nested(kind):
            lists.append(".".join(names))
        else:
            kinds[".".join(names)] = arrow_kind(kind)
    refuse_repeated(path, list(kinds))
    return TableFile(path, kinds, total=file.metadata.num_rows, lists=tuple(lists))


def _flat(fields: Iterable[Any], *outer: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Names and types of columns, those inside of structs too."""
    for column in fields:
        names = (*outer, column.name)
        if pa.types.is_struct(column.type):
            yield from _flat(column.type, *names)
        else:
            yield names, column.type


def _read_parquet(table: TableFile, wanted: Mapping[str, Kind], *, lenient: bool, tally: Tally) -> Iterator[Chunk]:
    # Without pre_buffer: it would keep every page that was ever read until the end.
    file = pq.ParquetFile(table.path, pre_buffer=False, buffer_size=1 << 20)
    places = {".".join(names): names for names, _ in _flat(file.schema_arrow)}
    columns = sorted({places[name][0] for name in wanted})
    first = 0
    for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
        chunk = {}
        for name, kind in wanted.items():
            outer, *within = places[name]
            array = batch.column(outer)
            for inner in within:
                array = pc.struct_field(array, inner)
            chunk[name] = as_column(array, kind, name, first=first, lenient=lenient, tally=tally)
        first += batch.num_rows
        yield chunk
