"""Find the thresholds of `thresholds.json`: `python -m loadtest.detect.match [--arl 1e4 --arl 1e5]`, about an hour.

One knob per detector and null, so that nothing changed gives one alarm per 1e4 and 1e5 events, from 170 alarms within
15 %, on calibration seeds that the benchmark never draws. What cannot be reached is written with the reason. What is in
the file already stays; `--again NAME` finds it anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.detect import scores
from loadtest.detect.charts import CHARTS
from loadtest.detect.peers import PeerError, Peers, knob_for, open_peers
from loadtest.detect.run_length import limits
from loadtest.detect.streams import CALIBRATION, CHANGES, Change, seeded
from loadtest.peers.contestants import PEERS, Peer

Floats: TypeAlias = npt.NDArray[np.float64]
AnyChange: TypeAlias = Change | scores.ScoreChange

FILE = Path(__file__).with_name("thresholds.json")
PANE = 32
REPLICATES = 256
ALARMS = 170
#: The changes of the matched comparison: values, errors, scores with labels.
MATCHED: tuple[AnyChange, ...] = (*CHANGES, *scores.CHANGES)
#: Numbers of the streams that `streams` does not know.
_NUMBERS = {change.name: 50 + i for i, change in enumerate(scores.CHANGES)}


def main() -> None:
    """Fill the file, saving after each detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arl", type=float, action="append")
    parser.add_argument("--alarms", type=int, default=ALARMS)
    parser.add_argument("--again", action="append", default=[], help="a detector's name")
    parser.add_argument("--peers", type=Path, help="their environment, by default .venv-peers")
    parser.add_argument("--ours", action="store_true", help="only ours and the oracle")
    parser.add_argument("--kswin", action="store_true", help="only print the run lengths that KSWIN can have")
    given = parser.parse_args()
    if given.kswin:
        print("\n".join(f"alpha = {alpha:.3g}: one alarm per {arl:,.0f} events" for alpha, arl in kswin_lengths()))
        return
    wanted = sorted(int(arl) for arl in given.arl or (1e4, 1e5))
    known = {name: place for name, place in read().items() if name.split(" | ")[0] not in given.again}
    settle_charts(known, wanted)
    if not given.ours:
        with open_peers(given.peers, root=Path(__file__).parents[2], say=print) as peers:
            settle_peers(known, wanted, peers=peers, alarms=given.alarms)


