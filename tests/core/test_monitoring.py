"""Stage 2 as a whole: the truth of windows, any batching, coming back, late events, gaps, layouts, silence."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from stage2 import (
    BEGIN,
    DAY,
    HOUR,
    LATENESS,
    PANE,
    Events,
    Log,
    Reader,
    Source,
    control,
    events,
    layout,
    reference,
    steady,
)

from schemas.alerts import AlertState, Reason
from schemas.errors import ConfigurationError, FormatError, LateLayout, ProtocolBroken, ReferenceFileError
from schemas.layouts import Layout
from schemas.profiles import Extra
from schemas.verdicts import Status, WindowReport
from streamer.core import monitoring
from streamer.core.control import Control
from streamer.core.forms import form_of
from streamer.core.monitoring import PANES_PER_APPLY
from streamer.core.positions import POSITION_KEY, MonitoringPosition, latest, unpack
from streamer.core.records import Batch

ONE = layout()


def busy_log(one: Layout = ONE) -> Log:
    """Two sources, disorder, a late pane's worth, a drift and its end, a record twice, a silence and a return."""
    log, sources = Log(), [Source(0), Source(1)]
    at = steady(log, sources, one, panes=6, n=40)
    late = events(15, start=BEGIN + PANE, span=2 * PANE, seed=7)
    log.append(at + 1, sources[0].delta(one, late, late=[True] * 15))
    log.append(at + 2, sources[0].progress(caught_up=True))
    at = steady(log, sources, one, panes=30, n=40, start=BEGIN + 6 * PANE, shifts=dict.fromkeys(range(4, 12), 2.0))
    log.records.append(log.records[-1]._replace(offset=3 * len(log.records)))
    for second in range(0, 1_800, 60):
        for source in sources:
            log.append(at + second * 1_000, source.progress(caught_up=True))
    steady(log, sources, one, panes=5, n=40, start=BEGIN + 60 * PANE)
    return log


def last_reports(reader: Reader) -> dict[int, WindowReport]:
    """The last revision of every window, by its start."""
    found: dict[int, WindowReport] = {}
    for report in reader.said("windows"):
        found[report.start] = report
    return found


def cells(report: WindowReport) -> dict[tuple[str, tuple[str, ...]], int]:
    return {(cell.version, cell.segment): cell.n for cell in report.cells}


