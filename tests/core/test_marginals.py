"""Tables of further segment columns, from rows to window reports: the truth by hand, restarts, caps, splits."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from stage2 import BEGIN, HOUR, PANE, Log, Reader, control, layout

from detectors.rows import Rows
from schemas.layouts import Layout, Limits, View
from schemas.profiles import Delta, DeltaRow, decode, decode_ints, decode_sparse, encode_ints, encode_sparse
from schemas.verdicts import WindowReport
from streamer.core import deltas as splitting
from streamer.core.cells import CELLS
from streamer.core.control import Control
from streamer.core.profiling import profile_rows, start
from streamer.core.records import Output

PANES = 12
#: The model, one value of the first column and two of a third one.
VIEWS = (View(), View("country", "FR"), View("device", "ios"), View("device", "tv"))


def wide(**settings: Any) -> Layout:
    """Two columns crossed, two of their own."""
    chosen = {"segments": ("country", "plan"), "marginals": ("device", "browser"), "views": VIEWS, "monitors": 8}
    return layout(**{**chosen, **settings})


@cache
def rows(seed: int = 0, n: int = 2_400) -> Rows:
    """Two hours in roughly the order of time; some rows late, here and there a value missing."""
    random = np.random.default_rng(seed)
    ts = np.sort(random.integers(BEGIN, BEGIN + PANES * PANE, n))
    behind = random.random(n) < 0.05
    ts = np.maximum(ts - np.where(behind, random.integers(0, 2 * PANE, n), 0), BEGIN)

    def column(values: list[str | None]) -> Any:
        return random.choice(np.array(values, dtype=object), n)

    return Rows(
        ts=ts,
        columns={"x": random.normal(0, 1, n), "y": np.where(random.random(n) < 0.1, np.nan, random.normal(0, 1, n))},
        version=column(["1", "2", None]),
        segments={
            "country": column(["FR", "DE"]),
            "plan": column(["gold", "free", None]),
            "device": column(["ios", "android", "tv", None]),
            "browser": column([f"b{i}" for i in range(7)]),
        },
    )


def profiled(events: Rows, one: Control, sizes: list[int], *, at: int = BEGIN) -> Log:
    """The log of one source that counted the rows in batches of such sizes, and then said that it has no more."""
    log, state, place, now = Log(), start(one, 0), 0, at
    while place < len(events):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        part = events.take(slice(place, place + size))
        state, outputs = profile_rows(state, part, one, "m")
        place, now = place + size, max(now, int(part.ts.max()))
        _append(log, now, outputs)
    for later in (HOUR, 2 * HOUR, 6 * HOUR):
        state, outputs = profile_rows(state, events.take(slice(0, 0)), one, "m", caught_up=True)
        _append(log, now + later, outputs)
    return log


def _append(log: Log, at: int, outputs: list[Output]) -> None:
    log.append(at, *(decode(out.value or b"") for out in outputs if out.topic == "profiles"))


def cells_by_hand(events: Rows) -> dict[tuple[int, str, str, str], int]:
    """Events by pane, marginal column, version and value; column "" is the model."""
    found: Counter[tuple[int, str, str, str]] = Counter()
    version = np.zeros(len(events), dtype=object) if events.version is None else events.version
    for i, ts in enumerate(events.ts.tolist()):
        pane = ts // PANE * PANE
        found[pane, "", "", ""] += 1
        for column in ("device", "browser"):
            found[pane, column, version[i] or "", events.segments[column][i] or ""] += 1
    return dict(found)


def last_reports(reader: Reader) -> dict[int, WindowReport]:
    """The last revision of every window."""
    return {report.start: report for report in reader.said("windows")}


def counted(reports: dict[int, WindowReport]) -> dict[tuple[int, str, str, str], int]:
    found = {(at, "", "", ""): report.n for at, report in reports.items() if report.n}
    for at, report in reports.items():
        found |= {(at, row.column, row.version, row.value): row.n for row in report.marginals}
    return found


@pytest.mark.parametrize("seed", range(3))
def test_marginals_of_every_window_are_those_counted_by_hand(seed: int) -> None:
    """Late rows included; each column holds each event once; no event is consumed twice."""
    one, events = control(wide()), rows(seed)
    reader = Reader.start(one).read(profiled(events, one, [83]))
    counters = reader.state.counters
    assert counted(last_reports(reader)) == cells_by_hand(events)
    assert (counters.consumed, counters.applied, counters.folded) == (len(events), len(events), 0)
    assert [report.n for report in reader.said("windows")] == [
        sum(cell.n for cell in report.cells) for report in reader.said("windows")
    ]


def test_a_view_of_a_marginal_column_is_tested_on_its_own_events() -> None:
    one, events = control(wide()), rows(1)
    reports = last_reports(Reader.start(one).read(profiled(events, one, [83])))
    views = {(at, view.view.value): view for at, report in reports.items() for view in report.views}
    pane = events.ts // PANE * PANE
    mine = (pane == BEGIN + 3 * PANE) & (events.segments["device"] == "ios")
    found = views[BEGIN + 3 * PANE, "ios"]
    assert found.n == int(mine.sum())
    assert found.features[0].mean == pytest.approx(events.columns["x"][mine].mean(), abs=1e-5)
    assert found.features[1].missing == pytest.approx(np.isnan(events.columns["y"][mine]).mean(), abs=1e-8)
    assert found.features[0].least == pytest.approx(events.columns["x"][mine].min(), abs=1e-5)


@pytest.mark.parametrize("sizes", [[1], [7, 400], [2_400]])
def test_reports_do_not_depend_on_the_batches_of_stage_1(sizes: list[int]) -> None:
    one, events = control(wide()), rows(2, 400)
    straight = Reader.start(one).read(profiled(events, one, [31]))
    other = Reader.start(one).read(profiled(events, one, sizes))
    assert counted(last_reports(other)) == counted(last_reports(straight)) == cells_by_hand(events)


@pytest.mark.parametrize("seed", range(3))
def test_any_cut_of_the_log_gives_the_same_bytes(seed: int) -> None:
    one = control(wide())
    log = profiled(rows(4), one, [60])
    cuts = np.random.default_rng(seed).integers(1, len(log.records), 9).tolist()
    assert Reader.start(one).read(log, cuts).outputs == Reader.start(one).read(log).outputs


def test_a_worker_that_comes_back_after_any_batch_goes_on_with_the_same_bytes() -> None:
    """Open panes are rebuilt to the same digest, marginal tables and all, with caps in force."""
    one = control(wide(limits=Limits(versions=2, segment_values=3)))
    log = profiled(rows(5, 900), one, [60])
    expected = Reader.start(one).read(log)
    reader = Reader.start(one)
    for batch in log.batches(range(1, len(log.records))):
        reader.apply(batch)
        reader = reader.restored(log)
    assert reader.outputs == expected.outputs
    assert reader.state.counters == expected.state.counters
    assert expected.state.counters.folded_marginals > 0


def test_a_rebuilt_pane_without_its_marginals_has_another_digest() -> None:
    one = wide()
    of_cells, of_all = (_digest(one, marginals=marginals) for marginals in (False, True))
    assert of_cells != of_all


def _digest(one: Layout, *, marginals: bool) -> int:
    log = profiled(rows(6, 60), control(one), [60])
    reader = Reader.start(control(one))
    for record in log.records[:1]:
        delta = decode(record.value or b"")
        assert isinstance(delta, Delta)
        if not marginals:
            delta = _cells_of(delta)
        short = Log()
        short.append(BEGIN, delta)
        reader.read(short)
    return sum(pane.digest for pane in reader.state.open_panes())


def _cells_of(delta: Delta) -> Delta:
    keep = [at for at, row in enumerate(delta.rows) if not row.marginal]
    assert keep == list(range(len(keep)))
    index, values = decode_sparse(delta.body)
    flat = np.zeros(len(keep) * delta.width, dtype=np.int64)
    flat[index[index < flat.size]] = values[index < flat.size]
    extremes = decode_ints(delta.extremes).reshape(len(delta.rows), -1)[: len(keep)]
    delta.rows, delta.body, delta.extremes = delta.rows[: len(keep)], encode_sparse(flat), encode_ints(extremes.ravel())
    return delta


def test_values_beyond_the_limit_go_to_other_and_tested_ones_always_fit() -> None:
    """In the order of the log; the cells keep theirs; what was folded is counted once per column."""
    one = control(wide(limits=Limits(segment_values=2)))
    events = Rows(
        ts=np.full(6, BEGIN),
        columns={"x": np.zeros(6), "y": np.zeros(6)},
        segments={
            "country": np.array(["FR"] * 6, dtype=object),
            "device": np.array(["a", "b", "c", "tv", "d", "ios"], dtype=object),
            "browser": np.array(["p", "q", "r", "p", "q", "s"], dtype=object),
        },
    )
    reader = Reader.start(one).read(profiled(events, one, [1]))
    report = last_reports(reader)[BEGIN]
    assert {(row.column, row.value): row.n for row in report.marginals} == {
        ("device", "a"): 1,
        ("device", "b"): 1,
        ("device", "tv"): 1,
        ("device", "ios"): 1,
        ("device", "__other__"): 2,
        ("browser", "p"): 2,
        ("browser", "q"): 2,
        ("browser", "__other__"): 2,
    }
    counters = reader.state.counters
    assert (counters.applied, counters.folded, counters.folded_marginals) == (6, 0, 4)


def test_a_transaction_in_many_parts_closes_nothing_until_its_last_part_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows of one batch that reach over many panes are all on time for them, however the batch was split."""
    one, events = control(wide()), rows(7, 800)
    events = events.take(np.argsort(events.ts, kind="stable"))
    straight = Reader.start(one).read(profiled(events, one, [800]))
    monkeypatch.setattr(splitting, "RECORD_BYTES", 4_096)
    log = profiled(events, one, [800])
    first = decode(log.records[0].value or b"")
    assert isinstance(first, Delta)
    assert first.parts > 10
    reader = Reader.start(one).read(log, range(1, len(log.records)))
    assert {at: report.late_n for at, report in last_reports(reader).items() if report.late_n} == {}
    assert last_reports(reader) == last_reports(straight)


