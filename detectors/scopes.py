"""A scope is one model: all its monitors, their shared budget and their one open incident.

`build_scope` makes the tables of a layout once; `update` takes in a closed pane and answers with verdicts, alarms and
the incident's edges. Monitors are (view, feature) pairs, views outermost; all of them tick in a few numpy expressions.

Why the incident is kept here: an incident absorbs the alarms of its model until it resolves, and its members leave the
list of the budget, so what alarms next depends on who is a member. Turning results into records is the caller's work.

A pane without events moves no chart, clears nothing and counts for no window; it can only raise silence and
`rows_at_least`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import budget, incident, rules, seasonality, states
from detectors.charts import tempered
from detectors.charts.bets import Bets, build_bets
from detectors.monitors import DAY_MS, Monitors, learn, main_directions, visible_today
from detectors.references import Reference
from detectors.resolve import Watches
from detectors.results import (
    DRIFT,
    OK,
    STATUSES,
    THE_MODEL,
    UNDECIDED,
    Absorbed,
    Alarm,
    Cleared,
    Look,
    ScopeResult,
)
from detectors.states import ScopeState, save_state
from schemas.errors import ConfigurationError
from schemas.layouts import Layout, View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

__all__ = [
    "STATUSES",
    "THE_MODEL",
    "Absorbed",
    "Alarm",
    "Cleared",
    "Look",
    "Scope",
    "ScopeResult",
    "ScopeState",
    "build_scope",
    "load_state",
    "quiet_panes",
    "save_state",
    "skip_empty",
    "update",
]

#: `ok` is said up to this share of the limit: there the odds of a change are about one in ten.
_OK_BELOW = 0.1
_WEEK_MS = 7 * DAY_MS
_QUARTER_MS = 900_000
_ZERO = np.zeros(1, np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scope:
    """Frozen tables of a model under one layout.

    features: the monitored ones, then others that a rule names; `Alarm.feature` is an index into it.
    notes (views × monitored,): what a reader must know of a monitor, "" for nothing. budget: A in panes; prior (M,):
    the monitors' shares v; paging (M,): may alarm. main, upward: see `main_directions`; main_deff (M,).
    limit (M,): A/v. silence (168,): longest normal silence in ms by hour of the week.
    """

    layout: Layout
    reference: Reference
    views: tuple[View, ...]
    features: tuple[str, ...]
    monitored: tuple[str, ...]
    monitors: Monitors
    bets: Bets
    budget: float
    prior: Floats
    paging: npt.NDArray[np.bool_]
    main: Ints
    upward: Ints
    main_deff: Floats
    limit: Floats
    expected: tuple[rules.Expected, ...]
    silence: Floats
    blocks: tuple[states.Block, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of all monitors, views outermost."""
        return self.monitors.notes

    def start(self) -> ScopeState:
        """State before the first pane."""
        size, views = self.bets.monitors, len(self.views)
        state = ScopeState(
            charts=tempered.Charts.start(self.bets.size),
            member=np.zeros(size, dtype=bool),
            watches=Watches.none(),
            carried=np.zeros((2, 2, size), np.int64),
            blocks=self.blocks,
            day_n=np.zeros(views, np.int64),
            day_panes=np.zeros(views, np.int64),
            typical_n=self.monitors.typical_n,
            typical_panes=self.monitors.typical_panes,
            visible=np.zeros(size),
            visible_panes=np.zeros(size),
            met={},
            expected=((0, 0),) * len(self.expected),
        )
        return _with_visible(self, state)

    def mu(self, start: int) -> Floats:
        """The profile's mean over the pane that starts at `start` ms, in multiples of 2**-20. (directions,)."""
        hours, weights = _profile_weights(self.local(start) % _WEEK_MS, self.layout.pane_ms)
        rows = self.bets.profile[hours]
        found = weights[0] * rows[0]
        for weight, row in zip(weights[1:], rows[1:], strict=True):
            found = found + weight * row
        return np.asarray(np.rint(np.ldexp(found, 20)) * 2.0**-20)

    def local(self, start: int) -> int:
        """Local time, ms, on the clock of the reference's profile."""
        offset = _offset(
            start // _QUARTER_MS,
            timezone=self.layout.timezone,
            reference_timezone=self.reference.timezone,
            middle=self.reference.middle,
        )
        return start + offset


