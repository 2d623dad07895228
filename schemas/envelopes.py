"""CloudEvents 1.0 around what Tripline says: structured JSON as the value, `ce_*` copies in the headers.

Every id, time and subject comes from the data, none from a clock or a counter of the process: the same log gives the
same bytes. Floats are rounded to nine significant digits by `nine` before they come here: JSON with more would differ
between machines in digits that mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from schemas.alerts import Alert, AuditRecord, Incident
from schemas.errors import FormatError
from schemas.triggers import RetrainTrigger
from schemas.verdicts import OutcomeReport, WindowReport

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"

Message = WindowReport | OutcomeReport | Alert | Incident | RetrainTrigger | AuditRecord

#: CloudEvents `type` by what is inside; a new major version is a new name.
TYPES: dict[type[msgspec.Struct], str] = {
    WindowReport: "tripline.window.v1",
    OutcomeReport: "tripline.outcomes.v1",
    Alert: "tripline.alert.v1",
    Incident: "tripline.incident.v1",
    RetrainTrigger: "tripline.retrain-trigger.v1",
    AuditRecord: "tripline.audit.v1",
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_T = TypeVar("_T", bound=msgspec.Struct)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent in structured mode; `data` stays JSON until it is asked for.

    source: `/tripline/<partition>`, whose ids are unique. subject: what it is about. time: RFC 3339, event time.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


_encoder = msgspec.json.Encoder()
_envelopes = msgspec.json.Decoder(Envelope)


def wrap(data: Message, *, id: str, source: str, subject: str, at: int) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """Value and headers of the CloudEvent that carries `data`; `at` is its event time in ms.

    >>> from schemas.alerts import Reason
    >>> audit = AuditRecord(subject="source 0", decision="stalled", reason=Reason.SOURCE_STALLED, at=0)
    >>> value, headers = wrap(audit, id="0-1", source="/tripline/0", subject=audit.subject, at=0)
    >>> dict(headers)["ce_type"], unwrap(value, AuditRecord) == audit
    (b'tripline.audit.v1', True)
    """
    kind, time = TYPES[type(data)], rfc3339(at)
    envelope = Envelope(
        id=id, source=source, type=kind, subject=subject, time=time, data=msgspec.Raw(_encoder.encode(data))
    )
    headers = (
        ("content-type", CONTENT_TYPE.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", time.encode()),
    )
    return _encoder.encode(envelope), headers


def unwrap(raw: bytes, kind: type[_T]) -> _T:
    """What a CloudEvent of ours carries, as `kind`; `FormatError` when it is something else or does not parse."""
    envelope = open_envelope(raw)
    if envelope.type != TYPES[kind]:
        raise FormatError(f"event {envelope.id}: of type {envelope.type!r}, expected {TYPES[kind]!r}")
    try:
        return msgspec.json.decode(envelope.data, type=kind)
    except msgspec.DecodeError as error:
        raise FormatError(f"event {envelope.id}: {error}") from error


def open_envelope(raw: bytes) -> Envelope:
    """Attributes of a CloudEvent without its data; `FormatError` when it does not parse."""
    try:
        return _envelopes.decode(raw)
    except msgspec.DecodeError as error:
        raise FormatError(f"CloudEvent: {error}") from error


def rfc3339(milliseconds: int) -> str:
    """Event time for people.

    >>> rfc3339(1_735_689_600_250)
    '2025-01-01T00:00:00.250Z'
    """
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def nine(value: float | None) -> float | None:
    """The number with nine significant digits; None for what is not a number (JSON has no infinity).

    >>> nine(2 / 3), nine(float("nan")), nine(None)
    (0.666666667, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.9g}")


def nine_of_each(values: Iterable[float]) -> list[float | None]:
    """`nine` of every number.

    >>> nine_of_each([1 / 3, 7.0])
    [0.333333333, 7.0]
    """
    return [nine(value) for value in values]
