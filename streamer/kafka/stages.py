"""What the rim knows of a stage: a pure module seen through one narrow protocol, the same for both stages and for toys.

Why: crash safety is proved once, for any stage that keeps to this, with a stage that merely counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from streamer.core.control import Control
from streamer.core.milestones import Milestone
from streamer.core.records import Batch, Output, Record


class Counts(NamedTuple):
    """Totals of a task since its first start, from its position: `consumed == applied + sum(drops)`, and what waits.

    more: further totals of the stage's own, by (metric, state), the state "" where there is none.
    """

    consumed: int
    applied: int
    drops: Mapping[str, int]
    more: Mapping[tuple[str, str], int] = {}


class Stage(Protocol):
    """A pure stage. A state is whatever `start` and `restore` return; it may be changed in place by `apply`.

    name: `profiling` or `monitoring`; part of group, transactional id and changelog. inputs: logical topics, the same
    partition of each is one task. writes: logical topics of which a task writes its own partition; spreads: those of
    which it may write every partition. ticks: it wants an empty batch at least once a second. begins: where it starts
    without a position; None: as the configuration says. reasons: every reason it may drop for.
    awaits_control: a `LateLayout` of `apply` leaves the state as it was, and a newer control may mend it.
    """

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def writes(self) -> tuple[str, ...]: ...
    @property
    def spreads(self) -> tuple[str, ...]: ...
    @property
    def ticks(self) -> bool: ...
    @property
    def begins(self) -> str | None: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...

    @property
    def awaits_control(self) -> bool: ...

    def start(self, control: Control, partition: int, positions: Mapping[str, int]) -> Any:
        """State of a task that has no changelog; it reads on from `positions`."""

    def restore(self, control: Control, partition: int, records: Iterable[tuple[bytes, bytes]]) -> Any:
        """State from the latest value of each key of the changelog."""

    def replay_from(self, state: Any) -> int | None:
        """First offset of the (single) input that `replay` needs; None: nothing to replay."""

    def replay(self, control: Control, state: Any, records: Sequence[Record]) -> Any:
        """Rebuild what the changelog leaves out; called with consecutive pieces of the input up to the position."""

    def verify(self, control: Control, state: Any) -> Any:
        """The state after restore and replay; `ProtocolBroken` when its digest differs."""

    def apply(self, control: Control, state: Any, batch: Batch) -> tuple[Any, list[Output]]:
        """The stage itself."""

    def positions(self, state: Any) -> Mapping[str, int]:
        """Next offset of each input, as in the position record: from there a restored task goes on."""

    def reached(self, state: Any) -> Mapping[str, int]:
        """Where reading stands: further on than `positions` while records wait in the state."""

    def milestones(self, state: Any) -> Mapping[str, Sequence[Milestone]]:
        """Records of each input by which its log is known again; none where another log is noticed anyway."""

    def moved(self, state: Any, positions: Mapping[str, int]) -> Any:
        """State that reads on elsewhere, after an accepted gap, which its accounts show."""

    def pending(self, state: Any) -> bool:
        """There is more to do without new input."""

    def boundary(self, control: Control, after_ms: int) -> int | None:
        """Next append time after `after_ms` that is worth a batch at once (a pane's end); None: there is none."""

    def counts(self, state: Any) -> Counts:
        """Totals, for metrics."""


class Sensor(Protocol):
    """Who is told what the tasks of a stage do."""

    def restored(self, partition: int, counts: Counts) -> None:
        """A task is ready, with these totals."""

    def committed(self, partition: int, counts: Counts, seconds: float) -> None:
        """Its totals after a transaction, and how long that took."""

    def gone(self, partition: int) -> None:
        """It is another worker's now."""
