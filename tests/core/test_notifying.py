"""The notifier as a table of times: what each replica is told, and when. No clock, no network."""

from __future__ import annotations

import msgspec
import pytest

from schemas.alerts import AlertState, Evidence, Incident
from streamer.core.notifying import Notifier, NotifyPolicy, Post, alert_annotations, alert_labels

A, B = "http://a", "http://b"
MINUTE = 60_000
FIRED = Incident(
    id="i1",
    model="credit",
    version="3",
    state=AlertState.FIRING,
    severity="page",
    opened_at=1_000,
    updated_at=1_000,
    sequence=0,
    evidence=[Evidence(feature="age", detector="distribution", direction="location up", size=0.4, onset=500)],
    open_alerts=1,
    owner="team-lending",
    runbook="https://runbooks.example/credit",
    links={"console": "https://console.example/i1"},
)


def changed(incident: Incident, **fields: object) -> Incident:
    return msgspec.structs.replace(incident, **fields)


RESOLVED = changed(FIRED, state=AlertState.RESOLVED, resolved_at=9_000, open_alerts=0, sequence=1)
OTHER = changed(FIRED, id="i2", model="fraud")


def told(posts: list[Post]) -> list[tuple[str, str, str | None]]:
    return [(post.replica, alert.labels["model"], alert.ends_at) for post in posts for alert in post.alerts]


def deliver(notifier: Notifier, now: int) -> list[tuple[str, str, str | None]]:
    posts = notifier.due(now)
    for post in posts:
        notifier.done(post, ok=True, now=now)
    return told(posts)


def test_an_alert_is_told_to_each_replica_at_once_and_again_each_minute() -> None:
    notifier = Notifier([A, B])
    notifier.take("credit|3", FIRED, 2_000)
    assert deliver(notifier, 2_000) == [(A, "credit", None), (B, "credit", None)]
    assert deliver(notifier, 2_000 + MINUTE - 1) == []
    assert deliver(notifier, 2_000 + MINUTE) == [(A, "credit", None), (B, "credit", None)]
    assert notifier.counters["posted"] == 4


def test_a_resolve_is_told_at_once_then_each_minute_for_a_quarter_of_an_hour() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", FIRED, 2_000)
    deliver(notifier, 2_000)
    notifier.take("credit|3", RESOLVED, 10_000)
    times = [now for now in range(10_000, 10_000 + 40 * MINUTE, MINUTE) if deliver(notifier, now)]
    assert [(now - 10_000) // MINUTE for now in times] == list(range(16))


def test_a_resolve_ends_the_alert_when_the_incident_ended() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", RESOLVED, 10_000)
    (post,) = notifier.due(10_000)
    assert (post.alerts[0].starts_at, post.alerts[0].ends_at) == (
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:09.000Z",
    )


def test_event_time_ahead_of_the_clock_does_not_put_start_or_end_into_the_future() -> None:
    """A fast replay may reach next week; Alertmanager would read such an end as "still firing"."""
    notifier = Notifier([A])
    notifier.take("credit|3", changed(RESOLVED, opened_at=50_000, resolved_at=90_000), 10_000)
    (post,) = notifier.due(10_000)
    assert (post.alerts[0].starts_at, post.alerts[0].ends_at) == (
        "1970-01-01T00:00:10.000Z",
        "1970-01-01T00:00:10.000Z",
    )


def test_the_latest_state_wins_while_a_replica_is_away() -> None:
    """An outage longer than the incident: the replica is told the resolve, once it is back, and only that."""
    notifier = Notifier([A, B])
    notifier.take("credit|3", FIRED, 0)
    a, b = notifier.due(0)
    notifier.done(a, ok=True, now=0)
    notifier.done(b, ok=False, now=0)
    notifier.take("credit|3", changed(FIRED, sequence=1, open_alerts=5), 200)
    assert told(notifier.due(200)) == [(A, "credit", None)]
    notifier.take("credit|3", RESOLVED, 10_000)
    assert told(notifier.due(2 * 3_600_000)) == [(B, "credit", "1970-01-01T00:00:09.000Z")]


def test_a_replica_that_hangs_does_not_keep_the_other_one_waiting() -> None:
    notifier = Notifier([A, B])
    notifier.take("credit|3", FIRED, 0)
    a, _hanging = notifier.due(0)
    notifier.done(a, ok=True, now=5)
    notifier.take("fraud|3", OTHER, 10)
    assert told(notifier.due(10)) == [(A, "fraud", None)]


def test_a_change_during_a_post_is_sent_after_it() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", FIRED, 0)
    (post,) = notifier.due(0)
    notifier.take("credit|3", changed(FIRED, open_alerts=4), 1)
    assert notifier.due(1) == []
    notifier.done(post, ok=True, now=2)
    assert "4 alerts open" in notifier.due(2)[0].alerts[0].annotations["summary"]


def wait_after(failures: int) -> int:
    """Time from the last of `failures` failed POSTs to the next one."""
    notifier = Notifier([A], NotifyPolicy(backoff_ms=1_000, backoff_limit_ms=8_000, seed=7))
    notifier.take("credit|3", FIRED, 0)
    for now in range(0, failures * MINUTE, MINUTE):
        notifier.done(notifier.due(now)[0], ok=False, now=now)
    last = (failures - 1) * MINUTE
    return next(wait for wait in range(10_000) if notifier.due(last + wait))


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000), (9, 8_000)])
def test_waiting_doubles_with_jitter_up_to_a_bound(failures: int, ceiling: int) -> None:
    assert ceiling / 2 <= wait_after(failures) <= ceiling


