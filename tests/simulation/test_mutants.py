"""The invariants have teeth: each of the workers that are wrong in one way is caught within a few interleavings."""

from __future__ import annotations

import pytest

from tests.simulation import test_stages as story
from tests.simulation.invariants import violations
from tests.simulation.mutants import MUTANTS, Mutant

#: Interleavings that a mutant may survive.
TRIES = 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some invariant does not hold, or the worker itself refuses to go on (exit 71), or it never gets through."""
    calm = story.calm()
    mutant(monkeypatch)
    assert any(caught(seed, calm) for seed in range(TRIES))


def caught(seed: int, calm: story.World) -> list[str]:
    """What gave it away in one interleaving."""
    world = story.world_of(seed)
    try:
        world.run(story.feed(), faults=story.FAULTS, most=6_000)
    except AssertionError as error:
        return [*map(repr, world.refused), str(error)]
    return [*map(repr, world.refused), *violations(world, calm)]
