"""Honesty and delay as shipped: the budget on streams that look like real traffic, and the delay of half a deviation.

Each replicate learns its own 14-day reference, by the code behind `reference build`, and is then watched for one budget
of 30 days in five-minute panes. Every alarm counts, also those that an open incident would absorb; hard rules are off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.bets import Learned
from loadtest.detect.fleet import Model, binned
from loadtest.detect.run_length import NO_DELAYS, Rate, delays_of, poisson
from loadtest.detect.streams import NULLS, PANES_A_DAY, Null, seeded

Int32s: TypeAlias = npt.NDArray[np.int32]

REFERENCE_DAYS, BUDGET_DAYS = 14, 30
LEARNING, BUDGET = REFERENCE_DAYS * PANES_A_DAY, BUDGET_DAYS * PANES_A_DAY
#: The upper end of the 95 % interval of false alarms per budget may be at most this.
HONEST = 0.3
#: Median panes to find .5 sd at 50 events a pane, one monitor.
DELAY_BARS = {
    "null iid": 8, "null sine": 8, "null mixture": 8, "null weekend": 8, "null ar .6": 16, "null ar .9": 65,
    "null real": 60, "null clusters": 280,
}  # fmt: skip
DELAY_SHIFT = 0.5
#: Panes after the change in which it must be found.
HORIZON = 1500
#: Replicates of the delay runs; the budgets' are below it.
_DELAY_REPLICATE = 10_000
#: Times the runs: delays that spread tenfold have a median of 40 runs that is a sixth off, either way.
_MORE_RUNS = {"null clusters": 16, "null real": 2}


def null_row(null: Null, *, n: int, monitors: int, budgets: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Row and bar of one null: false alarms in `budgets` budgets of M = `monitors`, at n events a pane."""
    alarms = 0
    # Whole replicates at a time, as many as 250 MB of counts hold.
    at_once = min(budgets, max(1, 120 // monitors))
    for first in range(0, budgets, at_once):
        learned, counts = _replicates(
            null,
            [
                seeded(null.name, r * 100 + m, seed=seed)
                for r in range(first, min(budgets, first + at_once))
                for m in range(monitors)
            ],
            panes=LEARNING + BUDGET,
            n=n,
        )
        model = Model.of(learned, features=monitors, budget=float(BUDGET), strict=null.strict)
        alarms += sum(len(found) for found in model.play(counts[LEARNING:], first_pane=LEARNING))
    rate = Rate(alarms, budgets * BUDGET * n)
    low, high = (end / budgets for end in poisson(alarms))
    row = {
        **_named(null, monitors),
        "arl0": BUDGET * n,
        "attained_arl0": rate.arl,
        "interval": rate.interval,
        "setting": f"as shipped, {n} events a pane, {budgets} budgets{', strict' if null.strict else ''}",
        **NO_DELAYS,
        "ns_per_event": None,
    }
    bar = {
        "bar": f"{null.name}, M = {monitors}, {n} events a pane: false alarms per budget, upper end of 95 %",
        "value": round(high, 3),
        "limit": HONEST,
        "met": high <= HONEST,
        "measured": f"{alarms} in {budgets} budgets ({alarms / budgets:.2f}, {low:.2f} to {high:.2f})",
    }
    return row, bar


def delay_row(null: Null, *, n: int, runs: int, seed: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Row and bar of the delay of .5 sd from a random hour of the day after the reference."""
    runs *= _MORE_RUNS.get(null.name, 1)
    rngs = [seeded(null.name, _DELAY_REPLICATE + r, seed=seed) for r in range(runs)]
    quiet = [int(rng.integers(PANES_A_DAY, 2 * PANES_A_DAY)) for rng in rngs]
    learned, counts = _replicates(null, rngs, panes=LEARNING + 2 * PANES_A_DAY + HORIZON, n=n, moved=quiet)
    model = Model.of(learned, features=1, budget=float(BUDGET), strict=null.strict)
    found = model.play(counts[LEARNING:], first_pane=LEARNING)
    early = sum(any(pane < quiet[r] for pane in panes) for r, panes in enumerate(found))
    first = [next((pane - quiet[r] + 1 for pane in panes if pane >= quiet[r]), None) for r, panes in enumerate(found)]
    within = [panes if panes is not None and panes <= HORIZON else None for panes in first]
    delays = delays_of([None if panes is None else panes * n for panes in within], early)
    row = {
        **_named(null, 1),
        "stream": f"{null.name.removeprefix('null ')} + .5 sd",
        "arl0": BUDGET * n,
        "attained_arl0": None,
        "interval": None,
        "setting": f"as shipped, {n} events a pane",
        **delays.row(),
        "ns_per_event": None,
    }
    if null.name not in DELAY_BARS or n != 50:
        return row, None
    # A run that missed counts as the horizon: the median is over all runs.
    median = float(np.median([HORIZON if panes is None else panes for panes in within]))
    bar = {
        "bar": f"{row['stream']}: median panes to find it, M = 1, 50 events a pane",
        "value": median,
        "limit": DELAY_BARS[null.name],
        "met": median <= DELAY_BARS[null.name],
        "measured": f"{runs} runs, {early} early, {sum(panes is None for panes in within)} missed",
    }
    return row, bar


def _named(null: Null, monitors: int) -> dict[str, Any]:
    return {"detector": "tripline", "ours": True, "stream": null.name, "monitors": monitors}


def _replicates(
    null: Null, rngs: list[np.random.Generator], *, panes: int, n: int, moved: list[int] | None = None
) -> tuple[list[Learned], Int32s]:
    """Learned monitors of independent paths, and counts (panes, columns of all) beside each other.

    moved: by path, panes after the reference at which `DELAY_SHIFT` begins.
    """
    learned: list[Learned] = []
    tables: list[Int32s] = []
    width = 0
    for number, rng in enumerate(rngs):
        values, rows = null.path(rng, panes, n)
        begins = np.concatenate([[0], np.cumsum(rows)])
        values[begins[LEARNING] :] += null.shift
        if moved is not None:
            sd = float(values[: begins[LEARNING]].std())
            values[begins[LEARNING + moved[number]] :] += DELAY_SHIFT * sd
        one, counts = binned(values, rows, learning=LEARNING, levels=null.levels)
        learned.append(replace(one, first=width))
        tables.append(counts)
        width += counts.shape[1]
    return learned, np.concatenate(tables, axis=1)


def by_name(name: str) -> Null:
    """A null by its name."""
    return next(null for null in NULLS if null.name == name)
