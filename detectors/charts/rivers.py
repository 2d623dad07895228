"""river's detectors on panes: what people know from elsewhere, beside the charts that keep a budget.

A statistic of a pane is one value. Outcomes are counts, and the detectors take single values: a matured pane of n
labels with k errors becomes its ones and zeros *evenly interleaved*, value i being ⌊(i+1)·k/n⌋ − ⌊i·k/n⌋, in one order
on every machine. Of more than `MOST` labels it is so many values of the same rate, so that a large pane costs no more
than a millisecond or two: less evidence than there was, never more. Losses that are no zeros and ones count by their
sum. A detector begins anew after its alarm, and after `MEMORY` panes, so that its state is a list of counts or values:
whoever restores it feeds them again.

Their false alarms are what their parameters make them, not what the model's budget allows, and they know neither season
nor dependence: what they find is noted, and pages nobody. `alarms_a_month` says how often that is with nothing changed.

river is imported when the first detector is made: it takes two seconds and 120 MB.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np

from schemas.errors import FormatError
from schemas.layouts import OtherDetector

#: Values of a pane at most; panes that a detector remembers at most.
MOST, MEMORY = 500, 720
STATE_FORMAT = 1

_CHANCE, _COUNT, _SIZE, _SEED = "between 0 and 1", "a whole number from 1 on", "more than 0", "a whole number from 0 on"
_FITS: dict[str, Callable[[float], bool]] = {
    _CHANCE: lambda value: 0.0 < value < 1.0,
    _COUNT: lambda value: 1.0 <= value <= 1e6 and value.is_integer(),
    _SIZE: lambda value: 0.0 < value <= 1e6,
    _SEED: lambda value: 0.0 <= value < 2.0**32 and value.is_integer(),
}

#: By name: river's class (and what older releases call it), and the parameters that may be set, with what they may be:
#: what river would stumble over in the middle of a stream is refused before.
RIVERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "adwin": (
        ("ADWIN",),
        {
            "delta": _CHANCE,
            "clock": _COUNT,
            "max_buckets": _COUNT,
            "min_window_length": _COUNT,
            "grace_period": _COUNT,
        },
    ),
    "page_hinkley": (
        ("PageHinkley",),
        {"min_instances": _COUNT, "delta": _SIZE, "threshold": _SIZE, "alpha": _CHANCE},
    ),
    "ddm": (("DDM",), {"warm_start": _COUNT, "warning_threshold": _SIZE, "drift_threshold": _SIZE}),
    "eddm": (("EDDM",), {"warm_start": _COUNT, "alpha": _CHANCE, "beta": _CHANCE}),
    "hddm_a": (("HDDMA", "HDDM_A"), {"drift_confidence": _CHANCE, "warning_confidence": _CHANCE}),
    "hddm_w": (
        ("HDDMW", "HDDM_W"),
        {"drift_confidence": _CHANCE, "warning_confidence": _CHANCE, "lambda_val": _CHANCE},
    ),
    "fhddm": (("FHDDM",), {"sliding_window_size": _COUNT, "confidence_level": _CHANCE}),
    "kswin": (("KSWIN",), {"alpha": _CHANCE, "window_size": _COUNT, "stat_size": _COUNT, "seed": _SEED}),
}
#: Those for ones and zeros of matured panes, and for a statistic, one value a pane. KSWIN's half a millisecond is too
#: much for the former; the others know only errors.
OF_OUTCOMES = tuple(name for name in RIVERS if name != "kswin")
OF_STATISTICS = ("adwin", "page_hinkley", "kswin")
_DEFAULTS: dict[str, dict[str, float]] = {"kswin": {"seed": 1}}
#: Waits for a fall of what is right, so it is told what is right.
_OF_RIGHT = frozenset({"fhddm"})

#: A pane: labels and errors, or the value of a statistic.
Pane: TypeAlias = tuple[int, int] | float
#: The panes since a detector began.
Panes: TypeAlias = tuple[Pane, ...]


class _River(Protocol):
    drift_detected: bool

    def update(self, x: float) -> Any: ...


class Riverside(NamedTuple):
    """State of a layout's river detectors, a value: the panes since each began; alarms so far, of each."""

    panes: tuple[Panes, ...]
    alarms: tuple[int, ...]

    @classmethod
    def start(cls, others: Sequence[OtherDetector]) -> Riverside:
        """State before the first pane."""
        return cls(((),) * len(others), (0,) * len(others))


