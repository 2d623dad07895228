"""Outcomes are joined exactly: every pair once in the tables, every outcome in the accounts, whatever is killed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import logs
import numpy as np
import pytest
from brokers import Kafka, eventually
from confluent_kafka import Producer
from outcome_truth import OutcomeTruth, summed, truth_of
from test_counting import Application

from detectors.outcomes import OutcomeTable
from streamer.commands.bench_topics import STREAM_MS, Site, build_references, configured
from streamer.core.plans import outcome_table
from streamer.core.positions import MonitoringPosition, unpack
from streamer.core.profiling_state import ProfilingPosition, decode_position
from streamer.generating import Applicants

PARTITIONS, KILLS = 4, 10
MODELS = ("lending-north", "lending-south")
SPAN_MS = 24 * 60_000

MODEL = """\
  {model}:
    reference: {model}.json
    pane: 1m
    lateness: 5s
    hold: 5m
    segments: [country]
    outcomes: {{horizon: 20m, maturity: 3m, pane: 2m, early_outcome_wait: 8s}}
"""

Entry = tuple[int, str, int, bytes]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_change_no_table_and_lose_no_outcome(
    kafka: Kafka, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Predictions and outcomes over 4 partitions: heavy-tailed delays, 5 % never, 3 % corrected, 2 % twice, 1 % before
    their prediction, some of nobody; two workers, one of them killed ten times.

    With 300,000 predictions, in 145 s: `make integration ARGS="-k change_no_table --outcome-rows 300000"`.
    """
    rows = int(request.config.getoption("--outcome-rows"))
    site = Site(bootstrap=kafka.bootstrap, folder=tmp_path, name=prefix.rstrip("-"))
    build_references(site, MODELS, per_day=1_500.0)
    site.create_input(PARTITIONS)
    site.create_input(PARTITIONS, topic=site.outcomes)
    storm = Joining(site, f"{prefix}storm", slots=2).prepare()
    entries = made(rows)
    total = len(entries)

    with storm.running():
        seconds = max(30.0, rows / 5_000)
        streaming = threading.Thread(target=produce, args=(site, entries), kwargs={"seconds": seconds})
        streaming.start()
        kills = storm.kill_at_random_moments(slot=0, times=KILLS)
        streaming.join()
        eventually(lambda: storm.consumed() == total, within=120, every=1.0, what=f"all read: {storm._tail(0)}")
        eventually(lambda: storm.taken() == storm.matches(), within=60, every=1.0, what="all taken by the second stage")
    positions = storm.positions()
    truth = expected(site, storm)
    joined = storm.joined()
    counts = sum((Counter(position.join.counts) for position in positions if position.join), Counter[str]())
    drops = sum((Counter(position.drops) for position in positions), Counter[str]())
    waiting = sum(position.join.waiting for position in positions if position.join)

    assert kills == KILLS
    assert storm.unexpected_exits() == []
    assert different(joined, truth) == []
    assert {name: counts[name] for name in ("matched", "corrected", "duplicate")} == {
        name: truth.counts[name] for name in ("matched", "corrected", "duplicate")
    }
    assert drops["unmatched_outcome"] + waiting == truth.counts["unmatched"]
    assert (drops["duplicate"], counts["early"] > 0, counts["late"] > 0) == (truth.counts["duplicate"], True, True)
    assert sum(position.applied for position in positions) + waiting + drops.total() == total
    assert storm.dead_letters() == +drops
    assert min(truth.counts[name] for name in ("matched", "corrected", "duplicate", "unmatched")) > rows // 500


