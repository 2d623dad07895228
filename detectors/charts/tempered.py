"""The tempered Shiryaev–Roberts mixture over panes of counts, all monitors of a model at once.

Each bet keeps `R <- (R + a)·exp(min(L/κ, cap))`, `a` at most 1 and 0 for an empty pane, and
`L = c·log1p(λ s phi) − n·log1p(λ (s μ + ε))`; a monitor's evidence is `Σ w·R`. With `E[exp L | past] <= 1` under
"moved by at most ε", and κ >= 1, `Σ w·R + A·alarms − panes` is a supermartingale: at most one alarm in A panes.

Why `a` is not 1: with "nothing changed" L falls by about nλε a pane, so R rests near a·κ/(nλε). Where dependence or
few rows make κ/n large, that is past A: a chart that hears nothing would alarm every A panes, as the bound allows.
`a = min(1, A·nλε/(10·κ))` keeps its rest below a tenth of A; it is 1 wherever a pane says anything.

Why float64 is exact enough to replay: L is a sum of integers times 2**-20 (see `tables`), the same in any order; all
that follows is elementwise, in an order that the layout fixes, so the same panes give the same bits.
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
#: The bits of the number after `ONSET_DEPTH`, read as an integer.
_PAST_DEPTH = np.float64(ONSET_DEPTH).view(np.int64) + 1


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
    counts = flat.astype(np.float64)
    n = np.add.reduceat(counts, bets.edges)[::2].astype(np.int64)
    return n, *bets.tables.worth(counts, n)


def temper(bets: Bets, n: Floats) -> Floats:
    """κ (B,): how many events count as one. n: (B,) events of each bet's monitor in the pane.

    `max(1, n/n̄)`: a shock common to a pane does not average out with n.
    """
    return np.asarray(np.maximum(bets.kappa(_clumped(n, bets.n_bar, bets.excess)), 1.0))


def tick(
    bets: Bets, charts: Charts, *, flat: Ints, mu: Floats, pane: int, doubt: Floats | None = None
) -> tuple[Charts, Tick]:
    """Take in one pane. flat: (views × width + 1,) counts that end with a zero; mu: (D,) the profile at its middle,
    in multiples of 2**-20; pane: its number, from 1. A monitor without events keeps its state to the bit.
    """
    said = steps(bets, flat=flat, mu=mu, doubt=doubt)
    r = charts.r + said.entering
    # What the steps have used up is room for what comes now: a new array costs as much as what is done in it.
    r *= np.exp(said.step, out=said.gain)
    if r.max(initial=0.0) > LARGEST_R:
        np.minimum(r, LARGEST_R, out=r)
    moved = np.repeat(said.shift, bets.direction_bets)
    moved += charts.moved
    events = np.add(charts.events, said.events, out=said.events)
    charts = _twins(charts, r=r, step=said.step, moved=moved, events=events, pane=pane)
    return charts, Tick(n=said.n, shift=said.shift, value=evidence_of(bets, r))


def steps(bets: Bets, *, flat: Ints, mu: Floats, doubt: Floats | None = None) -> Steps:
    """What one pane does to every bet, whatever the charts are. flat, mu: as for `tick`.

    doubt: factor of κ by monitor (M,), at least 1, where the mean itself is an estimate (`trailing`).
    """
    n, gain, sums = products(bets, flat)
    rows = n.astype(np.float64)
    of_direction = rows.take(bets.direction_monitor)
    shift = sums - of_direction * mu
    events = np.repeat(rows, bets.monitor_bets)
    # Subtracted, hence rounded up.
    offset = np.repeat(mu, bets.direction_bets)
    offset *= bets.slope
    offset += bets.pad
    np.log1p(offset, out=offset)
    offset *= 1.0 / GRAIN
    np.ceil(offset, out=offset)
    offset *= GRAIN
    offset *= events
    gain -= offset
    if not bets.tempered:
        kappa = np.broadcast_to(np.float64(1.0), gain.shape)
        step = np.minimum(gain, bets.cap, out=offset)
    else:
        # κ before its divisor is one number per direction; the same operations as in `temper`, so the same bits.
        clumped = _clumped(of_direction, bets.direction_n_bar, bets.direction_excess)
        kappa = bets.kappa(np.repeat(clumped, bets.direction_bets))
        np.maximum(kappa, 1.0, out=kappa)
        step = np.divide(gain, kappa, out=offset)
        np.minimum(step, bets.cap, out=step)
    if doubt is not None:
        kappa = kappa * np.repeat(doubt, bets.monitor_bets)
        step = np.minimum(gain / kappa, bets.cap)
    if doubt is None and not bets.rests:
        entering = np.broadcast_to(np.float64(1.0), gain.shape) if n.all() else np.minimum(events, 1.0)
    else:
        entering = bets.entry * events
        entering /= kappa
        np.minimum(entering, 1.0, out=entering)
    return Steps(n=n, shift=shift, events=events, gain=gain, kappa=kappa, step=step, entering=entering)


def evidence_of(bets: Bets, r: Floats) -> Floats:
    """Σ w·R of each monitor (M,), in panes."""
    found = np.zeros(bets.monitors)
    if bets.live.size:
        found[bets.live] = np.add.reduceat(bets.weight * r, bets.bet_start[bets.live])
    return found


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


def _clumped(n: Floats, n_bar: Floats, excess: Floats) -> Floats:
    return np.asarray(excess * np.maximum(n / n_bar, 1.0) + 1.0)


def _twins(charts: Charts, *, r: Floats, step: Floats, moved: Floats, events: Floats, pane: int) -> Charts:
    """The twins after one pane; a twin at 0 keeps nothing, so that equal states have equal bytes.

    In place of `where`: masks of all bits or none, got by shifting a sign through, and maxima, as pane numbers only
    grow. This is half of what a pane costs, and `np.where` alone would be as much again. step, moved, events: changed.
    """
    path = np.add(charts.twin, step, out=step)
    twin = np.maximum(path, 0.0)
    bits = twin.view(np.int64)  # of numbers that are not negative: ordered as the numbers are
    keeps = np.negative(bits)
    keeps >>= 63
    keeps_int = keeps.astype(np.int32)
    _mask(moved, keeps)
    _mask(events, keeps)
    # The path's minimum falls by what the twin would fall below 0; remember when it passed each cell of the grid.
    np.subtract(twin, path, out=path)
    depth = path.astype(np.float32)
    depth += charts.depth
    cells = depth / np.float32(ONSET_GRID)
    np.floor(cells, out=cells)
    passed = cells.astype(np.int32)
    cells *= np.float32(ONSET_GRID)
    depth -= cells
    now, later = np.int32(pane), np.int32(pane + 1)
    # fresh: now where the twin was at 0, else 0.
    fresh = charts.since - np.int32(1)
    fresh >>= 31
    fresh &= now
    since = fresh | charts.since
    since &= keeps_int
    near = np.subtract(bits, _PAST_DEPTH, out=keeps)  # negative where twin <= ONSET_DEPTH
    near >>= 63
    latest = near.astype(np.int32)
    latest &= later
    np.maximum(latest, fresh, out=latest)
    np.maximum(latest, charts.latest, out=latest)
    latest &= keeps_int
    return Charts(
        r=r,
        twin=twin,
        since=since,
        moved=moved,
        events=events,
        latest=latest,
        passages=_passages(charts.passages, passed, later),
        depth=depth,
    )


def _passages(passages: Int32s, passed: Int32s, later: np.int32) -> Int32s:
    """(PASSAGES, B) after the path went down by `passed` (B,) cells: one further back, and `later` for each cell."""
    found = np.empty_like(passages)
    moves = np.negative(passed)
    moves >>= 31  # all bits where a cell was passed
    np.bitwise_and(passages[:-1], moves, out=found[1:])
    np.bitwise_and(moves, later, out=found[0])
    np.maximum(found, passages, out=found)
    # Several cells in one pane.
    for i in range(1, PASSAGES):
        np.subtract(np.int32(i), passed, out=moves)
        moves >>= 31
        moves &= later
        np.maximum(found[i], moves, out=found[i])
    return found


def _mask(values: Floats, keeps: Ints) -> None:
    """Values where all bits are kept, else 0 (never a negative one)."""
    bits = values.view(np.int64)
    bits &= keeps
