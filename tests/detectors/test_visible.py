"""The smallest visible change against simulated charts, where panes enter whole and where they enter in part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from detectors.visible import visible_change

Floats = npt.NDArray[np.float64]
LAMBDAS = np.array([0.06, 0.15, 0.35])
WEIGHTS = np.full(3, 1 / 6)
RUNS, WARM = 250, 300


class Stream(NamedTuple):
    """Panes of n rows whose shock (share rho of a row's variance) goes on as an AR(phi); A and T in panes."""

    n: int
    rho: float
    phi: float
    budget: int
    panes: int
    epsilon: float

    @property
    def deff(self) -> float:
        return (1 - self.rho) + self.n * self.rho * (1 + self.phi) / (1 - self.phi)

    @property
    def kappa(self) -> Floats:
        return np.asarray(np.maximum(1.0, self.deff / (1 + self.epsilon / LAMBDAS)))

    @property
    def cap(self) -> Floats:
        return np.log(self.budget / WEIGHTS) / 3 if self.budget >= 500 else np.full(3, 30.0)

    @property
    def entering(self) -> Floats:
        return np.asarray(np.minimum(1.0, 0.1 * self.budget * LAMBDAS * self.epsilon * self.n / self.kappa))


def seen(stream: Stream, delta: float) -> float:
    """Share of runs that alarm within a day after a step of delta; charts have rested for a while before."""
    rng = np.random.default_rng(1)
    r, shock, hit = np.zeros((RUNS, 3)), rng.standard_normal(RUNS), np.zeros(RUNS, dtype=bool)
    for pane in range(WARM + stream.panes):
        shock = stream.phi * shock + np.sqrt(1 - stream.phi**2) * rng.standard_normal(RUNS)
        own = rng.standard_normal((RUNS, stream.n))
        z = np.sqrt(stream.rho) * shock[:, None] + np.sqrt(1 - stream.rho) * own + delta * (pane >= WARM)
        z = np.clip(z, -2.2, 2.2)
        gain = np.log1p(LAMBDAS * z[:, :, None]).sum(axis=1) - stream.n * np.log1p(LAMBDAS * stream.epsilon)
        r = (r + stream.entering) * np.exp(np.minimum(gain / stream.kappa, stream.cap))
        over = (WEIGHTS * r).sum(axis=1) >= stream.budget
        hit |= over & (pane >= WARM)
        r[over] = 0.0
    return float(hit.mean())


def simulated(stream: Stream) -> float:
    """The step that nine runs of ten see, as a move of the bounded scores."""
    low, high = 0.0, 3.0
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if seen(stream, middle) < 0.9 else (low, middle)
    scores = np.random.default_rng(0).standard_normal(200_000) + high
    return float(np.clip(scores, -2.2, 2.2).mean())


def computed(stream: Stream, *, entering: Floats | None) -> float:
    rows = float(stream.n * stream.panes)
    found, _ = visible_change(
        fraction=LAMBDAS[None],
        weight=WEIGHTS[None],
        cap=stream.cap[None],
        kappa=stream.kappa[None],
        entering=None if entering is None else entering[None],
        tolerance=np.array([stream.epsilon]),
        deff=np.array([stream.deff]),
        limit=np.array([float(stream.budget)]),
        n_day=np.array([rows]),
        panes=np.array([float(stream.panes)]),
    )
    return float(found[0])


@pytest.mark.parametrize(
    "stream",
    [
        Stream(n=10, rho=0.3, phi=0.0, budget=8640, panes=288, epsilon=0.1),
        Stream(n=10, rho=0.3, phi=0.9, budget=864, panes=288, epsilon=0.02),
        Stream(n=40, rho=0.3, phi=0.95, budget=288, panes=288, epsilon=0.05),
        Stream(n=10, rho=0.3, phi=0.97, budget=864, panes=288, epsilon=0.05),
    ],
    ids=["a is 1", "a is .02 to .1", "a is .01 to .05", "a is .02 to .09"],
)
def test_the_visible_change_is_what_a_simulation_sees(stream: Stream) -> None:
    assert computed(stream, entering=stream.entering) == pytest.approx(simulated(stream), rel=0.2)


def test_panes_that_enter_in_part_hide_more() -> None:
    stream = Stream(n=40, rho=0.3, phi=0.95, budget=288, panes=288, epsilon=0.05)
    assert stream.entering.max() < 0.05
    assert computed(stream, entering=stream.entering) > 1.25 * computed(stream, entering=None)
