"""Between decoded rows and deltas: names, outputs, cells, bounds, and splitting."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from detectors.rows import Rows
from schemas.layouts import Limits
from schemas.profiles import Delta, decode
from streamer.core.cells import CELLS, NAMES, OTHER, kept, rows_of
from streamer.core.columns import Names, from_proba, named
from streamer.core.profiling import apply, decode_position, profile_rows, start
from streamer.core.records import Batch, Output
from tests.core.stage1 import BEGIN, CONTROL, PANE, REFERENCES, SOURCE, control_of, event, layout, record, run, summed


def tables_of(*events: Any, control: Any = CONTROL) -> dict[Any, Any]:
    records = [record(one, offset=i) for i, one in enumerate(events)]
    _, outputs = apply(start(control, SOURCE), Batch("predictions", records, len(records)), control)
    return dict(summed([outputs], control).tables)


def sent(outputs: list[Output]) -> list[Delta]:
    found = [decode(out.value or b"") for out in outputs if out.topic == "profiles"]
    return [one for one in found if isinstance(one, Delta)]


@pytest.mark.parametrize(
    ("shares", "score", "label"),
    [
        ({"0": 0.8, "1": 0.2}, 0.2, "0"),
        ({"yes": 0.4, "no": 0.6}, 0.4, "no"),
        ({"Positive": 0.9, "zero": 0.1}, 0.9, "Positive"),
        ({"bad": 0.3, "good": 0.7}, 0.7, "good"),
        ({"a": 0.2, "b": 0.5, "c": 0.3}, 0.5, "b"),
        ({"b": 0.5, "a": 0.5}, 0.5, "a"),
        ({"only": 1.0}, 1.0, "only"),
    ],
)
def test_score_and_label_come_from_probabilities(shares: dict[str, float], score: float, label: str) -> None:
    assert from_proba(shares) == (score, label)


def test_own_score_and_label_are_stronger_than_probabilities() -> None:
    shares = {"0": 0.9, "1": 0.1}
    (table,) = tables_of(
        event(id="a", score=None, proba=shares),
        event(id="b", score=0.5, proba=shares, label=1),
        event(id="c", score=0.3),
    ).values()
    assert {name: table[name] for name in table if name[0] in ("score", "label")} == {
        ("score", "bin 0"): 1,
        ("score", "bin 2"): 1,
        ("score", "bin 1"): 1,
        ("label", "0"): 1,
        ("label", "1"): 1,
        ("label", "missing"): 1,
    }


def test_a_boolean_is_not_the_number_that_it_equals() -> None:
    (table,) = tables_of(
        *(event(id=str(i), features={"grade": g}) for i, g in enumerate([1, True, 1.0, "1", 2, 3]))
    ).values()
    assert (table["grade", "1"], table["grade", "true"], table["grade", "2"], table["grade", "unseen"]) == (3, 1, 1, 1)


def test_a_segment_that_an_event_does_not_name_is_its_feature() -> None:
    tables = tables_of(
        event(id="a", features={"country": "FR"}),
        event(id="b", features={"country": "FR"}, segment={"country": "DE"}),
        event(id="c", features={}),
    )
    assert sorted(key[3] for key in tables) == [("",), ("DE",), ("FR",)]


def test_a_long_version_is_cut_and_told_apart() -> None:
    control = control_of(layout("credit", "first", limits=Limits(string_length=40)))
    versions = ["v" * 100, "v" * 101, "w" * 40]
    found = sorted(key[2] for key in tables_of(*(event(id=v, version=v) for v in versions), control=control) if key)
    assert [len(version) for version in found] == [40]
    short = sorted(
        key[2] for key in tables_of(*(event(id=str(i), version=v) for i, v in enumerate(versions)), control=control)
    )
    assert ([len(version) for version in short], len(set(short))) == ([40, 40, 40], 3)


def test_missing_and_empty_are_one_name() -> None:
    found = named(["", None, "a"])
    assert (found.codes.tolist(), found.names) == ([0, 0, 1], ["", "a"])


def test_versions_beyond_the_bound_of_one_delta_share_a_cell() -> None:
    n = CELLS + 500
    rows = Rows(
        ts=np.full(n, BEGIN),
        columns={"age": np.full(n, 40.0)},
        version=np.array([f"v{i % n}" if i % 2 else "main" for i in range(n)], dtype=object),
        segments={"country": np.array([f"c{i}" for i in range(n)], dtype=object)},
    )
    state, outputs = profile_rows(start(CONTROL, SOURCE), rows, CONTROL, "credit")
    found = summed([outputs], CONTROL)
    tables = found.tables
    assert sum(table["n", ""] for table in tables.values()) == n
    assert len(tables) <= CELLS
    assert max(tables, key=lambda key: tables[key]["n", ""])[3] == (OTHER,)
    # 64 versions and 64 countries keep their names; the others are counted where they went.
    assert {key[-3:]: count for key, count in found.extras.items()} == {
        ("folded", "version", f"into {OTHER}"): n // 2 - 63,
        ("folded", "country", f"into {OTHER}"): n - 64,
    }
    written = next(out.value for out in outputs if out.key == b"position") or b""
    assert (state.folded, decode_position(written).folded) == (n - 64, n - 64)


def test_values_of_a_marginal_beyond_the_bound_share_a_row_and_an_event_is_folded_once() -> None:
    """The cells keep all their names; each event is in one row of the marginal table."""
    control = control_of(layout("credit", "first", segments=("country",), marginals=("device",)))
    n = CELLS + 100
    rows = Rows(
        ts=np.full(n, BEGIN),
        columns={"age": np.full(n, 40.0)},
        segments={
            "country": np.array(["FR", "DE"] * (n // 2), dtype=object),
            "device": np.array([f"d{i}" for i in range(n)], dtype=object),
        },
    )
    state, outputs = profile_rows(start(control, SOURCE), rows, control, "credit")
    found = summed([outputs], control)
    cells = {key[3]: table["n", ""] for key, table in found.tables.items() if key[-1] == ""}
    devices = {key[3]: table["n", ""] for key, table in found.tables.items() if key[-1] == "device"}
    assert cells == {("FR",): n // 2, ("DE",): n // 2}
    assert (len(devices), sum(devices.values()), devices[OTHER,]) == (65, n, n - 64)
    assert {key[-4:]: count for key, count in found.extras.items()} == {
        ("device", "folded", "device", f"into {OTHER}"): n - 64
    }
    assert (state.applied, state.folded) == (n, n - 64)


def test_many_panes_times_many_names_do_not_overflow() -> None:
    n = 4_000
    wide = Names(np.arange(n), [str(i) for i in range(n)])
    pane = np.arange(n) * 60_000
    rows, cell, _ = rows_of(pane[:2_000], np.zeros(2_000, dtype=bool), [Names(wide.codes[:2_000], wide.names)] * 3)
    assert (len(rows), cell.tolist()) == (2_000, list(range(2_000)))
    assert rows[7].segment == ("7", "7")


def test_names_that_are_kept_of_a_sum_are_those_kept_of_its_parts() -> None:
    names = [("unseen", feature, f"{feature}{i}") for feature in ("city", "street") for i in range(500)]
    whole = set(kept(names))
    parts = {name for at in range(0, 1_000, 90) for name in kept(names[at : at + 90])}
    assert len(whole) == 2 * NAMES
    assert whole == set(kept(sorted(parts)))


def test_a_large_delta_is_split_between_cells() -> None:
    """Parts join, and their sum is what one delta would have been."""
    many = control_of(layout("credit", "first", segments=("a", "b")))
    segments = [{"a": f"{i}-" + "x" * 200, "b": f"{i}-" + "y" * 200} for i in range(2_000)]
    records = [record(event(id=str(i), segment=one), offset=i) for i, one in enumerate(segments)]
    _, outputs = apply(start(many, SOURCE), Batch("predictions", records, 2_000), many)
    parts = sent(outputs)
    assert len(parts) > 1
    assert max(len(out.value or b"") for out in outputs if out.topic == "profiles") <= 512 * 1024
    assert [part.part for part in parts] == list(range(len(parts)))
    tables = summed([outputs], many).tables
    assert sorted(key[3][0] for key in tables) == sorted(one["a"] for one in segments)


def test_a_large_delta_with_marginals_is_split_and_adds_up_to_the_same() -> None:
    many = control_of(layout("credit", "first", segments=("a",), marginals=("b", "c")))
    names = [{column: f"{column}{i}-" + "x" * 200 for column in "abc"} for i in range(1_000)]
    records = [record(event(id=str(i), segment=one), offset=i) for i, one in enumerate(names)]
    state, outputs = apply(start(many, SOURCE), Batch("predictions", records, 1_000), many)
    parts = sent(outputs)
    assert len(parts) > 1
    assert max(len(out.value or b"") for out in outputs if out.topic == "profiles") <= 512 * 1024
    values = {(key[-1], key[3][0]): table["age", "bin 1"] for key, table in summed([outputs], many).tables.items()}
    assert values == {(m, one[c]): 1 for m, c in (("", "a"), ("b", "b"), ("c", "c")) for one in names}
    assert state.applied == 1_000


def test_rows_of_a_table_count_as_records_do() -> None:
    """The same rows by both ways: the same tables, but for the delay that a table does not know."""
    rng = np.random.default_rng(2)
    n = 300
    ts = BEGIN + np.sort(rng.integers(0, 5 * PANE, n))
    age = np.where(rng.random(n) < 0.1, np.nan, rng.uniform(10, 100, n))
    country = np.array(rng.choice(["DE", "FR", "XX", None], n), dtype=object)
    score, version = rng.random(n), np.array(rng.choice(["1", "2"], n), dtype=object)
    ids = [f"id{i if i % 10 else i - 3}" for i in range(n)]
    rows = Rows(
        ts=ts, columns={"age": age, "country": country, "score": score}, version=version, segments={"country": country}
    )
    records = [
        record(
            event(
                id=ids[i],
                ts=int(ts[i]),
                version=version[i],
                score=score[i],
                segment={"country": country[i]},
                features={"age": None if np.isnan(age[i]) else age[i], "country": country[i]},
            ),
            offset=i,
            append=int(ts[i]),
        )
        for i in range(n)
    ]
    streamed, streamed_outputs = run(start(CONTROL, SOURCE), records, CONTROL, [64])
    state, outputs = start(CONTROL, SOURCE), []
    for at in range(0, n, 50):
        state, out = profile_rows(state, rows.take(slice(at, at + 50)), CONTROL, "credit", ids=ids[at : at + 50])
        outputs.append(out)
    expected, actual = summed(streamed_outputs, CONTROL), summed(outputs, CONTROL)
    for table in expected.tables.values():
        del table["delay", 0]
    assert expected == actual
    assert (streamed.drops, streamed.applied, streamed.maxima) == (state.drops, state.applied, state.maxima)


def test_a_row_without_a_time_and_a_model_without_a_layout_are_dropped() -> None:
    rows = Rows(ts=np.array([-1, BEGIN]), columns={"debt": np.array([0.5, 0.5])})
    state, outputs = profile_rows(start(CONTROL, SOURCE), rows, CONTROL, "sensors")
    letter = json.loads(next(out.value or b"" for out in outputs if out.topic == "dead-letter"))
    assert (state.applied, state.drops["schema"], letter["topic"], letter["offset"]) == (1, 1, "rows", 0)
    state, _ = profile_rows(state, rows, CONTROL, "nobody")
    assert (state.consumed, state.drops["unknown_model"]) == (4, 2)


def test_columns_of_a_table_of_another_kind_are_wrong_or_levels() -> None:
    """Text where numbers are wanted is missing and of a wrong type; numbers where levels are wanted are levels."""
    rows = Rows(
        ts=np.full(3, BEGIN),
        columns={
            "age": np.array(["old", None, "41"], dtype=object),
            "grade": np.array([1.0, np.nan, 7.0]),
            "shoe": np.array([44.0, np.nan, 45.0]),
        },
    )
    _, outputs = profile_rows(start(CONTROL, SOURCE), rows, CONTROL, "credit")
    (table,) = summed([outputs], CONTROL).tables.values()
    assert (table["age", "missing"], table["wrong_type", ""], table["unknown", ""]) == (3, 2, 2)
    assert (table["grade", "1"], table["grade", "missing"], table["grade", "unseen"]) == (1, 1, 1)
    assert REFERENCES["first"].table.width == sent(outputs)[0].width


def test_a_row_whose_score_is_no_finite_number_is_dropped_as_a_record_is() -> None:
    scores = np.array([0.5, np.inf, "high", None, True, -np.inf, 0.25], dtype=object)
    ids = [f"id{i}" for i in range(scores.size)]
    rows = Rows(ts=np.full(scores.size, BEGIN), columns={"score": scores, "age": np.full(scores.size, 40.0)})
    state, outputs = profile_rows(start(CONTROL, SOURCE), rows, CONTROL, "credit", ids=ids)
    letters = [json.loads(out.value or b"") for out in outputs if out.topic == "dead-letter"]
    assert (state.consumed, state.applied, state.drops["schema"], state.drops["non_finite"]) == (7, 3, 2, 2)
    assert sorted((letter["offset"], letter["reason"]) for letter in letters) == [
        (1, "non_finite"), (2, "schema"), (4, "schema"), (5, "non_finite"),
    ]  # fmt: skip
    rows = Rows(ts=np.full(2, BEGIN), columns={"score": np.array([np.inf, 0.5])})
    state, _ = profile_rows(state, rows, CONTROL, "credit", ids=["new", "id0"])
    assert (state.applied, state.drops["non_finite"], state.drops["duplicate"]) == (3, 3, 1)
