"""Charts with a limit, side by side for many replicates: ours, and the oracle that knows before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import losses, tempered
from loadtest.detect.fleet import KNOWN_ROWS, Counter, flat_profile, known_levels, known_normal, untempered
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


class Errors:
    """Section 3 (a) untempered: errors against a known rate; one-sided it is worse only, else the mean of both."""

    def __init__(self, change: Change, replicates: int, *, upward: bool) -> None:
        rows = float(KNOWN_ROWS)
        known = losses.LossReference.plain(rows, rows * change.before[0])
        self._plan = losses.build_losses(
            [known] * replicates,
            budget=1.0,
            share=np.ones(replicates),
            tolerance=np.zeros((2, replicates)),
            strict=True,
            tempered=False,
            capped=False,
        )
        self._upward = upward
        self._charts = self._plan.start()
        self._pane = 0

    def step(self, values: Floats) -> Floats:
        """Evidence of each replicate after a pane."""
        self._pane += 1
        n = np.full(values.shape[0], values.shape[1], dtype=np.int64)
        sums = values.sum(axis=1).astype(np.int64) * losses.UNIT
        self._charts, tick = losses.tick(self._plan, self._charts, n=n, sums=sums, pane=self._pane)
        return np.asarray(tick.value[losses.WORSE] if self._upward else tick.value.mean(axis=0))

    def restart(self, which: Bools) -> None:
        """R = 0 on both sides."""
        self._charts = losses.reset(self._charts, np.stack([which, which]))


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


@dataclass(frozen=True)
class Charted:
    """A chart that is matched by its limit. one_sided: the bars are for it. kinds: streams it is meant for."""

    name: str
    kinds: tuple[str, ...]
    make: Callable[[Change, int], Chart]
    ours: bool = True
    one_sided: bool = False


_BOTH = ("bernoulli", "normal")
#: The bars of Bernoulli streams are for errors; a category of two levels beside them is section 2 on the same rows.
CHARTS = (
    Charted("oracle CUSUM", _BOTH, Oracle, ours=False),
    Charted("tripline feature two-sided", ("normal",), partial(Mixture, upward=False)),
    Charted("tripline feature one-sided", ("normal",), partial(Mixture, upward=True), one_sided=True),
    Charted("tripline errors two-sided", ("bernoulli",), partial(Errors, upward=False)),
    Charted("tripline errors one-sided", ("bernoulli",), partial(Errors, upward=True), one_sided=True),
    Charted("tripline category two-sided", ("bernoulli",), partial(Mixture, upward=False)),
    Charted("tripline category one-sided", ("bernoulli",), partial(Mixture, upward=True)),
)
