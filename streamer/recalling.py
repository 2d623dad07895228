"""One pane of the stream, seen again: the recorded `profiles` through the core of stage 2, up to its close.

Why it is the same pane: stage 2 over the recorded deltas gives the same bytes (DESIGN 3, I2b), and charts begin anew at
a layout's first pane. So what is seen is exact when the recording reaches back to that pane, or to its own beginning.
When retention has taken the front, evidence that was carried from there is missing: the window report, which says what
the worker saw, is then the judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from schemas.errors import LateLayout
from streamer.core import monitoring
from streamer.core.closing import Seen, Sought
from streamer.core.control import Control
from streamer.core.monitoring import MonitoringState
from streamer.core.records import Batch, Record


@dataclass(kw_only=True)
class Recall:
    """A worker's core without a worker, that reads until a pane has closed.

    first: offset of the first record that it was given; None before it. begun: where the charts of the model's layout
    began in it, ms.
    """

    control: Control
    partition: int
    model: str
    start: int
    first: int | None = None
    begun: int | None = None
    _sought: Sought = field(init=False)
    _state: MonitoringState | None = None

    def __post_init__(self) -> None:
        self._sought = Sought(self.model, self.start)

    @property
    def seen(self) -> Seen | None:
        """The pane, when it has closed with events in it."""
        return self._sought.seen

    @property
    def passed(self) -> bool:
        """It has closed, with events or without."""
        model = None if self._state is None else self._state.models.get(self.model)
        return model is not None and model.closed is not None and model.closed > self.start

    @property
    def exact(self) -> bool:
        """Nothing of what the charts had heard is missing."""
        layout = self.control.layout_at(self.model, self.start)
        whole = self.first == 0
        return whole or (layout is not None and self.begun is not None and self.begun < layout.from_ms)

    def read(self, records: Sequence[Record]) -> None:
        """Take in the next records of the partition. `LateLayout` when `control` has forgotten their layout."""
        if not records:
            return
        if self._state is None:
            self.first = records[0].offset
            self._state = monitoring.start(self.control, self.partition, next_offset=self.first)
            self._state.sought = self._sought
        batch = Batch("profiles", list(records), records[-1].offset + 1)
        while True:
            self._state, _ = monitoring.apply(self._state, batch, self.control)
            model = self._state.models.get(self.model)
            if self.begun is None and model is not None:
                opened = min(model.panes, default=None) if model.closed is None else model.closed
                self.begun = opened
            if self.passed or not self._state.pending:
                return
            batch = Batch("profiles", [], batch.next_offset)


def recall(control: Control, records: Iterable[Record], *, model: str, start: int) -> Recall:
    """Read records of the model's partition until its pane at `start` has closed."""
    layout = control.layout_at(model, start)
    if layout is None:
        raise LateLayout(f"control has no layout of {model} for the pane at {start}")
    found = Recall(control=control, partition=layout.partition, model=model, start=start)
    for record in records:
        found.read([record])
        if found.passed:
            break
    return found
