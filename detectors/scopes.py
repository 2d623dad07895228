"""A scope is one model: all its monitors, their shared budget and their one open incident.

`build_scope` makes the tables of a layout once; `update` takes in a closed pane and answers with verdicts, alarms and
the incident's edges. Monitors are (view, feature) pairs, views outermost; all of them tick in a few numpy expressions.

Why the incident is kept here: an incident absorbs the alarms of its model until it resolves, and its members leave the
list of the budget, so what alarms next depends on who is a member. Turning results into records is the caller's work.

A pane without events moves no chart, clears nothing and counts for no window; it can only raise silence and
`rows_at_least`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import incident, rules, states, week
from detectors.charts import tempered
from detectors.frames import Scope, build_scope, with_visible
from detectors.monitors import DAY_MS
from detectors.odd_days import OFF
from detectors.resolve import Watches, recent
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
from detectors.week import Week, load_own
from schemas.alerts import Reason

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
    "compared",
    "in_force",
    "load_state",
    "quiet_panes",
    "save_state",
    "skip_empty",
    "succeed",
    "update",
]

#: `ok` is said up to this share of the limit: there the odds of a change are about one in ten.
_OK_BELOW = 0.1
_ZERO = np.zeros(1, np.int64)


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
    layout, scope = scope.layout, in_force(scope, state)
    if scope.off(np.array([start]))[0]:
        return _day_off(scope, state, start=start, counts=counts)
    lesson = None
    if state.week is not None and state.week.over(start):
        scope, state, lesson = _learn(scope, state, start=start)
    state = _today(scope, state, start=start, rows=counts[:, 0])
    end, pane = start + layout.pane_ms, _number(scope, state, start)
    flat = np.concatenate((counts.ravel(), _ZERO))
    scope, state, doubt = compared(scope, state, start=start, flat=flat)
    charts, tick = tempered.tick(scope.bets, state.charts, flat=flat, mu=scope.mu(start), pane=pane, doubt=doubt)
    ruled = rules.judge_shares(scope.monitors.rules, state.carried, flat=flat, n=tick.n)
    state = state._replace(charts=charts, carried=ruled.carried, last_rows=end)
    state = _kept(scope, state, tick, start=start)
    watched = state.watches
    state, hard, bad = incident.judge_rules(scope, state, ruled, start=start, counts=counts, extremes=extremes)
    state, verdict = incident.decide(scope, state, tick, hard=hard, bad=bad, start=start, pane=pane)
    if scope.offset is not None:
        state, verdict = _followed(scope, state, verdict, watched)
    result = _result(scope, state, start=start, end=end, n=tick.n, value=tick.value, verdict=verdict)
    return state, result if lesson is None else lesson.before(result)


def skip_empty(scope: Scope, state: ScopeState, *, start: int, panes: int) -> tuple[ScopeState, ScopeResult]:
    """Take in `panes` panes without events from `start` on, in closed form; equals `update` with zeros for each.

    All of them are taken; an alarm's `pane` says in which of them it rose (`quiet_panes` tells before).
    """
    scope = in_force(scope, state)
    if state.begun < 0:
        state = state._replace(begun=start)
    end = start + panes * scope.layout.pane_ms
    alarms: list[Alarm] = []
    opened = False
    for first, count, off in _runs(scope, start, panes):
        if off:
            state = state._replace(last_rows=first + count * scope.layout.pane_ms)
            continue
        state, found = incident.empty(scope, state, start=first, panes=count)
        alarms += found.alarms
        opened = opened or found.opened
    verdict = incident.Decision(alarms=tuple(alarms), opened=opened)
    value = tempered.evidence_of(scope.bets, state.charts.r)
    n = np.zeros(scope.bets.monitors, np.int64)
    return state, _result(scope, state, start=start, end=end, n=n, value=value, verdict=verdict)


def quiet_panes(scope: Scope, state: ScopeState, *, start: int, panes: int) -> int:
    """How many of the next `panes` empty panes change nothing: the one after them raises an alarm (silence, rows)."""
    scope = in_force(scope, state)
    if state.begun < 0:
        state = state._replace(begun=start)
    quiet = 0
    for first, count, off in _runs(scope, start, panes):
        found = count if off else incident.quiet(scope, state, start=first, panes=count)
        quiet += found
        if found < count:
            break
        if off:
            state = state._replace(last_rows=first + count * scope.layout.pane_ms)
    return quiet


def load_state(scope: Scope, blocks: dict[str, bytes]) -> ScopeState:
    """State from all its blocks, to the bit; `FormatError` when of a newer format, damaged or of another layout."""
    scope = scope.taught(load_own(blocks))
    return with_visible(scope, states.load_state(scope.start(), blocks))


def in_force(scope: Scope, state: ScopeState) -> Scope:
    """The scope that judges: of one that has learned from its own first week, what that made of it."""
    return scope.taught(state.own)


def compared(scope: Scope, state: ScopeState, *, start: int, flat: Ints) -> tuple[Scope, ScopeState, Floats | None]:
    """The scope in force with the means that this pane is compared with, and the doubt (M,) about them.

    A layout that compares with its reference alone: the scope in force, no doubt.
    """
    scope, trailing, layout = in_force(scope, state), state.trailing, scope.layout
    if trailing is None or not scope.bets.monitors:
        return scope, state, None
    trailing = trailing.on(scope.day(start), days=layout.compare_days, lag=layout.compare_lag)
    moved = trailing.moved(scope.bets.direction_monitor, days=layout.compare_days, lag=layout.compare_lag)
    n = np.add.reduceat(flat, scope.bets.edges)[::2]
    return replace(scope, offset=moved.offset), state._replace(trailing=trailing), trailing.doubt(moved, n)


def _kept(scope: Scope, state: ScopeState, tick: tempered.Tick, *, start: int) -> ScopeState:
    """What is kept of a pane for the stream's own mean: sums about the reference's profile."""
    shift = tick.shift
    if scope.offset is not None and state.trailing is not None:
        profile = replace(scope, offset=None).mu(start)
        shift = shift + tick.n[scope.bets.direction_monitor] * (scope.mu(start) - profile)
        state = state._replace(trailing=state.trailing.add(n=tick.n, shift=shift))
    if state.week is not None:
        state = state._replace(week=state.week.add(start, rows=tick.n, shift=shift))
    return state


def _followed(
    scope: Scope, state: ScopeState, verdict: incident.Decision, before: Watches
) -> tuple[ScopeState, incident.Decision]:
    """Members that cleared because what they are compared with has come after them say so. before: their watches."""
    trailing, offset = state.trailing, scope.offset
    assert trailing is not None
    assert offset is not None
    owner = scope.bets.direction_monitor
    followed = {
        divmod(int(owner[direction]), len(scope.monitored))
        for direction, size, mean in zip(
            before.direction.tolist(), before.size.tolist(), recent(before).tolist(), strict=True
        )
        if trailing.followed(direction, size=size, mean=mean, offset=offset)
    }
    cleared = tuple(
        one._replace(reason=Reason.BECAME_REFERENCE)
        if one.reason is Reason.BELOW_CLEAR_LIMIT and (one.view, one.feature) in followed
        else one
        for one in verdict.cleared
    )
    state = state._replace(trailing=trailing.watching(state.watches.direction, offset))
    return state, replace(verdict, cleared=cleared)


def succeed(scope: Scope, *, older: Scope, state: ScopeState) -> ScopeState:
    """State of a scope whose layout comes after another's: charts begin anew, and what the stream has taught is kept.

    That is its own first week, whole or begun, and the sums of its last days, where both layouts count the same
    monitors by the same reference, pane and zone; else a new layout would make a model silent for a week.
    """
    fresh, now, before = scope.start(), scope.layout, older.layout
    same = ("reference", "pane_ms", "views", "monitored", "timezone")
    if any(getattr(now, name) != getattr(before, name) for name in same):
        return fresh
    if state.own is not None:
        fresh = scope.taught(state.own).start()
    elif state.week is not None:
        fresh = fresh._replace(week=state.week)
    if fresh.trailing is not None and state.trailing is not None:
        fresh = fresh._replace(trailing=replace(state.trailing, origins={}))
    return fresh


class _Lesson(NamedTuple):
    """What the end of a week did before the pane that follows it."""

    words: tuple[str, ...]
    cleared: tuple[Cleared, ...]
    resolved: bool

    def before(self, result: ScopeResult) -> ScopeResult:
        """The pane's result with it."""
        return replace(
            result,
            learned=self.words,
            cleared=(*self.cleared, *result.cleared),
            resolved=self.resolved or result.resolved,
        )


