"""The frozen tables of a model's charts of outcomes: who is watched, against what, with which part of the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

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
#: `Alarm.feature` of the two kinds; features count from 0, and −1 is the model itself. Of classes: from here downwards.
FEATURE: dict[Kind, int] = {"losses": -2, "calibration": -3}
FIRST_CLASS = -100
NAMES: dict[Kind, str] = {"losses": "error", "calibration": "calibration"}


class Monitor(NamedTuple):
    """What one chart of outcomes watches. view: its number in the scope; code, of: a class, −1 and "" for none.

    >>> Monitor(0, "calibration").name, Monitor(0, "calibration", 2, "cat").name
    ('calibration', 'calibration of cat')
    """

    view: int
    kind: Kind
    code: int = -1
    of: str = ""

    @property
    def feature(self) -> int:
        """Under which feature its alarms stand."""
        return FEATURE[self.kind] if self.code < 0 else FIRST_CLASS - self.code

    @property
    def name(self) -> str:
        """What it is called in reports, alerts and conditions."""
        return f"{NAMES[self.kind]} of {self.of}" if self.of else NAMES[self.kind]


@dataclass(frozen=True, eq=False, kw_only=True)
class OutcomeScope:
    """Frozen tables of a model's outcomes under one layout.

    monitors: losses first, then calibration by view, then by class. plan: charts of losses, with or without a
    reference; calibrated: of calibration, None without. loss_views, map_views: views of their monitors; class_codes:
    classes of the last ones, of the whole model. prior, limit (M,): shares of the budget and A over them, A in outcome
    panes. habit: the reference's coverage.
    """

    layout: Layout
    reference: Reference
    table: OutcomeTable
    views: tuple[View, ...]
    monitors: tuple[Monitor, ...]
    plan: Losses | Adaptive | None
    calibrated: Calibration | None
    loss_views: Ints
    map_views: Ints
    class_codes: Ints
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
        monitor = self.monitors[m]
        return monitor.view, monitor.feature

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
    whole = learned.get(View())
    classes = {} if whole is None else whole.classes_at(pane_ms)
    calibrations = [*(one for _, one in map_refs), *classes.values()]
    without = not learned and "losses" in _kinds(reference, spec)
    monitors = [Monitor(i, "losses") for i, _ in loss_refs]
    if without:
        monitors = [Monitor(i, "losses") for i in range(len(layout.views))]
    monitors += [Monitor(i, "calibration") for i, _ in map_refs]
    monitors += [Monitor(0, "calibration", spec.classes.index(name), name) for name in classes]
    prior = _prior(monitors)
    share = outcome_share(reference, layout)
    own = layout.budget_ms / pane_ms / layout.false_alarms / layout.share / (share or 1.0)
    count = len(monitors) - len(calibrations)
    struck = max(1, len(_kinds(reference, spec)) * len({view.column for view in layout.views}))
    plan: Losses | Adaptive | None = None
    if without:
        plan = adaptive.build_adaptive(count, budget=own, share=prior)
    elif loss_refs:
        plan = losses.build_losses(
            [one for _, one in loss_refs], budget=own, share=prior[:count], struck=struck, strict=layout.strict
        )
    calibrated = None
    if calibrations:
        calibrated = calibration.build_calibration(
            calibrations, budget=own, share=prior[count:], struck=struck, strict=layout.strict
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
        loss_views=np.array([one.view for one in monitors if one.kind == "losses"], dtype=np.int64),
        map_views=np.array([view for view, _ in map_refs], dtype=np.int64),
        class_codes=np.array([one.code for one in monitors if one.of], dtype=np.int64),
        loss_profile=np.stack([one.profile for _, one in loss_refs], axis=1) if loss_refs else np.zeros((168, 0)),
        map_profile=np.stack([one.profile for one in calibrations], axis=1) if calibrations else np.zeros((168, 0)),
        budget=own,
        prior=prior,
        habit=labels.n / reference.n if labels is not None and reference.n else math.nan,
    )


def names_of(reference: Reference) -> list[str]:
    """Names under which charts of a reference's outcomes are: `error`, `calibration`, and those of its classes.

    >>> names_of(Reference(model="m", specs=(), views={}))
    ['error', 'calibration']
    """
    classes = {} if reference.labels is None else reference.labels.views[View()].classes
    return [*NAMES.values(), *(Monitor(0, "calibration", 0, name).name for name in classes)]


def _prior(monitors: Sequence[Monitor]) -> Floats:
    """Shares of the budget: half to the whole model's monitors, half to those of its views; all where there is one.

    All classes together weigh as much as one other monitor.
    """
    of_class = sum(bool(one.of) for one in monitors)
    weight = np.array([1.0 / of_class if one.of else 1.0 for one in monitors])
    whole = np.array([one.view == 0 for one in monitors], dtype=bool)
    if whole.all() or not whole.any():
        return np.asarray(weight / max(float(weight.sum()), 1.0))
    return np.asarray(np.where(whole, 0.5 * weight / weight[whole].sum(), 0.5 * weight / weight[~whole].sum()))


def _kinds(reference: Reference, spec: OutcomeSpec) -> tuple[str, ...]:
    """Kinds of charts that a model has; a score that only ranks has no label, hence no loss."""
    labels = reference.labels
    if labels is None:
        labelled = spec.probability or reference.spec("label") is not None or spec.kind == "regression"
        return ("losses",) if labelled else ()
    whole = labels.views[View()]
    there = {"losses": whole.losses is not None, "calibration": whole.calibration is not None}
    return tuple(kind for kind, known in (there | {"classes": bool(whole.classes)}).items() if known)
