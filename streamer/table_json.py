"""JSON Lines: one object a line; objects inside it become columns with dotted names, lists are left out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detectors.rows import level_text
from streamer.formats.lenient import as_float
from streamer.table_columns import CHUNK_ROWS, Chunk, Column, Kind, TableError, TableFile, no_number, unpacked

#: Nothing else is one: 1.5 as a text, or true, is a wrong type in the stream.
_NUMBERS = {int, float, type(None)}


def look_json_lines(path: Path) -> TableFile:
    """Columns and kinds by the first 65,536 rows."""
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
    with unpacked(path) as file:
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
    """NaN, Infinity and 1e400 are numbers to Python's parser; all count as not finite, NaN too, as in the stream."""
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


def read_json_lines(table: TableFile, wanted: Mapping[str, Kind], *, lenient: bool) -> Iterator[Chunk]:
    """Some columns of JSON Lines, chunk by chunk. lenient: a text among numbers stays where it is, as a text."""
    first = 0
    for rows in _json_rows(table.path):
        chunk: Chunk = {}
        for name, kind in wanted.items():
            values = [row.get(name) for row in rows]
            if kind == "number":
                chunk[name] = _json_numbers(values, table, name, first, lenient=lenient)
            else:
                chunk[name] = np.array([*map(level_text, values), None], dtype=object)[:-1]
        first += len(rows)
        yield chunk


def _json_numbers(values: list[Any], table: TableFile, name: str, first: int, *, lenient: bool) -> Column:
    kinds = set(map(type, values))
    if kinds <= _NUMBERS:
        return np.array([_number(value) for value in values], dtype=np.float64)
    if lenient:
        column: Column = np.array([*values, None], dtype=object)[:-1]
        return column
    at = next(i for i, value in enumerate(values) if type(value) not in _NUMBERS)
    raise no_number(table, first + at, name, values[at])


def _number(value: float | None) -> float:
    if value is None:
        return math.nan
    number = as_float(value)
    return math.inf if math.isnan(number) else number
