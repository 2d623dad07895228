"""Scores with their labels, before and after what they mean has changed: the streams of the calibration chart.

A value holds both: the score p, plus 1 where the label is 1. So these streams go where numbers go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.calibration import CalibrationReference
from detectors.charts.calibration_map import CalibrationMap, calibration_edges, expit, learn_map, logit_of

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

BEFORE = (2.0, 5.0)


@dataclass(frozen=True)
class ScoreChange:
    """Scores ~ Beta(2, 5), after the change ~ Beta(beta); labels ~ Bernoulli(p), then Bernoulli(σ(a + b·logit p))."""

    name: str
    a: float = 0.0
    b: float = 1.0
    beta: tuple[float, float] = BEFORE
    kind: str = "calibration"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], *, changed: bool) -> Floats:
        """Independent scores and labels as one number each."""
        p = rng.beta(*(self.beta if changed else BEFORE), shape)
        mean = expit(self.a + self.b * logit_of(p)) if changed and (self.a, self.b) != (0.0, 1.0) else p
        return np.asarray(p + (rng.random(shape) < mean))

    def log_ratio(self, x: Floats) -> Floats:
        """Log likelihood ratio of each label given its score: what an oracle sums."""
        p, y = parted(x)
        q = expit(self.a + self.b * logit_of(p))
        return np.asarray(np.where(y > 0, np.log(q / p), np.log((1 - q) / (1 - p))))


def parted(x: Floats) -> tuple[Floats, Floats]:
    """Scores and labels of the numbers that hold both.

    >>> parted(np.array([0.25, 1.5]))
    (array([0.25, 0.5 ]), array([0., 1.]))
    """
    y = np.floor(x)
    return np.clip(x - y, 1e-9, 1.0 - 1e-9), y


def brier(x: Floats) -> Floats:
    """The squared error of each score, for detectors that watch one number: in [0, 1]."""
    p, y = parted(x)
    return np.asarray((y - p) ** 2)


def residual(x: Floats) -> Floats:
    """Label minus score."""
    p, y = parted(x)
    return np.asarray(y - p)


@cache
def edges() -> Floats:
    """Bins of the score, as a reference of 100,000 rows has them."""
    return calibration_edges(np.random.default_rng(0).beta(*BEFORE, 100_000))


def counted(x: Floats) -> Ints:
    """Counts (replicates, bins, 2) of labels by bin, from (replicates, n) numbers."""
    p, y = parted(x)
    width = 2 * (edges().size + 1)
    place = 2 * np.searchsorted(edges(), logit_of(p), side="left") + y.astype(np.int64)
    flat = place + np.arange(x.shape[0])[:, None] * width
    return np.bincount(flat.ravel(), minlength=x.shape[0] * width).reshape(x.shape[0], -1, 2).astype(np.int64)


@cache
def known() -> CalibrationReference:
    """The map as well as four million expected labels show it: g = p."""
    scores = np.random.default_rng(1).beta(*BEFORE, 4_000_000)
    x = logit_of(scores)
    place = np.searchsorted(edges(), x, side="left")
    width = edges().size + 1
    rows, ones = np.bincount(place, minlength=width), np.bincount(place, scores, width)
    return CalibrationReference.plain(_map(rows - ones, ones, np.bincount(place, x, width)))


def _map(zeros: Floats, ones: Floats, logits: Floats) -> CalibrationMap:
    return learn_map(edges(), np.stack([zeros, ones], axis=1), logits)


CHANGES = (
    ScoreChange("calibration a=.4", a=0.4),
    ScoreChange("calibration a=-.4", a=-0.4),
    ScoreChange("calibration b=.6", b=0.6),
    ScoreChange("calibration b=1.6", b=1.6),
    ScoreChange("calibration a=-.4 b=.7", a=-0.4, b=0.7),
    ScoreChange("scores alone", beta=(4.0, 3.0)),
)
