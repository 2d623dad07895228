"""What happens to a pipeline besides drift: outages, duplicates, corrupt rows; small and short references; shocks that
all features share. Whole models, with incidents and hard rules, by `scoped`; rates by `fleet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.bets import Learned, build_bets
from loadtest.detect import scoped
from loadtest.detect.fleet import Model, binned
from loadtest.detect.honesty import BUDGET, HONEST, by_name
from loadtest.detect.rows import Row, bar, row_of
from loadtest.detect.run_length import Rate, delays_of, poisson
from loadtest.detect.streams import CHANGES, PANE_MS, PANES_A_DAY, START_MS, Null

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

N = 50
LEARNING = 14 * PANES_A_DAY
#: Panes before and after an accident.
_BEFORE, _AFTER = 36, 36
COPIES = 1_000
WIDE = 30


def seeded(number: int, replicate: int, *, seed: int) -> np.random.Generator:
    """Random numbers of one replicate of a stream."""
    return np.random.default_rng(np.random.SeedSequence([number, replicate], spawn_key=(seed,)))


def rows(part: str, *, quick: bool, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """`accidents` (and delays as shipped); `references, NULL` (or `few rows`), short or small; `shocks` in common."""
    if part == "shocks":
        yield from shock_rows(budgets=13, seed=seed)
        return
    if part == "accidents":
        yield from outage_rows(runs=4 if quick else 20, seed=seed)
        yield from duplicate_rows(runs=15 if quick else 30, seed=seed)
        yield corrupt_row(budgets=13 if quick else 30, seed=seed)
        yield from shipped_delays(references=4 if quick else 10, each=10 if quick else 40, seed=seed)
        return
    runs, of = 12 if quick else 40, part.removeprefix("references, ")
    if of == "few rows":
        for n in (1,) if quick else (1, 3, 10):
            yield from reference_rows(by_name("null iid"), days=14, n=n, budgets=13, runs=runs, seed=seed)
        return
    for days in (3, 28) if quick else (1, 2, 3, 7, 14, 28):
        yield from reference_rows(by_name(of), days=days, n=N, budgets=13, runs=runs, seed=seed)


def outage_rows(*, runs: int, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """Every value missing, or no events at all: panes to the page."""
    for kind, allowed in (("all values missing", 1.0), ("no events", 2.0)):
        found: list[int | None] = []
        early = 0
        for r in range(runs):
            rng = seeded(400, r, seed=seed)
            null = by_name(("null iid", "null ar .6", "null real", "null bursts")[r % 4])
            scope, counts, start = _watched(null, rng, panes=_BEFORE + _AFTER)
            table = scope.reference.table.features["x"]
            if kind == "no events":
                counts[_BEFORE:] = 0
            else:
                n = counts[_BEFORE:, table].sum(axis=1)
                counts[_BEFORE:, table] = 0
                counts[_BEFORE:, table.start + scope.reference.specs[0].columns.index("missing")] = n
            opened = [i for i, one in enumerate(scoped.verdicts(scope, counts, start=start)) if one.opened]
            early += any(i < _BEFORE for i in opened)
            found.append(next((i - _BEFORE + 1 for i in opened if i >= _BEFORE), None))
        name = f"outage: {kind}"
        row = row_of("tripline", name, arl0=BUDGET * N, setting=f"as shipped, {N} events a pane, hard rules")
        row |= delays_of([None if one is None else one * N for one in found], early).row()
        worst = None if None in found else float(max(one for one in found if one is not None))
        says = f"{runs} runs on iid, ar .6, real, bursts; {early} early"
        yield row, [bar(f"{name}: closed panes to the page, the slowest", worst, allowed, measured=says, met=not early)]


def duplicate_rows(*, runs: int, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """A thousand copies of one row, in one pane or straddling two: nobody may be paged."""
    for monitors in (1, WIDE):
        names = tuple(f"x{i}" for i in range(monitors))
        rng = seeded(410, monitors, seed=seed)
        ts = START_MS + np.arange(LEARNING * N) * PANE_MS // N
        known = scoped.reference_of(ts, {name: rng.normal(size=ts.size) for name in names})
        scope = scoped.scope_of(known, monitored=names, pane_ms=PANE_MS)
        start, panes = START_MS + LEARNING * PANE_MS, _BEFORE + _AFTER
        for kind, parts in (("in one pane", (COPIES,)), ("straddling two", (COPIES // 2, COPIES - COPIES // 2))):
            alarmed = 0
            for _ in range(runs):
                copy = rng.normal(size=monitors)
                copied = [np.full(size, _BEFORE + i) for i, size in enumerate(parts)]
                pane = np.concatenate([np.repeat(np.arange(panes), N), *copied])
                values = np.concatenate([rng.normal(size=(panes * N, monitors)), np.tile(copy, (COPIES, 1))])
                order = np.argsort(pane, kind="stable")
                rest = {name: values[order, i] for i, name in enumerate(names)}
                counts = scoped.counts_of(scope, start + pane[order] * PANE_MS, rest, start=start, panes=panes)
                alarmed += any(one.opened for one in scoped.verdicts(scope, counts, start=start))
            name = f"duplicates: 1,000 {kind}"
            setting = f"as shipped, {N} events a pane, {alarmed} of {runs} runs paged"
            row = row_of("tripline", name, monitors=monitors, arl0=BUDGET * N, setting=setting)
            says = f"{runs} runs"
            yield row, [bar(f"{name}, M = {monitors}: runs that page", float(alarmed), 0.0, measured=says)]


def corrupt_row(*, budgets: int, seed: int) -> tuple[Row, list[Row]]:
    """One row in 10,000 is 1e9, NaN, infinite or 1e-300, in the reference as in the stream."""
    learned, tables = [], []
    for r in range(budgets):
        rng = seeded(420, r, seed=seed)
        values = rng.normal(size=(LEARNING + BUDGET) * N)
        bad = np.flatnonzero(rng.random(values.size) < 1e-4)
        values[bad] = rng.choice([1e9, np.nan, np.inf, 1e-300], bad.size)
        one, counts = binned(values, np.full(LEARNING + BUDGET, N), learning=LEARNING, levels=False)
        learned.append(one)
        tables.append(counts[LEARNING:])
    return _rate("null corrupt rows", learned, tables, n=N)


def reference_rows(
    null: Null, *, days: int, n: int, budgets: int, runs: int, seed: int
) -> Iterator[tuple[Row, list[Row]]]:
    """False alarms and the delay of .5 sd after a reference of so many days, where a user insists on pages."""
    learning, learned, tables = days * PANES_A_DAY, [], []
    for r in range(budgets):
        values, sizes = null.path(seeded(430 + days, r, seed=seed), learning + BUDGET, n)
        one, counts = binned(values, sizes, learning=learning, levels=null.levels)
        learned.append(one)
        tables.append(counts[learning:])
    short = null.name.removeprefix("null ")
    what = f"a {days}-day reference" if n == N else f"{n} events a pane: {learning * n:,} rows of reference"
    row, bars = _rate(f"{null.name}, {what}", learned, tables, n=n, first_pane=learning)
    note = "" if days >= 7 else ", provisional: silent unless `page_provisional`"
    yield row | {"setting": row["setting"] + note}, bars if days >= 7 else []
    learned, tables, horizon, quiet = [], [], 1_500, []
    for r in range(runs):
        rng = seeded(460 + days, 10_000 + r, seed=seed)
        values, sizes = null.path(rng, learning + 2 * PANES_A_DAY + horizon, n)
        begins = np.concatenate([[0], np.cumsum(sizes)])
        quiet.append(int(rng.integers(PANES_A_DAY, 2 * PANES_A_DAY)))
        values[begins[learning + quiet[-1]] :] += 0.5 * values[: begins[learning]].std()
        one, counts = binned(values, sizes, learning=learning, levels=False)
        learned.append(one)
        tables.append(counts[learning:])
    panes = _model(learned, tables)[0].play(np.concatenate(tables, axis=1), first_pane=learning)
    within = [[p - quiet[r] for p in one if quiet[r] <= p < quiet[r] + horizon] for r, one in enumerate(panes)]
    first = [one[0] + 1 if one else None for one in within]
    early = sum(any(p < quiet[r] for p in one) for r, one in enumerate(panes))
    setting = f"as shipped, {n} events a pane{note}"
    row = row_of("tripline", f"{short} + .5 sd, {what}", arl0=BUDGET * n, setting=setting)
    yield row | delays_of([None if p is None else p * n for p in first], early).row(), []


def shipped_delays(*, references: int, each: int, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """As shipped, on the changes of the matched comparison: tolerance .1, 30-day budget, M = 1 and 30, panes of 50."""
    horizon = 400
    span = _BEFORE + horizon
    for change in CHANGES:
        if change.kind != "normal":
            continue
        learned, tables = [], []
        for r in range(references):
            rng = seeded(470, r, seed=seed)
            known = rng.normal(size=LEARNING * N)
            tail = np.concatenate([_moved(rng, change.after, horizon) for _ in range(each)])
            sizes = np.full(LEARNING + each * span, N)
            one, counts = binned(np.concatenate([known, tail]), sizes, learning=LEARNING, levels=False)
            learned += [one] * each
            tables += [counts[LEARNING + k * span : LEARNING + (k + 1) * span] for k in range(each)]
        placed, counts = _placed(learned), np.concatenate(tables, axis=1)
        for monitors in (1, WIDE):
            prior = np.full(len(placed), 1.0 / monitors)
            bets = build_bets(placed, tolerance=0.1, strict=False, budget=float(BUDGET), prior=prior, struck=monitors)
            model = Model(bets, 1, float(BUDGET) * monitors, np.ones(1))
            found = model.play(counts, first_pane=LEARNING)
            first = [next((p - _BEFORE + 1 for p in one if p >= _BEFORE), None) for one in found]
            early = sum(any(p < _BEFORE for p in one) for one in found)
            setting = f"as shipped, {N} events a pane"
            row = row_of("tripline", change.name, monitors=monitors, arl0=BUDGET * N, setting=setting)
            yield row | delays_of([None if p is None else p * N for p in first], early).row(), []


def _moved(rng: np.random.Generator, law: tuple[float, float], horizon: int) -> Floats:
    return np.concatenate([rng.normal(size=_BEFORE * N), rng.normal(*law, size=horizon * N)])


def shock_rows(*, budgets: int, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """Thirty features that share shocks: an AR(.8) over panes, of sd .3 in the reference too, or only after it.

    Half of the tolerance (.1) is promised silence, and judged. Shocks of sd .1 are changes of twice the tolerance for
    half an hour at a time, in all features at once: what that costs is told, without a bar.
    """
    new = "null common shocks, new"
    for name, inside, outside in (
        ("null common shocks", 0.3, 0.3),
        (f"{new}, .05", 0.0, 0.05),
        (f"{new}, .1", 0.0, 0.1),
    ):
        alarms = 0
        for r in range(budgets):
            rng = seeded(480, r, seed=seed)
            panes = LEARNING + BUDGET
            shock = np.zeros(panes)
            for i in range(1, panes):
                shock[i] = 0.8 * shock[i - 1] + 0.6 * rng.normal()
            shock *= np.where(np.arange(panes) < LEARNING, inside, outside)
            learned, tables = [], []
            for _ in range(WIDE):
                values = rng.normal(size=panes * N) + np.repeat(shock, N)
                one, counts = binned(values, np.full(panes, N), learning=LEARNING, levels=False)
                learned.append(one)
                tables.append(counts[LEARNING:])
            model = Model.of(_placed(learned), features=WIDE, budget=float(BUDGET))
            (found,) = model.play(np.concatenate(tables, axis=1), first_pane=LEARNING)
            alarms += len(found)
        row, bars = _judged(name, alarms, budgets, n=N, monitors=WIDE)
        yield row, bars if outside in {inside, 0.05} else []


def _watched(null: Null, rng: np.random.Generator, *, panes: int) -> tuple[scoped.Scope, Ints, int]:
    """A scope that has learned a path, and counts of the panes that follow."""
    values, sizes = null.path(rng, LEARNING + panes, N)
    pane = np.repeat(np.arange(sizes.size), sizes)
    first = np.concatenate([[0], np.cumsum(sizes)])
    ts = START_MS + pane * PANE_MS + (np.arange(values.size) - first[pane]) * PANE_MS // np.maximum(sizes[pane], 1)
    taken, start = int(first[LEARNING]), START_MS + LEARNING * PANE_MS
    scope = scoped.scope_of(scoped.reference_of(ts[:taken], {"x": values[:taken]}), monitored=("x",), pane_ms=PANE_MS)
    return scope, scoped.counts_of(scope, ts[taken:], {"x": values[taken:]}, start=start, panes=panes), start


def _placed(learned: list[Learned]) -> list[Learned]:
    """The same monitors with their columns beside each other."""
    widths = np.cumsum([0, *(one.phi.shape[0] for one in learned)])
    return [replace(one, first=int(first)) for one, first in zip(learned, widths[:-1], strict=True)]


def _model(learned: list[Learned], tables: list[npt.NDArray[np.int32]]) -> tuple[Model, npt.NDArray[np.int32]]:
    return Model.of(_placed(learned), features=1, budget=float(BUDGET)), np.concatenate(tables, axis=1)


def _rate(
    name: str, learned: list[Learned], tables: list[npt.NDArray[np.int32]], *, n: int, first_pane: int = LEARNING
) -> tuple[Row, list[Row]]:
    model, counts = _model(learned, tables)
    alarms = sum(len(found) for found in model.play(counts, first_pane=first_pane))
    return _judged(name, alarms, len(learned), n=n, monitors=1)


def _judged(name: str, alarms: int, budgets: int, *, n: int, monitors: int) -> tuple[Row, list[Row]]:
    low, high = (end / budgets for end in poisson(alarms))
    setting = f"as shipped, {n} events a pane, {budgets} budgets"
    rate = Rate(alarms, budgets * BUDGET * n)
    row = row_of("tripline", name, monitors=monitors, arl0=BUDGET * n, rate=rate, setting=setting)
    text = f"{name}, M = {monitors}, {n} events a pane: false alarms per budget, upper end of 95 %"
    says = f"{alarms} in {budgets} budgets ({alarms / budgets:.2f}, {low:.2f} to {high:.2f})"
    return row, [bar(text, round(high, 3), HONEST, measured=says)]
