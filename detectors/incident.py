"""The open incident of a scope: who alarms, who joins, who clears (DETECTION 5 and 6).

An incident opens by an alarm of the budget's list, unless the model may not page (provisional) or the cooldown of the
last incident lasts, or by a hard rule, which always may. While it is open it absorbs: every further alarm adds a
member. Members leave the list and alarm again on their own chart at `w·R >= A`. A monitor is a member by its chart, by
rules, or by both, and clears when all of them have: a chart as `resolve` says, a rule when it was met in `clear_for`
panes with events in a row, silence likewise. The incident resolves with its last member; for `cooldown_panes` after
it, alarms of the list are absorbed and their charts begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import budget, evidence, resolve, rules, shapes, watching
from detectors.alarm_evidence import ROWS, SILENCE, of_chart, of_rule, rare_kind, rule_words
from detectors.charts import tempered
from detectors.results import THE_MODEL, Absorbed, Alarm, Cleared, Look
from detectors.states import RuleKey, ScopeState
from schemas.alerts import Reason

if TYPE_CHECKING:
    from detectors.scopes import Scope

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Directions of one member that are watched at most; the first ones tell most.
WATCHED = 4
_HOUR_MS = 3_600_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision:
    """What a pane did to the incident."""

    alarms: tuple[Alarm, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    cleared: tuple[Cleared, ...] = ()
    opened: bool = False
    resolved: bool = False
    looks: tuple[Look, ...] = ()


def within(scope: Scope, state: ScopeState) -> Bools:
    """Monitors that are in the open incident, by chart or by rule. (M,)."""
    if not state.met:
        return state.member
    inside = state.member.copy()
    features = len(scope.monitored)
    here = [view * features + feature for view, feature, _ in state.met if 0 <= feature < features]
    inside[here] = True
    return inside


def judge_rules(
    scope: Scope,
    state: ScopeState,
    ruled: rules.Shares,
    *,
    start: int,
    counts: Ints,
    extremes: Ints | None,
) -> tuple[ScopeState, dict[RuleKey, Alarm], set[RuleKey]]:
    """Hard rules on a pane with events: those that are violated, with their alarms, and those that are not met."""
    features = len(scope.monitored)
    hard: dict[RuleKey, Alarm] = {}
    bad: set[RuleKey] = set()
    for rule, m in np.argwhere(ruled.violated).tolist() if ruled.violated.any() else ():
        view, feature = divmod(m, features)
        key = (view, feature, rules.NAMES[rule])
        n = int(ruled.events[rule, m])
        share = float(ruled.found[rule, m]) / n
        hard[key] = of_rule(scope, key, rare_kind(scope, rule, m, counts), size=share, n=n, start=start)
        bad.add(key)
    for view, feature, name in state.met:
        judged = name in rules.NAMES and 0 <= feature < features
        if judged and ruled.bad_now[rules.NAMES.index(name), view * features + feature]:
            bad.add((view, feature, name))
    expected = []
    for one, carried in zip(scope.expected, state.expected, strict=True):
        of_model = None if extremes is None else extremes[0]
        found, left = rules.judge(one, carried, flat=counts[0], n=int(counts[0, 0]), extremes=of_model)
        expected.append(left)
        if found is not None:
            key = (0, one.feature, one.rule)
            words = rule_words(one, found)
            before = one.limit if one.rule == ROWS else None
            hard.setdefault(key, of_rule(scope, key, words, size=found.size, n=found.n, start=start, before=before))
            bad.add(key)
    for limit in scope.watched:
        key = (0, limit.feature, limit.statistic)
        value = watching.judge(limit, counts[0])
        if value is None:
            bad |= {key} & state.met.keys()  # too few events to say that it is well again
        elif value[0] > limit.above:
            words = f"{limit.statistic} above {limit.above:g}"
            hard[key] = of_rule(scope, key, words, size=value[0], n=value[1], start=start)
            bad.add(key)
    return state._replace(expected=tuple(expected)), hard, bad


def decide(
    scope: Scope,
    state: ScopeState,
    tick: tempered.Tick,
    *,
    hard: dict[RuleKey, Alarm],
    bad: set[RuleKey],
    start: int,
    pane: int,
) -> tuple[ScopeState, Decision]:
    """What a pane with events does to the incident. hard: rules violated; bad: rules not met; pane: its number."""
    layout = scope.layout
    state, alarms, opened = _take_rules(scope, state, hard)
    inside = within(scope, state)
    renewed = np.flatnonzero(inside & (tick.value >= scope.budget))
    listed, limits = budget.alarms(
        np.where(inside, 0.0, tick.value), prior=scope.prior, budget=scope.budget, discovered=int(state.member.sum())
    )
    watches, clear = _observe(scope, state, tick)
    state, looks = _look(scope, state._replace(watches=watches), tick, start=start)
    absorbed: list[Absorbed] = []
    if listed.size or renewed.size:
        found = [
            of_chart(scope, state, tick, int(m), limit=float(limit), start=start, pane=pane)
            for m, limit in zip(
                [*listed.tolist(), *renewed.tolist()], [*limits.tolist(), *[scope.budget] * renewed.size], strict=True
            )
        ]
        reason = _absorbing(scope, state, start)
        both = np.concatenate([listed, renewed])
        state = state._replace(charts=tempered.reset(scope.bets, state.charts, both, pane=pane))
        if reason is not None:
            absorbed = [Absorbed(alarm, reason) for _, alarm in found]
        else:
            opened = opened or not state.open
            state = _join(scope, state, [finding for finding, _ in found], both, start=start)
            alarms += [
                alarm._replace(renewed=bool(inside[m])) for (_, alarm), m in zip(found, both.tolist(), strict=True)
            ]
            clear[np.isin(_monitors_of(scope, watches), both)] = False
    cleared: tuple[Cleared, ...] = ()
    if state.open:
        alarmed = [alarm[:2] for alarm in alarms]
        state, cleared = _clear(scope, state, watches, clear, bad=bad, n=tick.n, alarmed=alarmed)
    resolved = state.open and not state.met and not state.member.any()
    if resolved:
        until = start + (1 + layout.cooldown_panes) * layout.pane_ms
        state = state._replace(open=False, opened_at=-1, cooldown_until=until)
    decision = Decision(
        alarms=tuple(alarms), absorbed=tuple(absorbed), cleared=cleared, opened=opened, resolved=resolved, looks=looks
    )
    return state, decision


def empty(scope: Scope, state: ScopeState, *, start: int, panes: int) -> tuple[ScopeState, Decision]:
    """What a run of panes without events does: silence, too few rows, and rules that are not met once more."""
    hard: dict[RuleKey, Alarm] = {}
    pane_ms = scope.layout.pane_ms
    for rule in scope.expected:
        if rule.rule == ROWS and rule.limit > 0:
            key = (0, THE_MODEL, ROWS)
            hard[key] = of_rule(scope, key, "rows down", size=0.0, n=0, start=start, before=rule.limit)
    after = _silent_after(scope, state, start=start, panes=panes)
    if after is not None:
        pane = start + after * pane_ms
        since = state.last_rows if state.last_rows >= 0 else state.begun
        key = (0, THE_MODEL, SILENCE)
        normal = float(scope.silence[scope.hours(np.array([pane]))[0]])
        size = float(pane + pane_ms - since)
        hard[key] = of_rule(scope, key, SILENCE, size=size, n=0, start=pane, onset=since, before=normal)
    state, alarms, opened = _take_rules(scope, state, hard)
    return state, Decision(alarms=tuple(alarms), opened=opened)


def quiet(scope: Scope, state: ScopeState, *, start: int, panes: int) -> int:
    """How many of `panes` empty panes raise nothing."""
    rows = any(rule.rule == ROWS and rule.limit > 0 for rule in scope.expected)
    if rows and (0, THE_MODEL, ROWS) not in state.met:
        return 0
    if (0, THE_MODEL, SILENCE) in state.met:
        return panes
    after = _silent_after(scope, state, start=start, panes=panes)
    return panes if after is None else after


def _silent_after(scope: Scope, state: ScopeState, *, start: int, panes: int) -> int | None:
    """Index of the first of `panes` empty panes at whose end the silence is longer than is normal; None if none is."""
    finite = scope.silence[np.isfinite(scope.silence)]
    if finite.size == 0:
        return None
    pane_ms = scope.layout.pane_ms
    since = state.last_rows if state.last_rows >= 0 else state.begun
    # Past the largest limit every hour is too long, so no more panes than that need a look.
    most = int(finite.max()) + 7 * 24 * _HOUR_MS + 2 * pane_ms - (start - since)
    looked = min(panes, max(1, -(-most // pane_ms)))
    index = np.arange(looked, dtype=np.int64)
    starts = start + index * pane_ms
    silent = starts + pane_ms - since
    hours = scope.hours(starts)
    over = (silent >= 2 * pane_ms) & (silent > scope.silence[hours])
    return int(np.argmax(over)) if over.any() else None


def _take_rules(scope: Scope, state: ScopeState, hard: dict[RuleKey, Alarm]) -> tuple[ScopeState, list[Alarm], bool]:
    """Rules that are violated join, or stay, with nothing met; new ones alarm."""
    if not hard:
        return state, [], False
    features = len(scope.monitored)
    inside = {(key[0], key[1]) for key in state.met}
    inside |= {divmod(m, features) for m in np.flatnonzero(state.member).tolist()} if features else set()
    alarms: list[Alarm] = []
    for key, alarm in hard.items():
        if key not in state.met:
            alarms.append(alarm._replace(renewed=key[:2] in inside))
            inside.add(key[:2])
    first = min((alarm.pane for alarm in alarms), default=0)
    opened = not state.open
    state = state._replace(
        met={**state.met, **dict.fromkeys(hard, 0)},
        open=True,
        opened_at=first if opened else state.opened_at,
    )
    return state, alarms, opened


def _observe(scope: Scope, state: ScopeState, tick: tempered.Tick) -> tuple[resolve.Watches, Bools]:
    direction = state.watches.direction
    return resolve.observe(
        state.watches,
        shift=tick.shift[direction],
        n=tick.n[scope.bets.direction_monitor[direction]].astype(np.float64),
        deff=scope.bets.deff[direction] * resolve.spread_at_half(state.watches.size, scope.bets.q[direction]),
        clear_for=scope.layout.clear_for,
    )


def _look(scope: Scope, state: ScopeState, tick: tempered.Tick, *, start: int) -> tuple[ScopeState, tuple[Look, ...]]:
    """How the members' changes have gone on."""
    trails, bets = state.trails, scope.bets
    if trails.direction.size == 0:
        return state, ()
    owners = bets.direction_monitor[trails.direction]
    trails, shape, last = shapes.observe(
        trails,
        shift=tick.shift[trails.direction],
        n=tick.n[owners].astype(np.float64),
        deff=bets.deff[trails.direction] * resolve.spread_at_half(trails.first[:, 0], bets.q[trails.direction]),
        clear_for=scope.layout.clear_for,
    )
    mu = scope.mu(start)
    looks = []
    for at in np.flatnonzero(shape).tolist():
        m, direction = int(owners[at]), int(trails.direction[at])
        learned, local = scope.monitors.learned[m], direction - int(bets.direction_start[m])
        moved = float(last[at])
        if learned.kinds[local] != "shape":
            moved = evidence.share(learned, local, mu=float(mu[direction]), moved=moved)
        elif learned.names[local] == "location" and np.isfinite(moved):
            [moved] = evidence.latent(scope.monitors.specs[m], scope.monitors.counts[m], learned.phi[:, local], [moved])
        looks.append(Look(*divmod(m, len(scope.monitored)), shapes.SHAPES[shape[at]], moved))
    return state._replace(trails=trails), tuple(looks)


