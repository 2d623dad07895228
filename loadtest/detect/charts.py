"""Charts with a limit, side by side for many replicates: ours, and the oracle that knows before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import adaptive, calibration, losses, tempered
from loadtest.detect import scores
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


class Adaptive:
    """Section 3 (b): errors against their own past. Its value is exp(d); `untouched`: over the grid's limit: 1 alarms.

    reference: labels of a reference that is drawn anew for each replicate, 0 for none.
    """

    def __init__(
        self, change: Change, replicates: int, *, two_sided: bool, reference: int = 0, untouched: float = 0.0
    ) -> None:
        none = np.zeros(replicates, np.int64)
        errors = np.random.default_rng(reference).binomial(reference, change.before[0], replicates)
        self._plan = adaptive.build_adaptive(
            replicates,
            budget=untouched or 1.0,
            share=np.ones(replicates),
            two_sided=two_sided,
            reference=(none + reference, errors * losses.UNIT),
        )
        self._untouched = untouched > 0.0
        self._history = self._plan.start()

    def step(self, values: Floats) -> Floats:
        """The exponential of each replicate's largest d after a pane."""
        n = np.full(values.shape[0], values.shape[1], dtype=np.int64)
        sums = values.sum(axis=1).astype(np.int64) * losses.UNIT
        self._history, said = adaptive.tick(self._plan, self._history, n=n, sums=sums)
        found = said.value.max(axis=0) if self._plan.two_sided else said.value[losses.WORSE]
        return np.asarray(np.exp(np.minimum(found - self._untouched * said.limit, 300.0)))

    def restart(self, which: Bools) -> None:
        """The past is forgotten; a reference stays."""
        self._history = adaptive.reset(self._history, which)


class Calibrated:
    """Section 4 untempered: scores against a known map, tolerance 0."""

    def __init__(self, change: scores.ScoreChange, replicates: int) -> None:
        known = scores.known()
        self._plan = calibration.build_calibration(
            [known] * replicates,
            budget=1.0,
            share=np.ones(replicates),
            tolerance=0.0,
            strict=True,
            tempered=False,
            capped=False,
        )
        self._charts = self._plan.start()
        self._pane = 0

    def step(self, values: Floats) -> Floats:
        """Evidence of each replicate after a pane."""
        self._pane += 1
        self._charts, value = calibration.tick(
            self._plan, self._charts, counts=scores.counted(values), pane=self._pane
        )
        return value

    def restart(self, which: Bools) -> None:
        """R = 0."""
        self._charts = calibration.reset(self._charts, which)


class Oracle:
    """CUSUM of the log likelihood ratio of the very change: what nobody can have. Its value is exp(CUSUM)."""

    def __init__(self, change: Change | scores.ScoreChange, replicates: int) -> None:
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
    """A chart that is matched by its limit. bars: it is the one that is judged. kinds: streams it is meant for.

    theory: the same chart whose limit is `A` panes, or, where it brings its own limits for A, 1: see `untouched`.
    """

    name: str
    kinds: tuple[str, ...]
    make: Callable[[Any, int], Chart]
    ours: bool = True
    judged: bool = False
    theory: bool = False


_ALL = ("bernoulli", "normal", "calibration")
#: The bars of Bernoulli streams are for errors; a category of two levels beside them is section 2 on the same rows.
CHARTS = (
    Charted("oracle CUSUM", _ALL, Oracle, ours=False),
    Charted("tripline feature two-sided", ("normal",), partial(Mixture, upward=False), theory=True),
    Charted("tripline feature one-sided", ("normal",), partial(Mixture, upward=True), judged=True),
    Charted("tripline errors two-sided", ("bernoulli",), partial(Errors, upward=False), theory=True),
    Charted("tripline errors one-sided", ("bernoulli",), partial(Errors, upward=True), judged=True),
    Charted("tripline category two-sided", ("bernoulli",), partial(Mixture, upward=False)),
    Charted("tripline category one-sided", ("bernoulli",), partial(Mixture, upward=True)),
    Charted("tripline adaptive two-sided", ("bernoulli",), partial(Adaptive, two_sided=True)),
    Charted("tripline adaptive one-sided", ("bernoulli",), partial(Adaptive, two_sided=False)),
    Charted("tripline adaptive one-sided, reference of 20,000", ("bernoulli",),
            partial(Adaptive, two_sided=False, reference=20_000)),
    Charted("tripline calibration", ("calibration",), Calibrated, judged=True, theory=True),
)  # fmt: skip
