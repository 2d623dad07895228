"""The tempered Shiryaev–Roberts mixture over panes of counts, all monitors of a model at once.

Each bet keeps `R <- (R + a)·exp(min(L/κ, cap))`, `a` at most 1 and 0 for an empty pane, and
`L = c·log1p(λ s phi) − n·log1p(λ (s μ + ε))`; a monitor's evidence is `Σ w·R`. With `E[exp L | past] <= 1` under
"moved by at most ε", and κ >= 1, `Σ w·R + A·alarms − panes` is a supermartingale: at most one alarm in A panes.

Why `a` is not 1: with "nothing changed" L falls by about nλε a pane, so R rests near a·κ/(nλε). Where dependence or
few rows make κ/n large, that is past A: a chart that hears nothing would alarm every A panes, as the bound allows.
`a = min(1, A·nλε/(10·κ))` keeps its rest below a tenth of A; it is 1 wherever a pane says anything.

Why float64 is exact enough to replay: L is a sum of integers times 2**-20 (see `bets`), the same in any order; all that
follows is elementwise, in an order that the layout fixes, so the same panes give the same bits.
Beside R every bet keeps its CUSUM twin `G <- max(0, G + L/κ)`, where the change began: see `evidence`.

Shin, Ramdas, Rinaldo 2023, "E-detectors"; Page 1954 for the twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.bets import GRAIN, Bets

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Int32s: TypeAlias = npt.NDArray[np.int32]

#: R stops here: past any limit, far from overflow.
LARGEST_R = 1e12
#: A start of the change is in the onset set when the twin's sum from it is within this of the largest: a factor 100.
ONSET_DEPTH = 4.6
#: Grid on which the earliest such start is remembered; `PASSAGES` cells of it cover the depth.
ONSET_GRID = 2.3
PASSAGES = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Charts:
    """State of all bets: arrays (B,), pane numbers counted from 1 at the scope's first pane, 0 for none.

    r: Shiryaev–Roberts. twin: G. since: pane in which the twin left 0; moved, events: Σ(S − nμ) and Σn from there on.
    latest: last pane that may be the change's first. passages (PASSAGES, B), depth: when the twin's path last passed
    the levels above its minimum, hence the earliest pane that may be the first. All but r are 0 where the twin is 0,
    passages and depth excepted.
    """

    r: Floats
    twin: Floats
    since: Int32s
    moved: Floats
    events: Floats
    latest: Int32s
    passages: Int32s
    depth: npt.NDArray[np.float32]

    @classmethod
    def start(cls, size: int) -> Charts:
        """Charts that have seen nothing."""
        return cls(
            r=np.zeros(size),
            twin=np.zeros(size),
            since=np.zeros(size, np.int32),
            moved=np.zeros(size),
            events=np.zeros(size),
            latest=np.zeros(size, np.int32),
            passages=np.ones((PASSAGES, size), np.int32),
            depth=np.zeros(size, np.float32),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Tick:
    """What one pane said: n (M,) events per monitor; shift (D,) S − nμ; value (M,) Σ w·R after it."""

    n: Ints
    shift: Floats
    value: Floats


class Steps(NamedTuple):
    """One pane before the charts: n (M,); shift (D,); by bet (B,) events, gain L, κ, step min(L/κ, cap), entering a."""

    n: Ints
    shift: Floats
    events: Floats
    gain: Floats
    kappa: Floats
    step: Floats
    entering: Floats


def products(bets: Bets, flat: Ints) -> tuple[Ints, Floats, Floats]:
    """What one pane's counts are worth: n (M,), `c·table` (B,) and S = c·phi (D,).

    flat: (views × width + 1,) counts that end with a zero. Exact: all sums are integers times 2**-20.
    """
    if not bets.edges.size:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    n = np.add.reduceat(flat, bets.edges)[::2]
    found = np.matmul(flat[bets.dense_index].astype(np.float64)[:, None, :], bets.dense_table).ravel()
    if not bets.part_start.size:
        return n, found[bets.take_bets], found[bets.take_directions]
    inside = np.add.reduceat(flat[bets.part_columns], bets.part_start)
    sums = inside * bets.part_high + (n[bets.part_monitor] - inside) * bets.part_low
    tables = inside[bets.part_bets] * bets.part_bets_step + n[bets.part_bets_monitor] * bets.part_bets_low
    return n, np.concatenate((found, tables))[bets.take_bets], np.concatenate((found, sums))[bets.take_directions]


def temper(bets: Bets, n: Floats) -> Floats:
    """κ (B,): how many events count as one. n: (B,) events of each bet's monitor in the pane.

    `max(1, n/n̄)`: a shock common to a pane does not average out with n.
    """
    share = np.maximum(n / bets.n_bar, 1.0)
    return np.asarray(np.maximum((bets.excess * share + 1.0) / bets.divisor, 1.0))


def tick(bets: Bets, charts: Charts, *, flat: Ints, mu: Floats, pane: int) -> tuple[Charts, Tick]:
    """Take in one pane. flat: (views × width + 1,) counts that end with a zero; mu: (D,) the profile at its middle,
    in multiples of 2**-20; pane: its number, from 1. A monitor without events keeps its state to the bit.
    """
    said = steps(bets, flat=flat, mu=mu)
    r = np.minimum((charts.r + said.entering) * np.exp(said.step), LARGEST_R)
    moved = charts.moved + said.shift[bets.bet_direction]
    charts = _twins(charts, r=r, step=said.step, moved=moved, events=charts.events + said.events, pane=pane)
    return charts, Tick(n=said.n, shift=said.shift, value=evidence_of(bets, r))


def steps(bets: Bets, *, flat: Ints, mu: Floats) -> Steps:
    """What one pane does to every bet, whatever the charts are. flat, mu: as for `tick`."""
    n, tables, sums = products(bets, flat)
    shift = sums - n[bets.direction_monitor] * mu
    per_bet = n[bets.bet_monitor].astype(np.float64)
    # Subtracted, hence rounded up.
    offset = np.ceil(np.log1p(bets.slope * mu[bets.bet_direction] + bets.pad) / GRAIN) * GRAIN
    kappa = temper(bets, per_bet)
    gain = tables - per_bet * offset
    step = np.minimum(gain / kappa, bets.cap)
    entering = np.minimum(bets.entry * per_bet / kappa, 1.0)
    return Steps(n=n, shift=shift, events=per_bet, gain=gain, kappa=kappa, step=step, entering=entering)


def evidence_of(bets: Bets, r: Floats) -> Floats:
    """Σ w·R of each monitor (M,), in panes."""
    return np.bincount(bets.bet_monitor, weights=bets.weight * r, minlength=bets.monitors).astype(np.float64)


def reset(bets: Bets, charts: Charts, monitors: Ints, *, pane: int) -> Charts:
    """Charts in which the given monitors begin anew after pane number `pane`."""
    if monitors.size == 0:
        return charts
    keep = ~np.isin(bets.bet_monitor, monitors)
    return Charts(
        r=np.where(keep, charts.r, 0.0),
        twin=np.where(keep, charts.twin, 0.0),
        since=np.where(keep, charts.since, 0).astype(np.int32),
        moved=np.where(keep, charts.moved, 0.0),
        events=np.where(keep, charts.events, 0.0),
        latest=np.where(keep, charts.latest, 0).astype(np.int32),
        passages=np.where(keep, charts.passages, pane + 1).astype(np.int32),
        depth=np.where(keep, charts.depth, 0.0).astype(np.float32),
    )


def _twins(charts: Charts, *, r: Floats, step: Floats, moved: Floats, events: Floats, pane: int) -> Charts:
    """The twins after one pane; a twin at 0 keeps nothing, so that equal states have equal bytes."""
    path = charts.twin + step
    alive = path > 0.0
    twin = np.maximum(path, 0.0) + 0.0  # no negative zeros
    fresh = charts.since == 0
    # The path's minimum falls by what the twin would fall below 0; remember when it passed each cell of the grid.
    depth = charts.depth + (twin - path).astype(np.float32)
    passages = charts.passages
    passed = depth >= ONSET_GRID
    if passed.any():
        cells = np.floor(depth / np.float32(ONSET_GRID))
        depth -= cells * np.float32(ONSET_GRID)
        shifted = np.empty_like(passages)
        shifted[0], shifted[1:] = pane + 1, passages[:-1]
        if cells.max() > 1.0:
            shifted[1:][cells > np.arange(1, PASSAGES)[:, None]] = pane + 1
        passages = np.where(passed, shifted, passages)
    now, later = np.int32(pane), np.int32(pane + 1)
    latest = np.where(twin <= ONSET_DEPTH, later, np.where(fresh, now, charts.latest))
    return Charts(
        r=r,
        twin=twin,
        since=np.where(fresh, now, charts.since) * alive,
        moved=moved * alive + 0.0,
        events=events * alive,
        latest=latest * alive,
        passages=passages,
        depth=depth,
    )
