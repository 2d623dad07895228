"""`tripline triggers tail | approve | reject`: follow requests to retrain, act on them, and have the last word."""

from __future__ import annotations

import asyncio
import getpass
import subprocess
import sys
import time
from contextlib import aclosing
from typing import Literal

import msgspec

from schemas.envelopes import unwrap
from schemas.errors import TriplineError
from schemas.triggers import Approval, RetrainTrigger
from streamer.core.control import publish_approval
from streamer.core.records import Record
from streamer.core.wording import minute, moved
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import Since, follow, follow_as, history, publish

_TOPIC = "retrain-triggers"


class TriggerUnknown(TriplineError):
    """No such trigger in the topic, or one that waits for nobody."""


class JobFailed(TriplineError):
    """The command of `--exec` ended badly; its trigger comes again at the next start."""


def tail(
    settings: KafkaSettings,
    *,
    since: Since = "latest",
    once: bool = False,
    model: str = "",
    execute: str = "",
    group: str = "",
    as_json: bool = False,
) -> None:
    """Print triggers from `since` on, for ever; `once`: to the end, and return.

    execute: shell command that is run for each *approved* trigger, which it reads as JSON on its standard input.
    A trigger is done when the command has ended with 0, and what is done is kept in the consumer group `group`: after
    a stop or a failure (exit 1) the next start goes on with the one that was not done. At least once: a job that must
    not run twice compares `id`.
    """
    asyncio.run(_tail(settings, since, once=once, model=model, execute=execute, group=group, as_json=as_json))


def decide(settings: KafkaSettings, trigger: str, decision: Literal["approve", "reject"], *, by: str = "") -> Approval:
    """Write a person's word on a pending trigger to `control`. `TriggerUnknown` when there is nothing to decide."""
    return asyncio.run(_decide(settings, trigger, decision, by=by))


def decide_and_say(
    settings: KafkaSettings,
    trigger: str,
    decision: Literal["approve", "reject"],
    *,
    by: str = "",
    as_json: bool = False,
) -> None:
    """`decide`, and print what was written."""
    approval = decide(settings, trigger, decision, by=by)
    if as_json:
        print(msgspec.json.encode(approval).decode())
        return
    print(f"trigger {trigger}: {decision} by {approval.by}; the worker publishes it with its next batch")


async def _tail(
    settings: KafkaSettings, since: Since, *, once: bool, model: str, execute: str, group: str, as_json: bool
) -> None:
    if once and not execute:
        for record in await history(settings, _TOPIC, since=since):
            _show(record, model=model, as_json=as_json)
        return
    who = group or f"{settings.app}-triggers"
    stream = (
        follow_as(settings, _TOPIC, group=who, since=since, to_end=once)
        if execute
        else follow(settings, _TOPIC, since=since)
    )
    async with aclosing(stream) as records:
        async for record in records:
            trigger = _show(record, model=model, as_json=as_json)
            if execute and trigger is not None and trigger.state == "approved":
                await asyncio.to_thread(_run, execute, trigger)


def _show(record: Record, *, model: str, as_json: bool) -> RetrainTrigger | None:
    if record.value is None:
        return None
    trigger = unwrap(record.value, RetrainTrigger)
    if model and trigger.model != model:
        return None
    print(msgspec.json.encode(trigger).decode() if as_json else as_line(trigger), flush=True)
    return trigger


def _run(command: str, trigger: RetrainTrigger) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", command], input=msgspec.json.encode(trigger), stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise JobFailed(f"trigger {trigger.id}: {command!r} ended with {done.returncode}; it comes again")


async def _decide(
    settings: KafkaSettings, trigger: str, decision: Literal["approve", "reject"], *, by: str
) -> Approval:
    last: RetrainTrigger | None = None
    for record in await history(settings, _TOPIC):
        if record.key == trigger.encode() and record.value is not None:
            last = unwrap(record.value, RetrainTrigger)
    if last is None:
        raise TriggerUnknown(f"no trigger {trigger} in {settings.topic(_TOPIC)}; `tripline triggers tail --once` lists")
    if last.state != "pending":
        who = f" by {last.decided_by}" if last.decided_by else ""
        raise TriggerUnknown(f"trigger {trigger} is {last.state}{who}: there is nothing to decide")
    approval = Approval(trigger=trigger, decision=decision, by=by or getpass.getuser(), at=time.time_ns() // 1_000_000)
    await publish(settings, [publish_approval(approval)])
    return approval


def as_line(trigger: RetrainTrigger) -> str:
    """One line: when, what state, whose, why.

    >>> as_line(RetrainTrigger(id="55c8", model="credit", version="3", policy="default", state="pending", incident="i",
    ...     window_end=60_000, opened_at=0, reference="r", evidence=[], expires_at=86_460_000))
    '1970-01-01 00:01 UTC  pending   55c8  credit, version 3, policy default; expires 1970-01-02 00:01 UTC'
    """
    name = f"{trigger.model}, version {trigger.version}" if trigger.version else trigger.model
    text = f"{minute(trigger.window_end)}  {trigger.state:<8}  {trigger.id}  {name}, policy {trigger.policy}"
    if trigger.evidence:
        text += f": {moved(trigger.evidence[0])}"
    if trigger.state == "pending" and trigger.expires_at is not None:
        text += f"; expires {minute(trigger.expires_at)}"
    return f"{text} by {trigger.decided_by}" if trigger.decided_by else text
