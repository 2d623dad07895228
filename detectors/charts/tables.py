"""What a pane's counts are worth to the bets: `c·table` of each bet, and S = c·phi of each direction, exactly.

Why: tables are rounded down to multiples of 2**-20 and are below 2 in size, so `counts @ table` is a sum of integers
times 2**-20: exact in float64, in any order and with any block size, while a pane holds fewer than 5e9 events
(2**53 / (1.7 * 2**20)). Reading a table costs more than using it. Most directions are indicators (a level, missing,
below …): two values, so their table is one count and two numbers, and only location, scale, skew and tails need a
product. That is what keeps wide categories cheap. Numbers without ties that were counted over the same rows are cut at
the same shares, so their tables are the same to the bit: these are kept once, and one product serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.directions import round_down

if TYPE_CHECKING:
    from detectors.charts.bets import Bet, Learned

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

#: Monitors from which on a common table is worth a product of its own.
SHARED_FROM = 16
#: Multiplications up to which OpenBLAS stays in one thread.
_ONE_THREAD = 1 << 18


@dataclass(frozen=True, eq=False)
class Shared:
    """k monitors that have one table: they differ in what is counted, not in what it is worth.

    columns (k, W): into the flat counts; bets (k, b), directions (k, d): their places; table (W, b), phi (W, d).
    """

    columns: Ints
    bets: Ints
    directions: Ints
    table: Floats
    phi: Floats

    @cached_property
    def places(self) -> tuple[slice | Ints, slice | Ints, slice | Ints]:
        """Columns, bets and directions as what is cheapest to index by: a slice where they are a run."""
        return _run(self.columns), _run(self.bets), _run(self.directions)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tables:
    """Of how many bets and directions; of monitors that share a table, and of the others: there dense directions by
    matmul, indicators by one count.
    """

    bets: int
    directions: int
    shared: tuple[Shared, ...]
    own_bets: Ints  # which bets and directions are in none of `shared`
    own_directions: Ints
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
    take_bets: Ints  # (own bets,) into [dense products | part bets]
    take_directions: Ints  # (own directions,) into [dense products | parts]

    def worth(self, counts: Floats, n: Ints) -> tuple[Floats, Floats]:
        """`c·table` (B,) and S (D,) of flat counts that end with a zero; n (M,): each monitor's events."""
        if not self.shared:
            return self._own(counts, n)
        gain, sums = np.empty(self.bets), np.empty(self.directions)
        for group in self.shared:
            columns, of_bets, of_directions = group.places
            rows = counts[columns].reshape(group.columns.shape)
            for found, place, table in ((gain, of_bets, group.table), (sums, of_directions, group.phi)):
                if isinstance(place, slice):
                    _multiply(rows, table, out=found[place].reshape(-1, table.shape[1]))
                else:
                    found[place] = _multiply(rows, table, out=np.empty(place.shape))
        if self.own_directions.size:
            gain[self.own_bets], sums[self.own_directions] = self._own(counts, n)
        return gain, sums

    def _own(self, counts: Floats, n: Ints) -> tuple[Floats, Floats]:
        """`c·table` and S of the monitors whose tables are their own."""
        dense, _, columns = self.dense_table.shape
        found = np.empty(dense * columns + self.part_bets.size)
        products = found[: dense * columns]
        np.matmul(counts.take(self.dense_index)[:, None, :], self.dense_table, out=products.reshape(dense, 1, columns))
        if not self.part_start.size:
            return found.take(self.take_bets), found.take(self.take_directions)
        inside = np.add.reduceat(counts.take(self.part_columns), self.part_start)
        outside = n.take(self.part_monitor) - inside
        tables = found[dense * columns :]
        np.multiply(inside.take(self.part_bets), self.part_bets_step, out=tables)
        tables += n.take(self.part_bets_monitor) * self.part_bets_low
        sums = np.concatenate((products, inside * self.part_high + outside * self.part_low))
        return found.take(self.take_bets), sums.take(self.take_directions)