class Joining(Application):
    """Workers that join."""

    def prepare(self) -> Joining:
        for slot, port in self.ports.items():
            text = configured(self.site, name=self.name, port=port, outcomes=True)
            self.file(slot).write_text(text + "".join(MODEL.format(model=model) for model in MODELS))
        self.site.command("topics", "create", "-c", str(self.file(0)))
        self.site.command("apply", "-c", str(self.file(0)))
        return self

    def positions(self) -> list[ProfilingPosition]:
        """The position of each partition, as the changelog has it."""
        latest: dict[int, bytes] = {}
        for record in logs.read(self.site.bootstrap, f"{self.name}-{self.name}-profiling-changelog"):
            if record.key == b"position":
                latest[record.partition] = record.value or b""
        return [decode_position(raw) for _, raw in sorted(latest.items())]

    def joined(self) -> dict[Any, np.ndarray]:
        """All tables that the first stage wrote, by cell of each outcome pane."""
        return summed([record.value or b"" for record in self.read("profiles")])

    def matches(self) -> int:
        """Matches in all those tables, corrections counted once."""
        return sum(int(table[0]) for table in self.joined().values())

    def taken(self) -> int:
        """Matches that the second stage has in its panes, or had, corrections counted once, and those it dropped."""
        latest: dict[int, bytes] = {}
        for record in logs.read(self.site.bootstrap, f"{self.name}-{self.name}-monitoring-changelog"):
            if record.key == b"position":
                latest[record.partition] = record.value or b""
        counters = [unpack(raw, MonitoringPosition, key=b"position").counters for raw in latest.values()]
        return sum(one.outcomes + sum(one.outcome_drops.values()) for one in counters)

    def consumed(self) -> int:
        return sum(position.consumed for position in self.positions())


def made(rows: int) -> list[Entry]:
    """(event time to be written at, input, partition, value), in the order of writing."""
    rng = np.random.default_rng(11)
    ts = STREAM_MS + np.arange(rows, dtype=np.int64) * SPAN_MS // rows
    applicants = Applicants(seed=9, models=MODELS, versions=("2025-03-01", "2025-03-08"))
    partition = rng.integers(0, PARTITIONS, rows).tolist()
    delay = np.minimum(20_000 * (1 + rng.pareto(0.9, rows)), 40 * 60_000).astype(np.int64).tolist()
    shape, other = rng.random(rows), rng.random(rows)
    entries: list[Entry] = []
    chosen = applicants.at(ts)
    columns = zip(chosen.events(), chosen.ids, chosen.model.tolist(), chosen.ts.tolist(), chosen.score, strict=True)
    for i, (event, name, model, when, score) in enumerate(columns):
        at, label = partition[i], int(other[i] < score)
        entries.append((when, "predictions", at, event))
        if shape[i] < 0.05:
            continue
        early = shape[i] > 0.99
        due = when - 20_000 if early else when + delay[i]
        told = {"id": name, "model": model, "ts": due, "label": label}
        entries.append((due, "outcomes", at, json.dumps(told).encode()))
        if shape[i] < 0.08:
            again = {**told, "label": 1 - label, "ts": due + 30_000}
            entries.append((due + 30_000, "outcomes", at, json.dumps(again).encode()))
        elif shape[i] < 0.10:
            entries.append((due + 5_000, "outcomes", at, json.dumps(told).encode()))
        elif shape[i] < 0.11:
            nobody = {**told, "id": f"nobody-{i}"}
            entries.append((due, "outcomes", at, json.dumps(nobody).encode()))
    return sorted(entries, key=lambda entry: entry[0])


def produce(site: Site, entries: list[Entry], *, seconds: float) -> None:
    """Write everything in its order, evenly over `seconds`."""
    producer = Producer({"bootstrap.servers": site.bootstrap, "linger.ms": 20, "enable.idempotence": True})
    topics = {"predictions": site.input, "outcomes": site.outcomes}
    begun = time.monotonic()
    for i, (_, name, partition, value) in enumerate(entries):
        if i % 200 == 0:
            producer.poll(0)
            time.sleep(max(0.0, begun + seconds * i / len(entries) - time.monotonic()))
        producer.produce(topics[name], value, partition=partition)
    assert producer.flush(60) == 0


def expected(site: Site, application: Application) -> OutcomeTruth:
    control = application.control()
    layouts = {model: control.models[model][-1] for model in MODELS}
    tables: dict[str, OutcomeTable] = {}
    for model, layout in layouts.items():
        reference = control.reference(layout.reference)
        assert reference is not None
        table = outcome_table(reference, layout)
        assert table is not None
        tables[model] = table
    predictions, outcomes = (logs.read(site.bootstrap, topic) for topic in (site.input, site.outcomes))
    return truth_of(predictions, outcomes, layouts, tables)


def different(joined: dict[Any, np.ndarray], truth: OutcomeTruth) -> list[Any]:
    """Cells whose tables differ, the first few, with the columns."""
    keys = sorted({*joined, *truth.tables})
    wrong = [key for key in keys if not np.array_equal(joined.get(key), truth.tables.get(key))]
    return [(key, np.flatnonzero(joined.get(key, 0) != truth.tables.get(key, 0))[:8].tolist()) for key in wrong[:8]]
