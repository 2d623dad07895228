"""Retrain policies: one trigger per incident and policy, none inside a cooldown, a person's word, old news."""

from __future__ import annotations

from typing import Any

import pytest
from test_alerting import PANE, Story, alarm, layout

from detectors.results import Absorbed, Cleared
from schemas.alerts import Reason
from schemas.layouts import RetrainPolicy
from schemas.triggers import Approval, trigger_id

WELL = {"cleared": (Cleared(0, 0, Reason.BELOW_CLEAR_LIMIT),), "resolved": True}
HOUR = 60 * PANE


def with_policy(**settings: Any) -> Story:
    return Story(layout=layout(policies=(RetrainPolicy(**settings),), max_alert_age_ms=None))


def states(published: dict[str, list[Any]]) -> list[str]:
    return [trigger.state for trigger in published["retrain-triggers"]]


def reasons(published: dict[str, list[Any]]) -> list[Reason]:
    return [audit.reason for audit in published["audit"] if audit.subject.startswith(("trigger", "policy"))]


@pytest.mark.parametrize(
    ("mode", "state", "reason"),
    [
        ("auto", "approved", Reason.POLICY_MET),
        ("approve", "pending", Reason.AWAITING_APPROVAL),
        ("dry_run", "dry_run", Reason.POLICY_MET),
    ],
)
def test_what_a_mode_does(mode: str, state: str, reason: Reason) -> None:
    story = with_policy(mode=mode)
    published = story.pane(1, alarm(pane=1))
    assert (states(published), reasons(published)) == ([state], [reason])
    [trigger] = published["retrain-triggers"]
    assert trigger.id == trigger_id(model="credit", version="7", policy="default", scope="model", window_end=2 * PANE)
    assert trigger.incident == published["incidents"][0].id
    assert [one.feature for one in trigger.evidence] == ["age"]


def test_one_trigger_per_incident_however_long_it_lasts() -> None:
    story = with_policy(cooldown_ms=0)
    assert [states(story.pane(1, alarm(pane=1))), states(story.pane(2)), states(story.pane(3))] == [
        ["approved"],
        [],
        [],
    ]


def test_drift_must_have_been_open_for_a_while() -> None:
    story = with_policy(for_ms=3 * PANE)
    found = [states(story.pane(1, alarm(pane=1))), *(states(story.pane(number)) for number in range(2, 6))]
    assert found == [[], [], [], ["approved"], []]


def test_a_data_bug_is_no_reason_to_retrain() -> None:
    story = with_policy()
    found = [states(story.pane(1, alarm(pane=1, detector="missing"))), states(story.pane(2))]
    assert found == [[], []]


def test_drift_that_joins_a_data_bug_is_timed_from_its_own_start_and_named_alone() -> None:
    story = with_policy(for_ms=2 * PANE)
    story.pane(1, alarm(pane=1, detector="missing"))
    story.pane(4, alarm("debt", pane=4))
    assert states(story.pane(5)) == []
    [trigger] = story.pane(6)["retrain-triggers"]
    assert [one.feature for one in trigger.evidence] == ["debt"]


def test_drift_that_went_away_starts_anew() -> None:
    story = with_policy(for_ms=2 * PANE)
    story.pane(1, alarm(pane=1), alarm("debt", pane=1, detector="missing"))
    story.pane(2, cleared=(Cleared(0, 0, Reason.BELOW_CLEAR_LIMIT),))
    assert states(story.pane(3)) == []
    story.pane(4, alarm(pane=4))
    assert [states(story.pane(5)), states(story.pane(6))] == [[], ["approved"]]


def test_no_second_trigger_inside_a_cooldown_and_one_when_it_is_over() -> None:
    story = with_policy(cooldown_ms=HOUR)
    story.pane(1, alarm(pane=1))
    story.pane(5, **WELL)
    inside = [story.pane(20, alarm(pane=20)), story.pane(21)]
    assert [states(one) for one in inside] == [[], []]
    assert [reasons(one) for one in inside] == [[Reason.POLICY_COOLDOWN], []]
    assert states(story.pane(60)) == []
    assert states(story.pane(61)) == ["approved"]


