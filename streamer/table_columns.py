"""What a table is made of: columns of numbers, texts or times, and how the values of a file become them."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.rows import NO_TIME, as_levels, level_text
from schemas.errors import TriplineError
from streamer.formats.lenient import as_float
from streamer.table_tally import Tally

#: float64, NaN missing, ±inf kept; or object, str or None; or int64 ms.
Kind: TypeAlias = Literal["number", "text", "time"]
Column: TypeAlias = npt.NDArray[Any]
Chunk: TypeAlias = dict[str, Column]

CHUNK_ROWS = 65_536
#: What numbers' columns call nothing. In text columns only the empty string is: NA is a country.
NULLS = [
    "", "NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "NONE", "?", "#N/A", "#NA", "-nan",
    "-NaN", "n/a", "na", "N.A.", "n.a.", "<NA>", "<na>", "NaT", "nil", "NIL", "-", "--", ".", "1.#QNAN", "-1.#IND",
]  # fmt: skip
#: A column is of numbers when so many of its values are, of those that are something.
MOSTLY = 0.99
#: Seconds are so many of a duration's units.
_TO_SECONDS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
#: Types of a number or of nothing in JSON; nothing else is one.
_NUMBERS = {int, float, type(None)}
_PLAIN_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


class TableError(TriplineError):
    """A table that cannot be read: the file, the row (from 0) and the column where that is known."""

    exit_code = 2


@dataclass
class TableFile:
    """A file that was looked at: its columns in order, and what each is. Of texts: skip, lines before the data;
    delimiter, between its columns; arff, it is one; wordy, columns of numbers with words among the first rows.
    ragged: it has lines of wrong lengths; copy: what is read in its place where they are no UTF-8.
    Of nested ones: lists, columns that hold lists; items, columns that are entries of one, which are read by name only.
    """

    path: Path
    kinds: dict[str, Kind]
    total: int | None = None
    skip: int = 0
    delimiter: str = ","
    arff: bool = False
    wordy: set[str] = field(default_factory=set)
    lists: tuple[str, ...] = ()
    items: frozenset[str] = frozenset()
    ragged: bool = False
    copy: IO[bytes] | None = None

    @property
    def notes(self) -> list[str]:
        """Sentences for people about what is left out of it."""
        if not self.lists:
            return []
        entries = f"; their entries can be named, as in {min(self.items)}" if self.items else ""
        return [f"lists are left out: {', '.join(self.lists)}{entries}"]


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
    """Numbers, and words among them, as level names; each different number is turned once."""
    if numbers.dtype == object:
        return np.array([*as_levels(numbers), None], dtype=object)[:-1]
    unique, place = np.unique(numbers, return_inverse=True)
    names = np.array([*(level_text(float(x)) for x in unique), None], dtype=object)[:-1]
    return names[place]


def arrow_kind(kind: pa.DataType) -> Kind:
    """What a column of an arrow type is read as; a duration is a number, of seconds."""
    if pa.types.is_dictionary(kind):
        return arrow_kind(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_duration(kind):
        return "number"
    return "time" if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else "text"


def as_column(array: Any, kind: Kind, name: str, *, first: int, lenient: bool, tally: Tally) -> Column:
    """An arrow array as a column of the wanted kind. Times that are null are `NO_TIME`.

    Words where numbers are wanted are counted, and missing, or kept when lenient.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type) and kind != "text":
        array = array.dictionary_decode()
    if kind == "time":
        if arrow_kind(array.type) == "text":
            times = written_times(array)
            return as_texts(array) if times is None else times
        times = array.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).fill_null(NO_TIME)
        return np.asarray(times, dtype=np.int64)
    if kind == "number":
        if arrow_kind(array.type) == "text":
            return numbers_of(array.cast(pa.string()), name, first=first, keep=lenient, tally=tally)
        return _floats(array)
    if arrow_kind(array.type) == "number" and not pa.types.is_integer(array.type):
        return levels_of(_floats(array))
    return as_texts(array)


def _floats(array: Any) -> npt.NDArray[np.float64]:
    """Numbers of an arrow array, NaN where they are null; durations in seconds."""
    units = _TO_SECONDS[array.type.unit] if pa.types.is_duration(array.type) else 1.0
    if pa.types.is_duration(array.type):
        array = array.cast(pa.int64())
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64) / units


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


def is_number(text: str) -> bool:
    """Whether a text is a number as Python writes them, without underscores.

    >>> [is_number(text) for text in ("1", "+1e5", " .5 ", "nan", "1_000", "1,5", "")]
    [True, True, True, True, False, False, False]
    """
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def numbers_of(array: Any, name: str, *, first: int, keep: bool, tally: Tally | None) -> Column:
    """Texts of a CSV as numbers. Words among them are counted; they are missing, or kept: then the array has objects.

    first: the row of the first of them.
    """
    trimmed = pc.utf8_trim_whitespace(array)
    plain = pc.match_substring_regex(trimmed, _PLAIN_NUMBER).fill_null(False)
    numbers = pc.if_else(plain, trimmed, pa.scalar(None, pa.string())).cast(pa.float64())
    found = np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    odd = np.flatnonzero(~np.asarray(plain.to_numpy(zero_copy_only=False), dtype=bool))
    words: dict[int, str] = {}
    for at, text in zip(odd.tolist(), trimmed.take(pa.array(odd)).to_pylist(), strict=True):
        if text is None or text in NULLS:
            continue
        if is_number(text):
            found[at] = float(text)
        else:
            words[at] = text
    if not words:
        return found
    if tally is not None:
        row, value = next(iter(words.items()))
        tally.word(name, len(words), row=first + row, value=value)
    if not keep:
        return found
    column: Column = found.astype(object)
    column[list(words)] = list(words.values())
    return column


def wrong_types(values: Sequence[Any] | Column, name: str, *, first: int, keep: bool, tally: Tally) -> Column:
    """Values of objects as numbers: what is none is counted, and missing, or kept as an object.

    >>> wrong_types([1, None, "2", True], "a", first=10, keep=False, tally=Tally())
    array([ 1., nan, nan, nan])
    """
    kinds = set(map(type, values))
    wrong = [] if kinds <= _NUMBERS else [at for at, value in enumerate(values) if type(value) not in _NUMBERS]
    if wrong:
        tally.word(name, len(wrong), row=first + wrong[0], value=str(values[wrong[0]]))
    bad = set(wrong)
    if wrong and keep:
        kept = [value if at in bad else _not_missing(value) for at, value in enumerate(values)]
        column: Column = np.array([*kept, None], dtype=object)[:-1]
        return column
    return np.array([None if at in bad else _not_missing(v) for at, v in enumerate(values)], dtype=np.float64)


def _not_missing(value: float | None) -> float | None:
    """NaN in a file of objects is not finite, as in the stream; only nothing is missing."""
    if value is None:
        return None
    number = as_float(value)
    return math.inf if math.isnan(number) else number


def written_times(array: Any) -> Column | None:
    """Texts as int64 ms where all are RFC 3339 or all are times without an offset (UTC); None where they are not."""
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")) if pa.types.is_string(array.type) else ():
        try:
            nanoseconds = np.asarray(pc.cast(array, kind).cast(pa.int64()), dtype=np.int64)
        except pa.ArrowInvalid:
            continue
        return nanoseconds // 1_000_000
    return None
