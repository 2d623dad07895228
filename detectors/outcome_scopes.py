"""The charts of a model's outcomes: is it wrong more often, do its scores still mean what they meant (DETECTION 3, 4).

A monitor is a view and a kind, `losses` or `calibration`; of several classes there is one more for each class, whose
probability against the rest is watched for the whole model where rows carry it. They share a fixed part of the model's
budget, as if each feature of the model weighed one, and each of the kinds and all classes together two; a scope of
features gets the rest, so that the two together open no more incidents than the budget says. The clock is the outcome
pane: A counts in panes of its length.

Each outcome pane is taken once, at its maturity, and only when its labels are in: where the coverage has fallen below
nine tenths of its habit, and by more than chance, the labels that lack may all be of one class, and a chart would fire
on that. Such a pane is left out and said to be. The habit forgets in a week, so that a lasting change becomes it.

Without outcomes in the reference there is the adaptive chart of losses, which knows no dependence, and no calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors import budget, resolve
from detectors.charts import adaptive, calibration, losses
from detectors.charts.adaptive import Adaptive, History
from detectors.charts.losses import WORSE, Losses
from detectors.charts.mixture import Mixture
from detectors.outcome_findings import adaptive_evidence, calibration_evidence, loss_evidence
from detectors.outcome_frames import FEATURE, OutcomeScope, build_outcome_scope, outcome_share
from detectors.outcome_states import OutcomeState
from detectors.outcome_ticks import Tick
from detectors.outcome_ticks import tick as ticked
from detectors.outcomes import LARGEST_ERROR
from detectors.performance import expected_of
from detectors.results import DRIFT, OK, UNDECIDED, Absorbed, Alarm, Cleared
from detectors.seasonality import pane_weights
from schemas.alerts import Evidence, Reason

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Coverage below so much of its habit, and by three standard errors, leaves a pane out.
COVERED = 0.9
HABIT_MS = 7 * 86_400_000
_OK_BELOW = 0.1
_WEEK_MS = 7 * 86_400_000


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


def update(
    scope: OutcomeScope, state: OutcomeState, *, start: int, local: int, counts: Ints
) -> tuple[OutcomeState, OutcomeResult]:
    """Take in one mature outcome pane. start: ms; local: the same on the clock of the reference's profile; counts:
    (views, width), in the order of `scope.views`.
    """
    layout = scope.layout
    begun = start if state.begun < 0 else state.begun
    state = state._replace(begun=begun)
    matched, expected = int(counts[0, scope.table.n]), expected_of(scope.table, counts[0])
    state, waits = _covered(scope, state, matched=matched, expected=expected)
    if waits or matched == 0:
        return state, _result(scope, state, start=start, waits=waits, n=_labels(scope, counts))
    pane = (start - begun) // layout.outcome_pane_ms + 1
    weights = pane_weights(local % _WEEK_MS, layout.outcome_pane_ms)
    tick = ticked(scope, state, counts, weights=weights, pane=pane)
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
        alarm = Alarm(*scope.monitor_of(m), evidence, Reason.ABOVE_LIMIT, start, renewed=bool(inside[m]))
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


def _observe(
    scope: OutcomeScope, state: OutcomeState, tick: Tick, clear_for: int
) -> tuple[OutcomeState, dict[int, bool]]:
    at = state.watches.direction
    watches, clear = resolve.observe(
        state.watches, shift=tick.shift[at], n=tick.weight[at], deff=scope.deff[at], clear_for=clear_for
    )
    return state._replace(watches=watches), dict(zip(at.tolist(), clear.tolist(), strict=True))


def _join(scope: OutcomeScope, state: OutcomeState, m: int, tick: Tick, *, pane: int) -> OutcomeState:
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
    cleared = tuple(Cleared(*scope.monitor_of(m), Reason.BELOW_CLEAR_LIMIT) for m in well)
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
    monitor = scope.monitors[m]
    k, pane_ms = scope.loss_views.size, scope.layout.outcome_pane_ms

    def begin(number: int) -> int:
        return state.begun + (max(number, 1) - 1) * pane_ms

    if monitor.kind == "calibration":
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
    if scope.table.spec.kind == "regression" and monitor.kind == "losses":
        found = _in_own_unit(found, LARGEST_ERROR * scope.table.spec.scale)
    view = scope.views[monitor.view]
    return msgspec.structs.replace(found, feature=monitor.name, view=view, value=value, limit=limit)


def _in_own_unit(evidence: Evidence, whole: float) -> Evidence:
    """Evidence on losses as mean errors. whole: the error that is a loss of 1."""

    def own(loss: float | None) -> float | None:
        return None if loss is None else loss * whole

    note = f"errors beyond {whole:.4g} count as that"
    return msgspec.structs.replace(
        evidence,
        direction="larger",
        size=own(evidence.size),
        size_low=own(evidence.size_low),
        size_high=own(evidence.size_high),
        before=own(evidence.before),
        unit="value",
        note="; ".join(one for one in (evidence.note, note) if one),
    )


def _labels(scope: OutcomeScope, counts: Ints) -> Ints:
    return np.array([counts[one.view, scope.table.n] for one in scope.monitors], dtype=np.int64)


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


__all__ = [
    "FEATURE",
    "OutcomeResult",
    "OutcomeScope",
    "OutcomeState",
    "build_outcome_scope",
    "outcome_share",
    "update",
]
