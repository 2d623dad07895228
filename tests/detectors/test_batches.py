"""Batches: how a table is cut, what is learned over them, and what a pane that is a batch may do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.batches import BATCH_MS, BatchClock
from detectors.building import ReferenceBuilder
from detectors.charts.bets import LARGEST_STEP
from detectors.references import Reference, dumps, loads, words
from detectors.rows import NO_TIME, Rows
from detectors.scopes import build_scope
from schemas.layouts import Layout, View

HOUR, DAY, START = 3_600_000, 86_400_000, 1_735_689_600_000
Ints = npt.NDArray[np.int64]


def times(batches: int, rows: int, *, every: int = 7 * DAY) -> Ints:
    """Each batch runs for rows × 1 s, from some time of its day on."""
    begins = START + np.arange(batches) * every + np.random.default_rng(5).integers(0, 5 * HOUR, batches)
    return (begins[:, None] + np.arange(rows) * 1000).ravel()


def built(batches: int = 20, rows: int = 1000, *, shock: float = 0.0, chunk: int | None = None) -> Reference:
    rng = np.random.default_rng(6)
    ts = times(batches, rows)
    x = rng.normal(size=ts.size) + np.repeat(rng.normal(0, shock, batches), rows)
    table = Rows(ts=ts, columns={"x": x})
    builder = ReferenceBuilder("m", "features", batch_gap_ms=6 * HOUR)
    for take in (builder.survey, builder.count):
        for at in range(0, len(table), chunk or len(table)):
            take(table.take(slice(at, at + (chunk or len(table)))))
    return builder.finish()


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_slots_do_not_depend_on_how_the_rows_are_cut(cuts: list[int]) -> None:
    ts = times(8, 50)
    ts[::7] -= 30_000  # out of order
    whole, cut = BatchClock(6 * HOUR), BatchClock(6 * HOUR)
    edges = [0, *sorted(cuts), ts.size]
    parts = [cut.slots(ts[a:b]) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), whole.slots(ts))
    assert cut.batches() == whole.batches()


def test_a_late_row_is_of_the_batch_that_it_comes_in() -> None:
    clock = BatchClock(HOUR)
    slots = clock.slots(np.array([START, START + DAY, START + 60_000, START + DAY + 1, NO_TIME]))
    assert ((slots[:4] - slots[0]) // BATCH_MS).tolist() == [0, 1, 1, 1]
    assert slots[4] == NO_TIME


def test_real_times_come_back() -> None:
    clock = BatchClock(6 * HOUR)
    ts = times(10, 50)
    slots = clock.slots(ts)
    begins = slots[::50] // BATCH_MS * BATCH_MS
    assert [clock.start_of(int(at)) for at in begins] == ts[::50].tolist()
    assert [clock.end_of(int(at) + BATCH_MS) for at in begins] == (ts[49::50] + 1).tolist()


def test_the_reference_knows_its_batches_and_has_no_season() -> None:
    reference = built()
    assert reference.batches is not None
    assert (reference.batches.count, reference.batches.gap_ms, reference.provisional) == (20, 6 * HOUR, "")
    assert abs(reference.batches.spacing_ms - 7 * DAY) < HOUR
    feature = reference.views[View()].features["x"]
    assert np.ptp(feature.profile, axis=0).max() == 0.0
    assert feature.scales_ms.tolist() == [BATCH_MS, 2 * BATCH_MS, 4 * BATCH_MS]
    assert words(reference)[0].startswith("m: 20,000 rows from 2025-01-01 ")
    assert " in 20 batches, one every 7.0 days" in words(reference)[0]
    assert loads(dumps(reference)).batches == reference.batches


def test_the_design_effect_is_that_over_batches() -> None:
    """A shock of .1 sd common to a batch of 1,000: 1 + 1000 · .01."""
    calm, shaken = (built(40, shock=shock).views[View()].features["x"] for shock in (0.0, 0.1))
    assert float(calm.v[0, 0]) < 2.0
    assert 6.0 < float(shaken.v[0, 0]) < 17.0


def test_chunks_do_not_matter() -> None:
    assert built(chunk=777).id == built().id


def test_seven_batches_are_too_few() -> None:
    assert built(7).provisional == "7 batches: 8 are needed to know how batches differ"
    assert built(8).provisional == ""


@pytest.mark.parametrize(("gap", "capped"), [(0, True), (6 * HOUR, False)])
def test_one_batch_may_alarm_alone(gap: int, capped: bool) -> None:
    reference = built()
    layout = Layout(
        model="m", from_ms=0, reference=reference.id, pane_ms=BATCH_MS, batch_gap_ms=gap, monitored=("x",),
        budget_ms=1000 * BATCH_MS,
    )  # fmt: skip
    cap = build_scope(reference, layout).bets.cap
    assert bool((cap < LARGEST_STEP).all()) is capped
