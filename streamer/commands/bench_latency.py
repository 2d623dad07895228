"""`tripline bench latency`: from the append of the record that lets a pane close to the POST at Alertmanager.

Twenty models share 1,000 events a second on three of four partitions; the fourth is idle. In every sixth pane of a
model its `income` is missing, which a hard rule pages on at the close of that pane; a later pane resolves it. Each of
these transitions is a POST at an HTTP receiver in this process. The record that lets a pane close is the last of the
first records, one per partition with traffic, whose time is at least the pane's end plus the lateness; its append time
is the broker's. The first 15 seconds are good panes only: a source that never spoke of a model counts as idle after
`idle_after`, 10 s, and holds every pane until then.
"""

from __future__ import annotations

import datetime
import json
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from streamer.commands.bench_topics import Site, build_references, site, summary, written
from streamer.commands.measured_worker import MeasuredWorker, free_port
from streamer.generating import Applicants

PARTITIONS, ACTIVE = 4, 3
MODELS = tuple(f"lending-{number:02d}" for number in range(20))
PANE_MS, LATENESS_MS, CYCLE = 2_000, 500, 6
WARM_MS = 15_000

CONFIGURATION = """\
kafka:
  bootstrap_servers: "{bootstrap}"
  app: "{name}"
  topic_prefix: "{name}-"
  inputs: {{predictions: "{predictions}", features: null, outcomes: null}}
  profiles_partitions: 4
alertmanager: {{urls: ["{receiver}"]}}
metrics: {{port: {port}}}
start: earliest
models:
"""
MODEL = """\
  {model}:
    reference: {shared}.json
    pane: 2s
    lateness: 500ms
    clear_for: 1
    cooldown: 0
    expect: {{income: {{missing_below: 0.5}}}}
"""

#: (model, pane end in ms, resolved)
Told = tuple[str, int, bool]


def latency(
    *, file: Path | None = None, bootstrap: str | None = None, closes: int = 200, rate: int = 1_000, seed: int = 1
) -> dict[str, Any]:
    """Measure until `closes` panes have led to a POST, print a line, write JSON to `file`; returns what it found."""
    # Each cycle of a model has two transitions; a fifth more than is asked for.
    seconds = 30 + 1.2 * closes / 2 * CYCLE * PANE_MS / 1000 / len(MODELS)
    receiver = _Receiver()
    with site(bootstrap) as where:
        where.create_input(PARTITIONS)
        build_references(where, MODELS[:1])
        port = free_port()
        configuration = where.folder / "tripline.yaml"
        text = CONFIGURATION.format(
            bootstrap=where.bootstrap, name=where.name, predictions=where.input, port=port, receiver=receiver.url
        )
        configuration.write_text(text + "".join(MODEL.format(model=model, shared=MODELS[0]) for model in MODELS))
        where.command("topics", "create", "-c", str(configuration))
        with MeasuredWorker(configuration, port=port) as worker:
            worker.wait_until_ready()
            before = worker.cpu_seconds()
            appended = _stream(where, seconds=seconds, rate=rate, seed=seed)
            time.sleep(2 * PANE_MS / 1000)
            busy = (worker.cpu_seconds() - before) / seconds
        machine = summary(where)
    receiver.close()
    delays = _delays(receiver.first, appended)
    if len(delays) < closes:
        raise RuntimeError(f"{len(delays)} closes led to a POST, {closes} wanted:\n{worker.log.read_text()[-2000:]}")
    found = {
        "p50_ms": round(float(np.quantile(delays, 0.5)), 1),
        "p99_ms": round(float(np.quantile(delays, 0.99)), 1),
        "max_ms": round(max(delays), 1),
        "closes": len(delays),
        "events_per_second": rate,
        "partitions": PARTITIONS,
        "idle_partitions": PARTITIONS - ACTIVE,
        "models": len(MODELS),
        "cores_used": round(busy, 3),
        "delays_ms": [round(delay, 1) for delay in sorted(delays)],
        "machine": machine,
    }
    if file is not None and str(file) == "-":
        print(json.dumps(found, indent=2))
        return found
    written(file, found)
    print(
        f"p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms from append to POST, {len(delays)} closes, "
        f"{rate:,} events/s, {PARTITIONS} partitions of which {PARTITIONS - ACTIVE} idle; {machine['cores']} cores"
    )
    return found


#: Of one (model, partition): event times that raised its maximum, ascending, and their append times.
Appended = dict[tuple[str, int], tuple[list[int], list[int]]]


def _stream(where: Site, *, seconds: float, rate: int, seed: int) -> Appended:
    from confluent_kafka import Producer

    # Whole panes, so that every model's bad pane is bad from its first event to its last.
    start = (int(time.time() * 1000) + 3_000) // PANE_MS * PANE_MS
    ts = start + np.arange(int(seconds * rate), dtype=np.int64) * 1000 // rate
    drawn = Applicants(seed=seed, models=MODELS).at(ts)
    phase = np.array([MODELS.index(model) for model in drawn.model])
    bad = (ts // PANE_MS + phase) % CYCLE == 0
    drawn.numeric["income"][bad & (ts >= (start + WARM_MS) // PANE_MS * PANE_MS)] = np.nan
    events = drawn.events()
    found: Appended = defaultdict(lambda: ([], []))
    producer = Producer({"bootstrap.servers": where.bootstrap, "linger.ms": 0, "acks": 1})

    def delivered(error: Any, message: Any, *, model: str, at: int) -> None:
        if error is not None:
            raise RuntimeError(f"an event was not delivered: {error}")
        times, appends = found[model, message.partition()]
        if not times or at > times[-1]:
            times.append(at)
            appends.append(message.timestamp()[1])

    for i, (event, model, at) in enumerate(zip(events, drawn.model.tolist(), ts.tolist(), strict=True)):
        while time.time() * 1000 < at:
            producer.poll(0.001)
        producer.produce(
            where.input, event, partition=i % ACTIVE,
            on_delivery=lambda error, message, model=model, at=at: delivered(error, message, model=model, at=at),
        )  # fmt: skip
        producer.poll(0)
    producer.flush(10)
    return found


def _delays(first: dict[Told, float], appended: Appended) -> list[float]:
    """Delay in ms of each transition whose pane's closing record is known."""
    found = []
    for (model, pane_end, _), at in first.items():
        closing = []
        for partition in range(ACTIVE):
            times, appends = appended[model, partition]
            place = bisect_left(times, pane_end + LATENESS_MS)
            closing += appends[place : place + 1]
        if len(closing) == ACTIVE:
            found.append(at * 1000 - max(closing))
    return found


class _Receiver:
    """A POST /api/v2/alerts as Alertmanager takes it, that remembers when each transition came first."""

    def __init__(self) -> None:
        self.first: dict[Told, float] = {}
        first = self.first

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                at = time.time()
                for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
                    resolved = "endsAt" in alert
                    pane_end = _milliseconds(alert["endsAt" if resolved else "startsAt"])
                    first.setdefault((alert["labels"]["model"], pane_end, resolved), at)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing: one line per request would be the benchmark's loudest part."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _milliseconds(text: str) -> int:
    return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)
