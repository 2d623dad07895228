"""A million records, valid, nearly valid and hostile, through the real decode path of stage 1: none gets out as an
exception, the accounts hold exactly (I7), and memory does not grow.

    python loadtest/fuzz.py [--records 1000000] [--seed 1]

A grammar writes events with everything odd in them (tests/core/stage1.py) and outcomes of them; most are then mutated:
bytes changed, cut, doubled, or words of JSON's dark corners put in. Exit 1 when memory at the end is more than a tenth
above that after the first tenth of the records.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.append(str(Path(__file__).resolve().parents[1]))

from schemas.layouts import Limits
from streamer.core.profiling import apply, start
from streamer.core.profiling_state import ProfilingState
from streamer.core.records import Batch, PlainRecord
from tests.core.stage1 import CONTROL as SILENT
from tests.core.stage1 import SOURCE, control_of, stream

BATCH = 1_000
#: The tests' models, of which one is told its outcomes, and takes what comes in any order.
CONTROL = control_of(
    *(
        msgspec.structs.replace(
            layout,
            horizon_ms=86_400_000,
            hold_ms=86_400_000,
            early_outcome_wait_ms=10_000,
            limits=Limits(pending_rows=5_000),
        )
        if layout.model == "credit"
        else msgspec.structs.replace(layout, limits=Limits(pending_rows=5_000))
        for layouts in SILENT.models.values()
        for layout in layouts
    )
)
#: Words that parsers trip over.
WORDS = (
    b'"', b"{", b"}", b"1e999", b"-1e999", b"NaN", b"null", b"\\u0000", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"true",
    b"-Infinity", b"[" * 40, b"9" * 400, b"0.1e-400", b'"id":', b'"ts":', b'"model":"credit",', b"\x00", b"//",
)  # fmt: skip
HEADERS: tuple[tuple[tuple[str, bytes], ...], ...] = (
    (), (("model", b"churn"),), (("a", b""),), (("model", b"\xff"),), (("model", b""),)
)  # fmt: skip


class Found(NamedTuple):
    """state: after the last record; resident: MB after each tenth of the records."""

    state: ProfilingState
    resident: list[float]
    seconds: float


def records(seed: int) -> Iterator[tuple[str, bytes | None, int]]:
    """Input, value and append time, without end; one each millisecond, after the sound events' own times."""
    rng = random.Random(seed)
    sound = stream(3_000, seed)
    last = max(record.timestamp for record in sound)
    for append in count(last):
        base = rng.choice(sound)
        name, value = "predictions", base.value
        if rng.random() < 0.3:
            name, value = "outcomes", _outcome(rng, value)
        if value and rng.random() < 0.6:
            value = mutated(rng, value)
        yield name, value, append


def mutated(rng: random.Random, value: bytes) -> bytes:
    """A value with one to four wounds."""
    wounded = bytearray(value)
    for _ in range(rng.randint(1, 4)):
        kind, at = rng.random(), rng.randrange(len(wounded))
        if kind < 0.4:
            wounded[at] = rng.randrange(256)
        elif kind < 0.6:
            del wounded[at : at + rng.randint(1, 10)]
        elif kind < 0.85:
            wounded[at:at] = rng.choice(WORDS)
        else:
            piece = rng.randrange(len(wounded))
            wounded[at:at] = wounded[piece : piece + rng.randint(1, 40)]
        if not wounded:
            return b"x"
    return bytes(wounded)


def run(n: int, *, seed: int, each_tenth: Any = lambda: 0.0) -> Found:
    """Apply `n` records in batches; AssertionError when the accounts do not hold after one of them."""
    rng, source = random.Random(seed + 1), records(seed)
    state = start(CONTROL, SOURCE, next={"predictions": 0, "outcomes": 0})
    resident, begun, done = list[float](), time.monotonic(), 0
    keys = (None, b"credit", b"\xff", b"x", b"")
    while done < n:
        parts: dict[str, list[PlainRecord]] = {"predictions": [], "outcomes": []}
        for _ in range(min(BATCH, n - done)):
            name, value, append = next(source)
            offset = state.next[name] + len(parts[name])
            parts[name].append(PlainRecord(name, SOURCE, offset, append, rng.choice(keys), value, rng.choice(HEADERS)))
        for name, part in parts.items():
            if part:
                state, _ = apply(state, Batch(name, part, part[-1].offset + 1), CONTROL)
        done += BATCH
        assert state.consumed == state.applied + state.waiting + sum(state.drops.values())
        assert state.consumed == sum(state.next.values())
        if done * 10 // n > len(resident):
            resident.append(each_tenth())
    return Found(state, resident, time.monotonic() - begun)


def _outcome(rng: random.Random, prediction: bytes | None) -> bytes:
    """An outcome of a prediction, in one of the forms, or of none."""
    try:
        of = json.loads(prediction or b"")
    except (ValueError, RecursionError):
        of = {"id": "nobody"}
    ts = of.get("ts") if isinstance(of, dict) else None
    told: dict[str, Any] = {"id": of.get("id", "x") if isinstance(of, dict) else "x", "ts": ts or 0}
    told["label"] = rng.choice([0, 1, "1", "yes", None, True, "maybe", 2.5])
    if rng.random() < 0.3:
        told["prediction"] = of
    if rng.random() < 0.5:
        told["model"] = rng.choice(["credit", "churn", "nobody", "", 7])
    if rng.random() < 0.2:
        told["value"] = rng.choice([1.5, -1e308, "x", None])
    return json.dumps(told).encode()


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    found = run(asked.records, seed=asked.seed, each_tenth=_resident_mb)
    drops = Counter({reason: n for reason, n in found.state.drops.items() if n})
    first, last = found.resident[0], found.resident[-1]
    state = found.state
    print(f"{state.consumed} consumed = {state.applied} applied + {state.waiting} waiting + dropped:")
    for reason, n in drops.most_common():
        print(f"  {reason:18} {n}")
    print(f"{first:.0f} MB after a tenth, {last:.0f} MB at the end; {found.seconds:.0f} s")
    return int(last > 1.1 * first)


if __name__ == "__main__":
    sys.exit(main())