def test_every_window_says_what_counting_by_hand_says() -> None:
    """Three sources that cut the same hour differently: each pane's cells are the truth, each published once."""
    random = np.random.default_rng(5)
    rows = events(3_000, span=6 * PANE, seed=8)
    owner = random.integers(0, 3, 3_000)
    log, sources = Log(), [Source(number) for number in range(3)]
    for begin in range(0, 3_000, 100):
        chunk = slice(begin, begin + 100)
        for source in sources:
            mine = rows.take(chunk).take(owner[chunk] == source.number)
            log.append(int(rows.ts[begin]) + PANE, source.delta(ONE, mine))
    steady(log, sources, ONE, panes=2, start=BEGIN + 6 * PANE)
    reader = Reader.start(control(ONE, sources=3)).read(log)
    truth: dict[int, dict[tuple[str, tuple[str, ...]], int]] = defaultdict(lambda: defaultdict(int))
    for ts, version, country in zip(rows.ts.tolist(), rows.version, rows.country, strict=True):
        truth[ts // PANE * PANE][version, (country,)] += 1
    found = {start: cells(report) for start, report in last_reports(reader).items() if start < BEGIN + 6 * PANE}
    assert found == {start: dict(counts) for start, counts in truth.items()}
    names = [(report.start, report.revision) for report in reader.said("windows")]
    assert len(names) == len(set(names))
    assert reader.state.counters.consumed == reader.state.counters.applied == 3_000 + 3 * 120


def test_any_batching_gives_the_same_bytes() -> None:
    """I2b: one batch, one record at a time, and random cuts."""
    log, one = busy_log(), control(ONE, sources=2)
    whole = Reader.start(one).read(log)
    single = Reader.start(one).read(log, range(1, len(log.records)))
    cuts = np.random.default_rng(2).choice(len(log.records), 25, replace=False).tolist()
    random = Reader.start(one).read(log, cuts)
    assert {output.topic for output in whole.outputs} == {"windows", "alerts", "incidents", "retrain-triggers", "audit"}
    assert single.outputs == whole.outputs
    assert random.outputs == whole.outputs
    kept = [
        {key: value for key, value in latest(reader.changelog).items() if key != POSITION_KEY}
        for reader in (whole, single, random)
    ]
    assert kept[0] == kept[1] == kept[2]


def test_coming_back_after_any_record_is_as_if_nothing_had_happened() -> None:
    """Killed after each record and restored from the changelog and the log: the same bytes go on."""
    log, one = busy_log(), control(ONE, sources=2)
    expected = Reader.start(one).read(log)
    reader = Reader.start(one)
    for batch in log.batches(range(1, len(log.records))):
        reader = reader.restored(log)
        reader.apply(batch)
    assert reader.outputs == expected.outputs
    assert latest(reader.changelog).keys() == latest(expected.changelog).keys()
    assert reader.state.counters == expected.state.counters


def test_closes_that_do_not_fit_are_gone_on_with_and_survive_a_kill() -> None:
    """A model that jumps 500 panes ahead: bounded work per apply, the same reports, also when killed in between."""
    one = layout(pane_ms=60_000, idle_after_ms=1_000)
    log, source = Log(), Source()
    for minute in range(0, 500, 10):
        rows = events(20, start=BEGIN + minute * 60_000, span=600_000)
        log.append(BEGIN, source.delta(one, rows, late=[False] * 20))
    # Nothing closes while the watermark stands still: another source has said nothing.
    silent = Source(1)
    rows = events(20, start=BEGIN + 500 * 60_000, span=60_000)
    known = control(one, sources=2)
    log.append(BEGIN, silent.delta(one, rows))
    expected = Reader.start(known).read(log)
    reader = Reader.start(known)
    batch = Batch("profiles", log.records, 3 * len(log.records))
    closed: list[int] = []
    for _ in range(12):
        before = reader.state.counters.panes
        reader.state, outputs = monitoring.apply(reader.state, batch, known)
        closed.append(reader.state.counters.panes - before)
        reader.outputs += [output for output in outputs if output.topic != "changelog"]
        reader.changelog += [(output.key, output.value) for output in outputs if output.topic == "changelog"]
        reader = reader.restored(log)
        batch = Batch("profiles", [], 3 * len(log.records))
    assert closed == [PANES_PER_APPLY] * 9 + [499 - 9 * PANES_PER_APPLY, 0, 0]
    assert reader.outputs == expected.outputs
    assert not reader.state.backlog


def test_records_that_wait_behind_closes_are_read_again_after_a_kill() -> None:
    """The position stands before what still waits in memory, so nothing is lost with it."""
    one = layout(pane_ms=60_000)
    log, source = Log(), Source()
    log.append(BEGIN, source.delta(one, events(20)))
    for hours in (100, 200, 300):
        rows = events(20, start=BEGIN + hours * HOUR, span=PANE)
        log.append(BEGIN, source.delta(one, rows))
        for minute in range(0, 80):
            rows = events(2, start=BEGIN + hours * HOUR + minute * 60_000, span=60_000, seed=minute)
            log.append(BEGIN, source.delta(one, rows))
    expected = Reader.start(control(one)).read(log)
    reader, waited = Reader.start(control(one)), 0
    for _ in range(10):
        rest = [record for record in log.records if record.offset >= reader.state.next]
        reader.state, outputs = monitoring.apply(
            reader.state, Batch("profiles", rest, 3 * len(log.records)), control(one)
        )
        waited = max(waited, len(reader.state.backlog))
        reader.outputs += [output for output in outputs if output.topic != "changelog"]
        reader.changelog += [(output.key, output.value) for output in outputs if output.topic == "changelog"]
        reader = reader.restored(log)
    assert waited > 100
    assert reader.outputs == expected.outputs
    assert reader.state.counters == expected.state.counters


def test_an_apply_without_news_says_nothing() -> None:
    reader = Reader.start(control(ONE)).read(busy_log_of_one())
    before = len(reader.changelog)
    assert reader.apply(Batch("profiles", [], reader.state.next)) == []
    assert len(reader.changelog) == before


def test_the_position_says_where_to_replay_from() -> None:
    """replay_from is the oldest record that feeds an open pane; what was closed is not replayed."""
    log = busy_log_of_one()
    reader = Reader.start(control(ONE)).read(log)
    position = unpack(dict(reader.changelog)[POSITION_KEY] or b"", MonitoringPosition, key=POSITION_KEY)
    open_panes = [pane.start for pane in reader.state.open_panes()]
    assert open_panes == [BEGIN + 5 * PANE]
    assert position.replay_from == log.records[10].offset
    assert position.next == {"profiles": 3 * len(log.records)}
    back = monitoring.restore(reader.changelog, control(ONE), 0)
    assert not back.replayed
    with pytest.raises(ProtocolBroken, match="not rebuilt"):
        monitoring.apply(back, Batch("profiles", [], position.next["profiles"]), control(ONE))


def test_open_panes_that_are_not_what_they_were_stop_the_worker() -> None:
    log = busy_log_of_one()
    reader = Reader.start(control(ONE)).read(log)
    back = monitoring.restore(reader.changelog, control(ONE), 0)
    with pytest.raises(ProtocolBroken, match="digest"):
        monitoring.replay(back, [], control(ONE))


def busy_log_of_one() -> Log:
    log = Log()
    steady(log, [Source()], ONE, panes=6)
    return log


def test_a_range_that_comes_twice_is_dropped_and_counted() -> None:
    log = busy_log_of_one()
    log.records.insert(5, log.records[2])
    log.records = [record._replace(offset=3 * at) for at, record in enumerate(log.records)]
    expected = Reader.start(control(ONE)).read(busy_log_of_one())
    reader = Reader.start(control(ONE)).read(log)
    assert reader.state.counters.repeated == 1
    assert [report.n for report in reader.said("windows")] == [report.n for report in expected.said("windows")]


def test_a_gap_between_ranges_stops_the_worker() -> None:
    log = busy_log_of_one()
    del log.records[4]
    with pytest.raises(ProtocolBroken, match="does not join"):
        Reader.start(control(ONE)).read(log)


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


CHANGED = layout(from_ms=BEGIN + 12 * PANE, pane_ms=2 * PANE, owner="others")


def test_a_layout_takes_over_at_its_time_and_ends_the_incident_of_the_old_one() -> None:
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=12, shifts=dict.fromkeys(range(4, 12), 3.0))
    steady(log, [source], CHANGED, panes=4, start=CHANGED.from_ms)
    reader = Reader.start(control(ONE, CHANGED)).read(log)
    by_layout: dict[str, list[int]] = defaultdict(list)
    for report in reader.said("windows"):
        by_layout[report.layout].append((report.end - report.start) // PANE)
    assert dict(by_layout) == {ONE.id: [1] * 12, CHANGED.id: [2] * 3}
    last = reader.said("incidents")[-1]
    assert (last.state, last.reason, last.resolved_at) == (AlertState.RESOLVED, Reason.LAYOUT_CHANGED, CHANGED.from_ms)
    assert {alert.reason for alert in reader.said("alerts") if alert.ends_at} == {Reason.LAYOUT_CHANGED}
    in_force = [audit.subject for audit in reader.said("audit") if audit.reason is Reason.LAYOUT_IN_FORCE]
    assert in_force == [f"layout {ONE.id}", f"layout {CHANGED.id}"]
    single = Reader.start(control(ONE, CHANGED)).read(log, range(len(log.records)))
    assert single.outputs == reader.outputs


def test_a_layout_that_is_learned_in_time_is_taken_and_one_that_is_late_stops_the_worker() -> None:
    log = busy_log_of_one()
    reader = Reader.start(control(ONE)).read(log)
    reader.control = control(ONE, CHANGED)
    assert reader.apply(Batch("profiles", [], reader.state.next)) == []
    past = layout(from_ms=BEGIN + 2 * PANE, owner="late")
    with pytest.raises(LateLayout, match="watermark"):
        monitoring.apply(reader.state, Batch("profiles", [], reader.state.next), control(ONE, past))


def test_a_delta_of_a_layout_that_control_lacks_changes_nothing_and_may_be_tried_again() -> None:
    log = Log()
    steady(log, [Source()], ONE, panes=3)
    reader = Reader.start(Control(cluster=control().cluster))
    batch = next(log.batches(()))
    with pytest.raises(LateLayout, match="not in the control topic"):
        monitoring.apply(reader.state, batch, reader.control)
    reader.control = control(ONE)
    assert len(reader.apply(batch)) > 0
    assert reader.outputs == Reader.start(control(ONE)).read(log).outputs


def test_a_layout_whose_reference_is_not_whole_is_not_taken() -> None:
    log = Log()
    steady(log, [Source()], ONE, panes=1)
    lacking = replace(control(ONE), references={})
    with pytest.raises(LateLayout, match="reference"):
        Reader.start(lacking).read(log)
    with pytest.raises(ReferenceFileError, match=reference().id):
        form_of(ONE, lacking)


def test_events_counted_under_the_wrong_layout_are_dropped_and_counted() -> None:
    """A source that learned late of a layout: its events of the new time are in the accounts, not in the charts."""
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=12)
    log.append(CHANGED.from_ms, source.delta(ONE, events(7, start=CHANGED.from_ms)))
    reader = Reader.start(control(ONE, CHANGED)).read(log)
    assert reader.state.counters.drops["layout"] == 7
    learns = Reader.start(control(ONE)).read(log)
    learns.control = control(ONE, CHANGED)
    with pytest.raises(LateLayout):
        monitoring.apply(learns.state, Batch("profiles", [], learns.state.next), learns.control)


