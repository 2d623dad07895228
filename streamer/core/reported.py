"""Alerts on reported numbers: raised by a report, amended or withdrawn by what labels that come later make of it.

| a report that is judged                           | the alert                                        |
|---------------------------------------------------|--------------------------------------------------|
| the newest so far, past the limit                 | fires, or goes on: it rests on that report too   |
| the newest so far, not past it                    | resolved, `rule_met_again`                       |
| a revision that changes what it was raised on     | amended: it fires on, with the new number        |
| a revision after which it rests on no report      | resolved, `withdrawn`: it should not have been   |
| the same, when it has resolved before             | told once more, `withdrawn`                      |
| an older one past the limit while nothing fires   | none: a limit is about how the model does now    |

The number is the report's own, so that an alert never says what no report does.
"""

from __future__ import annotations

import msgspec

from detectors.reported import DETECTOR, bound, limits_of, number, passed, words
from detectors.results import Alarm, ScopeResult
from schemas.alerts import Evidence, Reason
from schemas.layouts import ReportLimit
from schemas.verdicts import Metric, OutcomeReport
from streamer.core.alerting import Member, Settled
from streamer.core.judging import Judge
from streamer.core.outbox import nine_digits

#: An alert rests on so many reports at most: the first, and the last ones.
MOST = 168
#: So many alerts that have resolved may still be withdrawn, the last ones.
MOST_SETTLED = 16


def hear_report(judge: Judge, report: OutcomeReport, *, habit: float, at: int, version: str) -> None:
    """Judge the limits of a layout by a report. habit: usual coverage at maturity, NaN unknown. at: event time, ms.

    version: the one with most events in the report's pane.
    """
    alarms: list[Alarm] = []
    for monitor, limit in limits_of(judge.layout):
        found = number(limit, report, habit=habit)
        if found is None:
            continue
        judged, key = judge.model.ledger.judged, words(limit)
        newest = report.start >= judged.get(key, report.start)
        if newest and judged.get(key) != report.start:
            judged[key] = report.start
            judge.changed = True
        said, member = _evidence(limit, report, found), _firing(judge, monitor)
        if found.value is None or not passed(limit, found.value):
            _settle(judge, key, said, at=at)
            if member is not None:
                _met(judge, member, key, said, at=at, newest=newest)
            continue
        known = member is not None and any(one.onset == report.start for one in member.rests_on)
        if newest and not known:
            alarms.append(Alarm(*monitor, said, Reason.HARD_RULE, at - judge.layout.pane_ms))
        if member is not None:
            _rest(judge, member, said, at=at)
    if alarms:
        judge.hear(ScopeResult.of_incident(end=at, pane_ms=judge.layout.pane_ms, alarms=alarms), version=version)


def _firing(judge: Judge, monitor: tuple[int, int]) -> Member | None:
    members = [] if judge.model.episode is None else judge.model.episode.members
    return next((one for one in members if one.firing and one.monitor == monitor), None)


def _rest(judge: Judge, member: Member, said: Evidence, *, at: int) -> None:
    """A report is past the limit while the alert fires: it rests on it, or on its new number."""
    rests = sorted([*(one for one in member.rests_on if one.onset != said.onset), said], key=lambda one: one.onset or 0)
    member.rests_on = rests if len(rests) <= MOST else [rests[0], *rests[2:]]
    judge.changed = True
    _amend(judge, member, at=at)


def _met(judge: Judge, member: Member, limit: str, said: Evidence, *, at: int, newest: bool) -> None:
    """A report is not past the limit, and the alert fires."""
    left = [one for one in member.rests_on if one.onset != said.onset]
    known = len(left) < len(member.rests_on)
    if known and not left:
        _withdrawn(member, said, at=at)
        judge.moved(member, at=at)
        return
    if known:
        member.rests_on = left
        judge.changed = True
    if newest:
        member.ends_at, member.reason = at, Reason.RULE_MET_AGAIN
        episode, settled = judge.model.episode, judge.model.ledger.settled
        assert episode is not None
        one = Settled(episode.id, episode.layout, episode.reference, limit, msgspec.structs.replace(member))
        judge.model.ledger.settled = [*settled, one][-MOST_SETTLED:]
        judge.moved(member, at=at)
    elif known:
        _amend(judge, member, at=at)


def _settle(judge: Judge, limit: str, said: Evidence, *, at: int) -> None:
    """A report is not past the limit: alerts that have resolved do not rest on it any more."""
    ledger = judge.model.ledger
    for one in [one for one in ledger.settled if one.limit == limit]:
        left = [other for other in one.member.rests_on if other.onset != said.onset]
        if len(left) == len(one.member.rests_on):
            continue
        judge.changed = True
        if left:
            one.member.rests_on = left
        else:
            ledger.settled = [other for other in ledger.settled if other is not one]
            _withdrawn(one.member, said, at=at)
            judge.withdraw(one, at=at)


def _withdrawn(member: Member, said: Evidence, *, at: int) -> None:
    was = member.evidence
    note = f"withdrawn: {_short(was)} was reported, now that further labels are in it is {_short(said)}"
    member.evidence = msgspec.structs.replace(was, note=note)
    member.ends_at, member.reason = at, Reason.WITHDRAWN


def _amend(judge: Judge, member: Member, *, at: int) -> None:
    """Say the number that the alert now rests on first, if it is another than it said."""
    first, was = member.rests_on[0], member.evidence
    if (first.onset, _short(first)) == (was.onset, _short(was)):
        return
    note = f"amended: {_short(was)} was reported before"
    member.evidence = msgspec.structs.replace(first, note=note)
    member.reason, member.amended = Reason.AMENDED, member.amended + 1
    judge.moved(member, at=at)


def _evidence(limit: ReportLimit, report: OutcomeReport, found: Metric) -> Evidence:
    view = next(one for one in report.views if one.view == limit.view)
    return nine_digits(
        Evidence(
            feature=limit.metric,
            detector=DETECTOR,
            direction=words(msgspec.structs.replace(limit, view=type(limit.view)())),
            view=limit.view,
            size=found.value,
            size_low=found.low,
            size_high=found.high,
            unit="",
            onset=report.start,
            onset_low=report.start,
            onset_high=report.end,
            n=found.n,
            value=found.value,
            limit=bound(limit),
            after=view.n / view.expected,
        )
    )


def _short(evidence: Evidence) -> str:
    return f"{evidence.size:.3g}"
