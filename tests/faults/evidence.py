"""What a storm left behind, as the invariants want to see it; and the truth, counted anew in one go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import logs

from streamer.core import profiling
from streamer.core.control import Control
from streamer.core.records import Batch, Output, PlainRecord, Record
from streamer.stages import Monitoring, Profiling
from tests.faults.storm import Storm
from tests.simulation.invariants import gaps_in

INPUTS = ("predictions", "outcomes")


class Left:
    """The topics of a storm's application, read once each, to their ends, committed records only.

    Of inputs there is also what their logs held before something was deleted from them.
    """

    def __init__(self, storm: Storm) -> None:
        self.stages: tuple[Any, ...] = (Profiling(inputs=INPUTS), Monitoring())
        self.control: Control = storm.control()
        self.sources, self.profiles = storm.partitions, 2
        self._name, self._bootstrap = storm.site.name, storm.site.bootstrap
        self._inputs = {"predictions": storm.site.input, "outcomes": storm.site.outcomes}
        self._kept = storm.kept
        self._read: dict[str, Sequence[Record]] = {}

    def topic(self, name: str) -> str:
        """Name on Kafka of a logical topic."""
        return self._inputs.get(name, f"{self._name}-{name}")

    def visible(self, name: str) -> Sequence[Record]:
        """Committed records of a logical topic."""
        topic = self.topic(name)
        if topic not in self._read:
            there = logs.read(self._bootstrap, topic)
            if kept := self._kept.get(name):
                whole = kept | {(record.partition, record.offset): record for record in there}
                there = [whole[place] for place in sorted(whole)]
            self._read[topic] = there
        return self._read[topic]

    def changelog(self, stage: str) -> Sequence[Record]:
        """Committed records of a stage's changelog, as far as compaction has left them."""
        return self.visible(f"{self._name}-{stage}-changelog")

    def written(self, name: str, partition: int) -> int:
        """How many records a partition of an input was given."""
        return sum(record.partition == partition for record in self.visible(name))


class Undisturbed:
    """Stage 1 over the same input, each partition in a few batches, by nobody who could be killed."""

    def __init__(self, left: Left) -> None:
        self._left = left

    def visible(self, name: str) -> Sequence[Record]:
        """`profiles`, and nothing else."""
        assert name == "profiles"
        return self._profiles

    @cached_property
    def _profiles(self) -> list[PlainRecord]:
        left = self._left
        by_source: dict[int, list[tuple[str, Record]]] = defaultdict(list)
        passed_over = gaps_in(left.visible("audit"))
        for name in INPUTS:
            gaps = [(place, range(begin, end)) for topic, place, begin, end in passed_over if topic == left.topic(name)]
            for record in left.visible(name):
                if not any(place == record.partition and record.offset in gap for place, gap in gaps):
                    by_source[record.partition].append((name, record))
        found: list[Output] = []
        for source, arrived in sorted(by_source.items()):
            state = profiling.start(left.control, source, next=dict.fromkeys(INPUTS, 0))
            arrived.sort(key=lambda one: one[1].timestamp)
            # In the order of append, in pieces that hold some of both inputs.
            for first in range(0, len(arrived), 4_000):
                piece = arrived[first : first + 4_000]
                for name in INPUTS:
                    part = [record for of, record in piece if of == name]
                    if part:
                        batch = Batch(name, part, part[-1].offset + 1)
                        state, outputs = profiling.apply(state, batch, left.control)
                        found += [output for output in outputs if output.topic == "profiles"]
        return [
            PlainRecord("profiles", output.partition or 0, at, 0, output.key, output.value)
            for at, output in enumerate(found)
        ]
