"""Tables as rows of a model: which column is the time, which are outputs, segments and features.

Our fields are `ts`, `id`, `score`, `label`, `value`, `outcome`, `version`, `entity`; a field that is not mapped is the
column of its own name, where there is one (in JSON Lines and Parquet also `features.X` and `segment.X` of our own
events). Segments are columns by their names, or mapped (`country=land`). Every other column is a feature.
"""

from __future__ import annotations

import datetime as dt
import difflib
import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from detectors.rows import NO_TIME, Rows, level_text
from streamer import spans
from streamer.table_files import Column, Kind, TableError, TableFile, chunks_of, open_table

FIELDS = ("ts", "id", "score", "label", "value", "outcome", "version", "entity", "model", "feature_set")
OUTPUTS = ("score", "label", "value")
_NUMERIC_OUTPUTS = frozenset({"score", "value"})
_RANGE = re.compile(r"^(?P<left>.*?)(?P<first>\d+)\.\.(?P<again>.*?)(?P<last>\d+)$")

#: A number as a time: seconds below, then milliseconds, microseconds, nanoseconds; by the column's first chunk.
_UNITS = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (np.inf, 1e-6))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a table is to be read; all of it may come from options or from the configuration.

    mapping: our field or segment → the table's column. features: names, globs, and ranges such as `c0..c32`; empty:
    every column that is nothing else. categorical: columns whose numbers are names. every, start: ms, for a table
    without a time column: row i (of the file) happened at start + i·every. first, last: rows [first, last) only.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    every: int | None = None
    start: int | None = None
    header: bool | None = None
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class Part:
    """Some consecutive rows; `first` is the place of the first one in the file, from 0. ids: of predictions."""

    first: int
    rows: Rows
    ids: Sequence[str] | None = None


