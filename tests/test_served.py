"""Latency, cost and status of predictions: learned, reported, tested, from a stream and from a table alike."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detectors.building import ReferenceBuilder
from detectors.references import Reference, dumps, loads
from detectors.rows import Rows
from schemas.errors import ReferenceFileError
from schemas.layouts import Layout
from schemas.profiles import Delta, decode, encode
from schemas.verdicts import WindowReport
from streamer.applying import control_of, layout_of
from streamer.backtesting import kinds_of, run
from streamer.commands.reference import learn
from streamer.config import load_text
from streamer.core import monitoring, profiling
from streamer.core.records import Batch, PlainRecord
from streamer.replaying import Replay
from streamer.tables import Part, Reading, Table
from tests.histories import EVERY, HOUR, START

SERVED = ("latency_ms", "cost", "status")
FILE = "models: {m: {reference: r, pane: 1h, max_alert_age: off}}"


def history(hours: int, *, start: int, seed: int, slower: float = 1.0, failing: float = 0.02, since: int = 0) -> Rows:
    """One prediction every 90 s; from hour `since` on latency is `slower` times as long, `failing` of them fail."""
    rng = np.random.default_rng(seed)
    n = hours * HOUR // EVERY
    ts = start + np.arange(n, dtype=np.int64) * EVERY
    late = ts >= start + since * HOUR
    latency = np.exp(3 + 0.5 * rng.standard_normal(n)) * np.where(late, slower, 1.0)
    failed = rng.random(n) < np.where(late, failing, 0.02)
    return Rows(
        ts=ts,
        columns={
            "age": rng.normal(41, 12, n).round(2),
            "score": rng.random(n).round(4),
            "latency_ms": latency.round(3),
            "cost": (0.002 * latency).round(6),
            "status": np.where(failed, "timeout", "200").astype(object),
        },
    )


def learned(rows: Rows, served: tuple[str, ...] = SERVED) -> Reference:
    builder = ReferenceBuilder("m", served=served)
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


@cache
def reference() -> Reference:
    return learned(history(14 * 24, start=START - 14 * 24 * HOUR, seed=1))


def layout(of: Reference) -> Layout:
    return layout_of("m", load_text(FILE).config.models["m"], of)


def records(rows: Rows, *, served: bool = True) -> list[PlainRecord]:
    columns = {name: column.tolist() for name, column in rows.columns.items()}
    events = [
        {
            "id": str(i),
            "model": "m",
            "ts": ts,
            "features": {"age": columns["age"][i]},
            "score": columns["score"][i],
            **({name: columns[name][i] for name in SERVED} if served else {}),
        }
        for i, ts in enumerate(rows.ts.tolist())
    ]
    return [PlainRecord("predictions", 0, i, e["ts"], None, msgspec.json.encode(e)) for i, e in enumerate(events)]


def streamed(rows: Rows, of: Reference, *, size: int = 64, served: bool = True) -> Replay:
    replay = Replay(control_of({"m": layout(of)}, {"m": of}), windows=True, keep=True)
    log = records(rows, served=served)
    for first in range(0, len(log), size):
        replay.records("predictions", log[first : first + size])
    replay.flush("m", "predictions")
    return replay


def alarmed(replay: Replay) -> set[tuple[str, str]]:
    incidents = {incident.id: incident for incident in replay.said.incidents}
    return {(one.feature, one.direction) for found in incidents.values() for one in found.evidence}


def test_a_reference_knows_what_a_table_says_of_serving_and_survives_its_file() -> None:
    found = loads(dumps(reference()))
    assert (found.served, found.id) == (SERVED, reference().id)
    assert [spec.name for spec in found.specs] == ["age", "score", *SERVED]
    status = found.spec("status")
    assert status is not None
    assert status.levels == ("ok", "error")


def test_without_being_told_columns_of_those_names_are_features() -> None:
    rows = history(24, start=START, seed=3)
    found = learned(rows, served=())
    status = found.spec("status")
    assert status is not None
    assert (found.served, status.levels) == ((), ("200", "timeout"))


def test_a_file_that_calls_a_feature_served_which_is_none_is_refused() -> None:
    document = msgspec.json.decode(dumps(reference()))
    document.pop("tripline_reference")
    document.pop("id")
    from detectors.references import _hash

    document["served"] = ["age"]
    broken = msgspec.json.encode({"tripline_reference": 3, "id": _hash(document), **document})
    with pytest.raises(ReferenceFileError, match="served: 'age'"):
        loads(broken)


def test_a_slower_service_is_found_and_named() -> None:
    found = alarmed(streamed(history(48, start=START, seed=5, slower=1.6, since=24), reference()))
    assert {feature for feature, _ in found} == {"latency_ms", "cost"}
    assert ("latency_ms", "location up") in found


def test_more_errors_are_found_and_named() -> None:
    found = alarmed(streamed(history(48, start=START, seed=6, failing=0.3, since=24), reference()))
    assert {feature for feature, _ in found} == {"status"}


def test_nothing_changed_is_quiet() -> None:
    assert alarmed(streamed(history(7 * 24, start=START, seed=7), reference())) == set()


def test_the_stream_and_the_backtest_say_the_same() -> None:
    rows = history(48, start=START, seed=5, slower=1.6, since=24)
    broken = rows.columns["latency_ms"].copy()
    broken[::50] = np.inf  # broken: it costs only itself, in both
    table = Rows(ts=rows.ts, columns={**rows.columns, "latency_ms": broken})
    events = records(rows)
    raw = [one.value or b"" for one in events]
    raw[::50] = [value.replace(b'"latency_ms":', b'"latency_ms":1e400,"was":') for value in raw[::50]]
    replay = Replay(control_of({"m": layout(reference())}, {"m": reference()}), windows=True)
    log = [
        PlainRecord("predictions", 0, one.offset, one.timestamp, None, v) for one, v in zip(events, raw, strict=True)
    ]
    for first in range(0, len(log), 33):
        replay.records("predictions", log[first : first + 33])
    replay.flush("m", "predictions")
    found = run([Part(0, table)], layout=layout(reference()), reference=reference())
    assert list({one.id: one for one in replay.said.incidents}.values()) == found.incidents
    assert len(found.incidents) == 1


def test_a_window_report_has_quantiles_rates_and_costs() -> None:
    rows = history(3, start=START, seed=8)
    report: WindowReport = streamed(rows, reference()).said.windows[0]
    first = rows.ts < START + HOUR
    latency, cost = rows.columns["latency_ms"][first], rows.columns["cost"][first]
    for percent in (50, 90, 99):
        for name, values in (("latency_ms", latency), ("cost", cost)):
            exact = float(np.sort(values)[-(-percent * values.size // 100) - 1])
            assert exact <= report.quantiles[f"{name}_p{percent}"] <= exact * 2**0.5
    assert report.rates["error"] == pytest.approx((rows.columns["status"][first] == "timeout").mean())
    assert report.costs == pytest.approx({"n": first.sum(), "sum": cost.sum(), "mean": cost.mean()})


def test_without_a_reference_of_them_they_are_reported_and_not_tested() -> None:
    rows = history(14 * 24, start=START - 14 * 24 * HOUR, seed=1)
    plain = learned(Rows(ts=rows.ts, columns={name: rows.columns[name] for name in ("age", "score")}))
    replay = streamed(history(48, start=START, seed=5, slower=1.6, since=24), plain)
    assert (plain.served, alarmed(replay)) == ((), set())
    assert {"latency_ms_p90", "cost_p90"} <= replay.said.windows[0].quantiles.keys()
    assert [one.feature for one in replay.said.windows[0].views[0].features] == ["age", "score"]


def test_events_that_say_nothing_of_serving_have_no_figures_of_it() -> None:
    rows = history(14 * 24, start=START - 14 * 24 * HOUR, seed=1)
    plain = learned(Rows(ts=rows.ts, columns={name: rows.columns[name] for name in ("age", "score")}))
    report = streamed(history(3, start=START, seed=2), plain, served=False).said.windows[0]
    assert (report.costs, [name for name in report.quantiles if not name.startswith("delay")]) == ({}, [])
    assert "error" not in report.rates


def test_a_delta_from_before_costs_had_sizes_is_read() -> None:
    """A worker of an older version may have written to `profiles` what this one reads."""
    control = control_of({"m": layout(reference())}, {"m": reference()})
    rows = history(2, start=START, seed=4)
    _, outputs = profiling.profile_rows(profiling.start(control, 0), rows, control, "m")
    found = [decode(output.value or b"") for output in outputs if output.topic == "profiles"]
    [delta] = [one for one in found if isinstance(one, Delta)]
    table, lines = reference().table, len(delta.rows)
    from schemas.profiles import decode_sparse, encode_sparse

    index, values = decode_sparse(delta.body)
    flat = np.zeros(lines * delta.width, dtype=np.int64)
    flat[index] = values
    narrow = flat.reshape(lines, delta.width)[:, : table.cost_sizes.start]
    older = msgspec.structs.replace(delta, width=table.cost_sizes.start, body=encode_sparse(narrow.ravel()))
    records = [
        PlainRecord("profiles", 0, 0, START + 2 * HOUR, b"", encode(older)),
        *(
            PlainRecord("profiles", 0, 1 + i, START + 2 * HOUR, b"", encode(one))
            for i, one in enumerate(one for one in found if not isinstance(one, Delta))
        ),
    ]
    state, _ = monitoring.apply(monitoring.start(control, 0), Batch("profiles", records, len(records)), control)
    assert state.counters.applied == len(rows)


def test_a_table_says_how_predictions_were_served_by_mapping_or_in_our_own_events(tmp_path: Path) -> None:
    rows = history(2, start=START, seed=9)
    flat = tmp_path / "flat.csv"
    names = list(rows.columns)
    lines = zip(rows.ts.tolist(), *(rows.columns[name].tolist() for name in names), strict=True)
    flat.write_text("\n".join([",".join(["ts", *names]), *(",".join(map(str, line)) for line in lines)]))
    ours = tmp_path / "ours.jsonl"
    ours.write_bytes(b"\n".join(one.value or b"" for one in records(rows)))
    mapped = Table(flat, Reading(mapping={"latency_ms": "latency_ms"}))
    assert (mapped.served, mapped.features) == (("latency_ms",), ("age", "cost", "status"))
    found = learn(Table(ours, Reading()), model="m")
    assert (found.served, [spec.name for spec in found.specs]) == (SERVED, ["age", "score", *SERVED])
    again = Table(flat, Reading(), kinds=kinds_of(found), known=[spec.name for spec in found.specs])
    assert {"latency_ms", "cost", "status"} <= set(again.features)


def test_a_feature_of_that_name_is_tested_and_the_finding_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ours.jsonl"
    events = [
        {"id": str(i), "ts": START + i * EVERY, "features": {"cost": i % 7}, "score": 0.5, "cost": 0.1, "latency_ms": 5}
        for i in range(500)
    ]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, events)))
    found = learn(Table(path, Reading()), model="m")
    assert (found.served, [spec.name for spec in found.specs]) == (("latency_ms",), ["cost", "score", "latency_ms"])
    cost = found.spec("cost")
    assert cost is not None
    assert cost.high == 6.0
    assert [one.feature for one in found.findings if one.kind == "absent"] == ["cost"]


def test_a_builder_refuses_what_says_nothing_of_serving() -> None:
    with pytest.raises(ValueError, match="served: 'age'"):
        ReferenceBuilder("m", served=["age"])
    with pytest.raises(ValueError, match="how features were served"):
        ReferenceBuilder("m", "features", served=["cost"])
