"""What people say of incidents: audited once, counted against the budget while it reaches back to them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from stage2 import BEGIN, DAY, PANE, Log, Reader, Source, control, layout, steady

from schemas.alerts import Mark, Reason
from schemas.layouts import Layout
from streamer.core.control import Control, publish_mark
from streamer.core.marking import spent, unheard
from streamer.core.records import Batch

MARK = Mark(incident="i1", model="m", word="false", by="ada", at=7, opened_at=BEGIN, reason="a sale")
STATED = Layout(model="m", from_ms=0, reference="r", budget_ms=DAY, false_alarms=2.0)


def changed(**fields: object) -> Mark:
    return msgspec.structs.replace(MARK, **fields)


@pytest.mark.parametrize(
    ("mark", "at", "expected"),
    [
        (MARK, BEGIN, 1),
        (MARK, BEGIN + DAY - 1, 1),
        (MARK, BEGIN + DAY, 0),
        (MARK, BEGIN - 1, 0),
        (changed(word="true"), BEGIN, 0),
        (changed(model="other"), BEGIN, 0),
    ],
    ids=["at once", "while the budget reaches back", "no more", "not before it opened", "true", "another model's"],
)
def test_what_is_spent(mark: Mark, at: int, expected: int) -> None:
    assert spent(STATED, {"i1": mark}, at=at) == (expected, 2.0, DAY)


def test_a_word_is_heard_once_and_a_changed_one_again() -> None:
    marks = {"i1": MARK, "i2": changed(incident="i2", at=3), "i3": changed(incident="i3", model="other")}
    assert [mark.incident for mark in unheard({}, marks, model="m")] == ["i2", "i1"]
    assert unheard({"i1": 7, "i2": 3}, marks, model="m") == []
    assert [mark.incident for mark in unheard({"i1": 6, "i2": 3}, marks, model="m")] == ["i1"]


def test_a_mark_travels_on_control_and_can_be_taken_away() -> None:
    record = publish_mark(MARK)
    known = Control().apply(record.key, record.value, offset=0)
    assert known.marks == {"i1": MARK}
    assert known.apply(record.key, None, offset=1).marks == {}


def test_the_worker_audits_it_once_and_reports_what_is_spent() -> None:
    log = Log()
    steady(log, [Source()], layout(), panes=6)
    reader = Reader.start(control())
    first, second = log.batches([6])
    reader.apply(first)
    marked = replace(reader.control, marks={"i1": MARK})
    reader = replace(reader, control=marked)
    reader.apply(second)
    reader.apply(Batch("profiles", [], second.next_offset))
    [audit] = [one for one in reader.said("audit") if one.reason is Reason.MARKED_FALSE]
    assert (audit.subject, audit.details["by"], audit.details["spent"]) == ("incident i1", "ada", 1)
    assert [one.false_alarms_spent for one in reader.said("windows")] == [0, 0, 1, 1, 1]
    assert reader.state.budgets(marked)["m"].marked == 1
    assert reader.state.budgets(control()) == {"m": (0, 1.0, 30 * DAY)}
    again = reader.restored(log)
    again.apply(Batch("profiles", [], second.next_offset))
    assert len(again.said("audit")) == len(reader.said("audit"))


def test_an_incident_says_what_is_spent() -> None:
    log = Log()
    steady(log, [Source()], layout(), panes=12, shifts=dict.fromkeys(range(4, 12), 2.0))
    old = changed(opened_at=BEGIN - 3 * PANE)
    reader = Reader.start(replace(control(), marks={"i1": old})).read(log)
    assert [(one.false_alarms_spent, one.false_alarms_stated) for one in reader.said("incidents")][:1] == [(1, 1.0)]
