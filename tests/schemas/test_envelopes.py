"""CloudEvents 1.0: what the `cloudevents` package reads is what we wrote."""

from __future__ import annotations

import json
import warnings

import pytest

from schemas.alerts import AuditRecord, Incident, Reason
from schemas.envelopes import nine, open_envelope, rfc3339, unwrap, wrap
from schemas.errors import FormatError

AUDIT = AuditRecord(subject="source 0", decision="stalled", reason=Reason.SOURCE_STALLED, at=1_735_689_600_250)
VALUE, HEADERS = wrap(AUDIT, id="0-1", source="/tripline/0", subject=AUDIT.subject, at=AUDIT.at)


def test_it_is_a_cloud_event_to_the_package_that_defines_them() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cloudevents.core.formats.json import JSONFormat
        from cloudevents.core.v1.event import CloudEvent
    event = JSONFormat().read(CloudEvent, VALUE)
    assert (event.get_id(), event.get_type(), event.get_specversion()) == ("0-1", "tripline.audit.v1", "1.0")
    assert event.get_data()["decision"] == "stalled"


def test_headers_are_copies_of_the_attributes() -> None:
    attributes = {name: value for name, value in json.loads(VALUE).items() if name not in ("data", "datacontenttype")}
    copies = {name.removeprefix("ce_"): value.decode() for name, value in HEADERS if name.startswith("ce_")}
    assert attributes == copies
    assert dict(HEADERS)["content-type"].startswith(b"application/cloudevents+json")


def test_time_is_event_time() -> None:
    assert open_envelope(VALUE).time == "2025-01-01T00:00:00.250Z"
    assert rfc3339(253_402_300_799_999) == "9999-12-31T23:59:59.999Z"


def test_what_is_inside_comes_back() -> None:
    assert unwrap(VALUE, AuditRecord) == AUDIT


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"id": 1}', VALUE[:-5], b"\xff"])
def test_what_is_no_event_of_ours_is_a_format_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        unwrap(raw, AuditRecord)


def test_another_type_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match=r"tripline\.audit\.v1"):
        unwrap(VALUE, Incident)


@pytest.mark.parametrize(
    ("value", "printed"),
    [(2 / 3, 0.666666667), (123456789.123, 123456789.0), (1e-300, 1e-300), (float("inf"), None), (None, None)],
)
def test_floats_have_nine_digits(value: float | None, printed: float | None) -> None:
    assert printed == nine(value)
