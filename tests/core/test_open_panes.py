"""`limits.open_panes`: a pane that would be one too many is refused, in the order of the log, and every event told."""

from __future__ import annotations

import numpy as np
import pytest
from stage2 import BEGIN, PANE, Events, Log, Reader, Source, control, events, layout

from schemas.alerts import Reason
from schemas.layouts import Layout, Limits
from streamer.core.control import Control
from streamer.core.positions import MonitoringPosition, unpack


def bounded(most: int) -> Layout:
    return layout(limits=Limits(open_panes=most))


def ahead(one: Layout, *, seed: int = 0) -> Log:
    """Two sources: one stands still for a while, and the other runs eight panes ahead of it, again and again."""
    log, slow, fast = Log(), Source(0), Source(1)
    for turn in range(6):
        start = BEGIN + turn * 8 * PANE
        log.append(start, slow.delta(one, events(20, start=start, seed=seed)))
        for step in range(8):
            rows = events(30, start=start + step * PANE, span=2 * PANE, seed=seed + 1)
            log.append(start + step * 1_000, fast.delta(one, rows))
        for step in range(3):
            log.append(start + 9_000, slow.delta(one, events(20, start=start + (3 + 2 * step) * PANE, seed=seed + 2)))
    for later in (1, 2, 3):
        log.append(start + 8 * PANE + later * 3_600_000, slow.progress(caught_up=True), fast.progress(caught_up=True))
    return log


def both(one: Layout) -> Control:
    return control(one, sources=2)


def test_a_pane_that_is_one_too_many_is_refused_and_opens_when_there_is_room() -> None:
    one = bounded(2)
    log, source = Log(), Source()
    panes = [events(10 + at, start=BEGIN + at * PANE) for at in range(4)]
    for rows in panes[:1]:
        log.append(BEGIN, source.delta(one, rows))
    # Panes 1, 2 and 3 at once, told as if none of them raised the maximum: pane 0 stays open.
    names = ("ts", "x", "y", "country", "version")
    whole = Events(*(np.concatenate([getattr(rows, name) for rows in panes[1:]]) for name in names))
    quiet = source.delta(one, whole)
    quiet.max_ts = BEGIN + PANE - 1
    log.append(BEGIN + 1, quiet)
    log.append(BEGIN + 2, source.delta(one, events(5, start=BEGIN + 3 * PANE)))  # refused once more, then 0 and 1 close
    log.append(BEGIN + 3, source.delta(one, events(7, start=BEGIN + 3 * PANE, seed=1)))
    reader = Reader.start(control(one)).read(log)
    counters = reader.state.counters
    assert {pane.start: int(pane.on_time.counts[:, 0].sum()) for pane in reader.state.open_panes()} == {
        BEGIN + 3 * PANE: 7
    }
    assert counters.drops == {"late": 0, "layout": 0, "over_limit": 12 + 13 + 5}
    assert (counters.consumed, counters.applied) == (10 + 11 + 12 + 13 + 5 + 7, 10 + 11 + 7)
    (told,) = [audit for audit in reader.said("audit") if audit.reason is Reason.OVER_LIMIT]
    assert (told.at, told.details) == (BEGIN + 2 * PANE, {"open_panes": 2, "limit": 2, "oldest": BEGIN})


def test_all_is_told_and_nothing_counted_twice_while_panes_are_refused() -> None:
    reader = Reader.start(both(bounded(3))).read(ahead(bounded(3)))
    counters = reader.state.counters
    assert counters.drops["over_limit"] > 100
    assert counters.consumed == counters.applied + sum(counters.drops.values())
    reports = {report.start: report.n for report in reader.said("windows")}
    assert sum(reports.values()) == counters.applied


@pytest.mark.parametrize("most", [2, 3, 5])
def test_a_worker_that_comes_back_refuses_what_was_refused(most: int) -> None:
    """Open panes are rebuilt from their own first record on; without that the digest would differ."""
    one = both(bounded(most))
    log = ahead(bounded(most), seed=most)
    expected = Reader.start(one).read(log)
    reader = Reader.start(one)
    for batch in log.batches(range(1, len(log.records))):
        reader.apply(batch)
        reader = reader.restored(log)
    assert expected.state.counters.drops["over_limit"] > 0
    assert reader.outputs == expected.outputs
    assert reader.state.counters == expected.state.counters


@pytest.mark.parametrize("seed", range(3))
def test_any_cut_of_the_log_refuses_the_same(seed: int) -> None:
    one, log = both(bounded(3)), ahead(bounded(3))
    cuts = np.random.default_rng(seed).integers(1, len(log.records), 9).tolist()
    assert Reader.start(one).read(log, cuts).outputs == Reader.start(one).read(log).outputs


def test_within_the_limit_nothing_is_refused_and_the_position_says_nothing_of_it() -> None:
    reader = Reader.start(both(bounded(50))).read(ahead(bounded(50)))
    written = [value for key, value in reader.changelog if key == b"position"]
    assert reader.state.counters.drops["over_limit"] == 0
    positions = [unpack(value or b"", MonitoringPosition, key=b"position") for value in written]
    assert [position.opened for position in positions] == [{}] * len(written)
