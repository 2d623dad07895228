"""The hanging transaction of DESIGN 2, trap 1: made, closed by the barrier, and caught by the readers without it."""

from __future__ import annotations

import contextlib

import pytest

from schemas.errors import ProtocolBroken
from tests.simulation import test_stages as story
from tests.simulation.invariants import events, violations
from tests.simulation.mutants import no_barrier
from tests.simulation.world import Faults, World

#: Only crashes that lose every marker that is not written yet, and the restarts that follow them.
CRASHES = Faults(kills=False, zombies=False, partly=False)


def crashed(seed: int) -> World:
    """A world in which markers are lost, and nothing else happens; it may never get through."""
    world = story.world_of(seed, faults=CRASHES)
    with contextlib.suppress(AssertionError):
        world.run(story.feed(), faults=4, most=4_000)
    return world


def test_with_the_barrier_lost_markers_change_nothing() -> None:
    """Records whose markers a crash lost are aborted by the next owner before it reads where it stands."""
    worlds = [crashed(seed) for seed in range(12)]
    assert sum(world.happened["hang"] for world in worlds) == 48
    assert [violations(world, story.calm()) for world in worlds] == [[]] * 12


def test_without_it_a_batch_shows_twice_and_the_readers_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line: ranges of a source that do not join end stage 2 with exit 71 before it counts a batch twice."""
    no_barrier(monkeypatch)
    worlds = [crashed(seed) for seed in range(12)]
    shown_twice = [world for world in worlds if any("I4 ranges" in one for one in violations(world, story.calm()))]
    stopped = [world for world in worlds if any(isinstance(error, ProtocolBroken) for error in world.refused)]
    truth = events(story.calm())
    overcounted = [window for world in worlds for window, n in events(world).items() if n > truth[window]]
    assert len(shown_twice) >= 2
    assert len(stopped) >= 1
    assert overcounted == []
