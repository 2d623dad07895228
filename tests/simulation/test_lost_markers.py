"""Crashes that lose some markers of a transaction: of the changelog, of outputs, of both; owners that outlive them.

What the barrier, or the fence of the next owner, then aborts in one log shows in another (streamer/kafka/mending.py).
"""

from __future__ import annotations

from collections import Counter
from types import ModuleType

import pytest

from streamer.kafka import restore
from tests.simulation import outcome_story
from tests.simulation import test_protocol as counting
from tests.simulation import test_stages as features_story
from tests.simulation.invariants import violations
from tests.simulation.mutants import no_mending
from tests.simulation.world import Faults, World

#: Nothing but crashes, half of which their owners outlive: what a lone broker that dies again and again comes to.
CRASHES = Faults(kills=False, zombies=False)


def crashed(seed: int) -> tuple[World, list[str]]:
    """A world of the counting stages in which markers are lost, and what is wrong with it."""
    feed = counting.feed_of(seed)
    world = World(counting.STAGES, seed=seed, sources=counting.SOURCES, profiles=counting.PROFILES, faults=CRASHES)
    try:
        world.run(feed, faults=12, most=20_000)
    except AssertionError as error:
        return world, [*map(repr, world.refused), str(error)]
    return world, [*map(repr, world.refused), *counting.violations(world, feed)]


@pytest.mark.parametrize("block", range(3))
def test_whichever_markers_are_lost_nothing_is_lost_or_twice(block: int) -> None:
    """Of an output and not of the changelog, of the changelog and not of an output, twice in a row, while mending."""
    happened: Counter[str] = Counter()
    wrong = []
    for seed in range(60 * block, 60 * block + 60):
        world, found = crashed(seed)
        happened += world.happened
        wrong += [(seed, one) for one in found]
    assert wrong == []
    assert happened["partly"] > 25


def test_what_is_hidden_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worlds have what this is about: records written again, of the changelog and of outputs."""
    mended: Counter[str] = Counter()
    whole = restore.Ledger.write_again

    async def counted(self: restore.Ledger, records: list[restore.Record]) -> None:
        mended.update(record.topic.rpartition("-")[2] for record in records)
        await whole(self, records)

    monkeypatch.setattr(restore.Ledger, "write_again", counted)
    for seed in range(40):
        crashed(seed)
    assert min(mended[name] for name in ("changelog", "profiles", "windows")) > 3


def test_without_mending_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The barrier by itself aborts what is committed elsewhere: windows lack, deltas lack or come twice."""
    no_mending(monkeypatch)
    found = [one for seed in range(40) for one in crashed(seed)[1]]
    assert len([one for one in found if one.startswith("window ")]) > 3
    assert len([one for one in found if one.startswith(("counts", "ranges", "ProtocolBroken"))]) > 3


@pytest.mark.parametrize("story", [features_story, outcome_story], ids=["features", "outcomes"])
def test_the_real_stages_lose_nothing_either(story: ModuleType) -> None:
    """I1 to I4, I6 and I7 hold."""
    wrong = []
    for seed in range(100, 105):
        world = story.world_of(seed, faults=CRASHES)
        world.run(story.feed(), faults=story.FAULTS)
        wrong += [(seed, one) for one in violations(world, story.calm())]
        wrong += [(seed, str(error)) for error in world.refused]
    assert wrong == []
