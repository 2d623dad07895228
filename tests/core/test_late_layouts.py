"""Layouts that are learned after their time: a worker stops for one once, and goes on with it when it is back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage2 import BEGIN, LATENESS, PANE, Log, Reader, Source, control, events, last_reports, layout, steady

from schemas.alerts import Reason
from schemas.errors import LateLayout
from streamer.core import monitoring
from streamer.core.records import Batch

ONE = layout()
LONGER = layout(from_ms=BEGIN + 12 * PANE, pane_ms=2 * PANE, owner="others")


def nothing(reader: Reader) -> Batch:
    """A batch without records, as comes when `control` has moved."""
    return Batch("profiles", [], reader.state.read_to)


def stopped(log: Log) -> Reader:
    """A worker that has read the log, and has then learned of a layout too late."""
    reader = Reader.start(control(ONE)).read(log)
    late = control(ONE, LONGER)
    with pytest.raises(LateLayout, match="watermark"):
        monitoring.apply(reader.state, nothing(reader), late)
    return replace(reader, control=late)


def test_who_comes_back_after_a_late_layout_goes_on_with_it() -> None:
    """Thirteen panes have closed, its own are twice as long: it begins at the next one of these, and says so.

    The fourteenth, which was open, was counted under the layout before: its events are dropped, and in the accounts.
    """
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=14)
    reader = stopped(log).restored(log)
    reader.apply(nothing(reader))
    (told,) = [audit for audit in reader.said("audit") if audit.reason is Reason.LAYOUT_LATE]
    assert (told.at, told.details["from_ms"]) == (BEGIN + 14 * PANE, LONGER.from_ms)
    seen = len(log.records)
    steady(log, [source], LONGER, panes=4, start=BEGIN + 14 * PANE)
    reader = reader.restored(log)
    for batch in list(log.batches([seen]))[1:]:
        reader.apply(batch)
    spans = {start: (one.layout, one.end - start, one.n) for start, one in last_reports(reader).items()}
    begins = [BEGIN + (14 + 2 * i) * PANE for i in range(3)]
    assert [spans[at] for at in begins] == [(LONGER.id, 2 * PANE, 60)] * 3
    assert spans[BEGIN + 12 * PANE] == (ONE.id, PANE, 60)
    counters = reader.state.counters
    assert (counters.applied, counters.drops["layout"]) == (13 * 60 + 4 * 60, 60)
    assert counters.consumed == counters.applied + 60
    assert reader.restored(log).state.replayed


def test_what_is_open_under_the_layout_before_is_rebuilt_before_it_is_dropped() -> None:
    """A source counted past the time of a layout that nobody here knew; the worker dies, and comes back knowing it."""
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=3)
    log.append(BEGIN + 3 * PANE, source.delta(ONE, events(9, start=LONGER.from_ms)))
    log.append(BEGIN, Source(1).delta(ONE, events(5)))
    before = Reader.start(control(ONE, sources=2)).read(log)
    reader = replace(before, control=control(ONE, LONGER, sources=2)).restored(log)
    assert reader.state.replayed
    reader.apply(nothing(reader))
    counters = reader.state.counters
    assert counters.drops["layout"] == 9
    assert counters.consumed == counters.applied + sum(counters.drops.values())
    assert reader.restored(log).state.replayed


def test_late_rows_under_the_new_layout_do_not_mix_with_a_pane_that_closed_under_the_old_one() -> None:
    log, source = Log(), Source()
    at = steady(log, [source], ONE, panes=14)
    reader = stopped(log).restored(log)
    seen = len(log.records)
    late = events(4, start=LONGER.from_ms, span=PANE)
    log.append(at + 1, source.delta(LONGER, late, late=[True] * 4))
    log.append(at + LATENESS, source.progress())
    for batch in list(log.batches([seen]))[1:]:
        reader.apply(batch)
    assert reader.state.counters.drops["layout"] == 60 + 4
    assert last_reports(reader)[LONGER.from_ms].late_n == 0
