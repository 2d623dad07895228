"""All parts of the benchmark together, as JSON and as a Markdown table.

`python -m loadtest.detect.report FILE.json [FILE.json ...]` prints the table of one run, of several with `--only`, or
of several seeds side by side; `--keep DIR --seed N` adds what a full run with `--keep` has done so far.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.detect import coverage, labels, matched, stress
from loadtest.detect.cost import costs
from loadtest.detect.honesty import by_name, delay_row, null_row
from loadtest.detect.peers import Peers, open_peers
from loadtest.detect.pieces import Pieces, Task
from loadtest.detect.public import PublicRows
from loadtest.detect.rows import Row
from loadtest.detect.streams import NULLS
from schemas.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "loadtest" / "results"

#: Parts, in the order of the table, with what is said over each.
GROUPS = {
    "matched": "Matched: one false alarm per 1e4 or 1e5 events, nothing tempered, tolerance 0. Delays in events.",
    "honesty": "Honesty: false alarms as shipped, on streams that look like real traffic. ARL0 in events.",
    "labels": "Labels: errors and calibration as shipped; honesty, then delays in events.",
    "delay": "Delay of .5 sd as shipped, from a random hour. In events; bars are in panes of 50.",
    "stress": "Accidents, short and small references, shocks in common, and delays as shipped.",
    "coverage": "Coverage: what a verdict says about onset, size and the smallest visible change, against the truth.",
    "public": "Public streams, and river's generators, with frozen models. Missed and early: shares of the changes.",
    "cost": "",
}
#: What `--quick` runs of the nulls: the ones that broke earlier versions. 20 budgets bear one alarm.
QUICK_NULLS = ("null iid", "null ar .6", "null ar .9", "null clusters", "null real", "null bursts")
QUICK_DELAYS = ("null iid", "null ar .6", "null real")
#: Nulls that are also run with thirty monitors, and with a thousand events a pane.
WIDE_NULLS = ("null iid", "null clusters .5", "null real")
DENSE_NULLS = ("null ar .6", "null clusters .5", "null real")


def bench(
    *,
    quick: bool,
    seed: int,
    say: Callable[[str], None],
    only: Iterable[str] = (),
    peers: Path | None = None,
    root: Path = ROOT,
    jobs: int = 0,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Run everything, or `only` some groups; say(line) while it goes. peers: their environment, see `open_peers`.

    jobs: processes of ours, by default one per core; the peers' is one more. Figures do not depend on it.
    keep: a folder into which each piece goes when it is done, and from which it is taken when it is there: a run that
    broke off goes on. It knows nothing of changes of the code: a folder serves one commit.
    `ConfigurationError` for a group that there is not, and for a `peers` that is none.
    """
    wanted = tuple(only) or tuple(GROUPS)
    unknown = [name for name in wanted if name not in GROUPS]
    if unknown:
        raise ConfigurationError(f"--only: there is no group {unknown[0]!r}, but {', '.join(GROUPS)}")
    started = time.monotonic()
    rows: dict[str, list[Row]] = {name: [] for name in GROUPS if name in wanted}
    bars: list[Row] = []
    needed = bool({"matched", "public"} & set(wanted))
    pieces = Pieces(keep, quick=quick, seed=seed)
    with open_peers(peers, root=root, say=say) if needed else Peers(None, "not asked") as others:
        versions = others.versions()
        # The peers work beside ours: what they are asked is queued when its rows are made.
        theirs: list[tuple[Task, Callable[[], Iterable[tuple[Row, list[Row]]]]]] = []
        for task in peer_tasks(wanted, quick=quick):
            if task in pieces:
                theirs.append((task, list))
            elif task[0] == "public":
                theirs.append((task, PublicRows(others, quick=quick, seed=seed).rows))
            else:
                asked = matched.PeerRows(others, kinds=(task[1].split()[1],), arls=task[2:3], quick=quick, seed=seed)
                theirs.append((task, asked.rows))
        todo = tasks(wanted, quick=quick)
        for group, found in _ours(todo, pieces=pieces, quick=quick, seed=seed, jobs=jobs or os.cpu_count() or 1):
            _take(found, rows[group], bars, say)
        for task, work in theirs:
            _take(pieces.done(task, work), rows[task[0]], bars, say)
    spent, more = pieces.costs(partial(costs, largest=4096 if quick else 65_536)) if "cost" in wanted else ([], [])
    return {
        "rows": [row for found in rows.values() for row in found],
        "bars": [*bars, *more],
        "cost": spent,
        "groups": {name: len(found) for name, found in rows.items()},
        "quick": quick,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "kept": pieces.taken(),
        "machine": {"cores": os.cpu_count(), "numpy": np.__version__, **versions, "peers": others.why or "there"},
    }


