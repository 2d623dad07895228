"""river's detectors on the series of a statistic, one value a pane: `{feature: age, statistic: psi, detector: adwin}`.

Only the whole model's panes with events enough have a value. What is found is noted: a detector of single values knows
nothing of n, season or dependence, so `alarms_a_month` says what it costs in peace; whoever wants a promise takes the
chart. A detector begins anew after its alarm and after 720 panes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import watching
from detectors.catalogue import STATISTICS
from detectors.charts.rivers import Riverside, take
from detectors.watching import Watched
from schemas.layouts import Series

Ints: TypeAlias = npt.NDArray[np.int64]


class Noted(NamedTuple):
    """An alarm: which series, over how many panes, the mean before this pane and the value in it."""

    series: Series
    panes: int
    before: float
    now: float

    @property
    def words(self) -> str:
        """One line for a report."""
        one = self.series
        return (
            f"river's {one.detector.name} says that {one.statistic} of {one.feature} changed, from {self.before:.3g} "
            f"on average to {self.now:.3g}: outside the budget, noted and never paged"
        )


def start(series: Sequence[Series]) -> Riverside:
    """State before the first pane."""
    return Riverside.start([one.detector for one in series])


def update(
    series: Sequence[Series], limits: Sequence[Watched], state: Riverside, row: Ints
) -> tuple[Riverside, tuple[Noted, ...]]:
    """Take in a pane of the whole model, row (width,). limits: the series as `watching.watched` makes them ready."""
    judged = [watching.judge(one, row) for one in limits]
    values = [None if one is None else one[0] for one in judged]
    state, found = take([one.detector for one in series], state, values)
    noted = []
    for i, before in found.items():
        now = values[i] or 0.0
        known = [pane for pane in before if isinstance(pane, float)] or [now]
        noted.append(Noted(series[i], len(before) + 1, float(np.mean(known)), now))
    return state, tuple(noted)


def alarms_a_month(one: Series, limit: Watched, *, n: float, panes: int, seed: int = 0) -> float:
    """How often a detector alarms in so many panes of n independent events when nothing changes.

    Over at most 2,880 seeded panes. n: what a typical pane is worth: its events over the design effect.
    """
    rng = np.random.default_rng(seed)
    total = min(4 * panes, 2_880)
    share = rng.dirichlet(limit.reference + 0.5)
    counts = rng.multinomial(max(1, round(n)), share, size=total)
    values = np.asarray(STATISTICS[one.statistic].value(limit.reference, counts), dtype=np.float64)
    state, found = Riverside.start((one.detector,)), 0
    for value in values.tolist():
        state, alarmed = take((one.detector,), state, [value])
        found += len(alarmed)
    return found * panes / total
