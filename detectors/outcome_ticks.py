"""One outcome pane through the charts of losses and of calibration, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import adaptive, calibration, losses
from detectors.charts.adaptive import Adaptive, History
from detectors.charts.calibration_map import expit
from detectors.charts.losses import BETTER, UNIT, WORSE, Losses
from detectors.charts.mixture import Mixture
from detectors.class_charts import class_labels
from detectors.outcome_frames import OutcomeScope
from detectors.outcome_states import OutcomeState
from detectors.outcomes import labels_by_score, losses_of

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Tick:
    """A pane in numbers, (M,) each: shift and weight are what a watch of the resolve rule adds up, in the sd (for
    calibration the size) of its change.
    """

    state: OutcomeState
    value: Floats
    limit: Floats
    n: Ints
    better: Bools
    shift: Floats
    weight: Floats
    base: Floats


def tick(scope: OutcomeScope, state: OutcomeState, counts: Ints, *, weights: Floats, pane: int) -> Tick:
    size = len(scope.monitors)
    value, limit, n = np.zeros(size), scope.limit.copy(), np.zeros(size, np.int64)
    better, shift, weight = np.zeros(size, dtype=bool), np.zeros(size), np.zeros(size)
    base = state.base.copy()
    k = scope.loss_views.size
    if k:
        rows, total = losses_of(scope.table, counts[scope.loss_views])
        n[:k] = rows
        if isinstance(scope.plan, Losses):
            assert isinstance(state.losses, Mixture)
            mu = weights @ scope.loss_profile
            mixed_losses, said = losses.tick(scope.plan, state.losses, n=rows, sums=total, mu=mu, pane=pane)
            state = state._replace(losses=mixed_losses)
            value[:k], better[:k] = said.value[WORSE], said.value[BETTER] >= limit[:k]
            spread, shift[:k] = np.sqrt(np.maximum(scope.plan.rate * (1 - scope.plan.rate), 1e-9)), said.shift
            base[:k] = np.where(state.member[:k], base[:k], scope.plan.rate)
        else:
            assert isinstance(scope.plan, Adaptive)
            assert isinstance(state.losses, History)
            history, looked = adaptive.tick(scope.plan, state.losses, n=rows, sums=total)
            state = state._replace(losses=history)
            value[:k], limit[:k] = looked.value[WORSE], looked.limit
            base[:k] = np.where(state.member[:k], base[:k], looked.older[WORSE])
            spread = np.sqrt(np.maximum(base[:k] * (1 - base[:k]), 1e-4))
            shift[:k] = total / UNIT - rows * base[:k]
        shift[:k], weight[:k] = shift[:k] / spread, rows
    if scope.calibrated is not None:
        assert state.calibration is not None
        by_score, logit_shift = scored(scope, counts, weights @ scope.map_profile)
        mixed, value[k:] = calibration.tick(
            scope.calibrated, state.calibration, counts=by_score, shift=logit_shift, pane=pane
        )
        n[k:] = by_score.sum(axis=(1, 2))
        state = state._replace(calibration=mixed)
        for m in np.flatnonzero(state.bet >= 0).tolist():
            shift[m], weight[m] = _along(scope, m - k, int(state.bet[m]), by_score[m - k], logit_shift[m - k])
    return Tick(state=state, value=value, limit=limit, n=n, better=better, shift=shift, weight=weight, base=base)


def scored(scope: OutcomeScope, counts: Ints, profile: Floats) -> tuple[Ints, Floats]:
    """What the charts of calibration are fed: labels (maps, bins, 2), and the shift of the logit (maps, bins)."""
    plan = scope.calibrated
    assert plan is not None
    labels = np.zeros((plan.monitors, plan.logit.shape[1], 2), dtype=np.int64)
    shift = np.tile(profile[:, None], plan.logit.shape[1])
    views = scope.map_views.size
    if views:
        by_score = labels_by_score(scope.table, counts[scope.map_views])
        labels[:views, : by_score.shape[1]] = by_score
    if scope.class_codes.size:
        of_class, scores = class_labels(scope.table, counts[0])
        bins = scores.shape[1]
        for at, code in enumerate(scope.class_codes.tolist(), start=views):
            labels[at, :bins] = of_class[code]
            known = plan.maps[at if len(plan.maps) > 1 else 0]
            within, judged = known.within(of_class[code].sum(axis=1).astype(np.float64), scores[code])
            shift[at, :bins] += within
            labels[at, :bins] *= judged[:, None]
    return labels, shift


def _along(scope: OutcomeScope, i: int, bet: int, counts: Ints, shift: Floats) -> tuple[float, float]:
    """How far a pane's labels have moved along a bet, in its size: Σd(y − g), Σd²g(1 − g)."""
    plan = scope.calibrated
    assert plan is not None
    table = i if len(plan.maps) > 1 else 0
    a, b = calibration.BETS[bet]
    rows, ones = counts.sum(axis=1)[: plan.maps[table].rows.size], counts[: plan.maps[table].rows.size, 1]
    x, kept = plan.x[table, : rows.size], plan.weight[table, : rows.size] > 0
    g = expit(plan.logit[table, : rows.size] + shift[: rows.size])
    d = (a + (b - 1.0) * x) * kept
    return float((d * (ones - rows * g)).sum()), float((d * d * rows * g * (1 - g)).sum())
