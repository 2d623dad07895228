"""What the join costs: `python -m loadtest.join_cost [--pending 1000000] [--events 40000]`.

Prints bytes and CPU per pending row, rows restored per second, and the CPU of stage 1 per event: predictions alone,
predictions that are kept, and their outcomes, one for each. On 2 cores (busy ones), 1,000,000 pending rows: 35.4 bytes
a row; insert 0.37 µs while the store grows, 0.15 later, look up 0.20, look up and settle 0.39; 2.8 M rows/s restored.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from loadtest.stage1_cost import control, records
from schemas.layouts import Layout
from streamer.core.control import Control
from streamer.core.pending import Pending, Rows
from streamer.core.profiling import apply, restore, start
from streamer.core.records import Batch, Output, PlainRecord

BATCH = 2_000


def with_outcomes(plain: Control, *, horizon_ms: int) -> Control:
    """The same models, joined with outcomes."""
    models: dict[str, tuple[Layout, ...]] = {}
    for name, layouts in plain.models.items():
        models[name] = tuple(
            msgspec.structs.replace(one, horizon_ms=horizon_ms, maturity_ms=3_600_000, hold_ms=horizon_ms)
            for one in layouts
        )
    return Control(models=models, references=plain.references, cluster=plain.cluster)


def rows(n: int, seed: int) -> Rows:
    """Pending rows of a binary model with a score."""
    rng = np.random.default_rng(seed)
    none = np.zeros(n, dtype=np.int64)
    key = rng.integers(0, 1 << 63, n, dtype=np.uint64)
    at = 1_735_689_600_000 + np.arange(n, dtype=np.int64)
    return Rows(key, at, at // 1000, rng.random(n), none - 1, none)


def measure_ring(pending_rows: int) -> None:
    """Bytes of a row, and CPU per row of inserting, letting go, looking up and settling."""
    ring = Pending(10 * pending_rows)
    everything = rows(2 * pending_rows, 1)

    def insert(begin: int, end: int, *, forget: bool) -> float:
        before = time.process_time_ns()
        for at in range(begin, end, BATCH):
            if forget:
                ring.forget(ring.first + BATCH)
            ring.append(everything.take(slice(at, at + BATCH)))
        return (time.process_time_ns() - before) / 1000 / (end - begin)

    growing, steady = insert(0, pending_rows, forget=False), insert(pending_rows, 2 * pending_rows, forget=True)
    wanted = np.random.default_rng(2).permutation(everything.key[pending_rows:])[:200_000]
    before, hits = time.process_time_ns(), 0
    for at in range(0, wanted.size, BATCH):
        hits += sum(numbers.size for _, numbers in ring.find(wanted[at : at + BATCH]))
    found = (time.process_time_ns() - before) / 1000 / wanted.size
    before = time.process_time_ns()
    for at in range(0, wanted.size, BATCH):
        for _, numbers in ring.find(wanted[at : at + BATCH]):
            ring.settle(numbers, numbers * 0, numbers * 0, None)
    settled = (time.process_time_ns() - before) / 1000 / wanted.size
    assert hits == wanted.size
    print(
        f"{ring.nbytes / len(ring):.1f} bytes a pending row; µs of CPU: insert {growing:.2f} growing, {steady:.2f} "
        f"in the steady state, look up {found:.2f}, look up and settle {settled:.2f}"
    )


def measure_stage(events: int, pending_rows: int) -> None:
    """CPU of stage 1 per event without outcomes, with them, and of outcomes; and of restoring what is pending."""
    predictions = records(max(events, pending_rows))
    plain, joined = control(), with_outcomes(control(), horizon_ms=86_400_000)
    alone = _cost(plain, predictions[:events], "predictions")
    state = start(joined, 0, next={"predictions": 0, "outcomes": 0})
    outputs: list[Output] = []
    kept = _cost(joined, predictions, "predictions", state=state, outputs=outputs)
    rng = np.random.default_rng(3)
    told = []
    for offset, at in enumerate(rng.permutation(len(predictions))[:events].tolist()):
        event = msgspec.json.decode(predictions[at].value or b"")
        value = {"id": event["id"], "model": event["model"], "ts": event["ts"] + 60_000, "label": int(rng.integers(2))}
        append = predictions[-1].timestamp + 60_000
        told.append(PlainRecord("outcomes", 0, offset, append, None, msgspec.json.encode(value)))
    matched = _cost(joined, told, "outcomes", state=state, outputs=outputs)
    assert state.join is not None
    assert state.join.counts["matched"] == events, (state.join.counts, state.drops)
    latest = {one.key: one.value for one in outputs if one.topic == "changelog"}
    began = time.process_time()
    again = restore(latest.items(), joined)
    seconds = time.process_time() - began
    assert again is not None
    print(
        f"µs of CPU per event: a prediction {alone:.2f} without outcomes, {kept:.2f} with; its outcome {matched:.2f}; "
        f"both {(kept + matched) / 2:.2f} each, {100 * alone / ((kept + matched) / 2):.0f} % of the rate without"
    )
    rate = len(predictions) / seconds / 1e6
    print(f"{len(predictions):,} rows restored in {seconds:.2f} s of CPU, {rate:.2f} M rows/s")


def _cost(
    everything: Control,
    events: Sequence[PlainRecord],
    name: str,
    *,
    state: object = None,
    outputs: list[Output] | None = None,
) -> float:
    from streamer.core.profiling_state import ProfilingState

    task = state if isinstance(state, ProfilingState) else start(everything, 0, next={name: 0})
    costs = []
    for at in range(0, len(events), BATCH):
        batch = Batch(name, events[at : at + BATCH], min(at + BATCH, len(events)))
        before = time.process_time_ns()
        task, made = apply(task, batch, everything)
        costs.append((time.process_time_ns() - before) / 1000 / len(batch.records))
        if outputs is not None:
            outputs.extend(one for one in made if one.topic == "changelog")
    return float(np.median(costs))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=40_000)
    options = parser.parse_args()
    measure_ring(options.pending)
    measure_stage(options.events, min(options.pending, 200_000))


if __name__ == "__main__":
    main()
