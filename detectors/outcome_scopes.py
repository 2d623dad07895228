"""The charts of a model's outcomes: is it wrong more often, do its scores still mean what they meant (DETECTION 3, 4).

A monitor is a view and a kind, `losses` or `calibration`. They share a fixed part of the model's budget, as if each
feature of the model weighed one and each of the two kinds two; a scope of features gets the rest, so that the two
together open no more incidents than the budget says. The clock is the outcome pane: A counts in panes of its length.

Each outcome pane is taken once, at its maturity, and only when its labels are in: where the coverage has fallen below
nine tenths of its habit, and by more than chance, the labels that lack may all be of one class, and a chart would fire
on that. Such a pane is left out and said to be. The habit forgets in a week, so that a lasting change becomes it.

Without outcomes in the reference there is the adaptive chart of losses, which knows no dependence, and no calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors import budget, resolve
from detectors.charts import adaptive, calibration, losses
from detectors.charts.adaptive import Adaptive, History
from detectors.charts.calibration import Calibration
from detectors.charts.calibration_map import expit
from detectors.charts.losses import BETTER, UNIT, WORSE, Losses
from detectors.charts.mixture import Mixture
from detectors.outcome_findings import adaptive_evidence, calibration_evidence, loss_evidence
from detectors.outcome_states import OutcomeState
from detectors.outcomes import OutcomeSpec, OutcomeTable, labels_by_score, losses_of, outcome_spec
from detectors.references import Reference
from detectors.results import DRIFT, OK, UNDECIDED, Absorbed, Alarm, Cleared
from detectors.seasonality import pane_weights
from schemas.alerts import Evidence, Reason
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
#: Coverage below so much of its habit, and by three standard errors, leaves a pane out.
COVERED = 0.9
HABIT_MS = 7 * 86_400_000
_OK_BELOW = 0.1
_WEEK_MS = 7 * 86_400_000


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

    def deff_of(self, m: int) -> float:
        """Labels that count as one, of a monitor."""
        return float(_deff(self)[m])

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


@dataclass(frozen=True, eq=False, kw_only=True)
class OutcomeResult:
    """Verdicts of one outcome pane. status, value, limit, n: (M,), as in `ScopeResult`; the rest as there.

    start, end: of the pane. waits: why the charts left the pane out, "" when they took it. notes (M,): "better", where
    the loss has fallen; said: evidence of the members, by monitor.
    """

    start: int
    end: int
    status: npt.NDArray[np.int8]
    value: Floats
    limit: Floats
    n: Ints
    waits: str = ""
    notes: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    cleared: tuple[Cleared, ...] = ()


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


def update(
    scope: OutcomeScope, state: OutcomeState, *, start: int, local: int, counts: Ints
) -> tuple[OutcomeState, OutcomeResult]:
    """Take in one mature outcome pane. start: ms; local: the same on the clock of the reference's profile; counts:
    (views, width), in the order of `scope.views`.
    """
    layout = scope.layout
    begun = start if state.begun < 0 else state.begun
    state = state._replace(begun=begun)
    matched, expected = (int(counts[0, at]) for at in (scope.table.n, scope.table.expected))
    state, waits = _covered(scope, state, matched=matched, expected=expected)
    if waits or matched == 0:
        return state, _result(scope, state, start=start, waits=waits, n=_labels(scope, counts))
    pane = (start - begun) // layout.outcome_pane_ms + 1
    weights = pane_weights(local % _WEEK_MS, layout.outcome_pane_ms)
    tick = _tick(scope, state, counts, weights=weights, pane=pane)
    state, value, better = tick.state, tick.value, tick.better
    own = scope.limit if not isinstance(scope.plan, Adaptive) else tick.limit
    inside = state.member
    if isinstance(scope.plan, Adaptive):
        found = np.flatnonzero(value >= own)
    else:
        listed, _ = budget.alarms(
            np.where(inside, 0.0, value), prior=scope.prior, budget=scope.budget, discovered=int(inside.sum())
        )
        found = np.concatenate((listed, np.flatnonzero(inside & (value >= scope.budget))))
    state, clear = _observe(scope, state, tick, layout.clear_for)
    alarms, absorbed = [], []
    reason = _absorbing(scope, state, start)
    for m in found.tolist():
        evidence = _evidence(scope, state, m, pane=pane, value=float(value[m]), limit=float(own[m]))
        view, kind = scope.monitors[m]
        alarm = Alarm(view, FEATURE[kind], evidence, Reason.ABOVE_LIMIT, start, renewed=bool(inside[m]))
        if reason is None:
            alarms.append(alarm)
            state = _join(scope, state, m, tick, pane=pane)
        else:
            absorbed.append(Absorbed(alarm, reason))
    state = _again(scope, state, found)
    state, cleared = _clear(scope, state, clear, alarmed=set(found.tolist()), start=start)
    status = np.where(value <= _OK_BELOW * own, np.int8(OK), np.int8(UNDECIDED))
    status = np.where((tick.n > 0) & (not scope.reference.provisional), status, np.int8(UNDECIDED))
    status = np.where(state.member, np.int8(DRIFT), status)
    return state, OutcomeResult(
        start=start,
        end=start + layout.outcome_pane_ms,
        status=status.astype(np.int8),
        value=value,
        limit=np.where(state.member & (not isinstance(scope.plan, Adaptive)), scope.budget, own),
        n=tick.n,
        notes=tuple("fewer errors than in the reference" if one else "" for one in better.tolist()),
        alarms=tuple(alarms),
        absorbed=tuple(absorbed),
        cleared=cleared,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Tick:
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


def _tick(scope: OutcomeScope, state: OutcomeState, counts: Ints, *, weights: Floats, pane: int) -> _Tick:
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
        by_score = labels_by_score(scope.table, counts[scope.map_views])
        logit_shift = weights @ scope.map_profile
        mixed, value[k:] = calibration.tick(
            scope.calibrated, state.calibration, counts=by_score, shift=logit_shift, pane=pane
        )
        n[k:] = by_score.sum(axis=(1, 2))
        state = state._replace(calibration=mixed)
        for m in np.flatnonzero(state.bet >= 0).tolist():
            shift[m], weight[m] = _along(scope, m - k, int(state.bet[m]), by_score[m - k], float(logit_shift[m - k]))
    return _Tick(state=state, value=value, limit=limit, n=n, better=better, shift=shift, weight=weight, base=base)


def _along(scope: OutcomeScope, i: int, bet: int, counts: Ints, profile: float) -> tuple[float, float]:
    """How far a pane's labels have moved along a bet, in its size: Σd(y − g), Σd²g(1 − g)."""
    plan = scope.calibrated
    assert plan is not None
    table = i if len(plan.maps) > 1 else 0
    a, b = calibration.BETS[bet]
    rows, ones = counts.sum(axis=1)[: plan.maps[table].rows.size], counts[: plan.maps[table].rows.size, 1]
    x, kept = plan.x[table, : rows.size], plan.weight[table, : rows.size] > 0
    g = expit(plan.logit[table, : rows.size] + profile)
    d = (a + (b - 1.0) * x) * kept
    return float((d * (ones - rows * g)).sum()), float((d * d * rows * g * (1 - g)).sum())


