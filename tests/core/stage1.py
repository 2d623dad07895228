"""What the tests of stage 1 have in common: two models, a stream with everything in it, and the truth by hand.

The truth goes record by record through the rules of the design with dictionaries and no arrays.
"""

from __future__ import annotations

import bisect
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.bins import FeatureSpec
from detectors.profiles import Table, bucket_of
from detectors.references import Reference
from schemas.control import Cluster
from schemas.layouts import Layout
from schemas.profiles import Delta, Progress, decode, decode_ints, decode_sparse
from streamer.core.control import Control
from streamer.core.profiling import ProfilingState, apply
from streamer.core.records import Batch, Output, PlainRecord

BEGIN = 1_735_689_600_000
PANE, LATENESS, HOLD = 60_000, 5_000, 120_000
#: From here on `credit` is counted by its second layout, with half the pane and another reference.
SECOND = BEGIN + 10 * PANE
SOURCE = 3

AGE = FeatureSpec(name="age", kind="numeric", edges=(30.0, 45.0), low=18.0, high=90.0, scale_bits=4, clip=1000.0)
DEBT = FeatureSpec(name="debt", kind="numeric", edges=(0.5,), low=0.0, high=1.0, scale_bits=10, clip=4.0)
COUNTRY = FeatureSpec(name="country", kind="categorical", levels=("DE", "FR"))
GRADE = FeatureSpec(name="grade", kind="categorical", levels=("1", "2", "true"))
SCORE = FeatureSpec(name="score", kind="numeric", edges=(0.2, 0.4), low=0.0, high=1.0, scale_bits=20, clip=2.0)
LABEL = FeatureSpec(name="label", kind="categorical", levels=("0", "1"))
LATENCY = FeatureSpec(
    name="latency_ms", kind="numeric", edges=(20.0, 50.0), low=0.0, high=90.0, scale_bits=20, clip=512.0
)
COST = FeatureSpec(name="cost", kind="numeric", edges=(0.5,), low=0.0, high=1.0, scale_bits=30, clip=4.0)
STATUS = FeatureSpec(name="status", kind="categorical", levels=("ok", "error"))
SERVED = ("latency_ms", "cost", "status")

REFERENCES = {
    "first": Reference(model="credit", specs=(AGE, COUNTRY, GRADE, SCORE, LABEL), views={}, id="first"),
    "second": Reference(
        model="credit", specs=(AGE, DEBT, COUNTRY, SCORE, LATENCY, COST, STATUS), views={}, id="second", served=SERVED
    ),
    "churn": Reference(model="churn", specs=(DEBT, SCORE), views={}, id="churn"),
    "sensors": Reference(model="sensors", specs=(DEBT, COUNTRY), views={}, id="sensors", kind="features"),
}


def layout(model: str, reference: str, **settings: Any) -> Layout:
    """A layout with the tests' pane, lateness and hold."""
    chosen: dict[str, Any] = {"from_ms": 0, "pane_ms": PANE, "lateness_ms": LATENESS, "hold_ms": HOLD, **settings}
    return Layout(model=model, reference=reference, **chosen)


def control_of(*layouts: Layout, offset: int = 0) -> Control:
    """A control topic that says `layouts`, and has all references."""
    models: dict[str, tuple[Layout, ...]] = {}
    for one in layouts:
        models[one.model] = (*models.get(one.model, ()), one)
    return Control(models=models, references=REFERENCES, cluster=Cluster(sources=4, profiles=2), offset=offset)


