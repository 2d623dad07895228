"""Tables as rows of a model: which column is the time, which are outputs, segments and features.

Our fields are `ts`, `id`, `score`, `label`, `value`, `outcome`, `outcome_ts`, `version`, `entity`; a field that is not
mapped is the column of its own name, where there is one (in JSON Lines and Parquet also `features.X`, `segment.X` and
`proba.X` of our own events). A column `proba` of JSON objects, or one that is mapped to it, has the probability of each
class. `model` and `feature_set` say whose a row is, and `latency_ms`, `cost` and `status` how it was served, where they
are mapped, and in our own events; in other tables a column of that name is a feature like any other. Segments are
columns by their names, or mapped (`country=land`). Every other column is a feature.
"""

from __future__ import annotations

import datetime as dt
import difflib
import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from detectors.rows import NO_TIME, Rows, level_text
from detectors.served import SERVED
from schemas.layouts import FeatureLists
from streamer import spans
from streamer.table_columns import MOSTLY
from streamer.table_files import Column, Kind, TableError, TableFile, chunks_of, form_of, open_table
from streamer.table_options import Reading, parse_mapping, parse_rows, reading_of
from streamer.table_proba import looks_like_objects, mappings_of, outputs_of, parsed, without_own, without_unfit
from streamer.table_tally import Tally

__all__ = ["FIELDS", "OUTPUTS", "Part", "Reading", "Table", "TableError", "parse_mapping", "parse_rows", "reading_of"]

#: Whose a row is.
OWNERS = ("model", "feature_set")
FIELDS = ("ts", "id", "score", "label", "value", "outcome", "outcome_ts", "version", "entity", *OWNERS, *SERVED)
OUTPUTS = ("score", "label", "value")
#: The probability of each class as JSON: a field where it is mapped, or where the column holds objects.
PROBA = "proba"
_NUMERIC_OUTPUTS = frozenset({"score", "value", "latency_ms", "cost"})
_RANGE = re.compile(r"^(?P<left>.*?)(?P<first>\d+)\.\.(?P<again>.*?)(?P<last>\d+)$")

_FARTHEST = float(1 << 62)
#: A number as a time: seconds below, then milliseconds, microseconds, nanoseconds; by the column's first chunk.
_UNITS = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (np.inf, 1e-6))


@dataclass(frozen=True)
class Part:
    """Some rows in the file's order; `first` is the place of the first one in the file, from 0. ids: of predictions.

    places: (n,) of all of them where rows between them are left out, None where they follow each other.
    """

    first: int
    rows: Rows
    ids: Sequence[str] | None = None
    places: npt.NDArray[np.int64] | None = None


