"""The bets of all monitors of a model, as flat arrays: what a layout and a reference fix once, before any pane.

Why: DETECTION 2 bets, per direction and sign, a fraction λ of the evidence on "the mean of phi has left its profile by
more than the tolerance". Everything that does not depend on the pane is computed here; what counts are worth to the
bets is in `tables`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.tables import Tables, build_tables
from detectors.directions import SHAPE

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Fractions of the evidence that are bet: small ones for small changes, large ones for fast ones.
FRACTIONS = (0.06, 0.15, 0.35)
#: No bet may lose more than this share of its capital on one event.
LARGEST_LOSS = 0.8
#: A bet that hears nothing rests below this share of the budget.
RESTING_SHARE = 0.1
#: Exact arithmetic: tables are multiples of this.
GRAIN = 2.0**-20
#: Under this many panes of budget a cap would silence the chart instead of calming it.
CAP_FROM_BUDGET = 500.0
#: What such a chart may still add in a pane: past any limit, and its exponential is a number.
LARGEST_STEP = 600.0
#: Effective reference rows: under the first a direction is silent, under the second its tolerance is widened.
SILENT_BELOW, WIDENED_BELOW = 500.0, 5_000.0
#: A mean that wanders from day to day is tolerated up to this many of its sd: half of the tolerance is sure silence.
WANDERS = 5.0
FOUR = SHAPE


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a reference says about one monitor, a feature in a view, for the layout's pane.

    first: where the feature's columns begin in the flat (views, width) counts; `phi` (columns, directions) is mean 0
    and variance 1 under the reference, in multiples of `GRAIN`. upward: only bets on an increase. weights: the
    directions' shares of the monitor. profile (168, directions). n: reference rows; deff, temper, n_bar
    (directions,): the direction's own design effect, the one that tempers it, and the reference's Σn²/Σn per pane.
    wander: sd by which its mean wanders from day to day, see `design_effect.wander_at`; a number stands for all.
    skew: third moment of block sums per row that dependence adds, where one row weighs much; a number stands for all.
    """

    first: int
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    phi: Floats
    q: Floats
    upward: Bools
    weights: Floats
    profile: Floats
    n: float
    deff: Floats
    temper: Floats
    n_bar: Floats
    wander: Floats | float = 0.0
    skew: Floats | float = 0.0

    @property
    def silent(self) -> Bools:
        """Directions with too few effective reference rows to page at all. (directions,).

        `below` and `above` are as dependent as the shape that they are the ends of.
        """
        dependence = np.where(np.array(self.kinds) == "range", self.temper, self.deff)
        return np.asarray(self.n < SILENT_BELOW * dependence)

    @property
    def widened(self) -> Bools:
        """Directions that page with a tolerance widened by the reference's own uncertainty. (directions,)."""
        return np.asarray(self.n < WIDENED_BELOW * self.deff)

    def tolerance(self, wanted: float) -> Floats:
        """ε_j = max(ε, √(50·deff_j / N_ref), 5·wander): what reference and stream allow to see. (directions,)."""
        uncertain = np.sqrt(50.0 * self.deff / max(self.n, 1.0))
        return np.maximum(wanted, np.maximum(uncertain, WANDERS * self.wander))


