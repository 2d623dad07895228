"""JSON Lines: one object a line; objects inside it become columns with dotted names, lists are left out.

A line that is no object is left out and counted; a file in which more than one in a hundred of the first is none is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detectors.rows import level_text
from streamer.table_columns import CHUNK_ROWS, MOSTLY, Chunk, Kind, TableError, TableFile, unpacked, wrong_types
from streamer.table_tally import Tally


def look_json_lines(path: Path) -> TableFile:
    """Columns and kinds by the first 65,536 rows."""
    tally = Tally()
    rows = next(_json_rows(path, tally), [])
    if tally.lines.count > (1 - MOSTLY) * (len(rows) + tally.lines.count):
        raise TableError(f"{path}: line {tally.lines.place}: {tally.lines.value}")
    if not rows:
        raise TableError(f"{path}: has no rows")
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return TableFile(path, {name: _guess([row.get(name) for row in rows]) for name in names})


def _guess(values: list[Any]) -> Kind:
    there = [value for value in values if value is not None]
    numbers = sum(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    return "number" if there and numbers >= MOSTLY * len(there) else "text"


def _json_rows(path: Path, tally: Tally) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with unpacked(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except msgspec.DecodeError:
                row = _lenient(line)
            if not isinstance(row, dict):
                tally.lines.add(1, place=number, value=row if isinstance(row, _NotJson) else "is not an object")
                continue
            rows.append(_flattened(row))
            if len(rows) == CHUNK_ROWS:
                yield rows
                rows = []
    if rows:
        yield rows


class _NotJson(str):
    """Why a line is none."""


def _lenient(line: bytes) -> Any:
    """NaN, Infinity and 1e400 are numbers to Python's parser; all count as not finite, NaN too, as in the stream."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return _NotJson(f"is not JSON: {error}")


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


def read_json_lines(table: TableFile, wanted: Mapping[str, Kind], *, lenient: bool, tally: Tally) -> Iterator[Chunk]:
    """Some columns of JSON Lines, chunk by chunk. Texts among numbers are counted, and missing, or kept when lenient:
    1.5 as a text, or true, is of a wrong type in the stream too.
    """
    first = 0
    for rows in _json_rows(table.path, tally):
        chunk: Chunk = {}
        for name, kind in wanted.items():
            values = [row.get(name) for row in rows]
            if kind == "number":
                chunk[name] = wrong_types(values, name, first=first, keep=lenient, tally=tally)
            else:
                chunk[name] = np.array([*map(level_text, values), None], dtype=object)[:-1]
        first += len(rows)
        yield chunk