def test_a_restart_between_two_parts_forgets_no_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "RECORD_BYTES", 4_096)
    one = control(wide())
    log = profiled(rows(8, 500), one, [250])
    expected = Reader.start(one).read(log)
    reader = Reader.start(one)
    for batch in log.batches(range(1, len(log.records))):
        reader.apply(batch)
        reader = reader.restored(log)
    assert reader.outputs == expected.outputs


def test_late_rows_of_a_closed_pane_revise_its_marginals() -> None:
    one, events = control(wide()), rows(9, 400)
    latest = int(events.ts.max())
    later = rows(10, 30)
    later = Rows(np.full(30, latest // PANE * PANE - PANE), later.columns, later.version, later.segments)
    log, state = Log(), start(one, 0)
    for at, part in ((latest, events), (latest + 1, later)):
        state, outputs = profile_rows(state, part, one, "m")
        _append(log, at, outputs)
    state, outputs = profile_rows(state, events.take(slice(0, 0)), one, "m", caught_up=True)
    _append(log, latest + HOUR, outputs)
    report = last_reports(Reader.start(one).read(log))[int(later.ts[0])]
    assert report.late_n == 30
    by_column = Counter({column: 0 for column in ("device", "browser")})
    for row in report.marginals:
        by_column[row.column] += row.n
    assert dict(by_column) == {"device": report.n, "browser": report.n}


def test_names_beyond_the_bound_of_one_delta_are_a_finding_of_the_window() -> None:
    """The first finding, whatever else is odd."""
    n = CELLS + 100
    odd = {f"odd{i}": np.arange(n) for i in range(20)}
    events = Rows(
        ts=np.full(n, BEGIN),
        columns={"x": np.zeros(n), "y": np.zeros(n), **odd},
        segments={"device": np.array([f"d{i}" for i in range(n)], dtype=object)},
    )
    one = control(wide())
    report = last_reports(Reader.start(one).read(profiled(events, one, [n])))[BEGIN]
    assert report.findings[0] == f"folded: device into __other__ ({n - 64})"
    assert len(report.findings) == 10


def test_the_row_of_an_older_record_is_a_row_of_the_cells() -> None:
    """Format 1 had rows of four fields."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([0, "1", ["FR"], True]), type=DeltaRow) == DeltaRow(
        0, "1", ("FR",), True, ""
    )


