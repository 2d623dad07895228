"""Features that lose their connection while each keeps its own distribution: derived ones find it, others cannot."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detectors.bins import FeatureSpec
from detectors.building import ReferenceBuilder
from detectors.derived import DISTANCE, SHRINKAGE, Derivation, learn_derivation, residual
from detectors.derived_specs import ALL
from detectors.joint_sample import ROWS, JointSample
from detectors.references import Reference, _hash, dumps, loads
from detectors.rows import Rows
from detectors.scopes import build_scope
from schemas.errors import ConfigurationError, ReferenceFileError
from schemas.layouts import Layout
from streamer.applying import control_of, layout_of
from streamer.backtesting import kinds_of, run
from streamer.commands.backtest import derived_of
from streamer.commands.reference import learn
from streamer.config import load_text
from streamer.core.records import PlainRecord
from streamer.replaying import Replay
from streamer.tables import Part, Reading, Table
from tests.histories import EVERY, HOUR, START

NAMES = ("a", "b", "c", "d")
DERIVED = (DISTANCE, *(residual(name) for name in NAMES))
FILE = "models: {m: {reference: r, pane: 1h, max_alert_age: off}}"


def normals(n: int, rho: float, rng: np.random.Generator, *, alone: int | None = None) -> np.ndarray:
    """Four standard normals, (n, 4), all with the same correlation; `alone`: one that has none."""
    common = rng.standard_normal((n, 1))
    found = np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.standard_normal((n, 4))
    if alone is not None:
        found[:, alone] = rng.standard_normal(n)
    return found


def history(
    hours: int, *, start: int, seed: int, rho: float = 0.6, since: int = 0, alone: int | None = None, every: int = EVERY
) -> Rows:
    """Rows of correlation .6, from hour `since` on `rho`; each column is a standard normal all the time."""
    rng = np.random.default_rng(seed)
    n = hours * HOUR // every
    before = normals(n, 0.6, rng)
    ts = start + np.arange(n, dtype=np.int64) * every
    changed = normals(n, rho, rng, alone=alone)
    values = np.where((ts >= start + since * HOUR)[:, None], changed, before)
    return Rows(ts=ts, columns={name: values[:, i].round(4) for i, name in enumerate(NAMES)})


def learned(rows: Rows, *, derived: tuple[str, ...] = ALL, chunk: int = 10**9) -> Reference:
    builder = ReferenceBuilder("m", "features", derived=derived)
    for take in (builder.survey, builder.count):
        for first in range(0, len(rows), chunk):
            take(rows.take(slice(first, first + chunk)))
    return builder.finish()


PAST = history(14 * 24, start=START - 14 * 24 * HOUR, seed=1)


@cache
def reference(derived: tuple[str, ...] = ALL) -> Reference:
    return learned(PAST, derived=derived)


def layout(of: Reference) -> Layout:
    return layout_of("m", load_text(FILE).config.models["m"], of)


def streamed(rows: Rows, of: Reference, *, size: int = 64) -> Replay:
    replay = Replay(control_of({"m": layout(of)}, {"m": of}))
    columns = {name: column.tolist() for name, column in rows.columns.items()}
    log = []
    for i, ts in enumerate(rows.ts.tolist()):
        features = {name: None if np.isnan(column[i]) else column[i] for name, column in columns.items()}
        raw = msgspec.json.encode({"feature_set": "m", "ts": ts, "features": features})
        log.append(PlainRecord("features", 0, i, ts, None, raw))
    for first in range(0, len(log), size):
        replay.records("features", log[first : first + size])
    replay.flush("m", "features")
    return replay


def alarmed(replay: Replay) -> set[str]:
    incidents = {incident.id: incident for incident in replay.said.incidents}
    return {one.feature for found in incidents.values() for one in found.evidence}


def test_a_lost_connection_is_found_though_every_feature_is_as_it_was() -> None:
    rows = history(72, start=START, seed=3, rho=0.1, since=24)
    assert alarmed(streamed(rows, reference(()))) == set()
    found = alarmed(streamed(rows, reference()))
    assert DISTANCE in found
    assert found <= set(DERIVED)


def test_a_feature_that_goes_its_own_way_is_named() -> None:
    replay = streamed(history(72, start=START, seed=4, since=24, alone=2), reference())
    incident = replay.said.incidents[-1]
    ranked = [one.feature for one in incident.evidence if one.feature != DISTANCE]
    assert ranked[0] == residual("c")
    assert alarmed(streamed(history(72, start=START, seed=4, since=24, alone=2), reference(()))) == set()


def test_nothing_changed_is_quiet() -> None:
    assert alarmed(streamed(history(14 * 24, start=START, seed=5), reference())) == set()


def test_the_stream_and_the_backtest_say_the_same() -> None:
    rows = history(72, start=START, seed=3, rho=0.1, since=24)
    rows.columns["b"][::11] = np.nan
    backtest = run([Part(0, rows)], layout=layout(reference()), reference=reference())
    replay = streamed(rows, reference(), size=33)
    assert list({one.id: one for one in replay.said.incidents}.values()) == backtest.incidents
    assert backtest.incidents


@pytest.mark.parametrize("size", [1, 7, 64, 501])
def test_a_row_has_the_same_bits_in_any_batch(size: int) -> None:
    made = reference().derived
    assert made is not None
    rng = np.random.default_rng(6)
    inputs = np.ascontiguousarray(normals(2000, 0.3, rng).T)
    inputs[rng.random(inputs.shape) < 0.05] = np.nan
    whole = made.values(inputs)
    parts = [made.values(np.ascontiguousarray(inputs[:, at : at + size])) for at in range(0, 2000, size)]
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


def test_values_are_those_of_the_formula() -> None:
    """zᵀΣ⁻¹z and (Σ⁻¹z)ᵢ/√(Σ⁻¹)ᵢᵢ in plain numpy, on scores as they were learned."""
    made = reference().derived
    assert made is not None
    inputs = np.ascontiguousarray(normals(500, 0.6, np.random.default_rng(7)).T)
    z = made.scores[np.arange(4)[:, None], made.binner.codes_by_feature(inputs)]
    found = made.values(inputs)
    assert found[0] == pytest.approx(np.einsum("in,ij,jn->n", z, made.precision, z), abs=1e-3)
    assert found[1:] == pytest.approx(made.precision @ z / np.sqrt(np.diag(made.precision))[:, None], abs=1e-4)
    correlation = np.linalg.inv(made.precision)
    assert np.diag(correlation) == pytest.approx(np.ones(4), abs=1e-3)
    assert correlation[0, 1] == pytest.approx((1 - SHRINKAGE) * 0.6, abs=0.05)


def test_the_average_distance_is_the_number_of_features_and_a_residual_has_the_variance_that_it_should() -> None:
    made = reference().derived
    assert made is not None
    found = made.values(np.ascontiguousarray(normals(50_000, 0.6, np.random.default_rng(8)).T))
    assert found[0].mean() == pytest.approx(4.0, rel=0.05)
    assert found[1:].std(axis=1) == pytest.approx(np.full(4, 0.95), abs=0.06)


def test_what_is_missing_counts_as_its_mean_and_a_feature_that_is_missing_has_no_residual() -> None:
    made = reference().derived
    assert made is not None
    row = np.array([[1.0, np.nan, np.inf, 1.0], [1.0, 1.0, 1.0, np.nan], [0.5, 0.5, 0.5, np.nan], [1.0, 1.0, 1.0, 1.0]])
    # By column: whole; a missing; a non-finite; b and c missing.
    found = made.values(row)
    assert np.isnan(found).tolist() == [
        [False, False, False, False],
        [False, True, True, False],
        [False, False, False, True],
        [False, False, False, True],
        [False, False, False, False],
    ]
    assert found[2, 1] == found[2, 2]
    assert np.isnan(made.values(np.full((4, 1), np.nan))).all()


@pytest.mark.parametrize("chunk", [97, 1000])
def test_a_reference_does_not_depend_on_how_its_rows_were_cut(chunk: int) -> None:
    rows = PAST.take(slice(0, 4000))
    assert learned(rows, chunk=chunk).id == learned(rows).id


def test_a_reference_knows_how_they_are_made_and_survives_its_file() -> None:
    found = loads(dumps(reference()))
    assert found.id == reference().id
    assert [spec.name for spec in found.specs] == [*NAMES, *DERIVED]
    made, before = found.derived, reference().derived
    assert made is not None
    assert before is not None
    assert made.precision.tobytes() == before.precision.tobytes()
    assert made.scores.tobytes() == before.scores.tobytes()
    assert json.loads(dumps(reference()))["tripline_reference"] == 3
    assert json.loads(dumps(reference(())))["tripline_reference"] == 1


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"inputs": ["a", "nothing", "c", "d"]}, r"derived.inputs: \['nothing'\]"),
        ({"inputs": ["a", "b", "c"]}, "derived.scores: shape"),
        ({"inputs": ["a", "b", "d", DISTANCE]}, "not what `specs` are made of"),
    ],
)
def test_a_file_whose_derived_features_do_not_fit_is_refused(broken: dict[str, object], words: str) -> None:
    document = msgspec.json.decode(dumps(reference()))
    del document["tripline_reference"], document["id"]
    document["derived"] |= broken
    raw = msgspec.json.encode({"tripline_reference": 3, "id": _hash(document), **document})
    with pytest.raises(ReferenceFileError, match=words):
        loads(raw)


def test_a_dead_column_is_one_finding() -> None:
    """Its residual is missing with it: the hard rules are on what it is made of."""
    scope = build_scope(reference(), layout(reference()))
    judged = dict(zip(scope.monitored, scope.monitors.rules.judged.T.tolist(), strict=True))
    assert all(judged[name] == [True, True] for name in NAMES)
    assert all(judged[name] == [False, False] for name in DERIVED)


def test_what_cannot_be_derived_is_said() -> None:
    rng = np.random.default_rng(9)
    ts = np.arange(600, dtype=np.int64) * EVERY

    def of(columns: dict[str, np.ndarray], derived: tuple[str, ...] = ALL) -> Reference:
        return learned(Rows(ts=ts, columns=columns), derived=derived)

    few = of({"x": rng.random(600), "always": np.ones(600)})
    assert (few.derived, [one.feature for one in few.findings if one.kind == "derived"]) == (None, [""])
    short = learned(PAST.take(slice(0, 300)))
    assert short.derived is None
    with pytest.raises(ConfigurationError, match="there are 21 numeric features; name at most 20"):
        of({f"x{i}": rng.random(600) for i in range(21)})
    with pytest.raises(ConfigurationError, match="'nothing' is no numeric feature; they are x"):
        of({"x": rng.random(600)}, derived=("x", "nothing"))
    with pytest.raises(ConfigurationError, match="has a column 'mahalanobis' already"):
        of({"x": rng.random(600), "y": rng.random(600), DISTANCE: rng.random(600)}, derived=("x", "y"))
    named = of({f"x{i}": rng.random(600) for i in range(25)}, derived=("x3", "x7"))
    assert derived_of(named) == (DISTANCE, "residual(x3)", "residual(x7)")


def test_a_sample_keeps_rows_whole_and_is_bounded() -> None:
    rng = np.random.default_rng(10)
    hashes = rng.permutation(200_000).astype(np.uint64)
    x = hashes.astype(float)
    sample, pieces = JointSample(("x", "y")), JointSample(("x", "y"))
    sample.add({"x": x, "y": -x, "z": x}, hashes)
    for at in range(0, hashes.size, 30_000):
        cut = slice(at, at + 30_000)
        pieces.add({"x": x[cut], "y": -x[cut]}, hashes[cut])
    found = sample.of(["x", "y"])
    assert found.shape == (ROWS, 2)
    assert np.array_equal(found[:, 0], np.arange(ROWS))
    assert np.array_equal(found, pieces.of(["x", "y"]))
    assert np.array_equal(found[:, 0], -found[:, 1])


def test_a_command_learns_them_from_a_table_and_a_backtest_reads_it_without_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = zip(PAST.ts.tolist(), *(PAST.columns[name].tolist() for name in NAMES), strict=True)
    path.write_text("\n".join(["ts,a,b,c,d", *(",".join(map(str, line)) for line in lines)]))
    found = learn(Table(path, Reading()), model="m", derived=ALL)
    assert derived_of(found) == DERIVED
    known = [spec.name for spec in found.specs if spec.name not in derived_of(found)]
    table = Table(path, Reading(), kinds=kinds_of(found), known=known)
    assert (table.features, table.left_out) == (NAMES, ())


def test_a_wild_value_is_not_the_whole_distance() -> None:
    """Scores are bounded: 1e300 is as far as the outermost bin."""
    spec = FeatureSpec(name="x", kind="numeric", edges=tuple(np.linspace(-2, 2, 31).tolist()), low=-4.0, high=4.0)
    rng = np.random.default_rng(11)
    made: Derivation = learn_derivation([spec, msgspec.structs.replace(spec, name="y")], rng.standard_normal((5000, 2)))
    wild = made.values(np.array([[1e300, 3.0], [0.0, 0.0]]))
    assert wild[0, 0] == wild[0, 1] < 20
