"""Stage 2 and layouts: taken in time, learned late, lacking, overtaken; models that move."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from stage2 import (
    BEGIN,
    PANE,
    Log,
    Reader,
    Source,
    busy_log_of_one,
    control,
    events,
    layout,
    reference,
    steady,
)

from schemas.alerts import AlertState, Reason
from schemas.errors import LateLayout, ReferenceFileError
from streamer.core import monitoring
from streamer.core.control import Control
from streamer.core.forms import form_of
from streamer.core.positions import latest
from streamer.core.records import Batch

ONE = layout()


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
