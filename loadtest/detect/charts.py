"""Charts with a limit, side by side for many replicates: ours, and the oracle that knows before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import tempered
from loadtest.detect.fleet import Counter, flat_profile, known_levels, known_normal, untempered
from loadtest.detect.run_length import Chart
from loadtest.detect.streams import Change

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


class Mixture:
    """Section 2 untempered: tolerance 0, κ = 1, a known reference."""

    def __init__(self, change: Change, replicates: int, *, upward: bool) -> None:
        spec, counts = known_normal() if change.kind == "normal" else known_levels(change.before[0])
        self._counter = Counter(spec, replicates)
        self._bets = untempered(spec, counts, replicates=replicates, upward=upward)
        self._mu = flat_profile(self._bets)
        self._charts = tempered.Charts.start(self._bets.size)
        self._pane = 0

    def step(self, values: Floats) -> Floats:
        """Σ w·R of each replicate after a pane."""
        self._pane += 1
        flat = self._counter.flat(values)
        self._charts, tick = tempered.tick(self._bets, self._charts, flat=flat, mu=self._mu, pane=self._pane)
        return tick.value

    def restart(self, which: Bools) -> None:
        """R = 0."""
        self._charts = tempered.reset(self._bets, self._charts, np.flatnonzero(which), pane=self._pane)


class Oracle:
    """CUSUM of the log likelihood ratio of the very change: what nobody can have. Its value is exp(CUSUM)."""

    def __init__(self, change: Change, replicates: int) -> None:
        self._change = change
        self._g = np.zeros(replicates)

    def step(self, values: Floats) -> Floats:
        """The exponential of the CUSUM of each replicate after a pane."""
        self._g = np.maximum(0.0, self._g + self._change.log_ratio(values).sum(axis=1))
        return np.asarray(np.exp(np.minimum(self._g, 300.0)))

    def restart(self, which: Bools) -> None:
        """Back to 0."""
        self._g[which] = 0.0


#: Charts that are matched by their limit: name, ours, and how to make them for a change and a number of replicates.
CHARTS: tuple[tuple[str, bool, Callable[[Change, int], Chart]], ...] = (
    ("oracle CUSUM", False, Oracle),
    ("tripline two-sided", True, lambda change, replicates: Mixture(change, replicates, upward=False)),
    ("tripline one-sided", True, lambda change, replicates: Mixture(change, replicates, upward=True)),
)
