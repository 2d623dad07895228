"""The rim's protocol in hundreds of random interleavings: whatever is killed, stopped, fenced or lost, all is exact."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import pytest

from tests.integration.counting import Counting, Summing
from tests.simulation.world import Fed, World

SOURCES, PROFILES = 2, 2
STAGES = (Counting(PROFILES), Summing())


def feed_of(seed: int, n: int = 40) -> list[Fed]:
    """Values for the partitions, in order of time."""
    rng = random.Random(seed)
    return [Fed(rng.randrange(SOURCES), f"m{rng.randrange(5)}".encode(), 1_000 + i) for i in range(n)]


def violations(world: World, feed: list[Fed]) -> list[str]:
    """What is wrong with what a committed reader sees; see tests/integration/fleets.py, `check_exact`."""
    found = []
    truth = Counter(one.value.decode() for one in feed)
    counted: Counter[str] = Counter()
    ranges: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for record in world.visible("profiles"):
        said = json.loads(record.value or b"")
        counted.update(said["counts"])
        ranges.setdefault((said["source"], record.partition), []).append((said["seq"], said["begin"], said["end"]))
    if counted != truth:
        found.append(f"counts: {counted} for {truth}")
    for source, said_there in ranges.items():
        if any(before[2] > after[1] or before[0] >= after[0] for before, after in itertools.pairwise(said_there)):
            found.append(f"ranges of {source}: {said_there}")
    last: dict[int, tuple[int, dict[str, int]]] = {}
    for record in world.visible("windows"):
        number, before = int(record.key or b"0"), last.get(record.partition, (0, {}))[0]
        if number != before + 1:
            found.append(f"window {number} after {before}")
        last[record.partition] = number, json.loads(record.value or b"")
    summed: Counter[str] = Counter()
    for _, totals in last.values():
        summed.update(totals)
    if summed != truth:
        found.append(f"sums: {summed} for {truth}")
    return found


@pytest.mark.parametrize("block", range(10))
def test_every_interleaving_counts_exactly(block: int) -> None:
    """Kills between any two steps, zombies, late and lost markers: nothing is lost, nothing is there twice."""
    happened: Counter[str] = Counter()
    wrong = []
    for seed in range(40 * block, 40 * block + 40):
        feed = feed_of(seed)
        world = World(STAGES, seed=seed, sources=SOURCES, profiles=PROFILES)
        world.run(feed, faults=6)
        happened += world.happened
        wrong += [(seed, fault) for fault in violations(world, feed)]
        wrong += [(seed, str(error)) for error in world.refused]
    assert wrong == []
    assert min(happened["kill"], happened["stop"], happened["hang"]) > 0
