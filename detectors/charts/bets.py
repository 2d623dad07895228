"""The bets of all monitors of a model, as flat arrays: what a layout and a reference fix once, before any pane.

Why: DETECTION 2 bets, per direction and sign, a fraction λ of the evidence on "the mean of phi has left its profile by
more than the tolerance". Everything that does not depend on the pane is computed here. Tables are rounded down to
multiples of 2**-20 and are below 2 in size, so `counts @ table` is a sum of integers times 2**-20: exact in float64,
in any order and with any block size, while a pane holds fewer than 5e9 events (2**53 / (1.7 * 2**20)).
Most directions are indicators (a level, missing, below …): two values, so their table is one count and two numbers,
and only location, scale, skew and tails need a product. That is what keeps wide categories cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.directions import SHAPE, round_down

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

    bet_monitor, bet_direction, sign, fraction, weight, tolerance, cap (B,): what each bet is. excess, n_bar, divisor
    (B,): the parts of κ. direction_monitor (D,); bet_start, direction_start (M + 1,).
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
    # Products: dense directions by matmul, indicators by one count
    dense_index: Ints  # (m, W) into the flat counts, whose last entry is a zero
    dense_table: Floats  # (m, W, C)
    part_columns: Ints
    part_start: Ints  # (I,)
    part_monitor: Ints  # (I,)
    part_high: Floats  # (I,) phi inside the part
    part_low: Floats  # (I,) phi outside
    part_bets: Ints  # (b,) which part a bet is on
    part_bets_monitor: Ints
    part_bets_step: Floats  # table inside less table outside
    part_bets_low: Floats
    take_bets: Ints  # (B,) into [dense products | part bets]
    take_directions: Ints  # (D,) into [dense products | parts]

    @cached_property
    def monitor_bets(self) -> Ints:
        """How many bets each monitor has. (M,)."""
        return np.diff(self.bet_start)

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
    def tempered(self) -> bool:
        """Some κ may be above 1."""
        return bool((self.excess > 0.0).any())

    @cached_property
    def rests(self) -> bool:
        """Some a may be below 1 in a pane with events: n/κ only grows with n, so one event is the least."""
        least = np.maximum((self.excess * np.maximum(1.0 / self.n_bar, 1.0) + 1.0) / self.divisor, 1.0)
        # A margin for rounding.
        return bool((self.entry < 1.000001 * least).any())

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
    rows: list[_Bet] = []
    bet_start, direction_start = [0], [0]
    epsilons = [monitor.tolerance(tolerance) for monitor in learned]
    for index, monitor in enumerate(learned):
        rows += _bets_of(index, direction_start[-1], monitor, epsilons[index])
        bet_start.append(len(rows))
        direction_start.append(direction_start[-1] + len(monitor.names))
    column = {name: np.array([getattr(row, name) for row in rows]) for name in _Bet.__dataclass_fields__}
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
        **_products(learned, rows, direction_start),
    )


@dataclass(frozen=True)
class _Bet:
    monitor: int
    direction: int  # flat
    local: int  # within the monitor
    sign: float
    fraction: float
    weight: float
    epsilon: float
    temper: float
    n_bar: float


def _bets_of(index: int, first_direction: int, monitor: Learned, epsilon: Floats) -> list[_Bet]:
    """Bets of one monitor; their weights sum to 1 over the directions that may page."""
    found: list[_Bet] = []
    for j in np.flatnonzero(~monitor.silent):
        signs = (1.0,) if monitor.upward[j] else (1.0, -1.0)
        pairs = [(s, f) for s in signs for f in fractions_for(float(np.max(-s * monitor.phi[:, j])))]
        weight = float(monitor.weights[j]) / len(pairs)
        common = (float(epsilon[j]), max(1.0, float(monitor.temper[j])), max(1e-9, float(monitor.n_bar[j])))
        at = first_direction + int(j)
        found += [_Bet(index, at, int(j), sign, fraction, weight, *common) for sign, fraction in pairs]
    total = sum(bet.weight for bet in found)
    return [_Bet(*(*_head(bet), bet.weight / total, bet.epsilon, bet.temper, bet.n_bar)) for bet in found]


def _head(bet: _Bet) -> tuple[int, int, int, float, float]:
    return bet.monitor, bet.direction, bet.local, bet.sign, bet.fraction


def _together(parts: list[Floats], *, axis: int = 0, rows: int = 0) -> Floats:
    if not parts:
        return np.zeros((rows, 0)) if axis else np.zeros(0)
    return np.asarray(np.concatenate(parts, axis=axis), dtype=float)


def _products(learned: Sequence[Learned], rows: Sequence[_Bet], direction_start: list[int]) -> dict[str, npt.NDArray]:  # type: ignore[type-arg]
    """Tables and indices: dense ones for directions of more than two values, one count for the others."""
    members = [_members(monitor.phi) for monitor in learned]
    by_monitor: list[list[_Bet]] = [[] for _ in learned]
    for row in rows:
        by_monitor[row.monitor].append(row)
    dense = [i for i, parts in enumerate(members) if any(part is None for part in parts)]
    dense_bets = {i: [bet for bet in by_monitor[i] if members[i][bet.local] is None] for i in dense}
    dense_directions = {i: [j for j, part in enumerate(members[i]) if part is None] for i in dense}
    width = max((learned[i].phi.shape[0] for i in dense), default=0)
    columns = max((len(dense_bets[i]) + len(dense_directions[i]) for i in dense), default=0)
    zero = -1  # the flat counts end with a zero
    index = np.full((len(dense), width), zero, dtype=np.int64)
    table = np.zeros((len(dense), width, columns))
    place_bet: dict[tuple[int, int], int] = {}
    place_direction: dict[int, int] = {}
    for row_at, i in enumerate(dense):
        phi = learned[i].phi
        index[row_at, : phi.shape[0]] = learned[i].first + np.arange(phi.shape[0])
        for at, bet in enumerate(dense_bets[i]):
            table[row_at, : phi.shape[0], at] = round_down(np.log1p(bet.fraction * bet.sign * phi[:, bet.local]))
            place_bet[id(bet), 0] = row_at * columns + at
        for at, j in enumerate(dense_directions[i], start=len(dense_bets[i])):
            table[row_at, : phi.shape[0], at] = phi[:, j]
            place_direction[direction_start[i] + j] = row_at * columns + at
    offset = len(dense) * columns
    parts = [(i, j, part) for i, found in enumerate(members) for j, part in enumerate(found) if part is not None]
    part_of = {direction_start[i] + j: at for at, (i, j, _) in enumerate(parts)}
    place_direction |= {direction: offset + at for direction, at in part_of.items()}
    part_rows = [bet for bet in rows if bet.direction in part_of]
    high = np.array([learned[i].phi[part, j].max() for i, j, part in parts], dtype=float)
    low = np.array([learned[i].phi[:, j].min() for i, j, _ in parts], dtype=float)
    on = np.array([part_of[bet.direction] for bet in part_rows], dtype=np.int64)
    slope = np.array([bet.fraction * bet.sign for bet in part_rows], dtype=float)
    inside, outside = round_down(np.log1p(slope * high[on])), round_down(np.log1p(slope * low[on]))
    place_bet |= {(id(bet), 0): offset + at for at, bet in enumerate(part_rows)}
    sizes = [part.size for _, _, part in parts]
    return {
        "dense_index": index,
        "dense_table": table,
        "part_columns": np.concatenate([learned[i].first + part for i, _, part in parts] or [np.zeros(0, np.int64)]),
        "part_start": np.cumsum([0, *sizes])[:-1].astype(np.int64),
        "part_monitor": np.array([i for i, _, _ in parts], dtype=np.int64),
        "part_high": high,
        "part_low": low,
        "part_bets": on,
        "part_bets_monitor": np.array([bet.monitor for bet in part_rows], dtype=np.int64),
        "part_bets_step": inside - outside,
        "part_bets_low": outside,
        "take_bets": np.array([place_bet[id(bet), 0] for bet in rows], dtype=np.int64),
        "take_directions": np.array([place_direction[d] for d in range(direction_start[-1])], dtype=np.int64),
    }


def _members(phi: Floats) -> list[Ints | None]:
    """Per direction, the columns of its upper value when it has just two values; None when it has more."""
    found: list[Ints | None] = []
    for column in phi.T:
        values = np.unique(column)
        found.append(np.flatnonzero(column == values[1]) if values.size == 2 else None)
    return found
