"""Runs contestants in an environment of their own: one JSON job per line in, one JSON answer per line out.

    {"do": "versions"}                                                          -> {"river": "0.23.0", ...}
    {"do": "rate", "peer": NAME, "knob": K, "values": FILE, "alarms": A, "events": E} -> {"alarms": a, "events": e}
    {"do": "delays", "peer": NAME, "knob": K, "before": FILE, "after": FILE}    -> {"first": [n or null], "early": r}
    {"do": "alarms", "peer": NAME, "knob": K, "values": FILE}                   -> {"at": [n]}
    {"do": "cost", "peer": NAME, "knob": K, "values": FILE}                     -> {"ns": n}
    {"do": "synthetic", "name": NAME, "given": {}, "rows": N, "values": FILE}   -> {"columns": n}; x and y go to FILE

Files are numpy arrays (.npy); delays have one run per row. An error answers {"error": TEXT}, and the next job goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from answering import answer_all
from contestants import Peer, by_name

CHUNK = 10_000


def alarms(peer: Peer, knob: float, values: Iterable[float]) -> Iterator[int]:
    """Numbers, from 1, of the values at which it alarms; it begins anew after each."""
    detector, flag = peer.make(knob), peer.flag
    for number, x in enumerate(values, start=1):
        detector.update(x)
        if getattr(detector, flag):
            yield number
            detector = peer.make(knob)


def rate(peer: str, knob: float, values: str, alarms: int, events: int) -> dict[str, Any]:
    """Run until `alarms` false alarms, `events` events or the end of the file, whichever comes first."""
    one, data = by_name(peer), np.load(values, mmap_mode="r")
    detector, flag, found, done = one.make(knob), one.flag, 0, 0
    while done < min(events, data.size) and found < alarms:
        chunk = data[done : min(done + CHUNK, events)].astype(np.float64).tolist()
        for x in chunk:
            detector.update(x)
            if getattr(detector, flag):
                found += 1
                detector = one.make(knob)
        done += len(chunk)
    return {"alarms": found, "events": done}


def delays(peer: str, knob: float, before: str, after: str) -> dict[str, Any]:
    """Values to the first alarm after the change, by run, and how many runs alarmed before it."""
    one, early = by_name(peer), 0
    first: list[int | None] = []
    for quiet, loud in zip(np.load(before), np.load(after), strict=True):
        detector, flag, alarmed = one.make(knob), one.flag, False
        for x in quiet.astype(np.float64).tolist():
            detector.update(x)
            if getattr(detector, flag):
                alarmed, detector = True, one.make(knob)
        early += alarmed
        first.append(None)
        for number, x in enumerate(loud.astype(np.float64).tolist(), start=1):
            detector.update(x)
            if getattr(detector, flag):
                first[-1] = number
                break
    return {"first": first, "early": early}


def all_alarms(peer: str, knob: float, values: str) -> dict[str, Any]:
    """Where it alarms on one stream."""
    return {"at": list(alarms(by_name(peer), knob, np.load(values).astype(np.float64).tolist()))}


def cost(peer: str, knob: float, values: str) -> dict[str, Any]:
    """CPU time per event, in ns."""
    one, data = by_name(peer), np.load(values).astype(np.float64).tolist()
    detector = one.make(knob)
    start = time.process_time()
    for x in data:
        detector.update(x)
    return {"ns": (time.process_time() - start) * 1e9 / len(data)}


def synthetic(name: str, given: dict[str, Any], rows: int, values: str) -> dict[str, Any]:
    """One of river's generators: numeric features, then the class, by row."""
    from river.datasets import synth

    found = []
    for x, y in getattr(synth, name)(**given).take(rows):
        found.append([*(float(value) for value in x.values()), float(y)])
    np.save(values, np.array(found))
    return {"columns": len(found[0])}


def versions() -> dict[str, Any]:
    """What is installed here."""
    return {name: version(name) for name in ("river", "frouros", "numpy")}


JOBS = {
    "rate": rate, "delays": delays, "alarms": all_alarms, "cost": cost, "synthetic": synthetic, "versions": versions,
}  # fmt: skip

if __name__ == "__main__":
    answer_all(JOBS)
