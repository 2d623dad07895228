"""Find the thresholds of `thresholds.json`: `python -m loadtest.detect.match [--arl 1e4 --arl 1e5]`, slowly.

One knob per detector and null, so that nothing changed gives one alarm per 1e4 and 1e5 events; on calibration seeds
that the benchmark never draws. What cannot be reached is written with the reason. What is in the file already stays.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.detect.charts import CHARTS
from loadtest.detect.peers import PEERS, knob_for
from loadtest.detect.run_length import limits
from loadtest.detect.streams import CALIBRATION, CHANGES, Change, seeded

Floats: TypeAlias = npt.NDArray[np.float64]

FILE = Path(__file__).with_name("thresholds.json")
PANE = 32
REPLICATES = 256
ALARMS = 170


def main() -> None:
    """Fill the file, saving after each detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arl", type=float, action="append")
    parser.add_argument("--alarms", type=int, default=ALARMS)
    parser.add_argument("--kswin", action="store_true", help="also KSWIN, for hours")
    given = parser.parse_args()
    wanted = sorted(int(arl) for arl in given.arl or (1e4, 1e5))
    known = read()
    for change in CHANGES:
        for chart in CHARTS:
            place = known.setdefault(key(chart.name, change), {})
            missing = [arl for arl in wanted if str(arl) not in place]
            if missing and change.kind in chart.kinds:
                panes = panes_of(change, REPLICATES, count=int(5 * max(missing)) // PANE, replicate=CALIBRATION)
                found = limits(chart.make(change, REPLICATES), panes, wanted=missing, lowest=1.5, highest=1e9)
                place |= {str(int(arl)): {"knob": round(limit, 4)} for arl, limit in found.items()}
                print(chart.name, change.name, place, flush=True)
                _save(known)
    for change in reversed(CHANGES):
        for peer in PEERS:
            if change.kind not in peer.kinds or not peer.knob or (peer.why and not given.kswin):
                continue
            place = known.setdefault(key(peer.name, change), {})
            for arl in wanted:
                if str(arl) in place:
                    continue
                try:
                    beyond = place.get(str(wanted[0]), {}).get("knob") if arl > wanted[0] else None
                    knob, rate = knob_for(
                        peer, partial(_chunks, change), arl=arl, alarms=given.alarms, beyond=beyond
                    )
                    place[str(arl)] = {"knob": float(f"{knob:.4g}"), "attained": round(rate.events / rate.alarms)}
                except ValueError as error:
                    place[str(arl)] = {"why": str(error)}
                print(peer.name, change.name, arl, place[str(arl)], flush=True)
                _save(known)


def key(name: str, change: Change) -> str:
    """Thresholds hold for a null; but the oracle's for a change.

    >>> key("river ADWIN", CHANGES[0]), key("oracle CUSUM", CHANGES[0])
    ('river ADWIN | bernoulli .1', 'oracle CUSUM | bernoulli .1->.15')
    """
    null = f"{change.kind} .1" if change.kind == "bernoulli" else change.kind
    return f"{name} | {change.name if name == 'oracle CUSUM' else null}"


def read() -> dict[str, dict[str, dict[str, Any]]]:
    """Thresholds by key and run length: `knob`, or `why` there is none."""
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return found


def panes_of(
    change: Change, replicates: int, *, count: int, replicate: int, seed: int = 0, changed: bool = False
) -> Iterator[Floats]:
    """`count` panes of values (replicates, PANE)."""
    rng = seeded(change.name, replicate + (500_000 if changed else 0), seed=seed)
    for _ in range(count):
        yield change.draw(rng, (replicates, PANE), changed=changed)


def _chunks(change: Change, turn: int) -> Iterator[Floats]:
    rng = seeded(change.name, CALIBRATION + 1 + turn)
    while True:
        yield change.draw(rng, (10_000,), changed=False)


def _save(known: dict[str, Any]) -> None:
    known = {name: place for name, place in known.items() if place}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
