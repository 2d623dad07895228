"""Scores p ~ Beta(α, β) with labels ~ Bernoulli(σ(a + b·logit p)), as counts by bin, for the calibration chart."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from detectors.charts import calibration, calibration_map
from detectors.charts.calibration import Calibration, CalibrationReference
from detectors.charts.calibration_map import CalibrationMap
from detectors.charts.mixture import Mixture

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SHAPE = (2.0, 5.0)


@cache
def edges() -> Floats:
    return calibration_map.calibration_edges(np.random.default_rng(0).beta(*SHAPE, 100_000))


def learned(scores: Floats, labels: Ints) -> CalibrationMap:
    """A map from rows; labels may be expected ones, in parts."""
    x = calibration_map.logit_of(scores)
    place = np.searchsorted(edges(), x, side="left")
    width = edges().size + 1
    rows, ones = np.bincount(place, minlength=width), np.bincount(place, labels, width)
    return calibration_map.learn_map(edges(), np.stack([rows - ones, ones], axis=1), np.bincount(place, x, width))


@cache
def exact() -> CalibrationReference:
    """The true map: four million expected labels, g = p."""
    scores = np.random.default_rng(1).beta(*SHAPE, 4_000_000)
    return CalibrationReference.plain(learned(scores, scores))


@cache
def shares(a: float, b: float, shape: tuple[float, float] = SHAPE) -> Floats:
    """Cumulative probability of (bin, label) cells, flat, from a million scores."""
    scores = np.random.default_rng(2).beta(*shape, 1_000_000)
    x = calibration_map.logit_of(scores)
    place = np.searchsorted(edges(), x, side="left")
    ones = np.bincount(place, calibration_map.expit(a + b * x), edges().size + 1)
    rows = np.bincount(place, minlength=edges().size + 1)
    return np.cumsum(np.stack([rows - ones, ones], axis=1).ravel()) / scores.size


def pane(rng: np.random.Generator, cells: Floats, monitors: int, n: int) -> Ints:
    """Counts (monitors, bins, 2) of n labels each."""
    width = cells.size
    drawn = np.minimum(np.searchsorted(cells, rng.random(monitors * n)), width - 1)
    flat = np.repeat(np.arange(monitors), n) * width + drawn
    return np.bincount(flat, minlength=monitors * width).reshape(monitors, -1, 2)


def play(
    plan: Calibration,
    cells: Floats,
    panes: int,
    *,
    seed: int,
    n: int = 32,
    charts: Mixture | None = None,
    first: int = 1,
) -> tuple[Mixture, Floats]:
    """Charts after the panes, and the evidence after each (panes, monitors)."""
    rng, charts, found = np.random.default_rng(seed), charts or plan.start(), []
    for i in range(panes):
        counts = pane(rng, cells, plan.monitors, n)
        charts, value = calibration.tick(plan, charts, counts=counts, pane=first + i)
        found.append(value)
    return charts, np.array(found)