def tasks(wanted: Iterable[str], *, quick: bool) -> list[Task]:
    """What ours has to do, in the order of the table: (group, what, events a pane, monitors)."""
    out: list[Task] = [("matched", kind, arl, 0) for arl in _arls(quick) for kind in matched.KINDS]
    for null in NULLS:
        if not quick or null.name in QUICK_NULLS:
            out.append(("honesty", null.name, 50, 1))
            out += [("honesty", null.name, 1000, 1)] if not quick and null.name in DENSE_NULLS else []
            out += [("honesty", null.name, 50, 30)] if not quick and null.name in WIDE_NULLS else []
    out += [("labels", part, 0, 0) for part in ("honesty", "delays")]
    for null in NULLS:
        if not (null.levels or null.shift) and (not quick or null.name in QUICK_DELAYS):
            out.append(("delay", null.name, 50, 1))
    of = ("few rows", "null real", *(() if quick else ("null iid",)))
    stresses = ("accidents", *(f"references, {what}" for what in of), *(() if quick else ("shocks",)))
    out += [("stress", part, 0, 0) for part in stresses]
    out += [("coverage", part, 0, 0) for part in ("found", "visible")]
    return [task for task in out if task[0] in set(wanted)]


def _arls(quick: bool) -> tuple[int, ...]:
    return (100_000,) if quick else (10_000, 100_000)


def peer_tasks(wanted: Iterable[str], *, quick: bool) -> list[Task]:
    """What the peers have to do, and public streams, where ours goes beside them."""
    out: list[Task] = [("matched", f"peers {kind}", arl, 0) for arl in _arls(quick) for kind in matched.KINDS]
    return [task for task in (("public", "streams", 0, 0), *out) if task[0] in set(wanted)]


def done(task: Task, quick: bool, seed: int) -> list[tuple[Row, list[Row]]]:
    """Rows of one task, each with its bars."""
    group, what, n, monitors = task
    if group == "matched":
        return list(matched.chart_rows(what, arls=(n,), quick=quick, seed=seed))
    if group == "honesty":
        row, bar = null_row(by_name(what), n=n, monitors=monitors, budgets=20 if quick else 30, seed=seed)
        return [(row, [bar])]
    if group == "delay":
        row, judged = delay_row(by_name(what), n=n, runs=20 if quick else 40, seed=seed)
        return [(row, [judged] if judged else [])]
    parts: dict[str, Callable[..., Iterator[tuple[Row, list[Row]]]]] = {
        "labels": labels.rows, "stress": stress.rows, "coverage": coverage.rows,
    }  # fmt: skip
    return list(parts[group](what, quick=quick, seed=seed))


def _ours(
    todo: list[Task], *, pieces: Pieces, quick: bool, seed: int, jobs: int
) -> Iterator[tuple[str, list[tuple[Row, list[Row]]]]]:
    """Tasks in their order, as many at once as there are jobs."""
    if jobs == 1:
        for task in todo:
            yield task[0], pieces.done(task, partial(done, task, quick, seed))
        return
    # Each process does one thing at a time; numpy's own threads would only be in the way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        begun = [(task, pool.submit(pieces.done, task, partial(done, task, quick, seed))) for task in todo]
        yield from ((task[0], asked.result()) for task, asked in begun)


def _take(
    found: Iterable[tuple[Row, list[Row]]], rows: list[Row], bars: list[Row], say: Callable[[str], None]
) -> None:
    for row, judged in found:
        rows.append(row)
        bars += judged
        say(line(row))


