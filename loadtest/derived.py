"""Derived features under the whole of a scope: `python -m loadtest.derived [--references 4] [--seed 1]`.

Six features, one Mahalanobis distance, six residuals: M = 13, five-minute panes of 50 events, a reference of 14 days.
First false incidents per 30-day budget on streams in which nothing changes (of the features alone beside it), then the
delay, in panes, until a changed connection opens an incident. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.derived_specs import ALL
from detectors.references import Reference
from detectors.rows import Rows
from detectors.scopes import Scope, build_scope, update
from detectors.tabulate import tabulate
from schemas.layouts import Layout

Floats: TypeAlias = npt.NDArray[np.float64]

FEATURES, ROWS, PANE_MS = 6, 50, 300_000
LEARNED = 14 * 288
BUDGET = 30 * 288
START = 1_736_121_600_000 - LEARNED * PANE_MS  # the watched part begins on a Monday
CHUNK = 2_016
#: Budgets that a reference is watched for; runs of a change after it.
BUDGETS, RUNS = 3, 5
NAMES = tuple(f"x{i}" for i in range(FEATURES))

#: Rows of panes [first, first + panes): (panes · ROWS, FEATURES); strength of the connection, by pane.
Stream = Callable[[np.random.Generator, int, int, Floats], Floats]


def _rows(rng: np.random.Generator, rho: Floats) -> Floats:
    """Standard normals of correlation rho, by row."""
    common = rng.standard_normal((rho.size, 1))
    weight = np.sqrt(rho)[:, None]
    found: Floats = weight * common + np.sqrt(1.0 - rho)[:, None] * rng.standard_normal((rho.size, FEATURES))
    return found


def iid(rng: np.random.Generator, first: int, panes: int, rho: Floats) -> Floats:
    """Independent rows."""
    return _rows(rng, np.repeat(rho, ROWS))


def wandering(rng: np.random.Generator, first: int, panes: int, rho: Floats) -> Floats:
    """A shock common to a pane's rows, AR(.6) from pane to pane, .3 sd, of its own for each feature."""
    shock = np.zeros((panes, FEATURES))
    for t in range(1, panes):
        shock[t] = 0.6 * shock[t - 1] + 0.24 * rng.standard_normal(FEATURES)
    return iid(rng, first, panes, rho) + np.repeat(shock, ROWS, axis=0)


def daily(rng: np.random.Generator, first: int, panes: int, rho: Floats) -> Floats:
    """Means swing by half an sd over the day, each feature at its own hour."""
    at = 2 * math.pi * np.arange(first, first + panes)[:, None] / 288 + np.arange(FEATURES)
    return iid(rng, first, panes, rho) + np.repeat(0.5 * np.sin(at), ROWS, axis=0)


def mixed(rng: np.random.Generator, first: int, panes: int, rho: Floats) -> Floats:
    """Two kinds of rows, of which one hangs together half as much; their mix changes with the hour."""
    share = 0.5 + 0.4 * np.sin(2 * math.pi * np.arange(first, first + panes) / 288)
    of_second = rng.random(panes * ROWS) < np.repeat(share, ROWS)
    found = _rows(rng, np.repeat(rho, ROWS) * np.where(of_second, 0.5, 1.0))
    found[:, 0] += of_second
    return found


def clustered(rng: np.random.Generator, first: int, panes: int, rho: Floats) -> Floats:
    """Rows in clusters of 25 that are alike by half."""
    n = panes * ROWS
    centre = np.repeat(_rows(rng, np.repeat(rho, ROWS)[::25]), 25, axis=0)[:n]
    return math.sqrt(0.5) * centre + math.sqrt(0.5) * iid(rng, first, panes, rho)


STREAMS: dict[str, Stream] = {
    "iid": iid, "ar .6": wandering, "daily sine": daily, "mixture by hour": mixed, "clusters": clustered,
}  # fmt: skip


