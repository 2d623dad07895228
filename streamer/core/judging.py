"""From what a scope says about a pane to alerts, the incident and retrain triggers; every decision is audited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from detectors.results import Alarm, ScopeResult
from schemas.alerts import AlertState, Incident, Mark, Reason
from schemas.layouts import Layout
from schemas.triggers import Approval
from streamer.core.alerting import Member, Settled, clear, clear_all, fire, look, ranked, repeat, transition
from streamer.core.conditions import holds, text
from streamer.core.incidents import Episode, is_old, open_episode, publish
from streamer.core.marking import spent, unheard
from streamer.core.models import Model
from streamer.core.outbox import Outbox
from streamer.core.policy import Decision, decide, review
from streamer.core.positions import Counters


class Judge(msgspec.Struct):
    """Where decisions about one model go. now: append time, ms. changed: its ledger must be written."""

    model: Model
    layout: Layout
    outbox: Outbox
    counters: Counters
    approvals: Mapping[str, Approval]
    now: int
    changed: bool = False
    marks: Mapping[str, Mark] = {}

    def hear(self, result: ScopeResult, *, version: str) -> None:
        """Take in a pane's result. version: the one with most events in it.

        A pane may resolve one incident and open the next: what cleared comes first.
        """
        if result.learned:
            self._learned(result)
        told = self._look(result)
        told = self._clear(result) or told
        for alarm in result.alarms:
            told = self._fire(alarm, version=version) or told
        for absorbed in result.absorbed:
            self._audit(absorbed.alarm, "alarm not raised", absorbed.reason)
        episode = self.model.episode
        if episode is None:
            return
        fresh_again = episode.old_news and not self._old(result.end)
        if self._pages(episode, at=result.end) or told or fresh_again:
            self._publish(episode, at=result.end)
        self._decisions(
            decide(
                self.model.ledger,
                episode,
                self.layout,
                window_end=result.end,
                now=self.now,
                approvals=self.approvals,
            ),
            at=result.end,
        )

    def _learned(self, result: ScopeResult) -> None:
        """What the stream's own first week taught, or why it taught nothing."""
        again = bool(result.provisional)
        self.outbox.audit(
            f"model {self.layout.model}",
            "still provisional, the next week is tried" if again else "learned from the stream's own first week",
            Reason.NOT_LEARNED if again else Reason.LEARNED,
            at=result.start,
            model=self.layout.model,
            words="; ".join(result.learned),
        )

    def end(self, reason: Reason, *, at: int) -> None:
        """Resolve the open incident and all that fires in it."""
        episode = self.model.episode
        if episode is None:
            return
        self._alerts(episode, clear_all(episode.members, reason, window_end=at), at=at)
        self._publish(episode, at=at, resolved=reason)
        self.model.episode = None

    def moved(self, member: Member, *, at: int) -> None:
        """A member of the open incident was amended, or has resolved by itself: it is told, with the incident."""
        episode = self.model.episode
        assert episode is not None
        self._alerts(episode, [member], at=at)
        if any(one.firing for one in episode.members):
            self._publish(episode, at=at)
            return
        withdrawn = all(one.reason is Reason.WITHDRAWN for one in episode.members)
        self.end(Reason.WITHDRAWN if withdrawn else Reason.ALL_MEMBERS_RESOLVED, at=at)

    def withdraw(self, settled: Settled, *, at: int) -> None:
        """An alert that has resolved was wrong: it is told; its incident is over, and stays as it was."""
        self._alerts(settled, [settled.member], at=at)

    def review(self, *, at: int) -> None:
        """Decide pending triggers by approvals and by the time; hear what people say of incidents."""
        for mark in unheard(self.model.ledger.marked, self.marks, model=self.layout.model):
            self._hear_mark(mark, at=at)
        if self.model.ledger.pending:
            self._decisions(review(self.model.ledger, now=self.now, approvals=self.approvals), at=at)

    def _hear_mark(self, mark: Mark, *, at: int) -> None:
        self.model.ledger.marked[mark.incident] = mark.at
        self.changed = True
        budget = spent(self.layout, self.marks, at=at)
        self.outbox.audit(
            f"incident {mark.incident}",
            f"marked {mark.word}",
            Reason.MARKED_FALSE if mark.word == "false" else Reason.MARKED_TRUE,
            at=at,
            model=self.layout.model,
            by=mark.by,
            why=mark.reason,
            marked_at=mark.at,
            opened_at=mark.opened_at,
            spent=budget.marked,
            stated=budget.stated,
            budget_ms=budget.budget_ms,
        )

    def _look(self, result: ScopeResult) -> bool:
        members = [] if self.model.episode is None else self.model.episode.members
        news = [look(members, seen) for seen in result.looks]
        self.changed = self.changed or any(news)
        return any(news)

    def _pages(self, episode: Episode, *, at: int) -> bool:
        """Whether `page_when` holds for the first time. It pages from then on, to its resolve."""
        condition = self.layout.page_when
        if episode.pages or condition is None or not holds(condition, episode.members):
            return False
        episode.pages = self.changed = True
        self._audit_paging(episode, "pages", Reason.PAGE_WHEN_MET, at=at)
        return True

    def _clear(self, result: ScopeResult) -> bool:
        episode = self.model.episode
        if episode is None:
            return False
        told = False
        for cleared in result.cleared:
            found = clear(episode.members, cleared, window_end=result.end)
            self._alerts(episode, found, at=result.end)
            told = told or bool(found)
        # Features and outcomes are members of one incident: it is over with the last of both.
        if result.resolved and not any(member.firing and member.of_outcomes for member in episode.members):
            followed = all(cleared.reason is Reason.BECAME_REFERENCE for cleared in result.cleared)
            reason = Reason.BECAME_REFERENCE if followed and result.cleared else Reason.ALL_MEMBERS_RESOLVED
            self.end(reason, at=result.end)
            return False
        return told

    def _fire(self, alarm: Alarm, *, version: str) -> bool:
        window_end = alarm.pane + self.layout.pane_ms
        episode = self.model.episode
        if episode is None:
            episode = self.model.episode = open_episode(
                self.layout, version=version, reason=alarm.reason, window_end=window_end
            )
        member = fire(episode.members, alarm, model=self.layout.model, version=episode.version, window_end=window_end)
        if member is None:
            told = repeat(episode.members, alarm, window_end=window_end)
            if told:
                self._audit(alarm, "alarm again", alarm.reason, repeats=told)
            self.changed = True
            return False
        self._alerts(episode, [member], at=window_end)
        return True

    def _alerts(self, episode: Episode | Settled, members: Iterable[Member], *, at: int) -> None:
        for member in members:
            alert = transition(
                member,
                incident=episode.id,
                model=self.layout.model,
                layout=episode.layout,
                reference=episode.reference,
                window_end=at,
            )
            self.outbox.alert(alert)
            self.counters.alerts[alert.state.value] += 1
            self.outbox.audit(
                f"alert {alert.id}",
                alert.state.value,
                alert.reason,
                at=at,
                model=alert.model,
                version=alert.version,
                incident=alert.incident,
                view=str(alert.evidence.view),
                feature=alert.evidence.feature,
                detector=alert.evidence.detector,
                direction=alert.evidence.direction,
                value=alert.evidence.value,
                limit=alert.evidence.limit,
                **({"repeats": member.repeats} if member.repeats else {}),
            )
            self.changed = True

    def _publish(self, episode: Episode, *, at: int, resolved: Reason | None = None) -> None:
        first = episode.sequence == 0
        incident = publish(
            episode,
            self.layout,
            at=at,
            old_news=self._old(at),
            marked=spent(self.layout, self.marks, at=at).marked,
            resolved=resolved,
        )
        self.outbox.incident(incident)
        self.changed = True
        if first or resolved is not None:
            self.counters.incidents[incident.state.value] += 1
            self._audit_incident(incident, episode)
        if first and incident.note:
            self._audit_paging(episode, "recorded, not posted", Reason.PAGE_WHEN_NOT_MET, at=at)

    def _audit_incident(self, incident: Incident, episode: Episode) -> None:
        strongest = ranked(episode.members)[0].evidence
        opened = incident.state is AlertState.FIRING
        self.outbox.audit(
            f"incident {incident.id}",
            "opened" if opened else "resolved",
            incident.reason,
            at=incident.updated_at,
            model=incident.model,
            version=incident.version,
            feature=strongest.feature,
            direction=strongest.direction,
            members=len(episode.members),
            open_alerts=incident.open_alerts,
            old_news=incident.old_news,
        )
        if incident.old_news:
            self.outbox.audit(
                f"incident {incident.id}",
                "recorded, not posted",
                Reason.OLD_NEWS,
                at=incident.updated_at,
                model=incident.model,
                version=incident.version,
                append_time=self.now,
                max_alert_age_ms=self.layout.max_alert_age_ms,
            )

    def _audit_paging(self, episode: Episode, decision: str, reason: Reason, *, at: int) -> None:
        condition = self.layout.page_when
        self.outbox.audit(
            f"incident {episode.id}",
            decision,
            reason,
            at=at,
            model=self.layout.model,
            version=episode.version,
            page_when="" if condition is None else text(condition),
        )

    def _decisions(self, decisions: Iterable[Decision], *, at: int) -> None:
        for decision in decisions:
            self.changed = True
            trigger = decision.trigger
            if trigger is not None:
                self.outbox.trigger(trigger)
                self.counters.triggers[trigger.state] = self.counters.triggers.get(trigger.state, 0) + 1
            self.outbox.audit(
                f"policy {decision.policy}" if trigger is None else f"trigger {trigger.id}",
                "withheld" if trigger is None else trigger.state,
                decision.reason,
                at=at,
                model=self.layout.model,
                version="" if trigger is None else trigger.version,
                policy=decision.policy,
                **decision.details,
            )

    def _audit(self, alarm: Alarm, decision: str, reason: Reason, *, repeats: int = 0) -> None:
        counted: dict[str, Any] = {"repeats": repeats} if repeats else {}
        self.outbox.audit(
            f"monitor {alarm.evidence.view}/{alarm.evidence.feature}",
            decision,
            reason,
            at=alarm.pane + self.layout.pane_ms,
            model=self.layout.model,
            detector=alarm.evidence.detector,
            direction=alarm.evidence.direction,
            value=alarm.evidence.value,
            limit=alarm.evidence.limit,
            **counted,
        )

    def _old(self, window_end: int) -> bool:
        return is_old(self.layout, window_end=window_end, now=self.now)
