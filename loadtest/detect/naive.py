"""The naive user's table: no drift at all, and how often each tool says that there is some; then real changes.

`python -m loadtest.detect.naive --quick|--full [--seed N] [--keep DIR]` writes `loadtest/results/naive.md`.

A nightly batch of n rows is compared with the 14 nights before it, the same rows for all. Our verdict is that of
`tripline backtest` with `pane: batch` on a reference of `reference build --batch-gap 6h`: an incident in the first
batch that the chart sees, defaults otherwise. The budget is 1 false alarm per 30 days, hence per 30 batches, for the
whole table: of data sets in which nothing changes at most one in thirty may be flagged, whatever n and the columns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from detectors.batches import BATCH_MS
from detectors.building import ReferenceBuilder
from detectors.results import OK, UNDECIDED, ScopeResult
from detectors.rows import Rows
from detectors.scopes import Scope, build_scope, update
from loadtest.detect import scoped
from loadtest.detect.naive_rows import CHANGES, REFERENCE_BATCHES, Data, names_of
from loadtest.detect.peers import NAIVE, PeerError, Peers, open_peers
from loadtest.detect.streams import DAY_MS, START_MS
from schemas.layouts import Layout

Floats: TypeAlias = npt.NDArray[np.float64]
Line: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
#: Batches a budget: a night each, 1 false alarm per 30 days.
BUDGET = 30
#: Batches in which nothing changes, per reference; and nights after which a change has been seen by all who will.
NULLS, NIGHTS = 4, 7
TOOLS = ("tripline", "evidently", "nannyml")


@dataclass(frozen=True)
class Case:
    """n rows a batch, features; replicates of ours and of the others, each a reference of its own."""

    n: int
    features: int
    ours: int
    theirs: int
    power: bool = True

    @property
    def name(self) -> str:
        """For files and lines."""
        return f"{self.n}x{self.features}"


FULL = (
    Case(50, 10, 200, 8), Case(200, 10, 100, 6), Case(1_000, 10, 100, 6), Case(10_000, 10, 40, 2),
    Case(100_000, 10, 8, 1), Case(50, 200, 8, 1, power=False), Case(1_000, 200, 8, 1, power=False),
    Case(1_000, 50, 24, 2, power=False), Case(1_000, 5, 100, 4, power=False), Case(1_000_000, 5, 2, 0),
)  # fmt: skip
QUICK = (Case(50, 10, 30, 3), Case(1_000, 10, 30, 3), Case(10_000, 5, 6, 1), Case(200, 50, 10, 1, power=False))


@dataclass
class Counted:
    """What was said in one case by one tool. columns, drifted: by kind of column; sets: data sets without a change."""

    sets: int = 0
    flagged: int = 0
    any_column: int = 0
    undecided: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    drifted: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    within: dict[str, int] = field(default_factory=dict)
    missing: int = 0

    def null(self, data: Data, columns: list[bool], *, flagged: bool) -> None:
        """One batch in which nothing changed."""
        self.sets += 1
        self.flagged += flagged
        self.any_column += any(columns)
        for kind, drifted in zip(data.kinds, columns, strict=True):
            key = "numbers" if isinstance(kind, str) else f"{kind} levels"
            self.columns[key] = self.columns.get(key, 0) + 1
            self.drifted[key] = self.drifted.get(key, 0) + drifted

    def change(self, name: str, *, found: bool, within: bool | None = None) -> None:
        """One change: found in its first batch, and within a week of them."""
        self.tried[name] = self.tried.get(name, 0) + 1
        self.found[name] = self.found.get(name, 0) + found
        if within is not None:
            self.within[name] = self.within.get(name, 0) + within


def interval(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Clopper and Pearson).

    >>> [round(end, 3) for end in interval(0, 100)]
    [0.0, 0.036]
    """
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, of - hits + 1))
    return low, 1.0 if hits == of else float(beta.ppf(0.975, hits + 1, of - hits))


