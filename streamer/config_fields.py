"""What a value of the configuration may be: text that people write, checked and turned into what the program needs."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationInfo, WithJsonSchema

from detectors.rows import level_text
from streamer import spans


class Compared(NamedTuple):
    """What a model's means are compared with: `days` local days that end `lag` whole days before today; 0: none."""

    days: int
    lag: int


_COMPARED = {"reference": Compared(0, 0), "yesterday": Compared(1, 0), "last week": Compared(1, 6)}
#: A day lies between, so that a change has a day to show before it is compared with itself.
_TRAILING = re.compile(r"trailing (\d{1,2})d")


def off_or(text: object) -> int | None:
    """A duration, or None for `off`."""
    return None if text is None or text == "off" else spans.duration(text)


def many(value: object) -> object:
    """One entry may stand without its list."""
    return value if isinstance(value, list | tuple) else [value]


def policies(value: object) -> object:
    """One policy or a list of them; none for `off`."""
    return [] if value is None or value == "off" else many(value)


def section_or_off(value: object) -> object:
    """A section; one that is there without a line in it has its defaults, `off` is none."""
    return {} if value is None else None if value == "off" else value


def place_to_start(text: object) -> object:
    """`latest`, `earliest`, or a time in ms."""
    return text if text in ("latest", "earliest") else spans.instant(text)


def _pane(text: object) -> int:
    milliseconds = spans.duration(text)
    if milliseconds < 1_000:
        raise ValueError("must be at least 1s")
    return milliseconds


def _beside(text: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder", "")
    return str(Path(folder) / text)


_NAME = re.compile(r"^[^|\x00-\x1f]{1,128}$")
_SERVER = re.compile(r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}$")
_DURATION_SCHEMA = {"type": ["string", "integer"], "pattern": spans.DURATION_PATTERN, "examples": ["30s", "5m", "24h"]}


def _name(text: str) -> str:
    if not _NAME.match(text):
        raise ValueError("must be 1 to 128 characters without `|` and control characters")
    return text


def _server(text: str) -> str:
    if not _SERVER.match(text):
        raise ValueError("must be host:port")
    return text


def _zone(text: str) -> str:
    if text not in zoneinfo.available_timezones():
        raise ValueError("must be an IANA time zone such as Europe/Paris")
    return text


def web_address(text: str) -> str:
    """The address of a server, without a slash at its end; ValueError when it is none, or carries a password."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    if parts.username or parts.password:
        raise ValueError("must not carry a password; use basic_auth")
    return text.rstrip("/")


def _level(value: object) -> object:
    return level_text(value) if isinstance(value, bool | int | float) else value


def _date(text: str) -> str:
    try:
        known = datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    if not known:
        raise ValueError("must be a date such as 2025-12-25")
    return text


def _compared(text: object) -> Compared:
    """Days that are compared with, and how many whole days lie between them and today."""
    words = text.strip() if isinstance(text, str) else ""
    if words in _COMPARED:
        return _COMPARED[words]
    match = _TRAILING.fullmatch(words)
    if match is None or not 2 <= int(match[1]) <= 60:
        raise ValueError("must be reference, yesterday, last week, or trailing 2d to trailing 60d")
    return Compared(int(match[1]), 1)


Int: TypeAlias = Annotated[int, Strict()]
Number: TypeAlias = Annotated[float, Strict()]
Flag: TypeAlias = Annotated[bool, Strict()]
Name: TypeAlias = Annotated[str, AfterValidator(_name)]
Zone: TypeAlias = Annotated[str, AfterValidator(_zone)]
Date: TypeAlias = Annotated[str, AfterValidator(_date)]
DayWord: TypeAlias = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "off"]
Url: TypeAlias = Annotated[str, AfterValidator(web_address)]
Server: TypeAlias = Annotated[str, AfterValidator(_server)]
#: A class as outcomes name it: `1` and `true` may stand without quotes.
ClassName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=256), BeforeValidator(_level, json_schema_input_type=str | int | bool)
]
#: A path in the file is relative to the file.
Beside: TypeAlias = Annotated[str, AfterValidator(_beside)]
Duration: TypeAlias = Annotated[int, BeforeValidator(spans.duration), WithJsonSchema(_DURATION_SCHEMA)]
Pane: TypeAlias = Annotated[
    int, BeforeValidator(_pane), WithJsonSchema({"anyOf": [_DURATION_SCHEMA, {"const": "batch"}]})
]
DurationOrOff: TypeAlias = Annotated[
    int | None, BeforeValidator(off_or), WithJsonSchema({"anyOf": [_DURATION_SCHEMA, {"const": "off"}]})
]
FalseAlarms: TypeAlias = Annotated[
    spans.Budget,
    BeforeValidator(spans.budget),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ +per +\S+$", "examples": ["1 per 30d"]}),
]
Compare: TypeAlias = Annotated[
    Compared,
    BeforeValidator(_compared),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(reference|yesterday|last week|trailing [0-9]{1,2}d)$",
            "examples": ["reference", "trailing 7d", "yesterday", "last week"],
        }
    ),
]
Instant: TypeAlias = Annotated[
    int, BeforeValidator(spans.instant), WithJsonSchema({"type": "string", "examples": ["2025-01-31T14:00:00Z"]})
]
