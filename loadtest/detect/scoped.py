"""A whole model over rows: reference, scope and verdicts, as `backtest` runs them: incidents, hard rules and all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.results import ScopeResult
from detectors.rows import Rows
from detectors.scopes import Scope, build_scope, update
from detectors.tabulate import tabulate
from schemas.layouts import Layout

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
#: Columns by name: float64, NaN for missing, or strings.
Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]


def reference_of(ts: Ints, columns: Columns) -> Reference:
    """What `reference build` makes of rows; ts in ms, in order."""
    builder = ReferenceBuilder("m", "features")
    rows = Rows(ts=ts, columns=dict(columns))
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def scope_of(reference: Reference, *, monitored: tuple[str, ...], pane_ms: int, monitors: int = 0) -> Scope:
    """A scope as shipped: 1 false alarm per 30 days, tolerance .1. monitors: M, when more than are watched."""
    capacity = {"monitors": monitors} if monitors else {}
    return build_scope(
        reference,
        Layout(model="m", from_ms=0, reference=reference.id, monitored=monitored, pane_ms=pane_ms, **capacity),
    )


def counts_of(scope: Scope, ts: Ints, columns: Columns, *, start: int, panes: int) -> Ints:
    """Counts (panes, table width) of rows from `start` ms on."""
    table = scope.reference.table
    numeric = [np.asarray(columns[spec.name], dtype=np.float64) for spec in table.numeric]
    coded = [_codes(spec.levels, columns[spec.name]) for spec in table.categorical]
    none = np.zeros((ts.size, 0))
    counts, _, _ = tabulate(
        table,
        Binner(scope.reference.specs),
        np.stack(numeric, axis=1) if numeric else none,
        np.stack(coded, axis=1) if coded else none.astype(np.int32),
        (ts - start) // scope.layout.pane_ms,
        panes,
    )
    return counts


def verdicts(scope: Scope, counts: Ints, *, start: int) -> Iterator[ScopeResult]:
    """One result per pane of counts (panes, table width), the first of which starts at `start` ms."""
    state = scope.start()
    for number, pane in enumerate(counts):
        state, result = update(scope, state, start=start + number * scope.layout.pane_ms, counts=pane[None])
        yield result


def _codes(levels: tuple[str, ...], values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    place = {level: i for i, level in enumerate(levels)}
    return np.array([place.get(value, len(levels)) for value in values.tolist()], dtype=np.int32)
