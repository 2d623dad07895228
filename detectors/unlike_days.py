"""Days of a reference that are unlike its others: a person should say whether they were an accident.

Nothing is left out by itself: a day may be the first of a habit. But with one such day of 28 a feature counted a pane
of eleven rows as one independent event, as if every day might be such a one, and no change of it paged; without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from detectors.directions import Directions

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

#: Fewer days, or rows of a day, say nothing of what is usual.
LEAST_DAYS, LEAST_ROWS = 10, 50
#: A day is unlike from so many sd of the feature on, and from so many spreads of all days on.
LEAST_MOVE, SPREADS = 0.25, 6.0


def unlike_days(along: Directions, sums: Floats, rows: Floats, *, day: Ints, dates: Ints) -> list[str]:
    """In words, each day whose mean differs from what its weekday and hours are otherwise; none where they are many.

    sums (B, k): residuals by block about the profile without the block's own day; rows (B,); day (B,) numbers from 0;
    dates: local days since 1970, by number.

    >>> from detectors.bins import FeatureSpec
    >>> from detectors.directions import directions
    >>> along = directions(FeatureSpec(name="x", kind="numeric", edges=(0.0,)), np.array([700, 700, 0, 0, 0, 0]))
    >>> sums = np.zeros((14, len(along)))
    >>> sums[:, 0] = [3, -2, 1, 0, -1, 80, 2, -3, 1, 0, 2, -1, -2, 0]
    >>> unlike_days(along, sums, np.full(14, 100.0), day=np.arange(14), dates=np.arange(20000, 20014))
    ['2024-10-09 (location +0.80 sd)']
    """
    rows_by_day = np.bincount(day, weights=rows, minlength=dates.size)
    usual = float(np.median(rows_by_day[rows_by_day > 0])) if rows_by_day.any() else 0.0
    whole = rows_by_day >= max(LEAST_ROWS, usual / 4)
    if int(whole.sum()) < LEAST_DAYS:
        return []
    found: dict[int, tuple[float, str]] = {}
    for j, name in enumerate(along.names):
        if along.kinds[j] == "range":
            continue
        mean = np.bincount(day, weights=sums[:, j], minlength=dates.size)[whole] / rows_by_day[whole]
        away = mean - np.median(mean)
        limit = max(LEAST_MOVE, SPREADS * 1.4826 * float(np.median(np.abs(away))))
        days = np.flatnonzero(whole)[np.abs(away) > limit].tolist()
        if len(days) > max(1.0, dates.size / 7):
            continue
        for at, move in zip(days, away[np.abs(away) > limit].tolist(), strict=True):
            if abs(move) > abs(found.get(at, (0.0, ""))[0]):
                found[at] = move, name
    return [_words(int(dates[at]), *found[at]) for at in sorted(found)]


def _words(date: int, move: float, name: str) -> str:
    return f"{np.datetime64(date, 'D')} ({name} {move:+.2f} sd)"


def finding_of(feature: str, days: Sequence[str]) -> str:
    """The finding, as a person reads it.

    >>> finding_of("income", ["2025-10-01 (location +0.92 sd)"])
    'income: days unlike the others hide changes, 2025-10-01 (location +0.92 sd); `--exclude` what was an accident'
    """
    return f"{feature}: days unlike the others hide changes, {', '.join(days)}; `--exclude` what was an accident"