def line(row: Row) -> str:
    """One row in words, for a terminal."""
    if row["setting"].startswith("n/a") and row["mean_delay"] is None:
        return f"{row['detector']:28} {row['stream']:22} {row['setting']}"
    attained = "no alarm" if row["attained_arl0"] is None else f"{row['attained_arl0']:,.0f}"
    delay = "" if row["mean_delay"] is None else f"delay {row['mean_delay']:,.0f} events, {row['missed']:.0%} missed"
    return f"{row['detector']:28} {row['stream']:22} M {row['monitors']:<3} ARL0 {attained:>11}  {delay}"


def verdicts(bars: list[Row]) -> list[str]:
    """The bars as a list for a terminal: figure, bar, met or missed."""
    met = sum(bar["met"] for bar in bars)
    out = [f"{met} of {len(bars)} bars met"]
    for bar in bars:
        sign = ">=" if bar.get("least") else "<="
        value = "none" if bar["value"] is None else _number(bar["value"])
        out.append(f"  {'met   ' if bar['met'] else 'MISSED'}  {bar['bar']}: {value} {sign} {_number(bar['limit'])}")
    return out


def markdown(*runs: dict[str, Any], notes: Iterable[str] = ()) -> str:
    """One run as Markdown, or several: of one seed with `--only`, or of several seeds, then side by side.

    Bars first, then rows by group, and costs. notes: what must be known of the runs, a line each.
    """
    out = ["# Detection, measured", ""]
    for found in runs:
        only = "" if set(found["groups"]) == set(GROUPS) else f" --only {','.join(found['groups'])}"
        command = f"tripline bench detect{' --quick' if found['quick'] else ''} --seed {found['seed']}{only}"
        machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if name != "cores")
        spent, kept = f"{found['seconds']:.0f} s", found.get("kept") or {}
        if kept:
            spent = f"{kept['seconds']:.0f} s in {kept['pieces']} pieces"
        out += [f"`{command}`: {spent}, {found['machine']['cores']} cores, {machine}.", ""]
    out += [line for note in notes for line in (note, "")]
    seeds = list(dict.fromkeys(found["seed"] for found in runs))
    bars = [(found["seed"], bar) for found in runs for bar in found["bars"]]
    counts = [(sum(bar["met"] for of, bar in bars if of == seed), seed) for seed in seeds]
    if len(seeds) == 1:
        out += [f"## Bars: {counts[0][0]} of {len(bars)} met", ""]
        out += _table(("bar", "value", "limit", "met", "measured"), [_judged(bar) for _, bar in bars])
    else:
        said = ", ".join(f"{met} of {sum(of == seed for of, _ in bars)} with seed {seed}" for met, seed in counts)
        out += [f"## Bars met: {said}", ""]
        named = dict.fromkeys(bar["bar"] for _, bar in bars)
        rows = [_side_by_side(name, [(of, bar) for of, bar in bars if bar["bar"] == name], seeds) for name in named]
        out += _table(("bar", "limit", *(f"seed {seed}" for seed in seeds)), rows)
    heads = ("stream", "detector", "M", "ARL0", "attained", "95 %", "mean", "median", "p90", "missed", "early",
             "ns/event", "setting")  # fmt: skip
    for name, says in GROUPS.items():
        of_group = [(found["seed"], row) for found in runs for row in _group(found, name)]
        if of_group:
            order = {stream: i for i, stream in enumerate(dict.fromkeys(row["stream"] for _, row in of_group))}
            who = {name: i for i, name in enumerate(dict.fromkeys(row["detector"] for _, row in of_group))}
            of_group.sort(key=lambda one: (order[one[1]["stream"]], one[1]["arl0"] or 0, who[one[1]["detector"]]))
            out += ["", f"## {says.split(':')[0].split(',')[0].split('.')[0]}", "", says, ""]
            if len(seeds) == 1:
                out += _table(heads, [_cells(row) for _, row in of_group])
            else:
                out += _table(("seed", *heads), [(str(seed), *_cells(row)) for seed, row in of_group])
    costs_of = [cost for found in runs for cost in found["cost"]]
    if costs_of:
        keys = tuple(costs_of[0])
        out += ["", "## Cost", "", *_table(keys, [tuple(_number(cost[key]) for key in keys) for cost in costs_of])]
    return "\n".join([*out, ""])


