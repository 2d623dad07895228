"""When to ask for a retraining: one trigger per incident and policy, none inside a cooldown, with a person if wanted.

| condition at a pane's close                                    | what happens                                    |
|----------------------------------------------------------------|-------------------------------------------------|
| no alert of a chart fires (only hard rules, or none)           | nothing: broken data is no reason to retrain    |
| the policy's `condition` has not held for `for_ms` on end      | nothing yet                                     |
| the last trigger's window ended less than `cooldown_ms` before | nothing yet; audited once, `policy_cooldown`    |
| the window is old news                                         | a `dry_run` trigger, `old_news`                 |
| mode auto / approve / dry_run                                  | trigger `approved` / `pending` / `dry_run`      |

A pending trigger is decided by the first of: an approval on `control` (`approved` or `rejected`), or its expiry. The
expiry is in append time, as event time may stand still while people think; it is looked at with every progress record,
so a word that was said after it counts for nothing, however late we look. A table has no append times: `backtest` takes
the event time for it, as a stream would have that had been there then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from schemas.alerts import Reason
from schemas.layouts import Layout, RetrainPolicy
from schemas.triggers import Approval, RetrainTrigger, trigger_id
from streamer.core.alerting import Settled
from streamer.core.conditions import holds, text
from streamer.core.incidents import Episode, drifting, is_old, shown

#: What a trigger is about; segments may get policies of their own later.
SCOPE = "model"


class Decision(NamedTuple):
    """What a policy decided, and why; trigger None when it withholds one."""

    policy: str
    trigger: RetrainTrigger | None
    reason: Reason
    details: dict[str, str | int | float | bool | None]


class Ledger(msgspec.Struct):
    """What must be remembered of a model beyond its incident.

    last: window end of the last trigger by policy; pending: undecided ones. marked: marks that have been audited,
    incident → when it was marked. coverage: of the last outcome pane that matured, None before the first. judged: start
    of the newest outcome pane that a limit on reports was judged by, by its words.
    settled: alerts on reports that have resolved and may still be withdrawn.
    """

    last: dict[str, int] = {}
    pending: list[RetrainTrigger] = []
    marked: dict[str, int] = {}
    coverage: float | None = None
    judged: dict[str, int] = {}
    settled: list[Settled] = []


def decide(
    ledger: Ledger,
    episode: Episode,
    layout: Layout,
    *,
    window_end: int,
    now: int,
    approvals: Mapping[str, Approval],
) -> Iterator[Decision]:
    """Let every policy of the layout look at the open incident at a pane's close. now: append time, ms."""
    for policy in layout.policies:
        if policy.name in episode.triggered or not _met(policy, ledger, episode, window_end=window_end):
            continue
        last = ledger.last.get(policy.name)
        if last is not None and window_end - last < policy.cooldown_ms:
            if policy.name not in episode.withheld:
                episode.withheld.append(policy.name)
                yield Decision(
                    policy.name, None, Reason.POLICY_COOLDOWN, {"last": last, "cooldown_ms": policy.cooldown_ms}
                )
            continue
        trigger, reason = _trigger(policy, episode, layout, window_end=window_end, now=now)
        episode.triggered.append(policy.name)
        ledger.last[policy.name] = window_end
        met = text(policy.condition)
        yield Decision(policy.name, trigger, reason, {"mode": policy.mode, "when": met, "for_ms": policy.for_ms})
        if trigger.state == "pending":
            ledger.pending.append(trigger)
            yield from review(ledger, now=now, approvals=approvals)


def review(ledger: Ledger, *, now: int, approvals: Mapping[str, Approval]) -> Iterator[Decision]:
    """Decide pending triggers: by a person's word, else by their expiry. now: append time, ms."""
    waiting: list[RetrainTrigger] = []
    for trigger in ledger.pending:
        approval = approvals.get(trigger.id)
        if approval is not None and (trigger.expires_at is None or approval.at < trigger.expires_at):
            state, reason = (
                ("approved", Reason.APPROVED) if approval.decision == "approve" else ("rejected", Reason.REJECTED)
            )
            decided = msgspec.structs.replace(trigger, state=state, decided_by=approval.by)
            yield Decision(trigger.policy, decided, reason, {"by": approval.by})
        elif trigger.expires_at is not None and now >= trigger.expires_at:
            expired = msgspec.structs.replace(trigger, state="expired")
            yield Decision(trigger.policy, expired, Reason.EXPIRED, {"expires_at": trigger.expires_at})
        else:
            waiting.append(trigger)
    ledger.pending = waiting


def _met(policy: RetrainPolicy, ledger: Ledger, episode: Episode, *, window_end: int) -> bool:
    # Without outcomes nothing is covered by labels: a policy that asks for coverage waits.
    if policy.min_label_coverage > 0 and (ledger.coverage or 0.0) < policy.min_label_coverage:
        return False
    # Whatever the condition says, something must have drifted: there is nothing to learn from broken data.
    if not drifting(episode.members) or not holds(policy.condition, episode.members):
        episode.since.pop(policy.name, None)
        return False
    return window_end - episode.since.setdefault(policy.name, window_end) >= policy.for_ms


def _trigger(
    policy: RetrainPolicy, episode: Episode, layout: Layout, *, window_end: int, now: int
) -> tuple[RetrainTrigger, Reason]:
    old_news = is_old(layout, window_end=window_end, now=now)
    expires_at = None
    if old_news:
        state, reason = "dry_run", Reason.OLD_NEWS
    elif policy.mode == "approve":
        state, reason = "pending", Reason.AWAITING_APPROVAL
        expires_at = now + policy.approval_expires_ms
    else:
        state, reason = ("approved" if policy.mode == "auto" else "dry_run"), Reason.POLICY_MET
    trigger = RetrainTrigger(
        id=trigger_id(
            model=layout.model, version=episode.version, policy=policy.name, scope=SCOPE, window_end=window_end
        ),
        model=layout.model,
        version=episode.version,
        policy=policy.name,
        state=state,  # type: ignore[arg-type]
        incident=episode.id,
        window_end=window_end,
        opened_at=episode.opened_at,
        reference=episode.reference,
        evidence=shown(drifting(episode.members)),
        expires_at=expires_at,
        old_news=old_news,
    )
    return trigger, reason
