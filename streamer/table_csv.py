"""CSV and ARFF: streamed by arrow, with our own idea of what a number is and where a wrong one stands.

A line with too few or too many cells, or that is no UTF-8, is left out and counted; a file in which more than one in a
hundred is such a line at its head is refused: it is of another form than it was taken for.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from streamer import spans
from streamer.table_columns import (
    CHUNK_ROWS,
    MOSTLY,
    NULLS,
    Chunk,
    Column,
    Kind,
    TableError,
    TableFile,
    as_texts,
    is_number,
    is_packed,
    levels_of,
    numbers_of,
    refuse_repeated,
    unpacked,
    written_times,
)
from streamer.table_tally import Tally

_BLOCK_BYTES = 8 << 20
_HEADER_LINES = 1000
_TRUTH = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false", "true": "true", "false": "false"}
#: Stands in a copy for a byte that is no text: a code point that no text has.
_NO_TEXT = "\U0010ffff"
#: Cells of the first line that are named when it looks like data.
_SHOWN = 3


def look_csv(path: Path, header: bool | None) -> TableFile:
    """Columns by the first line, kinds by the first 8 MB."""
    with unpacked(path) as file:
        raw, lines = file.readline(1 << 20), 1
        # A name may have a line break within quotes.
        while raw.count(b'"') % 2 and lines < _HEADER_LINES and (more := file.readline(1 << 20)):
            raw, lines = raw + more, lines + 1
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TableError(f"{path}: is UTF-16 text; save it as UTF-8")
    line = raw.decode("utf-8-sig", errors="replace")
    if not line.strip():
        raise TableError(f"{path}: has no rows")
    delimiter = _delimiter(line)
    try:
        # Split into lines as Python does, which knows old files that end theirs with a carriage return.
        cells = next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise TableError(f"{path}: first line: {error}") from error
    has_header = header if header is not None else not all(is_number(cell) for cell in cells)
    if header is None and has_header and (data := values_among(cells)):
        shown = ", ".join(map(repr, data[:_SHOWN]))
        raise TableError(
            f"{path}: line 1: has {shown} where names of columns are expected; give --no-header if it is data (the "
            f"columns are then called c0, c1, …), --header if these are names"
        )
    # A column without a name is an index that pandas wrote.
    names = [(has_header and cell.strip()) or f"c{i}" for i, cell in enumerate(cells)]
    refuse_repeated(path, names)
    table = TableFile(path, dict.fromkeys(names, "text"), skip=lines if has_header else 0, delimiter=delimiter)
    _guess_kinds(table, numeric=None)
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
    table = TableFile(path, kinds, skip=lines, arff=True)
    _guess_kinds(table, numeric={name for name, kind in kinds.items() if kind == "number"})
    return table


def values_among(names: list[str]) -> list[str]:
    """Names of columns that are more likely values: times, numbers with a point, whole numbers that are no sequence.

    >>> values_among(["2025-01-01", "41", "FR", "0.5"]), values_among(["ts", "0", "1", "2"])
    (['2025-01-01', '41', '0.5'], [])
    """
    cells = [name.strip() for name in names]
    whole = [cell for cell in cells if re.fullmatch(r"\d+", cell)]
    numbers = [int(cell) for cell in whole]
    # pandas names columns 0, 1, 2, people name them by years.
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    sequence = steps == {1} or (len(numbers) == 1 and numbers[0] <= 1)
    return [cell for cell in cells if (cell in whole and not sequence) or (cell not in whole and _is_value(cell))]


def _is_value(cell: str) -> bool:
    if is_number(cell):
        return cell.lower().lstrip("+-") not in ("nan", "inf", "infinity")
    try:
        spans.instant(cell)
    except ValueError:
        return False
    return True


def _guess_kinds(table: TableFile, *, numeric: set[str] | None) -> None:
    """By the first rows: is the file what it was taken for, which columns are numbers (unless known), which have words
    among them.
    """
    tally = Tally()
    names = list(table.kinds)
    sample = next(_batches(table, names, set(), tally), None)
    rows = 0 if sample is None else sample.num_rows
    if tally.lines.count > (1 - MOSTLY) * (rows + tally.lines.count):
        raise TableError(f"{table.path}: line {tally.lines.place}: {tally.lines.value}")
    if sample is None:
        raise TableError(f"{table.path}: has no rows")
    for name in names:
        found = _words_share(sample.column(name))
        if numeric is None:
            table.kinds[name] = "number" if found is not None and found <= 1 - MOSTLY else "text"
        if table.kinds[name] == "number" and found:
            table.wordy.add(name)


def _words_share(array: Any) -> float | None:
    """The share of texts that are no numbers among those that are something; None where none is anything."""
    counted = pc.value_counts(pc.utf8_trim_whitespace(array))
    numbers = words = 0
    for value, count in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True):
        if value in NULLS:
            continue
        if is_number(value):
            numbers += count
        else:
            words += count
    return words / (numbers + words) if numbers + words else None


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


def read_csv(table: TableFile, wanted: Mapping[str, Kind], *, lenient: bool, tally: Tally) -> Iterator[Chunk]:
    """Some columns of a CSV or ARFF, chunk by chunk.

    A text among numbers is counted in `tally`; it is missing, or when lenient stays where it is, as a text.
    """
    # A number that is wanted as text is read as a number all the same: 1.0 and 1 are one level.
    numeric = {name for name in wanted if table.kinds[name] == "number"}
    first = 0
    try:
        for batch in _even(_batches(table, list(wanted), numeric - table.wordy, tally)):
            yield _chunk(batch, wanted, numeric, table, first=first, lenient=lenient, tally=tally)
            first += batch.num_rows
        return
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    # A word where none was in the first rows: the rest is read as it is written.
    skip, tally.lines.count = first, 0
    for batch in _even(_batches(table, list(wanted), set(), tally)):
        rest = batch.slice(min(skip, batch.num_rows))
        skip -= batch.num_rows - rest.num_rows
        if rest.num_rows:
            yield _chunk(rest, wanted, numeric, table, first=first, lenient=lenient, tally=tally)
            first += rest.num_rows


def _batches(table: TableFile, wanted: list[str], numeric: set[str], tally: Tally) -> Iterator[Any]:
    """Batches of rows; columns that are not numeric hold the text as it is written. Lines that are none are counted.

    Arrow tells of a line of a wrong length as a text, and stops where it is none. So the first such line ends a reading
    that knows of none, and begins another, of a copy where the file is not UTF-8 throughout.
    """
    given, before = 0, replace(tally.lines)
    if not table.ragged:
        try:
            for batch in _arrow_batches(table, wanted, numeric, tally):
                given += batch.num_rows
                yield batch
            return
        except pa.ArrowInvalid as error:
            if "CSV parse error" not in str(error):
                raise
            table.ragged, table.copy = True, _readable(table.path)
            tally.lines = before
    for batch in _arrow_batches(table, wanted, numeric, tally):
        rest = batch.slice(min(given, batch.num_rows))
        given -= batch.num_rows - rest.num_rows
        if rest.num_rows:
            yield rest


def _readable(path: Path) -> IO[bytes] | None:
    """A copy in which each byte that is no text stands as `_NO_TEXT`; None where all are."""
    with unpacked(path) as file:
        if all(map(_is_text, file)):
            return None
        file.seek(0)
        copy = tempfile.NamedTemporaryFile(prefix="tripline-", suffix=".csv")  # noqa: SIM115  it lives with the table
        copy.writelines(line if _is_text(line) else _spelled(line).encode() for line in file)
    copy.flush()
    return copy


def _spelled(raw: bytes) -> str:
    return re.sub("[\udc80-\udcff]", _NO_TEXT, raw.decode(errors="surrogateescape"))


def _arrow_batches(table: TableFile, wanted: list[str], numeric: set[str], tally: Tally) -> Iterator[Any]:
    """Arrow's batches of the file, or of its copy.

    The file is arrow's own: one of Python's would be read by a thread of arrow's that an error leaves behind, and that
    ends the whole process when it meets the end of the interpreter.
    """
    path = table.path if table.copy is None else Path(table.copy.name)
    source: Any = pa.OSFile(str(path), "rb")
    if is_packed(path):
        source = pa.CompressedInputStream(source, "gzip")

    def leave_out(row: Any) -> Literal["skip", "error"]:
        says = f"has {row.actual_columns} cells, the others {row.expected_columns}"
        _count(tally, table, 1, says, lambda raw: _spelled(raw).strip("\r\n") == row.text)
        return "skip"

    options = pacsv.ConvertOptions(
        # Bytes: a text that is no UTF-8 must not end the reading.
        column_types={name: pa.float64() if name in numeric else pa.binary() for name in table.kinds},
        include_columns=wanted,
        null_values=NULLS,
        strings_can_be_null=False,
    )
    try:
        reader = pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(
                block_size=_BLOCK_BYTES, column_names=list(table.kinds), skip_rows=table.skip
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=table.delimiter,
                newlines_in_values=True,
                invalid_row_handler=leave_out if table.ragged else None,
            ),
            convert_options=options,
        )
        for batch in reader:
            yield _decoded(batch, table, tally)
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise


def _decoded(batch: Any, table: TableFile, tally: Tally) -> Any:
    """The batch with texts for bytes, without the rows that have bytes which are none."""
    binary = [field.name for field in batch.schema if pa.types.is_binary(field.type)]
    bad = np.zeros(batch.num_rows, dtype=bool)
    for name in binary:
        try:
            texts = batch.column(name).cast(pa.string())
        except pa.ArrowInvalid:
            bad |= [not _is_text(value) for value in batch.column(name).to_pylist()]
            continue
        if table.copy is not None:
            bad |= np.asarray(pc.match_substring(texts, _NO_TEXT).fill_null(False).to_numpy(zero_copy_only=False))
    if bad.any():
        _count(tally, table, int(bad.sum()), "is not UTF-8 text", lambda raw: not _is_text(raw))
        batch = batch.filter(pa.array(~bad))
    columns = {
        field.name: batch.column(field.name).cast(pa.string()) if field.name in binary else batch.column(field.name)
        for field in batch.schema
    }
    return pa.RecordBatch.from_pydict(columns)


def _is_text(raw: bytes | None) -> bool:
    try:
        (raw or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _count(tally: Tally, table: TableFile, count: int, says: str, is_it: Callable[[bytes], bool]) -> None:
    """Count lines that are left out. Arrow does not tell lines: the first is looked for in the file, once."""
    place = 0
    if not tally.lines.count:
        with unpacked(table.path) as file:
            lines = itertools.islice(enumerate(file, 1), table.skip, None)
            place = next((number for number, raw in lines if is_it(raw)), 0)
    tally.lines.add(count, place=place, value=says)


def _chunk(
    batch: Any, wanted: Mapping[str, Kind], numeric: set[str], table: TableFile, *, first: int, lenient: bool,
    tally: Tally,
) -> Chunk:  # fmt: skip
    chunk: Chunk = {}
    for name, kind in wanted.items():
        array = batch.column(name)
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if kind == "time" and (times := written_times(array)) is not None:
            chunk[name] = times
        elif pa.types.is_floating(array.type):
            numbers = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
            chunk[name] = levels_of(numbers) if kind == "text" else numbers
        elif kind == "number" or name in numeric:
            # A number that is wanted as text keeps its words: they are levels.
            keep = lenient or kind == "text"
            told = None if kind == "text" else tally
            found = numbers_of(array, name, first=first, keep=keep, tally=told)
            chunk[name] = levels_of(found) if kind == "text" else found
        else:
            chunk[name] = _texts(array, kind, table)
    return chunk


def _texts(array: Any, kind: Kind, table: TableFile) -> Column:
    texts = as_texts(array)
    texts[texts == ""] = None
    if table.arff:
        texts[texts == "?"] = None
    unique = set(pc.unique(array).to_pylist()) - {""}
    if kind == "text" and unique and unique <= _TRUTH.keys():
        return np.array([_TRUTH.get(text) for text in texts], dtype=object)
    return texts


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
