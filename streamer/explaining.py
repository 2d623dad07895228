"""The arithmetic of one verdict: a table through the cores up to one pane, and then that pane step by step.

Why a replay: evidence is carried from pane to pane, so what R was before the pane is history. The charts' state is
taken from a run of the cores that `backtest` runs; the last step is then done in the open.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.charts import tempered
from detectors.incident import within
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
from streamer.core.wording import moved
from streamer.replaying import Replay
from streamer.spans import rfc3339
from streamer.tables import Part

Ints: TypeAlias = npt.NDArray[np.int64]

#: No pane is let go before it can be looked at.
_HOLD_MS = 100 * 366 * 86_400_000
#: Detector of an alarm that no rule has raised.
CHART = "distribution"
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


class Along(msgspec.Struct, frozen=True, kw_only=True):
    """One direction φ in one pane. total: S = Σ c·φ over the columns; moved: S − n·mean.

    design_effect, usual_n: what tempers it, and n̄ of the reference. shape: φ stands with each column; else it is the
    indicator of `inside` events, for which φ is `high`, and `low` for all others.
    """

    name: str
    shape: bool
    total: float
    mean: float
    moved: float
    design_effect: float
    usual_n: float
    inside: int = 0
    high: float = 0.0
    low: float = 0.0


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the feature: events of the reference and of the pane, and φ of each direction that is a shape."""

    name: str
    reference: int
    n: int
    phi: list[float]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict. value = Σ weight·after over the bets, to be compared with limit = budget / prior, all in panes.

    directions, columns: what the bets' gains are made of. doubt: factor of κ where the mean itself is an estimate.
    inside: it is in the open incident already, by its chart or a rule; then it leaves the list, and its limit is the
    budget itself. place, listed_limit: place of the monitor among all by v·w·R, and what would do there, `A/(k·v)`, as
    the budget is shared; members: of the open incident, before the pane. others: the strongest of the other monitors as
    shares of the budget. reference_n, design_effect, main: of the main direction. alarm, alarm_limit: how the pane's
    alarm is named, and what it had to reach, None by a rule; rules: hard rules that are broken in the pane, in words.
    day_n, day_panes: the day that the visible change is for. shape, size_now: how a member's change has gone on.
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
    main: str
    strict: bool
    doubt: float
    directions: list[Along]
    columns: list[Column]
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
    inside: bool
    others: dict[str, float]
    visible_change: float | None
    visible_panes: float
    day_n: float
    day_panes: float
    alarm: str
    alarm_limit: float | None
    rules: list[str]
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
    after, result = update(whole, state, start=start, counts=counts, extremes=extremes)
    features = len(scope.monitored)
    here = divmod(monitor, features)
    inside = within(scope, state)
    scaled = np.where(inside, 0.0, scope.prior * tick.value)
    order = np.argsort(-scaled, kind="stable")
    place = int(np.flatnonzero(order == monitor)[0]) + 1
    members = int(state.member.sum())
    alarms = [*result.alarms, *(absorbed.alarm for absorbed in result.absorbed)]
    of_it = [alarm.evidence for alarm in alarms if (alarm.view, alarm.feature) == here]
    by_chart = next((evidence for evidence in of_it if evidence.detector == CHART), None)
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
        main=learned.names[int(scope.main[monitor]) - first] if scope.main[monitor] >= 0 else "",
        strict=layout.strict,
        doubt=1.0 if doubt is None else float(doubt[monitor]),
        directions=_directions(scope, flat, mu, monitor=monitor),
        columns=_columns(scope, flat, monitor=monitor),
        bets=found,
        value_before=float(tempered.evidence_of(bets, state.charts.r)[monitor]),
        value=float(tick.value[monitor]),
        limit=scope.budget if inside[monitor] else float(scope.limit[monitor]),
        budget=scope.budget,
        prior=float(scope.prior[monitor]),
        monitors=layout.monitors,
        place=place,
        listed_limit=scope.budget / ((members + place) * float(scope.prior[monitor])),
        members=members,
        inside=bool(inside[monitor]),
        others={
            f"{scope.monitored[m % features]} ({scope.views[m // features]})": float(scaled[m] / scope.budget)
            for m in order[: OTHERS + 1].tolist()
            if m != monitor and scaled[m] > 0
        },
        visible_change=visible if np.isfinite(visible) else None,
        visible_panes=float(result.visible_panes[here]),
        day_n=float(after.typical_n[here[0]]),
        day_panes=float(after.typical_panes[here[0]]),
        alarm=by_chart.direction if by_chart else next((evidence.direction for evidence in of_it), ""),
        alarm_limit=None if by_chart is None else by_chart.limit,
        rules=[moved(evidence) for evidence in of_it if evidence.detector != CHART],
        note=scope.notes[monitor],
        shape="" if look is None else look.shape,
        size_now=None if look is None else look.size_now,
    )


def _directions(scope: Scope, flat: Ints, mu: npt.NDArray[np.float64], *, monitor: int) -> list[Along]:
    bets, learned = scope.bets, scope.monitors.learned[monitor]
    first = int(bets.direction_start[monitor])
    here = flat[learned.first : learned.first + learned.phi.shape[0]]
    found = []
    for j, name in enumerate(learned.names):
        phi, shape = learned.phi[:, j], learned.kinds[j] == "shape"
        high = float(phi.max(initial=0.0))
        found.append(
            Along(
                name=name,
                shape=shape,
                total=float(here @ phi),
                mean=float(mu[first + j]),
                moved=float(here @ phi) - int(here.sum()) * float(mu[first + j]),
                design_effect=float(bets.direction_excess[first + j]) + 1.0,
                usual_n=float(bets.direction_n_bar[first + j]),
                inside=0 if shape else int(here[phi == high].sum()),
                high=0.0 if shape else high,
                low=0.0 if shape else float(phi.min(initial=0.0)),
            )
        )
    return found


def _columns(scope: Scope, flat: Ints, *, monitor: int) -> list[Column]:
    learned, spec = scope.monitors.learned[monitor], scope.monitors.specs[monitor]
    of_shapes = learned.phi[:, [kind == "shape" for kind in learned.kinds]]
    return [
        Column(
            name=name, reference=int(scope.monitors.counts[monitor][i]), n=int(flat[learned.first + i]),
            phi=of_shapes[i].tolist(),
        )
        for i, name in enumerate(names_of(spec))
    ]  # fmt: skip


def names_of(spec: FeatureSpec) -> tuple[str, ...]:
    """Columns as people would say them: of a number its intervals.

    >>> names_of(FeatureSpec(name="age", kind="numeric", edges=(30.0, 45.0), low=18.0, high=90.0))[:4]
    ('18 to 30', '30 to 45', '45 to 90', 'below')
    """
    if spec.kind != "numeric":
        return spec.columns
    ends = (spec.low, *spec.edges, spec.high)
    return (*(f"{low:.6g} to {high:.6g}" for low, high in pairwise(ends)), *spec.columns[spec.value_bins :])
