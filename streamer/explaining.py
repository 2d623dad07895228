"""The arithmetic of one verdict: a table through the cores up to one pane, and then that pane step by step.

Why a replay: evidence is carried from pane to pane, so what R was before the pane is history. The charts' state is
taken from a run of the cores that `backtest` runs; the last step is then done in the open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.charts import tempered
from detectors.references import Reference
from detectors.results import STATUSES
from detectors.scopes import Scope, ScopeState, compared, in_force, skip_empty, update
from schemas.errors import ConfigurationError
from schemas.layouts import Layout, View
from schemas.verdicts import Status
from streamer.applying import control_of
from streamer.backtesting import Crossings, pieces
from streamer.core.closing import Seen
from streamer.core.models import Model
from streamer.core.tallies import Tally
from streamer.replaying import Replay
from streamer.spans import rfc3339
from streamer.tables import Part

Ints: TypeAlias = npt.NDArray[np.int64]

#: No pane is let go before it can be looked at.
_HOLD_MS = 100 * 366 * 86_400_000
#: Other monitors that are named.
OTHERS = 5


class Bet(msgspec.Struct, frozen=True, kw_only=True):
    """One bet in one pane. `evidence = log gain / kappa`, at most `cap`; `after = (before + entered)·exp(evidence)`.

    moved: `S − n·mean`, in sd times events, of the direction; mean: the profile's; tolerance: ε of the direction;
    fraction: λ; weight: w, share: w·R after the pane.
    """

    direction: str
    up: bool
    fraction: float
    weight: float
    mean: float
    tolerance: float
    moved: float
    log_gain: float
    kappa: float
    cap: float | None
    evidence: float
    entered: float
    before: float
    after: float
    share: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict. value = Σ weight·after over the bets, to be compared with limit = budget / prior, all in panes.

    place, listed_limit: place of the monitor among all by v·w·R, and what would do there, `A/(k·v)`, as the budget is
    shared; members: of the open incident, before the pane. others: the strongest of the other monitors as shares of the
    budget. reference_n, design_effect: of the main direction. shape, size_now: how a member's change has gone on.
    """

    model: str
    view: str
    feature: str
    start: str
    end: str
    status: Status
    n: int
    effective_n: float
    reference: str
    reference_n: int
    design_effect: float
    bets: list[Bet]
    value_before: float
    value: float
    limit: float
    budget: float
    prior: float
    monitors: int
    place: int
    listed_limit: float
    members: int
    others: dict[str, float]
    visible_change: float | None
    visible_panes: float
    alarm: str
    note: str
    shape: str = ""
    size_now: float | None = None


def explain(
    parts: Iterable[Part], *, layout: Layout, reference: Reference, feature: str, at: int, view: View | None = None
) -> Explanation:
    """Explain the verdict on a feature in the pane that holds `at` (ms). `ConfigurationError`: no such pane or name."""
    view = view or View()
    if feature not in layout.monitored:
        raise ConfigurationError(f"--feature {feature}: not monitored; {', '.join(layout.monitored)} are")
    if view not in layout.views:
        raise ConfigurationError(f"--view {view}: not tested; {', '.join(map(str, layout.views))} are")
    layout = msgspec.structs.replace(layout, from_ms=0, partition=0, max_alert_age_ms=None, hold_ms=_HOLD_MS)
    start = at // layout.pane_ms * layout.pane_ms
    closed, state, model = _until(parts, layout, reference, start)
    held = None if model is None else model.held.get(start)
    if model is None or held is None or held.on_time is None:
        raise ConfigurationError(f"--at {rfc3339(at)}: the table has no events in the pane at {rfc3339(start)}")
    scope = held.form.scope
    state = scope.start() if state is None else state
    first = min(model.held) if closed is None else closed
    for earlier in range(first, start, layout.pane_ms):
        state = _taken(scope, state, model, earlier)
    scope = in_force(scope, state)
    counts, extremes = held.form.views_of(Tally.unpack(held.on_time))
    monitor = layout.views.index(view) * len(layout.monitored) + layout.monitored.index(feature)
    return _explained(scope, state, start=start, counts=counts, extremes=extremes, monitor=monitor)


def explain_seen(seen: Seen, *, start: int, feature: str = "", view: View | None = None) -> Explanation:
    """Explain the verdict in a pane that a worker's core has shown; without a feature, the strongest of the view."""
    scope, features = seen.form.scope, len(seen.form.scope.monitored)
    view = view or View()
    if feature and feature not in scope.monitored:
        raise ConfigurationError(f"--feature {feature}: not monitored; {', '.join(scope.monitored)} are")
    if view not in scope.views:
        raise ConfigurationError(f"--view {view}: not tested; {', '.join(map(str, scope.views))} are")
    first = scope.views.index(view) * features
    if feature:
        at = scope.monitored.index(feature)
    else:
        _, result = update(scope, seen.scope, start=start, counts=seen.counts, extremes=seen.extremes)
        at = int(np.argmax((result.value / result.limit)[scope.views.index(view)]))
    return _explained(scope, seen.scope, start=start, counts=seen.counts, extremes=seen.extremes, monitor=first + at)


