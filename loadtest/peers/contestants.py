"""Detectors of others, each with the one knob that sets its false-alarm rate; frouros' where river has none.

Imported on both sides: here for names and knobs, which needs nothing but Python, and in the peers' own environment,
where `make` imports what it makes. Every detector is made anew after an alarm, as its authors mean it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Streams of values; streams of zeros and ones.
BOTH, ERRORS, VALUES = ("bernoulli", "normal"), ("bernoulli",), ("normal",)


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


class Correct:
    """A detector that waits for a fall of what is right, and is told errors: river's FHDDM, whatever its text says."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def drift_detected(self) -> bool:
        """As the detector has it."""
        return bool(self._inner.drift_detected)

    def update(self, x: float) -> None:
        """Take in one error or none."""
        self._inner.update(1.0 - x)


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

    kinds: streams it is meant for; knob: its parameter, sought between low and high; rising: alarms become more
    frequent with it; default: its value as its package ships it. why: without a match, why there is none.
    flag: the attribute that says "drift". slow: µs per event, about; it shortens its rows in `--quick`.
    """

    name: str
    kinds: tuple[str, ...]
    knob: str
    low: float
    high: float
    rising: bool
    make: Callable[[float], Any]
    default: float | None = None
    why: str = ""
    flag: str = "drift_detected"
    slow: float = 0.5


def _river(name: str, **given: Any) -> Any:
    from river import drift
    from river.drift import binary

    return getattr(drift if hasattr(drift, name) else binary, name)(**given)


def _frouros(name: str, **given: Any) -> Any:
    from frouros.detectors import concept_drift

    return getattr(concept_drift, name)(config=getattr(concept_drift, f"{name}Config")(**given))


def _ecdd(factor: float) -> Any:
    """ECDD-WT whose control limits are those for an ARL of 1,000, times a factor: frouros has them for three ARLs."""
    found = _frouros("ECDDWT", average_run_length=1000)
    limit = found.config.control_limit_func
    found.config.control_limit_func = lambda p: factor * limit(p)
    return found


#: Measured at a rate of .1: DDM at 2, 2.5, 3 alarms 396, 3, 1 times in a million events; EDDM at .8, .9,
#: .95 6, 24, 2987 times.
_EARLY_OR_NEVER = "it alarms within its first thousand events or never: its run length has no mean to set"

PEERS = (
    Peer("river ADWIN", BOTH, "delta", 1e-9, 0.9, True, lambda k: _river("ADWIN", delta=k), 0.002),
    Peer("river ADWIN upward", BOTH, "delta", 1e-9, 0.99, True, lambda k: Upward(_river("ADWIN", delta=k)), 0.002),
    Peer("river PageHinkley", BOTH, "threshold", 1.0, 2000.0, False,
         lambda k: _river("PageHinkley", threshold=k, mode="up"), 50.0),
    Peer("river DDM", ERRORS, "drift_threshold", 1.0, 12.0, False,
         lambda k: _river("DDM", warning_threshold=k / 2, drift_threshold=k), 3.0, why=_EARLY_OR_NEVER),
    Peer("river EDDM", ERRORS, "beta", 0.05, 0.9, True,
         lambda k: _river("EDDM", alpha=min(0.99, k + 0.05), beta=k), 0.9, why=_EARLY_OR_NEVER),
    Peer("river HDDM_A", ERRORS, "drift_confidence", 1e-12, 0.1, True,
         lambda k: _river("HDDM_A", drift_confidence=k, warning_confidence=min(0.5, 5 * k)), 0.001, slow=3),
    Peer("river HDDM_W", ERRORS, "drift_confidence", 1e-12, 0.1, True,
         lambda k: _river("HDDM_W", drift_confidence=k, warning_confidence=min(0.5, 5 * k)), 0.001, slow=3),
    Peer("river FHDDM", ERRORS, "confidence_level", 1e-12, 0.1, True,
         lambda k: Correct(_river("FHDDM", confidence_level=k)), 1e-6),
    Peer("river KSWIN", VALUES, "alpha", 1e-9, 0.1, True, lambda k: _river("KSWIN", alpha=k, seed=1), 0.005, slow=500,
         why="30 values against 30: the statistic has 31 values, and one alarm per 4,478, 13,575, 48,000, 162,162 "
             "events are next to each other; `match --kswin`"),
    Peer("frouros CUSUM", BOTH, "lambda_", 0.5, 2000.0, False,
         lambda k: _frouros("CUSUM", lambda_=k), 50.0, flag="drift", slow=3.5),
    Peer("frouros GeometricMovingAverage", BOTH, "lambda_", 1e-3, 2.0, False,
         lambda k: _frouros("GeometricMovingAverage", lambda_=k), 1.0, flag="drift", slow=2.5),
    Peer("frouros RDDM", ERRORS, "drift_level", 0.5, 12.0, False,
         lambda k: _frouros("RDDM", drift_level=k, warning_level=0.785 * k), 2.258, flag="drift", slow=5),
    Peer("frouros ECDD-WT", ERRORS, "control limit factor", 0.3, 6.0, False, _ecdd, 1.0, flag="drift", slow=7.5),
    Peer("frouros STEPD", ERRORS, "alpha_d", 1e-12, 0.05, True,
         lambda k: _frouros("STEPD", alpha_d=k, alpha_w=min(0.5, 5 * k)), 0.003, flag="drift", slow=43,
         why="43 µs per event: a search with 170 alarms at 1e5 events takes an hour"),
    Peer("frouros BOCD", VALUES, "", 0, 0, True, lambda k: _frouros("BOCD"), flag="drift", slow=1500,
         why="1.5 ms per event after 600, and growing with their number"),
    Peer("always-alarm", BOTH, "", 0, 0, True, lambda _: Always(), why="has no knob"),
    Peer("never-alarm", BOTH, "", 0, 0, True, lambda _: Never(), why="has no knob"),
)  # fmt: skip


def by_name(name: str) -> Peer:
    """A detector by its name.

    >>> by_name("river ADWIN").knob
    'delta'
    """
    return next(peer for peer in PEERS if peer.name == name)