def _learn(scope: Scope, state: ScopeState, *, start: int) -> tuple[Scope, ScopeState, _Lesson]:
    """The first week is over: charts begin anew on what it taught, or the next week is tried.

    Members by their charts clear, as a provisional model may have paged; rules that are not met stay.
    """
    layout, ended = scope.layout, state.week
    assert ended is not None
    found = week.lesson(
        ended, scope.bets, scope.monitors.learned, scope.monitored,
        timezone=layout.timezone, tolerance=layout.tolerance,
    )  # fmt: skip
    if found.own is None:
        again = Week.start(scope.bets, pane_ms=layout.pane_ms)
        return scope, state._replace(week=again), _Lesson(found.words, (), resolved=False)
    taught = scope.taught(found.own)
    fresh = taught.start()
    ruled = {(view, feature) for view, feature, _ in state.met}
    members = [divmod(m, len(scope.monitored)) for m in np.flatnonzero(state.member).tolist()]
    cleared = tuple(Cleared(*place, Reason.LEARNED) for place in members if place not in ruled)
    resolved = state.open and not state.met
    if resolved:
        state = state._replace(open=False, opened_at=-1, cooldown_until=start + layout.cooldown_panes * layout.pane_ms)
    state = state._replace(
        charts=fresh.charts,
        member=fresh.member,
        watches=fresh.watches,
        trails=fresh.trails,
        blocks=fresh.blocks,
        begun=start,
        week=None,
        own=found.own,
        trailing=fresh.trailing,
    )
    return taught, with_visible(taught, state), _Lesson(found.words, cleared, resolved)


