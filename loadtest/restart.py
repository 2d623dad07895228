"""How long a restarted worker takes to be ready, by the number of monitors whose state it has to read back.

    python -m loadtest.restart [--monitors 1000 10000 100000 1000000]    # a broker of its own from .parts/

How the state is made: one reference (20 numeric features, two weeks, four countries) is shared by all models; a model
has 20 features × 5 views = 100 monitors. `profiles` (8 partitions) gets three panes of every model, of 100 events each.
Stage 2 itself, in this process and without a broker, reads them, closes two, leaves one open, and what it then has in
its changelog is written to the broker's: charts, two held panes, clocks, incidents. (It makes charts and noise tables
once for all models, which differ in nothing but the name, and no reports, which are no state.) Then a real worker is
started and timed: from its start to its assignment, and from there to the moment at which every task is restored, its
open panes replayed and their digest compared. Charts are made at a layout's first close, not before; that takes some
.5 ms of CPU per monitor, in between other work.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "integration"))

from brokers import Kafka

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.frames import build_scope
from detectors.references import Reference, dumps
from detectors.rows import Rows
from detectors.tabulate import tabulate
from schemas.control import Cluster
from schemas.layouts import Layout, View
from schemas.profiles import Delta, DeltaRow, Progress, encode, encode_ints, encode_sparse
from schemas.verdicts import WindowReport
from streamer.app import Worker
from streamer.core import closing, forms, monitoring
from streamer.core.control import Control, publish_cluster, publish_layout, publish_reference
from streamer.core.figures import Yardstick
from streamer.core.outbox import Outbox
from streamer.core.records import Batch, Output, PlainRecord
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import create_topics, topic_specs
from streamer.stages import Monitoring

FEATURES, COUNTRIES, PARTITIONS = 20, ("DE", "ES", "FR", "IT"), 8
PANE, DAY, BEGIN = 600_000, 86_400_000, 1_735_516_800_000
PANES, EVENTS = 2, 100
PER_MODEL = FEATURES * (1 + len(COUNTRIES))


def rows(n: int, *, start: int, span: int, seed: int) -> Rows:
    """Normal features, with a country each."""
    rng = np.random.default_rng(seed)
    return Rows(
        ts=np.sort(rng.integers(start, start + span, n)),
        columns={f"x{i}": rng.normal(size=n) for i in range(FEATURES)},
        version=None,
        segments={"country": rng.choice(np.array(COUNTRIES, dtype=object), n)},
    )


@cache
def reference() -> Reference:
    """Two weeks, a hundred events a pane."""
    past = rows(14 * 144 * EVENTS, start=BEGIN - 14 * DAY, span=14 * DAY, seed=1)
    builder = ReferenceBuilder("m", "features", segments=("country",))
    builder.survey(past)
    builder.count(past)
    return builder.finish()


def layouts(models: int) -> list[Layout]:
    """One model beside the other, spread over the partitions."""
    names = tuple(f"x{i}" for i in range(FEATURES))
    views = (View(), *(View("country", country) for country in COUNTRIES))
    return [
        Layout(
            model=f"m{i}", kind="features", from_ms=0, reference=reference().id, pane_ms=PANE, segments=("country",),
            views=views, monitored=names, monitors=PER_MODEL, max_alert_age_ms=None, partition=i % PARTITIONS,
        )
        for i in range(models)
    ]  # fmt: skip


def body(pane: int) -> dict[str, Any]:
    """Counts of one pane, the same for every model."""
    came = rows(EVENTS, start=BEGIN + pane * PANE, span=PANE, seed=100 + pane)
    table, country = reference().table, came.segments["country"]
    group = np.array([COUNTRIES.index(name) for name in country], dtype=np.int64)
    numeric = np.stack([came.columns[spec.name] for spec in table.numeric], axis=1)
    none = np.zeros((EVENTS, 0), dtype=np.int32)
    counts, least, largest = tabulate(table, Binner(table.specs), numeric, none, group, len(COUNTRIES))
    return {
        "width": table.width,
        "max_ts": int(came.ts.max()),
        "rows": [DeltaRow(BEGIN + pane * PANE, "1", (name,)) for name in COUNTRIES],
        "body": encode_sparse(counts.ravel()),
        "extremes": encode_ints(np.stack([least, largest], axis=-1).ravel()),
    }


def publish(settings: KafkaSettings, outputs: list[Output], *, topic: str = "") -> None:
    """Write records without a transaction, and wait for all."""
    producer = Producer(
        {"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 20, "message.max.bytes": 9_000_000}
    )
    for output in outputs:
        while True:
            try:
                producer.produce(topic or settings.topic(output.topic), output.value, output.key, output.partition or 0)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0


def told(of: list[Layout]) -> list[list[bytes]]:
    """Values of each partition of `profiles`: a delta per model and pane, then what says that the pane may close."""
    at, seq = np.zeros((PARTITIONS, PARTITIONS), dtype=int), 0
    values: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for pane in range(PANES + 1):
        counts = body(pane)
        for one in of:
            seq, q = seq + 1, one.partition
            begin, end = int(at[0, q]), int(at[0, q]) + EVENTS
            at[0, q] = end
            frame: dict[str, Any] = {"source": 0, "begin": begin, "end": end, "part": 0, "parts": 1, "seq": seq}
            values[q].append(encode(Delta(model=one.model, layout=one.id, **frame, **counts)))
        for source, q in np.ndindex(at.shape):
            seq += 1
            maxima = {one.model: BEGIN + (pane + 1) * PANE - 1 for one in of if one.partition == q}
            here = int(at[source, q])
            frame = {"source": int(source), "begin": here, "end": here, "part": 0, "parts": 1, "seq": seq}
            values[q].append(encode(Progress(caught_up=False, maxima=maxima, **frame)))
    return values


def state_of(control: Control, partition: int, values: list[bytes]) -> dict[bytes, bytes | None]:
    """The changelog that stage 2 has written after it has read `values`."""
    now = time.time_ns() // 1_000_000
    records = [PlainRecord("profiles", partition, at, now, None, value) for at, value in enumerate(values)]
    state, kept = monitoring.start(control, partition), dict[bytes, bytes | None]()
    batch = Batch("profiles", records, len(records))
    while True:
        state, outputs = monitoring.apply(state, batch, control)
        kept.update((output.key, output.value) for output in outputs if output.topic == "changelog")
        if not state.pending:
            assert state.counters.panes == PANES * sum(one[0].partition == partition for one in control.models.values())
            return kept
        batch = Batch("profiles", [], batch.next_offset)


def make(settings: KafkaSettings, of: list[Layout]) -> int:
    """Everything that a worker finds at its start; bytes of state."""
    cluster = Cluster(sources=PARTITIONS, profiles=PARTITIONS)
    models = {one.model: (one,) for one in of}
    control = Control(models=models, references={reference().id: reference()}, cluster=cluster)
    said = [*publish_reference(reference().id, dumps(reference())), *map(publish_layout, of), publish_cluster(cluster)]
    publish(settings, said)
    size = 0
    with made_once(of[0]):
        for partition, values in enumerate(told(of)):
            kept = state_of(control, partition, values)
            publish(settings, [Output("profiles", b"", value, partition) for value in values])
            records = [Output("changelog", key, value, partition) for key, value in kept.items()]
            publish(settings, records, topic=settings.changelog("monitoring"))
            size += sum(len(key) + len(value or b"") for key, value in kept.items())
    return size


@contextlib.contextmanager
def made_once(layout: Layout) -> Iterator[None]:
    """Charts and noise tables of one model for all, and no reports: what is no state, or the same in all of them."""
    scope = build_scope(reference(), layout)
    yardstick = Yardstick(reference(), views=scope.views, names=scope.monitored)
    report = WindowReport(
        model="", layout="", reference="", start=0, end=0, revision=0, n=0, late_n=0, cells=[], views=[]
    )
    changed: list[tuple[Any, str, Any]] = [
        (forms, "build_scope", lambda *_: scope),
        (forms, "Yardstick", lambda *_, **__: yardstick),
        (closing, "window_report", lambda *_, **__: report),
        (Outbox, "window", lambda *_: None),
    ]
    before = [getattr(owner, name) for owner, name, _ in changed]
    for owner, name, other in changed:
        setattr(owner, name, other)
    try:
        yield
    finally:
        for (owner, name, _), own in zip(changed, before, strict=True):
            setattr(owner, name, own)


async def restarted(settings: KafkaSettings) -> tuple[float, float, float]:
    """Seconds from the start of a worker to its assignment, from there to every task restored, and the CPU of that."""
    begun = time.monotonic()
    worker = Worker(settings, stages=(Monitoring(),))
    starting = asyncio.create_task(worker.start())
    try:
        while not (worker.deliveries and worker.deliveries["monitoring"].tasks):
            await asyncio.sleep(0.005)
        assigned, used = time.monotonic(), time.process_time()
        await starting
        await worker.wait_until_ready()
        return assigned - begun, time.monotonic() - assigned, time.process_time() - used
    finally:
        await worker.stop()


def measured(kafka: Kafka, monitors: int) -> str:
    """A line of the table."""
    name = f"restart-{monitors}"
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, app=name, topic_prefix=f"{name}-", replication=1, slot="0",
        inputs={"features": f"{name}-features"}, session_timeout_ms=6_000, broker_timeout_s=300.0,
    )  # fmt: skip
    asyncio.run(create_topics(settings, topic_specs(settings, sources=PARTITIONS, profiles=PARTITIONS)))
    of = layouts(max(1, monitors // PER_MODEL))
    begun = time.monotonic()
    size = make(settings, of)
    took = time.monotonic() - begun
    times = [asyncio.run(restarted(settings)) for _ in range(3)]
    start, ready, cpu = (sorted(column)[1] for column in zip(*times, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return (
        f"| {len(of) * PER_MODEL:,} | {len(of):,} | {size / 1e6:,.0f} MB | {start:.1f} s | {ready:.1f} s | {cpu:.1f} s "
        f"| {memory:,} MB | {took:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monitors", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    print(
        "| monitors | models | state | to assignment | from there to ready | CPU of that | memory at most | made in |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="tripline-restart-") as folder:
        kafka = Kafka(Path(folder))
        try:
            kafka.start()
            for monitors in asked.monitors:
                print(measured(kafka, monitors), flush=True)
        finally:
            kafka.kill()


if __name__ == "__main__":
    main()