class Table:
    """A table and what its columns mean. Reading it again gives the same rows.

    kind: `predictions` when a score or a label is there, else `features`. outputs: those of score, label and value
    that are there; served: those of latency_ms, cost and status; shadowed: of them those that are features' names.
    kinds: what each of them is read as. timed: rows have times; a table without them is refused unless `timeless`, and
    then every row's time is `NO_TIME`. outcomes: put what came true, and when (ms, the row's own time where it does not
    say), among the columns.
    ids: read the ids of predictions, by which repeats are known. lenient: see `chunks_of`.
    lists: features that they deny are not read, and named in `denied`.
    known: features of a reference; without a choice of features, others are left out, and named in `left_out`.
    model: whose rows are read, where a column says whose they are. tally: what the last reading met beside good rows.
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
        model: str | None = None,
        lists: FeatureLists | None = None,
    ) -> None:
        self.file: TableFile = open_table(path, header=reading.header)
        self.path, self.reading, self._lenient, self._model = path, reading, lenient, model
        self.tally = Tally()
        columns = list(self.file.kinds)
        # Only a file of objects can hold events of ours.
        nested = form_of(path) in {"jsonl", "parquet"}
        ours = nested and any(column.startswith(("features.", "proba.")) for column in columns)
        self._fields = _fields(path, columns, reading, ours=ours)
        self._segments = {name: self._column_of_segment(name, columns) for name in reading.segments}
        self._classes = {c.removeprefix("proba."): c for c in columns if ours and c.startswith("proba.")}
        self._proba = self._column_of_proba(columns)
        taken = {*self._fields.values(), *self._segments.values(), *self._classes.values(), self._proba}
        named = _named(columns)
        flat = not any(column.startswith("features.") for column in columns)
        chosen = _chosen(path, reading.features, list(named)) if reading.features else [
            name for name, column in named.items()
            if column not in taken and column not in self.file.items
            and (column.startswith("features.") or (flat and not ours))
        ]  # fmt: skip
        derived = {"score", "label"} if self._classes or self._proba else set[str]()
        self.outputs = tuple(name for name in OUTPUTS if name in self._fields or name in derived)
        there = [name for name in chosen if named[name] not in taken]
        self.denied = () if lists is None else tuple(name for name in there if not lists.permits(name))
        there = [name for name in there if name not in self.denied]
        for name in reading.segments:
            if lists is not None and not lists.permits(name):
                raise TableError(f"{path}: segment {name}: is denied by `features` of the configuration")
        wanted = [name for name in there if known is None or reading.features or name in known]
        self.features, self.left_out = tuple(wanted), tuple(name for name in there if name not in wanted)
        if not self.features and not self.outputs:
            left = f" that the configuration does not deny ({', '.join(self.denied)})" if self.denied else ""
            raise TableError(f"{path}: has no feature left{left}; its columns are {_listed(columns)}")
        said = {"score", "label"} & set(self.outputs) or ("value" in self.outputs and "outcome" in self._fields)
        self.kind: Literal["predictions", "features"] = "predictions" if said else "features"
        there = [name for name in SERVED if name in self._fields and self.kind == "predictions"]
        self.shadowed = tuple(name for name in there if name in self.features)
        # What a reference does not know is not read: it is no feature either.
        self.served = tuple(name for name in there if name not in self.features and (known is None or name in known))
        self._columns = {
            **{name: named[name] for name in self.features},
            **{name: self._fields[name] for name in (*self.outputs, *self.served) if name in self._fields},
        }
        said_or_served = (*self.features, *self.outputs, *self.served)
        self.kinds: dict[str, Kind] = {name: self._kind(name, kinds or {}) for name in said_or_served}
        if outcomes and "outcome" in self._fields:
            self._columns["outcome"] = self._fields["outcome"]
            kind = self.file.kinds[self._fields["outcome"]]
            self.kinds["outcome"] = "number" if self.outputs == ("value",) else "text" if kind == "time" else kind
        self._outcome_ts = self._fields.get("outcome_ts", "") if outcomes and "outcome" in self._fields else ""
        self._with_ids = ("id",) if ids and self.kind == "predictions" and "id" in self._fields else ()
        self._unit: float | None = None
        self._some_time = False
        self.timed = "ts" in self._fields or reading.every is not None
        self._check_time(columns, timeless)

    @property
    def with_outcomes(self) -> bool:
        """What came true is among the columns."""
        return "outcome" in self._columns

    @property
    def outcomes_timed(self) -> bool:
        """So is when it came."""
        return bool(self._outcome_ts)

    @property
    def total(self) -> int | None:
        """Rows to be read, where the file says how many there are."""
        if self.reading.last is not None and self.file.total is None:
            return self.reading.last - self.reading.first
        if self.file.total is None:
            return None
        return min(self.file.total, self.reading.last or self.file.total) - self.reading.first

    def parts(self) -> Iterator[Part]:
        """The rows in the file's order, at most 65,536 at a time; what else was met stands in `tally` then."""
        self.tally, self._some_time = Tally(), False
        reading, columns = self.reading, self._read_as()
        first, some, whose = 0, False, dict[str, None]()
        for chunk in chunks_of(self.file, list(columns), columns, lenient=self._lenient, tally=self.tally):
            size = len(next(iter(chunk.values())))
            low = max(reading.first - first, 0)
            high = size if reading.last is None else min(reading.last - first, size)
            if not first and not self._lenient:
                self._refuse_words(size)
            if low < high:
                part = self._part({name: column[low:high] for name, column in chunk.items()}, first + low, high - low)
                if not first and not self._lenient:
                    self._refuse_words(size)  # of the probabilities
                part = self._own(part, chunk, low, high, whose)
                if len(part.rows):
                    some = True
                    yield part
            first += size
            if reading.last is not None and first >= reading.last:
                break
        if not some and whose:
            named = ", ".join(repr(name) for name in list(whose)[:5])
            raise TableError(f"{self.path}: has no row of model {self._model!r}; there are rows of {named}")
        if not some:
            raise TableError(f"{self.path}: has no rows {reading.first}:{reading.last or ''}; it has {first}")

    def _read_as(self) -> dict[str, Kind]:
        """Columns to be read, and what as."""
        texts = [name for name in ("version", *self._with_ids, *self._owners()) if name in self._fields]
        kinds: dict[str, Kind] = {column: self.kinds[name] for name, column in self._columns.items()}
        kinds |= dict.fromkeys(self._classes.values(), "number")
        kinds |= {self._proba: "text"} if self._proba else {}
        kinds |= dict.fromkeys([*self._segments.values(), *(self._fields[name] for name in texts)], "text")
        for name in (self._fields.get("ts"), self._outcome_ts):
            if name:
                kinds[name] = "number" if self.file.kinds[name] == "number" else "time"
        return kinds

    def _owners(self) -> tuple[str, ...]:
        return () if self._model is None else OWNERS

    def _own(self, part: Part, chunk: Mapping[str, Column], low: int, high: int, whose: dict[str, None]) -> Part:
        """The part without rows of other models, which are counted."""
        columns = [chunk[self._fields[name]][low:high] for name in self._owners() if name in self._fields]
        if not columns:
            return part
        mine = np.logical_or.reduce([column == self._model for column in columns])
        if mine.all():
            return part
        self.tally.others += int((~mine).sum())
        for column in columns:
            whose.update(dict.fromkeys(name for name in column[~mine][:1000].tolist() if name is not None))
        at = np.flatnonzero(mine)
        ids = None if part.ids is None else [part.ids[i] for i in at.tolist()]
        return Part(part.first + int(at[0]) if at.size else part.first, part.rows.take(at), ids, part.first + at)

    def _part(self, chunk: Mapping[str, Column], first: int, size: int) -> Part:
        version = self._fields.get("version")
        columns = {name: chunk[column] for name, column in self._columns.items()}
        proba, own, shares = None, columns.get("score"), dict[str, Column]()
        if self._proba:
            proba, shares = parsed(chunk[self._proba], self._proba, first=first, tally=self.tally)
            shares = shares or {"": np.full(size, np.nan)}
        elif self._classes:
            shares = {name: chunk[column] for name, column in self._classes.items()}
            proba = mappings_of(shares) if self._lenient or self.with_outcomes else None
        if shares and not self._lenient:  # a lenient reader's stages refuse them
            shares = without_unfit(shares, self._proba or PROBA, first=first, tally=self.tally)
        if shares:
            columns |= outputs_of(shares, score=own, label=columns.get("label"))
        ts = self._times(chunk, first, size)
        if self._outcome_ts:
            came, bad, _ = self._instants(chunk[self._outcome_ts], self._outcome_ts, self._unit)
            columns["outcome_ts"] = np.where(bad | (came == NO_TIME), ts, came)
        rows = Rows(
            ts=ts,
            columns=columns,
            version=chunk[version] if version else None,
            segments={name: chunk[column] for name, column in self._segments.items()},
            proba=None if proba is None else without_own(proba, own),
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
        column = chunk[self._fields["ts"]]
        times, bad, self._unit = self._instants(column, self._fields["ts"], self._unit)
        times[bad] = NO_TIME
        self._untimed(bad, np.full(size, None, dtype=object) if column.dtype == np.int64 else column, first)
        return times

    def _instants(
        self, column: Column, name: str, unit: float | None
    ) -> tuple[Column, npt.NDArray[np.bool_], float | None]:
        """Times in ms, which of them are none, and the unit of numbers, found here if it is not known yet."""
        if column.dtype == np.int64:
            return column.copy(), column == NO_TIME, unit
        if column.dtype == np.float64 or self.file.kinds[name] == "number":
            numbers = column if column.dtype == np.float64 else _numbers_only(column)
            bad = ~np.isfinite(numbers)
            if unit is None and not bad.all():
                # The usual one: a single time far ahead does not change what all others mean.
                usual = float(np.median(np.abs(numbers[~bad])))
                unit = next(factor for limit, factor in _UNITS if usual < limit)
            scaled = np.floor(np.where(bad, 0.0, numbers) * (unit or 1.0))
            # Beyond what int64 holds is beyond every time that can be; the stages refuse it.
            return np.clip(scaled, -_FARTHEST, _FARTHEST).astype(np.int64), bad, unit
        return *self._written_times(column.tolist()), unit

    def _written_times(self, column: Sequence[object]) -> tuple[Column, npt.NDArray[np.bool_]]:
        times, bad = np.zeros(len(column), dtype=np.int64), np.zeros(len(column), dtype=bool)
        for at, text in enumerate(column):
            try:
                times[at] = spans.instant(text)
            except ValueError:
                bad[at] = True
        return times, bad

    def _untimed(self, bad: npt.NDArray[np.bool_], written: Column, first: int) -> None:
        """Count rows without a time; where there is none at all to begin with, the column is no time."""
        self._some_time = self._some_time or not bad.all()
        if not bad.any():
            return
        row = first + int(np.argmax(bad))
        shown = "nothing" if level_text(written[row - first]) is None else repr(written[row - first])
        if not self._some_time:
            raise TableError(
                f"{self.path}: row {row}, column {self._fields['ts']}: {shown} is not a time; known are RFC 3339, "
                "2025-01-31 14:00:00, 2025-01-31, and numbers of s, ms, µs or ns since 1970"
            )
        self.tally.untimed.add(int(bad.sum()), place=row, value=shown)

    def _refuse_words(self, rows: int) -> None:
        """An error where a column that must be of numbers is of words."""
        for name, met in self.tally.words.items():
            if name == self._proba and met.count > (1 - MOSTLY) * rows:
                raise TableError(
                    f"{self.path}: row {met.place}, column {name}: {met.value!r} is no JSON object of numbers, nor are "
                    f"{met.count:,} of the first {rows:,}"
                )
            if met.count > (1 - MOSTLY) * rows:
                raise TableError(
                    f"{self.path}: row {met.place}, column {name}: {met.value!r} is not a number, nor are "
                    f"{met.count:,} of the first {rows:,} values; read the column as text with --categorical {name}, "
                    "or leave it out"
                )

    def _kind(self, name: str, wanted: Mapping[str, Kind]) -> Kind:
        kind = self.file.kinds[self._columns[name]] if name in self._columns else "text"
        if name in wanted:
            return wanted[name]
        if name == "label" or (name == "status" and name in self.served):
            return "text"
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.reading.categorical):
            return "text"
        if name in _NUMERIC_OUTPUTS:
            return "number"
        return "text" if kind == "time" else kind

    def _column_of_proba(self, columns: Sequence[str]) -> str:
        """The column with the probability of each class as JSON, "" where there is none."""
        mapped = self.reading.mapping.get(PROBA)
        if mapped is not None:
            if mapped not in columns:
                raise _unknown(self.path, f"--map: {PROBA}={mapped}", mapped, columns)
            return mapped
        if PROBA not in columns or self.file.kinds[PROBA] != "text" or PROBA in self._fields.values():
            return ""
        kinds: dict[str, Kind] = {PROBA: "text"}
        head = next(chunks_of(self.file, [PROBA], kinds, lenient=True))
        return PROBA if looks_like_objects(head[PROBA]) else ""

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


def _numbers_only(column: Column) -> Column:
    """An object array as numbers; NaN where there is none."""
    return np.array([v if isinstance(v, int | float) else np.nan for v in column.tolist()], dtype=np.float64)


def _fields(path: Path, columns: Sequence[str], reading: Reading, *, ours: bool) -> dict[str, str]:
    fields = {name: name for name in FIELDS if name in columns and (ours or name not in (*OWNERS, *SERVED))}
    for name, column in reading.mapping.items():
        if name == PROBA:
            continue
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


def _named(columns: Sequence[str]) -> dict[str, str]:
    """Columns by the features that they would be; of two of one name the one that says that it is a feature."""
    named: dict[str, str] = {}
    for column in columns:
        name = column.removeprefix("features.")
        if name not in named or name != column:
            named[name] = column
    return named


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