class Noted(NamedTuple):
    """An alarm: of which detector, over how many panes, error rate before this pane and in it."""

    detector: str
    panes: int
    before: float
    now: float

    @property
    def words(self) -> str:
        """One line for a report."""
        rose = "rose" if self.now >= self.before else "fell"
        return (
            f"river's {self.detector} says that errors {rose}, from {self.before:.1%} to {self.now:.1%} in this pane: "
            "outside the budget, noted and never paged"
        )


def interleaved(n: int, k: int) -> Iterator[int]:
    """A pane's ones and zeros, evenly interleaved; of more than `MOST` labels so many, at about the same rate.

    >>> list(interleaved(8, 3)), sum(interleaved(10_000, 1_030))
    ([0, 0, 1, 0, 0, 1, 0, 1], 52)
    """
    if n > MOST:
        n, k = MOST, round(k * MOST / n)
    return ((i + 1) * k // n - i * k // n for i in range(n))


def update(others: Sequence[OtherDetector], state: Riverside, *, n: int, k: int) -> tuple[Riverside, tuple[Noted, ...]]:
    """Take in a matured pane of n labels, k of them errors.

    >>> others, noted = (OtherDetector(name="adwin"),), ()
    >>> state = Riverside.start(others)
    >>> for errors in [10, 11, 9, 10, 30, 31, 29]:
    ...     state, found = update(others, state, n=100, k=errors)
    ...     noted += found
    >>> [(one.detector, one.panes, round(one.before, 2), one.now) for one in noted]
    [('adwin', 6, 0.14, 0.31)]
    """
    if n <= 0:
        return state, ()
    state, found = take(others, state, [(n, k)] * len(others))
    noted = []
    for i, before in found.items():
        known = [pane for pane in before if isinstance(pane, tuple)] or [(n, k)]
        labels, errors = (sum(column) for column in zip(*known, strict=True))
        noted.append(Noted(others[i].name, len(before) + 1, errors / labels, k / n))
    return state, tuple(noted)


def take(
    others: Sequence[OtherDetector], state: Riverside, panes: Sequence[Pane | None]
) -> tuple[Riverside, dict[int, Panes]]:
    """Take in a pane of each detector's own, None where it has none; which alarmed, with the panes before this one.

    >>> others = (OtherDetector(name="page_hinkley", parameters={"threshold": 1}),)
    >>> state, found = Riverside.start(others), {}
    >>> for value in [0.1] * 30 + [0.9] * 4:
    ...     if not found:
    ...         state, found = take(others, state, [value])
    >>> [len(before) for before in found.values()]
    [31]
    """
    kept, alarms, found = list(state.panes), list(state.alarms), dict[int, Panes]()
    for i, (other, pane) in enumerate(zip(others, panes, strict=True)):
        if pane is None:
            continue
        before = kept[i]
        detector = _taken(other, before)
        alarmed = _feed(other, detector, pane)
        kept[i] = (*before, pane)
        if alarmed:
            found[i] = before
            alarms[i] += 1
        if alarmed or len(kept[i]) >= MEMORY:
            kept[i] = ()
        else:
            _keep(other, kept[i], detector)
    return Riverside(tuple(kept), tuple(alarms)), found


def alarms_a_month(other: OtherDetector, *, rate: float, labels: int, panes: int, seed: int = 0) -> float:
    """How often a detector alarms in a month of so many panes of independent labels when nothing changes.

    Mean over four seeded months (or the first 2,880 panes of them).

    >>> alarms_a_month(OtherDetector(name="eddm"), rate=0.1, labels=50, panes=100) > 1
    True
    """
    rng = np.random.default_rng(seed)
    total = min(4 * panes, 4 * MEMORY)
    state, found = Riverside.start((other,)), 0
    for k in rng.binomial(labels, rate, size=total).tolist():
        state, noted = update((other,), state, n=labels, k=k)
        found += len(noted)
    return found * panes / total


def save(state: Riverside) -> bytes:
    """Bytes of a state; equal states give equal bytes."""
    return msgspec.msgpack.encode((STATE_FORMAT, state.panes, state.alarms))


def load(others: Sequence[OtherDetector], raw: bytes) -> Riverside:
    """State from its bytes; `FormatError` when damaged, newer, or of other detectors."""
    try:
        version, panes, alarms = msgspec.msgpack.decode(raw, type=tuple[int, tuple[Panes, ...], tuple[int, ...]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"state of river's detectors: {error}") from error
    if version > STATE_FORMAT:
        raise FormatError(f"state of river's detectors of format {version}; this one reads up to {STATE_FORMAT}")
    if not len(panes) == len(alarms) == len(others):
        raise FormatError(f"state of river's detectors: of {len(panes)}, there are {len(others)}")
    return Riverside(panes, alarms)


def unfit(other: OtherDetector, among: Sequence[str] = OF_OUTCOMES) -> str:
    """Why a detector cannot be made, "" when it can; imports nothing. among: those that may be named here.

    >>> unfit(OtherDetector(name="ddm", parameters={"delta": 0.1}))
    'ddm has no delta; it has warm_start, warning_threshold, drift_threshold'
    >>> unfit(OtherDetector(name="adwin", parameters={"delta": 2}))
    'adwin: delta must be between 0 and 1, got 2'
    """
    if other.name not in among:
        return f"{other.name!r} is none of {', '.join(among)}"
    known = RIVERS[other.name][1]
    strange = [name for name in other.parameters if name not in known]
    if strange:
        return f"{other.name} has no {strange[0]}; it has {', '.join(known)}"
    for name, value in other.parameters.items():
        if not _FITS[known[name]](float(value)):
            return f"{other.name}: {name} must be {known[name]}, got {value:g}"
    alpha, beta = (other.parameters.get(name, usual) for name, usual in (("alpha", 0.95), ("beta", 0.9)))
    if other.name == "eddm" and alpha < beta:
        return f"eddm: alpha must be at least beta, got {alpha:g} and {beta:g}"
    window, stat = (other.parameters.get(name, usual) for name, usual in (("window_size", 100), ("stat_size", 30)))
    if other.name == "kswin" and window < 2 * stat:
        return f"kswin: window_size must be at least twice stat_size, got {window:g} and {stat:g}"
    return ""


#: Detectors as they stand after some panes. A memo: what is not here is fed again, with the same result.
_memo: OrderedDict[tuple[OtherDetector, Panes], _River] = OrderedDict()
_MEMO = 256


def _taken(other: OtherDetector, panes: Panes) -> _River:
    known = _memo.pop((other, panes), None)
    if known is not None:
        return known
    detector = _made(other)
    for pane in panes:
        _feed(other, detector, pane)
    return detector


def _keep(other: OtherDetector, panes: Panes, detector: _River) -> None:
    _memo[other, panes] = detector
    while len(_memo) > _MEMO:
        _memo.popitem(last=False)


def _feed(other: OtherDetector, detector: _River, pane: Pane) -> bool:
    """Feed a pane; whether it alarmed anywhere within."""
    values: Iterable[float] = (pane,)  # type: ignore[assignment]
    if isinstance(pane, tuple):
        n, k = pane
        values = interleaved(n, n - k if other.name in _OF_RIGHT else k)
    alarmed = False
    for value in values:
        detector.update(value)
        alarmed = alarmed or bool(detector.drift_detected)
    return alarmed


def _made(other: OtherDetector) -> _River:
    from river import drift
    from river.drift import binary

    names = RIVERS[other.name][0]
    made = next(getattr(of, name) for name in names for of in (drift, binary) if hasattr(of, name))
    given = {**_DEFAULTS.get(other.name, {}), **other.parameters}
    whole = {name: int(value) if float(value).is_integer() else value for name, value in given.items()}
    found: _River = made(**whole)
    return found
