"""Streams by name: pairs of "before" and "after" for the matched comparison, and nulls that look like real traffic.

Every stream has a number; replicate r of it is drawn from `SeedSequence([number, r])`, and `--seed` gives another set.
Thresholds were found on replicates from `CALIBRATION` on, which the benchmark never draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

PANE_MS, DAY_MS = 300_000, 86_400_000
PANES_A_DAY = DAY_MS // PANE_MS
#: 2025-01-06, a Monday, 00:00 UTC.
START_MS = 1_736_121_600_000
CALIBRATION = 1_000_000


@dataclass(frozen=True)
class Change:
    """A known law before and after. kind: `bernoulli` (p) or `normal` (mean, sd)."""

    name: str
    kind: str
    before: tuple[float, float]
    after: tuple[float, float]

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], *, changed: bool) -> Floats:
        """Independent values."""
        first, second = self.after if changed else self.before
        if self.kind == "bernoulli":
            return np.asarray(rng.random(shape) < first, dtype=np.float64)
        return rng.normal(first, second, shape)

    def log_ratio(self, x: Floats) -> Floats:
        """Log likelihood ratio of each value: what an oracle sums."""
        (m0, s0), (m1, s1) = self.before, self.after
        if self.kind == "bernoulli":
            return np.asarray(np.where(x > 0, np.log(m1 / m0), np.log((1 - m1) / (1 - m0))), dtype=np.float64)
        return np.asarray(np.log(s0 / s1) + ((x - m0) / s0) ** 2 / 2 - ((x - m1) / s1) ** 2 / 2)


CHANGES = (
    Change("bernoulli .1->.15", "bernoulli", (0.1, 0.0), (0.15, 0.0)),
    Change("bernoulli .1->.2", "bernoulli", (0.1, 0.0), (0.2, 0.0)),
    Change("bernoulli .1->.3", "bernoulli", (0.1, 0.0), (0.3, 0.0)),
    Change("normal mean .25", "normal", (0.0, 1.0), (0.25, 1.0)),
    Change("normal mean .5", "normal", (0.0, 1.0), (0.5, 1.0)),
    Change("normal sd 1.5", "normal", (0.0, 1.0), (0.0, 1.5)),
)


@dataclass(frozen=True)
class Null:
    """A stream in which nothing changes after the reference, but perhaps by less than the tolerance.

    path(rng, panes, n): n rows in each of `panes` five-minute panes from a Monday on, in order, as (values, rows by
    pane). shift: sd by which all that follows the reference is moved. levels: the values are codes of a category.
    """

    name: str
    path: Callable[[np.random.Generator, int, int], tuple[Floats, Ints]]
    shift: float = 0.0
    strict: bool = False
    levels: bool = False


def seeded(stream: str, replicate: int, *, seed: int = 0) -> np.random.Generator:
    """Generator of one replicate of a stream.

    >>> bool(seeded("null iid", 0).random() == seeded("null iid", 0, seed=1).random())
    False
    """
    sequence = np.random.SeedSequence([NUMBERS[stream], replicate], spawn_key=(seed,))
    return np.random.default_rng(sequence)


def _even(panes: int, n: int) -> Ints:
    return np.full(panes, n, dtype=np.int64)


def _hours(panes: int, n: int) -> Floats:
    """Hours since Monday 00:00, by row."""
    return np.arange(panes * n) / n * PANE_MS / 3_600_000


def _iid(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    return rng.normal(size=panes * n), _even(panes, n)


def _autoregressive(strength: float) -> Callable[[np.random.Generator, int, int], tuple[Floats, Ints]]:
    """Neighbouring rows resemble each other: AR(1), variance 1."""

    def path(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
        noise = rng.normal(size=panes * n) * np.sqrt(1 - strength**2)
        noise[0] /= np.sqrt(1 - strength**2)
        return np.asarray(lfilter([1.0], [1.0, -strength], noise)), _even(panes, n)

    return path


def _sine(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    return rng.normal(size=panes * n) + 0.5 * np.sin(_hours(panes, n) * 2 * np.pi / 24), _even(panes, n)


def _mixture(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    """Two kinds of rows, in proportions that follow the hour."""
    share = 0.5 + 0.3 * np.sin(_hours(panes, n) * 2 * np.pi / 24)
    return np.where(rng.random(share.size) < share, 0.8, -0.8) + 0.6 * rng.normal(size=share.size), _even(panes, n)


def _weekend(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    return rng.normal(size=panes * n) + 0.5 * (_hours(panes, n) % 168 >= 120), _even(panes, n)


def _clusters(shared: float) -> Callable[[np.random.Generator, int, int], tuple[Floats, Ints]]:
    """Runs of 50–200 rows that share a part of their variance."""

    def path(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
        rows = panes * n
        common = _runs(rng, rows)
        return np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=rows), _even(panes, n)

    return path


def _runs(rng: np.random.Generator, rows: int) -> Floats:
    """A normal value by run of 50–200 rows. (rows,)."""
    sizes = rng.integers(50, 201, rows // 50 + 2)
    return np.repeat(rng.normal(size=sizes.size), sizes)[:rows]


def _real(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    """A day, a weekend, neighbours that resemble each other, and a tenth of the variance in clusters."""
    hours = _hours(panes, n)
    season = 0.3 * np.sin(hours * 2 * np.pi / 24) + 0.2 * (hours % 168 >= 120)
    near, _ = _autoregressive(0.6)(rng, panes, n)
    return season + np.sqrt(0.9) * near + np.sqrt(0.1) * _runs(rng, hours.size), _even(panes, n)


def _bursts(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    """About three times a day five panes' rows come in one, and share a third of their variance."""
    burst = rng.random(panes) < 3 / PANES_A_DAY
    counts = np.where(burst, 5 * n, n).astype(np.int64)
    common = np.repeat(np.where(burst, rng.normal(size=panes), 0.0), counts)
    inside = np.repeat(burst, counts)
    noise = rng.normal(size=inside.size)
    return np.where(inside, np.sqrt(1 / 3) * common + np.sqrt(2 / 3) * noise, noise), counts