def _monitors_of(scope: Scope, watches: resolve.Watches) -> Ints:
    return scope.bets.direction_monitor[watches.direction]


def _absorbing(scope: Scope, state: ScopeState, start: int) -> Reason | None:
    """Why alarms of charts open or join nothing now."""
    if scope.provisional and not scope.layout.page_provisional:
        return Reason.PROVISIONAL
    return Reason.IN_COOLDOWN if not state.open and start < state.cooldown_until else None


def _join(
    scope: Scope, state: ScopeState, found: Iterable[evidence.Finding], monitors: Ints, *, start: int
) -> ScopeState:
    """Monitors become members; the winning and the named direction of each are watched."""
    owner = scope.bets.direction_monitor
    watches = state.watches
    sizes: dict[int, float] = {}
    new_members: dict[int, tuple[float, float]] = {}
    for finding in found:
        watched = int(np.sum(owner[watches.direction] == owner[finding.winner]))
        pair = {finding.winner: finding.winner_moved, finding.direction: finding.long_moved}
        if not state.member[owner[finding.winner]]:
            new_members[finding.direction] = (finding.long_moved, finding.long_n)
        new = [(direction, size) for direction, size in pair.items() if direction not in watches.direction]
        sizes |= dict(new[: max(0, WATCHED - watched)])
    directions = np.array(list(sizes), dtype=np.int64)
    least, moved = scope.bets.epsilon[directions], np.abs(np.array(list(sizes.values()), dtype=float))
    if scope.layout.compare_days:
        # What it is compared with comes after it: half way there the rest would alarm anew, so all but the tolerance.
        least, moved = 2.0 * least, moved / 2.0
    member = state.member.copy()
    member[monitors] = True
    return state._replace(
        open=True,
        opened_at=state.opened_at if state.open else start,
        member=member,
        watches=resolve.watch(
            watches,
            directions=directions,
            sizes=np.maximum(moved, least),
            restart=watches.direction[np.isin(owner[watches.direction], monitors)],
        ),
        trails=_followed(scope, state.trails, new_members),
    )


