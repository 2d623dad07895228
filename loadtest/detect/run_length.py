"""From runs to figures: false-alarm rates with Poisson intervals, delays, and thresholds for a wanted rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


class Chart(Protocol):
    """Charts of many replicates side by side, whose values an alarm limit is compared with."""

    def step(self, values: Floats) -> Floats:
        """Take in one pane of values (replicates, n); answer with the charts' values (replicates,)."""
        ...

    def restart(self, which: Bools) -> None:
        """Begin anew in some replicates."""
        ...


def poisson(alarms: int) -> tuple[float, float]:
    """95 % interval of a Poisson mean, from one count.

    >>> [round(end, 2) for end in poisson(0)], [round(end, 2) for end in poisson(10)]
    ([0.0, 3.69], [4.8, 18.39])
    """
    low = 0.0 if alarms == 0 else float(chi2.ppf(0.025, 2 * alarms)) / 2
    return low, float(chi2.ppf(0.975, 2 * alarms + 2)) / 2


@dataclass(frozen=True)
class Rate:
    """False alarms of a run over `events` events in which nothing changed."""

    alarms: int
    events: int

    @property
    def arl(self) -> float | None:
        """Events per false alarm; None when there was none."""
        return self.events / self.alarms if self.alarms else None

    @property
    def interval(self) -> list[float | None]:
        """95 % interval of `arl`."""
        low, high = poisson(self.alarms)
        return [self.events / high, self.events / low if low else None]


@dataclass(frozen=True)
class Delays:
    """Events from the change to the alarm, of the runs that found it; missed, early: shares of all runs.

    early: an alarm before the change, after which the detector began anew.
    """

    found: Floats
    missed: float
    early: float

    def row(self) -> dict[str, Any]:
        """The keys of a row."""
        some = self.found.size > 0
        return {
            "mean_delay": float(self.found.mean()) if some else None,
            "median_delay": float(np.median(self.found)) if some else None,
            "p90_delay": float(np.quantile(self.found, 0.9)) if some else None,
            "missed": self.missed,
            "early": self.early,
        }


NO_DELAYS: dict[str, Any] = dict.fromkeys(("mean_delay", "median_delay", "p90_delay", "missed", "early"))


def delays_of(first: Sequence[int | None], early: int) -> Delays:
    """Delays from the events to the first alarm after the change, None where there was none.

    >>> delays_of([30, None, 50, 40], early=1).row()["median_delay"]
    40.0
    """
    found = np.array([delay for delay in first if delay is not None], dtype=float)
    runs = max(1, len(first))
    return Delays(found, (runs - found.size) / runs, early / runs)


def rate(chart: Chart, panes: Sequence[Floats] | Any, *, limit: float) -> Rate:
    """False alarms of charts that begin anew after each. panes: (replicates, n) values each."""
    alarms = events = 0
    for values in panes:
        over = chart.step(values) >= limit
        events += values.size
        if over.any():
            alarms += int(over.sum())
            chart.restart(over)
    return Rate(alarms, events)


def delays(chart: Chart, *, before: Any, after: Any, limit: float) -> Delays:
    """Delays of charts: panes before the change, in which an alarm is early, and after it."""
    early: Bools | None = None
    for values in before:
        over = chart.step(values) >= limit
        early = over if early is None else early | over
        if over.any():
            chart.restart(over)
    first: npt.NDArray[np.int64] | None = None
    for number, values in enumerate(after):
        over = chart.step(values) >= limit
        first = np.full(over.size, -1, dtype=np.int64) if first is None else first
        first[over & (first < 0)] = (number + 1) * values.shape[1]
        if (first >= 0).all():
            break
    assert first is not None
    return delays_of([int(x) if x >= 0 else None for x in first], 0 if early is None else int(early.sum()))


def limits(chart: Chart, panes: Any, *, wanted: Sequence[float], lowest: float, highest: float) -> dict[float, float]:
    """Limit for each wanted run length in events, from one run without restarts.

    The running maximum says for every limit when it would first have been passed; with hazards that do not depend on
    time, the run length is `Σ min(T_i, T) / hits`. lowest, highest: between which limits are sought, logarithmically.
    """
    grid = np.geomspace(lowest, highest, 400)
    passed: Ints | None = None
    level: Ints | None = None
    events = 0
    for values in panes:
        value = chart.step(values)
        events += values.shape[1]
        if passed is None or level is None:
            passed = np.full((grid.size, value.size), -1, dtype=np.int64)
            level = np.zeros(value.size, dtype=np.int64)
        reached = np.searchsorted(grid, value, side="right")
        for r in np.flatnonzero(reached > level).tolist():
            passed[level[r] : reached[r], r] = events
            level[r] = reached[r]
    assert passed is not None
    hits = (passed >= 0).sum(axis=1)
    exposure = np.where(passed >= 0, passed, events).sum(axis=1)
    length = exposure / np.maximum(hits, 0.5)
    return {arl: float(np.exp(np.interp(np.log(arl), np.log(length), np.log(grid)))) for arl in wanted}
