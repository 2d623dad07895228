"""A yardstick that follows the stream: the mean of its last days, of yesterday, or of the same day last week.

Only the mean moves: what the reference says of bins, directions, season and dependence stays. Kept are daily sums of
Σ(S − nμ) about the reference's profile; the mean of the days that are compared with is added to the profile of today.
So a drift that stays becomes what is compared with, and its alert resolves by the reason `became_reference`. A mean of
few events is itself in doubt: κ is multiplied by `1 + n/n_then`, n the events of today so far, n_then those of the days
that are compared with, because one error is in all of today's panes. Where those days have no events, the last ones
before them stand in; until there is a day at all, the reference does.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.errors import FormatError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

TODAY_KEY, DAY_KEY = "today", "day"
#: Days that are kept beyond those compared with, to stand in for days without events.
_SPARE_DAYS = 7
_GRAIN_BITS = 20


class Day(NamedTuple):
    """One local day: events (M,), Σ(S − nμ) (D,) about the reference's profile, multiples of 2**-20."""

    n: Ints
    shift: Floats


class Moved(NamedTuple):
    """What is compared with: offset (D,) of the means, multiples of 2**-20; n (M,) events behind it, 0 for none."""

    offset: Floats
    n: Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class Trailing:
    """Days since 1970, local, with their sums; a value. today: −1 before the first. origins: offset of each watched
    direction when its watch began.
    """

    now: Day
    today: int = -1
    days: Mapping[int, Day]
    origins: Mapping[int, float]

    @classmethod
    def start(cls, *, monitors: int, directions: int) -> Trailing:
        """Nothing known.

        >>> Trailing.start(monitors=2, directions=5).today
        -1
        """
        return cls(now=Day(np.zeros(monitors, np.int64), np.zeros(directions)), days={}, origins={})

    def on(self, day: int, *, days: int, lag: int) -> Trailing:
        """The state on a day: what was today is one of the days when a later one begins. days, lag: see `moved`."""
        if day <= self.today:
            return self
        known = {**self.days, self.today: self.now} if self.today >= 0 else dict(self.days)
        oldest = day - lag - days - _SPARE_DAYS
        fresh = Day(np.zeros_like(self.now.n), np.zeros_like(self.now.shift))
        return replace(self, today=day, now=fresh, days={at: one for at, one in sorted(known.items()) if at >= oldest})

    def add(self, *, n: Ints, shift: Floats) -> Trailing:
        """With one more pane of today: n (M,), shift (D,) about the reference's profile."""
        return replace(self, now=Day(self.now.n + n, self.now.shift + shift))

    def moved(self, owner: Ints, *, days: int, lag: int) -> Moved:
        """Mean of the `days` days that end `lag` whole days before today. owner: monitor of each direction (D,).

        >>> state = Trailing.start(monitors=1, directions=1).on(9, days=1, lag=0)
        >>> state = state.add(n=np.array([10]), shift=np.array([5.0])).on(10, days=1, lag=0)
        >>> state.moved(np.array([0]), days=1, lag=0).offset
        array([0.5])
        """
        last = self.today - lag - 1
        chosen = [one for at, one in self.days.items() if last - days < at <= last and one.n.any()]
        if not chosen:
            chosen = [one for at, one in self.days.items() if at <= last and one.n.any()][-1:]
        n = sum((one.n for one in chosen), np.zeros_like(self.now.n))
        shift = sum((one.shift for one in chosen), np.zeros_like(self.now.shift))
        mean = shift / np.maximum(n, 1)[owner] if owner.size else shift
        return Moved(np.ldexp(np.rint(np.ldexp(mean, _GRAIN_BITS)), -_GRAIN_BITS), n)

    def doubt(self, moved: Moved, n: Ints) -> Floats:
        """Factor of κ (M,) in a pane of n (M,) events."""
        so_far = self.now.n + n
        return np.where(moved.n > 0, 1.0 + so_far / np.maximum(moved.n, 1), 1.0)

    def watching(self, directions: Ints, offset: Floats) -> Trailing:
        """With the offsets at which watches began; directions (K,): those that are watched now."""
        if not directions.size and not self.origins:
            return self
        origins = {at: self.origins.get(at, float(offset[at])) for at in directions.tolist()}
        return replace(self, origins=origins)

    def followed(self, direction: int, *, size: float, mean: float, offset: Floats) -> bool:
        """A watched direction is calm only because what it is compared with has moved since its watch began.

        mean: of its last panes about what they were compared with; about the old means it would still exceed half of
        `size`.
        """
        began = self.origins.get(direction)
        return began is not None and abs(mean + float(offset[direction]) - began) > size / 2.0


class _SavedDay(msgspec.Struct, array_like=True):
    n: bytes
    shift: bytes


class _SavedToday(msgspec.Struct, array_like=True):
    today: int
    now: _SavedDay
    origins: list[tuple[int, float]]


def save(trailing: Trailing | None) -> dict[str, bytes]:
    """Blocks of a state: today's sums, and one per day, which is written once."""
    if trailing is None:
        return {}
    origins = sorted(trailing.origins.items())
    blocks = {TODAY_KEY: msgspec.msgpack.encode(_SavedToday(trailing.today, _packed(trailing.now), origins))}
    return blocks | {f"{DAY_KEY}{at}": msgspec.msgpack.encode(_packed(one)) for at, one in trailing.days.items()}


def load(fresh: Trailing, blocks: Mapping[str, bytes]) -> Trailing:
    """From all blocks of a state, in the shape of `fresh`; `FormatError` when one is missing or damaged."""
    raw = blocks.get(TODAY_KEY)
    if raw is None:
        raise FormatError(f"state of a scope: no block `{TODAY_KEY}`")
    key = TODAY_KEY
    try:
        saved = msgspec.msgpack.decode(raw, type=_SavedToday)
        now, days = _unpacked(saved.now, fresh), {}
        for number in sorted(int(name.removeprefix(DAY_KEY)) for name in blocks if _is_day(name)):
            key = f"{DAY_KEY}{number}"
            days[number] = _unpacked(msgspec.msgpack.decode(blocks[key], type=_SavedDay), fresh)
    except (msgspec.MsgspecError, zlib.error, ValueError) as error:
        raise FormatError(f"state of a scope, block `{key}`: {error}") from error
    return Trailing(now=now, today=saved.today, days=days, origins=dict(saved.origins))


def _is_day(name: str) -> bool:
    return name.startswith(DAY_KEY) and name.removeprefix(DAY_KEY).isdigit()


def _packed(day: Day) -> _SavedDay:
    return _SavedDay(
        zlib.compress(day.n.astype("<i8").tobytes(), 1), zlib.compress(day.shift.astype("<f8").tobytes(), 1)
    )


def _unpacked(saved: _SavedDay, fresh: Trailing) -> Day:
    n = np.frombuffer(zlib.decompress(saved.n), "<i8").astype(np.int64)
    shift = np.frombuffer(zlib.decompress(saved.shift), "<f8").astype(np.float64)
    if (n.size, shift.size) != (fresh.now.n.size, fresh.now.shift.size):
        raise ValueError(f"{n.size} monitors and {shift.size} directions, not those of this layout")
    return Day(n, shift)
