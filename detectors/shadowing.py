"""The shadow chart: a reference replayed through its own monitors, each day as if it had not been learned from.

The profile of a day is fitted without that day (sums less that day's); the design effect without the fourteenth of the
reference that holds it. Bins and directions stay: a fortieth of the rows moves them by less than their rounding shows.
The charts, the shared budget and the incident are the real ones (`scopes.update`), so the count is what a user would
have been paged. Spans that cleaning left out are left out; silence and `expect` are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.design_effect import block_moments, deff_at, tempering
from detectors.learning import Calendar, day_sums, direction_sums, residuals_about
from detectors.references import FeatureReference, Reference
from detectors.scopes import Scope, build_scope, update
from detectors.seasonality import fit_without_each_day
from detectors.shadow import Shadow, ShadowFeature, span
from schemas.layouts import Layout, View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: The design effect is learned without the part of the reference that holds the day, one of at most so many.
PARTS = 14
#: The last so many panes are replayed: 56 days of five minutes, some seconds.
MOST_PANES = 16_384
#: What is tried where the budget breaks; the first of a kind that mends it is named.
TOLERANCES, LONGER = (1.5, 2.0, 3.0), (3, 12)
_DATES = 8


class Past(NamedTuple):
    """Counts of a reference by base block: table (B, W), the columns of each feature in it, where the blocks stand."""

    table: npt.NDArray[Any]
    columns: dict[str, slice]
    times: Calendar


class _Replayed(NamedTuple):
    incidents: int
    rules: int
    alarms: dict[str, list[int]]
    span_ms: int


class _Days(NamedTuple):
    """Directions' means by day left out (D, 168, k), and what tempers them by part left out (P, k)."""

    profile: Floats
    temper: Floats


def shadow_of(reference: Reference, layout: Layout, past: Past) -> Shadow:
    """Replay `past` under a layout's pane, tolerance and budget. The pane is at least the base block.

    The whole model's view alone is replayed, with its share of the budget, over the last `MOST_PANES` panes.
    """
    layout = msgspec.structs.replace(
        layout,
        pane_ms=max(layout.pane_ms, past.times.base_ms),
        timezone=reference.timezone,
        views=(View(),),
        expect=(),
        page_provisional=True,
    )
    found = _replay(reference, layout, past)
    shadow = Shadow(
        pane_ms=layout.pane_ms,
        tolerance=layout.tolerance,
        strict=layout.strict,
        false_alarms=layout.false_alarms,
        budget_ms=layout.budget_ms,
        monitors=layout.monitors,
        span_ms=found.span_ms,
        incidents=found.incidents,
        rules=found.rules,
        features=_features(found, past.times),
    )
    if not shadow.breaks:
        return shadow
    return msgspec.structs.replace(shadow, cures=_cures(reference, layout, past, shadow))


