"""Blip or trend: whether the change that alarmed still stands, has grown since, or was a passing block.

Every member of an incident leaves a trail in the direction that its alarm is named after: the mean move since onset at
its first alarm, `m₁` over `n₁` events, and the mean move `m₂` over the last `W` panes, `n₂` events, `W` as in `resolve`
(the fewest that hold `clear_for` panes and `h <= |m₁|/4`). With `h = 1.64·√(deff/n₂)`, `σ = √(deff·(1/n₁ + 1/n₂))` and
both moves taken in the direction of `m₁`:

    block   m₂ + h <= m₁/2               the last panes have lost half of it
    ramp    m₂ − 2.33·σ >= 1.5·m₁        they show far more of it
    step    otherwise
    ""      no W panes since the alarm yet: too early to say

Why 1.5: a straight ramp alarms over its first k panes with `m₁ = k/2` and shows `k + W/2` over the next W, twice `m₁`
at least; a step whose onset is dated a third too early has `m₁` diluted to two thirds, which is what 1.5 forgives.
Share of the looks after the alarm that say so, on 60 streams of 50 events a pane (`tests/detectors/test_shapes.py`
holds them to it): steps of .2 to 1 sd 100 %, of 2 sd 94 % (dated a pane early, it looks like a ramp); ramps of .01,
.03 and .1 sd a pane 85, 94 and 99 %, the rest `step`, said before they have grown; a block of four panes 100 %. A ramp
that takes longer than 150 panes to grow by half is called a step meanwhile. On rows that resemble their neighbours (AR
.6, clusters of 50 to 200) the last word was right 53 of 54 times: one slow ramp was a step still. The trail goes on
through further alarms of the same monitor, unlike the window of the resolve rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.resolve import BLOCKS, QUANTILE, events_needed, last_window, pushed

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

#: `shapes` answers with indices into this.
SHAPES = ("", "step", "ramp", "block")
EARLY, STEP, RAMP, BLOCK = range(4)
#: One-sided quantile of "it has grown", and by how much it must have.
GROWN_QUANTILE, GROWN = 2.33, 1.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Trails:
    """Directions (K,), ascending, one per member. first (K, 2): signed move and events at the first alarm; least (K,):
    what a window is sized for, its size but at least the tolerance; ring (K, BLOCKS, 3): see `resolve`.
    """

    direction: Ints
    first: Floats
    least: Floats
    ring: Floats

    @classmethod
    def none(cls) -> Trails:
        """Nobody is a member."""
        return cls(
            direction=np.zeros(0, np.int64),
            first=np.zeros((0, 2)),
            least=np.zeros(0),
            ring=np.zeros((0, BLOCKS, 3)),
        )


def follow(trails: Trails, *, directions: Ints, first: Floats, tolerance: Floats) -> Trails:
    """Begin trails of new members. first: (N, 2) signed moves and events; tolerance: (N,) of the directions."""
    direction = np.concatenate([trails.direction, directions])
    order = np.argsort(direction, kind="stable")
    return Trails(
        direction=direction[order],
        first=np.concatenate([trails.first, first])[order],
        least=np.concatenate([trails.least, np.maximum(np.abs(first[:, 0]), tolerance)])[order],
        ring=np.concatenate([trails.ring, np.zeros((directions.size, BLOCKS, 3))])[order],
    )


def drop(trails: Trails, keep: npt.NDArray[np.bool_]) -> Trails:
    """Trails (K,) that `keep` marks."""
    return Trails(
        direction=trails.direction[keep], first=trails.first[keep], least=trails.least[keep], ring=trails.ring[keep]
    )


def observe(
    trails: Trails, *, shift: Floats, n: Floats, deff: Floats, clear_for: int
) -> tuple[Trails, npt.NDArray[np.int8], Floats]:
    """Take in one pane: shapes (K,) and the mean moves over the last panes (K,), nan where it is too early.

    shift, n, deff: (K,) of the trails' directions.

    >>> trails = follow(Trails.none(), directions=np.array([0]), first=np.array([[0.5, 200.0]]),
    ...                 tolerance=np.array([0.1]))
    >>> for _ in range(6):
    ...     trails, shape, last = observe(trails, shift=np.array([55.0]), n=np.array([50.0]), deff=np.ones(1),
    ...                                   clear_for=6)
    >>> SHAPES[shape[0]], float(last[0])
    ('ramp', 1.1)
    """
    size = trails.direction.size
    if size == 0:
        return trails, np.zeros(0, np.int8), np.zeros(0)
    need = events_needed(trails.least, deff)
    ring = pushed(trails.ring, shift=shift, n=n, need=need, panes=clear_for)
    window, enough = last_window(ring, need=need, panes=clear_for)
    events = np.maximum(window[:, 1], 1.0)
    last = window[:, 0] / events
    began = np.maximum(trails.first[:, 1], 1.0)
    m1, m2 = np.abs(trails.first[:, 0]), last * np.sign(trails.first[:, 0])
    block = m2 + QUANTILE * np.sqrt(deff / events) <= m1 / 2.0
    ramp = m2 - GROWN_QUANTILE * np.sqrt(deff * (1.0 / began + 1.0 / events)) >= GROWN * m1
    shape = np.select([~enough, block, ramp], [EARLY, BLOCK, RAMP], STEP).astype(np.int8)
    return replace(trails, ring=ring), shape, np.where(enough, last, np.nan)