def test_a_model_that_moves_to_another_partition_closes_its_panes_up_to_there() -> None:
    moved = layout(from_ms=BEGIN + 3 * PANE, partition=1)
    log, source = Log(), Source()
    at = steady(log, [source], ONE, panes=3)
    for second in range(0, 1_200, 1):
        log.append(at + second * 1_000, source.progress(caught_up=True))
    reader = Reader.start(control(ONE, moved)).read(log)
    assert [report.n for report in reader.said("windows")] == [60, 60, 60]
    assert not [key for key in latest(reader.changelog) if key.startswith(b"chart|")]
    assert reader.restored(log).state.models["m"].closed == moved.from_ms


def test_names_of_odd_levels_are_findings() -> None:
    log, source = Log(), Source()
    extras = [Extra(0, "unseen", "country", "XX", 3), Extra(0, "unknown", "colour", "", 2)]
    log.append(BEGIN + PANE, source.delta(ONE, events(60), extras=extras))
    steady(log, [source], ONE, panes=2, start=BEGIN + PANE)
    report = Reader.start(control(ONE)).read(log).said("windows")[0]
    assert report.findings == ["unseen: country XX (3)", "unknown: colour (2)"]


def test_a_verdict_says_drift_with_its_direction_while_the_incident_lasts() -> None:
    log = Log()
    steady(log, [Source()], ONE, panes=16, shifts=dict.fromkeys(range(4, 16), 2.0))
    last = Reader.start(control(ONE)).read(log).said("windows")[-1].views[0].features[0]
    assert last.verdict is not None
    assert (last.verdict.status, last.verdict.direction) == (Status.DRIFT, "location up")
    assert last.psi is not None
    assert last.psi_noise is not None
    assert last.psi > 3 * last.psi_noise
    assert last.mean == pytest.approx(2.0, abs=0.5)