class Table:
    """A table and what its columns mean. Reading it again gives the same rows.

    kind: `predictions` when a score or a label is there, else `features`. outputs: those of score, label and value
    that are there. kinds: what each feature and output is read as. timed: rows have times; a table without them is
    refused unless `timeless`, and then every row's time is `NO_TIME`. outcomes: put what came true among the columns.
    ids: read the ids of predictions, by which repeats are known. lenient: see `chunks_of`.
    known: features of a reference; without a choice of features, others are left out, and named in `left_out`.
    """

    def __init__(
        self,
        path: Path,
        reading: Reading,
        *,
        kinds: Mapping[str, Kind] | None = None,
        timeless: bool = False,
        outcomes: bool = False,
        ids: bool = False,
        lenient: bool = False,
        known: Collection[str] | None = None,
    ) -> None:
        self.file: TableFile = open_table(path, header=reading.header)
        self.path, self.reading, self._lenient = path, reading, lenient
        columns = list(self.file.kinds)
        self._fields = _fields(path, columns, reading)
        self._segments = {name: self._column_of_segment(name, columns) for name in reading.segments}
        taken = {*self._fields.values(), *self._segments.values()}
        named = {column.removeprefix("features."): column for column in columns}
        ours = any(column.startswith("features.") for column in columns)
        chosen = _chosen(path, reading.features, list(named)) if reading.features else [
            name for name, column in named.items()
            if column not in taken and (column.startswith("features.") or not ours)
        ]  # fmt: skip
        self.outputs = tuple(name for name in OUTPUTS if name in self._fields)
        there = [name for name in chosen if named[name] not in taken]
        wanted = [name for name in there if known is None or reading.features or name in known]
        self.features, self.left_out = tuple(wanted), tuple(name for name in there if name not in wanted)
        if not self.features and not self.outputs:
            raise TableError(f"{path}: has no feature left; its columns are {_listed(columns)}")
        self.kind: Literal["predictions", "features"] = (
            "predictions" if {"score", "label"} & set(self._fields) else "features"
        )
        self._columns = {**{name: named[name] for name in self.features}, **{o: self._fields[o] for o in self.outputs}}
        self.kinds: dict[str, Kind] = {name: self._kind(name, kinds or {}) for name in self._columns}
        if outcomes and "outcome" in self._fields:
            self._columns["outcome"] = self._fields["outcome"]
            self.kinds["outcome"] = self.file.kinds[self._fields["outcome"]]
        self._with_ids = ("id",) if ids and self.kind == "predictions" and "id" in self._fields else ()
        self._unit: float | None = None
        self.timed = "ts" in self._fields or reading.every is not None
        self._check_time(columns, timeless)

    @property
    def total(self) -> int | None:
        """Rows to be read, where the file says how many there are."""
        if self.reading.last is not None and self.file.total is None:
            return self.reading.last - self.reading.first
        if self.file.total is None:
            return None
        return min(self.file.total, self.reading.last or self.file.total) - self.reading.first

    def parts(self) -> Iterator[Part]:
        """The rows in the file's order, at most 65,536 at a time."""
        reading = self.reading
        others = {self._fields[name]: name for name in ("ts", "version", *self._with_ids) if name in self._fields}
        columns = dict.fromkeys([*self._columns.values(), *self._segments.values(), *others])
        kinds: dict[str, Kind] = {self._columns[name]: kind for name, kind in self.kinds.items()}
        for name in [
            *self._segments.values(),
            *(self._fields[f] for f in ("version", *self._with_ids) if f in self._fields),
        ]:
            kinds[name] = "text"
        if self.timed and reading.every is None and self.file.kinds[self._fields["ts"]] == "text":
            kinds[self._fields["ts"]] = "time"
        first, some = 0, False
        for chunk in chunks_of(self.file, list(columns), kinds, lenient=self._lenient):
            size = len(next(iter(chunk.values())))
            low = max(reading.first - first, 0)
            high = size if reading.last is None else min(reading.last - first, size)
            if low < high:
                some = True
                yield self._part({name: column[low:high] for name, column in chunk.items()}, first + low, high - low)
            first += size
            if reading.last is not None and first >= reading.last:
                break
        if not some:
            raise TableError(f"{self.path}: has no rows {reading.first}:{reading.last or ''}; it has {first}")

    def _part(self, chunk: Mapping[str, Column], first: int, size: int) -> Part:
        version = self._fields.get("version")
        rows = Rows(
            ts=self._times(chunk, first, size),
            columns={name: chunk[column] for name, column in self._columns.items()},
            version=chunk[version] if version else None,
            segments={name: chunk[column] for name, column in self._segments.items()},
        )
        ids = (
            [f"#{first + i}" if name is None else name for i, name in enumerate(chunk[self._fields["id"]])]
            if self._with_ids
            else None
        )
        return Part(first, rows, ids)

    def _times(self, chunk: Mapping[str, Column], first: int, size: int) -> Column:
        reading = self.reading
        if reading.every is not None and reading.start is not None:
            return reading.start + np.arange(first, first + size, dtype=np.int64) * reading.every
        if not self.timed:
            return np.full(size, NO_TIME, dtype=np.int64)
        name = self._fields["ts"]
        column = chunk[name]
        if column.dtype == np.int64:
            return column
        if column.dtype == np.float64:
            bad = ~np.isfinite(column)
            if bad.any():
                raise self._no_time(name, first + int(np.argmax(bad)), column[np.argmax(bad)])
            if self._unit is None:
                most = float(np.abs(column).max())
                self._unit = next(factor for limit, factor in _UNITS if most < limit)
            return np.floor(column * self._unit).astype(np.int64)
        return self._written_times(name, column, first)

    def _written_times(self, name: str, column: Column, first: int) -> Column:
        times = np.empty(len(column), dtype=np.int64)
        for at, text in enumerate(column):
            try:
                times[at] = spans.instant(text)
            except ValueError:
                raise self._no_time(name, first + at, text) from None
        return times

    def _no_time(self, name: str, row: int, value: object) -> TableError:
        shown = "nothing" if level_text(value) is None else repr(value)
        return TableError(
            f"{self.path}: row {row}, column {name}: {shown} is not a time; known are RFC 3339, "
            "2025-01-31 14:00:00, 2025-01-31, and numbers of s, ms, µs or ns since 1970"
        )

    def _kind(self, name: str, wanted: Mapping[str, Kind]) -> Kind:
        kind = self.file.kinds[self._columns[name]]
        if name in wanted:
            return wanted[name]
        if name == "label" or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.reading.categorical):
            return "text"
        if name in _NUMERIC_OUTPUTS:
            return "number"
        return "text" if kind == "time" else kind

    def _column_of_segment(self, name: str, columns: Sequence[str]) -> str:
        mapped = self.reading.mapping.get(f"segment.{name}") or self.reading.mapping.get(name) or name
        for column in (mapped, f"segment.{name}", f"features.{name}"):
            if column in columns:
                return column
        raise _unknown(self.path, f"segment {name}", name, columns)

    def _check_time(self, columns: Sequence[str], timeless: bool) -> None:
        every, start = self.reading.every, self.reading.start
        if (every is None) != (start is None):
            raise TableError("--every and --start belong together: the time between rows, and the time of row 0")
        if every is not None and every <= 0:
            raise TableError("--every must be more than 0")
        if not self.timed and not timeless:
            raise TableError(
                f"{self.path}: has no time column `ts`; map one with --map ts=COLUMN, or give --every 60s --start "
                f"2025-01-01; its columns are {_listed(columns)}"
            )


