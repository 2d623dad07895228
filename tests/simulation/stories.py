"""A story of the simulation: what is fed to which stages under which layouts, and the same without faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from streamer.core.control import Control
from tests.simulation.world import Faults, Fed, World


@dataclass(frozen=True, eq=False, kw_only=True)
class Story:
    """What a world is made of; `control` and `feed` are made once."""

    stages: Any
    sources: int
    control: Callable[[], Control]
    feed: Callable[[], Sequence[Fed]]

    def world(self, seed: int, *, faults: Faults | None = None) -> World:
        """Workers for both stages."""
        return World(
            self.stages, seed=seed, sources=self.sources, profiles=1, control=self.control(), rows=20, faults=faults
        )

    def calm(self) -> World:
        """The same without faults."""
        return self._calm

    @cached_property
    def _calm(self) -> World:
        world = self.world(0)
        world.run(self.feed(), faults=0)
        return world
