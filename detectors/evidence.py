"""What an alarm says: which direction moved, by how much, since when (DETECTION 2, Report at the alarm).

The winning bet is the one with the largest w·R. *Onset*: where its CUSUM twin began; the onset set holds every start
whose sum is within 4.6 of the largest. It covers the truth of a step in 95–100 %; a ramp is dated from where it shows,
and one of .02 sd a pane had begun earlier in two of three. *Size*: `Σ(S − nμ)/Σn` of the twin of the boldest bet that
has as much evidence, with `± √(2·deff/N·log(2(k+2)/.1))`, k panes since it began, an interval that is valid at a
data-dependent time.
*Direction*: the winner's, or location where a shift explains it: 379 of 380 mean shifts of .25 to 2.5 sd on five kinds
of stream are named so; by the largest of the four moves (DETECTION's first rule) two of three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.charts.bets import FOUR, Bets, Learned
from detectors.charts.tempered import PASSAGES, Charts

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

#: The profile over a long stretch is averaged over at most so many of its panes.
_SAMPLES = 64
#: Share of a higher direction's move that must be the location's doing for the alarm to bear its name.
_EXPLAINS = 0.5
#: Evidence that differs by less says nothing about which fraction was the right one.
_ALIKE = 30.0
#: From so many bins with values on, a feature's location is that of a continuous law.
_CONTINUOUS = 16
_SHIFTS = np.linspace(-4.0, 4.0, 81)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One alarm in numbers. direction, winner: flat indices; onset, low, high: pane numbers; words: `location up`.

    moved: signed size in sd of the direction. long_moved, long_n: the same since the bet with the most evidence began,
    and over how many events: what the resolve rule and the shape go by; winner_moved: the same of the winner.
    before: the share in the reference, of a level or of a rare kind.
    """

    words: str
    direction: int
    winner: int
    moved: float
    winner_moved: float
    long_moved: float
    long_n: float
    size: float
    size_low: float
    size_high: float
    unit: str
    onset: int
    onset_low: int
    onset_high: int
    n: int
    effective_n: float
    before: float | None = None