def parse_mapping(text: str) -> dict[str, str]:
    """`--map` as people write it.

    >>> parse_mapping("ts=timestamp,id=identifier")
    {'ts': 'timestamp', 'id': 'identifier'}
    """
    mapping: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise TableError(f"--map: {part!r} must be FIELD=COLUMN, for instance ts=timestamp")
        if name.strip() in mapping:
            raise TableError(f"--map: {name.strip()} is there twice")
        mapping[name.strip()] = column.strip()
    return mapping


def parse_rows(text: str) -> tuple[int, int | None]:
    """`--rows A:B`, rows from A on and before B, counted from 0; either may be left out.

    >>> parse_rows("0:8064"), parse_rows("8064:")
    ((0, 8064), (8064, None))
    """
    match = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if match is None:
        raise TableError(f"--rows: {text!r} must be A:B, for instance 0:8064")
    first, last = int(match[1] or 0), int(match[2]) if match[2] else None
    if last is not None and last <= first:
        raise TableError(f"--rows: {text!r} has no rows")
    return first, last


def reading_of(
    base: Reading, *, map: str = "", features: str = "", segments: str = "", categorical: str = "", rows: str = "",
    every: str = "", start: str = "", header: bool | None = None,
) -> Reading:  # fmt: skip
    """`base` with what the command line says; an empty option leaves it as it is."""
    try:
        first, last = parse_rows(rows) if rows else (base.first, base.last)
        return replace(
            base,
            mapping={**base.mapping, **parse_mapping(map)},
            features=_split(features) or base.features,
            segments=_split(segments) or base.segments,
            categorical=_split(categorical) or base.categorical,
            every=spans.duration(every) if every else base.every,
            start=spans.instant(start) if start else base.start,
            header=header if header is not None else base.header,
            first=first,
            last=last,
        )
    except ValueError as error:
        option = "--every" if every and not re.fullmatch(spans.DURATION_PATTERN, every) else "--start"
        raise TableError(f"{option}: {error}, got {(every if option == '--every' else start)!r}") from error


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in text.split(",")) if part)


def _fields(path: Path, columns: Sequence[str], reading: Reading) -> dict[str, str]:
    fields = {name: name for name in FIELDS if name in columns}
    for name, column in reading.mapping.items():
        if name not in FIELDS and name.removeprefix("segment.") not in reading.segments:
            near = difflib.get_close_matches(name, [*FIELDS, *reading.segments], n=1)
            raise TableError(
                f"--map: {name} is neither a field nor a segment"
                + (f", did you mean {near[0]}?" if near else f"; fields are {', '.join(FIELDS)}")
            )
        if column not in columns:
            raise _unknown(path, f"--map: {name}={column}", column, columns)
        if name in FIELDS:
            fields[name] = column
    if reading.every is not None:
        fields.pop("ts", None)
    used = set(reading.mapping.values())
    return {n: c for n, c in fields.items() if n in reading.mapping or c not in used}


def _chosen(path: Path, patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Columns by names, globs and ranges, in the table's order."""
    chosen: set[str] = set()
    for pattern in patterns:
        match = _RANGE.match(pattern)
        if pattern in names:
            chosen.add(pattern)
        elif match and match["left"] == match["again"]:
            wanted = [f"{match['left']}{i}" for i in range(int(match["first"]), int(match["last"]) + 1)]
            lacking = [name for name in wanted if name not in names]
            if lacking or not wanted:
                raise _unknown(path, f"--features: {pattern}", lacking[0] if lacking else pattern, names)
            chosen.update(wanted)
        else:
            found = fnmatch.filter(names, pattern)
            if not found:
                raise _unknown(path, f"--features: {pattern}", pattern, names)
            chosen.update(found)
    return [name for name in names if name in chosen]


def _unknown(path: Path, what: str, name: str, columns: Sequence[str]) -> TableError:
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]}?" if near else f"its columns are {_listed(columns)}"
    return TableError(f"{path}: {what}: there is no such column; {hint}")


def _listed(columns: Sequence[str]) -> str:
    few = ", ".join(columns[:12])
    return few if len(columns) <= 12 else f"{few}, … ({len(columns)} in all)"


def datetime_of(milliseconds: int) -> dt.datetime:
    """A time for people's eyes and for rich."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC)
