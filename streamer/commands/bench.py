"""`tripline bench throughput`: events per second and core of the whole worker, on a real broker.

What is counted: the CPU time of every thread of a `tripline run`, by the kernel's account, between the first and the
last event: poll, decode, count, both stages, every default detector, transactions, metrics. What is not: the broker,
and the start of the process. A run whose reports do not hold every event once is an error, not a figure.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.envelopes import TYPES
from schemas.verdicts import WindowReport
from streamer.commands.bench_topics import STREAM_MS, Site, build_references, configured, site, summary, written
from streamer.commands.measured_worker import MeasuredWorker, free_port
from streamer.generating import Applicants, Ints

PARTITIONS = 4
PANE_MS, PANES = 60_000, 24
#: The stream goes on past the last whole pane's end by more than the lateness, so that it closes without waiting.
SPAN_MS = PANES * PANE_MS + 45_000
#: The worker's own counters: records of the inputs that are in a committed position, panes closed.
CONSUMED, CLOSED = "tripline_records_consumed_total", "tripline_panes_closed_total"
WINDOW = TYPES[WindowReport]
#: 4 models × 2 versions × 5 countries = 40 cells.
MODELS = ("lending-north", "lending-south", "lending-cards", "lending-autos")
VERSIONS = ("2025-03-01", "2025-03-08")

MODEL = """\
  {model}:
    reference: ../{model}.json
    pane: 1m
    lateness: 30s
    timezone: Europe/Paris
    segments: [country]
    false_alarms: 1 per 30d
    tolerance: 0.1
    retrain: {{when: drift for 30m, cooldown: 24h, mode: auto}}
"""
#: With outcomes, an hour after their predictions.
OUTCOMES = """\
    outcomes: {horizon: 7d, maturity: 2h}
"""
OUTCOME_DELAY_MS = 3_600_000
MATCHED = 'tripline_outcomes_total{state="matched"}'


def throughput(
    *, quick: bool = False, file: Path | None = None, bootstrap: str | None = None, runs: int | None = None,
    events: int | None = None, seed: int = 1, outcomes: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure, print a table unless `file` is `-`, write JSON to `file`; returns what it found.

    quick: 2 runs of 250,000 events in place of 5 of 1,000,000. bootstrap: a broker that is there, used for nothing
    else meanwhile; without one a broker is started from the source tree's parts. outcomes: run after run, the same
    once more with an outcome for each prediction, written after all of them, so that all of them are pending.
    """
    runs = runs or (2 if quick else 5)
    events = events or (250_000 if quick else 1_000_000)
    with site(bootstrap) as where:
        where.create_input(PARTITIONS)
        build_references(where, MODELS)
        size = where.fill(_events(events, seed), partitions=PARTITIONS)
        joined: list[dict[str, Any]] = []
        if outcomes:
            where.create_input(PARTITIONS, topic=where.outcomes)
            where.fill(_outcomes(events, seed), partitions=PARTITIONS, topic=where.outcomes)
        measured = []
        for number in range(runs):
            measured.append(_run(where, f"run-{number}", events))
            if outcomes:
                joined.append(_run(where, f"joined-{number}", events, outcomes=True))
        idle = _idle_memory(where)
        machine = summary(where)
    cost = statistics.median(run["cpu_us_per_event"] for run in measured)
    found: dict[str, Any] = {
        "events_per_core_second": round(1e6 / cost),
        "cpu_us_per_event": round(cost, 3),
        "events_per_second": round(statistics.median(run["events_per_second"] for run in measured)),
        "idle_rss_mb": round(idle, 1),
        "peak_rss_mb": round(max(run["peak_rss_mb"] for run in measured), 1),
        "events": events,
        "bytes_per_event": round(size / events, 1),
        "cells": len(MODELS) * len(VERSIONS) * 5,
        "features": 10,
        "partitions": PARTITIONS,
        "pane_closes": min(run["pane_closes"] for run in measured),
        "runs": measured,
        "machine": machine,
    }
    if joined:
        with_outcomes = statistics.median(run["cpu_us_per_event"] for run in joined)
        found |= {
            "outcomes_events_per_core_second": round(1e6 / with_outcomes),
            "outcomes_cpu_us_per_event": round(with_outcomes, 3),
            "outcomes_peak_rss_mb": round(max(run["peak_rss_mb"] for run in joined), 1),
            "pending_rows": events,
            "ratio": round(cost / with_outcomes, 3),
            "outcomes_runs": joined,
        }
    _told(found, file)
    return found


def _events(count: int, seed: int) -> Any:
    """Events of all models, evenly over the panes: (count,) in order of event time, drawn in parts."""
    applicants = Applicants(seed=seed, models=MODELS, versions=VERSIONS)
    ts = _times(count)
    for part, at in enumerate(range(0, count, 50_000)):
        yield from applicants.at(ts[at : at + 50_000], part=part).events()


