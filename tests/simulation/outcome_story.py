"""Predictions and the outcomes of them: most match, some are corrected, repeated, early, late, of nobody."""

from __future__ import annotations

import json
from functools import cache

import numpy as np

from schemas.control import Cluster
from schemas.layouts import RetrainPolicy
from streamer.core.control import Control
from streamer.stages import Monitoring, Profiling
from tests.core.stage2 import BEGIN
from tests.core.test_maturing import PANE, layout, reference, scored
from tests.simulation.stories import Story
from tests.simulation.world import Fed

SOURCES, PANES, PER_PANE = 2, 18, 10
INPUTS = ("predictions", "outcomes")
FAULTS = 20
#: Steps in which a sound world is through, several times over.
MOST = 40_000
STAGES = (Profiling(inputs=INPUTS), Monitoring())
MINUTE = 60_000


@cache
def control() -> Control:
    """A model whose outcomes come within the hour, and are taken twenty minutes after their pane."""
    one = layout(
        outcome_pane_ms=2 * PANE,
        horizon_ms=6 * PANE,
        maturity_ms=2 * PANE,
        hold_ms=2 * PANE,
        early_outcome_wait_ms=2 * MINUTE,
        policies=(RetrainPolicy(),),
    )
    cluster = Cluster(sources=SOURCES, profiles=1)
    return Control(models={"m": (one,)}, references={reference().id: reference()}, cluster=cluster)


@cache
def feed() -> tuple[Fed, ...]:
    """Both inputs in order of append; partition i % 2 has prediction i and all that is said of it."""
    rng = np.random.default_rng(8)
    score, label = scored(rng, PANES * PER_PANE * SOURCES)
    delay = np.minimum(3 * MINUTE * (1 + rng.pareto(0.9, score.size)), 8 * PANE).astype(int).tolist()
    shape = rng.random(score.size).tolist()
    fed = []
    for i, ts in enumerate(range(BEGIN, BEGIN + PANES * PANE, PANE // (PER_PANE * SOURCES))):
        event = {"id": f"p{i}", "model": "m", "version": "1", "ts": ts, "score": float(score[i]), "features": {}}
        fed.append(Fed(i % SOURCES, json.dumps(event).encode(), ts + 500))
        if shape[i] < 0.1:
            continue
        due = ts + delay[i] if shape[i] < 0.97 else ts - MINUTE
        told = {"id": f"p{i}", "model": "m", "ts": due, "label": int(label[i])}
        said = [(due, told)]
        if shape[i] < 0.15:
            said = [(due, {**told, "id": f"nobody{i}"})]
        elif shape[i] < 0.3:
            said.append((due + rng.integers(1, 15) * MINUTE, {**told, "label": 1 - int(label[i])}))
        elif shape[i] < 0.4:
            said.append((due + rng.integers(1, 15) * MINUTE, told))
        elif shape[i] < 0.42:
            said.append((due + MINUTE, {**told, "label": None}))
        fed += [Fed(i % SOURCES, json.dumps(one).encode(), int(at) + 500, "outcomes") for at, one in said]
    return tuple(sorted(fed, key=lambda one: one.at))


STORY = Story(stages=STAGES, sources=SOURCES, control=control, feed=feed)
world_of, calm = STORY.world, STORY.calm