@dataclass(frozen=True, kw_only=True)
class Bets:
    """Flat arrays over bets (B,), directions (D,) and monitors (M,); monitors own contiguous runs of both.

    bet_monitor, bet_direction, sign, fraction, weight, tolerance, cap (B,): what each bet is. excess, n_bar, divisor,
    third (B,): the parts of κ. direction_monitor (D,); bet_start, direction_start (M + 1,).
    """

    # Per bet
    bet_monitor: Ints
    bet_direction: Ints
    sign: Floats
    fraction: Floats
    weight: Floats
    tolerance: Floats
    cap: Floats
    excess: Floats
    n_bar: Floats
    divisor: Floats
    third: Floats  # λ/3 of the third moment on the bet's side
    entry: Floats  # a of a pane is entry·n/κ, at most 1: see `tempered`
    slope: Floats  # λ·s, the factor of μ
    pad: Floats  # λ·ε
    # Per direction
    direction_monitor: Ints
    direction_bets: Ints  # how many bets are on it
    profile: Floats  # (168, D)
    deff: Floats
    epsilon: Floats  # ε_j
    q: Floats  # share of what a direction is the indicator of, nan where it is a shape
    # Per monitor
    bet_start: Ints
    direction_start: Ints
    edges: Ints  # (2·M,): begin and end of the monitor's columns in the flat counts
    tables: Tables

    @cached_property
    def monitor_bets(self) -> Ints:
        """How many bets each monitor has. (M,)."""
        return np.diff(self.bet_start)

    @cached_property
    def live(self) -> Ints:
        """Monitors that have any: `reduceat` knows no empty run."""
        return np.flatnonzero(self.monitor_bets)

    @cached_property
    def direction_excess(self) -> Floats:
        """`excess` by direction, 0 where no bets are. (D,)."""
        found = np.zeros(self.direction_monitor.size)
        found[self.bet_direction] = self.excess
        return found

    @cached_property
    def direction_n_bar(self) -> Floats:
        """`n_bar` by direction, 1 where no bets are. (D,)."""
        found = np.ones(self.direction_monitor.size)
        found[self.bet_direction] = self.n_bar
        return found

    @cached_property
    def skewed(self) -> Ints:
        """Bets whose κ the third moment raises."""
        return np.flatnonzero(self.third)

    @cached_property
    def tempered(self) -> bool:
        """Some κ may be above 1."""
        return bool((self.excess > 0.0).any() or self.skewed.size)

    @cached_property
    def rests(self) -> bool:
        """Some a may be below 1 in a pane with events: n/κ only grows with n, so one event is the least."""
        least = self.excess * np.maximum(1.0 / self.n_bar, 1.0) + 1.0
        least = np.maximum(self.kappa(least), 1.0)
        # A margin for rounding.
        return bool((self.entry < 1.000001 * least).any())

    def kappa(self, clumped: Floats) -> Floats:
        """κ, but for its least of 1: the positive solution of `κ·divisor = clumped + third/κ`. (B,) from (B,).

        clumped: deff in the pane. Where a session is all missing, the sum jumps: exp has larger moments than with a
        Gaussian of the same variance, and a share of 1 % in sessions of 8 rows alarmed .2 times a budget.
        """
        found = clumped / self.divisor
        if self.skewed.size:
            deff, divisor = clumped[self.skewed], self.divisor[self.skewed]
            found[self.skewed] = (deff + np.sqrt(deff**2 + 4.0 * divisor * self.third[self.skewed])) / (2.0 * divisor)
        return found

    @property
    def monitors(self) -> int:
        """How many monitors there are."""
        return int(self.bet_start.size - 1)

    @property
    def size(self) -> int:
        """How many bets there are."""
        return int(self.sign.size)


def fractions_for(worst: float) -> tuple[float, ...]:
    """The λ of one direction and sign, capped so that no event costs more than 80 %; equal ones are one bet.

    worst: the largest value of −s·phi.

    >>> fractions_for(1.0), fractions_for(10.0), fractions_for(100.0)
    ((0.06, 0.15, 0.35), (0.06, 0.08), (0.008,))
    """
    most = LARGEST_LOSS / worst if worst > 0 else math.inf
    return tuple(sorted({min(fraction, most) for fraction in FRACTIONS}))


