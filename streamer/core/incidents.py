"""One page per trouble: all alerts of a model that are open together are one incident.

Why: forty features that move together are one event for the person on call. The scope (detectors) decides what belongs
together and when it is over; here its words become the record that Alertmanager is told from. The incident carries the
version that had most events when it opened, and the record is published again whenever its members or state change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from schemas.alerts import AlertState, Evidence, Incident, Reason
from schemas.layouts import Layout
from streamer.core.alerting import Member, ranked
from streamer.core.outbox import content_hash

#: An incident's record names this many of its members; `open_alerts` counts them all.
EVIDENCE_SHOWN = 256
#: Hard rules that say that values are not there.
GONE = frozenset({"missing", "required"})


class Episode(msgspec.Struct):
    """An open incident. sequence: its records so far. old_news: its last record was not to be posted.

    since: by policy, end of the window since which its condition has held without a break. triggered: policies that
    have acted on it; withheld: policies whose cooldown has been audited for it. pages: its `page_when` has held once.
    """

    id: str
    version: str
    severity: str
    opened_at: int
    layout: str
    reference: str
    reason: Reason
    sequence: int = 0
    old_news: bool = False
    since: dict[str, int] = {}
    members: list[Member] = []
    triggered: list[str] = []
    withheld: list[str] = []
    pages: bool = True


def open_episode(layout: Layout, *, version: str, reason: Reason, window_end: int) -> Episode:
    """A new incident of the layout's model, without members yet; its severity never changes."""
    return Episode(
        id=content_hash(layout.model, version, window_end),
        version=version,
        severity=layout.severity,
        opened_at=window_end,
        layout=layout.id,
        reference=layout.reference,
        reason=reason,
        pages=layout.page_when is None,
    )


def drifting(members: Sequence[Member]) -> list[Member]:
    """Charts that fire, but those of features that are mostly missing: a column gone is broken data, not drift."""
    broken = {member.monitor[1] for member in members if member.firing and member.evidence.detector in GONE}
    return [member for member in members if member.firing and member.drift and member.monitor[1] not in broken]


def publish(
    episode: Episode, layout: Layout, *, at: int, old_news: bool, marked: int = 0, resolved: Reason | None = None
) -> Incident:
    """The incident's next record; `resolved` says why it is over.

    at: end of the window that changed it, ms. marked: incidents marked false within the budget's time.
    """
    episode.sequence += 1
    episode.old_news = old_news
    return Incident(
        id=episode.id,
        model=layout.model,
        version=episode.version,
        state=AlertState.FIRING if resolved is None else AlertState.RESOLVED,
        severity=episode.severity,
        opened_at=episode.opened_at,
        resolved_at=None if resolved is None else at,
        updated_at=at,
        sequence=episode.sequence,
        evidence=shown(episode.members),
        open_alerts=sum(member.firing for member in episode.members),
        owner=layout.owner,
        runbook=layout.runbook,
        links=dict(sorted(layout.links.items())),
        reason=episode.reason if resolved is None else resolved,
        layout=episode.layout,
        reference=episode.reference,
        old_news=old_news,
        note=not episode.pages,
        false_alarms_spent=marked,
        false_alarms_stated=layout.false_alarms,
    )


def shown(members: Iterable[Member]) -> list[Evidence]:
    """Evidence of the strongest members."""
    return [member.evidence for member in ranked(list(members))[:EVIDENCE_SHOWN]]


def is_old(layout: Layout, *, window_end: int, now: int) -> bool:
    """The window ended longer ago than people want to be paged for. now: append time.

    >>> is_old(Layout(model="m", from_ms=0, reference="r", max_alert_age_ms=1_000), window_end=0, now=1_001)
    True
    """
    return layout.max_alert_age_ms is not None and now - window_end > layout.max_alert_age_ms


def leading_version(events: Iterable[tuple[str, int]]) -> str:
    """The version with most events; of equal ones the greatest; "" without events.

    >>> leading_version([("1", 5), ("2", 3), ("2", 2)])
    '2'
    """
    total: dict[str, int] = {}
    for version, n in events:
        total[version] = total.get(version, 0) + n
    return max(total, key=lambda version: (total[version], version), default="")
