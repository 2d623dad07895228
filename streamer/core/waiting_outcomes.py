"""Outcomes that came before their prediction: kept by id until it comes, or until none can come that is theirs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from schemas.events import DropReason
from streamer.core.join_log import JoinLog, Waiting
from streamer.core.told import Told


class Dropped(NamedTuple):
    """An outcome of an earlier batch that waited in vain, or was none after all."""

    waiting: Waiting
    reason: DropReason
    detail: str


class WaitingOutcomes:
    """Those of one task, by the key of their id, in the order of their log; what changes is told to `log`.

    count: how many wait. next: number of the next one. digest: of their keys.
    """

    def __init__(self, log: JoinLog) -> None:
        self.next = self.count = self.digest = 0
        self._log = log
        self._of_key: dict[int, list[Waiting]] = {}
        self._numbered: dict[int, Waiting] = {}
        self._queue: list[tuple[int, int]] = []  # (until, number) of those that wait, and of some that did

    def __bool__(self) -> bool:
        return bool(self._of_key)

    def of(self, key: int) -> list[Waiting]:
        """Those that wait for a prediction of this id."""
        return self._of_key.get(key, [])

    def put(self, told: Told, i: int, *, append_s: int, seen: int, until: int, at: int) -> None:
        """The `i`-th of `told` waits for predictions up to `until`; at: number of the next row."""
        number = told.number[i]
        one = Waiting(
            number=self.next,
            key=int(told.key[i]),
            ts=int(told.ts[i]),
            append=int(told.append[i]),
            append_s=append_s,
            seen=seen,
            until=until,
            model=told.model[i],
            text=told.text[i],
            value=None if np.isnan(number) else float(number),
            offset=told.offset[i],
            topic=told.topic,
        )
        self.next += 1
        self.restored(one)
        self._log.waits(one, at=at)

    def restored(self, one: Waiting) -> None:
        """It waits, as the changelog says already."""
        self._of_key.setdefault(one.key, []).append(one)
        self.count += 1
        self.digest += one.key
        self._numbered[one.number] = one
        heapq.heappush(self._queue, (one.until, one.number))

    def resolve(self, one: Waiting, *, at: int) -> None:
        """It waits no longer; at: number of the next row."""
        left = [other for other in self._of_key[one.key] if other is not one]
        if left:
            self._of_key[one.key] = left
        else:
            del self._of_key[one.key]
        self.count -= 1
        self.digest -= one.key
        del self._numbered[one.number]
        self._log.resolved(one.number, at=at)

    def expire(self, now_s: int, *, at: int) -> list[Waiting]:
        """Those that no prediction appended at `now_s` or later can be of, in the order of their log; they are gone."""
        gone = []
        while self._queue and self._queue[0][0] < now_s:
            one = self._numbered.get(heapq.heappop(self._queue)[1])
            if one is not None:  # it was not joined meanwhile
                gone.append(one)
        gone.sort(key=attrgetter("number"))
        for one in gone:
            self.resolve(one, at=at)
        return gone


def as_told(found: Sequence[Waiting]) -> Told:
    """Outcomes that waited, as if they had come now."""
    none = np.zeros(len(found), dtype=np.int64)
    return Told(
        at=none,
        key=none.astype(np.uint64),
        ts=np.array([one.ts for one in found], dtype=np.int64),
        append=none,
        model=[one.model for one in found],
        text=[one.text for one in found],
        number=np.array([np.nan if one.value is None else one.value for one in found]),
        echo=[],
        offset=[one.offset for one in found],
        topic="",
    )
