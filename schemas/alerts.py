"""Alerts, incidents and audit records: what we tell people. Labels identify, annotations explain."""

from __future__ import annotations

from enum import StrEnum

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
    LAYOUT_IN_FORCE = "layout_in_force"


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a monitor alarmed, at its first alarm.

    detector: `distribution`, or a hard rule: `missing`, `range`, `required`, `levels`, `rows`, `silence`.
    direction: `location up`, `scale down`, `missing up`, `level FR up`, … size: in `unit` (`sd`, `share`, `ms`), with
    its interval; raw_size: the same in the feature's own unit where that is known. onset: start (ms) of the first
    pane of the change, between onset_low and onset_high. value: evidence w·R; limit: A.
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
    """One monitor's alert, on each transition. id: hash of model, version, view, feature and first alarm's window."""

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


class Incident(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All alerts of one (model, version) that are open together. Key on Kafka: `model|version`; compacted.

    evidence: ranked, the strongest first. sequence: counts this incident's records. old_news: recorded, not posted.
    note: `page_when` has not held yet: recorded, not posted.
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


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One named decision: what was decided, on what, why, with the numbers that decided."""

    subject: str
    decision: str
    reason: Reason
    at: int
    model: str = ""
    version: str = ""
    details: dict[str, str | int | float | bool | None] = {}