def _heavy(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    return rng.standard_t(2, size=panes * n), _even(panes, n)


def _zero_inflated(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    return np.where(rng.random(panes * n) < 0.7, 0.0, rng.lognormal(size=panes * n)), _even(panes, n)


def _wander(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    """The mean wanders over days, sd .05."""
    strength = np.exp(-1 / PANES_A_DAY)
    noise = rng.normal(size=panes) * np.sqrt(1 - strength**2)
    mean = 0.05 * np.asarray(lfilter([1.0], [1.0, -strength], noise))
    return rng.normal(size=panes * n) + np.repeat(mean, n), _even(panes, n)


def _five_levels(rng: np.random.Generator, panes: int, n: int) -> tuple[Floats, Ints]:
    shares = np.cumsum([0.5, 0.25, 0.13, 0.12])
    return np.searchsorted(shares, rng.random(panes * n)).astype(np.float64), _even(panes, n)


NULLS = (
    Null("null iid", _iid),
    Null("null ar .3", _autoregressive(0.3)),
    Null("null ar .6", _autoregressive(0.6)),
    Null("null ar .9", _autoregressive(0.9)),
    Null("null sine", _sine),
    Null("null mixture", _mixture),
    Null("null weekend", _weekend),
    Null("null clusters .3", _clusters(0.3)),
    Null("null clusters .5", _clusters(0.5)),
    Null("null clusters", _clusters(1.0)),
    Null("null real", _real),
    Null("null bursts", _bursts),
    Null("null t2", _heavy),
    Null("null five levels", _five_levels, levels=True),
    Null("null zero-inflated", _zero_inflated),
    Null("null wander .05", _wander),
    Null("null shift .05", _iid, shift=0.05),
    Null("null shift .1 strict", _iid, shift=0.1, strict=True),
)

#: Numbers never change; new streams go to the end of their run.
NUMBERS = {change.name: 1 + i for i, change in enumerate(CHANGES)} | {
    null.name: 100 + i for i, null in enumerate(NULLS)
}