def test_two_models_of_one_partition_do_not_mix() -> None:
    other = layout(model="n")
    log, source = Log(), Source()
    for pane in range(4):
        begin = BEGIN + pane * PANE
        log.append(begin + PANE, source.delta(ONE, events(30, start=begin)))
        log.append(begin + PANE, source.delta(other, events(50, start=begin, seed=1)))
    reader = Reader.start(control(ONE, other)).read(log)
    found = [(report.model, report.n) for report in reader.said("windows")]
    assert found == [("m", 30), ("n", 50)] * 3


def test_a_record_that_is_damaged_is_refused() -> None:
    log = busy_log_of_one()
    log.records[3] = log.records[3]._replace(value=b"\x93")
    with pytest.raises(FormatError):
        Reader.start(control(ONE)).read(log)


def test_without_partition_counts_nothing_can_be_judged() -> None:
    with pytest.raises(ConfigurationError, match="cluster"):
        Reader.start(Control(models=control(ONE).models, references=control().references)).read(busy_log_of_one())


def test_a_changelog_of_a_newer_format_is_refused() -> None:
    reader = Reader.start(control(ONE)).read(busy_log_of_one())
    raw = reader.changelog[-1][1] or b""
    newer = raw.replace(b"\xa6format\x01", b"\xa6format\x63")
    with pytest.raises(FormatError, match="format 99"):
        monitoring.restore([(POSITION_KEY, newer)], control(ONE), 0)


