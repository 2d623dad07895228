"""Event times as integers of milliseconds, many at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.events import EARLIEST_MS

Ints: TypeAlias = npt.NDArray[np.int64]

#: The end of the year 9999.
LATEST_MS = 253_402_300_799_999
#: Stands for a text that is no time.
UNREADABLE = -(1 << 62)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_FAR = 1 << 62


def milliseconds(times: Sequence[int | float | str]) -> Ints:
    """Milliseconds since the epoch; numbers are milliseconds, text is RFC 3339 (UTC where it names no offset).

    Fractions are cut towards the past; a text that is no time gives `UNREADABLE`; numbers beyond 2**62 are cut to it.

    >>> milliseconds([1.9, 7, "1970-01-01T01:00:00+01:00", "1970-01-01T00:00:01.5Z", "soon"]).tolist()
    [1, 7, 0, 1500, -4611686018427387904]
    """
    if set(map(type, times)) <= {int}:
        try:
            return np.fromiter(times, dtype=np.int64, count=len(times))
        except OverflowError:
            pass
    return np.fromiter(map(_millisecond, times), dtype=np.int64, count=len(times))


def complaint(ts: int) -> str:
    """What is wrong with a time outside the valid range; names the unit that it would be right in.

    >>> complaint(1_735_689_600), complaint(5)
    ('ts: 1735689600 is before 1980; seconds?', 'ts: 5 is before 1980')
    """
    if ts == UNREADABLE:
        return "ts: expected RFC 3339"
    if ts < EARLIEST_MS:
        return f"ts: {ts} is before 1980" + ("; seconds?" if EARLIEST_MS <= ts * 1000 <= LATEST_MS else "")
    for unit, ratio in (("microseconds", 1_000), ("nanoseconds", 1_000_000)):
        if ts > LATEST_MS and EARLIEST_MS <= ts // ratio <= LATEST_MS:
            return f"ts: {ts} is after the year 9999; {unit}?"
    return f"ts: {ts} is too late"


def _millisecond(time: int | float | str) -> int:
    if isinstance(time, str):
        try:
            at = dt.datetime.fromisoformat(time)
            return ((at if at.tzinfo else at.replace(tzinfo=dt.UTC)) - _EPOCH) // _MILLISECOND
        except (ValueError, OverflowError):
            return UNREADABLE
    # Infinities end here, too; NaN was refused at the door.
    return int(max(-_FAR, min(_FAR, time // 1)))
