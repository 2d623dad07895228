"""Alerts, incidents and audit records: what we tell people. Labels identify, annotations explain."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from schemas.layouts import View


class AlertState(StrEnum):
    """Life cycle of an alert and of an incident."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Reason(StrEnum):
    """Named decisions: one word in the record, the metric, the audit and the test."""

    ABOVE_LIMIT = "above_limit"
    HARD_RULE = "hard_rule"
    SILENCE = "silence"
    BELOW_CLEAR_LIMIT = "below_clear_limit"
    RULE_MET_AGAIN = "rule_met_again"
    ALL_MEMBERS_RESOLVED = "all_members_resolved"
    LAYOUT_CHANGED = "layout_changed"
    IN_COOLDOWN = "in_cooldown"
    PROVISIONAL = "provisional"
    POLICY_MET = "policy_met"
    POLICY_COOLDOWN = "policy_cooldown"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    OLD_NEWS = "old_news"
    SOURCE_STALLED = "source_stalled"
    SOURCE_MOVES = "source_moves"
    GAP_ACCEPTED = "gap_accepted"
    PAGE_WHEN_MET = "page_when_met"
    PAGE_WHEN_NOT_MET = "page_when_not_met"
    MARKED_FALSE = "marked_false"
    MARKED_TRUE = "marked_true"
    LAYOUT_IN_FORCE = "layout_in_force"
    LAYOUT_LATE = "layout_late"
    OVER_LIMIT = "over_limit"
    LEARNED = "learned"
    NOT_LEARNED = "not_learned"
    BECAME_REFERENCE = "became_reference"
    AMENDED = "amended"
    WITHDRAWN = "withdrawn"
    REPLAYED = "replayed"
    RESET = "reset"
    OTHER_DETECTOR = "other_detector"


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a monitor alarmed, at its first alarm.

    detector: `distribution`, or a hard rule: `missing`, `range`, `required`, `levels`, `rows`, `silence`; `reported`: a
    limit on a number of a report, which is `size`, of predictions from onset_low to onset_high, with a share `after` of
    their labels.
    direction: `location up`, `scale down`, `missing up`, `level FR up`, … size: in `unit` (`sd`, `share`, `ms`), with
    its interval; raw_size: the same in the feature's own unit where that is known. before: what it was in the
    reference: the share; of a location the median in the feature's own unit, and `after` about what it is now; the
    longest normal silence (ms); the rows that are expected. onset: start (ms) of the first pane of the change, between
    onset_low and onset_high where it is a step; a ramp began earlier than it shows. value: evidence w·R; limit: A.
    shape: how the change has gone on since: `step` (it stands), `ramp` (it has grown), `block` (it has passed), "": too
    early to say; size_now: over the last panes when that was said, in `unit`.
    """

    feature: str
    detector: str
    direction: str
    view: View = View()
    size: float | None = None
    size_low: float | None = None
    size_high: float | None = None
    unit: str = "sd"
    raw_size: float | None = None
    before: float | None = None
    after: float | None = None
    onset: int | None = None
    onset_low: int | None = None
    onset_high: int | None = None
    n: int = 0
    effective_n: float | None = None
    value: float | None = None
    limit: float | None = None
    note: str = ""
    shape: str = ""
    size_now: float | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One monitor's alert, on each transition. id: hash of model, version, view, feature and first alarm's window.

    amended: how often the number that it was raised on has been another since.
    """

    id: str
    incident: str
    model: str
    version: str
    state: AlertState
    reason: Reason
    evidence: Evidence
    starts_at: int
    ends_at: int | None = None
    window_end: int
    layout: str
    reference: str
    amended: int = 0


class Incident(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All alerts of one (model, version) that are open together. Key on Kafka: `model|version`; compacted.

    evidence: ranked, the strongest first. sequence: counts this incident's records. old_news: recorded, not posted.
    note: `page_when` has not held yet: recorded, not posted. false_alarms_spent: incidents of the model that people
    marked false within its budget's time; false_alarms_stated: how many the budget allows in it.
    """

    id: str
    model: str
    version: str
    state: AlertState
    severity: str
    opened_at: int
    resolved_at: int | None = None
    updated_at: int
    sequence: int
    evidence: list[Evidence]
    open_alerts: int
    owner: str = ""
    runbook: str = ""
    links: dict[str, str] = {}
    reason: Reason = Reason.ABOVE_LIMIT
    layout: str = ""
    reference: str = ""
    old_news: bool = False
    note: bool = False
    false_alarms_spent: int = 0
    false_alarms_stated: float = 0.0


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's word on an incident, on the `control` topic under `mark|<incident id>`; the last one counts.

    word: `false`, nothing had changed, or `true`. at: wall clock, ms. opened_at: event time of the incident's opening.
    """

    incident: str
    model: str
    word: Literal["false", "true"]
    by: str
    at: int
    opened_at: int
    reason: str = ""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One named decision: what was decided, on what, why, with the numbers that decided."""

    subject: str
    decision: str
    reason: Reason
    at: int
    model: str = ""
    version: str = ""
    details: dict[str, str | int | float | bool | None] = {}