def build_scope(reference: Reference, layout: Layout) -> Scope:
    """Tables of a layout; cache the result, it costs milliseconds per hundred monitors.

    `ConfigurationError` when a monitored feature is not in the reference, or the views do not begin with the model.
    """
    if not layout.views or layout.views[0] != View():
        raise ConfigurationError("the first view must be the whole model", path=f"{layout.model}.views")
    known = {spec.name for spec in reference.specs}
    unknown = [name for name in layout.monitored if name not in known]
    if unknown:
        raise ConfigurationError(f"the reference has no feature {unknown[0]!r}", path=f"{layout.model}.monitored")
    monitors = learn(reference, layout)
    whole, parts = len(layout.monitored), (len(layout.views) - 1) * len(layout.monitored)
    segmented = bool(parts or layout.segments)
    of_model, of_part = budget.shares(whole=whole, parts=parts, monitors=layout.monitors, segmented=segmented)
    prior = np.concatenate([np.full(whole, of_model), np.full(parts, of_part)])
    bets = build_bets(
        monitors.learned,
        tolerance=layout.tolerance,
        strict=layout.strict,
        budget=layout.budget_panes,
        prior=prior,
        struck=whole * len({view.column for view in layout.views}),
    )
    main, upward = main_directions(bets, monitors.learned)
    rated = [e.feature for e in layout.expect if e.feature in known and e.feature not in layout.monitored]
    features = (*layout.monitored, *dict.fromkeys(rated))
    silence = rules.silence_limits(reference.gaps, days=reference.days, rows=reference.n)
    return Scope(
        layout=layout,
        reference=reference,
        views=layout.views,
        features=features,
        monitored=layout.monitored,
        monitors=monitors,
        bets=bets,
        budget=layout.budget_panes,
        prior=prior,
        paging=(np.diff(bets.bet_start) > 0) & (not reference.provisional or layout.page_provisional),
        main=main,
        upward=upward,
        main_deff=bets.deff[np.maximum(main, 0)] if bets.deff.size else np.ones(main.size),
        limit=layout.budget_panes / prior,
        expected=rules.expectations(
            layout.expect, specs=reference.specs, slices=reference.table.features, features=features
        ),
        silence=silence,
        blocks=states.blocks_of(bets),
    )


def update(
    scope: Scope, state: ScopeState, *, start: int, counts: Ints, extremes: Ints | None = None
) -> tuple[ScopeState, ScopeResult]:
    """Take in one closed pane.

    start: ms. counts: (views, table width) int64, in the order of `scope.views`. extremes: (views, numeric features, 2)
    least and largest fixed-point values of the pane (see `Delta.extremes`), for `expect: range`; without them a range
    is judged by the bins alone.
    """
    if not counts[0, 0]:
        return skip_empty(scope, state, start=start, panes=1)
    layout = scope.layout
    state = _today(scope, state, start=start, rows=counts[:, 0])
    end, pane = start + layout.pane_ms, _number(scope, state, start)
    flat = np.concatenate((counts.ravel(), _ZERO))
    charts, tick = tempered.tick(scope.bets, state.charts, flat=flat, mu=scope.mu(start), pane=pane)
    ruled = rules.judge_shares(scope.monitors.rules, state.carried, flat=flat, n=tick.n)
    state = state._replace(charts=charts, carried=ruled.carried, last_rows=end)
    state, hard, bad = incident.judge_rules(scope, state, ruled, start=start, counts=counts, extremes=extremes)
    state, verdict = incident.decide(scope, state, tick, hard=hard, bad=bad, start=start, pane=pane)
    result = _result(scope, state, start=start, end=end, n=tick.n, value=tick.value, verdict=verdict)
    return state, result


def skip_empty(scope: Scope, state: ScopeState, *, start: int, panes: int) -> tuple[ScopeState, ScopeResult]:
    """Take in `panes` panes without events from `start` on, in closed form; equals `update` with zeros for each.

    All of them are taken; an alarm's `pane` says in which of them it rose (`quiet_panes` tells before).
    """
    if state.begun < 0:
        state = state._replace(begun=start)
    end = start + panes * scope.layout.pane_ms
    state, verdict = incident.empty(scope, state, start=start, panes=panes)
    value = tempered.evidence_of(scope.bets, state.charts.r)
    n = np.zeros(scope.bets.monitors, np.int64)
    return state, _result(scope, state, start=start, end=end, n=n, value=value, verdict=verdict)


