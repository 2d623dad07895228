"""Whether what a verdict says is so: the onset's set, the size's interval, and the smallest visible change of a day.

Onset and size: whole models with a change of .5 sd of the reference at a random hour. Visible change: the shift of the
mean that nine of ten days show, by simulation, over the one that is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner
from detectors.monitors import learn
from loadtest.detect import scoped
from loadtest.detect.fleet import Model
from loadtest.detect.honesty import BUDGET, by_name
from loadtest.detect.rows import Row, bar, row_of
from loadtest.detect.run_length import delays_of
from loadtest.detect.streams import PANE_MS, PANES_A_DAY, START_MS, Null
from loadtest.detect.stress import LEARNING, N, seeded

Floats: TypeAlias = npt.NDArray[np.float64]

SHIFT = 0.5
HORIZON = {"null iid": 60, "null ar .6": 150, "null real": 400, "null clusters .5": 1_200}
#: Nulls of the visible change, with what its bar allows.
VISIBLE = {"null iid": 0.2, "null ar .6": 0.2, "null real": 0.2, "null clusters .5": 0.35, "null clusters": 0.35}
FACTORS = np.array([0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6])


def rows(part: str, *, quick: bool, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """`found`: onset and size; `visible`: the smallest visible change."""
    if part == "found":
        for name in ("null iid", "null real") if quick else HORIZON:
            yield found_row(by_name(name), references=4 if quick else 20, each=10, seed=seed)
        return
    for name in ("null iid", "null clusters .5") if quick else VISIBLE:
        yield visible_row(by_name(name), references=3 if quick else 10, runs=40 if quick else 60, seed=seed)


def found_row(null: Null, *, references: int, each: int, seed: int) -> tuple[Row, list[Row]]:
    """How often the onset's set holds the pane of the change, and the size's interval the shift. Bars of 90 %.

    A change that is not named "location up" counts as a size that is wrong.
    """
    horizon, delays, early = HORIZON[null.name], [], 0
    onset = sized = within = 0
    errors: list[float] = []
    for r in range(references):
        rng = seeded(500, r, seed=seed)
        values, sizes = null.path(rng, LEARNING, N)
        sd = float(values.std())
        known = scoped.reference_of(_times(sizes), {"x": values})
        scope = scoped.scope_of(known, monitored=("x",), pane_ms=PANE_MS)
        for _ in range(each):
            quiet = int(rng.integers(24, PANES_A_DAY))
            # Paths begin on a Monday, and so does what follows 14 days of reference.
            tail, more = null.path(rng, quiet + horizon, N)
            start = START_MS + LEARNING * PANE_MS
            when, change = _times(more) + LEARNING * PANE_MS, start + quiet * PANE_MS
            tail[when >= change] += SHIFT * sd
            counts = scoped.counts_of(scope, when, {"x": tail}, start=start, panes=quiet + horizon)
            opened = next((one for one in scoped.verdicts(scope, counts, start=start) if one.opened), None)
            if opened is None:
                delays.append(None)
                continue
            if opened.end <= change:
                early += 1
                delays.append(None)
                continue
            evidence = opened.alarms[0].evidence
            delays.append((opened.end - change) // PANE_MS * N)
            within += 1
            if evidence.onset_low is not None and evidence.onset_high is not None and evidence.onset is not None:
                onset += evidence.onset_low <= change <= evidence.onset_high
                errors.append(abs(evidence.onset - change) / PANE_MS)
            if evidence.direction == "location up" and evidence.size_low is not None and evidence.size_high is not None:
                sized += evidence.size_low <= SHIFT <= evidence.size_high
    short = null.name.removeprefix("null ")
    total = max(within, 1)
    setting = (f"onset's set {onset / total:.0%}, median error {np.median(errors or [np.nan]):.0f} panes; "
               f"size's interval {sized / total:.0%} of {within}")  # fmt: skip
    row = row_of("tripline", f"coverage: {short} + .5 sd", arl0=BUDGET * N, setting=setting)
    says = f"{within} runs"
    bars = [
        bar(f"{short} + .5 sd: onset's set holds the change", onset / total, 0.9, measured=says, least=True),
        bar(f"{short} + .5 sd: size's interval holds the shift", sized / total, 0.9, measured=says, least=True),
    ]
    return row | delays_of(delays, early).row(), bars


def visible_row(null: Null, *, references: int, runs: int, seed: int) -> tuple[Row, list[Row]]:
    """The shift that 90 % of days show over the printed one, from the powers at nine shifts around it."""
    powers, printed, absent = np.zeros(FACTORS.size), [], 0
    for r in range(references):
        rng = seeded(510, r, seed=seed)
        values, sizes = null.path(rng, LEARNING, N)
        ts = _times(sizes)
        known = scoped.reference_of(ts, {"x": values})
        scope = scoped.scope_of(known, monitored=("x",), pane_ms=PANE_MS)
        visible = float(scope.start().visible[0])
        if not np.isfinite(visible):
            absent += 1
            continue
        printed.append(visible)
        (learned,) = learn(known, scope.layout).learned
        (spec,) = known.specs
        binner, width, quiet = Binner((spec,)), spec.width, PANES_A_DAY // 2
        tables, sd = [], float(values.std())
        for factor in np.repeat(FACTORS, runs):
            path, more = null.path(rng, quiet + PANES_A_DAY, N)
            pane = np.repeat(np.arange(more.size), more)
            path[pane >= quiet] += factor * visible * sd
            codes = binner.codes(path[:, None])[:, 0].astype(np.int64)
            counts = np.bincount(pane * width + codes, minlength=more.size * width)
            tables.append(counts.reshape(more.size, width).astype(np.int32))
        placed = [replace(learned, first=i * width) for i in range(len(tables))]
        model = Model.of(placed, features=1, budget=float(BUDGET))
        found = model.play(np.concatenate(tables, axis=1), first_pane=LEARNING, until_first=False)
        powers += np.array([any(p >= quiet for p in one) for one in found]).reshape(FACTORS.size, runs).mean(axis=1)
    short = null.name.removeprefix("null ")
    allowed = VISIBLE[null.name]
    limit = f"{short}: the smallest visible change of a day, off by"
    if not printed:
        row = row_of("tripline", f"visible change: {short}", arl0=BUDGET * N, setting="not within a day, it says")
        return row, []
    powers /= len(printed)
    factor = at_ninety(powers)
    off = None if factor is None else abs(factor - 1.0)
    setting = (f"printed {np.mean(printed):.3f} sd; 90 % of days show "
               f"{'more than 1.6' if factor is None else f'{factor:.2f}'} times that; it is found in "
               f"{powers[int(np.argmin(abs(FACTORS - 1.0)))]:.0%} of days")  # fmt: skip
    row = row_of("tripline", f"visible change: {short}", arl0=BUDGET * N, setting=setting)
    says = f"{len(printed)} references, {runs} days a shift"
    return row, [bar(limit, None if off is None else round(off, 3), allowed, measured=says)]


def at_ninety(powers: Floats) -> float | None:
    """The factor at which a probit line through the powers is .9; None beyond the factors."""
    known = (powers > 0.02) & (powers < 0.98)
    if known.sum() < 2:
        above = np.flatnonzero(powers >= 0.9)
        return float(FACTORS[above[0]]) if above.size else None
    probits = np.array([NormalDist().inv_cdf(float(p)) for p in powers[known]])
    slope, level = np.polyfit(FACTORS[known], probits, 1)
    found = float((NormalDist().inv_cdf(0.9) - level) / slope)
    return found if slope > 0 and found <= FACTORS[-1] else None


def _times(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Times of rows that are spread evenly over their panes."""
    pane = np.repeat(np.arange(sizes.size), sizes)
    within = np.arange(pane.size) - np.concatenate([[0], np.cumsum(sizes)])[pane]
    return np.asarray(START_MS + pane * PANE_MS + within * PANE_MS // np.maximum(sizes[pane], 1))
