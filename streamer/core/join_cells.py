"""Where a pending prediction was counted, as a code of four bytes: layout, version and segment values, once each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streamer.core.cells import OTHER
from streamer.core.columns import Names
from streamer.core.plans import Plan, Plans

Ints: TypeAlias = npt.NDArray[np.int64]

#: Cells of one task at a time; versions and segment values beyond share one.
MOST = 65_536
_NEVER = -(1 << 62)


class Cell(NamedTuple):
    """The finest that a prediction is counted under. layout: its id; further: values of its marginal columns."""

    layout: str
    version: str
    segment: tuple[str, ...]
    further: tuple[str, ...] = ()


class JoinCells:
    """Codes of cells, and what the layouts of cells say, as arrays by the place of the layout in `plans`.

    A cell whose layout is not known any more has the last place of every array: nothing joins it.

    >>> cells = JoinCells()
    >>> cells.code(Cell("a", "1", ("FR",))), cells.code(Cell("a", "2", ())), cells.code(Cell("a", "1", ("FR",)))
    (0, 1, 0)
    """

    def __init__(self) -> None:
        self.names: list[Cell] = []
        self.plans: list[Plan] = []
        self.models: list[str] = []
        self._codes: dict[Cell, int] = {}
        self._place: dict[str, int] = {}
        self._place_of = np.zeros(256, dtype=np.int32)
        self.serve(())

    def serve(self, plans: Plans | Sequence[Plan]) -> None:
        """Go by these layouts from now on."""
        if isinstance(plans, Plans):
            plans = [one for plan in plans.models["predictions"].values() for one in plan.plans]
        self.plans = [plan for plan in plans if plan.outcomes is not None]
        self.models = sorted({plan.layout.model for plan in self.plans})
        self._place = {plan.id: place for place, plan in enumerate(self.plans)}
        layouts = [plan.layout for plan in self.plans]
        self.model = np.array([*(self.models.index(one.model) for one in layouts), -2], dtype=np.int64)
        self.horizon = np.array([*(one.horizon_ms for one in layouts), _NEVER], dtype=np.int64)
        self.kept = np.array([*(one.horizon_ms + one.hold_ms for one in layouts), _NEVER], dtype=np.int64)
        self.kept_s = np.where(self.kept > 0, -(-self.kept // 1000), _NEVER)
        self.wait_s = np.array([*(-(-one.early_outcome_wait_ms // 1000) for one in layouts), _NEVER], dtype=np.int64)
        self.pane = np.array([*(one.outcome_pane_ms for one in layouts), 1], dtype=np.int64)
        self.maturity = np.array([*(one.maturity_ms for one in layouts), 0], dtype=np.int64)
        for code, cell in enumerate(self.names):
            self._place_of[code] = self._place.get(cell.layout, len(self.plans))

    def code(self, cell: Cell) -> int:
        """The code of a cell."""
        found = self._codes.get(cell)
        if found is not None:
            return found
        if len(self.names) >= MOST:
            others = (OTHER,) * len(cell.further)
            cell = Cell(cell.layout, OTHER, (OTHER,) * len(cell.segment), others)
            if cell in self._codes:
                return self._codes[cell]
        code = self._codes[cell] = len(self.names)
        self.names.append(cell)
        if code == self._place_of.size:
            self._place_of = np.concatenate([self._place_of, np.zeros(code, dtype=np.int32)])
        self._place_of[code] = self._place.get(cell.layout, len(self.plans))
        return code

    def codes(self, plan: Plan, columns: Sequence[Names]) -> Ints:
        """Codes of rows of one layout, (n,). columns: the version, the segments, the marginal columns."""
        key, names = columns[0].codes, columns[0].names
        found: list[tuple[str, ...]] = [(name,) for name in names]
        for column in columns[1:]:
            if len(column.names) == 1:
                found = [(*one, column.names[0]) for one in found]
                continue
            pairs, key = np.unique(key * len(column.names) + column.codes, return_inverse=True)
            places = zip(*np.divmod(pairs, len(column.names)), strict=True)
            found = [(*found[one], column.names[other]) for one, other in places]
        there = np.unique(key) if len(found) > 1 else np.zeros(1, dtype=np.int64)
        codes = np.zeros(len(found), dtype=np.int64)
        for place in there.tolist():
            version, *values = found[place]
            crossed = len(plan.layout.segments)
            codes[place] = self.code(Cell(plan.id, version, tuple(values[:crossed]), tuple(values[crossed:])))
        return codes[key]

    def place(self, codes: Ints) -> Ints:
        """Places of the layouts of cells, by code."""
        return self._place_of[codes].astype(np.int64)

    def forget_others(self, live: Ints) -> Ints:
        """Keep the cells of the codes `live` only; the new code of each old one, (cells,)."""
        new = np.zeros(len(self.names), dtype=np.int64)
        new[live] = np.arange(live.size)
        self.names = [self.names[code] for code in live.tolist()]
        self._codes = {cell: code for code, cell in enumerate(self.names)}
        for code, cell in enumerate(self.names):
            self._place_of[code] = self._place.get(cell.layout, len(self.plans))
        return new
