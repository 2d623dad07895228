"""Data that is odd, or broken: a verdict or a named refusal, never an exception; pages for real changes only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import DAY, PANE, START, T0

from detectors import rules
from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.references import Reference, dumps, loads
from detectors.rows import NO_TIME, Rows
from detectors.scopes import build_scope, load_state, save_state, update
from detectors.tabulate import tabulate
from schemas.layouts import Layout, View

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[np.object_] | npt.NDArray[np.floating[Any]]
Columns = dict[str, Column]
Opened = list[tuple[int, str, str]]
ROWS_A_DAY = 3600


def times(days: float, *, start: int, per_day: int = ROWS_A_DAY) -> Ints:
    n = int(days * per_day)
    return np.asarray(start + np.arange(n, dtype=np.int64) * DAY // per_day)


def draw(seed: int, n: int) -> Columns:
    """A normal number, a skewed one and a category of four levels."""
    rng = np.random.default_rng(seed)
    colour = np.array(["red", "green", "blue", "grey"], dtype=object)[rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])]
    return {"x": rng.normal(size=n), "y": rng.gamma(2.0, size=n), "colour": colour}


def learn(ts: Ints, columns: Columns) -> Reference:
    builder = ReferenceBuilder("m", "features")
    table = Rows(ts=ts, columns=columns)
    builder.survey(table)
    builder.count(table)
    found = builder.finish()
    assert loads(dumps(found)).id == found.id
    return found


def usual(**more: Column) -> Reference:
    """Fourteen days of `draw`, with further columns."""
    ts = times(14, start=START)
    return learn(ts, {**draw(1, ts.size), **more})


def watch(of: Reference, ts: Ints, columns: Columns, *, pane: int = PANE, **settings: object) -> Opened:
    """Incidents that a stream opens: (pane, feature, detector). Every result is finite, every state can be saved."""
    names = tuple(spec.name for spec in of.specs)
    given = {"monitored": names, "monitors": max(1, len(names)), "pane_ms": pane, **settings}
    scope = build_scope(of, Layout(model="m", from_ms=0, reference=of.id, **given))  # type: ignore[arg-type]
    table, binner, n = of.table, Binner(of.specs), ts.size
    numeric = np.stack([columns[spec.name].astype(float) for spec in table.numeric], axis=1)
    levels = [binner.level_codes(i, list(columns[spec.name])) for i, spec in enumerate(table.categorical)]
    codes = np.stack(levels, axis=1) if levels else np.zeros((n, 0), dtype=np.int32)
    first = int(ts[0]) // pane
    group = ts // pane - first
    counts, _, _ = tabulate(table, binner, numeric, codes, group, int(group[-1]) + 1)
    state, opened = scope.start(), []
    for i, row in enumerate(counts):
        state, result = update(scope, state, start=(first + i) * pane, counts=row[None])
        assert np.isfinite(result.value).all()
        if result.opened:
            opened += [(i, alarm.evidence.feature, alarm.evidence.detector) for alarm in result.alarms]
    blocks = save_state(state)
    assert save_state(load_state(scope, blocks)) == blocks
    return opened


@pytest.mark.parametrize("corrupt", [1e9, np.nan, 1e-300, np.inf, -1e308, 5e-324])
def test_a_corrupt_row_in_thousands_says_nothing_in_stream_or_reference(corrupt: float) -> None:
    ts, then = times(14, start=START), times(2, start=T0)
    dirty, stream = draw(1, ts.size), draw(2, then.size)
    for columns in (dirty, stream):
        columns["x"][500::5000] = corrupt
    assert watch(learn(ts, dirty), then, stream) == []
    assert watch(usual(), then, stream) == []


@pytest.mark.parametrize("before_the_end", [200_000, 500])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_thousand_copies_of_a_row_do_not_page(seed: int, before_the_end: int) -> None:
    """In one pane, or half of them in the next."""
    ts = times(1, start=T0)
    columns = draw(seed, ts.size)
    at = T0 + 31 * PANE - before_the_end + np.arange(1000)
    order = np.argsort(np.concatenate([ts, at]), kind="stable")
    repeated = {
        name: np.concatenate([column, np.full(1000, column[7], column.dtype)])[order]
        for name, column in columns.items()
    }
    assert watch(usual(), np.concatenate([ts, at])[order], repeated) == []


def test_columns_that_say_nothing_are_findings_and_do_not_page() -> None:
    """A constant, an empty column, ids as numbers and as text: new ids are no outage."""
    n = times(14, start=START).size
    then = times(3, start=T0)
    of = usual(
        constant=np.full(n, 3.0),
        empty=np.full(n, np.nan),
        nothing=np.full(n, None, dtype=object),
        number=np.arange(n) * 1.0,
        name=np.array([f"u{i}" for i in range(n)], dtype=object),
    )
    assert {(found.kind, found.feature) for found in of.findings} >= {
        ("constant", "constant"),
        ("all_missing", "empty"),
        ("all_missing", "nothing"),
        ("id_like", "number"),
        ("id_like", "name"),
    }
    stream: Columns = {
        **draw(2, then.size),
        "constant": np.full(then.size, 3.0),
        "empty": np.full(then.size, np.nan),
        "nothing": np.full(then.size, None, dtype=object),
        "number": n + np.arange(then.size) * 1.0,
        "name": np.array([f"v{i}" for i in range(then.size)], dtype=object),
    }
    assert watch(of, then, stream) == []


def test_two_levels_that_swap_are_found() -> None:
    ts = times(1, start=T0)
    columns = draw(2, ts.size)
    swapped = {"red": "grey", "grey": "red"}
    columns["colour"] = np.array([swapped.get(level, level) for level in columns["colour"]], dtype=object)
    [*opened] = watch(usual(), ts, columns)
    assert {(feature, detector) for _, feature, detector in opened} == {("colour", "distribution")}


def test_two_equal_levels_that_swap_are_no_change_of_the_column() -> None:
    """Counts by level cannot tell them apart, and nobody is paged."""
    ts, then = times(14, start=START), times(2, start=T0)
    past, now = (np.random.default_rng(n).choice(["a", "b"], n).astype(object) for n in (ts.size, then.size))
    swapped = np.where(now == "a", "b", "a").astype(object)
    assert watch(usual(side=past), then, {**draw(2, then.size), "side": swapped}) == []


def test_a_total_outage_pages_at_its_first_whole_pane() -> None:
    """Every value of every column missing: of all that is odd here, what must page."""
    then = times(1, start=T0, per_day=10 * ROWS_A_DAY)
    stream, of = draw(2, then.size), usual()
    for name, nothing in (("x", np.nan), ("y", np.nan), ("colour", None)):
        stream[name][then >= T0 + 100 * PANE] = nothing
    opened = watch(of, then, stream)
    assert {pane for pane, _, _ in opened} == {100}
    assert {(feature, detector) for _, feature, detector in opened} >= {("x", "missing"), ("colour", "missing")}


@pytest.mark.parametrize("rows", [1, 2, 14, 30, 100])
@pytest.mark.parametrize("spread", ["one day", "fourteen days", "no times"])
def test_a_tiny_reference_is_silent_even_when_pages_are_insisted_on(rows: int, spread: str) -> None:
    per_day = -(-rows // 14) if spread == "fourteen days" else rows
    ts = np.full(rows, NO_TIME) if spread == "no times" else times(14, start=START, per_day=per_day)[:rows]
    of = learn(ts, draw(6, rows))
    assert "few_rows" in {found.kind for found in of.findings}
    then = times(2, start=T0)
    assert watch(of, then, draw(7, then.size), page_provisional=True) == []


def test_a_reference_with_an_outage_in_it_still_finds_the_next_one_at_once() -> None:
    ts, then = times(14, start=START), times(1, start=T0)
    past, stream = draw(1, ts.size), draw(2, then.size)
    past["x"][(ts >= START + 5 * DAY) & (ts < START + 5 * DAY + 7_200_000)] = np.nan
    of = learn(ts, past)
    assert [found.feature for found in of.findings if found.kind == "outage"] == ["x"]
    assert watch(of, then, stream) == []
    stream["x"][then >= T0 + 100 * PANE] = np.nan
    # The rule needs twenty events; a pane has twelve or thirteen.
    assert watch(of, then, stream) in ([(100, "x", "missing")], [(101, "x", "missing")])


def test_missing_values_in_bursts_are_a_habit_not_an_outage() -> None:
    """5 % missing in runs of 50 to 200 rows, four panes at once: a fixed three clusters for the rule paged here."""
    rng = np.random.default_rng(8)
    ts, then = times(14, start=START), times(14, start=T0)
    past, stream = draw(1, ts.size), draw(2, then.size)
    for columns in (past, stream):
        n = columns["x"].size
        for begin in rng.integers(0, n, n // 2500):
            columns["x"][begin : begin + rng.integers(50, 201)] = np.nan
    assert watch(learn(ts, past), then, stream) == []


def test_a_segment_without_a_reference_of_its_own_is_not_judged_by_the_models() -> None:
    """There a feature may be missing by nature."""
    of = usual()
    names = tuple(spec.name for spec in of.specs)
    views = (View(), View("country", "LU"), View("version", "2"))
    scope = build_scope(of, Layout(model="m", from_ms=0, reference=of.id, monitored=names, monitors=9, views=views))
    assert scope.monitors.rules.judged.tolist() == [[True] * 3 + [False] * 3 + [True] * 3] * 2


@pytest.mark.parametrize("factor", [0.05, 0.1, 10.0])
def test_traffic_may_grow_or_fall(factor: float) -> None:
    then = times(3, start=T0, per_day=int(factor * ROWS_A_DAY))
    assert watch(usual(), then, draw(9, then.size)) == []


@pytest.mark.parametrize(
    ("pane", "days"), [(10_000, 0.2), (60_000, 1), (3_600_000, 14), (7_200_000, 14), (DAY, 30), (7 * DAY, 60)]
)
def test_any_pane_gives_a_verdict_and_finds_one_deviation(pane: int, days: float) -> None:
    then = times(days, start=T0)
    columns = draw(10, then.size)
    assert watch(usual(), then, columns, pane=pane) == []
    columns["x"][then >= T0 + int(days * DAY) // 2] += 1.0
    opened = watch(usual(), then, columns, pane=pane)
    assert [feature for _, feature, _ in opened] == ["x"]
    assert opened[0][0] >= int(days * DAY) // 2 // pane


@pytest.mark.parametrize("panes", [1, 30, 499, 500, 50_000])
def test_any_budget_gives_a_verdict(panes: int) -> None:
    then = times(2, start=T0)
    opened = watch(usual(), then, draw(11, then.size), budget_ms=panes * PANE)
    assert len(opened) <= 576 / panes


def test_the_clusters_a_rule_needs_grow_with_the_habit() -> None:
    needed = [rules.clusters_needed(share) for share in (0.0, 0.001, 0.01, 0.05, 0.1, 0.4)]
    assert needed == [3, 3, 7, 13, 19, 101]


def test_columns_of_different_lengths_are_refused_by_name() -> None:
    builder = ReferenceBuilder("m", "features")
    with pytest.raises(ValueError, match="y: 3 values for 4 rows"):
        builder.survey(Rows(ts=np.arange(4), columns={"x": np.zeros(4), "y": np.zeros(3)}))
