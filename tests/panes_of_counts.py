"""Small references and panes of counts for tests of scopes: seeded, in memory, no files."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.rows import Rows
from detectors.scopes import Scope, ScopeResult, ScopeState, update
from detectors.tabulate import tabulate
from schemas.layouts import Expectation, Layout, View

START = 1_735_689_600_000  # 2025-01-01 00:00 UTC, a Wednesday
PANE, DAY = 300_000, 86_400_000
DAYS, EVENTS = 14, 50
T0 = START + DAYS * DAY
Columns = dict[str, npt.NDArray[np.object_] | npt.NDArray[np.float64]]


def rows(seed: int, n: int, *, numbers: int = 2, shift: float = 0.0, missing: float = 0.0) -> Columns:
    """Draw n rows: `x0`, `x1`, … normal (x0 moved by `shift`, a share of it missing) and `colour` of four levels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, numbers))
    x[:, 0] += shift
    x[rng.random(n) < missing, 0] = np.nan
    columns: Columns = {f"x{i}": x[:, i] for i in range(numbers)}
    columns["colour"] = rng.choice(np.array(["red", "green", "blue", "grey"], dtype=object), n, p=[0.4, 0.3, 0.2, 0.1])
    return columns


@lru_cache(maxsize=8)
def reference(*, numbers: int = 2, days: int = DAYS, events: int = EVENTS, segments: bool = False) -> Reference:
    """Reference of independent rows, `events` per five minutes; with segments, half of the rows are FR and half DE."""
    n = days * DAY // PANE * events
    ts = START + np.arange(n) * PANE // events
    columns = rows(1, n, numbers=numbers)
    country = np.where(np.arange(n) % 2, "FR", "DE").astype(object)
    table = Rows(ts=ts, columns=columns, segments={"country": country} if segments else {})
    builder = ReferenceBuilder("credit", "features", segments=("country",) if segments else ())
    builder.survey(table)
    builder.count(table)
    return builder.finish()


def layout(of: Reference, **settings: object) -> Layout:
    """Layout of all features on the whole model, five-minute panes, one false alarm in thirty days."""
    names = tuple(spec.name for spec in of.specs)
    given = {"monitored": names, "monitors": len(names), "pane_ms": PANE, **settings}
    return Layout(model="credit", from_ms=0, reference=of.id, **given)  # type: ignore[arg-type]


def counts(of: Reference, columns: Columns, *, panes: int) -> npt.NDArray[np.int64]:
    """(panes, 1, width): equal shares of the rows, in order."""
    table, binner = of.table, Binner(of.specs)
    numeric = np.stack([columns[spec.name] for spec in table.numeric], axis=1).astype(float)
    levels = [binner.level_codes(i, columns[spec.name]) for i, spec in enumerate(table.categorical)]  # type: ignore[arg-type]
    n = numeric.shape[0]
    found, _, _ = tabulate(table, binner, numeric, np.stack(levels, axis=1), np.arange(n) * panes // n, panes)
    return found[:, None, :]


def quiet(of: Reference, panes: int, *, seed: int = 2, n: int = EVENTS, numbers: int = 2) -> npt.NDArray[np.int64]:
    """Panes in which nothing changed."""
    return counts(of, rows(seed, panes * n, numbers=numbers), panes=panes)


def play(
    scope: Scope, panes: npt.NDArray[np.int64], *, state: ScopeState | None = None, first: int = 0
) -> tuple[ScopeState, list[ScopeResult]]:
    """Update a scope pane by pane from pane number `first` after T0."""
    state, results = state or scope.start(), []
    for i, pane in enumerate(panes):
        state, result = update(scope, state, start=T0 + (first + i) * scope.layout.pane_ms, counts=pane)
        results.append(result)
    return state, results


__all__ = [
    "DAY",
    "EVENTS",
    "PANE",
    "T0",
    "Expectation",
    "View",
    "counts",
    "layout",
    "play",
    "quiet",
    "reference",
    "rows",
]
