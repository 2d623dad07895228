"""What a pane costs: ns per event and monitor of the untempered core, ns per bet of section 2, bytes of state."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import tempered
from detectors.charts.bets import Bets
from loadtest.detect.fleet import Counter, Model, binned, flat_profile, known_normal, untempered
from loadtest.detect.streams import CHANGES, seeded

Floats: TypeAlias = npt.NDArray[np.float64]

SIZES, PANES = (1, 256, 4096), (1, 32, 256)
NS_PER_EVENT, NS_PER_BET = 8.0, 25.0
_NORMAL = next(change for change in CHANGES if change.kind == "normal")


def costs(*, largest: int = 4096) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Costs by monitors and events a pane, and the bars. Counting is not in it: it does not depend on monitors."""
    found: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    spec, counts = known_normal()
    for monitors in (*SIZES, *((65_536,) if largest >= 65_536 else ())):
        bets = untempered(spec, counts, replicates=monitors)
        for n in PANES:
            took = _tick_ns(bets, Counter(spec, monitors), n=n)
            found.append(_cost("untempered core", monitors, n, took, bets))
            if (monitors, n) == (4096, 32):
                name = "untempered core, 4,096 monitors, panes of 32: ns per event and monitor"
                bars.append(_bar(name, found[-1]["ns_per_event"], NS_PER_EVENT))
    shipped = shipped_bets(4096)
    for n in PANES:
        took = _tick_ns(shipped, Counter(spec, 4096), n=n)
        found.append(_cost("section 2 whole", 4096, n, took, shipped))
        if n == 32:
            name = "section 2 whole, 4,096 monitors: ns per bet and pane"
            bars.append(_bar(name, found[-1]["ns_per_bet"], NS_PER_BET))
    return found, bars


def shipped_bets(monitors: int) -> Bets:
    """Bets as shipped: a 14-day reference, default tolerance, 30-day budget; one monitor, copied."""
    rng = seeded("null ar .6", 90_000)
    values = rng.normal(size=14 * 288 * 50)
    rows = np.full(14 * 288, 50, dtype=np.int64)
    one, _ = binned(values, rows, learning=rows.size, levels=False)
    width = one.phi.shape[0]
    copies = [replace(one, first=m * width) for m in range(monitors)]
    return Model.of(copies, features=monitors, budget=8640.0).bets


def _tick_ns(bets: Bets, counter: Counter, *, n: int) -> float:
    """The CPU time of one tick of all monitors, ns: the lower quartile, as others run on this machine too."""
    values = _NORMAL.draw(seeded(_NORMAL.name, 81_000), (counter.replicates, n), changed=False)
    width = int(bets.edges[1] - bets.edges[0])
    flat = counter.flat(values) if width == counter.spec.width else _narrow(values, width)
    charts = tempered.Charts.start(bets.size)
    mu = flat_profile(bets)
    for pane in range(1, 4):
        charts, _ = tempered.tick(bets, charts, flat=flat, mu=mu, pane=pane)
    times = max(7, 2000 // counter.replicates)
    return _best(lambda: tempered.tick(bets, charts, flat=flat, mu=mu, pane=4), at_least=times)


def _narrow(values: Floats, width: int) -> npt.NDArray[np.int64]:
    inner = np.clip(((values + 4) * width / 8).astype(np.int64), 0, width - 5)
    at = inner + np.arange(values.shape[0])[:, None] * width
    return np.bincount(at.ravel(), minlength=values.shape[0] * width + 1).astype(np.int64)


def _best(work: Callable[[], object], *, at_least: int) -> float:
    times = []
    for _ in range(at_least):
        start = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - start)
    return float(np.quantile(times, 0.25))


def _cost(what: str, monitors: int, n: int, took: float, bets: Bets) -> dict[str, Any]:
    charts = tempered.Charts.start(bets.size)
    size = sum(getattr(charts, name).nbytes for name in tempered.Charts.__dataclass_fields__)
    return {
        "what": what,
        "monitors": monitors,
        "events": n,
        "ns_per_event": round(took / monitors / n, 2),
        "ns_per_monitor": round(took / monitors, 1),
        "ns_per_bet": round(took / bets.size, 2),
        "bets": round(bets.size / monitors, 1),
        "bytes_per_monitor": round(size / monitors),
    }


def _bar(name: str, value: float, limit: float) -> dict[str, Any]:
    measured = "CPU time, the lower quartile of runs, the onset's bookkeeping included"
    return {"bar": name, "value": value, "limit": limit, "met": value <= limit, "measured": measured}
