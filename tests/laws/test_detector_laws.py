"""Laws of every detector of the catalogue: a value, saved and restored to the bit, one by one as all at once, bounded.

A detector that is added to the catalogue needs one line in `WORLDS`; the laws come for free.
"""

from __future__ import annotations

import tracemalloc
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import T0, counts, layout, reference, rows
from scored_labels import edges, exact

from detectors.catalogue import DETECTORS
from detectors.charts import adaptive, calibration, calibration_map, losses, mixture, tempered
from detectors.charts.adaptive import build_adaptive
from detectors.charts.bets import build_bets
from detectors.charts.calibration import build_calibration
from detectors.charts.losses import UNIT, LossReference, build_losses
from detectors.scopes import Scope, build_scope, load_state, save_state, update

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

PANES, MONITORS = 60, 3
DEPENDENT = LossReference(n=20_000, total=2_000, deff=4.0, m3=(40.0, 0.0), n_bar=50.0, profile=np.full(168, 0.1))
_BUDGET, _SHARE = 8640.0, 1.0 / MONITORS


class World(Protocol):
    """A detector with panes of its own: quiet ones, ones with a change, and one that is empty (number `PANES`)."""

    def start(self) -> Any:
        """State of all monitors that has seen nothing."""

    def take(self, state: Any, pane: int) -> Any:
        """The state after that pane, numbers from 0."""

    def saved(self, state: Any) -> bytes:
        """Its bytes."""

    def restored(self, raw: bytes) -> Any:
        """The state of the bytes."""

    def evidence(self, monitors: list[int]) -> Numbers:
        """Evidence of these monitors by themselves after all panes, monitors last."""

    def panes(self) -> bytes:
        """All that the panes hold."""


