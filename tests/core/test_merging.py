"""Panes: the truth by brute force, in any order; caps in the order of the log; digests; tables at rest."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from stage2 import BEGIN, Events, Source, control, events, layout

from schemas.errors import FormatError
from schemas.layouts import Layout, Limits, View
from schemas.profiles import Delta, DeltaRow, Extra, encode_sparse
from streamer.core.forms import Form, form_of
from streamer.core.merging import Extras, Pane
from streamer.core.taking import rows_by_pane
from streamer.core.tallies import Tally, decode_rows, merged


def form(**settings: object) -> Form:
    one = layout(**settings)
    return form_of(one, control(one))


def pane_of(one: Form, deltas: list[Delta]) -> tuple[Pane, int]:
    """The pane at BEGIN after the deltas, and how many events were folded."""
    pane, folded = Pane(one, start=BEGIN, first_offset=0), 0
    for delta in deltas:
        rows = decode_rows(delta)
        for (start, late), take in rows_by_pane(delta).items():
            if start == BEGIN:
                named = [extra for extra in delta.extras if extra.row in take]
                folded += pane.add(rows, take, named, late=late).events
    return pane, folded


def with_values(rows: Events, *, version: list[str], country: list[str]) -> Events:
    return Events(rows.ts, rows.x, rows.y, np.array(country, dtype=object), np.array(version, dtype=object))


def by_hand(one: Form, rows: Events) -> dict[tuple[str, tuple[str, ...]], tuple[int, int, int, int]]:
    """(n, Σx, least x, largest x) of every cell, in fixed point, event by event."""
    spec = next(spec for spec in one.reference.specs if spec.name == "x")
    found: dict[tuple[str, tuple[str, ...]], tuple[int, int, int, int]] = {}
    for x, version, country in zip(rows.x.tolist(), rows.version, rows.country, strict=True):
        fixed = round(min(max(x, -spec.clip), spec.clip) * 2**spec.scale_bits)
        n, total, least, largest = found.get((version, (country,)), (0, 0, fixed, fixed))
        found[version, (country,)] = (n + 1, total + fixed, min(least, fixed), max(largest, fixed))
    return found


def of_tally(one: Form, tally: Tally) -> dict[tuple[str, tuple[str, ...]], tuple[int, int, int, int]]:
    numeric = [spec.name for spec in one.reference.table.numeric].index("x")
    sums = one.reference.table.sums.start + numeric
    return {
        key: (
            int(tally.counts[row, 0]),
            int(tally.counts[row, sums]),
            int(tally.least[row, numeric]),
            int(tally.largest[row, numeric]),
        )
        for key, row in tally.slots.items()
    }


def test_a_pane_is_what_counting_by_hand_gives_in_any_order_of_its_deltas() -> None:
    one, rows = form(), events(700, seed=3)
    source = Source()
    deltas = [source.delta(one.layout, rows.take(slice(i, i + 70))) for i in range(0, 700, 70)]
    straight, _ = pane_of(one, deltas)
    shuffled, _ = pane_of(one, [deltas[i] for i in np.random.default_rng(1).permutation(10)])
    assert of_tally(one, straight.on_time) == by_hand(one, rows)
    assert of_tally(one, shuffled.on_time) == of_tally(one, straight.on_time)
    assert shuffled.digest == straight.digest


def test_bins_of_a_view_sum_to_its_events() -> None:
    one, rows = form(), events(500, seed=4)
    pane, _ = pane_of(one, [Source().delta(one.layout, rows)])
    counts, extremes = one.views_of(pane.on_time)
    of_x = one.reference.table.features["x"]
    assert counts[:, of_x].sum(axis=1).tolist() == [500, int((rows.country == "FR").sum())]
    assert counts[:, 0].tolist() == counts[:, of_x].sum(axis=1).tolist()
    assert extremes.shape == (2, 2, 2)


def test_late_rows_stand_beside() -> None:
    one, rows = form(), events(100, seed=5)
    late = np.arange(100) < 30
    pane, _ = pane_of(one, [Source().delta(one.layout, rows, late=late.tolist())])
    assert of_tally(one, pane.on_time) == by_hand(one, rows.take(~late))
    assert of_tally(one, pane.late) == by_hand(one, rows.take(late))
    assert of_tally(one, merged(pane.on_time, pane.late)) == by_hand(one, rows)


def test_a_digest_tells_on_time_from_late_and_cell_from_cell() -> None:
    one, rows = form(), events(50, seed=6)
    flags = [True] * 50
    other = with_values(rows, version=["1"] * 50, country=["FR"] * 50)
    swapped = with_values(rows, version=["1"] * 50, country=["DE"] * 50)
    found = [
        pane_of(one, [Source().delta(one.layout, rows)])[0].digest,
        pane_of(one, [Source().delta(one.layout, rows, late=flags)])[0].digest,
        pane_of(one, [Source().delta(one.layout, other)])[0].digest,
        pane_of(one, [Source().delta(one.layout, swapped)])[0].digest,
    ]
    assert len(set(found)) == 4


def test_versions_beyond_the_limit_go_to_other_in_the_order_of_the_log() -> None:
    one = form(limits=Limits(versions=2))
    rows = with_values(events(4), version=["b", "a", "c", "a"], country=["DE"] * 4)
    source = Source()
    deltas = [source.delta(one.layout, rows.take(slice(i, i + 1))) for i in range(4)]
    pane, folded = pane_of(one, deltas)
    assert {key[0]: int(n) for key, n in zip(pane.on_time.slots, pane.on_time.counts[:, 0], strict=True)} == {
        "b": 1,
        "a": 2,
        "__other__": 1,
    }
    assert folded == 1


def test_a_flood_of_values_does_not_push_out_the_ones_that_are_tested() -> None:
    one = form(limits=Limits(segment_values=1), views=(View(), View("country", "FR")))
    rows = with_values(events(4), version=["1"] * 4, country=["X1", "X2", "FR", "X1"])
    source = Source()
    pane, folded = pane_of(one, [source.delta(one.layout, rows.take(slice(i, i + 1))) for i in range(4)])
    assert sorted(key[1][0] for key in pane.on_time.slots) == ["FR", "X1", "__other__"]
    assert folded == 1


def test_two_values_that_fold_in_one_delta_are_both_counted() -> None:
    one = form(limits=Limits(versions=1))
    rows = with_values(events(3), version=["a", "b", "c"], country=["DE"] * 3)
    pane, folded = pane_of(one, [Source().delta(one.layout, rows)])
    cells = dict(zip((key[0] for key in pane.on_time.slots), pane.on_time.counts[:, 0].tolist(), strict=True))
    assert (cells, folded) == ({"a": 1, "__other__": 2}, 2)


def test_a_tally_at_rest_is_the_same_tally() -> None:
    one = form()
    pane, _ = pane_of(one, [Source().delta(one.layout, events(200))])
    back = Tally.unpack(pane.on_time.pack())
    assert of_tally(one, back) == of_tally(one, pane.on_time)
    assert back.counts.tolist() == pane.on_time.counts.tolist()
    empty = Tally.unpack(one.tally().pack())
    assert (empty.counts.shape, empty.slots) == ((0, one.width), {})


def test_a_delta_whose_entries_lie_outside_its_rows_is_damaged() -> None:
    delta = Delta(
        source=0, begin=0, end=1, part=0, parts=1, seq=1, model="m", layout="l", max_ts=0, width=2,
        rows=[DeltaRow(BEGIN, "1", ("DE",))], body=encode_sparse(np.array([1, 0, 5])),
    )  # fmt: skip
    with pytest.raises(FormatError, match="entry 2 in 1 rows of 2"):
        decode_rows(delta)


def test_names_kept_are_exact_whatever_the_order() -> None:
    truth = Counter({f"level {i}": 1 + i % 5 for i in range(3_000)})
    named = [Extra(0, "unseen", "country", name, count) for name, count in truth.items()]
    one, other = Extras(), Extras()
    for extra in named:
        one.add(extra)
    for extra in reversed(named):
        other.add(extra)
    assert one.sorted() == other.sorted()
    assert len(one.sorted()) == 64
    assert all(truth[name] == count for _, _, name, count in one.sorted())


def test_a_layout_is_made_ready_once() -> None:
    made = form()
    assert isinstance(made.layout, Layout)
    assert made.yardstick is made.yardstick
    assert made.monitors == 4


def test_a_tally_from_before_its_table_grew_is_read_at_its_place() -> None:
    older = Tally(width=3, numeric=0)
    for key, value in ((("1", ()), 5), (("2", ()), 7)):
        row = older.slot(key)
        older.counts[row, 2] = value
    grown = Tally.unpack(older.pack(), width=5)
    assert (grown.width, grown.counts.tolist()) == (5, [[0, 0, 5, 0, 0], [0, 0, 7, 0, 0]])
    assert Tally.unpack(grown.pack()).counts.tolist() == grown.counts.tolist()