def test_policies_of_one_model_have_cooldowns_of_their_own() -> None:
    policies = (RetrainPolicy(name="fast"), RetrainPolicy(name="slow", for_ms=5 * PANE, mode="dry_run"))
    story = Story(layout=layout(policies=policies, max_alert_age_ms=None))
    first = story.pane(1, alarm(pane=1))["retrain-triggers"]
    later = story.pane(6)["retrain-triggers"]
    assert [[(one.policy, one.state) for one in some] for some in (first, later)] == [
        [("fast", "approved")],
        [("slow", "dry_run")],
    ]


@pytest.mark.parametrize(
    ("decision", "state", "reason"),
    [("approve", "approved", Reason.APPROVED), ("reject", "rejected", Reason.REJECTED)],
)
def test_a_person_decides(decision: Any, state: str, reason: Reason) -> None:
    story = with_policy(mode="approve")
    [pending] = story.pane(1, alarm(pane=1))["retrain-triggers"]
    story.approvals[pending.id] = Approval(trigger=pending.id, decision=decision, by="ada", at=9)
    before = len(story.outbox.records)
    story.judge(now=10).review(at=2 * PANE)
    story.judge(now=11).review(at=2 * PANE)
    published = story.since(before)
    assert (states(published), reasons(published)) == ([state], [reason])
    assert (published["retrain-triggers"][0].id, published["retrain-triggers"][0].decided_by) == (pending.id, "ada")


def test_a_word_that_was_there_before_is_heard_at_once() -> None:
    """A replay finds the approval on the control topic before the request."""
    story = with_policy(mode="approve")
    known = trigger_id(model="credit", version="7", policy="default", scope="model", window_end=2 * PANE)
    story.approvals[known] = Approval(trigger=known, decision="approve", by="ada", at=9)
    assert states(story.pane(1, alarm(pane=1))) == ["pending", "approved"]


def test_a_request_expires_by_append_time_once() -> None:
    story = with_policy(mode="approve", approval_expires_ms=1_000)
    [pending] = story.pane(1, alarm(pane=1), now=5_000)["retrain-triggers"]
    assert pending.expires_at == 6_000
    before = len(story.outbox.records)
    story.judge(now=5_999).review(at=0)
    assert story.since(before)["retrain-triggers"] == []
    story.judge(now=6_000).review(at=0)
    story.approvals[pending.id] = Approval(trigger=pending.id, decision="approve", by="late", at=9)
    story.judge(now=6_001).review(at=0)
    published = story.since(before)
    assert (states(published), reasons(published)) == (["expired"], [Reason.EXPIRED])


@pytest.mark.parametrize(("said", "state"), [(5_999, "approved"), (6_000, "expired")])
def test_a_word_said_after_the_expiry_is_none_however_late_we_look(said: int, state: str) -> None:
    story = with_policy(mode="approve", approval_expires_ms=1_000)
    [pending] = story.pane(1, alarm(pane=1), now=5_000)["retrain-triggers"]
    before = len(story.outbox.records)
    story.approvals[pending.id] = Approval(trigger=pending.id, decision="approve", by="ada", at=said)
    story.judge(now=9_000).review(at=0)
    assert states(story.since(before)) == [state]


def test_old_news_becomes_a_dry_run() -> None:
    story = Story(layout=layout(policies=(RetrainPolicy(),), max_alert_age_ms=HOUR))
    published = story.pane(1, alarm(pane=1), now=10 * HOUR)
    assert (states(published), reasons(published)) == (["dry_run"], [Reason.OLD_NEWS])
    assert published["retrain-triggers"][0].old_news


def test_an_alarm_that_was_not_raised_triggers_nothing() -> None:
    story = with_policy()
    assert states(story.pane(1, absorbed=(Absorbed(alarm(pane=1), Reason.PROVISIONAL),))) == []


def test_a_policy_that_asks_for_labels_waits_while_there_are_none() -> None:
    story = with_policy(min_label_coverage=0.5)
    assert states(story.pane(1, alarm(pane=1))) == []
