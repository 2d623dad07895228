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

INPUTS = ("predictions",)


class Left:
    """The topics of a storm's application, read once each, to their ends, committed records only."""

    def __init__(self, storm: Storm) -> None:
        self.stages: tuple[Any, ...] = (Profiling(inputs=INPUTS), Monitoring())
        self.control: Control = storm.control()
        self.sources, self.profiles = storm.partitions, 2
        self._name, self._bootstrap, self._input = storm.site.name, storm.site.bootstrap, storm.site.input
        self._read: dict[str, Sequence[Record]] = {}

    def visible(self, name: str) -> Sequence[Record]:
        """Committed records of a logical topic."""
        topic = self._input if name in INPUTS else f"{self._name}-{name}"
        if topic not in self._read:
            self._read[topic] = logs.read(self._bootstrap, topic)
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
        by_source: dict[int, list[Record]] = defaultdict(list)
        for record in left.visible("predictions"):
            by_source[record.partition].append(record)
        found: list[Output] = []
        for source, records in sorted(by_source.items()):
            state = profiling.start(left.control, source, next=dict.fromkeys(INPUTS, 0))
            for first in range(0, len(records), 4_000):
                part = records[first : first + 4_000]
                state, outputs = profiling.apply(state, Batch("predictions", part, part[-1].offset + 1), left.control)
                found += [output for output in outputs if output.topic == "profiles"]
        return [
            PlainRecord("profiles", output.partition or 0, at, 0, output.key, output.value)
            for at, output in enumerate(found)
        ]
