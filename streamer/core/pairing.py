"""What an outcome does to the prediction that it is of: which can be of which, and what is counted of the pair.

The first outcome of a row is counted, an equal one is a duplicate; of a different one the old is taken out and the new
put in, in the pane of the prediction. The delay stays that of the first.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcomes import class_codes
from streamer.core.join_cells import JoinCells
from streamer.core.join_log import JoinLog
from streamer.core.join_tables import JoinTables, Pairs, delay_buckets
from streamer.core.pending import NONE, Pending
from streamer.core.predicted import Own, Predicted
from streamer.core.told import Told

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: What became of an outcome that found its row; ANY: it names no model.
NEW, CORRECTED, EQUAL, UNFIT = range(4)
ANY = -1
_LATE = 0x80


class Pairing:
    """Outcomes and rows of one task. tables: what the batch has joined; counts: see `JoinPosition.counts`."""

    def __init__(self, pending: Pending, cells: JoinCells, log: JoinLog, counts: Counter[str]) -> None:
        self.pending, self.cells, self._log, self._counts = pending, cells, log, counts
        self.tables = JoinTables()

    def begin(self) -> None:
        """A batch begins: nothing is joined yet."""
        self.tables = JoinTables()

    def expect(self, rows: Predicted) -> None:
        """Predictions that an outcome may come for."""
        pane = self.cells.pane[rows.place]
        start = rows.ts // pane * pane
        for place in np.unique(rows.place).tolist():
            mine = rows.place == place
            self.tables.expect(place, start[mine], rows.cell[mine])

    def fits(self, numbers: Ints, *, ts: Ints, append: Ints, seen: Ints, model: Ints) -> Bools:
        """Which outcomes are of which rows: see the top of `streamer.core.joining`."""
        cells, place = self.cells, self.cells.place(self.pending.cell(numbers))
        of_row, appended = self.pending.ts(numbers), self.pending.append_s(numbers)
        fits: Bools = (
            (ts <= of_row + cells.horizon[place])
            & (appended <= append + cells.wait_s[place])
            & (append <= appended + cells.kept_s[place])
            & (seen <= of_row + cells.kept[place])
            & ((model == ANY) | (model == cells.model[place]))
        )
        return fits

    def codes(self, place: Ints, told: Told, at: Ints) -> tuple[Ints, Floats]:
        """Codes of outcomes, −1 for what does not fit the layout at `place`; and numbers, for a regression."""
        code, truth = np.full(at.size, NONE, dtype=np.int64), np.full(at.size, np.nan)
        for one in np.unique(place).tolist():
            mine = np.flatnonzero(place == one)
            table = self.cells.plans[one].outcomes
            assert table is not None
            if table.spec.kind == "regression":
                truth[mine] = told.number[at[mine]]
                code[mine] = np.where(np.isnan(truth[mine]), NONE, 0)
            else:
                code[mine] = class_codes(table.spec, [told.text[i] for i in at[mine].tolist()])
        return code, truth

    def settle(self, numbers: Ints, told: Told, at: Ints, *, echo: Predicted | None = None) -> Ints:
        """Outcomes `at` of `told` are of the rows `numbers`: new, a correction, equal to what is known, or unfit.

        echo: the predictions that they carry, (n,) as `at`.
        """
        place = self.cells.place(self.pending.cell(numbers))
        code, truth = self.codes(place, told, at)
        status = np.full(at.size, UNFIT, dtype=np.int64)
        todo = np.flatnonzero(code != NONE)
        while todo.size:
            _, first = np.unique(numbers[todo], return_index=True)
            now = todo[np.sort(first)] if first.size < todo.size else todo
            said = None if echo is None else echo.take(now)
            status[now] = self._settle_once(numbers[now], told.ts[at[now]], code[now], truth[now], said)
            todo = np.setdiff1d(todo, now) if now.size < todo.size else todo[:0]
        return status

    def count(self, rows: Predicted, ts: Ints, code: Ints, truth: Floats) -> Ints:
        """Count first outcomes; what is kept of their delays: the bucket, and whether they were late."""
        bucket, late = delay_buckets(ts - rows.ts), self._is_late(rows, ts)
        self._pair(rows, code, truth, bucket, late, sign=1)
        self._counts["late"] += int(late.sum())
        return bucket | np.where(late, _LATE, 0)

    def count_own(self, rows: Predicted, own: Own) -> Ints:
        """Count outcomes that came on their predictions; what is kept of their delays, (n,)."""
        here, delay = np.flatnonzero(own.code != NONE), np.zeros(own.code.size, dtype=np.int64)
        if here.size:
            delay[here] = self.count(rows.take(here), own.ts[here], own.code[here], own.truth[here])
            self._counts["matched"] += here.size
        return delay

    def keep(self, numbers: Ints, code: Ints, delay: Ints, truth: Floats) -> None:
        """Outcomes of rows, in place of what was known before; they are in the changelog with the batch."""
        if numbers.size:
            truths = None if np.isnan(truth).all() else truth
            self.pending.settle(numbers, code, delay, truths)
            self._log.settled(numbers, code, delay, truths, at=self.pending.next)

    def _settle_once(self, numbers: Ints, ts: Ints, code: Ints, truth: Floats, echo: Predicted | None) -> Ints:
        known, before = self.pending.outcome(numbers), self.pending.truth(numbers)
        equal = (known == code) & ((truth == before) | np.isnan(truth))
        status = np.where(known == NONE, NEW, np.where(equal, EQUAL, CORRECTED))
        new, changed = np.flatnonzero(status == NEW), np.flatnonzero(status == CORRECTED)
        if new.size:
            rows = self._recall(numbers[new]).echoing(None if echo is None else echo.take(new))
            delay = self.count(rows, ts[new], code[new], truth[new])
            self.keep(numbers[new], code[new], delay, truth[new])
        if changed.size:
            rows, old = self._recall(numbers[changed]), self.pending.delay(numbers[changed])
            rows = rows.echoing(None if echo is None else echo.take(changed))
            late = self._is_late(rows, ts[changed]) | ((old & _LATE) > 0)
            bucket = old & ~_LATE
            self._pair(rows, known[changed], before[changed], bucket, late, sign=-1)
            self._pair(rows, code[changed], truth[changed], bucket, late, sign=1)
            self.keep(numbers[changed], code[changed], bucket | np.where(late, _LATE, 0), truth[changed])
        return status

    def _recall(self, numbers: Ints) -> Predicted:
        pending, cell = self.pending, self.pending.cell(numbers)
        return Predicted(
            place=self.cells.place(cell),
            ts=pending.ts(numbers),
            append=pending.append_s(numbers),
            cell=cell,
            score=pending.score(numbers),
            label=pending.label(numbers),
            value=pending.value(numbers),
            ranks=pending.ranks(numbers),
        )

    def _is_late(self, rows: Predicted, ts: Ints) -> Bools:
        pane = self.cells.pane[rows.place]
        late: Bools = ts > rows.ts // pane * pane + pane + self.cells.maturity[rows.place]
        return late

    def _pair(self, rows: Predicted, code: Ints, truth: Floats, bucket: Ints, late: Bools, *, sign: int) -> None:
        pane = self.cells.pane[rows.place]
        pairs = Pairs(
            pane=rows.ts // pane * pane,
            cell=rows.cell,
            late=late,
            score=rows.score,
            label=rows.label,
            value=rows.value,
            ranks=rows.ranks,
            shares=rows.shares,
            outcome=code,
            truth=truth,
            delay=bucket,
            sign=np.full(code.size, sign, dtype=np.int64),
        )
        places = np.unique(rows.place).tolist()
        for place in places:
            mine = np.flatnonzero(rows.place == place)
            self.tables.add(place, pairs if len(places) == 1 else pairs.take(mine))
