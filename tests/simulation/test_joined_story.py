"""The join under the scheduler: kills, zombies and hanging transactions change no pair, no table and no account."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.profiles import OUTCOME
from streamer.core.profiling_state import decode_position
from tests.simulation import outcome_story as story
from tests.simulation.invariants import counts, violations


def test_the_story_has_everything_in_it() -> None:
    """Pairs, corrections, repeats, early ones that waited, late ones, outcomes of nobody, letters for bad ones."""
    world = story.calm()
    assert violations(world, world) == []
    positions = [record.value or b"" for record in world.changelog("profiling") if record.key == b"position"]
    last = {decode_position(raw).source: decode_position(raw) for raw in positions}
    became: Counter[str] = Counter()
    for position in last.values():
        assert position.join is not None
        became += Counter(position.join.counts)
    assert min(became[name] for name in ("matched", "corrected", "duplicate", "unmatched", "late", "early")) > 0
    assert sum(cell[0] == OUTCOME for cell in counts(world)) > 10
    assert len(world.visible("dead-letter")) > 10


@pytest.mark.parametrize("block", range(2))
def test_every_interleaving_joins_the_same(block: int) -> None:
    """I1 to I4 and I7 hold over outcomes as over predictions."""
    happened: Counter[str] = Counter()
    wrong = []
    for seed in range(8 * block, 8 * block + 8):
        world = story.world_of(seed)
        world.run(story.feed(), faults=story.FAULTS)
        happened += world.happened
        wrong += [(seed, violation) for violation in violations(world, story.calm())]
        wrong += [(seed, str(error)) for error in world.refused]
    assert wrong == []
    assert min(happened["kill"], happened["stop"]) > 10
