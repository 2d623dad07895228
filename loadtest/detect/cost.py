"""What a pane costs: ns per event and monitor of the untempered core, ns per bet of section 2, bytes of state."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import losses, tempered
from detectors.charts.bets import Bets
from loadtest.detect.fleet import (
    KNOWN_ROWS,
    Counter,
    Model,
    binned,
    flat_profile,
    known_levels,
    known_normal,
    untempered,
)
from loadtest.detect.streams import CHANGES, Change, seeded

Floats: TypeAlias = npt.NDArray[np.float64]

SIZES, PANES = (1, 256, 4096), (1, 32, 256)
NS_PER_EVENT, NS_PER_BET, IMPORT_SECONDS = 8.0, 25.0, 0.25
_NORMAL = next(change for change in CHANGES if change.kind == "normal")
_BERNOULLI = next(change for change in CHANGES if change.kind == "bernoulli")
_RATE = _BERNOULLI.before[0]

#: The untempered charts of the matched comparison, by how many directions they bet on.
CATEGORY, FEATURE, ERRORS = "untempered, a level on a rise", "untempered, a feature whole", "untempered, errors"
#: Numbers without ties, counted over the same rows, have one table; those of other views, or with ties, their own.
SHIPPED, OWN = "section 2 whole", "section 2 whole, each with tables of its own"


def costs(*, largest: int = 4096) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Costs by monitors and events a pane, and the bars. Counting is not in it: it does not depend on monitors.

    The untempered core is one direction, as in the matched comparison of Bernoulli streams: errors on both sides (six
    bets), and a level on a rise (three). A feature whole, all eight directions of it (36 bets), stands beside them.
    """
    found: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    for monitors in (*SIZES, *((65_536,) if largest >= 65_536 else ())):
        for what in (CATEGORY, ERRORS, FEATURE):
            for n in PANES:
                found.append(_errors(monitors, n) if what == ERRORS else _untempered(what, monitors, n))
                if (monitors, n) == (4096, 32) and what != FEATURE:
                    name = f"{what}, 4,096 monitors, panes of 32: ns per event and monitor"
                    bars.append(_bar(name, found[-1]["ns_per_event"], NS_PER_EVENT))
    for what, own in ((SHIPPED, False), (OWN, True)):
        shipped = shipped_bets(4096, own=own)
        for n in PANES:
            width = int(shipped.edges[1] - shipped.edges[0])
            took = _tick_ns(shipped, _narrow(_drawn(_NORMAL, 4096, n), width), monitors=4096)
            found.append(_cost(what, 4096, n, took, shipped))
            if n == 32:
                bars.append(_bar(f"{what}, 4,096 monitors: ns per bet and pane", found[-1]["ns_per_bet"], NS_PER_BET))
    bare, whole = np.min([_import_seconds() for _ in range(5)], axis=0)
    measured = f"CPU time, the least of five new processes; with all of its names, numpy included, {whole:.2f} s"
    bars.append(_bar("import detectors, without river and scipy: s", float(bare), IMPORT_SECONDS, measured))
    return found, bars


def _import_seconds() -> tuple[float, float]:
    """CPU seconds of `import detectors` in a new process, and of it with all of its names."""
    code = (
        "import time, sys; t = time.process_time(); import detectors; u = time.process_time(); "
        "[getattr(detectors, name) for name in detectors.__all__]; v = time.process_time(); "
        "assert not {'river', 'scipy'} & set(sys.modules); print(u - t, v - t)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return float(said[0]), float(said[1])


def shipped_bets(monitors: int, *, own: bool = False) -> Bets:
    """Bets as shipped: a 14-day reference, default tolerance, 30-day budget; one monitor, copied.

    own: no two have the same phi to the last bits, so that none share a table.
    """
    rng = seeded("null ar .6", 90_000)
    values = rng.normal(size=14 * 288 * 50)
    rows = np.full(14 * 288, 50, dtype=np.int64)
    one, _ = binned(values, rows, learning=rows.size, levels=False)
    width = one.phi.shape[0]
    shape = np.array(one.kinds) == "shape"
    copies = [replace(one, first=m * width, phi=one.phi - 2.0**-20 * m * (own & shape)) for m in range(monitors)]
    return Model.of(copies, features=monitors, budget=8640.0).bets


def _untempered(what: str, monitors: int, n: int) -> dict[str, Any]:
    """The row of a chart of section 2 at tolerance 0, κ = 1, against what is known."""
    change, (spec, counts) = (_NORMAL, known_normal()) if what == FEATURE else (_BERNOULLI, known_levels(_RATE))
    bets = untempered(spec, counts, replicates=monitors, upward=what == CATEGORY)
    took = _tick_ns(bets, Counter(spec, monitors).flat(_drawn(change, monitors, n)), monitors=monitors)
    return _cost(what, monitors, n, took, bets)


def _errors(monitors: int, n: int) -> dict[str, Any]:
    """The row of the chart of losses at tolerance 0, κ = 1, both sides."""
    known = losses.LossReference.plain(float(KNOWN_ROWS), KNOWN_ROWS * _RATE)
    plan = losses.build_losses(
        [known] * monitors,
        budget=1.0,
        share=np.ones(monitors),
        tolerance=np.zeros((2, monitors)),
        strict=True,
        tempered=False,
        capped=False,
    )
    rows = np.full(monitors, n, dtype=np.int64)
    sums = _drawn(_BERNOULLI, monitors, n).sum(axis=1).astype(np.int64) * losses.UNIT
    charts = plan.start()
    for pane in range(1, 4):
        charts, _ = losses.tick(plan, charts, n=rows, sums=sums, pane=pane)
    took = _best(lambda: losses.tick(plan, charts, n=rows, sums=sums, pane=4), at_least=_times(monitors))
    arrays = [value for value in vars(charts).values() if isinstance(value, np.ndarray)]
    return _row(ERRORS, monitors, n, took, bets=plan.start().r.size, size=sum(array.nbytes for array in arrays))


def _drawn(change: Change, monitors: int, n: int) -> Floats:
    return change.draw(seeded(change.name, 81_000), (monitors, n), changed=False)


def _times(monitors: int) -> int:
    return max(15, 2000 // monitors)


def _tick_ns(bets: Bets, flat: npt.NDArray[np.int64], *, monitors: int) -> float:
    """The CPU time of one tick of all monitors, ns: the lower quartile, as others run on this machine too."""
    charts = tempered.Charts.start(bets.size)
    mu = flat_profile(bets)
    for pane in range(1, 4):
        charts, _ = tempered.tick(bets, charts, flat=flat, mu=mu, pane=pane)
    return _best(lambda: tempered.tick(bets, charts, flat=flat, mu=mu, pane=4), at_least=_times(monitors))


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
    return _row(what, monitors, n, took, bets=bets.size, size=size)


def _row(what: str, monitors: int, n: int, took: float, *, bets: int, size: int) -> dict[str, Any]:
    return {
        "what": what,
        "monitors": monitors,
        "events": n,
        "ns_per_event": round(took / monitors / n, 2),
        "ns_per_monitor": round(took / monitors, 1),
        "ns_per_bet": round(took / bets, 2),
        "bets": round(bets / monitors, 1),
        "bytes_per_monitor": round(size / monitors),
    }


_TICKS = "CPU time, the lower quartile of runs, the onset's bookkeeping included"


def _bar(name: str, value: float, limit: float, measured: str = _TICKS) -> dict[str, Any]:
    return {"bar": name, "value": value, "limit": limit, "met": value <= limit, "measured": measured}