def _runs(scope: Scope, start: int, panes: int) -> list[tuple[int, int, bool]]:
    """Runs of empty panes that are of days off, or are not: (start of the first, how many, off)."""
    pane_ms = scope.layout.pane_ms
    if OFF not in scope.odd.days.values():
        return [(start, panes, False)]
    off = scope.off(start + np.arange(panes, dtype=np.int64) * pane_ms)
    cuts = [0, *(np.flatnonzero(np.diff(off)) + 1).tolist(), panes]
    return [(start + a * pane_ms, b - a, bool(off[a])) for a, b in pairwise(cuts)]


def _day_off(scope: Scope, state: ScopeState, *, start: int, counts: Ints) -> tuple[ScopeState, ScopeResult]:
    """A pane of a day off: shown, with its events, and nothing moves; silence is counted from its end."""
    end = start + scope.layout.pane_ms
    state = state._replace(begun=start if state.begun < 0 else state.begun, last_rows=end)
    flat = np.concatenate((counts.ravel(), _ZERO))
    n = np.add.reduceat(flat, scope.bets.edges)[::2] if scope.bets.edges.size else np.zeros(0, np.int64)
    value = tempered.evidence_of(scope.bets, state.charts.r)
    quiet = incident.Decision()
    return state, _result(scope, state, start=start, end=end, n=n, value=value, verdict=quiet, judged=False)


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
    return with_visible(scope, changed._replace(typical_n=typical_n, typical_panes=typical_panes))


def _result(
    scope: Scope,
    state: ScopeState,
    *,
    start: int,
    end: int,
    n: Ints,
    value: Floats,
    verdict: incident.Decision,
    judged: bool = True,
) -> ScopeResult:
    shape = (len(scope.views), len(scope.monitored))
    limit = scope.limit
    calm = judged & scope.paging & (n > 0) & np.isfinite(state.visible) & (value <= _OK_BELOW * limit)
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
        provisional=scope.provisional,
        notes=scope.notes,
    )
