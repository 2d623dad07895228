"""A Shiryaev–Roberts mixture whose bets are a plain array: the state that the loss and the calibration chart share.

Why apart from `tempered`: that one carries ragged directions of many features and an onset set on a grid; here every
monitor has the same bets, so the state is a block of numbers, and what it keeps since the onset is up to the chart.
Bets stand first and monitors last, (…, bets, M): sums over bets are then taken in one order for any number of monitors,
so that blocks of monitors of any size give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.bets import CAP_FROM_BUDGET, LARGEST_STEP, RESTING_SHARE
from detectors.charts.saved import Framed, array_of, decoded, encoded
from detectors.charts.tempered import LARGEST_R
from schemas.errors import ConfigurationError, FormatError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

STATE_FORMAT = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Mixture:
    """State of the bets; a value. Shapes (…, M), the same for all but `sums` (sums, …, M).

    r: Shiryaev–Roberts. twin: the CUSUM of the same steps. since: pane number at which the twin left 0, from 1; 0 for
    none. sums: what the chart adds up from there on, 0 where the twin is 0.
    """

    r: Floats
    twin: Floats
    since: Ints
    sums: Floats

    @classmethod
    def start(cls, shape: tuple[int, ...], *, sums: int) -> Mixture:
        """Bets that have seen nothing.

        >>> Mixture.start((2, 3, 5), sums=2).sums.shape
        (2, 2, 3, 5)
        """
        return cls(
            r=np.zeros(shape), twin=np.zeros(shape), since=np.zeros(shape, np.int64), sums=np.zeros((sums, *shape))
        )


def advance(mixture: Mixture, *, step: Floats, entering: Floats, said: Floats, pane: int) -> Mixture:
    """`R <- (R + a)·exp(step)` and its twin, after pane number `pane`.

    step: L/κ, capped, (…, M). entering: a, 0 to 1, broadcast to it. said: (sums, …, M) of this pane, broadcast. A pane
    without events (step, a and said 0) changes nothing.
    """
    path = mixture.twin + step
    alive = path > 0.0
    since = np.where(mixture.since == 0, pane, mixture.since) * alive
    return Mixture(
        r=np.minimum((mixture.r + entering) * np.exp(step), LARGEST_R),
        twin=np.where(alive, path, 0.0),
        since=since,
        sums=np.where(alive, mixture.sums + said, 0.0),
    )


def average(values: Floats) -> Floats:
    """Mean over bets (axis −2) in their order: (…, bets, M) to (…, M).

    >>> average(np.array([[1.0], [2.0], [6.0]]))
    array([3.])
    """
    found = np.zeros(values.shape[:-2] + values.shape[-1:])
    for bet in range(values.shape[-2]):  # `mean` would pair them differently for one monitor than for many
        found = found + values[..., bet, :]
    return np.asarray(found / values.shape[-2])


def entry(*, budget: float, fraction: Floats, tolerance: Floats, n: Floats, kappa: Floats) -> Floats:
    """The `a` of a pane: at most 1, less where dependence leaves a deaf chart near its limit (see `tempered`).

    Without a tolerance there is no level at which it rests, and a is 1 for every pane with events.

    >>> rest = dict(budget=8640.0, fraction=np.array([0.2]), tolerance=np.array([0.05]), n=np.array([50.0]))
    >>> entry(**rest, kappa=np.array([1.0])), entry(**rest, kappa=np.array([4320.0]))
    (array([1.]), array([0.1]))
    """
    resting = np.minimum(RESTING_SHARE * budget * fraction * tolerance * n / kappa, 1.0)
    return np.asarray(np.where(tolerance > 0.0, resting, 1.0) * (n > 0))


def cap_of(*, budget: float, share: Floats, struck: int, bets: int) -> Floats:
    """A third of the way to the limit, per pane: a thousand copies of one row must not page. share, result: (M,).

    No cap, but a finite step, under 500 panes of budget.

    >>> cap_of(budget=8640.0, share=np.array([1.0]), struck=1, bets=3).round(2), cap_of(
    ...     budget=100.0, share=np.array([1.0]), struck=1, bets=3)
    (array([3.39]), array([600.]))
    """
    if budget < CAP_FROM_BUDGET:
        return np.full(share.shape, LARGEST_STEP)
    return np.asarray(np.log(np.maximum(budget / (struck * share), 1.0) * bets) / 3.0)


def checked_shares(share: Floats | None, *, monitors: int, budget: float) -> Floats:
    """Each monitor's share of the budget, by default equal; `ConfigurationError` when they or the budget cannot be.

    The budget holds for all of them together when the shares sum to at most 1.

    >>> checked_shares(None, monitors=4, budget=8640.0)
    array([0.25, 0.25, 0.25, 0.25])
    """
    if not budget > 0.0:
        raise ConfigurationError(f"budget: must be > 0 panes, got {budget}")
    shares = np.full(monitors, 1.0 / max(monitors, 1)) if share is None else np.asarray(share, dtype=np.float64)
    if shares.shape != (monitors,) or not ((shares > 0.0) & (shares <= 1.0)).all():
        raise ConfigurationError(f"share: must be {monitors} shares above 0, at most 1, got {shares.tolist()}")
    return shares


def reset(mixture: Mixture, again: Bools) -> Mixture:
    """Bets of which those where `again` (broadcast to (…, M)) begin anew."""
    return Mixture(
        r=np.where(again, 0.0, mixture.r),
        twin=np.where(again, 0.0, mixture.twin),
        since=np.where(again, 0, mixture.since),
        sums=np.where(again, 0.0, mixture.sums),
    )


def save(mixture: Mixture) -> bytes:
    """Bytes of a state; equal states give equal bytes."""
    return encoded(
        _Saved(
            STATE_FORMAT,
            mixture.sums.shape,
            mixture.r.astype("<f8").tobytes(),
            mixture.twin.astype("<f8").tobytes(),
            mixture.since.astype("<i8").tobytes(),
            mixture.sums.astype("<f8").tobytes(),
        )
    )


def load(fresh: Mixture, raw: bytes) -> Mixture:
    """State from its bytes, in the shape of `fresh`; `FormatError` when damaged, newer, or of another shape.

    >>> begun = Mixture.start((3, 2), sums=1)
    >>> load(begun, save(begun)).r.shape
    (3, 2)
    """
    saved = decoded(raw, _Saved, newest=STATE_FORMAT, what=_WHAT)
    if tuple(saved.shape) != fresh.sums.shape:
        raise FormatError(f"state of a mixture of shape {saved.shape}, not {fresh.sums.shape}")
    shape = fresh.r.shape
    return Mixture(
        r=array_of(saved.r, "<f8", shape, what=_WHAT),
        twin=array_of(saved.twin, "<f8", shape, what=_WHAT),
        since=array_of(saved.since, "<i8", shape, what=_WHAT),
        sums=array_of(saved.sums, "<f8", fresh.sums.shape, what=_WHAT),
    )


class _Saved(Framed, array_like=True):
    shape: tuple[int, ...]
    r: bytes
    twin: bytes
    since: bytes
    sums: bytes


_WHAT = "a mixture"
