"""Values of rows that were read from a table, in columns as they stand there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.rows import Rows, level_text
from detectors.served import status_levels
from streamer.core.columns import (
    OUTPUT_NAMES,
    Column,
    Features,
    Marks,
    Names,
    Odd,
    Said,
    as_text,
    derive,
    level_codes,
    named,
    numbers_of,
    statuses_of,
    truth_of,
)
from streamer.core.plans import Plan

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TableValues:
    """Values of rows that came in columns. outcome: (n,) numbers or texts; outcome_ts: ms."""

    rows: Rows
    outcome: npt.NDArray[Any] | None = None
    outcome_ts: Ints | None = None

    def features(self, plan: Plan, rows: Ints) -> Features:
        """See `Values`. A column that the reference lacks is an unknown feature wherever it is not missing."""
        odd: list[Odd] = []
        denied = 0
        whole = rows.size == len(self.rows)
        columns = {name: column if whole else column[rows] for name, column in self.rows.columns.items()}
        numeric = np.full((len(plan.numeric), rows.size), np.nan)
        for j, name in enumerate(plan.numeric):
            column = columns.get(name)
            if column is not None:
                numeric[j] = column if column.dtype.kind in "fiu" else numbers_of(column.tolist(), name, odd)
            if name in plan.served:
                numeric[j] = _only_finite(numeric[j])
        derive(plan, numeric)
        codes = np.empty((len(plan.categorical), rows.size), dtype=np.int32)
        for k, name in enumerate(plan.categorical):
            column = columns.get(name)
            texts: Column = list(repeat(None, rows.size)) if column is None else as_text(column.tolist())
            texts = status_levels(texts) if name in plan.served else texts
            codes[k] = level_codes(plan, k, texts, odd)
        for name in sorted(columns.keys() - {spec.name for spec in plan.table.specs}):
            column = columns[name]
            missing = np.array([level_text(value) is None for value in column.tolist()], dtype=bool)
            if not (name in OUTPUT_NAMES or plan.layout.features.permits(name)):
                denied += int((~missing).sum())
            elif not missing.all():
                odd.append(Odd("unknown", "", name, np.flatnonzero(~missing)))
        return Features(numeric.T, codes.T, odd, denied)

    def segment(self, plan: Plan, column: str, rows: Ints) -> Names:
        """See `Values`. A table without the column has the feature of that name for it."""
        found = self.rows.segments.get(column)
        if found is None:
            found = self.rows.columns.get(column)
        return named([None] * rows.size if found is None else found[rows].tolist())

    def marks(self, plan: Plan, rows: Ints) -> Marks:
        """See `Values`. Of a table those that the reference knows: a column `cost` may be a feature like any other."""
        columns = {name: self.rows.columns[name] for name in plan.served if name in self.rows.columns}
        latency, cost = (
            None if name not in columns else _only_finite(numbers_of(columns[name][rows].tolist(), name, []))
            for name in ("latency_ms", "cost")
        )
        status = columns.get("status")
        return Marks(latency, cost, None if status is None else statuses_of(status[rows].tolist()))

    def said(self, rows: Ints) -> Said:
        """See `Values`. outcome, outcome_ts: columns of that name, as `profile_rows` has set them aside."""
        n = rows.size

        def numbers(name: str) -> Floats:
            column = self.rows.columns.get(name)
            return np.full(n, np.nan) if column is None else numbers_of(column[rows].tolist(), name, [])

        score, label = numbers("score"), self.rows.columns.get("label")
        proba = None if self.rows.proba is None else self.rows.proba[rows].tolist()
        # The score of two classes is theirs, unless the row said one itself: then they are not among the rows.
        of_two = np.zeros(n, dtype=bool) if proba is None else np.array([bool(one) and len(one) == 2 for one in proba])
        return Said(
            score=score,
            scored=~np.isnan(score) & ~of_two,
            label=[None] * n if label is None else as_text(label[rows].tolist()),
            value=numbers("value"),
            proba=None if proba is None or proba.count(None) == n else proba,
            outcome=None if self.outcome is None else truth_of(self.outcome[rows].tolist()),
            outcome_ts=None if self.outcome_ts is None else self.outcome_ts[rows],
        )


def _only_finite(numbers: Floats) -> Floats:
    """What says nothing about the model costs only itself where it is broken: it is missing."""
    return np.where(np.isfinite(numbers), numbers, np.nan)
