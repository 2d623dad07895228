"""What an alarm on outcomes says: how wrong, or how scores have moved, since when, and the map that repairs them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from detectors.charts import adaptive, calibration, losses
from detectors.charts.adaptive import Adaptive, History
from detectors.charts.calibration import Calibration
from detectors.charts.calibration_map import CalibrationMap
from detectors.charts.losses import WORSE, Losses
from detectors.charts.mixture import Mixture
from detectors.statistics.intervals import Z
from schemas.alerts import Evidence

#: Scores at which a repaired map is said.
SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)


def loss_evidence(plan: Losses, charts: Mixture, *, monitor: int, pane: int, begin: Callable[[int], int]) -> Evidence:
    """The rate since the onset, with its interval. begin: start in ms of a pane by its number."""
    found = losses.finding(plan, charts, side=WORSE, monitor=monitor, pane=pane)
    rate = float(plan.rate[monitor])
    return Evidence(
        feature="",
        detector="losses",
        direction="worse",
        size=min(rate + found.size, 1.0),
        size_low=max(rate + found.low, 0.0),
        size_high=min(rate + found.high, 1.0),
        unit="share",
        onset=begin(found.since or pane),
        n=int(found.n),
        effective_n=found.n / float(plan.deff[monitor]),
        before=rate,
    )


def adaptive_evidence(
    plan: Adaptive, history: History, *, monitor: int, pane: int, begin: Callable[[int], int]
) -> Evidence:
    """The rate since the cut that shows the change best. Panes with labels count; the last one has number `pane`."""
    looked = adaptive.look(plan, history)
    span = sum(history.spans)
    since = max(1, pane - (span - int(looked.since[WORSE, monitor])))
    starts = np.cumsum((0, *history.spans))[:-1] + 1
    n = int(history.n[starts >= looked.since[WORSE, monitor], monitor].sum())
    newer, older = (float(part[WORSE, monitor]) for part in (looked.newer, looked.older))
    half = Z * math.sqrt(max(newer * (1 - newer), 0.0) / max(n, 1))
    return Evidence(
        feature="",
        detector="losses",
        direction="worse",
        size=newer,
        size_low=max(newer - half, 0.0),
        size_high=min(newer + half, 1.0),
        unit="share",
        onset=begin(since),
        n=n,
        before=older,
        note="the reference has no outcomes: compared with the time before, labels taken as independent",
    )


def calibration_evidence(plan: Calibration, charts: Mixture, *, monitor: int, begin: Callable[[int], int]) -> Evidence:
    """Direction in words, shift in logit with its interval, and what scores stand for now."""
    found = calibration.finding(plan, charts, monitor=monitor)
    half = Z * abs(found.a / found.z_a) if found.z_a else math.inf
    known = plan.maps[monitor if len(plan.maps) > 1 else 0]
    return Evidence(
        feature="",
        detector="calibration",
        direction=", ".join(found.words),
        size=found.a,
        size_low=found.a - half if math.isfinite(half) else None,
        size_high=found.a + half if math.isfinite(half) else None,
        unit="logit",
        onset=begin(found.since),
        n=int(found.n),
        note=f"slope {found.b:.2f}; {repair(known, found.repaired)}",
    )


def repair(known: CalibrationMap, repaired: CalibrationMap) -> str:
    """What scores stood for, and stand for now, within the scores that the reference knows.

    >>> from detectors.charts.calibration import repaired as after
    >>> from detectors.charts.calibration_map import learn_map
    >>> edges = np.array([-1.0, 1.0])
    >>> known = learn_map(edges, np.array([[900, 100], [500, 500], [100, 900]]), np.array([-2197.0, 0.0, 2197.0]))
    >>> repair(known, after(known, a=0.5, b=1.0))[:62]
    'a score of 0.1 means 0.15, not 0.10; 0.3 means 0.41, not 0.30;'
    """
    scores = np.array(SCORES)
    now, before = repaired.at(scores), known.at(scores)
    pairs = zip(SCORES, now.tolist(), before.tolist(), strict=True)
    return "a score of " + "; ".join(f"{p:g} means {new:.2f}, not {old:.2f}" for p, new, old in pairs)