def settle_charts(known: dict[str, dict[str, Any]], wanted: list[int]) -> None:
    """Limits of ours and of the oracle, from one run without restarts."""
    for change in MATCHED:
        for chart in CHARTS:
            missing = [arl for arl in wanted if str(arl) not in known.get(key(chart.name, change), {})]
            if missing and change.kind in chart.kinds and not (chart.name == "oracle CUSUM" and _no_change(change)):
                panes = panes_of(change, REPLICATES, count=int(5 * max(missing)) // PANE, replicate=CALIBRATION)
                found = limits(chart.make(change, REPLICATES), panes, wanted=missing, lowest=1.5, highest=1e9)
                place = {str(int(arl)): {"knob": round(limit, 4)} for arl, limit in found.items()}
                _save(known, key(chart.name, change), place)


def settle_peers(known: dict[str, dict[str, Any]], wanted: list[int], *, peers: Peers, alarms: int) -> None:
    """Knobs of the others, on one file per null; the fast ones first."""
    files = {}
    for null, change, transform in NULLS:
        values = transform(_drawn(change, int(1.4 * alarms * max(wanted)))).astype(np.float32)
        files[null] = peers.file(values)
    for slow in sorted({_class(peer) for peer in PEERS}):
        for null, change, _ in NULLS:
            for peer in PEERS:
                fits = change.kind in peer.kinds or (change.kind == "calibration" and peer.name in ON_SCORES)
                if not fits or not peer.knob or _class(peer) != slow:
                    continue
                name = f"{peer.name} | {null}"
                for arl in wanted:
                    place = known.get(name, {})
                    if str(arl) not in place:
                        beyond = place.get(str(arl // 10), {}).get("knob")
                        _save(known, name, {str(arl): _settled(peer, peers, files[null], arl, alarms, beyond, name)})


def _settled(  # noqa: PLR0917 - a job's parts
    peer: Peer, peers: Peers, file: str, arl: int, alarms: int, beyond: float | None, name: str
) -> dict[str, Any]:
    if peer.why:
        return {"why": peer.why}

    def ask(knob: float, wanted: int) -> Any:
        return peers.rate(peer, knob, file, alarms=wanted, events=int(1.4 * arl * wanted))

    try:
        knob, rate = knob_for(
            peer, ask, arl=arl, alarms=alarms, beyond=beyond, start=STARTS.get(f"{name} {arl}")
        )
    except (ValueError, PeerError) as error:
        return {"why": str(error)}
    return {"knob": float(f"{knob:.4g}"), "attained": round(rate.events / rate.alarms), "alarms": rate.alarms}


def _class(peer: Peer) -> int:
    """0 for under 1 µs per event, 1 for up to 4, 2 for more."""
    return (peer.slow >= 1) + (peer.slow > 4)


def _no_change(change: AnyChange) -> bool:
    return isinstance(change, scores.ScoreChange) and (change.a, change.b) == (0.0, 1.0)


def _drawn(change: AnyChange, events: int) -> Floats:
    return change.draw(generator(change, CALIBRATION + 1), (events,), changed=False)


def _as_is(values: Floats) -> Floats:
    return values


#: Nulls of the peers' knobs by the name in the file: values, errors, the Brier score and the residual of scores.
NULLS = (
    ("bernoulli .1", CHANGES[0], _as_is),
    ("normal", CHANGES[-1], _as_is),
    ("brier", scores.CHANGES[0], scores.brier),
    ("residual", scores.CHANGES[0], scores.residual),
)
#: Where to begin for the slow ones: first passages of the same recursion in numpy (CUSUM, the moving average, ECDD),
#: and earlier searches. What is written is measured on the detector itself.
STARTS = {
    "river HDDM_A | bernoulli .1 100000": 0.01308, "river HDDM_W | bernoulli .1 100000": 0.00764,
    "frouros CUSUM | bernoulli .1 10000": 19.07, "frouros CUSUM | bernoulli .1 100000": 35.67,
    "frouros CUSUM | normal 10000": 83.07, "frouros CUSUM | normal 100000": 204.4,
    "frouros GeometricMovingAverage | bernoulli .1 100000": 0.08929,
    "frouros GeometricMovingAverage | normal 10000": 0.2108, "frouros GeometricMovingAverage | normal 100000": 0.264,
    "frouros ECDD-WT | bernoulli .1 100000": 3.109,
    "river PageHinkley | normal 10000": 86.94, "river PageHinkley | normal 100000": 268.2,
    "river ADWIN upward | normal 100000": 0.0557,
}  # fmt: skip
#: Peers that are put on the Brier score and on the residual.
ON_SCORES = ("river ADWIN", "river PageHinkley")


def key(name: str, change: AnyChange) -> str:
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


def generator(change: AnyChange, replicate: int, *, seed: int = 0) -> np.random.Generator:
    """Random numbers of one replicate of a stream."""
    if change.name not in _NUMBERS:
        return seeded(change.name, replicate, seed=seed)
    return np.random.default_rng(np.random.SeedSequence([_NUMBERS[change.name], replicate], spawn_key=(seed,)))


def panes_of(
    change: AnyChange, replicates: int, *, count: int, replicate: int, seed: int = 0, changed: bool = False
) -> Iterator[Floats]:
    """`count` panes of values (replicates, PANE)."""
    rng = generator(change, replicate + (500_000 if changed else 0), seed=seed)
    for _ in range(count):
        yield change.draw(rng, (replicates, PANE), changed=changed)


def kswin_lengths(*, streams: int = 4_000, events: int = 1_500) -> list[tuple[float, float]]:
    """Every run length that river's KSWIN can have in between 4e3 and 2e5, with the alpha below which it has it.

    Its two samples are of 30 values each, whatever the law, so its statistic is k/30 and its p-value one of 31.
    """
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(np.random.SeedSequence([99, CALIBRATION]))
    window = rng.normal(size=(streams, 100))
    found = np.zeros((events, streams), dtype=np.int8)
    for i in range(events):
        window = np.concatenate((window[:, 1:], rng.normal(size=(streams, 1))), axis=1)
        picked = np.argpartition(rng.random((streams, 70)), 30, axis=1)[:, :30]
        both = np.concatenate((np.take_along_axis(window[:, :70], picked, axis=1), window[:, 70:]), axis=1)
        found[i] = np.abs(np.where(np.argsort(both, axis=1) < 30, 1, -1).cumsum(axis=1)).max(axis=1)
    lengths = []
    for k in (16, 17, 18, 19):
        apart = [int(np.sum(np.diff(np.flatnonzero(one >= k), prepend=-1_000) > 70)) for one in found.T]
        shifted = np.where(np.arange(30) < 30 - k, np.arange(30) + 0.5, 100.0 + np.arange(30))
        alpha = float(ks_2samp(np.arange(30.0), shifted, method="auto").pvalue)
        lengths.append((alpha, events * streams / max(sum(apart), 1)))
    return lengths


def _save(known: dict[str, dict[str, Any]], name: str, place: dict[str, Any]) -> None:
    """Write one detector's, into what the file holds by now: two runs may go on beside each other."""
    known.setdefault(name, {}).update(place)
    print(name, place, flush=True)
    found = read() | {name: known[name]}
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
