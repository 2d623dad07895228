"""`tripline alerts tail | mark`: incidents, the alerts in them and what people said of them; and to say it."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Iterable
from contextlib import aclosing
from typing import Literal

import msgspec

from schemas.alerts import Alert, Incident, Mark
from schemas.envelopes import TYPES, open_envelope, unwrap
from schemas.errors import TriplineError
from streamer.core.control import MARK_KEY, publish_mark
from streamer.core.records import Record
from streamer.core.wording import minute, moved, summary
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import Since, follow, history, publish

_TOPICS = ("incidents", "alerts", "control")


class IncidentUnknown(TriplineError):
    """No such incident or alert in the topics, as far as they are retained."""


def tail(
    settings: KafkaSettings, *, since: Since = "latest", once: bool = False, model: str = "", as_json: bool = False
) -> None:
    """Print transitions from `since` on, for ever; `once`: to the end, and return."""
    asyncio.run(_tail(settings, since=since, once=once, model=model, as_json=as_json))


async def _tail(settings: KafkaSettings, *, since: Since, once: bool, model: str, as_json: bool) -> None:
    control = settings.topic("control")
    if once:
        _print(await history(settings, *_TOPICS, since=since), control=control, model=model, as_json=as_json)
        return
    async with aclosing(follow(settings, *_TOPICS, since=since)) as records:
        async for record in records:
            _print([record], control=control, model=model, as_json=as_json)


def _print(records: Iterable[Record], *, control: str, model: str, as_json: bool) -> None:
    for record in records:
        said = read(record, control=control)
        if said is None:
            continue
        if not model or said.model == model:
            print(as_json_line(said) if as_json else as_line(said), flush=True)


def mark(
    settings: KafkaSettings, name: str, word: Literal["false", "true"], *, reason: str = "", by: str = ""
) -> Mark:
    """Write a person's word on an incident to `control`; `name` is its id or that of one of its alerts.

    `IncidentUnknown` when neither topic has it any more.
    """
    return asyncio.run(_mark(settings, name, word, reason=reason, by=by))


def mark_and_say(
    settings: KafkaSettings,
    name: str,
    word: Literal["false", "true"],
    *,
    reason: str = "",
    by: str = "",
    as_json: bool = False,
) -> None:
    """`mark`, and print what was written."""
    written = mark(settings, name, word, reason=reason, by=by)
    print(as_json_line(written) if as_json else as_line(written))


async def _mark(
    settings: KafkaSettings, name: str, word: Literal["false", "true"], *, reason: str, by: str
) -> Mark:
    records = await history(settings, "incidents", "alerts")
    said = [one for one in map(read, records) if isinstance(one, Incident | Alert)]
    # The topic of incidents keeps the last of each version; older ones are known by their alerts.
    wanted = {one.incident if isinstance(one, Alert) else one.id for one in said if one.id == name}
    wanted |= {one.incident for one in said if isinstance(one, Alert) and one.incident == name}
    if not wanted:
        raise IncidentUnknown(
            f"no incident or alert {name} in {settings.topic('incidents')} and {settings.topic('alerts')}, as far back "
            "as they reach; `tripline alerts tail --since earliest --once --json` lists"
        )
    incident = wanted.pop()
    opened = [one.opened_at for one in said if isinstance(one, Incident) and one.id == incident]
    opened += [one.starts_at for one in said if isinstance(one, Alert) and one.incident == incident]
    found = Mark(
        incident=incident,
        model=next(one.model for one in said if incident == (one.incident if isinstance(one, Alert) else one.id)),
        word=word,
        by=by or getpass.getuser(),
        at=time.time_ns() // 1_000_000,
        opened_at=min(opened),
        reason=reason,
    )
    await publish(settings, [publish_mark(found)])
    return found


def read(record: Record, *, control: str = "") -> Incident | Alert | Mark | None:
    """What a record says; None for a tombstone and for what else is on `control` (a topic of that name).

    `FormatError` when it is none of these.
    """
    if record.value is None:
        return None
    if record.topic == control:
        is_mark = (record.key or b"").startswith(MARK_KEY)
        return msgspec.json.decode(record.value, type=Mark) if is_mark else None
    if open_envelope(record.value).type == TYPES[Incident]:
        return unwrap(record.value, Incident)
    return unwrap(record.value, Alert)


def as_line(said: Incident | Alert | Mark) -> str:
    """One line: when, what state, whose, and what moved.

    >>> from schemas.alerts import AlertState, Evidence, Reason
    >>> as_line(Alert(id="a", incident="i", model="credit", version="3", state=AlertState.FIRING, starts_at=0,
    ...     reason=Reason.ABOVE_LIMIT, window_end=60_000, layout="l", reference="r",
    ...     evidence=Evidence(feature="age", detector="distribution", direction="location up", size=0.4)))
    '1970-01-01 00:01 UTC    alert    firing    credit, version 3: age rose by 0.40 sd (above_limit)'
    """
    if isinstance(said, Mark):
        why = f": {said.reason}" if said.reason else ""
        what = f"incident {said.incident} of {said.model}, by {said.by}{why}"
        return f"{minute(said.at)}  MARK       {said.word:<8}  {what}"
    if isinstance(said, Incident):
        why = "old news" if said.old_news else "a note: page_when does not hold" if said.note else ""
        unposted = f" ({why}; not posted)" if why else ""
        return f"{minute(said.updated_at)}  INCIDENT   {said.state:<8}  {summary(said)}{unposted}"
    name = f"{said.model}, version {said.version}" if said.version else said.model
    return f"{minute(said.window_end)}    alert    {said.state:<8}  {name}: {moved(said.evidence)} ({said.reason})"


def as_json_line(said: Incident | Alert | Mark) -> str:
    """The same as one line of JSON without the envelope: `{"incident": {…}}`, `{"alert": {…}}`, `{"mark": {…}}`."""
    return msgspec.json.encode({type(said).__name__.lower(): said}).decode()
