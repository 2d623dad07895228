"""The real stages under the scheduler: kills, zombies and hanging transactions change no count, verdict or trigger."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from schemas.envelopes import unwrap
from schemas.verdicts import WindowReport
from streamer.core.control import Control
from streamer.stages import Monitoring, Profiling
from tests.core import stage2
from tests.simulation.invariants import violations
from tests.simulation.stories import Story
from tests.simulation.world import Fed

SOURCES, PANES, PER_PANE = 2, 24, 12
INPUTS = ("features",)
FAULTS = 20
#: Steps in which a sound world is through, several times over.
MOST = 6_000
STAGES = (Profiling(inputs=INPUTS), Monitoring())


@cache
def control() -> Control:
    """A model with a small budget, so that a large change alarms within a few panes, and a long cooldown."""
    policy = stage2.RetrainPolicy(for_ms=0, cooldown_ms=40 * stage2.PANE)
    one = stage2.layout(
        budget_ms=4 * stage2.DAY,
        hold_ms=2 * stage2.PANE,
        policies=(policy,),
        clear_for=2,
        cooldown_panes=1,
        marginals=("device",),
    )
    return stage2.control(one, sources=SOURCES)


@cache
def feed() -> tuple[Fed, ...]:
    """Feature rows of both sources, some out of order, some late, some broken; x moves far away twice."""
    rng = np.random.default_rng(5)
    fed = []
    for pane in range(PANES):
        shift = 6.0 if 4 <= pane < 8 or 14 <= pane < 18 else 0.0
        rows = stage2.events(PER_PANE * SOURCES, start=stage2.BEGIN + pane * stage2.PANE, seed=1, shift=shift)
        for i in range(len(rows)):
            late = 3 * stage2.PANE if rng.random() < 0.03 else int(rng.integers(0, 60_000))
            value = {
                "feature_set": "m",
                "ts": int(rows.ts[i]) - late,
                "version": str(rows.version[i]),
                "features": {"x": float(rows.x[i]), "y": float(rows.y[i])},
                "segment": {"country": str(rows.country[i]), "device": ("ios", "tv", None)[i % 3]},
            }
            raw = b"{broken" if rng.random() < 0.02 else json.dumps(value).encode()
            fed.append(Fed(i % SOURCES, raw, int(rows.ts[i]) + 500, "features"))
    return tuple(fed)


STORY = Story(stages=STAGES, sources=SOURCES, control=control, feed=feed)
world_of, calm = STORY.world, STORY.calm


def test_the_story_has_everything_in_it() -> None:
    """An incident that resolves, a trigger, revisions, dead letters: what the invariants are about is there."""
    world = calm()
    assert violations(world, world) == []
    assert len(world.visible("retrain-triggers")) == 1
    assert len(world.visible("incidents")) >= 2
    assert len(world.visible("dead-letter")) >= 5
    reports = [unwrap(message.value, WindowReport) for message in world.visible("windows")]
    assert {sum(row.n for row in report.marginals) - report.n for report in reports} == {0}
    assert {row.value for report in reports for row in report.marginals} == {"ios", "tv", ""}


@pytest.mark.parametrize("block", range(4))
def test_every_interleaving_says_the_same(block: int) -> None:
    """Kills between any two steps, zombies and hanging transactions: I1 to I4, I6 and I7 hold."""
    happened: Counter[str] = Counter()
    wrong = []
    for seed in range(8 * block, 8 * block + 8):
        world = world_of(seed)
        world.run(feed(), faults=FAULTS)
        happened += world.happened
        wrong += [(seed, violation) for violation in violations(world, calm())]
        wrong += [(seed, str(error)) for error in world.refused]
    assert wrong == []
    assert min(happened["kill"], happened["stop"]) > 10
