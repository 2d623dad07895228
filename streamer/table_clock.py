"""Which rows of a table are ahead of its clock. A stream drops what is ahead of the log; a table has no log's time.

What a table has is the order of its rows: a row that is far ahead of the rows before it and of those behind it cannot
have happened when it was written. One such row would close every pane up to its time, and all rows behind it would be
late. A gap is nothing of the kind, however long: the rows behind it are as far ahead as the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.rows import NO_TIME
from schemas.events import FUTURE_MS
from streamer.tables import Part

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Rows before and behind a row that say what time it was.
AROUND = 32
#: Ahead is more than so many times the spread (between the quartiles) of the rows around.
SPREADS = 10
#: At the end of a table no row is behind: so many rows at most, ahead by more than a month and by more than `SPREADS`
#: times the whole table.
_LAST, _MONTH_MS = 3, 30 * 86_400_000
_FEW = 8


def with_future(parts: Iterable[Part]) -> Iterator[tuple[Part, Bools]]:
    """Each part with a mask of its rows that are ahead, whatever the parts' sizes.

    A row is ahead when its time lies more than five minutes and ten times their spread beyond the median of the 32 rows
    before it, and of the 32 rows behind it: up to seven such rows in a line; more are no accident.

    >>> from detectors.rows import Rows
    >>> ts = np.arange(100) * 60_000
    >>> ts[40] = 4_000_000_000_000
    >>> [np.flatnonzero(ahead).tolist() for _, ahead in with_future([Part(0, Rows(ts=ts, columns={}))])]
    [[40]]
    """
    held: list[Part] = []
    before, whole = np.zeros(0, dtype=np.int64), None
    for part in parts:
        held.append(part)
        # Rows behind the first of them are needed before it can be judged.
        behind = [ts for one in held[1:] for ts in one.rows.ts[one.rows.ts != NO_TIME][:AROUND].tolist()][:AROUND]
        if len(behind) == AROUND:
            first = held.pop(0)
            ahead = _ahead(before, first.rows.ts, np.array(behind, dtype=np.int64))
            yield first, ahead
            before, whole = _passed(before, first.rows.ts, ahead, whole)
    if held:
        ts = np.concatenate([one.rows.ts for one in held])
        ahead = _ahead(before, ts, before[:0])
        ahead |= _tail(ts, whole)
        at = 0
        for one in held:
            yield one, ahead[at : at + len(one.rows)]
            at += len(one.rows)


def _passed(before: Ints, ts: Ints, ahead: Bools, whole: Ints | None) -> tuple[Ints, Ints | None]:
    """The last rows before the next part, and the least and the largest time so far."""
    sound = ts[~ahead & (ts != NO_TIME)]
    if sound.size:
        of_all = np.concatenate([sound, sound[:0] if whole is None else whole])
        whole = np.array([of_all.min(), of_all.max()])
    return np.concatenate([before, ts[ts != NO_TIME]])[-AROUND:], whole


def _ahead(before: Ints, ts: Ints, behind: Ints) -> Bools:
    """Of the rows of `ts`; before, behind: up to `AROUND` rows around them, with times."""
    ahead = np.zeros(ts.size, dtype=bool)
    timed = np.flatnonzero(ts != NO_TIME)
    line = np.concatenate([before, ts[timed], behind])
    # Only a row from which time steps back within the next rows can be ahead of those behind it.
    steps = np.flatnonzero(np.diff(line) < -FUTURE_MS)
    if not steps.size:
        return ahead
    near = np.unique((steps[:, None] - np.arange(AROUND)).ravel())
    near = near[(near >= before.size) & (near < before.size + timed.size)]
    inner = near[(near >= AROUND) & (near < line.size - AROUND)]
    found = np.zeros(line.size, dtype=bool)
    if inner.size:
        windows = np.lib.stride_tricks.sliding_window_view(line, AROUND)
        found[inner] = _beyond(line[inner], windows[inner - AROUND]) & _beyond(line[inner], windows[inner + 1])
    for at in np.setdiff1d(near, inner).tolist():
        earlier, later = line[max(0, at - AROUND) : at], line[at + 1 : at + 1 + AROUND]
        sides = [bool(_beyond(line[at : at + 1], side[None, :])[0]) for side in (earlier, later) if side.size]
        found[at] = later.size > 0 and earlier.size + later.size >= _FEW and all(sides)
    ahead[timed] = found[before.size : before.size + timed.size]
    return ahead


def _beyond(times: Ints, others: Ints) -> Bools:
    """Whether each time is far ahead of its others, (k, rows)."""
    ordered, size = np.sort(others, axis=1), others.shape[1]
    low, median, high = (ordered[:, size * quarter // 4] for quarter in (1, 2, 3))
    beyond: Bools = times > median + np.maximum(FUTURE_MS, SPREADS * (high - low))
    return beyond


def _tail(ts: Ints, whole: Ints | None) -> Bools:
    """The last rows, when they are further ahead than ten times all that was before."""
    ahead = np.zeros(ts.size, dtype=bool)
    timed = np.flatnonzero(ts != NO_TIME)
    for count in range(min(_LAST, timed.size), 0, -1):
        rest = ts[timed[:-count]] if whole is None else np.concatenate([ts[timed[:-count]], whole])
        if rest.size >= _FEW and ts[timed[-count:]].min() > rest.max() + max(_MONTH_MS, SPREADS * np.ptp(rest)):
            ahead[timed[-count:]] = True
            return ahead
    return ahead
