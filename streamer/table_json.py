"""JSON Lines: one object a line; what lies inside it becomes columns with dotted names, `user.country`, `scores.1`.

Entries of lists are columns for those who name them (`--map score=scores.1`), no features by themselves.

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
from streamer.table_tally import Met, Tally

#: Objects of an event of ours, whose entries are what they are.
_OURS = ("features", "proba", "segment")
_NESTED = (dict, list)
#: How deep names go, and how many entries of a list have one.
_DEPTH, _ITEMS = 8, 64


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
        names.update(dict.fromkeys(name for name, value in row.items() if not isinstance(value, _NESTED)))
    kinds = {name: _guess([row.get(name) for row in rows]) for name in names}
    return TableFile(path, kinds, lists=tuple(tally.lists), items=frozenset(tally.items & kinds.keys()))


def _guess(values: list[Any]) -> Kind:
    there = [value for value in values if value is not None and not isinstance(value, _NESTED)]
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
            rows.append(_flattened(row, tally))
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


def _flattened(row: dict[str, Any], tally: Tally) -> dict[str, Any]:
    if not any(isinstance(value, dict | list) for value in row.values()):
        return row
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "features" and isinstance(value, dict):
            # One that is an object or a list is of a wrong type, as in the stream; where all are, it is no column.
            flat.update((f"{name}.{inner}", within) for inner, within in value.items())
            tally.lists.update(dict.fromkeys(f"{name}.{at}" for at, one in value.items() if isinstance(one, list)))
            continue
        _spread(flat, name, value, depth=1 if name in _OURS else _DEPTH, item=False, tally=tally)
    return flat


def _spread(flat: dict[str, Any], name: str, value: Any, *, depth: int, item: bool, tally: Tally) -> None:
    if isinstance(value, dict):
        for inner, within in value.items() if depth else ():
            _spread(flat, f"{name}.{inner}", within, depth=depth - 1, item=item, tally=tally)
    elif isinstance(value, list):
        if not item:
            tally.lists.setdefault(name)
        for at, within in enumerate(value[:_ITEMS] if depth else ()):
            _spread(flat, f"{name}.{at}", within, depth=depth - 1, item=True, tally=tally)
    else:
        flat[name] = value
        if item:
            tally.items.add(name)


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
                nested = [at for at, value in enumerate(values) if isinstance(value, _NESTED)]
                if nested:
                    met = tally.nested.setdefault(name, Met())
                    met.add(len(nested), place=first + nested[0], value=str(values[nested[0]]))
                    values = [None if isinstance(value, _NESTED) else value for value in values]
                chunk[name] = np.array([*map(level_text, values), None], dtype=object)[:-1]
        first += len(rows)
        yield chunk
