"""The life cycle of one alert: inactive, firing, resolved; a decision has a name.

| state     | what the scope says | →        | reason                                       |
|-----------|---------------------|----------|----------------------------------------------|
| inactive  | alarm               | firing   | `above_limit`, `hard_rule` or `silence`      |
| firing    | alarm               | firing   | an audit record a day, with their count      |
| firing    | cleared             | resolved | `below_clear_limit` or `rule_met_again`      |
| firing    | layout changed      | resolved | `layout_changed`                             |
| firing    | a report revised    | firing   | `amended`, or resolved, `withdrawn`          |
| resolved  | alarm               | firing   | as from inactive; it is a new alert, new id  |

An alert is one monitor and one kind of evidence: a hard rule and a chart on the same feature are two.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from detectors.reported import DETECTOR as REPORTED
from detectors.results import THE_MODEL, Alarm, Cleared, Look
from schemas.alerts import Alert, AlertState, Evidence, Reason
from streamer.core.outbox import content_hash, nine_digits

#: What charts say; every other detector is a hard rule (DETECTION 6).
DISTRIBUTION = "distribution"
#: Alarms of what fires already are told of once in so long, with their count.
REPEAT_MS = 86_400_000
CHARTS = frozenset({DISTRIBUTION, "losses", "calibration"})


class Member(msgspec.Struct):
    """An alert of an incident. monitor: view and feature of its scope, by index; feature −1 is the model itself.

    starts_at, ends_at: ends of the windows in which it fired and resolved. repeats: alarms while it fired that no audit
    record tells of yet; repeated_at: window end of the last that one did. rests_on: what the reports say that it stands
    on, the oldest first; amended: as in `Alert`.
    """

    id: str
    monitor: tuple[int, int]
    version: str
    evidence: Evidence
    starts_at: int
    ends_at: int | None = None
    reason: Reason = Reason.ABOVE_LIMIT
    repeats: int = 0
    repeated_at: int | None = None
    rests_on: list[Evidence] = []
    amended: int = 0

    @property
    def firing(self) -> bool:
        """It has not resolved."""
        return self.ends_at is None

    @property
    def of_outcomes(self) -> bool:
        """A chart of outcomes found it, which resolves by itself."""
        return self.monitor[1] < THE_MODEL

    @property
    def drift(self) -> bool:
        """A chart found it, not a hard rule: broken data is no reason to retrain."""
        return self.evidence.detector in CHARTS


class Settled(msgspec.Struct):
    """An alert on reported numbers that has resolved, but may yet turn out to have been wrong.

    id, layout, reference: of its incident. limit: in words.
    """

    id: str
    layout: str
    reference: str
    limit: str
    member: Member


def repeat(members: Sequence[Member], alarm: Alarm, *, window_end: int) -> int:
    """An alarm of what fires already: how many to tell of now, itself included; 0: told of later, with the others.

    One a day of the incident is enough: a drift that stays alarms in every few panes.
    """
    for member in members:
        same = member.monitor == (alarm.view, alarm.feature) and member.evidence.detector == alarm.evidence.detector
        if same and member.firing:
            member.repeats += 1
            if member.repeated_at is not None and window_end - member.repeated_at < REPEAT_MS:
                return 0
            told, member.repeats, member.repeated_at = member.repeats, 0, window_end
            return told
    return 0


def fire(members: list[Member], alarm: Alarm, *, model: str, version: str, window_end: int) -> Member | None:
    """A monitor alarms: the member that this makes, put into `members`; None when it is firing already."""
    evidence, monitor = alarm.evidence, (alarm.view, alarm.feature)
    for at, member in enumerate(members):
        if member.monitor == monitor and member.evidence.detector == evidence.detector:
            if member.firing:
                return None
            del members[at]
            break
    own = evidence.view.value if evidence.view.column == "version" else version
    member = Member(
        id=content_hash(model, own, str(evidence.view), evidence.feature, evidence.detector, window_end),
        monitor=monitor,
        version=own,
        evidence=nine_digits(evidence),
        starts_at=window_end,
        reason=alarm.reason,
        rests_on=[nine_digits(evidence)] if evidence.detector == REPORTED else [],
    )
    members.append(member)
    return member


def clear(members: list[Member], cleared: Cleared, *, window_end: int) -> list[Member]:
    """A monitor is well again, its chart and its rules: resolve what fires on it."""
    found = [member for member in members if member.firing and member.monitor == (cleared.view, cleared.feature)]
    for member in found:
        member.ends_at = window_end
        member.reason = Reason.BELOW_CLEAR_LIMIT if member.drift else Reason.RULE_MET_AGAIN
        if member.drift:
            member.evidence = msgspec.structs.replace(member.evidence, shape="block")
    return found


def look(members: list[Member], seen: Look) -> bool:
    """Note how a member's change goes on; True when that is news."""
    for member in members:
        if member.firing and member.drift and member.monitor == (seen.view, seen.feature):
            if member.evidence.shape == seen.shape:
                return False
            evidence = msgspec.structs.replace(member.evidence, shape=seen.shape, size_now=seen.size_now)
            member.evidence = nine_digits(evidence)
            return True
    return False


def clear_all(members: list[Member], reason: Reason, *, window_end: int) -> list[Member]:
    """Resolve whatever still fires."""
    found = [member for member in members if member.firing]
    for member in found:
        member.ends_at, member.reason = window_end, reason
    return found


def transition(member: Member, *, incident: str, model: str, layout: str, reference: str, window_end: int) -> Alert:
    """The record of a member's last change."""
    return Alert(
        id=member.id,
        incident=incident,
        model=model,
        version=member.version,
        state=AlertState.FIRING if member.firing else AlertState.RESOLVED,
        reason=member.reason,
        evidence=member.evidence,
        starts_at=member.starts_at,
        ends_at=member.ends_at,
        window_end=window_end,
        layout=layout,
        reference=reference,
        amended=member.amended,
    )


def ranked(members: Sequence[Member]) -> list[Member]:
    """Strongest first: what fires before what has resolved, then what passed its limit soonest and furthest."""
    return sorted(members, key=_rank)


def _rank(member: Member) -> tuple[bool, int, bool, float, float, str, str, str]:
    evidence = member.evidence
    excess = (evidence.value or 0.0) / evidence.limit if evidence.limit else 0.0
    return (
        not member.firing,
        member.starts_at,
        member.drift,
        -excess,
        -abs(evidence.size or 0.0),
        str(evidence.view),
        evidence.feature,
        evidence.detector,
    )
