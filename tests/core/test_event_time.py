"""Times as they come in life. What is not here has its test elsewhere:

out of order, late, dropped: test_profiling.py, test_monitoring_time.py; future: test_bad_records.py; idle partitions,
idle models: test_watermarks.py, test_monitoring_time.py; a source that stalls: test_monitoring_time.py; seasons over
daylight saving: tests/detectors/test_seasonality.py, test_odd_days.py; a partition count that grew:
tests/integration/test_worker_ends.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from streamer.core.profiling import ProfilingState, apply, start
from streamer.core.records import Batch, PlainRecord
from tests.core import stage2
from tests.core.stage1 import BEGIN, CONTROL, HOLD, LATENESS, PANE, SOURCE, event, record, summed
from tests.core.stage2 import DAY, Log, Reader, Source, control, events, layout, steady

SECOND, MINUTE = 1_000, 60_000


def counted(records: Sequence[PlainRecord], *, cuts: Sequence[int] = ()) -> tuple[ProfilingState, int, int]:
    """State, events on time and late ones after some records, cut into batches."""
    state, said = start(CONTROL, SOURCE, next={"predictions": 0}), []
    for begin, end in pairwise([0, *cuts, len(records)]):
        state, outputs = apply(state, Batch("predictions", records[begin:end], end), CONTROL)
        said.append(outputs)
    tables = summed(said, CONTROL).tables
    late = sum(table["n", ""] for key, table in tables.items() if key[4])
    return state, sum(table["n", ""] for table in tables.values()) - late, late


def told(times: Sequence[tuple[int, int]]) -> list[PlainRecord]:
    """Predictions by (event time, append time) after BEGIN."""
    return [
        record(event(id=f"e{i}", ts=BEGIN + ts), offset=i, append=BEGIN + append)
        for i, (ts, append) in enumerate(times)
    ]


def test_a_producer_whose_clock_is_behind_is_late_and_revises() -> None:
    """One of two clocks is behind by a pane and the lateness: its events are late, counted, and none is lost."""
    behind = PANE + LATENESS
    times = [(at - (behind if at // SECOND % 2 else 0), at) for at in range(behind, behind + 100 * SECOND, SECOND)]
    state, on_time, late = counted(told(times))
    assert (on_time + late, state.drops["late"]) == (100, 0)
    assert late > 25


def test_a_producer_whose_clock_is_ahead_a_little_makes_the_others_late_and_loses_none() -> None:
    """Within the five minutes that a time may be ahead, and the hold."""
    ahead = 100 * SECOND
    times = [(at + (ahead if at // SECOND % 2 else 0), at) for at in range(0, 100 * SECOND, SECOND)]
    state, on_time, late = counted(told(times))
    assert on_time + late == 100
    assert (state.drops["future"], state.drops["late"]) == (0, 0)
    assert ahead < HOLD


def test_a_producer_whose_clock_is_far_ahead_is_dropped_and_moves_nothing() -> None:
    """An hour ahead is `future`: were it to raise the maximum, everybody else would be late."""
    times = [(at + (60 * MINUTE if at // SECOND % 2 else 0), at) for at in range(0, 100 * SECOND, SECOND)]
    state, on_time, late = counted(told(times))
    assert (on_time, late, state.drops["future"]) == (50, 0, 50)
    assert state.maxima["credit"] == BEGIN + 98 * SECOND


@pytest.mark.parametrize("seed", range(4))
def test_an_input_with_the_producers_times_counts_the_same_in_any_batches(seed: int) -> None:
    """CreateTime: append times go back and forth with the producers' clocks, and are what `future` is judged by."""
    rng = random.Random(seed)
    times = [
        (at + rng.randrange(-40_000, 40_000), at + rng.randrange(-400_000, 60_000)) for at in range(0, 600_000, 4_000)
    ]
    records = told([(max(0, ts), max(0, append)) for ts, append in times])
    whole = counted(records)
    cut = counted(records, cuts=sorted(rng.sample(range(1, len(records)), 12)))
    assert cut[1:] == whole[1:]
    assert (cut[0].drops, cut[0].maxima) == (whole[0].drops, whole[0].maxima)
    assert whole[0].drops["future"] > 0


def test_a_year_of_history_is_counted_in_its_own_time() -> None:
    """What is appended today and is a year old goes through week by week: nothing is late, no clock closes a pane."""
    one = layout()
    log, source = Log(), Source()
    appended = stage2.BEGIN + 400 * DAY
    for week in range(53):
        begin = stage2.BEGIN + 7 * week * DAY
        log.append(appended + week, source.delta(one, events(20, start=begin)), source.progress())
    reports = Reader.start(control(one)).read(log).said("windows")
    assert sum(report.n for report in reports) == 52 * 20
    assert {(report.revision, report.late_n) for report in reports} == {(0, 0)}
    assert all(before.end == after.start for before, after in pairwise(reports))
    assert reports[-1].end <= stage2.BEGIN + 366 * DAY


def test_a_gap_of_ten_years_is_closed_in_a_few_steps() -> None:
    """525,600 empty panes are a handful of reports, and counting goes on behind them."""
    log, source = Log(), Source()
    steady(log, [source], layout(), panes=4)
    back = stage2.BEGIN + 3_650 * DAY
    steady(log, [source], layout(), panes=3, start=back)
    reports = Reader.start(control(layout())).read(log).said("windows")
    assert sum(report.n for report in reports) == 60 * 6
    assert len(reports) < 30
    assert all(before.end == after.start for before, after in pairwise(reports))


@pytest.mark.parametrize("change", [1_743_292_800_000, 1_761_436_800_000], ids=["March", "October"])
def test_the_night_of_daylight_saving_has_every_pane_once(change: int) -> None:
    """Panes are of the epoch: in Paris no hour is lost in March, and none is there twice in October."""
    one = layout(timezone="Europe/Paris")
    log = Log()
    steady(log, [Source()], one, panes=37, start=change)
    reports = Reader.start(control(one)).read(log).said("windows")
    assert [(report.start - change) // stage2.PANE for report in reports] == list(range(36))
    assert {(report.n, report.revision) for report in reports} == {(60, 0)}
