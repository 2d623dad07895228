"""Durations, budgets and times as people write them; parsed once, at the door, into int milliseconds."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

#: Milliseconds per unit, longest first.
UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
#: What a duration looks like, for the JSON Schema of the configuration.
DURATION_PATTERN = r"^(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)$"

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(DURATION_PATTERN)
_BUDGET = re.compile(r"^(\d+(?:\.\d+)?)\s+per\s+(\S+)$")


class Budget(NamedTuple):
    """At most `false_alarms` incidents per `budget_ms` of event time when nothing has changed."""

    false_alarms: float
    budget_ms: int


def duration(text: object) -> int:
    """Milliseconds of `5m`, `30s`, `1h30m`, `1.5h`, `7d`, `250ms` or `0`. ValueError says what would be right.

    >>> duration("5m"), duration("1h30m"), duration("250ms"), duration(0)
    (300000, 5400000, 250, 0)
    """
    if text in (0, "0") and not isinstance(text, bool):
        return 0
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"needs a unit, for instance {text}s or {text}m")
    compact = text.replace(" ", "") if isinstance(text, str) else ""
    if not _DURATION.match(compact):
        raise ValueError("must be a duration such as 30s, 5m, 2h or 7d")
    total = sum(float(amount) * UNITS[unit] for amount, unit in _PART.findall(compact))
    if total > 100 * 366 * UNITS["d"]:
        raise ValueError("must be at most a hundred years")
    if total != int(total):
        raise ValueError("must be a whole number of milliseconds")
    return int(total)


def budget(text: object) -> Budget:
    """A false-alarm budget, `N per DURATION`.

    >>> budget("1 per 30d")
    Budget(false_alarms=1.0, budget_ms=2592000000)
    """
    match = _BUDGET.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("must be a budget such as `1 per 30d`")
    alarms, span = float(match[1]), duration(match[2])
    if alarms <= 0 or span <= 0:
        raise ValueError("must allow more than 0 alarms per more than 0 time: no detector that can see has none")
    return Budget(alarms, span)


def instant(text: object) -> int:
    """Milliseconds since the epoch of an RFC 3339 time, a date, or an integer of milliseconds; UTC without an offset,
    and where ` UTC` stands behind it.

    >>> instant("2025-01-01"), instant("2025-01-01T01:00:00+01:00"), instant("2025-01-01 00:00:00.250")
    (1735689600000, 1735689600000, 1735689600250)
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    try:
        moment = dt.datetime.fromisoformat(text.removesuffix(" UTC") if isinstance(text, str) else "")
    except ValueError:
        raise ValueError("must be a time such as 2025-01-31, 2025-01-31T14:00:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return round((aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(milliseconds=1))


def rfc3339(milliseconds: int) -> str:
    """A time as we print it: UTC, `Z`, milliseconds only where there are some.

    >>> rfc3339(1735689600000), rfc3339(1735689600250)
    ('2025-01-01T00:00:00Z', '2025-01-01T00:00:00.250Z')
    """
    seconds, rest = divmod(milliseconds, 1000)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    fraction = f".{rest:03d}" if rest else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def words(milliseconds: int) -> str:
    """A duration in the largest units that say it exactly.

    >>> words(300_000), words(5_400_000), words(0), words(172_800_000), words(1_500)
    ('5m', '1h30m', '0s', '2d', '1s500ms')
    """
    parts, rest = [], milliseconds
    for unit, size in UNITS.items():
        if unit == "w":
            continue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
