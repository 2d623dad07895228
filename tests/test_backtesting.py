"""History through the core of the stream: the same incidents whatever the chunks, with rows that can be looked up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from schemas.layouts import Layout
from streamer.applying import layout_of
from streamer.backtesting import Backtest, Crossings, run
from streamer.config import load_text
from streamer.tables import Part
from tests.histories import EVERY, HOUR, START, reference, rows

REFERENCE = reference()
FILE = "models: {m: {reference: r, pane: 1h, retrain: {when: drift}}}"
A_DAY = 24 * HOUR // EVERY


def layout() -> Layout:
    return layout_of("m", load_text(FILE).config.models["m"], REFERENCE)


def parts(size: int, *, shift: float = 1.0) -> Iterator[Part]:
    table = rows(60, start=START, seed=2, shift=shift, since=24)
    for first in range(0, len(table), size):
        yield Part(first, table.take(slice(first, first + size)))


def found(size: int = 10_000, *, shift: float = 1.0) -> Backtest:
    return run(parts(size, shift=shift), layout=layout(), reference=REFERENCE)


def test_a_shift_opens_one_incident_with_its_row_and_asks_for_one_retraining() -> None:
    plain = found().plain()
    assert list(plain) == ["model", "reference", "panes", "incidents", "triggers", "dropped"]
    [incident] = plain["incidents"]
    assert list(incident) == [
        "id", "opened_at", "opened_row", "resolved_at", "resolved_row", "severity", "evidence"
    ]  # fmt: skip
    assert (incident["resolved_at"], incident["resolved_row"]) == (None, None)
    assert list(incident["evidence"][0]) == [
        "feature", "detector", "direction", "size", "onset", "n", "value", "limit",
        "unit", "size_interval", "onset_interval", "shape",
    ]  # fmt: skip
    assert {evidence["feature"] for evidence in incident["evidence"]} == {"age"}
    assert [trigger["state"] for trigger in plain["triggers"]] == ["approved"]
    assert incident["opened_at"].startswith("2025-01-07T")


def test_the_opening_row_is_the_first_that_lets_the_window_close() -> None:
    backtest = found()
    opened = backtest.incidents[0].opened_at
    row = backtest.crossings.row(opened)
    ts = rows(60, start=START, seed=2).ts
    assert ts[row] - 30_000 >= opened > ts[row - 1] - 30_000


def test_without_a_shift_nothing_is_said() -> None:
    assert found(shift=0.0).plain()["incidents"] == []


def test_every_pane_with_rows_is_closed_at_the_end_and_none_after() -> None:
    assert found().panes == 60


@pytest.mark.parametrize("size", [13, 997])
def test_the_chunks_of_the_reader_change_no_byte(size: int) -> None:
    assert json.dumps(found(size).plain()) == json.dumps(found().plain())


def test_late_rows_past_the_hold_are_dropped_and_said() -> None:
    table = rows(10, start=START, seed=2)
    late = table.take(np.array([*range(len(table)), 0, 1]))
    backtest = run([Part(0, late)], layout=layout(), reference=REFERENCE)
    assert backtest.dropped["late"] == 2
    assert backtest.panes == 10


def test_repeated_predictions_count_once() -> None:
    predictions = reference(kind="predictions")
    table = rows(2, start=START, seed=2)
    of = layout_of("m", load_text(FILE).config.models["m"], predictions)
    ids = [f"p{i // 2}" for i in range(len(table))]
    backtest = run([Part(0, table, ids)], layout=of, reference=predictions)
    assert backtest.dropped["duplicate"] == len(table) // 2


def test_an_empty_stretch_is_closed_too() -> None:
    table = rows(2, start=START, seed=2)
    gap = table.take(slice(None))
    gap.ts[40:] += 100 * HOUR
    assert run([Part(0, gap)], layout=layout(), reference=REFERENCE).panes == 102


def test_rows_are_counted_from_the_files_own_first() -> None:
    crossings = Crossings(pane_ms=10, lateness_ms=0)
    crossings.cuts(np.array([5, 12]), first=100)
    crossings.cuts(np.array([11, 31]), first=102)
    assert [crossings.row(end) for end in (10, 20, 30, 40)] == [101, 103, 103, 103]