def _followed(scope: Scope, trails: shapes.Trails, new: dict[int, tuple[float, float]]) -> shapes.Trails:
    if not new:
        return trails
    directions = np.array(list(new), dtype=np.int64)
    return shapes.follow(
        trails, directions=directions, first=np.array(list(new.values())), tolerance=scope.bets.epsilon[directions]
    )


def _clear(
    scope: Scope,
    state: ScopeState,
    observed: resolve.Watches,
    clear: Bools,
    *,
    bad: set[RuleKey],
    n: Ints,
    alarmed: list[tuple[int, int]],
) -> tuple[ScopeState, tuple[Cleared, ...]]:
    """Charts and rules that are well again; a monitor clears with the last of them."""
    features = len(scope.monitored)
    before = {(view, feature): Reason.RULE_MET_AGAIN for view, feature, _ in state.met}
    by_chart = {divmod(m, features) for m in np.flatnonzero(state.member).tolist()} if features else set()
    met: dict[RuleKey, int] = {}
    for key, panes in state.met.items():
        view, feature, _ = key
        m = view * features + feature
        here = feature == THE_MODEL or feature >= features or bool(n[m] > 0)
        count = 0 if key in bad else panes + here
        if count < scope.layout.clear_for or key in bad:
            met[key] = count
    owner = scope.bets.direction_monitor[observed.direction]
    unclear = np.bincount(owner, weights=~clear, minlength=scope.bets.monitors) > 0
    watched = np.bincount(owner, minlength=scope.bets.monitors) > 0
    well = state.member & watched & ~unclear
    well[[view * features + feature for view, feature in alarmed if 0 <= feature < features]] = False
    member = state.member & ~well
    gone = np.flatnonzero(np.isin(scope.bets.direction_monitor, np.flatnonzero(well)))
    kept = ~np.isin(state.trails.direction, gone)
    state = state._replace(
        met=met, member=member, watches=resolve.drop(state.watches, gone), trails=shapes.drop(state.trails, kept)
    )
    after = {(view, feature) for view, feature, _ in met}
    after |= {divmod(m, features) for m in np.flatnonzero(member).tolist()} if features else set()
    whole = sorted((set(before) | by_chart) - after)
    cleared = tuple(
        Cleared(*place, Reason.BELOW_CLEAR_LIMIT if place in by_chart else before[place]) for place in whole
    )
    return state, cleared
