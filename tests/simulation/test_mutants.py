"""The invariants have teeth: each of the workers that are wrong in one way is caught within a few interleavings."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.simulation import outcome_story
from tests.simulation import test_stages as features_story
from tests.simulation.invariants import violations
from tests.simulation.mutants import JOINING, MUTANTS, Mutant
from tests.simulation.world import World

#: Interleavings that a mutant may survive.
TRIES = 40


CASES = [
    *(pytest.param(mutant, features_story, id=mutant.__name__) for mutant in MUTANTS),
    *(pytest.param(mutant, outcome_story, id=mutant.__name__) for mutant in JOINING),
]


@pytest.mark.parametrize(("mutant", "story"), CASES)
def test_a_mutant_is_caught(mutant: Mutant, story: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some invariant does not hold, or the worker itself refuses to go on (exit 71), or it never gets through."""
    calm = story.calm()
    mutant(monkeypatch)
    assert any(caught(seed, calm, story) for seed in range(TRIES))


@pytest.mark.parametrize("story", [features_story, outcome_story], ids=["features", "outcomes"])
def test_what_is_not_broken_is_not_caught(story: ModuleType) -> None:
    """The same look at sound workers finds nothing, within the same number of steps."""
    assert [caught(seed, story.calm(), story) for seed in range(3)] == [[]] * 3


def caught(seed: int, calm: World, story: ModuleType) -> list[str]:
    """What gave it away in one interleaving."""
    world = story.world_of(seed)
    try:
        world.run(story.feed(), faults=story.FAULTS, most=story.MOST)
    except AssertionError as error:
        return [*map(repr, world.refused), str(error)]
    return [*map(repr, world.refused), *violations(world, calm)]