def test_rows_of_disorder_within_a_delta_open_several_panes() -> None:
    """One delta over three panes, rows interleaved: each pane gets its own."""
    rows = events(90, span=3 * PANE, seed=11)
    mixed = rows.take(np.random.default_rng(0).permutation(90))
    log, source = Log(), Source()
    log.append(BEGIN + 3 * PANE, source.delta(ONE, mixed))
    steady(log, [source], ONE, panes=2, start=BEGIN + 3 * PANE)
    reader = Reader.start(control(ONE)).read(log)
    expected = np.bincount((rows.ts - BEGIN) // PANE).tolist()
    assert expected == [report.n for report in reader.said("windows")[:3]]


def test_a_drift_is_one_incident_one_trigger_and_resolves_when_it_is_over() -> None:
    log = Log()
    steady(log, [Source()], ONE, panes=70, shifts=dict.fromkeys(range(20, 40), 1.5))
    reader = Reader.start(control(ONE)).read(log)
    incidents, [trigger] = reader.said("incidents"), reader.said("retrain-triggers")
    opened, resolved = incidents[0], incidents[-1]
    panes = [(at - BEGIN) // PANE for at in (opened.opened_at, resolved.resolved_at)]
    assert (opened.state, resolved.state, len({one.id for one in incidents})) == ("firing", "resolved", 1)
    assert 20 < panes[0] < 26
    assert 40 < panes[1] < 60
    assert {(one.feature, one.direction) for one in resolved.evidence} == {("x", "location up")}
    assert resolved.evidence[0].size == pytest.approx(1.5, abs=0.5)
    assert (trigger.incident, trigger.state, trigger.window_end) == (opened.id, "approved", opened.opened_at)
    assert {output.key for output in reader.outputs if output.topic == "incidents"} == {f"m|{opened.version}".encode()}


def test_events_open_under_a_layout_that_is_overtaken_are_dropped_and_counted() -> None:
    """Events of the new layout's time that came before it was known leave their pane, and stay in the accounts."""
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=3)
    log.append(BEGIN + 3 * PANE, source.delta(ONE, events(9, start=CHANGED.from_ms), late=[False] * 9))
    holder = Source(1)
    log.append(BEGIN, holder.delta(ONE, events(5)))
    reader = Reader.start(control(ONE, sources=2)).read(log)
    reader.control = control(ONE, CHANGED, sources=2)
    reader.apply(Batch("profiles", [], reader.state.next))
    counters = reader.state.counters
    assert counters.drops["layout"] == 9
    assert counters.consumed == counters.applied + sum(counters.drops.values())
    assert reader.restored(log).state.replayed


def test_the_reference_of_these_tests_may_page() -> None:
    assert reference().provisional == ""
    assert isinstance(events(3), Events)
