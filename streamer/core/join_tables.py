"""What a batch joined, as deltas of outcome tables: by layout, outcome pane, cell, and whether it came in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcomes import JoinedRows, expected_rows, kept_score, tabulate_outcomes
from detectors.probabilities import widened
from detectors.profiles import BUCKETS, bucket_of
from schemas.profiles import OUTCOME, Delta, DeltaRow, encode_sparse
from streamer.core.deltas import Transaction, delta_of, fits
from streamer.core.join_cells import JoinCells
from streamer.core.plans import Plan

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def _shortest() -> Ints:
    """The least whole delay of each bucket; where there is none, that of the next."""
    least = np.ceil(2.0 ** ((np.arange(BUCKETS) - 1) / 2)).astype(np.int64)
    least[0] = 0
    return least


#: Stands for all delays of its bucket: tables know no more of a delay than that.
SHORTEST = _shortest()


class Pairs(NamedTuple):
    """Predictions of one layout with an outcome each, (n,). pane: of the prediction's time. late: after maturity.

    delay: bucket of the outcome's delay. sign: −1 takes out what was put in before. shares: of echoes only.
    """

    pane: Ints
    cell: Ints
    late: Bools
    score: Floats
    label: Ints
    value: Floats
    ranks: Ints | None
    outcome: Ints
    truth: Floats
    delay: Ints
    sign: Ints
    shares: Floats | None = None

    def take(self, at: Ints) -> Pairs:
        """Some of them."""
        return Pairs(
            pane=self.pane[at],
            cell=self.cell[at],
            late=self.late[at],
            score=self.score[at],
            label=self.label[at],
            value=self.value[at],
            ranks=None if self.ranks is None else self.ranks[at],
            outcome=self.outcome[at],
            truth=self.truth[at],
            delay=self.delay[at],
            sign=self.sign[at],
            shares=None if self.shares is None else self.shares[at],
        )


class JoinTables:
    """Collects what a batch joined, by place of the layout in `JoinCells.plans`."""

    def __init__(self) -> None:
        self._pairs: dict[int, list[Pairs]] = {}
        self._expected: dict[int, list[tuple[Ints, Ints]]] = {}

    def expect(self, place: int, pane: Ints, cell: Ints) -> None:
        """Predictions that an outcome may come for."""
        self._expected.setdefault(place, []).append((pane, cell))

    def add(self, place: int, pairs: Pairs) -> None:
        """Predictions and their outcomes."""
        if pairs.sign.size:
            self._pairs.setdefault(place, []).append(pairs)

    def places(self) -> list[int]:
        """Layouts of which there is something."""
        return sorted(self._pairs.keys() | self._expected.keys())

    def deltas(self, place: int, cells: JoinCells, *, max_ts: int, transaction: Transaction) -> Iterator[Delta]:
        """The deltas of one layout; `max_ts` is that of its model's predictions."""
        plan = cells.plans[place]
        assert plan.outcomes is not None
        expected, found = self._expected.get(place, []), self._pairs.get(place, [])
        pane = np.concatenate([*(one[0] for one in expected), *(one.pane for one in found)])
        cell = np.concatenate([*(one[1] for one in expected), *(one.cell for one in found)])
        n = sum(one[0].size for one in expected)
        late = np.concatenate([np.zeros(n, dtype=bool), *(one.late for one in found)])
        joined = _rows(found) if found else None
        panes, when = np.unique(pane, return_inverse=True)
        # Codes are small: counting them is quicker than sorting.
        codes = np.flatnonzero(np.bincount(cell))
        of_code = np.zeros(int(codes[-1]) + 1, dtype=np.int64)
        of_code[codes] = np.arange(codes.size)
        of_row, names = of_code[cell], [cells.names[code] for code in codes.tolist()]
        # A marginal column has a table of its own: the same rows once more, by version and value.
        told = [("", [(name.version, name.segment) for name in names])]
        for at, column in enumerate(plan.layout.marginals):
            told.append((column, [(name.version, name.further[at : at + 1]) for name in names]))
        rows: list[DeltaRow] = []
        counts: list[Ints] = []
        for marginal, places in told:
            some, group = _grouped(places, of_row, panes, when, late, marginal=marginal)
            table = expected_rows(plan.outcomes, np.bincount(group[:n], minlength=len(some)))
            if joined is not None:
                table += tabulate_outcomes(plan.outcomes, joined, group[n:], len(some))
            rows += some
            counts.append(table)
        yield from _split(plan, rows, np.concatenate(counts), max_ts, transaction)


def _grouped(
    places: Sequence[tuple[str, tuple[str, ...]]], of_row: Ints, panes: Ints, when: Ints, late: Bools, *, marginal: str
) -> tuple[list[DeltaRow], Ints]:
    """Rows of a delta, and which of them each prediction is counted in. places: of each code in `of_row`; panes: of
    each in `when`.
    """
    known: dict[tuple[str, tuple[str, ...]], int] = {}
    # What was kept before the layout's marginal columns were counted has no value of theirs.
    nothing = ("",) * bool(marginal)
    code = np.array([known.setdefault((version, value or nothing), len(known)) for version, value in places])
    key, group = np.unique((when * len(known) + code[of_row]) * 2 + late, return_inverse=True)
    rest, was_late = np.divmod(key, 2)
    of_pane, of_place = np.divmod(rest, len(known))
    named = list(known)
    rows = [
        DeltaRow(start, named[place][0], named[place][1], bool(flag), marginal)
        for start, place, flag in zip(panes[of_pane].tolist(), of_place.tolist(), was_late.tolist(), strict=True)
    ]
    return rows, group


def _rows(found: Sequence[Pairs]) -> JoinedRows:
    def column(name: str) -> npt.NDArray[np.generic]:
        parts = [getattr(pairs, name) for pairs in found]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    ranks = None
    if any(pairs.ranks is not None for pairs in found):
        none = [np.full((pairs.sign.size, 5), -1, np.int64) if pairs.ranks is None else pairs.ranks for pairs in found]
        ranks = np.concatenate(none)
    wide = [pairs.shares for pairs in found if pairs.shares is not None]
    shares = None
    if wide:
        k = max(one.shape[1] for one in wide)
        shares = np.concatenate(
            [
                np.full((pairs.sign.size, k), np.nan) if pairs.shares is None else widened(pairs.shares, k)
                for pairs in found
            ]
        )
    return JoinedRows(
        score=kept_score(column("score").astype(np.float64)),
        label=column("label").astype(np.int64),
        value=column("value").astype(np.float64),
        outcome=column("outcome").astype(np.int64),
        truth=column("truth").astype(np.float64),
        delay_ms=SHORTEST[column("delay").astype(np.int64)],
        sign=column("sign").astype(np.int64),
        ranks=ranks,
        shares=shares,
    )


def _split(plan: Plan, rows: list[DeltaRow], counts: Ints, max_ts: int, transaction: Transaction) -> Iterator[Delta]:
    body = encode_sparse(counts.ravel())
    if not fits(rows, len(body)):
        half = len(rows) // 2
        yield from _split(plan, rows[:half], counts[:half], max_ts, transaction)
        yield from _split(plan, rows[half:], counts[half:], max_ts, transaction)
        return
    yield delta_of(plan, rows, transaction, max_ts=max_ts, width=counts.shape[1], body=body, kind=OUTCOME)


def delay_buckets(delay_ms: Ints) -> Ints:
    """Buckets of delays; an outcome before its prediction has none."""
    return bucket_of(np.maximum(delay_ms, 0).astype(np.float64))


__all__ = ["SHORTEST", "JoinTables", "Pairs", "delay_buckets"]
