"""What a table is made of: columns of numbers, texts or times, and how the values of a file become them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.rows import level_text
from schemas.errors import TriplineError

#: float64, NaN missing, ±inf kept; or object, str or None; or int64 ms.
Kind: TypeAlias = Literal["number", "text", "time"]
Column: TypeAlias = npt.NDArray[Any]
Chunk: TypeAlias = dict[str, Column]

CHUNK_ROWS = 65_536
#: What numbers' columns call nothing. In text columns only the empty string is: NA is a country.
NULLS = ["", "NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "?", "#N/A", "-nan"]


class TableError(TriplineError):
    """A table that cannot be read: the file, the row (from 0) and the column where that is known."""

    exit_code = 2


@dataclass
class TableFile:
    """A file that was looked at: its columns in order, and what each is. Of texts: skip, lines before the data;
    delimiter, between its columns; arff, it is one.
    """

    path: Path
    kinds: dict[str, Kind]
    total: int | None = None
    skip: int = 0
    delimiter: str = ","
    arff: bool = False


def unpacked(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked when they are gzip's, whatever the file is called."""
    return io.BufferedReader(gzip.open(path), 1 << 20) if is_packed(path) else path.open("rb")


def is_packed(path: Path) -> bool:
    """Whether the file is gzip's."""
    with path.open("rb") as raw:
        return raw.read(2) == b"\x1f\x8b"


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """`TableError` when two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TableError(f"{path}: the column {name!r} is there twice")
        seen.add(name)


def levels_of(numbers: Column) -> Column:
    """Numbers as level names; each different number is turned once."""
    unique, place = np.unique(numbers, return_inverse=True)
    names = np.array([*(level_text(float(x)) for x in unique), None], dtype=object)[:-1]
    return names[place]


def arrow_kind(kind: pa.DataType) -> Kind:
    """What a column of an arrow type is read as."""
    if pa.types.is_dictionary(kind):
        return arrow_kind(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "time" if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else "text"


def as_column(array: Any, kind: Kind, table: TableFile, name: str, first: int) -> Column:
    """An arrow array as a column of the wanted kind."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type) and kind != "text":
        array = array.dictionary_decode()
    if kind == "time":
        if arrow_kind(array.type) == "text":
            times = written_times(array)
            return as_texts(array) if times is None else times
        if array.null_count:
            row = first + int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise TableError(f"{table.path}: row {row}, column {name}: the time is missing")
        return np.asarray(array.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()), dtype=np.int64)
    if kind == "number":
        if arrow_kind(array.type) == "text":
            return as_numbers(as_texts(array), table, name, first)
        return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    if arrow_kind(array.type) == "number" and not pa.types.is_integer(array.type):
        return levels_of(np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)))
    return as_texts(array)


def as_texts(array: Any) -> Column:
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


def as_numbers(texts: Column, table: TableFile, name: str, first: int) -> Column:
    """Texts as numbers; one that is none is an error that names its row."""
    numbers = np.empty(len(texts), dtype=np.float64)
    for at, text in enumerate(texts):
        if text is None or text.strip() in NULLS:
            numbers[at] = np.nan
            continue
        try:
            numbers[at] = float(text)
        except ValueError:
            raise no_number(table, first + at, name, text) from None
    return numbers


def no_number(table: TableFile, row: int, name: str, value: object) -> TableError:
    """The error for a value in a column of numbers."""
    return TableError(
        f"{table.path}: row {row}, column {name}: {value!r} is not a number, but the column's first rows are; "
        f"mend the row, or read the column as text with --categorical {name}"
    )


def written_times(array: Any) -> Column | None:
    """Texts as int64 ms where all are RFC 3339 or all are times without an offset (UTC); None where they are not."""
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")) if pa.types.is_string(array.type) else ():
        try:
            nanoseconds = np.asarray(pc.cast(array, kind).cast(pa.int64()), dtype=np.int64)
        except pa.ArrowInvalid:
            continue
        return nanoseconds // 1_000_000
    return None
