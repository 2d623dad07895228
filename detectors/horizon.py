"""Rows far from all others in time: one in 2099 would stretch a reference of two weeks over 74 years.

Order does not matter to a reference, so here the times alone decide, whatever order the rows come in.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_KEPT = 1024
#: Strays are at most one row in so many, and three; a table with fewer rows than `_FEW` has none.
_ONE_IN, _AT_MOST, _FEW = 10_000, 3, 100
#: A gap that parts them from the rest is longer than so many times the rest.
_SPANS = 10


class Horizon:
    """The least and the largest times of a table, in bounded memory, and which rows are strays beyond them.

    A few rows (one in 10,000, at least three) are strays when the gap between them and all others is longer than ten
    times the span of the others. More rows than that are no accident: a gap in the data is only a gap.

    >>> horizon = Horizon()
    >>> horizon.add(np.append(np.arange(1000) * 60_000, 4_000_000_000_000))
    >>> horizon.close()
    >>> horizon.low, horizon.high, horizon.strays(np.array([5, 4_000_000_000_000])).tolist()
    (0, 59940000, [False, True])
    """

    def __init__(self) -> None:
        self.rows = 0
        self._least = self._largest = np.zeros(0, dtype=np.int64)
        self.low, self.high = -(1 << 63), (1 << 63) - 1

    def add(self, ts: Ints) -> None:
        """Take in the times of some rows, (n,) in ms."""
        self.rows += ts.size
        self._least = np.sort(np.concatenate([self._least, np.sort(ts)[:_KEPT]]))[:_KEPT]
        self._largest = np.sort(np.concatenate([self._largest, np.sort(ts)[-_KEPT:]]))[-_KEPT:]

    def close(self) -> None:
        """All times were taken in: find the range without strays."""
        if not self.rows:
            return
        self.low, self.high = int(self._least[0]), int(self._largest[-1])
        few = min(max(_AT_MOST, self.rows // _ONE_IN), _KEPT - 1)
        if self.rows < _FEW:
            return
        low, high = int(self._least[few]), int(self._largest[-1 - few])
        if high <= low:
            return
        for above in self._largest[-few:].tolist():
            if above - high > _SPANS * (high - low):
                break
            high = max(high, above)
        for below in self._least[:few][::-1].tolist():
            if low - below > _SPANS * (high - low):
                break
            low = min(low, below)
        self.low, self.high = low, high

    def strays(self, ts: Ints) -> Bools:
        """Which of these times, (n,), lie outside the range."""
        found: Bools = (ts < self.low) | (ts > self.high)
        return found
