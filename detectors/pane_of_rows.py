"""Rows of one pane as the counts that a scope takes: the way from a data frame to `update` without a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner
from detectors.references import Reference
from detectors.rows import Rows, as_levels
from detectors.tabulate import tabulate
from schemas.errors import ConfigurationError
from schemas.layouts import View

Ints: TypeAlias = npt.NDArray[np.int64]


def pane_counts(reference: Reference, rows: Rows, *, views: Sequence[View] = (View(),)) -> tuple[Ints, Ints]:
    """Counts (views, table width) and extremes (views, numeric features, 2) of rows, for `update`.

    Both are integers: counts of the parts of a pane add up to those of the whole, of extremes take the least and the
    largest. A column that is absent, or of another type than the reference's, is missing. views: as in the layout, the
    whole model first; others take the rows of their version or segment value. `ConfigurationError` where the reference
    has derived features, which need the rows themselves.

    >>> from detectors import Layout, ReferenceBuilder, build_scope, update
    >>> rng, pane = np.random.default_rng(0), 300_000
    >>> history = Rows(ts=1_736_121_600_000 + np.arange(200_000) * 6_048, columns={"x": rng.normal(size=200_000)})
    >>> builder = ReferenceBuilder("m", "features")
    >>> builder.survey(history)
    >>> builder.count(history)
    >>> reference = builder.finish()
    >>> layout = Layout(model="m", from_ms=0, reference=reference.id, pane_ms=pane, monitored=("x",), monitors=1)
    >>> scope = build_scope(reference, layout)
    >>> state, start, seen = scope.start(), 1_737_331_200_000, 0
    >>> while not seen:
    ...     rows = Rows(ts=start + np.arange(50) * 6_000, columns={"x": rng.normal(0.5, 1.0, 50)})
    ...     counts, extremes = pane_counts(reference, rows)
    ...     state, result = update(scope, state, start=start, counts=counts, extremes=extremes)
    ...     start, seen = start + pane, len(result.alarms)
    >>> result.alarms[0].evidence.direction, (start - 1_737_331_200_000) // pane
    ('location up', 6)
    """
    if reference.derived is not None:
        raise ConfigurationError(f"reference of {reference.model}: has derived features; they are made of rows")
    table, n = reference.table, len(rows)
    binner = Binner(reference.specs)
    numeric = np.full((n, len(table.numeric)), np.nan)
    for j, spec in enumerate(table.numeric):
        column = rows.columns.get(spec.name)
        if column is not None and column.dtype.kind in "fiu":
            numeric[:, j] = column
    levels = np.zeros((n, len(table.categorical)), dtype=np.int32)
    for k, spec in enumerate(table.categorical):
        column = rows.columns.get(spec.name)
        levels[:, k] = binner.level_codes(k, [None] * n if column is None else as_levels(column))
    counts = np.zeros((len(views), table.width), dtype=np.int64)
    extremes = np.zeros((len(views), len(table.numeric), 2), dtype=np.int64)
    for i, view in enumerate(views):
        here = _rows_of(rows, view)
        found, least, largest = tabulate(table, binner, numeric[here], levels[here], np.zeros(here.size, np.int64), 1)
        counts[i], extremes[i, :, 0], extremes[i, :, 1] = found[0], least[0], largest[0]
    return counts, extremes


def _rows_of(rows: Rows, view: View) -> Ints:
    if not view.column:
        return np.arange(len(rows), dtype=np.int64)
    values = rows.version if view.column == "version" else rows.segments.get(view.column)
    if values is None:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.array([value == view.value for value in as_levels(values)], dtype=bool))
