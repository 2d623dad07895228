"""How a table is to be read, as the command line and the configuration say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from streamer import spans
from streamer.table_columns import TableError


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
