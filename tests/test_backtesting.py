"""History through the core of the stream: the same incidents whatever the chunks, with rows that can be looked up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from detectors.rows import Rows
from schemas.layouts import Layout
from streamer.applying import control_of, layout_of
from streamer.backtesting import Backtest, Crossings, pieces, run
from streamer.config import load_text
from streamer.replaying import Replay
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


def as_in_a_stream(table: Rows, size: int, of: Layout) -> Replay:
    """Pane by pane, with every report, changelog and held pane, as a worker does it."""
    replay = Replay(control_of({"m": of}, {"m": REFERENCE}), windows=True)
    parts = [Part(first, table.take(slice(first, first + size))) for first in range(0, len(table), size)]
    for piece in pieces(parts, Crossings(of.pane_ms, of.lateness_ms)):
        replay.rows(piece.rows, "m", append_ts=piece.append_ts, ids=piece.ids, ahead=piece.ahead)
    replay.flush("m", "features")
    return replay


@pytest.mark.parametrize("size", [211, 100_000])
def test_many_panes_at_once_change_no_bit(size: int) -> None:
    """Rows in order let many panes close after one piece; a gap, swapped, late and mixed rows do not."""
    table = rows(60, start=START, seed=2, shift=1.0, since=24)
    order = np.arange(len(table))
    order[100:200] = np.random.default_rng(3).permutation(order[100:200])
    order[1000], order[1060] = order[1060], order[1000]
    order = np.delete(np.append(order, [2000, 3]), np.arange(1500, 1800))
    of = msgspec.structs.replace(layout(), pane_ms=300_000, from_ms=0, partition=0, max_alert_age_ms=None)
    mixed = table.take(order)
    stream = as_in_a_stream(mixed, size, of)
    quick = run(
        [Part(first, mixed.take(slice(first, first + size))) for first in range(0, len(mixed), size)],
        layout=of, reference=REFERENCE,
    )  # fmt: skip
    assert quick.incidents == list({one.id: one for one in stream.said.incidents}.values())
    assert quick.triggers == list({one.id: one for one in stream.said.triggers}.values())
    assert (quick.dropped, quick.panes) == (stream.dropped, stream.panes)
    assert "age" in {one.feature for incident in quick.incidents for one in incident.evidence}


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
