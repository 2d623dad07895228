"""The frozen tables of a model's charts of outcomes: who is watched, against what, with which part of the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import resolve
from detectors.charts import adaptive, calibration, losses
from detectors.charts.adaptive import Adaptive
from detectors.charts.calibration import Calibration
from detectors.charts.losses import Losses
from detectors.outcome_states import OutcomeState
from detectors.outcomes import OutcomeSpec, OutcomeTable, outcome_spec
from detectors.references import Reference
from schemas.layouts import Layout, View

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Kind: TypeAlias = Literal["losses", "calibration"]

#: What a kind weighs beside a feature's one.
WEIGHT = 2.0
#: `Alarm.feature` of the two kinds; features count from 0, and −1 is the model itself.
FEATURE: dict[Kind, int] = {"losses": -2, "calibration": -3}
NAMES: dict[Kind, str] = {"losses": "error", "calibration": "calibration"}


@dataclass(frozen=True, eq=False, kw_only=True)
class OutcomeScope:
    """Frozen tables of a model's outcomes under one layout.

    monitors: (view, kind), losses first. plan: charts of losses, with or without a reference; calibrated: of
    calibration, None without. loss_views, map_views: views of their monitors. prior, limit (M,): shares of the budget
    and A over them, A in outcome panes. habit: the reference's coverage.
    """

    layout: Layout
    reference: Reference
    table: OutcomeTable
    views: tuple[View, ...]
    monitors: tuple[tuple[int, Kind], ...]
    plan: Losses | Adaptive | None
    calibrated: Calibration | None
    loss_views: Ints
    map_views: Ints
    loss_profile: Floats  # (168, losses)
    map_profile: Floats  # (168, maps)
    budget: float
    prior: Floats
    habit: float

    @cached_property
    def limit(self) -> Floats:
        """What a monitor's evidence must pass to alarm alone; (M,)."""
        return np.asarray(self.budget / self.prior)

    def monitor_of(self, m: int) -> tuple[int, int]:
        """View and feature under which a monitor's alarms stand."""
        view, kind = self.monitors[m]
        return view, FEATURE[kind]

    @cached_property
    def deff(self) -> Floats:
        """Labels that count as one; (M,)."""
        of_losses = self.plan.deff if self.plan is not None else np.zeros(0)
        if self.calibrated is None:
            return np.asarray(of_losses)
        shared = self.calibrated.shared_deff
        return np.concatenate((of_losses, np.broadcast_to(shared, (self.calibrated.monitors,))))

    def deff_of(self, m: int) -> float:
        """Labels that count as one, of a monitor."""
        return float(self.deff[m])

    def start(self) -> OutcomeState:
        """State before the first pane."""
        size = len(self.monitors)
        return OutcomeState(
            losses=None if self.plan is None else self.plan.start(),
            calibration=None if self.calibrated is None else self.calibrated.start(),
            member=np.zeros(size, dtype=bool),
            base=np.zeros(size),
            bet=np.full(size, -1, np.int64),
            watches=resolve.Watches.none(),
            habit=self.habit,
        )


def outcome_share(reference: Reference, layout: Layout) -> float:
    """The part of the budget that charts of outcomes get; 0 where outcomes are not watched.

    >>> outcome_share(Reference(model="m", specs=(), views={}), Layout(model="m", from_ms=0, reference="r"))
    0.0
    """
    spec = outcome_spec(reference, layout) if layout.horizon_ms > 0 else None
    kinds = 0 if spec is None else len(_kinds(reference, spec))
    of_features = sum(layout.weights.get(name, 1.0) for name in layout.monitored)
    return WEIGHT * kinds / (WEIGHT * kinds + max(of_features, 1.0)) if kinds else 0.0


def build_outcome_scope(reference: Reference, layout: Layout) -> OutcomeScope | None:
    """Tables of a layout; None where outcomes are not watched, or the reference has nothing to compare them with."""
    spec = outcome_spec(reference, layout) if layout.horizon_ms > 0 else None
    if spec is None:
        return None
    learned = {} if reference.labels is None else reference.labels.views
    pane_ms = layout.outcome_pane_ms
    loss = [(i, learned[v].losses_at(pane_ms)) for i, v in enumerate(layout.views) if v in learned]
    maps = [(i, learned[v].calibration_at(pane_ms)) for i, v in enumerate(layout.views) if v in learned]
    loss_refs = [(i, one) for i, one in loss if one is not None]
    map_refs = [(i, one) for i, one in maps if one is not None]
    without = not learned and "losses" in _kinds(reference, spec)
    monitors: list[tuple[int, Kind]] = [(i, "losses") for i, _ in loss_refs]
    if without:
        monitors = [(i, "losses") for i in range(len(layout.views))]
    monitors += [(i, "calibration") for i, _ in map_refs]
    prior = _prior([view for view, _ in monitors])
    share = outcome_share(reference, layout)
    own = layout.budget_ms / pane_ms / layout.false_alarms / layout.share / (share or 1.0)
    count = len(monitors) - len(map_refs)
    struck = max(1, len(_kinds(reference, spec)) * len({view.column for view in layout.views}))
    plan: Losses | Adaptive | None = None
    if without:
        plan = adaptive.build_adaptive(count, budget=own, share=prior)
    elif loss_refs:
        plan = losses.build_losses(
            [one for _, one in loss_refs], budget=own, share=prior[:count], struck=struck, strict=layout.strict
        )
    calibrated = None
    if map_refs:
        calibrated = calibration.build_calibration(
            [one for _, one in map_refs], budget=own, share=prior[count:], struck=struck, strict=layout.strict
        )
    labels = reference.labels
    return OutcomeScope(
        layout=layout,
        reference=reference,
        table=OutcomeTable(spec),
        views=layout.views,
        monitors=tuple(monitors),
        plan=plan,
        calibrated=calibrated,
        loss_views=np.array([view for view, kind in monitors if kind == "losses"], dtype=np.int64),
        map_views=np.array([view for view, kind in monitors if kind == "calibration"], dtype=np.int64),
        loss_profile=np.stack([one.profile for _, one in loss_refs], axis=1) if loss_refs else np.zeros((168, 0)),
        map_profile=np.stack([one.profile for _, one in map_refs], axis=1) if map_refs else np.zeros((168, 0)),
        budget=own,
        prior=prior,
        habit=labels.n / reference.n if labels is not None and reference.n else math.nan,
    )


def _prior(views: list[int]) -> Floats:
    """Shares of the budget: half to the whole model's monitors, half to those of its views; all where there is one."""
    whole = np.array([view == 0 for view in views], dtype=bool)
    if whole.all() or not whole.any():
        return np.full(whole.size, 1.0 / max(whole.size, 1))
    return np.asarray(np.where(whole, 0.5 / whole.sum(), 0.5 / (~whole).sum()))


def _kinds(reference: Reference, spec: OutcomeSpec) -> tuple[Kind, ...]:
    """Kinds of charts that a model has; a score that only ranks has no label, hence no loss."""
    labels = reference.labels
    if labels is None:
        labelled = spec.probability or reference.spec("label") is not None or spec.kind == "regression"
        return ("losses",) if labelled else ()
    whole = labels.views[View()]
    found: list[Kind] = ["losses"] if whole.losses is not None else []
    return (*found, "calibration") if whole.calibration is not None else tuple(found)
