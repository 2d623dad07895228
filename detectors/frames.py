"""The frozen tables of one model under one layout: what its monitors share, and the mean of every pane to come.

A scope is a value that a layout and a reference fix; what changes from pane to pane is `states.ScopeState`, and how is
`scopes`. The mean of a direction over a pane is its profile at the pane's local time; days that a calendar names take
another day's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import budget, rules, seasonality, states, watching
from detectors.charts import tempered
from detectors.charts.bets import Bets, build_bets
from detectors.monitors import DAY_MS, Monitors, learn, main_directions, visible_today
from detectors.odd_days import OFF, OddDays
from detectors.outcome_scopes import outcome_share
from detectors.references import Reference
from detectors.resolve import Watches
from detectors.states import ScopeState
from detectors.trailing import Trailing
from detectors.week import Own, Week
from schemas.errors import ConfigurationError
from schemas.layouts import Layout, View, Watch

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_WEEK_MS = 7 * DAY_MS
_QUARTER_MS = 900_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Scope:
    """Frozen tables of a model under one layout.

    features: the monitored ones, then others that a rule names; `Alarm.feature` is an index into it.
    notes (views × monitored,): what a reader must know of a monitor, "" for nothing. budget: A in panes; prior (M,):
    the monitors' shares v; paging (M,): may alarm. main, upward: see `main_directions`; main_deff (M,).
    limit (M,): A/v. silence (168,): longest normal silence in ms by hour of the week. odd: the layout's calendar.
    provisional: why it may not page, "" when it may. own: what the stream's own first week taught. bounds: least and
    largest value of each direction, (D,) twice. offset (D,): what today's means stand off the profile, of a layout that
    compares with other days. derived: the scope that a lesson makes of this one, kept.
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
    odd: OddDays
    provisional: str
    own: Own | None
    bounds: tuple[Floats, Floats]
    offset: Floats | None = None
    watched: tuple[watching.Watched, ...] = ()
    series: tuple[watching.Watched, ...] = ()
    derived: dict[bytes, Scope] = field(default_factory=dict, repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of all monitors, views outermost."""
        return self.monitors.notes

    @property
    def learns(self) -> bool:
        """It learns season and dependence from its own first week, as its reference has no times."""
        return self.own is None and self.reference.end <= self.reference.start and self.bets.monitors > 0

    def taught(self, own: Own | None) -> Scope:
        """The scope with what its own first week taught; itself without that."""
        if own is None or own is self.own:
            return self
        found = self.derived.get(own.raw)
        if found is None:
            self.derived.clear()
            found = self.derived[own.raw] = build_scope(self.reference, self.layout, own)
        return found

    def trailing(self) -> Trailing | None:
        """Sums of days, none yet, of a layout that compares with them."""
        if not self.layout.compare_days:
            return None
        return Trailing.start(monitors=self.bets.monitors, directions=int(self.bets.direction_monitor.size))

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
            week=Week.start(self.bets, pane_ms=self.layout.pane_ms) if self.learns else None,
            own=self.own,
            trailing=self.trailing(),
        )
        return with_visible(self, state)

    def mu(self, start: int) -> Floats:
        """The profile's mean over the pane that starts at `start` ms, in multiples of 2**-20. (directions,)."""
        local, pane_ms = self.local(start), self.layout.pane_ms
        hours, weights = self._odd_weights(start) or _profile_weights(local % _WEEK_MS, pane_ms)
        rows = self.bets.profile[hours]
        found = weights[0] * rows[0]
        for weight, row in zip(weights[1:], rows[1:], strict=True):
            found = found + weight * row
        if self.offset is not None:
            found = found + self.offset
        if self.offset is not None or self.own is not None:
            # A season about another mean may leave what a mean of phi can be, and a bet its domain.
            found = np.clip(found, *self.bounds)
        return np.asarray(np.rint(np.ldexp(found, 20)) * 2.0**-20)

    def day(self, start: int) -> int:
        """Local day of a pane in the layout's zone, days since 1970."""
        return int(seasonality.local_ms(np.array([start]), timezone=self.layout.timezone)[0]) // DAY_MS

    def local(self, start: int) -> int:
        """Local time, ms, on the clock of the reference's profile."""
        offset = _offset(
            start // _QUARTER_MS,
            timezone=self.layout.timezone,
            # What the stream's own week taught stands on the stream's own clock.
            reference_timezone=self.reference.timezone if self.own is None else self.layout.timezone,
            middle=self.reference.middle,
        )
        return start + offset

    def hours(self, starts: Ints) -> Ints:
        """Hour of the week of the profile's clock in which panes start, a run from the first on; odd days moved."""
        local = starts - starts[0] + self.local(int(starts[0]))
        if self.odd:
            dates = seasonality.local_ms(starts, timezone=self.layout.timezone)
            local = local + self.odd.moved(dates) - dates
        return seasonality.hour_of_week(local)

    def off(self, starts: Ints) -> npt.NDArray[np.bool_]:
        """Panes on days off, by their middle: nothing is judged in them. (n,)."""
        if OFF not in self.odd.days.values():
            return np.zeros(starts.size, dtype=bool)
        return self.odd.off(seasonality.local_ms(starts + self.layout.pane_ms // 2, timezone=self.layout.timezone))

    def odd_words(self, start: int, end: int) -> list[str]:
        """What a reader must know of the days in [start, end) ms."""
        if not self.odd:
            return []
        begin, last = seasonality.local_ms(np.array([start, end - 1]), timezone=self.layout.timezone).tolist()
        return self.odd.in_words(begin, last + 1)

    def _odd_weights(self, start: int) -> tuple[Ints, tuple[float, ...]] | None:
        """Weights of the profile's hours over a pane that touches an odd day; None for all others."""
        if not self.odd:
            return None
        pane_ms = self.layout.pane_ms
        dates = int(seasonality.local_ms(np.array([start]), timezone=self.layout.timezone)[0])
        if not self.odd.near(dates, dates + pane_ms):
            return None
        middles = seasonality.pane_middles(dates, pane_ms)
        return _filled(seasonality.weights_at(self.odd.moved(middles, clock=self.local(start) - dates)))


def build_scope(reference: Reference, layout: Layout, own: Own | None = None) -> Scope:
    """Tables of a layout; cache the result, it costs milliseconds per hundred monitors.

    own: what the stream's first week taught, where the reference has no times.

    `ConfigurationError` when a monitored feature is not in the reference, or the views do not begin with the model.
    """
    if not layout.views or layout.views[0] != View():
        raise ConfigurationError("the first view must be the whole model", path=f"{layout.model}.views")
    known = {spec.name for spec in reference.specs}
    unknown = [name for name in layout.monitored if name not in known]
    if unknown:
        raise ConfigurationError(f"the reference has no feature {unknown[0]!r}", path=f"{layout.model}.monitored")
    monitors = learn(reference, layout, own)
    provisional = "" if own is not None else reference.provisional
    whole, parts = len(layout.monitored), (len(layout.views) - 1) * len(layout.monitored)
    segmented = bool(parts or layout.segments)
    weights = [layout.weights.get(name, 1.0) for name in layout.monitored]
    of_views = weights * (len(layout.views) - 1)
    prior = budget.priors(weights, of_views, monitors=layout.monitors, segmented=segmented)
    # Charts of outcomes, where there are any, have their own part of it.
    panes = layout.budget_panes / (1.0 - outcome_share(reference, layout))
    bets = build_bets(
        monitors.learned,
        tolerance=layout.tolerance,
        strict=layout.strict,
        budget=panes,
        prior=prior,
        struck=whole * len({view.column for view in layout.views}),
        cap=not layout.batch_gap_ms,
    )
    main, upward = main_directions(bets, monitors.learned)
    named = [*(rule.feature for rule in layout.expect), *(limit.feature for limit in layout.watch)]
    named += [one.feature for one in layout.series]
    rated = [name for name in named if name in known and name not in layout.monitored]
    features = (*layout.monitored, *dict.fromkeys(rated))
    silence = rules.silence_limits(reference.gaps, days=reference.days, rows=reference.n)
    silence = np.maximum(silence, reference.silences if reference.silences.size else 0.0)
    return Scope(
        layout=layout,
        reference=reference,
        views=layout.views,
        features=features,
        monitored=layout.monitored,
        monitors=monitors,
        bets=bets,
        budget=panes,
        prior=prior,
        paging=(np.diff(bets.bet_start) > 0) & (not provisional or layout.page_provisional),
        main=main,
        upward=upward,
        main_deff=bets.deff[np.maximum(main, 0)] if bets.deff.size else np.ones(main.size),
        limit=panes / prior,
        expected=rules.expectations(
            layout.expect, specs=reference.specs, slices=reference.table.features, features=features
        ),
        silence=silence,
        blocks=states.blocks_of(bets),
        watched=watching.watched(layout.watch, reference=reference, features=features),
        series=watching.watched(
            [Watch(feature=one.feature, statistic=one.statistic, above=0.0) for one in layout.series],
            reference=reference,
            features=features,
        ),
        odd=OddDays(layout.calendar),
        provisional=provisional,
        own=own,
        bounds=_bounds(monitors),
    )


def with_visible(scope: Scope, state: ScopeState) -> ScopeState:
    """The state with the smallest visible change of its typical day."""
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


def _bounds(monitors: Monitors) -> tuple[Floats, Floats]:
    phis = [one.phi for one in monitors.learned]
    least = np.concatenate([phi.min(axis=0, initial=0.0) for phi in phis] or [np.zeros(0)])
    return least, np.concatenate([phi.max(axis=0, initial=0.0) for phi in phis] or [np.zeros(0)])


@lru_cache(maxsize=8192)
def _profile_weights(local: int, pane_ms: int) -> tuple[Ints, tuple[float, ...]]:
    return _filled(seasonality.pane_weights(local, pane_ms))


def _filled(weights: Floats) -> tuple[Ints, tuple[float, ...]]:
    hours = np.flatnonzero(weights)
    return hours, tuple(weights[hours].tolist())


@lru_cache(maxsize=8192)
def _offset(quarter: int, *, timezone: str, reference_timezone: str, middle: int) -> int:
    at = np.array([quarter * _QUARTER_MS], dtype=np.int64)
    local = seasonality.reference_local_ms(at, timezone=timezone, reference_timezone=reference_timezone, middle=middle)
    return int(local[0] - at[0])
