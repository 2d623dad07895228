"""Rows far ahead of a table's clock, against gaps, disorder and shuffled rows, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from detectors.building import ReferenceBuilder
from detectors.horizon import Horizon
from detectors.rows import Rows
from streamer.applying import layout_of
from streamer.backtesting import run
from streamer.config import load_text
from streamer.table_clock import with_future
from streamer.tables import Part
from tests.histories import EVERY, HOUR, START, reference, rows

FAR = 4_070_908_800_000  # 2099
DAY = 24 * HOUR
A_MINUTE = np.arange(500, dtype=np.int64) * 60_000 + START


def parts(ts: npt.NDArray[np.int64], size: int) -> Iterator[Part]:
    for first in range(0, len(ts), size):
        yield Part(first, Rows(ts=ts[first : first + size], columns={}))


def ahead(ts: npt.NDArray[np.int64], size: int = 1000) -> list[int]:
    return np.flatnonzero(np.concatenate([mask for _, mask in with_future(parts(ts, size))])).tolist()


def changed(at: list[int], time: int) -> npt.NDArray[np.int64]:
    ts = A_MINUTE.copy()
    ts[at] = time
    return ts


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
@pytest.mark.parametrize("at", [[0], [1], [40, 41, 42], [250], [498], [499], [497, 498, 499], list(range(300, 307))])
def test_a_few_rows_far_ahead_are_ahead_wherever_they_stand(at: list[int], size: int) -> None:
    assert ahead(changed(at, FAR), size) == at


@pytest.mark.parametrize("far", [12 * HOUR, 3 * DAY])
def test_an_hour_may_be_far_when_rows_come_every_minute(far: int) -> None:
    assert ahead(changed([100], START + far)) == [100]


@pytest.mark.parametrize("after", [4, 20, 250])
def test_ten_months_without_a_row_are_a_gap(after: int) -> None:
    ts = A_MINUTE.copy()
    ts[500 - after :] += 300 * DAY
    assert ahead(ts) == []


def test_rows_that_are_only_out_of_order_are_not_ahead() -> None:
    rng = np.random.default_rng(5)
    assert ahead(rng.permutation(A_MINUTE)) == []
    assert ahead(A_MINUTE + rng.integers(-600_000, 600_000, 500)) == []
    assert ahead(np.concatenate([A_MINUTE, A_MINUTE, A_MINUTE - 30 * DAY])) == []
    by_user = np.concatenate([np.sort(rng.integers(START, START + 14 * DAY, 40)) for _ in range(60)])
    assert ahead(by_user) == []


def test_rows_without_a_time_are_not_ahead_and_hide_none() -> None:
    ts = changed([100], FAR)
    ts[90:130:2] = -1
    ts[100] = FAR
    assert ahead(ts, 95) == [100]


def backtested(ts: npt.NDArray[np.int64]) -> tuple[dict[str, int], int, int]:
    table = rows(60, start=START, seed=2)
    of = layout_of("m", load_text("models: {m: {reference: r, pane: 1h}}").config.models["m"], reference())
    found = run([Part(0, Rows(ts=ts, columns=table.columns))], layout=of, reference=reference())
    return {reason: n for reason, n in found.dropped.items() if n}, found.panes, len(found.incidents)


def test_a_backtest_drops_a_row_in_2099_as_the_stream_does_and_counts_the_others() -> None:
    ts = START + np.arange(60 * HOUR // EVERY, dtype=np.int64) * EVERY
    assert backtested(ts) == ({}, 60, 0)
    ts[[0, 1000]] = FAR
    ts[1200] = -1
    assert backtested(ts) == ({"future": 2, "schema": 1}, 60, 0)


def test_a_reference_leaves_out_strays_in_time_and_says_so() -> None:
    table = rows(14 * 24, start=START, seed=2)
    ts = table.ts.copy()
    ts[[5, 700]] = FAR, 0
    builder = ReferenceBuilder("m", "features")
    odd = Rows(ts=ts, columns=table.columns)
    builder.survey(odd)
    builder.count(odd)
    found = builder.finish()
    assert (found.start, found.end, found.n) == (START, START + len(ts) * EVERY - EVERY + 1, len(ts) - 2)
    [finding] = [finding for finding in found.findings if finding.kind == "stray_time"]
    assert finding.words.startswith("2 rows lie far from all others in time: left out; kept are those from 2025-01-06")


def test_many_rows_behind_a_gap_are_no_strays() -> None:
    horizon = Horizon()
    horizon.add(np.concatenate([A_MINUTE, A_MINUTE[:50] + 300 * DAY]))
    horizon.close()
    assert (horizon.low, horizon.high) == (START, START + 300 * DAY + 49 * 60_000)


def test_strays_do_not_depend_on_how_the_rows_were_cut() -> None:
    ts = np.random.default_rng(1).permutation(np.concatenate([A_MINUTE, [FAR, FAR + 5, 7]]))
    whole, cut = Horizon(), Horizon()
    whole.add(ts)
    for at in range(0, ts.size, 11):
        cut.add(ts[at : at + 11])
    whole.close()
    cut.close()
    assert (whole.low, whole.high) == (cut.low, cut.high) == (START, int(A_MINUTE[-1]))