def find(
    bets: Bets, charts: Charts, learned: Learned, *, monitor: int, pane: int, profile: Callable[[int], Floats]
) -> Finding:
    """What the alarm of one monitor says, from the charts before they are set back.

    pane: number of the pane it alarmed in; profile(pane number) -> μ (D,).
    """
    first = int(bets.direction_start[monitor])
    run = slice(int(bets.bet_start[monitor]), int(bets.bet_start[monitor + 1]))
    strength = bets.weight[run] * charts.r[run]
    best = run.start + int(np.argmax(strength))
    winner = int(bets.bet_direction[best])
    longest = _named(bets, charts, learned, run=run, best=best, first=first)
    named = _sharpest(bets, charts, run=run, of=longest)
    direction = int(bets.bet_direction[named])
    local = direction - first
    n = float(charts.events[named])
    moved = float(charts.moved[named]) / max(n, 1.0)
    onset = int(charts.since[best]) or pane
    deff = float(bets.deff[direction])
    width = _half_width(deff=deff, n=n, panes=pane - (int(charts.since[named]) or pane))
    name = learned.names[local]
    size, low, high, unit, expected = moved, moved - width, moved + width, "sd", None
    if learned.kinds[local] != "shape":
        step = max(1, (pane - onset + 1) // _SAMPLES)
        mu = float(np.mean([profile(at)[direction] for at in range(onset, pane + 1, step)]))
        expected = share(learned, local, mu=mu, moved=0.0)
        size = share(learned, local, mu=mu, moved=moved)
        width *= (size * (1.0 - size)) ** 0.5
        low, high, unit = max(0.0, size - width), min(1.0, size + width), "share"
    return Finding(
        words=f"{name} {'up' if moved >= 0 else 'down'}",
        direction=direction,
        winner=winner,
        moved=moved,
        winner_moved=_mean_move(charts, best),
        long_moved=_mean_move(charts, longest),
        long_n=float(charts.events[longest]),
        size=size,
        size_low=low,
        size_high=high,
        unit=unit,
        onset=onset,
        onset_low=min(int(charts.passages[PASSAGES - 1, best]), onset),
        onset_high=max(onset, min(int(charts.latest[best]), pane)),
        n=int(n),
        effective_n=n / deff,
        before=expected,
    )


def share(learned: Learned, local: int, *, mu: float, moved: float) -> float:
    """Share of a level or of a rare kind where its direction, number `local`, has moved by `moved` from `mu`."""
    q = float(learned.q[local])
    deviation = math.sqrt(q * (1.0 - q))
    expected = min(max(q + deviation * mu, 0.0), 1.0)
    return min(max(expected + deviation * moved, 0.0), 1.0)


def raw_shift(spec: FeatureSpec, counts: Ints, moved: float) -> float | None:
    """What a move of `moved` normal-score sd is in the feature's own unit, by the reference's quantiles.

    counts: (columns,) of the reference. The mean over the value bins of `x(z + moved) − x(z)`, x linear in z between
    the edges; None when the feature has a single value.

    >>> spec = FeatureSpec(name="x", kind="numeric", edges=(-1.0, 0.0, 1.0), low=-3.0, high=3.0)
    >>> round(raw_shift(spec, np.array([16, 34, 34, 16, 0, 0, 0, 0]), 0.5), 2)
    0.5
    """
    found = _quantiles(spec, counts)
    if found is None:
        return None
    (z_edges, x_edges, p), standard = found, NormalDist()
    middle = np.array([standard.inv_cdf(float(share)) for share in np.clip(np.cumsum(p) - p / 2, 1e-3, 1 - 1e-3)])
    before, after = np.interp(middle, z_edges, x_edges), np.interp(middle + moved, z_edges, x_edges)
    return float(np.sum(p * (after - before)))


def medians(spec: FeatureSpec, counts: Ints, moved: float) -> tuple[float, float] | None:
    """The reference's median in the feature's own unit, and what a move of `moved` normal-score sd makes of it.

    counts: (columns,) of the reference. None when the feature has a single value. The second is what it is when all
    values moved alike, so say `about`.

    >>> spec = FeatureSpec(name="x", kind="numeric", edges=(-1.0, 0.0, 1.0), low=-3.0, high=3.0)
    >>> before, after = medians(spec, np.array([16, 34, 34, 16, 0, 0, 0, 0]), 0.5)
    >>> round(before, 2), round(after, 2)
    (0.0, 0.5)
    """
    found = _quantiles(spec, counts)
    if found is None:
        return None
    z_edges, x_edges, _ = found
    before, after = np.interp([0.0, moved], z_edges, x_edges)
    return float(before), float(after)


def _quantiles(spec: FeatureSpec, counts: Ints) -> tuple[Floats, Floats, Floats] | None:
    """Normal scores of the ends of the value bins, the values there, and the shares of the bins."""
    inside = counts[: spec.value_bins].astype(float)
    if inside.sum() == 0 or spec.low == spec.high:
        return None
    p = inside / inside.sum()
    standard = NormalDist()
    upto = np.clip(np.cumsum(p), 1e-3, 1.0 - 1e-3)
    z_edges = np.array([standard.inv_cdf(1e-3), *(standard.inv_cdf(float(share)) for share in upto)])
    return z_edges, np.array([spec.low, *spec.edges, spec.high]), p


def latent(spec: FeatureSpec, counts: Ints, along: Floats, moves: Sequence[float]) -> list[float]:
    """By how many normal-score sd all values must have shifted for their location to move by `moves`.

    counts: (columns,) of the reference; along: (columns,) the location direction. Bins end: a value beyond the
    outermost scores no more than it does, and what is missing scores nothing, so a shift by 2 sd moves the mean score
    by 1.7. A feature of few different values has no shift behind it, and is answered as it is; none is beyond 4 sd.

    >>> from detectors.directions import directions
    >>> spec = FeatureSpec(name="x", kind="numeric", edges=tuple(np.arange(1.0, 32.0)), low=0.0, high=32.0)
    >>> counts = np.concatenate([np.full(32, 50), [0, 0, 400, 0]])
    >>> [round(x, 2) for x in latent(spec, counts, directions(spec, counts).phi[:, 0], [0.0, 0.44, 1.5])]
    [0.0, 0.5, 1.93]
    """
    inside = counts[: spec.value_bins]
    if int((inside > 0).sum()) < _CONTINUOUS:
        return list(moves)
    standard, p = NormalDist(), inside / inside.sum()
    ends = np.array([standard.inv_cdf(float(x)) for x in np.clip(np.cumsum(p)[:-1], 1e-9, 1.0 - 1e-9)])
    below = np.array([[standard.cdf(end - shift) for end in ends.tolist()] for shift in _SHIFTS.tolist()])
    shares = np.diff(below, axis=1, prepend=0.0, append=1.0)  # (shifts, bins)
    scores = shares @ along[: spec.value_bins] * float(inside.sum() / max(1, counts.sum()))
    return [float(x) for x in np.interp(moves, scores - scores[_SHIFTS.size // 2], _SHIFTS)]


def _half_width(*, deff: float, n: float, panes: int) -> float:
    """√(2·deff/N·log(2(k+2)/.1)): a union over the k+2 places where the change may have begun."""
    return float(np.sqrt(2.0 * deff / max(n, 1.0) * np.log(2.0 * (panes + 2) / 0.1)))


def _named(bets: Bets, charts: Charts, learned: Learned, *, run: slice, best: int, first: int) -> int:
    """The bet that the alarm is named after.

    A shift by δ moves the k-th shape direction by about δ^k/√k!: past one sd the higher ones move more than location
    does. So an alarm of scale, skew or tails is named location when the location's own move explains half of it, or
    is the larger of the two: so much added to every value of a feature with a long tail lifts its small ones most.
    One of skew or tails is else named scale when that moved as far: a feature that becomes constant has no tails.
    """
    name = learned.names[int(bets.bet_direction[best]) - first]
    if name not in FOUR[1:]:
        return best
    moved = _mean_move(charts, best) or 1.0
    location = _strongest(bets, charts, learned, "location", run=run, first=first)
    if location is not None:
        shift, order = _mean_move(charts, location), FOUR.index(name) + 1
        explained = shift**order / factorial(order) ** 0.5
        if explained / moved >= _EXPLAINS or abs(shift) >= abs(moved):
            return location
    scale = _strongest(bets, charts, learned, "scale", run=run, first=first)
    return scale if scale is not None and abs(_mean_move(charts, scale)) >= abs(moved) else best


def _strongest(bets: Bets, charts: Charts, learned: Learned, direction: str, *, run: slice, first: int) -> int | None:
    """The bet of a direction with the largest w·R; None where the feature has no such direction, or it no bets."""
    if direction not in learned.names:
        return None
    its = run.start + np.flatnonzero(bets.bet_direction[run] == first + learned.names.index(direction))
    return int(its[np.argmax(bets.weight[its] * charts.r[its])]) if its.size else None


def _sharpest(bets: Bets, charts: Charts, *, run: slice, of: int) -> int:
    """The boldest of a bet's direction and sign among those that have as much evidence, but for a factor of `_ALIKE`.

    A large change is capped in every pane, so all bets have equal gains, and the most timid, which rose a little before
    it, wins; counted from there the size is diluted by panes in which nothing had changed. A shift by 2 sd had its size
    in the interval 74 times of 100, by this rule 97.
    """
    its = run.start + np.flatnonzero(
        (bets.bet_direction[run] == bets.bet_direction[of]) & (bets.sign[run] == bets.sign[of])
    )
    strength = bets.weight[its] * charts.r[its]
    alike = its[(strength * _ALIKE >= strength.max()) & (charts.since[its] > 0)]
    return int(alike[np.argmax(bets.fraction[alike])]) if alike.size else of


def _mean_move(charts: Charts, bet: int) -> float:
    return float(charts.moved[bet]) / max(float(charts.events[bet]), 1.0)
