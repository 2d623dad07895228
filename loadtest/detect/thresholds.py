"""Limits of the adaptive chart by simulation: `python -m loadtest.detect.thresholds [--write]`; minutes on one core.

For each x = n·p(1 − p) of a pane, `RUNS` streams with nothing changed run for `PANES` panes, once and without restarts;
with the running maximum of d, every limit h is read off at once: attained budget = Σ min(T_h, PANES) / alarms. A budget
of A panes rests on `RUNS·PANES / A` alarms, about: at 30,000 some 200, so 7 % of the budget, .06 of the limit (one
standard error). Budgets longer than the run are those of the run's own length, taken as a constant rate.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

import detectors.charts.adaptive_limits
from detectors.charts.adaptive import build_adaptive, tick
from detectors.charts.losses import UNIT

BUDGETS = (30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0)
INFORMATION = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
RUNS, PANES, SEED = 800, 8_000, 34
GRID = np.arange(0.0, 25.0, 0.02)

HEAD = '''"""Limits of the adaptive chart: `python -m loadtest.detect.thresholds --write` makes this file, not you.

Rows: budget A in panes; columns: x = n·p(1 − p) of a pane.
"""

from __future__ import annotations

'''


def main() -> None:
    """Print the grid, or write it where the chart reads it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--panes", type=int, default=PANES)
    asked = parser.parse_args()
    columns = []
    for stream, x in enumerate(INFORMATION):
        columns.append(limits_at(x, runs=asked.runs, panes=asked.panes, seed=stream))
        print(f"x = {x:g}: one-sided {columns[-1][0].round(2)}, two-sided {columns[-1][1].round(2)}", flush=True)
    grids = np.maximum.accumulate(np.stack(columns, axis=2), axis=1)  # (sides, budgets, x)
    text = HEAD + f"BUDGETS = {BUDGETS}\nINFORMATION = {INFORMATION}\n"
    for name, grid in zip(("ONE_SIDED", "TWO_SIDED"), grids, strict=True):
        rows = ["    (" + ", ".join(f"{value:.2f}" for value in row) + ")," for row in grid.tolist()]
        text += "\n".join([f"{name} = (", *rows, ")\n"])
    if asked.write:
        Path(detectors.charts.adaptive_limits.__file__).write_text(text, encoding="utf-8")
    else:
        print(text)


def limits_at(x: float, *, runs: int, panes: int, seed: int) -> np.ndarray:
    """Limits (2, budgets), one- and two-sided, at one x: panes of n labels with np(1 − p) = x, p near .1."""
    n = max(1, math.ceil(x / 0.09))
    rate = (1.0 - math.sqrt(1.0 - 4.0 * x / n)) / 2.0
    rng = np.random.default_rng(np.random.SeedSequence([SEED, seed]))
    plan = build_adaptive(runs, budget=1.0)
    history, rows = plan.start(), np.full(runs, n)
    largest, waited = np.zeros((2, runs)), np.zeros((2, GRID.size))
    for _ in range(panes):
        history, said = tick(plan, history, n=rows, sums=rng.binomial(n, rate, runs) * UNIT)
        largest = np.maximum(largest, np.stack([said.value[0], said.value.max(axis=0)]))
        waited += _below(largest)
    alarms = runs - _below(largest)
    attained = np.where(alarms > 0, (waited + alarms) / np.maximum(alarms, 1), np.inf)
    return np.stack([[_crossing(one, budget) for budget in BUDGETS] for one in attained])


def _below(largest: np.ndarray) -> np.ndarray:
    """How many runs are below each limit of the grid: (2, limits) from (2, runs)."""
    return np.stack([np.searchsorted(np.sort(one), GRID) for one in largest]).astype(np.float64)


def _crossing(attained: np.ndarray, budget: float) -> float:
    """Where the attained budget passes the wanted one, linear in its logarithm."""
    at = int(np.argmax(attained >= budget))
    low, high = math.log(max(attained[at - 1], 1e-9)), math.log(attained[at])
    return float(GRID[at - 1] + (GRID[at] - GRID[at - 1]) * (math.log(budget) - low) / (high - low))


if __name__ == "__main__":
    main()