def _replay(reference: Reference, layout: Layout, past: Past) -> _Replayed:
    times = past.times
    pane = (times.first + np.arange(times.blocks)) * times.base_ms // layout.pane_ms
    starts = np.flatnonzero(np.diff(pane, prepend=pane[0] - 1))
    ends = np.append(starts[1:], times.blocks)
    of_model = reference.views[View()].features
    days = [
        _days(of_model[name], past.table[:, past.columns[name]], times, starts, layout) for name in layout.monitored
    ]
    scope = build_scope(reference, layout)
    judges = _judges(scope, days, times)
    gone = {name: _left_out(of_model[name], times) for name in layout.monitored}
    state = scope.start()
    incidents = rules = seen = 0
    alarms: dict[str, list[int]] = {}
    width, places = reference.table.width, reference.table.features
    first = max(0, starts.size - MOST_PANES)
    for at, (begin, end) in enumerate(zip(starts[first:].tolist(), ends[first:].tolist(), strict=True), start=first):
        whole = past.table[begin:end].sum(axis=0, dtype=np.int64)
        counts = np.zeros((1, width), dtype=np.int64)
        for name in layout.monitored:
            if not gone[name][begin:end].any():
                counts[0, places[name]] = whole[past.columns[name]]
                counts[0, 0] = max(counts[0, 0], counts[0, places[name]].sum())
        if not counts[0, 0]:
            continue
        seen += 1
        judge = judges[int(times.day[(begin + end - 1) // 2])]
        state, result = update(judge, state, start=int(pane[starts[at]]) * layout.pane_ms, counts=counts)
        said = [*result.alarms, *(one.alarm for one in result.absorbed)]
        for alarm in said:
            if alarm.evidence.detector != "distribution":
                rules += not alarm.renewed
            elif not alarm.renewed:
                alarms.setdefault(alarm.evidence.feature, []).append(int(times.day[begin]))
        # What a hard rule opens is none of the budget's.
        incidents += result.opened and any(alarm.evidence.detector == "distribution" for alarm in result.alarms)
    return _Replayed(incidents, rules, alarms, int(ends[-1] - starts[first]) * times.base_ms if seen else 0)


def _days(feature: FeatureReference, blocks: npt.NDArray[Any], times: Calendar, starts: Ints, layout: Layout) -> _Days:
    """What one feature's chart would have known on each day. starts: first block of each pane."""
    along = feature.directions
    kept = ~_left_out(feature, times)
    sums, rows = direction_sums(blocks, along, kept)
    by_day, rows_by_day = day_sums(sums, rows, times)
    without = fit_without_each_day(by_day, rows_by_day, times.weekdays)
    residuals_about(sums, rows, without, times)
    by_pane, rows_by_pane = np.add.reduceat(sums, starts, axis=0), np.add.reduceat(rows, starts)
    days = times.weekdays.size
    part = times.day[starts] * min(PARTS, days) // days
    temper = []
    for left in range(min(PARTS, days)):
        here = part != left
        scales = block_moments(by_pane * here[:, None], rows_by_pane * here)
        deff = deff_at(scales.lengths * layout.pane_ms, scales.v, layout.pane_ms)
        temper.append(tempering(along, deff))
    return _Days(without, np.stack(temper))


def _judges(scope: Scope, days: Sequence[_Days], times: Calendar) -> list[Scope]:
    """The scope as it would have been on each day."""
    bets, count = scope.bets, times.weekdays.size
    judges = []
    for day in range(count):
        part = day * min(PARTS, count) // count
        profile = np.concatenate([one.profile[day] for one in days], axis=1)
        temper = np.concatenate([one.temper[part] for one in days])
        on = np.asarray(np.rint(np.ldexp(profile, 20)) * 2.0**-20)
        excess = np.maximum(temper, 1.0)[bets.bet_direction] - 1.0
        judges.append(replace(scope, bets=replace(bets, profile=on, excess=excess)))
    return judges


def _left_out(feature: FeatureReference, times: Calendar) -> npt.NDArray[np.bool_]:
    """Blocks that cleaning left out. (B,)."""
    gone = np.zeros(times.blocks, dtype=np.bool_)
    for begin, end in feature.excluded:
        gone[max(0, begin // times.base_ms - times.first) : max(0, -(-end // times.base_ms) - times.first)] = True
    return gone


def _features(found: _Replayed, times: Calendar) -> tuple[ShadowFeature, ...]:
    most = sorted(found.alarms.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(ShadowFeature(feature=feature, alarms=len(days), dates=_dates(days, times)) for feature, days in most)


def _dates(days: Sequence[int], times: Calendar) -> tuple[str, ...]:
    local = [np.datetime64(int(times.local_days[day]), "D") for day in sorted(set(days))[:_DATES]]
    return tuple(str(date) for date in local)


def _cures(reference: Reference, layout: Layout, past: Past, shadow: Shadow) -> tuple[str, ...]:
    """What mends it, each kind tried from the mildest on; the features that alarmed alone, at the same share."""
    broken = tuple(one.feature for one in shadow.features)
    wanted = tuple(name for name in layout.monitored if name in broken)
    monitors = 2 * len(layout.monitored) if layout.segments else layout.monitors
    few = msgspec.structs.replace(layout, monitored=wanted, segments=(), monitors=monitors)

    def mends(**changed: Any) -> bool:
        tried = _replay(reference, msgspec.structs.replace(few, **changed), past)
        return not msgspec.structs.replace(shadow, incidents=tried.incidents).breaks

    cures = []
    dates = sorted({date for one in shadow.features for date in one.dates})
    # An odd day also spoils the profile that the same day a week away is judged by.
    if len(dates) <= max(1, past.times.weekdays.size // 7):
        cures.append(
            f"all on {', '.join(dates)}: `--exclude` an odd day; give one to come another's profile (`calendar:`)"
        )
    if not layout.strict and mends(strict=True):
        cures.append("`strict: true` would keep the budget")
    found = next((by for by in TOLERANCES if mends(tolerance=layout.tolerance * by)), None)
    if found is not None:
        cures.append(f"`tolerance: {layout.tolerance * found:g}` would keep the budget")
    longer = next((by for by in LONGER if mends(pane_ms=layout.pane_ms * by)), None)
    if longer is not None:
        cures.append(f"a pane of {span(layout.pane_ms * longer)} would keep the budget")
    if not cures:
        names = ", ".join(broken[:4])
        cures.append(f"nothing that was tried helps: is {names} meant to be stable? `ignore` it, or a longer reference")
    return tuple(cures)