def test_the_same_seed_waits_the_same() -> None:
    assert wait_after(3) == wait_after(3)


def test_old_news_is_recorded_not_posted() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", changed(FIRED, old_news=True), 0)
    assert (notifier.due(0), notifier.counters["old_news"]) == ([], 1)


def test_old_news_still_resolves_what_on_call_has_seen() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", FIRED, 0)
    deliver(notifier, 0)
    notifier.take("credit|3", changed(RESOLVED, old_news=True), 10_000)
    assert deliver(notifier, 10_000) == [(A, "credit", "1970-01-01T00:00:09.000Z")]


def test_a_note_is_recorded_not_posted_until_it_is_none_any_more() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", changed(FIRED, note=True), 0)
    assert (notifier.due(0), notifier.counters["notes"]) == ([], 1)
    notifier.take("credit|3", changed(FIRED, sequence=1), 5_000)
    assert deliver(notifier, 5_000) == [(A, "credit", None)]


def test_at_a_restart_old_resolves_are_not_told_and_young_ones_are_once() -> None:
    """The log keeps the last state of every model for ever; nobody wants last month's."""
    notifier = Notifier([A])
    day = 86_400_000
    notifier.take("credit|3", RESOLVED, 10 * day, appended=8 * day)
    notifier.take("fraud|3", changed(RESOLVED, model="fraud"), 10 * day, appended=10 * day - 3_600_000)
    assert [model for _, model, _ in deliver(notifier, 10 * day)] == ["fraud"]
    assert deliver(notifier, 10 * day + MINUTE) == []


def test_a_tombstone_resolves_what_fires() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", FIRED, 0)
    deliver(notifier, 0)
    notifier.take("credit|3", None, 20_000)
    assert deliver(notifier, 20_000) == [(A, "credit", "1970-01-01T00:00:20.000Z")]


def test_a_new_severity_resolves_the_alert_of_the_old_one() -> None:
    """Compaction may have eaten the resolve between two incidents of one model."""
    notifier = Notifier([A])
    notifier.take("credit|3", FIRED, 0)
    deliver(notifier, 0)
    notifier.take("credit|3", changed(FIRED, id="i9", severity="ticket"), 20_000)
    (post,) = notifier.due(20_000)
    assert {alert.labels["severity"]: alert.ends_at is None for alert in post.alerts} == {"page": False, "ticket": True}


def test_one_alert_that_is_refused_does_not_hold_up_the_others() -> None:
    notifier = Notifier([A])
    notifier.take("credit|3", FIRED, 0)
    notifier.take("fraud|3", OTHER, 0)
    (both,) = notifier.due(0)
    notifier.done(both, ok=False, now=0, retriable=False)
    (first,) = notifier.due(0)
    notifier.done(first, ok=False, now=0, retriable=False)
    (second,) = notifier.due(0)
    notifier.done(second, ok=True, now=0)
    assert [len(post.alerts) for post in (both, first, second)] == [2, 1, 1]
    assert (notifier.counters["refused"], notifier.counters["posted"], notifier.waiting) == (1, 1, 0)


def test_the_queue_is_bounded_and_lets_go_of_resolves_first() -> None:
    notifier = Notifier([A], NotifyPolicy(capacity=2))
    notifier.take("credit|3", FIRED, 0)
    notifier.take("fraud|3", changed(RESOLVED, model="fraud"), 1)
    notifier.take("churn|3", changed(FIRED, model="churn"), 2)
    assert sorted(model for _, model, _ in deliver(notifier, 3)) == ["churn", "credit"]
    assert notifier.counters["dropped"] == 1


def test_a_post_carries_a_bounded_batch() -> None:
    notifier = Notifier([A], NotifyPolicy(batch=2))
    for number in range(5):
        notifier.take(f"m{number}|3", changed(FIRED, model=f"m{number}"), number)
    assert [len(deliver(notifier, 10)) for _ in range(4)] == [2, 2, 1, 0]


def test_labels_identify_and_annotations_explain() -> None:
    assert dict(alert_labels(FIRED)) == {
        "alertname": "TriplineIncident",
        "model": "credit",
        "version": "3",
        "severity": "page",
        "team": "team-lending",
    }
    texts = alert_annotations(FIRED)
    assert texts["summary"] == "credit, version 3: age rose by 0.40 sd since 1970-01-01 00:00 UTC"
    row = " ".join(texts["description"].splitlines()[1].split())
    assert row == "1 age model location up 0.40 sd 1970-01-01 00:00 UTC 0"
    assert (texts["runbook_url"], texts["link_console"], texts["incident"]) == (
        "https://runbooks.example/credit",
        "https://console.example/i1",
        "i1",
    )


@pytest.mark.parametrize("field", ["open_alerts", "evidence", "updated_at"])
def test_numbers_never_change_the_labels(field: str) -> None:
    other = changed(FIRED, **{field: [] if field == "evidence" else 99})
    assert alert_labels(other) == alert_labels(FIRED)
