"""Stage 2 as a whole: the truth of windows, any batching, coming back, ranges, findings, one whole drift."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from stage2 import (
    BEGIN,
    HOUR,
    PANE,
    Events,
    Log,
    Reader,
    Source,
    busy_log,
    busy_log_of_one,
    cells,
    control,
    events,
    last_reports,
    layout,
    reference,
    steady,
)

from schemas.errors import ConfigurationError, FormatError, ProtocolBroken
from schemas.profiles import Extra
from schemas.verdicts import Status
from streamer.core import monitoring
from streamer.core.control import Control
from streamer.core.monitoring import PANES_PER_APPLY
from streamer.core.positions import POSITION_KEY, MonitoringPosition, latest, unpack
from streamer.core.records import Batch

ONE = layout()


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


def test_the_reference_of_these_tests_may_page() -> None:
    assert reference().provisional == ""
    assert isinstance(events(3), Events)