def _observe(
    scope: OutcomeScope, state: OutcomeState, tick: _Tick, clear_for: int
) -> tuple[OutcomeState, dict[int, bool]]:
    at = state.watches.direction
    watches, clear = resolve.observe(
        state.watches, shift=tick.shift[at], n=tick.weight[at], deff=_deff(scope)[at], clear_for=clear_for
    )
    return state._replace(watches=watches), dict(zip(at.tolist(), clear.tolist(), strict=True))


def _deff(scope: OutcomeScope) -> Floats:
    of_losses = scope.plan.deff if scope.plan is not None else np.zeros(0)
    if scope.calibrated is None:
        return np.asarray(of_losses)
    shared = scope.calibrated.shared_deff
    return np.concatenate((of_losses, np.broadcast_to(shared, (scope.calibrated.monitors,))))


def _join(scope: OutcomeScope, state: OutcomeState, m: int, tick: _Tick, *, pane: int) -> OutcomeState:
    """A monitor becomes a member, and what it found is watched."""
    k, restart = scope.loss_views.size, np.array([m])
    base, bet, member = state.base.copy(), state.bet.copy(), state.member.copy()
    if member[m]:
        nothing = np.zeros(0, np.int64)
        return state._replace(
            watches=resolve.watch(state.watches, directions=nothing, sizes=np.zeros(0), restart=restart)
        )
    base[m], member[m] = tick.base[m], True
    if m >= k:
        assert state.calibration is not None
        bet[m] = int(np.argmax(state.calibration.r[:, m - k]))
        size = 1.0
    elif isinstance(scope.plan, Losses):
        assert isinstance(state.losses, Mixture)
        found = losses.finding(scope.plan, state.losses, side=WORSE, monitor=m, pane=pane)
        rate = float(scope.plan.rate[m])
        size = max(found.size, float(scope.plan.tolerance[WORSE, m])) / math.sqrt(max(rate * (1 - rate), 1e-9))
    else:
        assert isinstance(scope.plan, Adaptive)
        assert isinstance(state.losses, History)
        looked = adaptive.look(scope.plan, state.losses)
        gap = float(looked.newer[WORSE, m] - looked.older[WORSE, m])
        size = max(gap, losses.LEAST_TOLERANCE) / math.sqrt(max(float(base[m] * (1 - base[m])), 1e-4))
    watches = resolve.watch(
        state.watches, directions=np.array([m]), sizes=np.array([size]), restart=np.zeros(0, np.int64)
    )
    return state._replace(base=base, bet=bet, member=member, watches=watches)


