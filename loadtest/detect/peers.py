"""Detectors of river, one event at a time, each with the one knob that sets its false-alarm rate.

Made anew after every alarm, as their authors mean it. river is a dependency of the product but costs seconds to
import: it is imported when the first detector is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.detect.run_length import Delays, Rate, delays_of

Floats: TypeAlias = npt.NDArray[np.float64]


class Detector(Protocol):
    """What river calls a drift detector."""

    drift_detected: bool

    def update(self, x: Any) -> Any:
        """Take in one value."""
        ...


class Upward:
    """ADWIN that alarms only when the mean rose: a cut for a fall shortens its window and is no alarm."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.drift_detected = False

    def update(self, x: float) -> None:
        """Take in one value."""
        before = self._inner.estimation
        self._inner.update(x)
        self.drift_detected = self._inner.drift_detected and self._inner.estimation > before


class Never:
    """A frame: nothing is ever found."""

    drift_detected = False

    def update(self, x: Any) -> None:
        """Take in one value."""


class Always:
    """A frame: everything is found at once, and always was."""

    drift_detected = True

    def update(self, x: Any) -> None:
        """Take in one value."""


@dataclass(frozen=True)
class Peer:
    """A detector by name.

    kinds: streams it is meant for; knob: its parameter, sought between low and high.
    rising: alarms become more frequent with the knob. why: without a knob, why there is none to match.
    """

    name: str
    kinds: tuple[str, ...]
    knob: str
    low: float
    high: float
    rising: bool
    make: Callable[[float], Detector]
    why: str = ""


def _river(name: str, **given: Any) -> Any:
    from river import drift
    from river.drift import binary

    return getattr(drift if hasattr(drift, name) else binary, name)(**given)


PEERS = (
    Peer("river ADWIN", ("bernoulli", "normal"), "delta", 1e-9, 0.9, True, lambda k: _river("ADWIN", delta=k)),
    Peer("river ADWIN upward", ("bernoulli", "normal"), "delta", 1e-9, 0.9, True,
         lambda k: Upward(_river("ADWIN", delta=k))),
    Peer("river PageHinkley", ("bernoulli", "normal"), "threshold", 1.0, 500.0, False,
         lambda k: _river("PageHinkley", threshold=k, mode="up")),
    Peer("river DDM", ("bernoulli",), "drift_threshold", 1.0, 12.0, False,
         lambda k: _river("DDM", warning_threshold=k / 2, drift_threshold=k)),
    Peer("river EDDM", ("bernoulli",), "beta", 0.05, 0.9, True,
         lambda k: _river("EDDM", alpha=min(0.99, k + 0.05), beta=k)),
    Peer("river HDDM_A", ("bernoulli",), "drift_confidence", 1e-12, 0.1, True,
         lambda k: _river("HDDMA", drift_confidence=k, warning_confidence=min(0.5, 5 * k))),
    Peer("river HDDM_W", ("bernoulli",), "drift_confidence", 1e-12, 0.1, True,
         lambda k: _river("HDDMW", drift_confidence=k, warning_confidence=min(0.5, 5 * k))),
    Peer("river FHDDM", ("bernoulli",), "confidence_level", 1e-12, 0.1, True,
         lambda k: _river("FHDDM", confidence_level=k)),
    Peer("river KSWIN", ("normal",), "alpha", 1e-9, 0.1, True, lambda k: _river("KSWIN", alpha=k, seed=1),
         why="about 1 ms per event: 170 alarms at 1e4 events take half an hour; see `match --kswin`"),
    Peer("always-alarm", ("bernoulli", "normal"), "", 0, 0, True, lambda _: Always(), why="has no knob"),
    Peer("never-alarm", ("bernoulli", "normal"), "", 0, 0, True, lambda _: Never(), why="has no knob"),
)  # fmt: skip


def rate_of(make: Callable[[], Detector], chunks: Iterable[Floats], *, alarms: int, events: int) -> Rate:
    """Run until `alarms` false alarms or `events` events, whichever comes first."""
    detector, found, done = make(), 0, 0
    for chunk in chunks:
        for x in chunk.tolist():
            detector.update(x)
            if detector.drift_detected:
                found += 1
                detector = make()
        done += chunk.size
        if found >= alarms or done >= events:
            break
    return Rate(found, done)


def delays_to(make: Callable[[], Detector], runs: Iterable[tuple[Floats, Floats]]) -> Delays:
    """Delays over runs of (before, after) values."""
    first: list[int | None] = []
    early = 0
    for before, after in runs:
        detector, alarmed = make(), False
        for x in before.tolist():
            detector.update(x)
            if detector.drift_detected:
                alarmed, detector = True, make()
        early += alarmed
        first.append(next(_alarms(detector, after), None))
    return delays_of(first, early)


def _alarms(detector: Detector, values: Floats) -> Iterator[int]:
    for number, x in enumerate(values.tolist(), start=1):
        detector.update(x)
        if detector.drift_detected:
            yield number


def knob_for(
    peer: Peer, chunks: Callable[[int], Iterable[Floats]], *, arl: float, alarms: int, beyond: float | None = None
) -> tuple[float, Rate]:
    """The knob whose null has one alarm per `arl` events within 15 %, by bisection on its logarithm, and its rate.

    chunks(k): the null of evaluation k. The last rates are of `alarms` alarms; `ValueError` when none is near enough.
    beyond: a knob that is known to alarm too often.
    """
    low, high = np.log(peer.low), np.log(peer.high)
    if beyond is not None and peer.rising:
        high = np.log(beyond)
        low = max(low, high - np.log(1e4))
    elif beyond is not None:
        low = np.log(beyond)
        high = min(high, low + np.log(4))
    best: tuple[float, float, Rate] | None = None
    for turn in range(14):
        middle = float(np.exp((low + high) / 2))
        wanted = alarms if turn > 5 else 30

        def make(knob: float = middle) -> Detector:
            return peer.make(knob)

        found = rate_of(make, chunks(turn), alarms=wanted, events=int(1.4 * arl * wanted))
        off = np.inf if found.arl is None else abs(np.log(found.arl / arl))
        if found.alarms >= alarms * 0.7 and (best is None or off < best[0]):
            best = (off, middle, found)
        if best is not None and best[0] < 0.08:
            break
        # Over the limit of events with few alarms is too rare.
        often = found.arl is not None and found.arl < arl
        if often == peer.rising:
            high = (low + high) / 2
        else:
            low = (low + high) / 2
    if best is None or best[0] > np.log(1.15):
        raise ValueError(f"no {peer.knob} in [{peer.low:g}, {peer.high:g}] gives one alarm per {arl:g} events")
    return best[1], best[2]
