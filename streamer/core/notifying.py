"""What each Alertmanager replica must be told, and when: the rules of Prometheus's notifier, without a clock.

Why: on-call must see the latest state of every incident at every replica, however long a replica was away, and
nothing twice a minute more than needed. So this keeps states, not messages: one entry per fingerprint, where the
latest wins; what a replica has is compared with what it should have. Time and randomness are passed in, so that a
table of times tests it. The rim (streamer/agents.py) reads the log, calls `due`, posts, and calls `done`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas.alerts import AlertState, Incident
from schemas.envelopes import rfc3339
from streamer.core.wording import summary, table

ALERT_NAME = "TriplineIncident"

#: The labels of an alert, few and constant: they identify it, and its fingerprint is their hash.
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class NotifyPolicy:
    """How often, how long and how many; times in ms.

    resend_ms: a firing alert is sent again this often (Alertmanager forgets after its resolve_timeout, 5 min).
    resolved_for_ms: a resolve is sent again this long. catch_up_ms: a resolve that a replica has not got yet is still
    delivered, once, up to this age. backoff_ms … backoff_limit_ms: wait after a failed POST, doubling, with jitter.
    batch: alerts per POST. capacity: entries kept; beyond, the one that changed longest ago is dropped and counted.
    """

    resend_ms: int = 60_000
    resolved_for_ms: int = 900_000
    catch_up_ms: int = 86_400_000
    backoff_ms: int = 1_000
    backoff_limit_ms: int = 60_000
    batch: int = 64
    capacity: int = 10_000
    seed: int = 0


class PostableAlert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An alert as Alertmanager's API takes it. `ends_at` is left out while it fires."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str | None = None
    generator_url: str = msgspec.field(name="generatorURL", default="")


class Post(NamedTuple):
    """One POST to one replica: its alerts, and which version of which entry they are."""

    replica: str
    alerts: tuple[PostableAlert, ...]
    versions: tuple[tuple[Labels, int], ...]


@dataclass
class _Entry:
    """Latest state of one fingerprint. version: counts its changes. until: when a resolve is sent no more."""

    key: str
    incident: Incident
    version: int
    changed_at: int
    resolved_at: int | None = None


@dataclass
class _Replica:
    """What one replica has, and when it may be tried again. alone: entries that go in a POST of their own."""

    sent: dict[Labels, tuple[int, int]] = field(default_factory=dict)  # (version, at)
    alone: set[Labels] = field(default_factory=set)
    failures: int = 0
    retry_at: int = 0
    in_flight: bool = False


class Notifier:
    """State of every incident against what each replica has been told.

    `take` each record of the `incidents` topic, in its order, from the start; when its end is reached, `due(now)` as
    often as you like (after every `take`, and at least once a second), POST what it gives, and say how it went with
    `done`. A replica has at most one POST in flight, and never waits for another one.

    counters: `posted`, `failed`, `refused` (a replica does not want that alert: given up), `dropped` (over capacity),
    `old_news` and `notes` (recorded, not posted); each counts alerts but `failed`, which counts POSTs.

    >>> notifier = Notifier(["http://a"])
    >>> fired = Incident(id="1", model="credit", version="3", state=AlertState.FIRING, severity="page", opened_at=1_000,
    ...                  updated_at=1_000, sequence=0, evidence=[], open_alerts=1)
    >>> notifier.take("credit|3", fired, 2_000)
    >>> (post,) = notifier.due(2_000)
    >>> post.alerts[0].labels["model"], post.alerts[0].ends_at
    ('credit', None)
    >>> notifier.done(post, ok=True, now=2_010)
    >>> notifier.due(2_020), len(notifier.due(62_010))
    ([], 1)
    """

    def __init__(self, replicas: Sequence[str], policy: NotifyPolicy | None = None) -> None:
        self.policy = policy or NotifyPolicy()
        self.counters = {"posted": 0, "failed": 0, "refused": 0, "dropped": 0, "old_news": 0, "notes": 0}
        self._replicas = {url: _Replica() for url in replicas}
        self._entries: dict[Labels, _Entry] = {}
        self._rng = random.Random(self.policy.seed)

    @property
    def firing(self) -> int:
        """Entries that fire now."""
        return sum(entry.resolved_at is None for entry in self._entries.values())

    @property
    def waiting(self) -> int:
        """Latest states that some replica has not got yet."""
        return sum(
            self._behind(replica, labels, entry)
            for replica in self._replicas.values()
            for labels, entry in self._entries.items()
        )

    def take(self, key: str, incident: Incident | None, now: int, *, appended: int | None = None) -> None:
        """Take in a record: `incident` is now the state of `key` (`model|version`); None is a tombstone.

        appended: append time of the record, from which the age of a resolve counts; `now` when not given.
        """
        at = now if appended is None else min(appended, now)
        labels = None if incident is None else alert_labels(incident)
        # A key that is gone, or whose labels changed, leaves no firing alert behind.
        for other, entry in list(self._entries.items()):
            if entry.key == key and other != labels and entry.resolved_at is None:
                self._put(other, entry.key, entry.incident, at, resolved_at=at)
        if incident is None or labels is None:
            return
        known = self._entries.get(labels)
        unposted = incident.old_news or incident.note
        if unposted and (known is None or known.incident.id != incident.id or known.resolved_at is not None):
            # Old news and notes begin nothing; what is already with on-call goes on and is resolved.
            self.counters["old_news" if incident.old_news else "notes"] += 1
            if known is not None and known.resolved_at is None:
                self._put(labels, key, known.incident, at, resolved_at=at)
            return
        resolved = at if incident.state is AlertState.RESOLVED else None
        self._put(labels, key, incident, at, resolved_at=resolved)

    def due(self, now: int) -> list[Post]:
        """What to POST now: at most one per replica, the longest waiting first."""
        self._forget(now)
        return [post for url in self._replicas if (post := self._due(url, now)) is not None]

    def done(self, post: Post, *, ok: bool, now: int, retriable: bool = True) -> None:
        """How a POST went. Not `retriable`: the replica calls the content bad; its alerts are then tried one by one,
        and one that is refused alone is given up until it changes.
        """
        replica = self._replicas[post.replica]
        replica.in_flight = False
        if ok or (not retriable and len(post.versions) == 1):
            self.counters["posted" if ok else "refused"] += len(post.versions)
            for labels, version in post.versions:
                replica.alone.discard(labels)
                if labels in self._entries:  # else dropped while the POST was under way
                    replica.sent[labels] = (version, now)
            replica.failures, replica.retry_at = 0, 0
            return
        self.counters["failed"] += 1
        if not retriable:
            replica.alone.update(labels for labels, _ in post.versions)
            return
        replica.failures += 1
        wait = min(self.policy.backoff_limit_ms, self.policy.backoff_ms * 2 ** min(replica.failures - 1, 20))
        # Half fixed, half random: replicas behind one address do not come back in step.
        replica.retry_at = now + int(wait * (0.5 + 0.5 * self._rng.random()))

    def _due(self, url: str, now: int) -> Post | None:
        replica = self._replicas[url]
        if replica.in_flight or now < replica.retry_at:
            return None
        wanted = sorted(
            (self._since(replica, labels, entry), labels)
            for labels, entry in self._entries.items()
            if self._wanted(replica, labels, entry, now)
        )
        if not wanted:
            return None
        chosen = [labels for _, labels in wanted if labels not in replica.alone][: self.policy.batch]
        chosen = chosen or [wanted[0][1]]
        entries = [(labels, self._entries[labels]) for labels in chosen]
        replica.in_flight = True
        return Post(
            url,
            tuple(_postable(labels, entry, now) for labels, entry in entries),
            tuple((labels, entry.version) for labels, entry in entries),
        )

    def _behind(self, replica: _Replica, labels: Labels, entry: _Entry) -> bool:
        sent = replica.sent.get(labels)
        return sent is None or sent[0] < entry.version

    def _wanted(self, replica: _Replica, labels: Labels, entry: _Entry, now: int) -> bool:
        if self._behind(replica, labels, entry):
            return True
        if entry.resolved_at is not None and now > entry.resolved_at + self.policy.resolved_for_ms:
            return False
        return now >= replica.sent[labels][1] + self.policy.resend_ms

    def _since(self, replica: _Replica, labels: Labels, entry: _Entry) -> int:
        return entry.changed_at if self._behind(replica, labels, entry) else replica.sent[labels][1]

    def _put(self, labels: Labels, key: str, incident: Incident, at: int, *, resolved_at: int | None) -> None:
        known = self._entries.pop(labels, None)
        if known is None and len(self._entries) >= self.policy.capacity:
            self._drop(min(self._entries, key=lambda one: (self._entries[one].resolved_at is None, self._age(one))))
            self.counters["dropped"] += 1
        version = 1 if known is None else known.version + 1
        self._entries[labels] = _Entry(key, incident, version, at, resolved_at)

    def _age(self, labels: Labels) -> int:
        return self._entries[labels].changed_at

    def _forget(self, now: int) -> None:
        """Let go of resolves that every replica has had for long enough, or that are too old to deliver."""
        for labels, entry in list(self._entries.items()):
            if entry.resolved_at is None:
                continue
            age = now - entry.resolved_at
            told = not any(self._behind(replica, labels, entry) for replica in self._replicas.values())
            if age > self.policy.catch_up_ms or (told and age > self.policy.resolved_for_ms):
                self._drop(labels)

    def _drop(self, labels: Labels) -> None:
        del self._entries[labels]
        for replica in self._replicas.values():
            replica.sent.pop(labels, None)
            replica.alone.discard(labels)


def alert_labels(incident: Incident) -> Labels:
    """Labels that identify an incident's alert, sorted; empty ones are left out, as Alertmanager does."""
    labels = {
        "alertname": ALERT_NAME,
        "model": incident.model,
        "version": incident.version,
        "severity": incident.severity,
        "team": incident.owner,
    }
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def alert_annotations(incident: Incident) -> dict[str, str]:
    """What explains an incident's alert: numbers and links, which may change with every record.

    `summary` one sentence; `description` the ranked evidence; `runbook_url`; `incident` and `reference` ids; a
    `link_<name>` for each link.
    """
    texts = {
        "summary": summary(incident),
        "description": table(incident.evidence),
        "runbook_url": incident.runbook,
        "incident": incident.id,
        "reference": incident.reference,
        **{f"link_{_name(name)}": url for name, url in sorted(incident.links.items())},
    }
    return {name: text for name, text in texts.items() if text}


def _name(text: str) -> str:
    """A link's name as part of an annotation's name, which Alertmanager 0.25 restricts to ASCII words."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)


def _postable(labels: Labels, entry: _Entry, now: int) -> PostableAlert:
    incident = entry.incident
    # Event time may run ahead of the wall clock (a fast replay). A start or an end in the future would be read as
    # "not yet".
    ends = None
    if entry.resolved_at is not None:
        ends = min(now, incident.resolved_at if incident.resolved_at is not None else entry.resolved_at)
    starts = min(incident.opened_at, now if ends is None else ends)
    return PostableAlert(
        labels=dict(labels),
        annotations=alert_annotations(incident),
        starts_at=rfc3339(starts),
        ends_at=None if ends is None else rfc3339(ends),
        generator_url=incident.links.get("console", ""),
    )