CONTROL = control_of(
    layout("credit", "first", segments=("country",), duplicates_window=50),
    layout("credit", "second", from_ms=SECOND, pane_ms=PANE // 2, segments=("country", "plan"), duplicates_window=50),
    layout("churn", "churn", partition=1, duplicates_window=50),
    layout("sensors", "sensors", kind="features"),
)

#: The same with tables of further columns: one that events name, one that is a feature of theirs.
MARGINALS = control_of(
    layout("credit", "first", segments=("country",), marginals=("plan", "grade"), duplicates_window=50),
    layout(
        "credit",
        "second",
        from_ms=SECOND,
        pane_ms=PANE // 2,
        segments=("country", "plan"),
        marginals=("grade",),
        duplicates_window=50,
    ),
    layout("churn", "churn", partition=1, marginals=("plan",), duplicates_window=50),
)


def event(**fields: Any) -> dict[str, Any]:
    """A sound prediction of `credit`."""
    return {"id": "a", "model": "credit", "version": "1", "ts": BEGIN, "features": {"age": 41}, "score": 0.3, **fields}


def record(
    value: object, *, offset: int = 0, append: int = BEGIN, topic: str = "predictions", **rest: Any
) -> PlainRecord:
    """A record of an event, or of raw bytes."""
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return PlainRecord(topic, SOURCE, offset, append, rest.get("key"), raw, rest.get("headers", ()))


def run(
    state: ProfilingState, records: Sequence[PlainRecord], control: Control, sizes: Iterable[int]
) -> tuple[ProfilingState, list[list[Output]]]:
    """Apply `records` in batches of `sizes`; the last size goes on to the end."""
    outputs, at, chosen = [], 0, list(sizes)
    while at < len(records):
        size = chosen.pop(0) if len(chosen) > 1 else chosen[0]
        part = records[at : at + size]
        state, out = apply(state, Batch("predictions", part, part[-1].offset + 1), control)
        outputs.append(out)
        at += size
    return state, outputs


def stream(n: int, seed: int) -> list[PlainRecord]:
    """Records with every oddity that is counted or dropped, roughly in time order."""
    rng = random.Random(seed)
    records = []
    for i in range(n):
        now = BEGIN + i * 15 * PANE // n
        kind = rng.random()
        ts: Any = now + rng.randint(-3 * PANE if kind < 0.2 else -LATENESS, 0) - (HOLD * 3 if kind < 0.02 else 0)
        number = i - rng.randint(1, 80) if kind > 0.9 else i
        name = f"id{number}" + "x" * (number % 20)  # of many lengths: batches hold short and long ones
        made = event(id=name, ts=ts, version=rng.choice(["1", "2", 2, None]))
        made["model"] = rng.choice(["credit", "credit", "churn"])
        made["features"] = features = {
            "age": rng.choice([None, rng.uniform(10, 100), rng.randint(18, 90)]),
            "country": rng.choice(["DE", "FR", "XX", None, 7]),
            "grade": rng.choice([1, 2.0, True, False, "1", "3", None]),
            "debt": rng.random() * 1.2,
        }
        made["segment"] = {"plan": rng.choice(["gold", None, 5, True])}
        made["score"] = rng.random()
        made["label"] = rng.choice([0, 1, "1", None, "maybe", False])
        made["latency_ms"] = rng.choice([None, rng.random() * 100])
        made["cost"] = rng.choice([None, rng.random()])
        made["status"] = rng.choice([None, "ok", "failed"])
        odd = rng.random()
        if odd < 0.05:
            features["age"] = rng.choice([math.nan, math.inf, -math.inf])
        elif odd < 0.1:
            features["age"] = rng.choice(["old", True, [1], {"a": 1}])
        elif odd < 0.15:
            features[f"new{rng.randrange(4)}"] = rng.choice([1, "x", None, [1, 2]])
        elif odd < 0.2:
            made.pop(rng.choice(["id", "ts", "model"]))
        elif odd < 0.25:
            made.update(
                rng.choice([{"ts": 5}, {"ts": math.nan}, {"score": math.inf}, {"ts": now + 400_000}, {"model": "x"}])
            )
        elif odd < 0.3:
            made["ts"] = rng.choice([ts + 0.5, np.datetime_as_string(np.datetime64(ts, "ms")) + "Z"])
        raw: Any = (
            json.dumps(made).encode() if odd < 0.97 else rng.choice([b"", b"{", b"[]", b"\xff", b"[" * 2000, None])
        )
        records.append(record(raw, offset=2 * i, append=now + rng.randint(0, 2_000)))
    return records


@dataclass
class Truth:
    """What a stream comes to. tables: by (layout, pane, version, segment, late, marginal); extras likewise, by name."""

    tables: dict[tuple[Any, ...], Counter[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(Counter))
    extras: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    extremes: dict[tuple[Any, ...], tuple[int, int]] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    applied: int = 0
    maxima: dict[str, int] = field(default_factory=dict)


def summed(outputs: Iterable[Sequence[Output]], control: Control) -> Truth:
    """The deltas among `outputs`, added up, in the form of the truth."""
    truth = Truth()
    ids = {one.id: one for layouts in control.models.values() for one in layouts}
    for record_ in (decode(out.value or b"") for batch in outputs for out in batch if out.topic == "profiles"):
        if not isinstance(record_, Delta):
            continue
        table = Table(REFERENCES[ids[record_.layout].reference].specs)
        names = _column_names(table)
        index, values = decode_sparse(record_.body)
        extremes = decode_ints(record_.extremes).reshape(len(record_.rows), len(table.numeric), 2)
        keys = [(record_.layout, row.pane, row.version, row.segment, row.late, row.marginal) for row in record_.rows]
        for i, value in zip(index.tolist(), values.tolist(), strict=True):
            truth.tables[keys[i // record_.width]][names[i % record_.width]] += value
        for key, row in zip(keys, extremes.tolist(), strict=True):
            for spec, (least, largest) in zip(table.numeric, row, strict=True):
                if least <= largest:
                    _widen(truth, (*key, spec.name), least, largest)
        for extra in record_.extras:
            truth.extras[(*keys[extra.row], extra.kind, extra.feature, extra.name)] += extra.count
    return truth


def progress(outputs: Iterable[Output]) -> list[Progress]:
    """Progress records among `outputs`."""
    found = (decode(out.value or b"") for out in outputs if out.topic == "profiles")
    return [one for one in found if isinstance(one, Progress)]


def counted_by_hand(records: Sequence[PlainRecord], control: Control) -> Truth:
    """The truth of a stream of predictions."""
    truth, entered = Truth(), list[tuple[str, str]]()
    for one in records:
        reason = _take(one, control, truth, entered)
        truth.applied += reason is None
        truth.drops.update([reason] if reason else [])
    return truth


def _take(one: PlainRecord, control: Control, truth: Truth, entered: list[tuple[str, str]]) -> str | None:
    if one.value is None or one.value.count(b"[") > 1000:
        return "decode" if one.value is None else "too_deep"
    try:
        made = json.loads(one.value.decode())
    except ValueError:
        return "decode"
    if not isinstance(made, dict):
        return "decode"
    model, ts = made.get("model"), made.get("ts")
    if model not in control.models:
        return "schema" if model is None else "unknown_model"
    if isinstance(ts, float) and not math.isfinite(ts):
        return "non_finite"
    if ts is None or made.get("id") is None:
        return "schema"
    if not math.isfinite(made["score"]):
        return "non_finite"
    ts = int(np.datetime64(ts.removesuffix("Z"), "ms").astype(int)) if isinstance(ts, str) else math.floor(ts)
    if ts < 315_532_800_000:
        return "schema"
    if ts > one.timestamp + 300_000:
        return "future"
    identity = (model, str(made["id"]))
    if identity in entered[-50:]:
        return "duplicate"
    entered.append(identity)
    chosen = control.layout_at(model, ts)
    assert chosen is not None
    behind = truth.maxima.get(model, 0) - chosen.lateness_ms - (ts // chosen.pane_ms + 1) * chosen.pane_ms
    if behind >= chosen.hold_ms:
        return "late"
    truth.maxima[model] = max(truth.maxima.get(model, 0), ts)
    version = str(made.get("version") or "")
    places = {name: made["features"].get(name) for name in ("country", "grade")} | made.get("segment", {})
    segment = tuple(_level(places.get(name)) or "" for name in chosen.segments)
    pane = ts // chosen.pane_ms * chosen.pane_ms
    late, delay = behind >= 0, one.timestamp - ts
    _count(truth, (chosen.id, pane, version, segment, late, ""), made, chosen, delay)
    for name in chosen.marginals:
        _count(truth, (chosen.id, pane, version, (_level(places.get(name)) or "",), late, name), made, chosen, delay)
    return None


def _count(truth: Truth, key: tuple[Any, ...], made: dict[str, Any], chosen: Layout, delay: int) -> None:
    table, specs = truth.tables[key], REFERENCES[chosen.reference].specs
    table["n", ""] += 1
    for spec in specs:
        value = made.get(spec.name) if spec.name in ("score", "label", *SERVED) else made["features"].get(spec.name)
        value = "error" if spec.name == "status" and value == "failed" else value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, list | dict) or (spec.kind == "numeric" and value is not None and not number):
            names = {list: "list", dict: "object", bool: "bool", str: "str"}
            _name(truth, key, "wrong_type", spec.name, names[type(value)])
            table["wrong_type", ""] += 1
            value = None
        column = _column(spec, value)
        table[spec.name, column] += 1
        if spec.kind == "numeric" and column not in ("missing", "non_finite"):
            fixed = round(min(max(float(value), -spec.clip), spec.clip) * 2**spec.scale_bits)
            table["sum", spec.name] += fixed
            _widen(truth, (*key, spec.name), fixed, fixed)
        if column == "unseen":
            _name(truth, key, "unseen", spec.name, _level(value))
    for name in made["features"].keys() - {spec.name for spec in specs}:
        known = any(name == spec.name for one in CONTROL.models[chosen.model] for spec in _specs(one))
        if not known or made["features"][name] is not None:
            _name(truth, key, "unknown", "", name)
            table["unknown", ""] += 1
    table["delay", int(bucket_of(np.array([max(delay, 0.0)]))[0])] += 1
    if made["latency_ms"] is not None:
        table["latency", int(bucket_of(np.array([made["latency_ms"]]))[0])] += 1
    if made["cost"] is not None:
        table["cost", "n"] += 1
        table["cost", "sum"] += round(made["cost"] * 1e6)
        table["cost_sizes", int(bucket_of(np.array([made["cost"] * 1e6]))[0])] += 1
    if made["status"] is not None:
        table["status", made["status"] != "ok"] += 1


def _name(truth: Truth, key: tuple[Any, ...], kind: str, feature: str, name: str) -> None:
    """Names stand with the cells only."""
    truth.extras.update([] if key[-1] else [(*key, kind, feature, name)])


def _specs(one: Layout) -> tuple[FeatureSpec, ...]:
    return REFERENCES[one.reference].specs


def _column(spec: FeatureSpec, value: Any) -> str:
    if value is None:
        return "missing"
    if spec.kind == "categorical":
        return _level(value) if _level(value) in spec.levels else "unseen"
    if not math.isfinite(value):
        return "non_finite"
    if not spec.low <= value <= spec.high:
        return "below" if value < spec.low else "above"
    return f"bin {bisect.bisect_left(spec.edges, value)}"


def _level(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value == int(value) else repr(value)


def _widen(truth: Truth, key: tuple[Any, ...], least: int, largest: int) -> None:
    here = truth.extremes.get(key, (least, largest))
    truth.extremes[key] = (min(here[0], least), max(here[1], largest))


def _column_names(table: Table) -> list[tuple[str, Any]]:
    names: list[tuple[str, Any]] = [("n", "")]
    names += [(spec.name, column) for spec in table.specs for column in spec.columns]
    names += [("sum", spec.name) for spec in table.numeric]
    names += [(section, bucket) for section in ("delay", "latency") for bucket in range(64)]
    return [
        *names,
        ("cost", "n"),
        ("cost", "sum"),
        ("status", False),
        ("status", True),
        ("unknown", ""),
        ("wrong_type", ""),
        *(("cost_sizes", bucket) for bucket in range(64)),
    ]
