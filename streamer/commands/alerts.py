"""`tripline alerts tail`: incidents and the alerts in them, as lines for people or as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing

import msgspec

from schemas.alerts import Alert, Incident
from schemas.envelopes import TYPES, open_envelope, unwrap
from streamer.core.records import Record
from streamer.core.wording import minute, moved, summary
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import Since, follow, history

_TOPICS = ("incidents", "alerts")


def tail(
    settings: KafkaSettings, *, since: Since = "latest", once: bool = False, model: str = "", as_json: bool = False
) -> None:
    """Print transitions from `since` on, for ever; `once`: to the end, and return."""
    asyncio.run(_tail(settings, since=since, once=once, model=model, as_json=as_json))


async def _tail(settings: KafkaSettings, *, since: Since, once: bool, model: str, as_json: bool) -> None:
    if once:
        _print(await history(settings, *_TOPICS, since=since), model=model, as_json=as_json)
        return
    async with aclosing(follow(settings, *_TOPICS, since=since)) as records:
        async for record in records:
            _print([record], model=model, as_json=as_json)


def _print(records: Iterable[Record], *, model: str, as_json: bool) -> None:
    for record in records:
        if record.value is None:
            continue
        said = read(record.value)
        if not model or said.model == model:
            print(as_json_line(said) if as_json else as_line(said), flush=True)


def read(value: bytes) -> Incident | Alert:
    """Incident or alert of a CloudEvent; `FormatError` when it is neither."""
    if open_envelope(value).type == TYPES[Incident]:
        return unwrap(value, Incident)
    return unwrap(value, Alert)


def as_line(said: Incident | Alert) -> str:
    """One line: when, what state, whose, and what moved.

    >>> from schemas.alerts import AlertState, Evidence, Reason
    >>> as_line(Alert(id="a", incident="i", model="credit", version="3", state=AlertState.FIRING, starts_at=0,
    ...     reason=Reason.ABOVE_LIMIT, window_end=60_000, layout="l", reference="r",
    ...     evidence=Evidence(feature="age", detector="distribution", direction="location up", size=0.4)))
    '1970-01-01 00:01 UTC    alert    firing    credit, version 3: age rose by 0.40 sd (above_limit)'
    """
    if isinstance(said, Incident):
        why = "old news" if said.old_news else "a note: page_when does not hold" if said.note else ""
        unposted = f" ({why}; not posted)" if why else ""
        return f"{minute(said.updated_at)}  INCIDENT   {said.state:<8}  {summary(said)}{unposted}"
    name = f"{said.model}, version {said.version}" if said.version else said.model
    return f"{minute(said.window_end)}    alert    {said.state:<8}  {name}: {moved(said.evidence)} ({said.reason})"


def as_json_line(said: Incident | Alert) -> str:
    """The same as one line of JSON without the envelope: `{"incident": {…}}` or `{"alert": {…}}`."""
    return msgspec.json.encode({type(said).__name__.lower(): said}).decode()