def _outcomes(count: int, seed: int) -> Any:
    """One outcome for each event of `_events`, in the same order."""
    applicants = Applicants(seed=seed, models=MODELS, versions=VERSIONS)
    ts, drawn = _times(count), np.random.default_rng(seed)
    for part, at in enumerate(range(0, count, 50_000)):
        chosen = applicants.at(ts[at : at + 50_000], part=part)
        labels = (drawn.random(len(chosen)) < chosen.score).astype(int).tolist()
        told = (chosen.ts + OUTCOME_DELAY_MS).tolist()
        for name, model, when, label in zip(chosen.ids, chosen.model.tolist(), told, labels, strict=True):
            yield json.dumps({"id": name, "model": model, "ts": when, "label": label}).encode()


def _times(count: int) -> Ints:
    """Event times (count,), evenly over the span."""
    return STREAM_MS + np.arange(count, dtype=np.int64) * SPAN_MS // count


def _run(where: Site, number: str, events: int, *, outcomes: bool = False) -> dict[str, Any]:
    folder = where.folder / number
    folder.mkdir()
    name, port = f"{where.name}-{number}", free_port()
    configuration = _configuration(where, folder, name=name, port=port, outcomes=outcomes)
    records = 2 * events if outcomes else events
    with MeasuredWorker(configuration, port=port) as worker:
        first = worker.wait_until(lambda: _sample(worker), what="counting", every=0.02)
        last = worker.wait_until(lambda: _sample(worker, at_least=records), what="through", within=300, every=0.5)
        worker.wait_until(lambda: _closes(worker) >= PANES * len(MODELS), what="done with its panes")
        cpu, peak = worker.cpu_seconds(), worker.memory_mb("VmHWM")
        matched = int(worker.counters().get(MATCHED, 0.0))
    if matched != records - events:
        raise RuntimeError(f"{number}: {matched} outcomes were matched of {records - events}")
    counted, closes = _reported(where, f"{name}-windows")
    expected = int((_times(events) < STREAM_MS + PANES * PANE_MS).sum())
    if counted != expected:
        raise RuntimeError(f"{number}: the reports hold {counted} events of {expected}")
    spent = cpu - first["cpu"]
    done = records - first["consumed"]
    return {
        "cpu_us_per_event": round(spent * 1e6 / done, 3),
        "events_per_second": round((last["consumed"] - first["consumed"]) / (last["at"] - first["at"])),
        "measured_events": int(done),
        "cpu_seconds": round(spent, 2),
        "peak_rss_mb": round(peak, 1),
        "pane_closes": closes,
    }


def _idle_memory(where: Site) -> float:
    """Resident MB of a worker that is ready, holds all references and has nothing to read."""
    folder = where.folder / "idle"
    folder.mkdir()
    empty = replace(where, name=f"{where.name}-idle")
    empty.create_input(PARTITIONS)
    port = free_port()
    with MeasuredWorker(_configuration(empty, folder, name=empty.name, port=port), port=port) as worker:
        worker.wait_until_ready()
        time.sleep(3)
        return worker.memory_mb()


def _configuration(where: Site, folder: Path, *, name: str, port: int, outcomes: bool = False) -> Path:
    configuration = folder / "tripline.yaml"
    text = configured(where, name=name, port=port, outcomes=outcomes)
    more = OUTCOMES if outcomes else ""
    configuration.write_text(text + "".join(MODEL.format(model=model) + more for model in MODELS))
    where.command("topics", "create", "-c", str(configuration))
    return configuration


def _sample(worker: MeasuredWorker, *, at_least: int = 1) -> dict[str, float] | None:
    """Records consumed, CPU seconds and time, once `at_least` records were."""
    consumed = worker.counters().get(CONSUMED, 0.0)
    if consumed < at_least:
        return None
    return {"consumed": consumed, "cpu": worker.cpu_seconds(), "at": time.monotonic()}


def _closes(worker: MeasuredWorker) -> float:
    return worker.counters().get(CLOSED, 0.0)


def _reported(where: Site, topic: str) -> tuple[int, int]:
    """Events in the last revisions of all window reports, and panes closed."""
    latest: dict[tuple[str, int], tuple[int, int]] = {}
    for message in where.read(topic):
        event = json.loads(message.value())
        report = event["data"]
        if event["type"] == WINDOW and report["n"]:
            key = (report["model"], report["start"])
            latest[key] = max(latest.get(key, (-1, 0)), (report["revision"], report["n"]))
    return sum(n for _, n in latest.values()), len(latest)


def _told(found: dict[str, Any], file: Path | None) -> None:
    if file is not None and str(file) == "-":
        print(json.dumps(found, indent=2))
        return
    written(file, found)
    for run in found["runs"]:
        print(f"  {run['cpu_us_per_event']:.2f} µs of CPU per event, {run['events_per_second']:,} events/s")
    print(
        f"{found['events_per_core_second']:,} events per second and core (median of {len(found['runs'])}), "
        f"{found['bytes_per_event']:.0f}-byte events, {found['cells']} cells, {found['pane_closes']} pane closes; "
        f"RSS idle {found['idle_rss_mb']:.0f} MB, at most {found['peak_rss_mb']:.0f} MB; "
        f"{found['machine']['cores']} cores"
    )
    if "ratio" in found:
        print(
            f"with outcomes: {found['outcomes_events_per_core_second']:,} events per second and core, "
            f"{100 * found['ratio']:.0f} % of the rate without; {found['pending_rows']:,} predictions pending, "
            f"RSS at most {found['outcomes_peak_rss_mb']:.0f} MB"
        )
