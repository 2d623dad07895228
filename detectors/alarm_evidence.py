"""What an alarm says: the evidence of a chart, and of a hard rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import evidence, rules
from detectors.catalogue import STATISTICS
from detectors.charts import tempered
from detectors.results import Alarm
from detectors.states import RuleKey, ScopeState
from schemas.alerts import Evidence, Reason

if TYPE_CHECKING:
    from detectors.scopes import Scope

Ints: TypeAlias = npt.NDArray[np.int64]

SILENCE, ROWS = "silence", "rows"
_UNIT = {ROWS: "rows", SILENCE: "ms"}


def of_chart(
    scope: Scope, state: ScopeState, tick: tempered.Tick, m: int, *, limit: float, start: int, pane: int
) -> tuple[evidence.Finding, Alarm]:
    """Evidence of one chart's alarm, from the charts before they are set back."""
    view, feature = divmod(m, len(scope.monitored))
    pane_ms = scope.layout.pane_ms

    def begin(number: int) -> int:
        return state.begun + (number - 1) * pane_ms

    found = evidence.find(
        scope.bets,
        state.charts,
        scope.monitors.learned[m],
        monitor=m,
        pane=pane,
        profile=lambda number: scope.mu(begin(number)),
    )
    spec, counts = scope.monitors.specs[m], scope.monitors.counts[m]
    location = found.words.startswith("location")
    size, low, high = found.size, found.size_low, found.size_high
    if location:
        along = scope.monitors.learned[m].phi[:, found.direction - int(scope.bets.direction_start[m])]
        size, low, high = evidence.latent(spec, counts, along, [size, low, high])
    before, after = (evidence.medians(spec, counts, size) if location else None) or (found.before, None)
    alarm = Evidence(
        feature=scope.monitored[feature],
        detector="distribution",
        direction=found.words,
        view=scope.views[view],
        size=size,
        size_low=low,
        size_high=high,
        unit=found.unit,
        raw_size=evidence.raw_shift(spec, counts, size) if location else None,
        onset=begin(found.onset),
        onset_low=begin(found.onset_low),
        onset_high=begin(found.onset_high),
        n=found.n,
        effective_n=found.effective_n,
        value=float(tick.value[m]),
        limit=limit,
        before=before,
        after=after,
        note=scope.notes[m],
    )
    return found, Alarm(view, feature, alarm, Reason.ABOVE_LIMIT, start)


def of_rule(
    scope: Scope,
    key: RuleKey,
    words: str,
    *,
    size: float,
    n: int,
    start: int,
    onset: int | None = None,
    before: float | None = None,
) -> Alarm:
    """Evidence of a hard rule that is violated."""
    view, feature, rule = key
    found = Evidence(
        feature=scope.features[feature] if feature >= 0 else "",
        detector=rule,
        direction=words,
        view=scope.views[view],
        size=size,
        unit=STATISTICS[rule].unit if rule in STATISTICS else _UNIT.get(rule, "share"),
        onset=start if onset is None else onset,
        n=n,
        before=before,
    )
    return Alarm(view, feature, found, Reason.SILENCE if rule == SILENCE else Reason.HARD_RULE, start)


def rare_kind(scope: Scope, rule: int, m: int, counts: Ints) -> str:
    """`missing up`, `below up`, …: which of a default rule's columns holds most."""
    spec = scope.monitors.specs[m]
    names = [("missing", "non_finite"), ("below", "above") if spec.kind == "numeric" else ("unseen",)][rule]
    row = counts[m // len(scope.monitored)]
    first = scope.monitors.learned[m].first % counts.shape[1]
    found = {name: int(row[first + i]) for i, name in enumerate(spec.columns) if name in names and i >= spec.value_bins}
    return f"{max(found, key=lambda name: found[name])} up"


def rule_words(rule: rules.Expected, found: rules.Violation) -> str:
    if rule.rule == ROWS:
        return "rows down"
    if rule.rule == "range":
        return "below the range" if found.low else "outside the range"
    return "unseen up" if rule.rule == "levels" else "missing up"
