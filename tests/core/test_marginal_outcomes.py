"""Outcomes by a further segment column: each of its values has the same rows once more, through both stages."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from detectors.outcomes import outcome_spec
from detectors.references import identified
from schemas.control import Cluster
from schemas.layouts import Layout, Limits, View
from schemas.profiles import OUTCOME, Delta, DeltaRow, decode, decode_sparse, encode_sparse
from schemas.verdicts import OutcomeReport
from streamer.applying import control_of
from streamer.core.control import Control
from streamer.core.forms import Forms
from streamer.core.join_cells import Cell, JoinCells
from streamer.core.outcome_panes import OutcomePane, OutcomeRecord
from streamer.core.records import PlainRecord
from streamer.core.tallies import Rows, decode_rows
from streamer.replaying import Replay
from tests.core.outcomes import BEGIN, HOUR, Run, joined, outcome, prediction, record
from tests.core.stage1 import REFERENCES
from tests.core.test_maturing import layout as layout_of
from tests.core.test_maturing import reference

DEVICES = ("ios", "android", None)


def control() -> Control:
    one = joined("churn", "churn", segments=("country",), marginals=("device",))
    return Control(models={"churn": (one,)}, references=REFERENCES, cluster=Cluster(sources=4, profiles=1))


def events(n: int) -> list[dict[str, Any]]:
    rng = random.Random(3)
    return [
        prediction(
            i * 1000, id=f"p{i}", model="churn",
            segment={"country": rng.choice(["DE", "FR"]), "device": rng.choice(DEVICES)},
        )
        for i in range(n)
    ]  # fmt: skip


def tables(run: Run) -> dict[str, dict[tuple[str, ...], Counter[int]]]:
    """Sums of outcome deltas by marginal column ("": cells), then segment."""
    found: dict[str, dict[tuple[str, ...], Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for one in run.outputs:
        delta = decode(one.value or b"") if one.topic == "profiles" else None
        if isinstance(delta, Delta) and delta.kind == OUTCOME:
            for at, value in zip(*(part.tolist() for part in decode_sparse(delta.body)), strict=True):
                row = delta.rows[at // delta.width]
                found[row.marginal][row.segment][at % delta.width] += value
    return found


def test_every_value_of_the_column_has_its_rows_once_more() -> None:
    """Kept through a restart, matched by id, corrected, echoed: cells and column add up to the same."""
    run, made = Run.begun(control()), events(60)
    run.take([record(one, append=60_000, offset=at) for at, one in enumerate(made)])
    run.crash()
    told = [outcome(90_000, id=one["id"], model="churn", label=at % 2) for at, one in enumerate(made[:50])]
    told += [outcome(95_000, id=one["id"], model="churn", label=1) for one in made[:10]]
    told += [outcome(96_000, id=f"e{at}", model="churn", prediction=one) for at, one in enumerate(made[50:])]
    run.take([record(one, append=100_000, offset=at, topic="outcomes") for at, one in enumerate(told)])
    found = tables(run)
    by_device = Counter(one["segment"]["device"] or "" for one in made)
    assert {segment[0]: table[1] for segment, table in found["device"].items()} == by_device
    assert {segment[0]: table[0] for segment, table in found["device"].items()} == by_device
    whole = [sum(of.values(), Counter[int]()) for of in (found[""], found["device"])]
    assert whole[0] == whole[1]
    assert whole[0][0] == 60


def test_cells_kept_before_there_was_a_further_column_have_none() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(["l", "1", ["FR"]]), type=Cell) == Cell("l", "1", ("FR",))
    cells = JoinCells()
    assert cells.code(Cell("l", "1", (), ("ios",))) != cells.code(Cell("l", "1", (), ("tv",)))


def test_reports_and_charts_have_the_column_s_views() -> None:
    """From records to the report at maturity: the view of a third column has its rows, its figures, its coverage."""
    learned = identified(replace(reference(), segments=("country", "plan", "device")))
    one: Layout = layout_of(
        reference=learned.id, segments=("country", "plan"), marginals=("device",), outcome_pane_ms=HOUR,
        views=(View(), View("device", "ios")), horizon_ms=2 * HOUR, maturity_ms=HOUR, hold_ms=HOUR,
    )  # fmt: skip
    replay = Replay(control_of({"m": one}, {"m": learned}))
    rng = np.random.default_rng(4)
    begin, offset = BEGIN // HOUR * HOUR, 0
    for hour in range(6):
        at = begin + hour * HOUR
        said = [
            {"id": f"{hour}-{i}", "model": "m", "ts": at + i * 60_000, "score": float(rng.random()),
             "segment": {"country": "FR", "plan": "gold", "device": "ios" if i % 3 else "tv"}}
            for i in range(60)
        ]  # fmt: skip
        told = [{"id": one["id"], "model": "m", "ts": one["ts"] + 1000, "label": i % 2} for i, one in enumerate(said)]
        for name, values in (("predictions", said), ("outcomes", told)):
            replay.records(
                name,
                [
                    PlainRecord(name, 0, offset + i, int(value["ts"]), b"p", msgspec.json.encode(value))
                    for i, value in enumerate(values)
                ],
            )
        offset += 1000
        replay.tick("predictions", append_ts=at + HOUR)
    report: OutcomeReport = replay.said.matured[min(replay.said.matured)]
    whole, ios = report.views
    assert (whole.n, whole.expected, ios.n, ios.expected) == (60, 60, 40, 40)
    assert outcome_spec(learned, one) is not None
    assert {metric.name for metric in ios.metrics} == {metric.name for metric in whole.metrics}


def test_a_pane_comes_back_from_the_changelog_with_its_further_column() -> None:
    """Sums, caps and digest: a value beyond the limit is still one of the others after a restart."""
    one = layout_of(segments=("country",), marginals=("device",), limits=Limits(segment_values=2))
    form = Forms(Control(models={"m": (one,)}, references={reference().id: reference()})).at("m", BEGIN)
    assert form is not None
    assert form.outcomes is not None
    start, width = BEGIN // HOUR * HOUR, form.outcomes.table.width

    def delta(devices: str) -> Rows:
        rows = [DeltaRow(start, "1", ("FR",)), *(DeltaRow(start, "1", (name,), marginal="device") for name in devices)]
        counts = np.zeros((len(rows), width), dtype=np.int64)
        counts[:, 0] = [len(devices), *[1] * len(devices)]
        return decode_rows(
            Delta(
                source=0, begin=0, end=1, part=0, parts=1, seq=1, model="m", layout=form.id, max_ts=0, width=width,
                rows=rows, body=encode_sparse(counts.ravel()), kind=OUTCOME,
            )
        )  # fmt: skip

    pane = OutcomePane(form, start)
    pane.add(delta("ab"), range(3), late=False, offset=0, now=0)
    raw = msgspec.msgpack.encode(pane.record(through=1))
    again = OutcomePane.restored(form, start, msgspec.msgpack.decode(raw, type=OutcomeRecord))
    for one_of in (pane, again):
        one_of.add(delta("bc"), range(3), late=False, offset=1, now=0)
    assert pane.record(through=2) == again.record(through=2)
    assert again.on_time.marginals is not None
    further = again.on_time.marginals
    values = {slot[1][1]: int(further.counts[at, 0]) for slot, at in further.slots.items()}
    assert values == {"a": 1, "b": 2, "__other__": 1}