def _until(
    parts: Iterable[Part], layout: Layout, reference: Reference, start: int
) -> tuple[int | None, ScopeState | None, Model | None]:
    """Feed the table until the pane at `start` is closed; what was closed, and the charts, before that feed."""
    replay = Replay(control_of({layout.model: layout}, {layout.model: reference}))
    crossings = Crossings(layout.pane_ms, layout.lateness_ms)
    closed: int | None = None
    state: ScopeState | None = None

    def reached() -> bool:
        nonlocal closed, state
        model = replay.model(layout.model)
        if model is None or model.closed is None:
            return False
        if model.closed > start:
            return True
        closed, state = model.closed, model.scope
        return False

    for piece in pieces(parts, crossings):
        replay.rows(piece.rows, layout.model, append_ts=piece.append_ts, ids=piece.ids, ahead=piece.ahead)
        if reached():
            return closed, state, replay.model(layout.model)
    replay.flush(layout.model, layout.kind)
    return closed, state, replay.model(layout.model)


def _taken(scope: Scope, state: ScopeState, model: Model, start: int) -> ScopeState:
    held = model.held.get(start)
    if held is None or held.on_time is None:
        return skip_empty(scope, state, start=start, panes=1)[0]
    counts, extremes = held.form.views_of(Tally.unpack(held.on_time))
    return update(scope, state, start=start, counts=counts, extremes=extremes)[0]


def _explained(
    scope: Scope, state: ScopeState, *, start: int, counts: Ints, extremes: Ints, monitor: int
) -> Explanation:
    flat = np.concatenate((counts.ravel(), np.zeros(1, np.int64)))
    whole, (scope, _, doubt) = scope, compared(scope, state, start=start, flat=flat)
    bets, layout, mu = scope.bets, scope.layout, scope.mu(start)
    begun = start if state.begun < 0 else state.begun
    pane = (start - begun) // layout.pane_ms + 1
    charts, tick = tempered.tick(bets, state.charts, flat=flat, mu=mu, pane=pane, doubt=doubt)
    run = np.arange(bets.bet_start[monitor], bets.bet_start[monitor + 1])
    steps = tempered.steps(bets, flat=flat, mu=mu, doubt=doubt)
    learned = scope.monitors.learned[monitor]
    first = int(bets.direction_start[monitor])
    found = [
        Bet(
            direction=learned.names[int(bets.bet_direction[b]) - first],
            up=bool(bets.sign[b] > 0),
            fraction=float(bets.fraction[b]),
            weight=float(bets.weight[b]),
            mean=float(mu[bets.bet_direction[b]]),
            tolerance=float(bets.tolerance[b]),
            moved=float(tick.shift[bets.bet_direction[b]]),
            log_gain=float(steps.gain[b]),
            kappa=float(steps.kappa[b]),
            cap=float(bets.cap[b]) if np.isfinite(bets.cap[b]) else None,
            evidence=float(steps.step[b]),
            entered=float(steps.entering[b]),
            before=float(state.charts.r[b]),
            after=float(charts.r[b]),
            share=float(bets.weight[b] * charts.r[b]),
        )
        for b in run.tolist()
    ]
    _, result = update(whole, state, start=start, counts=counts, extremes=extremes)
    features = len(scope.monitored)
    here = divmod(monitor, features)
    scaled = np.where(state.member, 0.0, scope.prior * tick.value)
    order = np.argsort(-scaled, kind="stable")
    place = int(np.flatnonzero(order == monitor)[0]) + 1
    members = int(state.member.sum())
    alarms = [*result.alarms, *(absorbed.alarm for absorbed in result.absorbed)]
    look = next((look for look in result.looks if (look.view, look.feature) == here), None)
    visible = float(result.visible_change[here])
    return Explanation(
        model=layout.model,
        view=str(scope.views[here[0]]),
        feature=scope.monitored[here[1]],
        start=rfc3339(start),
        end=rfc3339(start + layout.pane_ms),
        status=STATUSES[int(result.status[here])],
        n=int(tick.n[monitor]),
        effective_n=float(result.effective_n[here]),
        reference=scope.reference.id,
        reference_n=int(learned.n),
        design_effect=float(scope.main_deff[monitor]),
        bets=found,
        value_before=float(tempered.evidence_of(bets, state.charts.r)[monitor]),
        value=float(tick.value[monitor]),
        limit=float(result.limit[here]),
        budget=scope.budget,
        prior=float(scope.prior[monitor]),
        monitors=layout.monitors,
        place=place,
        listed_limit=scope.budget / ((members + place) * float(scope.prior[monitor])),
        members=members,
        others={
            f"{scope.monitored[m % features]} ({scope.views[m // features]})": float(scaled[m] / scope.budget)
            for m in order[: OTHERS + 1].tolist()
            if m != monitor and scaled[m] > 0
        },
        visible_change=visible if np.isfinite(visible) else None,
        visible_panes=float(result.visible_panes[here]),
        alarm=next((alarm.evidence.direction for alarm in alarms if (alarm.view, alarm.feature) == here), ""),
        note=scope.notes[monitor],
        shape="" if look is None else look.shape,
        size_now=None if look is None else look.size_now,
    )