def quiet_panes(scope: Scope, state: ScopeState, *, start: int, panes: int) -> int:
    """How many of the next `panes` empty panes change nothing: the one after them raises an alarm (silence, rows)."""
    if state.begun < 0:
        state = state._replace(begun=start)
    return incident.quiet(scope, state, start=start, panes=panes)


def load_state(scope: Scope, blocks: dict[str, bytes]) -> ScopeState:
    """State from all its blocks, to the bit; `FormatError` when of a newer format, damaged or of another layout."""
    return _with_visible(scope, states.load_state(scope.start(), blocks))


def _number(scope: Scope, state: ScopeState, start: int) -> int:
    """Number of a pane, 1 for the scope's first."""
    return (start - state.begun) // scope.layout.pane_ms + 1


def _today(scope: Scope, state: ScopeState, *, start: int, rows: Ints) -> ScopeState:
    """Count the day; when a whole one has passed, it is what the visible change is computed for."""
    length = max(DAY_MS, scope.layout.pane_ms)
    day, begun = start // length, start if state.begun < 0 else state.begun
    if day == state.day:
        return state._replace(day_n=state.day_n + rows, day_panes=state.day_panes + (rows > 0))
    whole = state.day >= 0 and begun <= state.day * length
    changed = state._replace(begun=begun, day=day, day_n=rows.astype(np.int64), day_panes=(rows > 0).astype(np.int64))
    if not whole:
        return changed
    typical_n, typical_panes = state.day_n.astype(float), state.day_panes.astype(float)
    return _with_visible(scope, changed._replace(typical_n=typical_n, typical_panes=typical_panes))


def _with_visible(scope: Scope, state: ScopeState) -> ScopeState:
    features = len(scope.monitored)
    visible, panes = visible_today(
        scope.bets,
        main=scope.main,
        upward=scope.upward,
        limit=scope.limit,
        n_day=np.repeat(state.typical_n, features),
        panes=np.repeat(state.typical_panes, features),
    )
    return state._replace(visible=visible, visible_panes=panes)


def _result(
    scope: Scope,
    state: ScopeState,
    *,
    start: int,
    end: int,
    n: Ints,
    value: Floats,
    verdict: incident.Decision,
) -> ScopeResult:
    shape = (len(scope.views), len(scope.monitored))
    limit = scope.limit
    calm = scope.paging & (n > 0) & np.isfinite(state.visible) & (value <= _OK_BELOW * limit)
    status = np.where(calm, np.int8(OK), np.int8(UNDECIDED))
    if state.open:
        within = incident.within(scope, state)
        limit = np.where(within, scope.budget, limit)
        status = np.where(within, np.int8(DRIFT), status)
    return ScopeResult(
        start=start,
        end=end,
        status=status.reshape(shape),
        value=value.reshape(shape),
        limit=limit.reshape(shape),
        n=n.reshape(shape),
        effective_n=(n / scope.main_deff).reshape(shape),
        visible_change=state.visible.reshape(shape),
        visible_panes=state.visible_panes.reshape(shape),
        alarms=verdict.alarms,
        absorbed=verdict.absorbed,
        cleared=verdict.cleared,
        opened=verdict.opened,
        resolved=verdict.resolved,
        looks=verdict.looks,
    )


@lru_cache(maxsize=8192)
def _profile_weights(local: int, pane_ms: int) -> tuple[Ints, tuple[float, ...]]:
    weights = seasonality.pane_weights(local, pane_ms)
    hours = np.flatnonzero(weights)
    return hours, tuple(weights[hours].tolist())


@lru_cache(maxsize=8192)
def _offset(quarter: int, *, timezone: str, reference_timezone: str, middle: int) -> int:
    at = np.array([quarter * _QUARTER_MS], dtype=np.int64)
    local = seasonality.reference_local_ms(at, timezone=timezone, reference_timezone=reference_timezone, middle=middle)
    return int(local[0] - at[0])
