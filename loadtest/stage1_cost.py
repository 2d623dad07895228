"""CPU of stage 1 per event, all in: `python -m loadtest.stage1_cost [--batch 2000] [--marginals 1] [--profile]`.

`--served`: latency and status are tested too; `--derived`: so are a distance and eight residuals.

431-byte events with 10 features, 4 models × 2 versions × 5 countries, batches of 2,000: decode, ids, admission, cells,
tabulation, deltas, position. Prints the median over the batches, in µs of CPU per event.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

import msgspec
import numpy as np

from detectors.bins import FeatureSpec
from detectors.derived import Derivation, learn_derivation
from detectors.references import Reference
from schemas.control import Cluster
from schemas.layouts import Layout
from streamer.core.control import Control
from streamer.core.profiling import apply, start
from streamer.core.records import Batch, PlainRecord

BEGIN = 1_735_689_600_000
MODELS, VERSIONS, COUNTRIES = 4, ("1", "2"), ("DE", "ES", "FR", "IT", "PL")
NUMERIC = ("age", "amount", "income", "debt_ratio", "open_loans", "late_payments", "tenure_months", "utilisation")


def control(*, marginals: int = 0, served: bool = False, derived: bool = False) -> Control:
    """Four models that count by the same features; so many columns have tables of their own.

    served: latency and status are tested too. derived: a distance and eight residuals are made of the numbers.
    """
    edges = tuple(float(x) for x in np.linspace(-2, 2, 31))
    specs = [
        FeatureSpec(name=name, kind="numeric", edges=edges, low=-4.0, high=4.0, scale_bits=20, clip=64.0)
        for name in NUMERIC
    ]
    specs += [
        FeatureSpec(name="country", kind="categorical", levels=COUNTRIES),
        FeatureSpec(name="channel", kind="categorical", levels=("app", "branch", "web")),
        FeatureSpec(
            name="score", kind="numeric", edges=tuple(np.linspace(0.03, 0.97, 31)), high=1.0, scale_bits=30, clip=2.0
        ),
    ]
    names: tuple[str, ...] = ()
    if served:
        names = ("latency_ms", "status")
        specs.append(msgspec.structs.replace(specs[0], name="latency_ms", low=0.0, high=200.0, clip=1024.0))
        specs.append(FeatureSpec(name="status", kind="categorical", levels=("ok", "error")))
    made: Derivation | None = None
    if derived:
        made = learn_derivation(specs[:8], np.random.default_rng(0).standard_normal((5_000, 8)))
        specs += [msgspec.structs.replace(specs[0], name=name) for name in made.names]
    reference = Reference(model="m", specs=tuple(specs), views={}, id="r", served=names, derived=made)
    further = ("channel", "device", "browser", "plan")[:marginals]
    layouts: dict[str, tuple[Layout, ...]] = {
        f"model{m}": (
            Layout(
                model=f"model{m}",
                from_ms=0,
                reference="r",
                segments=("country",),
                marginals=further,
                partition=m % 2,
            ),
        )
        for m in range(MODELS)
    }
    return Control(models=layouts, references={"r": reference}, cluster=Cluster(sources=4, profiles=4))


def records(n: int, *, seed: int = 1, per_second: int = 2_000) -> list[PlainRecord]:
    """Events in time order, 431 bytes each on average."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        ts = BEGIN + i * 1000 // per_second
        country = COUNTRIES[int(rng.integers(5))]
        features: dict[str, object] = {
            name: round(float(x), 6) for name, x in zip(NUMERIC, rng.normal(size=8), strict=True)
        }
        features |= {"country": country, "channel": ("app", "web", "branch")[int(rng.integers(3))]}
        event = {
            "id": f"{rng.bytes(16).hex()}",
            "model": f"model{int(rng.integers(MODELS))}",
            "version": VERSIONS[int(rng.integers(2))],
            "ts": ts,
            "features": features,
            "score": round(float(rng.beta(2, 5)), 6),
            "segment": {"country": country, "device": ("ios", "tv", "web")[i % 3]},
            "latency_ms": round(float(rng.gamma(2, 10)), 2),
            "status": "ok",
        }
        raw = msgspec.json.encode(event)
        raw = raw[:-1] + b',"trace":"' + b"x" * max(0, 431 - len(raw) - 11) + b'"}'
        found.append(PlainRecord("predictions", 0, i, ts + 40, None, raw))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--marginals", type=int, default=0, choices=range(5))
    parser.add_argument("--served", action="store_true")
    parser.add_argument("--derived", action="store_true")
    options = parser.parse_args()
    events = records(options.events)
    everything = control(marginals=options.marginals, served=options.served, derived=options.derived)
    state = start(everything, 0, next={"predictions": 0})
    costs, sent = [], 0
    profile = cProfile.Profile()
    for at in range(0, len(events), options.batch):
        batch = Batch("predictions", events[at : at + options.batch], min(at + options.batch, len(events)))
        before = time.process_time_ns()
        if options.profile:
            state, outputs = profile.runcall(apply, state, batch, everything)
        else:
            state, outputs = apply(state, batch, everything)
        costs.append((time.process_time_ns() - before) / 1000 / len(batch.records))
        sent += sum(len(output.value or b"") for output in outputs)
    size = sum(len(event.value or b"") for event in events) / len(events)
    assert state.applied == len(events), state.drops
    print(
        f"{np.median(costs):.2f} µs of CPU per event (least {min(costs):.2f}, p90 {np.quantile(costs, 0.9):.2f}); "
        f"batches of {options.batch}, events of {size:.0f} bytes, {sent / len(events):.0f} bytes out per event"
    )
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
