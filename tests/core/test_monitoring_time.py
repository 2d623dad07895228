"""Stage 2 and time: late events and revisions, held panes, silence, sources that say nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from stage2 import (
    BEGIN,
    DAY,
    HOUR,
    LATENESS,
    PANE,
    Log,
    Reader,
    Source,
    control,
    events,
    last_reports,
    layout,
    steady,
)

from schemas.alerts import Reason
from streamer.core.positions import latest

ONE = layout()


LATE = [
    # pane of the late events, (revision, n, late_n) of its last report, dropped
    ("while it is open: in the report, not in the charts", 5, (0, 70, 10), 0),
    ("closed, within hold: a revision", 3, (1, 70, 10), 0),
    ("closed, past hold: dropped", 0, (0, 60, 0), 10),
]


@pytest.mark.parametrize(("pane", "expected", "dropped"), [row[1:] for row in LATE], ids=[row[0] for row in LATE])
def test_late_events(pane: int, expected: tuple[int, int, int], dropped: int) -> None:
    one = layout(hold_ms=2 * PANE)
    log, source = Log(), Source()
    at = steady(log, [source], one, panes=6)
    rows = events(10, start=BEGIN + pane * PANE, seed=9)
    log.append(at + 1, source.delta(one, rows, late=[True] * 10))
    log.append(at + 2, source.progress())
    steady(log, [source], one, panes=3, start=BEGIN + 6 * PANE)
    reader = Reader.start(control(one)).read(log)
    report = last_reports(reader)[BEGIN + pane * PANE]
    assert expected == (report.revision, report.n, report.late_n)
    counters = reader.state.counters
    assert dropped == counters.drops["late"]
    assert counters.consumed == counters.applied + sum(counters.drops.values())
    assert report.views[0].features[0].n == report.n


def test_late_events_change_no_chart() -> None:
    """The same stream with and without late events: the same verdicts in every other window."""
    log, source = Log(), Source()
    at = steady(log, [source], ONE, panes=6)
    log.append(at + 1, source.delta(ONE, events(500, start=BEGIN + 4 * PANE, shift=5.0), late=[True] * 500))
    steady(log, [source], ONE, panes=6, start=BEGIN + 6 * PANE)
    plain, other = Log(), Source()
    steady(plain, [other], ONE, panes=12)
    reports = [Reader.start(control(ONE)).read(one).said("windows") for one in (log, plain)]
    verdicts = [
        {report.start: report.views[0].features[0].verdict for report in some if report.revision == 0}
        for some in reports
    ]
    assert verdicts[0] == verdicts[1]


def test_a_revision_is_said_once_per_progress_however_many_deltas_were_late() -> None:
    log, source = Log(), Source()
    at = steady(log, [source], ONE, panes=4)
    for seed in range(5):
        rows = events(3, start=BEGIN, seed=20 + seed)
        log.append(at + 1, source.delta(ONE, rows, late=[True] * 3))
    log.append(at + 2, source.progress())
    reader = Reader.start(control(ONE)).read(log)
    revisions = [(report.start, report.revision, report.late_n) for report in reader.said("windows")[3:]]
    assert revisions == [(BEGIN, 1, 15)]


def test_held_panes_are_let_go_when_hold_has_passed() -> None:
    one = layout(hold_ms=2 * PANE)
    log = Log()
    steady(log, [Source()], one, panes=8)
    reader = Reader.start(control(one)).read(log)
    held = [key for key in latest(reader.changelog) if key.startswith(b"held|")]
    assert len(held) == len(reader.state.models["m"].held) == 2


def test_a_slow_source_is_not_late_for_what_is_open_and_late_for_what_is_closed_here() -> None:
    """Events on time at their source that meet a closed pane are late here: charts do not go back."""
    log, fast, slow = Log(), Source(0), Source(1)
    known = control(ONE, sources=2)
    log.append(BEGIN, slow.progress(caught_up=True))
    steady(log, [fast], ONE, panes=4)
    for second in range(0, 60, 10):
        log.append(BEGIN + 4 * PANE + LATENESS + second * 1_000, slow.progress(caught_up=True), fast.progress())
    reader = Reader.start(known).read(log)
    assert [report.n for report in reader.said("windows")] == [60, 60, 60]
    log.append(BEGIN + 5 * PANE, slow.delta(ONE, events(10, start=BEGIN)), slow.progress())
    reader = Reader.start(known).read(log)
    assert [(r.start, r.revision, r.n, r.late_n) for r in reader.said("windows")[3:]] == [(BEGIN, 1, 70, 10)]


def test_a_long_silence_is_one_report_and_an_alarm_is_dated_to_its_pane() -> None:
    """A week without events is closed in a few steps; the silence is alarmed at the pane in which it was too long."""
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=6)
    back = BEGIN + 7 * DAY
    log.append(back, source.delta(ONE, events(60, start=back)))
    reader = Reader.start(control(ONE)).read(log)
    reports = reader.said("windows")
    assert [report.n for report in reports[:5]] == [60] * 5
    assert all(report.n == 0 for report in reports[6:])
    assert len(reports) < 12
    spans = [(report.start, report.end) for report in reports]
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    [silence] = [alert for alert in reader.said("alerts") if alert.evidence.detector == "silence"]
    assert silence.reason is Reason.SILENCE
    assert silence.window_end - (BEGIN + 6 * PANE) < HOUR


def test_a_silent_model_closes_empty_panes_while_append_time_passes() -> None:
    log, source = Log(), Source()
    at = steady(log, [source], ONE, panes=3)
    for second in range(0, 3_600, 1):
        log.append(at + second * 1_000, source.progress(caught_up=True))
    reader = Reader.start(control(ONE)).read(log)
    assert [report.n for report in reader.said("windows")] == [60, 60, 60, 0, 0, 0, 0, 0]
    assert reader.state.watermarks()["m"] > BEGIN + 8 * PANE


def test_a_source_that_says_nothing_holds_every_pane_and_is_announced_once() -> None:
    log, sources = Log(), [Source(0), Source(1)]
    log.append(BEGIN, sources[1].progress(caught_up=True))
    at = steady(log, sources[:1], ONE, panes=3)
    known = control(ONE, sources=2)
    reader = Reader.start(known).read(log)
    assert reader.said("windows") == []
    assert [(audit.subject, audit.decision) for audit in reader.said("audit")] == [("source 1", "stalled")]
    log.append(at, sources[1].progress(caught_up=True))
    log.append(at + 11_000, sources[1].progress(caught_up=True), sources[0].progress(caught_up=True))
    reader = Reader.start(known).read(log)
    sources_said = [audit.reason for audit in reader.said("audit") if audit.subject == "source 1"]
    assert sources_said == [Reason.SOURCE_STALLED, Reason.SOURCE_MOVES]
    assert [report.n for report in reader.said("windows")] == [60, 60]


def test_a_source_that_never_spoke_holds_and_is_announced() -> None:
    log = Log()
    steady(log, [Source(0)], ONE, panes=3)
    reader = Reader.start(control(ONE, sources=2)).read(log)
    assert (reader.said("windows"), reader.state.watermarks()) == ([], {})
    assert [audit.reason for audit in reader.said("audit")] == [Reason.SOURCE_STALLED]
