"""What a scope says about one pane: verdict arrays, alarms, what cleared, and the incident's edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.alerts import Evidence, Reason
from schemas.verdicts import Status

Floats: TypeAlias = npt.NDArray[np.float64]

#: `ScopeResult.status` holds indices into this.
STATUSES = (Status.UNDECIDED, Status.OK, Status.DRIFT)
UNDECIDED, OK, DRIFT = range(3)
#: `Alarm.feature` of rules on the model itself: silence, too few rows.
THE_MODEL = -1


class Alarm(NamedTuple):
    """A monitor that alarmed.

    view: index into `Scope.views`; feature: index into `Scope.features`, `THE_MODEL` (−1) for the model itself.
    reason: `ABOVE_LIMIT`, `HARD_RULE` or `SILENCE`. pane: start (ms) of the pane in which it did; it differs from the
    result's start only when many empty panes were taken at once.
    renewed: it was a member of the open incident already: news for the audit, not a new alert.
    """

    view: int
    feature: int
    evidence: Evidence
    reason: Reason
    pane: int
    renewed: bool = False


class Cleared(NamedTuple):
    """A member of the incident that is well again; reason `BELOW_CLEAR_LIMIT` or `RULE_MET_AGAIN`."""

    view: int
    feature: int
    reason: Reason


class Look(NamedTuple):
    """How the change of a member has gone on since its first alarm.

    shape: `step`, `ramp` or `block` (see `shapes`). size_now: over the last panes, in the unit of its evidence's size.
    """

    view: int
    feature: int
    shape: str
    size_now: float


class Absorbed(NamedTuple):
    """An alarm that opens nothing, with the reason: `IN_COOLDOWN` or `PROVISIONAL`."""

    alarm: Alarm
    reason: Reason


@dataclass(frozen=True, eq=False, kw_only=True)
class ScopeResult:
    """Verdicts of one pane `[start, end)` ms, or of a run of empty ones. Arrays are (views, monitored features).

    status: index into `STATUSES`. `drift`: member of the open incident. `ok`: no evidence worth a word (value at most a
    tenth of the limit), events in this pane, and a change of `visible_change` would have shown within a day.
    `undecided`: everything else, and whatever may not page (a provisional reference, too few reference rows).
    value: Σ w·R in panes, before an alarm sets it back; limit: what it must reach to alarm alone, A/v, and A for a
    member. n: events; effective_n: n over the design effect. visible_change: in reference sd, nan when there is none
    within a day, and then visible_panes says how many panes at least it would take (0: unknown, or within a day).
    alarms: hard rules first, then the strongest. looks: of members that have been watched for long enough; of those
    that clear in this pane too. opened, resolved: the incident's edges. provisional, notes: why nothing may page, what
    a reader must know of each monitor, views outermost. learned: what the week that ended before this pane taught, or
    why it taught nothing (then `provisional` still says something).
    """

    start: int
    end: int
    status: npt.NDArray[np.int8]
    value: Floats
    limit: Floats
    n: npt.NDArray[np.int64]
    effective_n: Floats
    visible_change: Floats
    visible_panes: Floats
    alarms: tuple[Alarm, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    cleared: tuple[Cleared, ...] = ()
    opened: bool = False
    resolved: bool = False
    looks: tuple[Look, ...] = ()
    provisional: str = ""
    notes: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()

    @classmethod
    def of_incident(
        cls,
        *,
        end: int,
        pane_ms: int,
        alarms: Iterable[Alarm] = (),
        absorbed: Iterable[Absorbed] = (),
        cleared: Iterable[Cleared] = (),
        resolved: bool = False,
    ) -> ScopeResult:
        """What happened to the incident, dated to the pane that ends at `end`, without verdicts on features."""
        start, nothing = end - pane_ms, np.zeros((0, 0))
        return cls(
            start=start,
            end=end,
            status=nothing.astype(np.int8),
            value=nothing,
            limit=nothing,
            n=nothing.astype(np.int64),
            effective_n=nothing,
            visible_change=nothing,
            visible_panes=nothing,
            alarms=tuple(alarm._replace(pane=start) for alarm in alarms),
            absorbed=tuple(one._replace(alarm=one.alarm._replace(pane=start)) for one in absorbed),
            cleared=tuple(cleared),
            resolved=resolved,
        )