def scope_of(data: Data) -> Scope:
    """What `reference build --batch-gap 6h` and `pane: batch` make of the nights of the reference."""
    builder = ReferenceBuilder("m", "features", batch_gap_ms=DAY_MS // 4)
    for take in (builder.survey, builder.count):
        for night in range(REFERENCE_BATCHES):
            take(Rows(ts=_times(night, data.n), columns=_columns(data, data.batch(night))))
    reference = builder.finish()
    names = names_of(data.features)
    layout = Layout(
        model="m",
        from_ms=0,
        reference=reference.id,
        monitored=names,
        monitors=len(names),
        pane_ms=BATCH_MS,
        batch_gap_ms=DAY_MS // 4,
        budget_ms=BUDGET * BATCH_MS,
    )
    return build_scope(reference, layout)


def judged(scope: Scope, data: Data, batches: Iterator[Floats]) -> Iterator[ScopeResult]:
    """One result per batch; the chart begins with the first."""
    state = scope.start()
    first = (scope.reference.end // BATCH_MS + 1) * BATCH_MS
    for number, rows in enumerate(batches):
        start = first + number * BATCH_MS
        ts = np.full(len(rows), start, dtype=np.int64)
        counts = scoped.counts_of(scope, ts, _columns(data, rows), start=start, panes=1)
        state, result = update(scope, state, start=start, counts=counts)
        yield result


def ours(data: Data, counted: Counted, *, power: bool) -> None:
    """One reference, its batches without a change, and its changes."""
    scope = scope_of(data)
    for number in range(NULLS):
        (result,) = judged(scope, data, iter([data.batch(REFERENCE_BATCHES + number)]))
        drifted = [False] * data.features
        for alarm in result.alarms:
            drifted[alarm.feature] = True
        counted.undecided += int((result.status[0] == UNDECIDED).sum())
        assert ((result.status[0] <= OK) | np.array(drifted)).all()
        counted.null(data, drifted, flagged=result.opened)
    for place, change in enumerate(CHANGES if power else ()):
        nights = (data.batch(100 + 10 * place + night, place) for night in range(NIGHTS))
        opened = [any(alarm.feature == 0 for alarm in result.alarms) for result in judged(scope, data, nights)]
        counted.change(change[0], found=opened[0], within=any(opened))


def budget_row(n: int, *, runs: int, seed: int) -> Line:
    """Ours over thirty batches on end: false alarms per budget, and what they said, by column and direction."""
    alarms, said = 0, dict[str, int]()
    for replicate in range(runs):
        data = Data(n=n, features=10, seed=seed, replicate=5_000 + replicate)
        batches = (data.batch(REFERENCE_BATCHES + night) for night in range(BUDGET))
        for result in judged(scope_of(data), data, batches):
            if result.opened:
                alarms += 1
                first = result.alarms[0]
                kind = data.kinds[first.feature]
                what = f"{kind if isinstance(kind, str) else f'{kind} levels'}: {first.evidence.direction}"
                said[what] = said.get(what, 0) + 1
    return {"n": n, "runs": runs, "alarms": alarms, "said": said}


def theirs(peers: Peers, data: Data, counted: dict[str, Counted], *, power: bool) -> None:
    """The same of the others. `PeerError` where one fails."""
    levels = [kind if isinstance(kind, int) else 0 for kind in data.kinds]
    reference = [peers.file(rows) for rows in data.reference()]
    nulls = [peers.file(data.batch(REFERENCE_BATCHES + number)) for number in range(NULLS)]
    changes = [peers.file(data.batch(100 + 10 * place, place)) for place in range(len(CHANGES))] if power else []
    try:
        for tool in TOOLS[1:]:
            said = peers.submit(tool, reference=reference, batches=nulls + changes, levels=levels).result()
            for number in range(NULLS):
                columns = said["columns"][number]
                flagged = said["set"][number] if tool == "evidently" else any(columns)
                counted[tool].null(data, columns, flagged=flagged)
                counted[tool].missing += any(said["missing"][number]) if tool == "nannyml" else 0
            for place in range(len(changes)):
                lacks = tool == "nannyml" and CHANGES[place][3] > 0 and said["missing"][NULLS + place][0]
                counted[tool].change(CHANGES[place][0], found=said["columns"][NULLS + place][0] or lacks)
    finally:
        for file in (*reference, *nulls, *changes):
            Path(file).unlink()


def run(
    *, quick: bool, seed: int, say: Callable[[str], None], root: Path = ROOT, keep: Path | None = None
) -> dict[str, Any]:
    """Every case; with `keep`, what is done stays in that folder and is not done again."""
    started, lines = time.monotonic(), []
    with open_peers(None, root=root, say=say, environment=NAIVE) as peers:
        versions = peers.versions()
        for case in QUICK if quick else FULL:
            lines += _kept(keep, f"naive-{seed}-{case.name}", partial(_case, case, peers, seed=seed))
            say(f"{case.n:,} rows a batch, {case.features} features: {time.monotonic() - started:.0f} s")
        sizes = (50,) if quick else (50, 1_000)
        spent = [
            _kept(keep, f"naive-{seed}-budget-{n}", partial(_budget, n, runs=10 if quick else 60, seed=seed))[0]
            for n in sizes
        ]
    return {
        "lines": lines, "budgets": spent, "quick": quick, "seed": seed, "versions": versions, "why": peers.why,
        "cores": os.cpu_count(), "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def _case(case: Case, peers: Peers, *, seed: int) -> list[Line]:
    counted = {tool: Counted() for tool in TOOLS}
    for replicate in range(case.ours):
        data = Data(n=case.n, features=case.features, seed=seed, replicate=replicate)
        ours(data, counted["tripline"], power=case.power)
    why = peers.why if case.theirs else f"not run: {REFERENCE_BATCHES * case.n:,} rows of reference"
    for replicate in range(0 if why else case.theirs):
        data = Data(n=case.n, features=case.features, seed=seed, replicate=replicate)
        try:
            theirs(peers, data, counted, power=case.power)
        except PeerError as error:
            why = str(error)
            break
    named = ((tool, one) for tool, one in counted.items())
    return [
        {"n": case.n, "features": case.features, "tool": tool, "why": "" if tool == "tripline" else why, **vars(one)}
        for tool, one in named
    ]


def _budget(n: int, *, runs: int, seed: int) -> list[Line]:
    return [budget_row(n, runs=runs, seed=seed)]


def _kept(keep: Path | None, name: str, work: Callable[[], list[Line]]) -> list[Line]:
    if keep is None:
        return work()
    file = keep / f"{name}.json"
    if not file.is_file():
        text = json.dumps(work())
        keep.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    found: list[Line] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _times(night: int, n: int) -> npt.NDArray[np.int64]:
    return np.asarray(START_MS + night * DAY_MS + np.arange(n) * (DAY_MS // 24) // max(1, n), dtype=np.int64)


def _columns(data: Data, rows: Floats) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, npt.NDArray[Any]] = {}
    for i, (name, kind) in enumerate(zip(names_of(data.features), data.kinds, strict=True)):
        if isinstance(kind, int):
            texts = np.array([f"level {code}" for code in range(kind)], dtype=object)
            found[name] = texts[rows[:, i].astype(np.int64)]
        else:
            found[name] = rows[:, i]
    return found


def main() -> None:
    """Run, and write the table."""
    from loadtest.detect.naive_table import markdown

    parser = argparse.ArgumentParser(description=__doc__)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--quick", action="store_true", help="a few minutes")
    length.add_argument("--full", action="store_true", help="half an hour")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder of cases that are done: a run that broke off goes on")
    given = parser.parse_args()
    found = run(
        quick=given.quick, seed=given.seed, keep=given.keep, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    text = markdown(found)
    folder = ROOT / "loadtest" / ("out" if given.quick else "results")
    folder.mkdir(exist_ok=True)
    (folder / "naive.md").write_text(text, encoding="utf-8")
    (folder / "naive.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
