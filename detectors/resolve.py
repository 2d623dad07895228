"""When a member of an incident is well again (DETECTION 2, Resolve).

Every direction that alarmed, and the one the alarm is named after, is watched with its own size at its *first* alarm
and its own window: the fewest last panes that hold `clear_for` panes and events enough for `h <= |size|/4`, where
`h = 1.64·√(deff/Σn)`. It is clear when over that window `|m| + h <= |size|/2` and no alarm fell in it. A size is never
raised to the largest seen: a quarter of the incidents would then resolve early. Panes without events say nothing and
do not count. A size below the tolerance is taken as the tolerance: less than that is no change, by the user's word.
A share that has grown also scatters more (`spread_at_half`): by the reference's own variance 5 % missing values that
stayed for six days were called well in 7 runs of 12.

Memory is bounded: a window is kept as at most `BLOCKS` blocks of a 32nd of what it needs, so it is exact to the pane
up to 32 panes and to 3 % of its length beyond.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

QUANTILE = 1.64
PARTS = 32
#: 32 whole blocks hold what a window needs; one more is being filled.
BLOCKS = PARTS + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Watches:
    """Watched directions (K,), ascending. size: at the first alarm; ring (K, BLOCKS, 3): Σ(S − nμ), Σn and panes
    of each block, the newest first.
    """

    direction: Ints
    size: Floats
    ring: Floats

    @classmethod
    def none(cls) -> Watches:
        """Nothing is watched."""
        return cls(direction=np.zeros(0, np.int64), size=np.zeros(0), ring=np.zeros((0, BLOCKS, 3)))


def events_needed(size: Floats, deff: Floats) -> Floats:
    """Events for `h <= |size|/4`.

    >>> events_needed(np.array([0.5]), np.array([1.0])).round()
    array([172.])
    """
    return np.asarray(deff * (4.0 * QUANTILE / size) ** 2)


def spread_at_half(size: Floats, q: Floats) -> Floats:
    """How much more a row scatters at half of a change than in the reference, at least 1; what h takes its deff times.

    size: in sd of the direction; q: share of what it is the indicator of, nan for a shape, which scatters alike.

    >>> spread_at_half(np.array([0.4, 0.4, 0.4]), np.array([0.01, 0.3, np.nan])).round(2)
    array([2.93, 1.13, 1.  ])
    """
    variance = q * (1.0 - q)
    half = np.minimum(q + np.sqrt(variance) * np.abs(size) / 2.0, 0.5)
    return np.asarray(np.fmax(half * (1.0 - half) / variance, 1.0))


def watch(watches: Watches, *, directions: Ints, sizes: Floats, restart: Ints) -> Watches:
    """Add directions with their sizes; those already watched keep theirs. restart: directions of monitors that just
    alarmed again, whose windows begin anew.
    """
    ring = np.where(np.isin(watches.direction, restart)[:, None, None], 0.0, watches.ring)
    new = ~np.isin(directions, watches.direction)
    direction = np.concatenate([watches.direction, directions[new]])
    order = np.argsort(direction, kind="stable")
    return Watches(
        direction=direction[order],
        size=np.concatenate([watches.size, np.abs(sizes[new])])[order],
        ring=np.concatenate([ring, np.zeros((int(new.sum()), BLOCKS, 3))])[order],
    )


def recent(watches: Watches) -> Floats:
    """Mean of each watched direction over its newest blocks, a quarter of what a window holds. (K,)."""
    sums = watches.ring[:, : PARTS // 4].sum(axis=1)
    return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1.0))


def drop(watches: Watches, directions: Ints) -> Watches:
    """Watches without the given directions."""
    keep = ~np.isin(watches.direction, directions)
    return Watches(direction=watches.direction[keep], size=watches.size[keep], ring=watches.ring[keep])


def observe(watches: Watches, *, shift: Floats, n: Floats, deff: Floats, clear_for: int) -> tuple[Watches, Bools]:
    """Take in one pane; which watches are clear now. shift, n, deff: (K,) of the watched directions.

    >>> one = watch(Watches.none(), directions=np.array([0]), sizes=np.array([0.5]), restart=np.zeros(0, np.int64))
    >>> clear = []
    >>> for _ in range(7):
    ...     one, now = observe(one, shift=np.array([0.0]), n=np.array([50.0]), deff=np.array([1.0]), clear_for=6)
    ...     clear.append(bool(now[0]))
    >>> clear
    [False, False, False, False, False, True, True]
    """
    if watches.direction.size == 0:
        return watches, np.zeros(0, dtype=bool)
    need = events_needed(watches.size, deff)
    ring = pushed(watches.ring, shift=shift, n=n, need=need, panes=clear_for)
    window, enough = last_window(ring, need=need, panes=clear_for)
    h = QUANTILE * np.sqrt(deff / np.maximum(window[:, 1], 1.0))
    mean = np.abs(window[:, 0]) / np.maximum(window[:, 1], 1.0)
    clear = enough & (mean + h <= watches.size / 2.0)
    return replace(watches, ring=ring), clear


def pushed(ring: Floats, *, shift: Floats, n: Floats, need: Floats, panes: int) -> Floats:
    """Rings (K, BLOCKS, 3) after one pane; one without events (n = 0) adds nothing. need: events of a window."""
    here = n > 0
    newest = ring[:, 0]
    full = (newest[:, 1] >= need / PARTS) & (newest[:, 2] >= panes / PARTS)
    ring = np.where((full & here)[:, None, None], np.roll(ring, 1, axis=1), ring)
    ring[full & here, 0] = 0.0
    ring[:, 0] += np.where(here[:, None], np.stack([shift, n, np.ones_like(n)], axis=1), 0.0)
    return ring


def last_window(ring: Floats, *, need: Floats, panes: int) -> tuple[Floats, Bools]:
    """Sums (K, 3) over the fewest newest blocks that hold `need` events and `panes` panes, and whether there are."""
    sums = np.cumsum(ring, axis=1)  # (K, BLOCKS, 3) over the newest blocks
    enough = (sums[:, :, 1] >= need[:, None]) & (sums[:, :, 2] >= panes)
    found = np.asarray(enough.any(axis=1))
    return sums[np.arange(need.size), np.argmax(enough, axis=1)], found
