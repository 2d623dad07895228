"""What a run must have counted, worked out event by event from the input topics, in plain Python.

Nothing of stage 1 is used here: bins by `bisect`, sums by `round`, the late rule as a sentence. Only the names of the
columns and their order come from the product (`Table`), since that is what is compared.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.bins import FeatureSpec
from detectors.profiles import Table
from schemas.layouts import Layout
from schemas.profiles import Delta, Progress, decode, decode_sparse
from streamer.core.records import PlainRecord

#: (model, pane start, version, segment values)
Key = tuple[str, int, str, tuple[str, ...]]


@dataclass
class Truth:
    """tables: what each cell of each pane holds. dropped: by reason. consumed: records read, by source."""

    tables: dict[Key, np.ndarray] = field(default_factory=dict)
    late: Counter[tuple[str, int]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    consumed: Counter[int] = field(default_factory=Counter)

    def rows(self, model: str) -> dict[int, dict[tuple[str, tuple[str, ...]], int]]:
        """Events of each cell, by pane."""
        found: dict[int, dict[tuple[str, tuple[str, ...]], int]] = defaultdict(dict)
        for (name, pane, version, segment), table in self.tables.items():
            if name == model:
                found[pane][version, segment] = int(table[0])
        return dict(found)


def truth_of(records: Iterable[PlainRecord], layouts: Mapping[str, Layout], tables: Mapping[str, Table]) -> Truth:
    """Count records of the prediction topic, given in offset order within each partition."""
    found = Truth()
    largest: dict[tuple[int, str], int] = {}
    seen: dict[int, set[str]] = defaultdict(set)
    for record in records:
        source = record.partition
        found.consumed[source] += 1
        try:
            event = json.loads(record.value or b"")
        except ValueError:
            found.dropped["decode"] += 1
            continue
        layout = layouts.get(event["model"])
        if layout is None:
            found.dropped["unknown_model"] += 1
            continue
        if event["ts"] > record.timestamp + 300_000:
            found.dropped["future"] += 1
            continue
        pane = event["ts"] // layout.pane_ms * layout.pane_ms
        behind = largest.get((source, event["model"]), -math.inf) - layout.lateness_ms
        if pane + layout.pane_ms + layout.hold_ms <= behind:
            found.dropped["late"] += 1
            continue
        if event["id"] in seen[source]:
            found.dropped["duplicate"] += 1
            continue
        seen[source].add(event["id"])
        if pane + layout.pane_ms <= behind:
            found.late[event["model"], pane] += 1
        largest[source, event["model"]] = max(largest.get((source, event["model"]), 0), event["ts"])
        segment = tuple(str(event["segment"][column]) for column in layout.segments)
        key = (event["model"], pane, event["version"], segment)
        table = tables[event["model"]]
        if key not in found.tables:
            found.tables[key] = np.zeros(table.width, dtype=np.int64)
        _count(found.tables[key], table, event, delay=record.timestamp - event["ts"])
    return found


def summed(profiles: Sequence[bytes]) -> tuple[dict[Key, np.ndarray], Counter[int]]:
    """All deltas of a profiles topic added up by cell; and how many records each source wrote."""
    found: dict[Key, np.ndarray] = {}
    wrote: Counter[int] = Counter()
    for raw in profiles:
        record = decode(raw)
        wrote[record.source] += 1
        if isinstance(record, Progress):
            continue
        assert isinstance(record, Delta)
        index, values = decode_sparse(record.body)
        flat = np.zeros(record.width * len(record.rows), dtype=np.int64)
        flat[index] = values
        for row, table in zip(record.rows, flat.reshape(len(record.rows), record.width), strict=True):
            key = (record.model, row.pane, row.version, tuple(row.segment))
            found[key] = found.get(key, 0) + table
    return found, wrote


def _count(into: np.ndarray, table: Table, event: dict[str, Any], *, delay: int) -> None:
    values = {**event["features"], "score": event["score"]}
    into[0] += 1
    sums = {spec.name: table.sums.start + i for i, spec in enumerate(table.numeric)}
    for spec in table.specs:
        value = values.get(spec.name)
        into[table.features[spec.name].start + _column(spec, value)] += 1
        if spec.kind == "numeric" and value is not None:
            clipped = min(max(value, -spec.clip), spec.clip)
            into[sums[spec.name]] += round(clipped * 2**spec.scale_bits)
    into[table.delay.start + _bucket(delay)] += 1
    if event.get("latency_ms") is not None:
        into[table.latency.start + _bucket(event["latency_ms"])] += 1
    if event.get("status") is not None:
        into[table.status.start + (event["status"] != "ok")] += 1


def _column(spec: FeatureSpec, value: Any) -> int:
    if spec.kind == "categorical":
        if value is None:
            return spec.columns.index("missing")
        return spec.levels.index(value) if value in spec.levels else spec.columns.index("unseen")
    if value is None:
        return spec.columns.index("missing")
    if value < spec.low:
        return spec.columns.index("below")
    if value > spec.high:
        return spec.columns.index("above")
    return bisect_left(spec.edges, value)


def _bucket(milliseconds: float) -> int:
    return 0 if milliseconds < 1 else min(1 + math.floor(2 * math.log2(milliseconds)), 63)