def build_bets(
    learned: Sequence[Learned],
    *,
    tolerance: float,
    strict: bool,
    budget: float,
    prior: Floats,
    struck: int,
    cap: bool = True,
) -> Bets:
    """Bets of all monitors. budget: A in panes; prior: v (M,), the monitors' shares of it; strict: no divisor in κ.
    cap: one pane may not do it alone; where a pane is a batch, it may.

    struck: monitors that one event is counted in. A thousand copies of one row strike all of them at once, and so many
    alarm together from `A/(struck·v)` each on: a pane may add a third of the way to *that* limit. (With a third of the
    way to the limit of one alone, `A/v`, a row of 30 features repeated over two panes alarmed 58 times of 60; so 0.)

    A silent direction has no bets; a monitor whose directions are all silent has none at all.
    """
    rows: list[Bet] = []
    bet_start, direction_start = [0], [0]
    epsilons = [monitor.tolerance(tolerance) for monitor in learned]
    for index, monitor in enumerate(learned):
        rows += _bets_of(index, direction_start[-1], monitor, epsilons[index])
        bet_start.append(len(rows))
        direction_start.append(direction_start[-1] + len(monitor.names))
    column = {name: np.array([getattr(row, name) for row in rows]) for name in Bet.__dataclass_fields__}
    bet_monitor = column["monitor"].astype(np.int64)
    fraction, epsilon = column["fraction"].astype(float), column["epsilon"].astype(float)
    weight, sign = column["weight"].astype(float), column["sign"].astype(float)
    share = prior[bet_monitor] if rows else np.zeros(0)
    capped = cap and budget >= CAP_FROM_BUDGET
    third = np.log(np.maximum(budget / (struck * share), 1.0) / weight) / 3.0
    caps = third if capped else np.full(len(rows), LARGEST_STEP)
    direction_monitor = np.repeat(np.arange(len(learned)), np.diff(direction_start))
    return Bets(
        bet_monitor=bet_monitor,
        bet_direction=column["direction"].astype(np.int64),
        sign=sign,
        fraction=fraction,
        weight=weight,
        tolerance=epsilon,
        cap=np.asarray(caps, dtype=float),
        excess=column["temper"].astype(float) - 1.0,
        n_bar=column["n_bar"].astype(float),
        divisor=np.ones(len(rows)) if strict else 1.0 + epsilon / fraction,
        third=np.maximum(0.0, sign * column["skew"].astype(float)) * fraction / 3.0,
        entry=RESTING_SHARE * budget * fraction * epsilon,
        slope=fraction * sign,
        pad=fraction * epsilon,
        direction_monitor=direction_monitor,
        direction_bets=np.bincount(column["direction"].astype(np.int64), minlength=direction_start[-1]),
        profile=_together([np.round(monitor.profile / GRAIN) * GRAIN for monitor in learned], axis=1, rows=168),
        deff=_together([monitor.deff for monitor in learned]),
        epsilon=_together(epsilons),
        q=_together([np.where(np.array(one.kinds) == "shape", np.nan, one.q) for one in learned]),
        bet_start=np.array(bet_start),
        direction_start=np.array(direction_start),
        edges=np.array([at for m in learned for at in (m.first, m.first + m.phi.shape[0])], dtype=np.int64),
        tables=build_tables(learned, rows, direction_start),
    )


@dataclass(frozen=True)
class Bet:
    """One bet: flat direction and that within its monitor, sign, λ, and what tempers it."""

    monitor: int
    direction: int  # flat
    local: int  # within the monitor
    sign: float
    fraction: float
    weight: float
    epsilon: float
    temper: float
    n_bar: float
    skew: float


def _bets_of(index: int, first_direction: int, monitor: Learned, epsilon: Floats) -> list[Bet]:
    """Bets of one monitor; their weights sum to 1 over the directions that may page."""
    found: list[Bet] = []
    skew = np.broadcast_to(monitor.skew, epsilon.shape)
    for j in np.flatnonzero(~monitor.silent):
        signs = (1.0,) if monitor.upward[j] else (1.0, -1.0)
        pairs = [(s, f) for s in signs for f in fractions_for(float(np.max(-s * monitor.phi[:, j])))]
        weight = float(monitor.weights[j]) / len(pairs)
        tempering = max(1.0, float(monitor.temper[j])), max(1e-9, float(monitor.n_bar[j]))
        common = (float(epsilon[j]), *tempering, float(skew[j]))
        at = first_direction + int(j)
        found += [Bet(index, at, int(j), sign, fraction, weight, *common) for sign, fraction in pairs]
    total = sum(bet.weight for bet in found)
    return [replace(bet, weight=bet.weight / total) for bet in found]


def _together(parts: list[Floats], *, axis: int = 0, rows: int = 0) -> Floats:
    if not parts:
        return np.zeros((rows, 0)) if axis else np.zeros(0)
    return np.asarray(np.concatenate(parts, axis=axis), dtype=float)