def learned(stream: Stream, rng: np.random.Generator, *, derived: bool) -> Reference:
    """A reference of the stream's first 14 days."""
    values = stream(rng, 0, LEARNED, np.full(LEARNED, 0.5))
    ts = START + np.arange(len(values), dtype=np.int64) * (PANE_MS // ROWS)
    rows = Rows(ts=ts, columns={name: values[:, i] for i, name in enumerate(NAMES)})
    builder = ReferenceBuilder("m", "features", derived=ALL if derived else ())
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def opened(
    reference: Reference, stream: Stream, rng: np.random.Generator, *, panes: int, rho: Floats, first_only: bool
) -> list[int]:
    """Panes that opened an incident."""
    layout = Layout(
        model="m",
        from_ms=0,
        reference=reference.id,
        kind="features",
        monitored=tuple(spec.name for spec in reference.specs),
        monitors=len(reference.specs),
    )
    scope = build_scope(reference, layout)
    state, found = scope.start(), []
    for first in range(0, panes, CHUNK):
        size = min(CHUNK, panes - first)
        values = stream(rng, LEARNED + first, size, rho[first : first + size])
        for t, counts in enumerate(_counted(scope, reference, values, size)):
            start = START + (LEARNED + first + t) * PANE_MS
            state, result = update(scope, state, start=start, counts=counts[None])
            if result.opened:
                found.append(first + t)
                if first_only:
                    return found
    return found


def _counted(scope: Scope, reference: Reference, values: Floats, panes: int) -> npt.NDArray[np.int64]:
    numeric = values
    if reference.derived is not None:
        numeric = np.column_stack([values, reference.derived.values(np.ascontiguousarray(values.T)).T])
    table = reference.table
    nothing = np.zeros((len(values), 0), dtype=np.int32)
    group = np.repeat(np.arange(panes), ROWS)
    return tabulate(table, Binner(table.specs), numeric, nothing, group, panes)[0]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.process_time()
    print("| stream | false incidents per budget, M = 13 | features alone, M = 6 |\n|---|---|---|")
    for name in STREAMS:
        cells = [_false(name, given.references, given.seed, derived=derived) for derived in (True, False)]
        print(f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} |", flush=True)
    print(f"\n{given.references * BUDGETS} budgets a row. Median delay in panes when all correlations .5 become rho:\n")
    print("| stream | rho .2 | rho .35 | rho .2, features alone |\n|---|---|---|---|")
    for name in ("iid", "ar .6", "clusters"):
        cells = [
            _delay(name, given.references, given.seed, rho=rho, derived=derived)
            for rho, derived in ((0.2, True), (0.35, True), (0.2, False))
        ]
        words = ["never within a week" if math.isinf(cell) else f"{cell:.0f}" for cell in cells]
        print(f"| {name} | {' | '.join(words)} |", flush=True)
    print(f"\n{given.references * RUNS} runs a cell; {time.process_time() - began:.0f} s of CPU")


def _false(name: str, references: int, seed: int, *, derived: bool) -> float:
    found = 0
    for replicate in range(references):
        rng = _rng(seed, name, replicate)
        reference = learned(STREAMS[name], rng, derived=derived)
        panes = BUDGETS * BUDGET
        found += len(opened(reference, STREAMS[name], rng, panes=panes, rho=np.full(panes, 0.5), first_only=False))
    return found / references / BUDGETS


def _delay(name: str, references: int, seed: int, *, rho: float, derived: bool) -> float:
    delays: list[float] = []
    for replicate in range(references):
        rng = _rng(seed, name, 1_000 + replicate)
        reference = learned(STREAMS[name], rng, derived=derived)
        for _ in range(RUNS):
            first = opened(reference, STREAMS[name], rng, panes=CHUNK, rho=np.full(CHUNK, rho), first_only=True)
            delays.append(first[0] + 1 if first else math.inf)
    return float(np.median(delays))


def _rng(seed: int, name: str, replicate: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, list(STREAMS).index(name), replicate]))


if __name__ == "__main__":
    main()
