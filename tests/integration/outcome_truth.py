"""What a run must have joined, worked out from the two input topics, outcome by outcome, in plain Python.

The rules are those at the top of `streamer.core.joining`, for ids that are of one prediction each. Only the table that
a pair is counted in comes from the product, since what is in it is shown elsewhere (against scikit-learn).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.outcomes import JoinedRows, OutcomeTable, tabulate_outcomes
from schemas.layouts import Layout
from schemas.profiles import OUTCOME, Delta, decode, decode_sparse
from streamer.core.records import PlainRecord

#: (model, outcome pane, version, segment values, late)
Key = tuple[str, int, str, tuple[str, ...], bool]


@dataclass
class _Predicted:
    event: dict[str, Any]
    append: int
    label: int | None = None
    delay: int = 0
    late: bool = False


@dataclass
class OutcomeTruth:
    """tables: by cell of each outcome pane. counts: what became of the outcomes."""

    tables: dict[Key, np.ndarray] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def truth_of(
    predictions: Iterable[PlainRecord],
    outcomes: Iterable[PlainRecord],
    layouts: Mapping[str, Layout],
    tables: Mapping[str, OutcomeTable],
) -> OutcomeTruth:
    """Join two topics, each given in offset order within each partition. Every prediction is sound."""
    truth = OutcomeTruth()
    rows: dict[tuple[int, str], _Predicted] = {}
    append: Counter[int] = Counter()
    expected: Counter[Key] = Counter()
    for record in predictions:
        event, source = json.loads(record.value or b""), record.partition
        append[source] = max(append[source], record.timestamp // 1000)
        rows[source, event["id"]] = _Predicted(event, append[source])
        expected[_key(event, layouts[event["model"]], late=False)] += 1
    append.clear()
    seen: Counter[tuple[int, str]] = Counter()
    for record in outcomes:
        told, source = json.loads(record.value or b""), record.partition
        append[source] = max(append[source], record.timestamp // 1000)
        seen[source, told["model"]] = max(seen[source, told["model"]], told["ts"])
        row, layout = rows.get((source, told["id"])), layouts[told["model"]]
        fits = row is not None and _fits(row, told, layout, append=append[source], seen=seen[source, told["model"]])
        if row is None or not fits:
            truth.counts["unmatched"] += 1
        elif row.label is None:
            truth.counts["matched"] += 1
            row.label, row.delay = told["label"], max(0, told["ts"] - row.event["ts"])
            row.late = _late(row, told, layout)
        elif row.label == told["label"]:
            truth.counts["duplicate"] += 1
        else:
            truth.counts["corrected"] += 1
            row.label = told["label"]
            # What charts have seen stays as it was; the correction of it is late, with both its halves.
            moved = _late(row, told, layout) and not row.late
            if moved:
                _count(truth, tables, layouts, [(row, 1 - told["label"], 1, False), (row, 1 - told["label"], -1, True)])
            row.late = row.late or moved
    pairs = [(row, row.label, 1, row.late) for row in rows.values() if row.label is not None]
    _count(truth, tables, layouts, pairs)
    for key, n in expected.items():
        _table(truth, key, tables[key[0]])[tables[key[0]].expected] += n
    truth.tables = {key: table for key, table in truth.tables.items() if table.any()}
    return truth


def summed(profiles: Iterable[bytes]) -> dict[Key, np.ndarray]:
    """All outcome deltas of a profiles topic, added up; what comes to nothing is left out."""
    found: dict[Key, np.ndarray] = {}
    for raw in profiles:
        delta = decode(raw)
        if not isinstance(delta, Delta) or delta.kind != OUTCOME:
            continue
        flat = np.zeros(delta.width * len(delta.rows), dtype=np.int64)
        index, values = decode_sparse(delta.body)
        flat[index] = values
        for row, table in zip(delta.rows, flat.reshape(len(delta.rows), delta.width), strict=True):
            key = (delta.model, row.pane, row.version, tuple(row.segment), row.late)
            found[key] = found.get(key, 0) + table
    return {key: table for key, table in found.items() if table.any()}


def _fits(row: _Predicted, told: dict[str, Any], layout: Layout, *, append: int, seen: int) -> bool:
    ts, kept = row.event["ts"], layout.horizon_ms + layout.hold_ms
    return bool(
        told["ts"] <= ts + layout.horizon_ms
        and row.append <= append + layout.early_outcome_wait_ms // 1000
        and append <= row.append + kept // 1000
        and seen <= ts + kept
    )


def _late(row: _Predicted, told: dict[str, Any], layout: Layout) -> bool:
    pane = layout.outcome_pane_ms
    return bool(told["ts"] > (row.event["ts"] // pane + 1) * pane + layout.maturity_ms)


def _key(event: dict[str, Any], layout: Layout, *, late: bool) -> Key:
    pane = event["ts"] // layout.outcome_pane_ms * layout.outcome_pane_ms
    segment = tuple(event["segment"][column] for column in layout.segments)
    return event["model"], pane, event["version"], segment, late


def _table(truth: OutcomeTruth, key: Key, table: OutcomeTable) -> np.ndarray:
    return truth.tables.setdefault(key, np.zeros(table.width, dtype=np.int64))


def _count(
    truth: OutcomeTruth,
    tables: Mapping[str, OutcomeTable],
    layouts: Mapping[str, Layout],
    pairs: Iterable[tuple[_Predicted, int, int, bool]],
) -> None:
    by_key: dict[Key, list[tuple[float, int, int, int]]] = defaultdict(list)
    for row, label, sign, late in pairs:
        event = row.event
        by_key[_key(event, layouts[event["model"]], late=late)].append((event["score"], label, row.delay, sign))
    for key, found in by_key.items():
        score, label, delay, sign = (np.array(column) for column in zip(*found, strict=True))
        rows = JoinedRows.of(score=score.astype(float), outcome=label, delay_ms=delay)
        for way in (1, -1):
            kept = np.flatnonzero(sign == way)
            some = JoinedRows.of(score=rows.score[kept], outcome=rows.outcome[kept], delay_ms=rows.delay_ms[kept])
            counted = tabulate_outcomes(tables[key[0]], some, np.zeros(kept.size, dtype=np.int64), 1)[0]
            _table(truth, key, tables[key[0]])[:] += way * counted