def _side_by_side(name: str, judged: list[tuple[int, Row]], seeds: list[int]) -> tuple[str, ...]:
    """One bar, and what each seed gave; a bar that a seed has several times, or not, says so."""
    sign = ">= " if judged[0][1].get("least") else ""
    cells = []
    for seed in seeds:
        found = [_judged(bar) for of, bar in judged if of == seed]
        cells.append("; ".join(f"{value}, {met}: {says}" for _, value, _, met, says in found) or "not run")
    return name, sign + _number(judged[0][1]["limit"]), *cells


def _group(found: dict[str, Any], name: str) -> list[Row]:
    first = 0
    for group, size in found["groups"].items():
        if group == name:
            return list(found["rows"][first : first + size])
        first += size
    return []


def _judged(bar: Row) -> tuple[str, ...]:
    met = "met" if bar["met"] else "**missed**"
    sign = ">= " if bar.get("least") else ""
    value = "none" if bar["value"] is None else _number(bar["value"])
    return bar["bar"], value, sign + _number(bar["limit"]), met, bar["measured"]


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row["interval"] or (None, None)
    interval = "" if row["interval"] is None else f"{_number(low)}–{'∞' if high is None else _number(high)}"
    shares = ("" if row[key] is None else f"{row[key]:.0%}" for key in ("missed", "early"))
    name = f"**{row['detector']}**" if row["ours"] else row["detector"]
    return (
        row["stream"], name, str(row["monitors"]), _number(row["arl0"]), _number(row["attained_arl0"]), interval,
        *(_number(row[key]) for key in ("mean_delay", "median_delay", "p90_delay")), *shares,
        _number(row["ns_per_event"]), row["setting"],
    )  # fmt: skip


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    body = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *body]


def collected(keep: Path, *, seed: int, quick: bool = False) -> dict[str, Any]:
    """A run of the pieces that are in a folder, as `bench` gives it; what lacks is named under "lacking"."""
    pieces = Pieces(keep, quick=quick, seed=seed)
    rows: dict[str, list[Row]] = {name: [] for name in GROUPS}
    bars: list[Row] = []
    lacking = []
    for task in [*tasks(GROUPS, quick=quick), *peer_tasks(GROUPS, quick=quick)]:
        if task not in pieces:
            lacking.append(" ".join(str(part) for part in task if part))
            continue
        for row, judged in pieces.done(task, list):
            rows[task[0]].append(row)
            bars += judged
    kept = pieces.taken()
    spent, more = pieces.costs(lambda: ([], [])) if pieces.costed else ([], [])
    return {
        "rows": [row for found in rows.values() for row in found],
        "bars": [*bars, *more],
        "cost": spent,
        "groups": {name: len(found) for name, found in rows.items()},
        "quick": quick,
        "seed": seed,
        "seconds": kept["seconds"],
        "kept": kept,
        "lacking": [*lacking, *(() if pieces.costed else ("cost",))],
        "machine": {"cores": os.cpu_count(), "numpy": np.__version__, "peers": "not asked"},
    }


def main() -> None:
    """Print the table of JSON files, and of pieces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--keep", type=Path, help="folder of pieces")
    parser.add_argument("--seed", type=int, action="append", default=[], help="of which the pieces are taken")
    parser.add_argument("--note", action="append", default=[], help="a line under the commands")
    parser.add_argument("--json", type=Path, help="write bars and rows here too")
    given = parser.parse_args()
    found = [collected(given.keep, seed=seed) for seed in given.seed] if given.keep else []
    found += [json.loads(file.read_text(encoding="utf-8")) for file in given.files]
    notes = [f"Seed {run['seed']} lacks: {', '.join(run['lacking'])}." for run in found if run.get("lacking")]
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(*found, notes=[*given.note, *notes]), end="")


if __name__ == "__main__":
    main()