def _again(scope: OutcomeScope, state: OutcomeState, found: Ints) -> OutcomeState:
    """Charts that alarmed begin anew."""
    if not found.size:
        return state
    k = scope.loss_views.size
    again = np.zeros(len(scope.monitors), dtype=bool)
    again[found] = True
    if isinstance(state.losses, Mixture):
        sides = np.stack([again[:k], np.zeros(k, dtype=bool)])
        state = state._replace(losses=losses.reset(state.losses, sides))
    elif state.losses is not None:
        state = state._replace(losses=adaptive.reset(state.losses, again[:k]))
    if state.calibration is not None:
        state = state._replace(calibration=calibration.reset(state.calibration, again[k:]))
    return state


def _clear(
    scope: OutcomeScope, state: OutcomeState, clear: dict[int, bool], *, alarmed: set[int], start: int
) -> tuple[OutcomeState, tuple[Cleared, ...]]:
    well = [m for m, calm in clear.items() if calm and m not in alarmed]
    if not well:
        return state, ()
    member, bet = state.member.copy(), state.bet.copy()
    member[well], bet[well] = False, -1
    until = state.cooldown_until
    if not member.any():
        until = start + (1 + scope.layout.cooldown_panes) * scope.layout.outcome_pane_ms
    watches = resolve.drop(state.watches, np.array(well, dtype=np.int64))
    cleared = tuple(
        Cleared(scope.monitors[m][0], FEATURE[scope.monitors[m][1]], Reason.BELOW_CLEAR_LIMIT) for m in well
    )
    return state._replace(member=member, bet=bet, watches=watches, cooldown_until=until), cleared


def _absorbing(scope: OutcomeScope, state: OutcomeState, start: int) -> Reason | None:
    if scope.reference.provisional and not scope.layout.page_provisional:
        return Reason.PROVISIONAL
    return Reason.IN_COOLDOWN if not state.member.any() and start < state.cooldown_until else None


def _covered(scope: OutcomeScope, state: OutcomeState, *, matched: int, expected: int) -> tuple[OutcomeState, str]:
    """Whether a pane's labels are in, as they usually are by now; the habit learns from every pane."""
    if expected <= 0:
        return state, ""
    share = min(max(matched / expected, 0.0), 1.0)
    habit = state.habit
    if math.isnan(habit):
        return state._replace(habit=share) if matched > 0 else state, ""
    error = math.sqrt(max(habit * (1.0 - habit), 1e-4) / expected)
    lacking = share < COVERED * habit and share < habit - 3.0 * error
    learning = min(1.0, scope.layout.outcome_pane_ms / HABIT_MS)
    state = state._replace(habit=habit + learning * (share - habit))
    if not lacking:
        return state, ""
    return state, (
        f"labels of {share:.0%} of {expected} predictions are in, usually {habit:.0%}: charts leave this pane out"
    )


def _evidence(scope: OutcomeScope, state: OutcomeState, m: int, *, pane: int, value: float, limit: float) -> Evidence:
    view, kind = scope.monitors[m]
    k, pane_ms = scope.loss_views.size, scope.layout.outcome_pane_ms

    def begin(number: int) -> int:
        return state.begun + (max(number, 1) - 1) * pane_ms

    if kind == "calibration":
        assert scope.calibrated is not None
        assert state.calibration is not None
        found = calibration_evidence(scope.calibrated, state.calibration, monitor=m - k, begin=begin)
    elif isinstance(scope.plan, Losses):
        assert isinstance(state.losses, Mixture)
        found = loss_evidence(scope.plan, state.losses, monitor=m, pane=pane, begin=begin)
    else:
        assert isinstance(scope.plan, Adaptive)
        assert isinstance(state.losses, History)
        found = adaptive_evidence(scope.plan, state.losses, monitor=m, pane=pane, begin=begin)
    if scope.table.spec.kind == "regression" and kind == "losses":
        found = _noted(found, "a loss of 1 is an error of four sd of the predictions or more")
    return msgspec.structs.replace(found, feature=NAMES[kind], view=scope.views[view], value=value, limit=limit)


def _noted(evidence: Evidence, more: str) -> Evidence:
    """Evidence with a further note."""
    return msgspec.structs.replace(evidence, note="; ".join(note for note in (evidence.note, more) if note))


def _labels(scope: OutcomeScope, counts: Ints) -> Ints:
    return np.array([counts[view, scope.table.n] for view, _ in scope.monitors], dtype=np.int64)


def _result(scope: OutcomeScope, state: OutcomeState, *, start: int, waits: str, n: Ints) -> OutcomeResult:
    size = len(scope.monitors)
    return OutcomeResult(
        start=start,
        end=start + scope.layout.outcome_pane_ms,
        status=np.where(state.member, np.int8(DRIFT), np.int8(UNDECIDED)),
        value=np.zeros(size),
        limit=scope.limit,
        n=n,
        waits=waits,
        notes=("",) * size,
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


__all__ = [
    "OutcomeResult",
    "OutcomeScope",
    "OutcomeState",
    "build_outcome_scope",
    "outcome_share",
    "update",
]
