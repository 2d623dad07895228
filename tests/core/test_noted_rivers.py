"""river's detectors beside the charts of outcomes: the same panes, the same words after any kill, and no page."""

from __future__ import annotations

import pytest

from schemas.alerts import AuditRecord, Reason
from schemas.layouts import OtherDetector
from tests.core.stage2 import BEGIN, HOUR, Reader
from tests.core.test_maturing import PANE, Traffic, control, incidents, layout, reports

ALSO = (OtherDetector(name="adwin", parameters={"delta": 0.05}), OtherDetector(name="ddm"))
SHIFT = {0: 1.0, 100: -2.0}


def noted(reader: Reader) -> list[AuditRecord]:
    return [one for one in reader.said("audit") if one.reason is Reason.OTHER_DETECTOR]


def test_an_alarm_of_river_is_in_the_report_and_the_audit_and_pages_nobody() -> None:
    watched = layout(also=ALSO)
    plain = Reader.start(control(layout())).read(Traffic(layout()).run(220, b=SHIFT).log)
    reader = Reader.start(control(watched)).read(Traffic(watched).run(220, b=SHIFT).log)
    [*records] = noted(reader)
    assert {one.details["detector"] for one in records} == {"adwin", "ddm"}
    first = records[0]
    assert first.at == first.details["pane"] + HOUR + 3 * HOUR  # type: ignore[operator]
    assert BEGIN + 95 * PANE <= first.details["pane"] < BEGIN + 120 * PANE  # type: ignore[operator]
    told = [one for one in reports(reader) if any("river's" in finding for finding in one.findings)]
    assert [one.start for one in told] == sorted({one.details["pane"] for one in records})
    # The incident is that of our own charts, pane for pane; nothing of river's is in it.
    assert [(one.opened_at, one.state) for one in incidents(reader)] == [
        (one.opened_at, one.state) for one in incidents(plain)
    ]
    assert {one.feature for found in incidents(reader) for one in found.evidence} <= {"error", "calibration"}
    assert sum(reader.state.counters.noted.values()) == len(records)


def test_without_them_nothing_of_it_is_kept_or_said() -> None:
    reader = Reader.start(control(layout())).read(Traffic(layout()).run(220, b=SHIFT).log)
    assert noted(reader) == []
    assert not [key for key, _ in reader.changelog if key.startswith(b"chart|rivers")]


@pytest.mark.parametrize("every", [37, 101])
def test_killed_anywhere_they_go_on_as_if_never_stopped(every: int) -> None:
    watched = layout(also=ALSO)
    log = Traffic(watched).run(200, b=SHIFT).log
    whole = Reader.start(control(watched)).read(log)
    reader = Reader.start(control(watched)).read_killed(log, every=every)
    assert whole.words == reader.words
    assert whole.state.counters == reader.state.counters
    assert noted(whole)


def test_batches_do_not_matter() -> None:
    watched = layout(also=ALSO)
    log = Traffic(watched).run(160, b=SHIFT).log
    whole = Reader.start(control(watched)).read(log)
    parts = Reader.start(control(watched)).read(log, cuts=range(0, len(log.records), 3))
    assert whole.words == parts.words


def test_a_new_layout_without_them_forgets_them() -> None:
    watched, after = layout(also=ALSO), layout(from_ms=BEGIN + 60 * PANE)
    before = Traffic(watched).run(60)
    reader = Reader.start(control(watched, after)).read(before.log)
    assert dict(reader.changelog)[b"chart|rivers|m"] is not None
    further = Traffic(after, log=before.log, position=before.position, seq=before.seq, waiting=before.waiting)
    reader = Reader.start(control(watched, after)).read(further.run(40, first=60).log)
    assert reader.state.models["m"].layout == after.id
    assert reader.state.models["m"].rivers is None
    assert dict(reader.changelog)[b"chart|rivers|m"] is None