def build_tables(learned: Sequence[Learned], rows: Sequence[Bet], direction_start: list[int]) -> Tables:
    """Tables of all monitors. rows: their bets, monitor by monitor; direction_start (M + 1,)."""
    by_monitor: list[list[Bet]] = [[] for _ in learned]
    for row in rows:
        by_monitor[row.monitor].append(row)
    shared, alone = _shared(learned, by_monitor, direction_start)
    members = [_members(monitor.phi) if own else [] for monitor, own in zip(learned, alone, strict=True)]
    own_bets = [at for at, row in enumerate(rows) if alone[row.monitor]]
    rows = [rows[at] for at in own_bets]
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
    own_directions = np.flatnonzero(np.repeat(alone, np.diff(direction_start)))
    return Tables(
        bets=sum(len(found) for found in by_monitor),
        directions=direction_start[-1],
        shared=shared,
        own_bets=np.array(own_bets, dtype=np.int64),
        own_directions=own_directions,
        dense_index=index,
        dense_table=table,
        part_columns=np.concatenate([learned[i].first + part for i, _, part in parts] or [np.zeros(0, np.int64)]),
        part_start=np.cumsum([0, *sizes])[:-1].astype(np.int64),
        part_monitor=np.array([i for i, _, _ in parts], dtype=np.int64),
        part_high=high,
        part_low=low,
        part_bets=on,
        part_bets_monitor=np.array([bet.monitor for bet in part_rows], dtype=np.int64),
        part_bets_step=inside - outside,
        part_bets_low=outside,
        take_bets=np.array([place_bet[id(bet), 0] for bet in rows], dtype=np.int64),
        take_directions=np.array([place_direction[d] for d in own_directions.tolist()], dtype=np.int64),
    )


def _shared(
    learned: Sequence[Learned], by_monitor: list[list[Bet]], direction_start: list[int]
) -> tuple[tuple[Shared, ...], npt.NDArray[np.bool_]]:
    """Monitors of one phi and the same bets, `SHARED_FROM` or more of them; and which monitors are in none of these."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, monitor in enumerate(learned):
        of_bets = tuple((bet.local, bet.sign, bet.fraction) for bet in by_monitor[i])
        groups.setdefault((monitor.phi.shape, monitor.phi.tobytes(), of_bets), []).append(i)
    first_bet = np.cumsum([0, *(len(found) for found in by_monitor)])
    alone, found = np.ones(len(learned), dtype=np.bool_), []
    for same in groups.values():
        if len(same) < SHARED_FROM:
            continue
        phi, own = learned[same[0]].phi, by_monitor[same[0]]
        alone[same] = False
        slopes = np.array([bet.fraction * bet.sign for bet in own])
        table = round_down(np.log1p(slopes * phi[:, [bet.local for bet in own]])) if own else np.zeros((len(phi), 0))
        found.append(
            Shared(
                columns=np.array([[learned[i].first] for i in same]) + np.arange(phi.shape[0]),
                bets=first_bet[same][:, None] + np.arange(len(own)),
                directions=np.array(direction_start)[same][:, None] + np.arange(phi.shape[1]),
                table=table,
                phi=phi,
            )
        )
    return tuple(found), alone


def _run(places: Ints) -> slice | Ints:
    flat = places.ravel()
    if flat.size and flat[-1] - flat[0] == flat.size - 1 and (np.diff(flat) == 1).all():
        return slice(int(flat[0]), int(flat[-1]) + 1)
    return places


def _members(phi: Floats) -> list[Ints | None]:
    """Per direction, the columns of its upper value when it has just two values; None when it has more."""
    found: list[Ints | None] = []
    for column in phi.T:
        values = np.unique(column)
        found.append(np.flatnonzero(column == values[1]) if values.size == 2 else None)
    return found


def _multiply(rows: Floats, table: Floats, *, out: Floats) -> Floats:
    """`rows @ table`, in parts so small that no library takes threads for them: these would wait for busy cores."""
    at_once = max(1, _ONE_THREAD // max(1, table.size))
    for first in range(0, rows.shape[0], at_once):
        some = slice(first, first + at_once)
        np.matmul(rows[some], table, out=out[some])
    return out
