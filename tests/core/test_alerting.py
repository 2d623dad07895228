"""The life cycle of alerts and incidents: what a scope says, and what people are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from detectors.results import THE_MODEL, Absorbed, Alarm, Cleared, ScopeResult
from schemas.alerts import Alert, AlertState, AuditRecord, Evidence, Incident, Reason
from schemas.envelopes import unwrap
from schemas.layouts import Layout, RetrainPolicy, View
from schemas.triggers import Approval, RetrainTrigger
from streamer.core.alerting import Member, ranked
from streamer.core.incidents import EVIDENCE_SHOWN, leading_version
from streamer.core.judging import Judge
from streamer.core.models import Model
from streamer.core.outbox import Outbox
from streamer.core.positions import Counters
from streamer.core.watermarks import Clock

PANE = 60_000
MODEL = View()
FEATURES = ("age", "debt")
KINDS = {"alerts": Alert, "incidents": Incident, "audit": AuditRecord, "retrain-triggers": RetrainTrigger}


def layout(**settings: Any) -> Layout:
    chosen: dict[str, Any] = {
        "model": "credit",
        "from_ms": 0,
        "reference": "r",
        "pane_ms": PANE,
        "max_alert_age_ms": None,
        "owner": "lending",
        "runbook": "https://runbooks.example/credit",
        "links": {"b": "2", "a": "1"},
        **settings,
    }
    return Layout(**chosen)


def alarm(
    feature: str = "age", *, pane: int, detector: str = "distribution", view: View = MODEL, **numbers: Any
) -> Alarm:
    """An alarm of the pane with that number."""
    at = FEATURES.index(feature) if feature in FEATURES else THE_MODEL
    reason = {"distribution": Reason.ABOVE_LIMIT, "silence": Reason.SILENCE}.get(detector, Reason.HARD_RULE)
    evidence = Evidence(feature=feature, detector=detector, direction="up", view=view, **numbers)
    return Alarm(0 if view == MODEL else 1, at, evidence, reason, pane * PANE)


@dataclass
class Story:
    """A model and what is said of it, pane by pane."""

    layout: Layout = field(default_factory=layout)
    model: Model = field(default_factory=lambda: Model("credit", Clock(first_seen=0), []))
    outbox: Outbox = field(default_factory=lambda: Outbox(partition=0, audits=0))
    counters: Counters = field(default_factory=Counters)
    approvals: dict[str, Approval] = field(default_factory=dict)

    def judge(self, now: int = 0) -> Judge:
        return Judge(self.model, self.layout, self.outbox, self.counters, self.approvals, now)

    def pane(self, number: int, *alarms: Alarm, now: int = 0, **said: Any) -> dict[str, list[Any]]:
        """Close pane `number`; what was published, by topic."""
        none = np.zeros((1, 1))
        result = ScopeResult(
            start=number * PANE, end=(number + 1) * PANE, status=none.astype(np.int8), value=none, limit=none, n=none,
            effective_n=none, visible_change=none, visible_panes=none, alarms=alarms, **said,
        )  # fmt: skip
        before = len(self.outbox.records)
        self.judge(now).hear(result, version="7")
        return self.since(before)

    def since(self, before: int) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {topic: [] for topic in KINDS}
        for output in self.outbox.records[before:]:
            assert output.value is not None
            found[output.topic].append(unwrap(output.value, KINDS[output.topic]))
        return found


FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED
AGE_CLEAR = Cleared(0, 0, Reason.BELOW_CLEAR_LIMIT)


@pytest.mark.parametrize(
    ("alarms", "said", "expected"),
    [
        ([alarm(pane=1)], {}, [(FIRING, Reason.ABOVE_LIMIT)]),
        ([alarm(pane=1, detector="missing")], {}, [(FIRING, Reason.HARD_RULE)]),
        ([alarm("", pane=1, detector="silence")], {}, [(FIRING, Reason.SILENCE)]),
        ([], {"absorbed": (Absorbed(alarm(pane=1), Reason.IN_COOLDOWN),)}, []),
        ([], {}, []),
    ],
    ids=["above its limit", "a hard rule", "silence", "absorbed in cooldown", "nothing"],
)
def test_from_inactive(alarms: list[Alarm], said: dict[str, Any], expected: list[Any]) -> None:
    published = Story().pane(1, *alarms, **said)
    assert expected == [(alert.state, alert.reason) for alert in published["alerts"]]


@pytest.mark.parametrize(
    ("alarms", "said", "expected"),
    [
        ([alarm(pane=2)._replace(renewed=True)], {}, []),
        ([alarm(pane=2, detector="missing")], {}, [(FIRING, Reason.HARD_RULE)]),
        ([], {"cleared": (AGE_CLEAR,), "resolved": True}, [(RESOLVED, Reason.BELOW_CLEAR_LIMIT)]),
        ([], {"resolved": True}, [(RESOLVED, Reason.ALL_MEMBERS_RESOLVED)]),
        ([], {"cleared": (Cleared(0, 1, Reason.BELOW_CLEAR_LIMIT),)}, []),
        ([], {}, []),
    ],
    ids=[
        "the same again: nothing is said",
        "a hard rule on the same feature: an alert of its own",
        "cleared",
        "the incident is over: with it whatever still fires",
        "another monitor clears",
        "nothing",
    ],
)
def test_from_firing(alarms: list[Alarm], said: dict[str, Any], expected: list[Any]) -> None:
    story = Story()
    story.pane(1, alarm(pane=1))
    published = story.pane(2, *alarms, **said)
    assert expected == [(alert.state, alert.reason) for alert in published["alerts"]]


def test_a_monitor_with_a_rule_and_a_chart_clears_both_each_with_its_reason() -> None:
    story = Story()
    story.pane(1, alarm(pane=1), alarm(pane=1, detector="missing"))
    published = story.pane(2, cleared=(AGE_CLEAR,), resolved=True)
    assert sorted(alert.reason for alert in published["alerts"]) == [Reason.BELOW_CLEAR_LIMIT, Reason.RULE_MET_AGAIN]


def test_a_monitor_that_alarms_after_it_resolved_is_a_new_alert() -> None:
    story = Story()
    [first] = story.pane(1, alarm(pane=1), alarm("debt", pane=1))["alerts"][:1]
    story.pane(2, cleared=(AGE_CLEAR,))
    [second] = story.pane(3, alarm(pane=3))["alerts"]
    assert second.id != first.id
    assert second.incident == first.incident
    assert (second.starts_at, second.window_end) == (4 * PANE, 4 * PANE)


def test_one_incident_folds_all_alerts_and_is_said_again_when_they_change() -> None:
    story = Story()
    said = [
        story.pane(1, alarm(pane=1))["incidents"],
        story.pane(2, alarm(pane=2)._replace(renewed=True))["incidents"],
        story.pane(3, alarm("debt", pane=3))["incidents"],
        story.pane(4, cleared=(AGE_CLEAR,))["incidents"],
        story.pane(5, cleared=(Cleared(0, 1, Reason.BELOW_CLEAR_LIMIT),), resolved=True)["incidents"],
        story.pane(6)["incidents"],
    ]
    found = [[(one.sequence, one.state, one.open_alerts, len(one.evidence)) for one in some] for some in said]
    assert found == [
        [(1, FIRING, 1, 1)],
        [],
        [(2, FIRING, 2, 2)],
        [(3, FIRING, 1, 2)],
        [(4, RESOLVED, 0, 2)],
        [],
    ]
    records = [one for some in said for one in some]
    assert len({one.id for one in records}) == 1
    assert {one.opened_at for one in records} == {2 * PANE}
    assert (records[-1].resolved_at, records[-1].reason) == (6 * PANE, Reason.ALL_MEMBERS_RESOLVED)
    assert [one.evidence[0].feature for one in records] == ["age", "age", "debt", "age"]
    assert (records[0].owner, records[0].severity, list(records[0].links)) == ("lending", "page", ["a", "b"])


def test_a_pane_may_end_one_incident_and_open_the_next() -> None:
    story = Story()
    story.pane(1, alarm(pane=1))
    published = story.pane(2, alarm("debt", pane=2), cleared=(AGE_CLEAR,), resolved=True, opened=True)["incidents"]
    assert [(one.state, one.evidence[0].feature) for one in published] == [(RESOLVED, "age"), (FIRING, "debt")]
    assert published[0].id != published[1].id


def test_alerts_of_a_version_view_carry_that_version_the_incident_the_leading_one() -> None:
    published = Story().pane(1, alarm(pane=1), alarm("debt", pane=1, view=View("version", "8")))
    assert [alert.version for alert in published["alerts"]] == ["7", "8"]
    assert [one.version for one in published["incidents"]] == ["7"]


def test_the_leading_version_has_most_events_and_of_equals_is_the_greatest() -> None:
    assert leading_version([("2", 5), ("10", 2), ("10", 3)]) == "2"
    assert leading_version([]) == ""


def test_every_decision_is_audited_with_its_reason() -> None:
    story = Story()
    decisions = [
        story.pane(1, alarm(pane=1, value=2.5, limit=2.0)),
        story.pane(2, alarm(pane=2)._replace(renewed=True)),
        story.pane(3, cleared=(AGE_CLEAR,), resolved=True),
        story.pane(4, absorbed=(Absorbed(alarm(pane=4), Reason.IN_COOLDOWN),)),
    ]
    found = [[(audit.decision, audit.reason) for audit in one["audit"]] for one in decisions]
    assert found == [
        [("firing", Reason.ABOVE_LIMIT), ("opened", Reason.ABOVE_LIMIT)],
        [("alarm again", Reason.ABOVE_LIMIT)],
        [("resolved", Reason.BELOW_CLEAR_LIMIT), ("resolved", Reason.ALL_MEMBERS_RESOLVED)],
        [("alarm not raised", Reason.IN_COOLDOWN)],
    ]
    assert decisions[0]["audit"][0].details["value"] == 2.5
    assert story.counters.alerts == {"firing": 1, "resolved": 1}
    assert story.counters.incidents == {"firing": 1, "resolved": 1}
    ids = [dict(output.headers)["ce_id"] for output in story.outbox.records if output.topic == "audit"]
    assert ids == [f"0-{number}".encode() for number in range(1, 7)]


def test_alarms_of_what_fires_already_are_told_of_once_a_day_and_every_one_is_counted() -> None:
    story = Story()
    story.pane(1, alarm(pane=1))
    panes_a_day = 86_400_000 // PANE
    told = {
        pane: audit.details["repeats"]
        for pane in range(2, 2 * panes_a_day + 12)
        for audit in story.pane(pane, alarm(pane=pane))["audit"]
    }
    assert told == {2: 1, panes_a_day + 2: panes_a_day, 2 * panes_a_day + 2: panes_a_day}
    [resolved, _] = story.pane(2 * panes_a_day + 12, cleared=(AGE_CLEAR,), resolved=True)["audit"]
    assert resolved.details["repeats"] == 9
    assert sum(told.values()) + 9 == 2 * panes_a_day + 10


def test_old_news_is_recorded_and_not_posted_until_it_is_fresh() -> None:
    """A worker that comes back after days: the incident is marked; when the stream is near again it is said anew."""
    story = Story(layout=layout(max_alert_age_ms=3_600_000))
    far, near = 10 * 3_600_000, 3_600_000
    [old] = story.pane(1, alarm(pane=1), now=far)["incidents"]
    quiet = story.pane(2, now=far)["incidents"]
    [fresh] = story.pane(3, now=near)["incidents"]
    assert (old.old_news, quiet, fresh.old_news, fresh.sequence) == (True, [], False, 2)


def test_evidence_is_ranked_by_what_fires_and_by_what_fired_first_and_furthest() -> None:
    def member(
        name: str, starts_at: int, value: float, *, detector: str = "distribution", over: bool = False
    ) -> Member:
        evidence = Evidence(feature=name, detector=detector, direction="up", value=value, limit=10.0)
        ends_at = starts_at + 1 if over else None
        return Member(id=name, monitor=(0, 0), version="7", evidence=evidence, starts_at=starts_at, ends_at=ends_at)

    members = [
        member("weak", 5, 11.0),
        member("over", 1, 99.0, over=True),
        member("strong", 5, 50.0),
        member("first", 2, 12.0),
        member("rule", 5, 0.0, detector="missing"),
    ]
    assert [one.evidence.feature for one in ranked(members)] == ["first", "rule", "strong", "weak", "over"]


def test_an_incident_shows_its_strongest_and_counts_all() -> None:
    story = Story()
    alarms = [
        Alarm(0, at, Evidence(feature=f"f{at:03}", detector="distribution", direction="up"), Reason.ABOVE_LIMIT, 0)
        for at in range(300)
    ]
    [incident] = story.pane(0, *alarms)["incidents"]
    assert (len(incident.evidence), incident.open_alerts) == (EVIDENCE_SHOWN, 300)


def test_evidence_has_nine_digits() -> None:
    [incident] = Story().pane(1, alarm(pane=1, size=1 / 3, value=float("inf")))["incidents"]
    assert (incident.evidence[0].size, incident.evidence[0].value) == (0.333333333, None)


def test_without_an_incident_no_policy_acts() -> None:
    story = Story(layout=layout(policies=(RetrainPolicy(),)))
    assert story.pane(1)["retrain-triggers"] == []