def _labels(seed: int) -> Counts:
    """Errors of 32 labels a pane in units, (PANES + 1, MONITORS): .1, then .3, then none."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(PANES + 1) < PANES // 2, 0.1, 0.3)[:, None]
    found = rng.binomial(32, rate, (PANES + 1, MONITORS)) * UNIT
    found[PANES] = 0
    return found


class Mixed:
    """What charts by a mixture of bets begin with, are saved as and come back from."""

    _plan: losses.Losses | calibration.Calibration

    def start(self) -> Any:
        return self._plan.start()

    def saved(self, state: Any) -> bytes:
        return mixture.save(state)

    def restored(self, raw: bytes) -> Any:
        return mixture.load(self._plan.start(), raw)


class Losses(Mixed):
    """`losses`: three monitors of one dependent reference."""

    def __init__(self) -> None:
        self._plan, self._sums = self._of(MONITORS), _labels(1)
        self._n = np.where(np.arange(PANES + 1) < PANES, 32, 0)

    def _of(self, monitors: int) -> losses.Losses:
        return build_losses([DEPENDENT] * monitors, budget=_BUDGET, share=np.full(monitors, _SHARE))

    def take(self, state: Any, pane: int) -> Any:
        n = np.full(MONITORS, self._n[pane])
        return losses.tick(self._plan, state, n=n, sums=self._sums[pane], pane=pane + 1)[0]

    def evidence(self, monitors: list[int]) -> Numbers:
        plan = self._of(len(monitors))
        charts = plan.start()
        for pane in range(PANES):
            n, sums = np.full(len(monitors), 32), self._sums[pane, monitors]
            charts, said = losses.tick(plan, charts, n=n, sums=sums, pane=pane + 1)
        return said.value

    def panes(self) -> bytes:
        return self._sums.tobytes()


class Adaptive:
    """`adaptive`: without a reference."""

    def __init__(self) -> None:
        self._plan, self._sums = self._of(MONITORS), _labels(2)

    def _of(self, monitors: int) -> adaptive.Adaptive:
        return build_adaptive(monitors, budget=_BUDGET, share=np.full(monitors, _SHARE))

    def start(self) -> Any:
        return self._plan.start()

    def take(self, state: Any, pane: int) -> Any:
        n = np.full(MONITORS, 32 if pane < PANES else 0)
        return adaptive.tick(self._plan, state, n=n, sums=self._sums[min(pane, PANES)])[0]

    def saved(self, state: Any) -> bytes:
        return adaptive.save(state)

    def restored(self, raw: bytes) -> Any:
        return adaptive.load(self._plan, raw)

    def evidence(self, monitors: list[int]) -> Numbers:
        plan = self._of(len(monitors))
        history = plan.start()
        for pane in range(PANES):
            sums = self._sums[pane, monitors]
            history, said = adaptive.tick(plan, history, n=np.full(len(monitors), 32), sums=sums)
        return said.value

    def panes(self) -> bytes:
        return self._sums.tobytes()


class Calibration(Mixed):
    """`calibration`: labels that come more often than their scores say, from the middle on."""

    def __init__(self) -> None:
        self._plan = self._of(MONITORS)
        rng = np.random.default_rng(3)
        p = rng.beta(2, 5, (PANES + 1, MONITORS, 200))
        moved = np.where(np.arange(PANES + 1) < PANES // 2, 1.0, 1.6)[:, None, None] * p
        labels = (rng.random(p.shape) < np.minimum(moved, 1.0)).astype(np.int64)
        count = calibration_map.count_labels
        self._counts = np.array(
            [[count(edges(), *both) for both in zip(*pane, strict=True)] for pane in zip(p, labels, strict=True)]
        )
        self._counts[PANES] = 0

    def _of(self, monitors: int) -> calibration.Calibration:
        return build_calibration([exact()] * monitors, budget=_BUDGET, share=np.full(monitors, _SHARE))

    def take(self, state: Any, pane: int) -> Any:
        return calibration.tick(self._plan, state, counts=self._counts[pane], pane=pane + 1)[0]

    def evidence(self, monitors: list[int]) -> Numbers:
        plan = self._of(len(monitors))
        charts = plan.start()
        for pane in range(PANES):
            charts, value = calibration.tick(plan, charts, counts=self._counts[pane, monitors], pane=pane + 1)
        return value

    def panes(self) -> bytes:
        return self._counts.tobytes()


class Distribution:
    """`distribution`: a scope of two numbers and a category; the first number moves by .8 sd."""

    def __init__(self) -> None:
        of = reference()
        half = PANES // 2
        quiet, moved = (rows(seed, half * 50, shift=shift) for seed, shift in ((5, 0.0), (6, 0.8)))
        empty = np.zeros((1, 1, of.table.width), dtype=np.int64)
        self._scope: Scope = build_scope(of, layout(of))
        self._panes = np.concatenate([counts(of, quiet, panes=half), counts(of, moved, panes=half), empty])

    def start(self) -> Any:
        return self._scope.start()

    def take(self, state: Any, pane: int) -> Any:
        return update(self._scope, state, start=T0 + pane * 300_000, counts=self._panes[min(pane, PANES)])[0]

    def saved(self, state: Any) -> bytes:
        return msgspec.msgpack.encode(save_state(state), order="sorted")

    def restored(self, raw: bytes) -> Any:
        return load_state(self._scope, msgspec.msgpack.decode(raw, type=dict[str, bytes]))

    def evidence(self, monitors: list[int]) -> Numbers:
        learned = [self._scope.monitors.learned[m] for m in monitors]
        prior = np.full(len(monitors), _SHARE)
        bets = build_bets(learned, tolerance=0.1, strict=False, budget=_BUDGET, prior=prior, struck=1)
        mine = np.concatenate([np.flatnonzero(self._scope.bets.direction_monitor == m) for m in monitors])
        charts = tempered.Charts.start(bets.size)
        for pane in range(PANES):
            mu = self._scope.mu(T0 + pane * 300_000)[mine]
            flat = np.append(self._panes[pane].ravel(), 0)
            charts, said = tempered.tick(bets, charts, flat=flat, mu=mu, pane=pane + 1)
        return said.value

    def panes(self) -> bytes:
        return self._panes.tobytes()


WORLDS: dict[str, type[World]] = {
    "distribution": Distribution,
    "losses": Losses,
    "adaptive": Adaptive,
    "calibration": Calibration,
}


@lru_cache
def world(name: str) -> World:
    return WORLDS[name]()


def played(of: World, first: int, last: int, state: Any = None) -> Any:
    state = of.start() if state is None else state
    for pane in range(first, last):
        state = of.take(state, pane)
    return state


every_detector = pytest.mark.parametrize("name", DETECTORS)


@every_detector
@pytest.mark.parametrize("stop", [1, 29, 41, 60])
def test_stopped_saved_restored_equals_never_stopped(name: str, stop: int) -> None:
    """To the byte, in the quiet and in the change."""
    of = world(name)
    back = of.restored(of.saved(played(of, 0, stop)))
    assert of.saved(played(of, stop, PANES, back)) == of.saved(played(of, 0, PANES))


@every_detector
def test_monitors_one_by_one_and_in_any_order_have_the_bits_of_all_at_once(name: str) -> None:
    of = world(name)
    whole = of.evidence(list(range(MONITORS)))
    apart = [of.evidence([m]) for m in range(MONITORS)]
    np.testing.assert_array_equal(np.concatenate(apart, axis=-1), whole)
    np.testing.assert_array_equal(of.evidence([2, 0]), whole[..., [2, 0]])


@every_detector
def test_a_state_and_its_panes_are_never_changed(name: str) -> None:
    """What was a state stays one: two futures can go on from it."""
    of = world(name)
    state, panes = played(of, 0, 45), of.panes()
    before = of.saved(state)
    one, other = (of.saved(played(of, 45, PANES, state)) for _ in range(2))
    assert one == other
    assert of.saved(state) == before
    assert of.panes() == panes


@every_detector
def test_a_pane_without_events_moves_no_evidence(name: str) -> None:
    """The empty pane is the last: what is said after it is what was said before it."""
    of = world(name)
    whole = played(of, 0, PANES)
    again = of.take(of.take(whole, PANES), PANES)
    assert evidence_in(name, again) == evidence_in(name, whole)


@every_detector
def test_the_state_does_not_grow(name: str) -> None:
    """After ten times the panes it is at most a few buckets larger."""
    of = world(name)
    state = played(of, 0, PANES)
    early = len(of.saved(state))
    for _ in range(9):
        state = played(of, 0, PANES, state)
    assert len(of.saved(state)) <= 2 * early


@every_detector
def test_a_pane_takes_no_more_memory_than_a_few_states(name: str) -> None:
    of = world(name)
    state = played(of, 0, 40)
    of.take(state, 40)
    tracemalloc.start()
    of.take(state, 41)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000


def evidence_in(name: str, state: Any) -> bytes:
    """The charts' own numbers, without clocks and counters of panes."""
    if name == "distribution":
        return np.concatenate([state.charts.r, state.charts.twin, state.charts.moved]).tobytes()
    if name == "adaptive":
        return np.array([state.n.sum(axis=0), state.sums.sum(axis=0)]).tobytes()
    return np.concatenate([state.r.ravel(), state.twin.ravel(), state.sums.ravel()]).tobytes()
