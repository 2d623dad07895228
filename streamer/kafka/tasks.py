"""A task: partition p of a stage's inputs, its pure state, its ledger, and what waits to be applied or committed.

At most one batch is with the agent and one commit in flight: the next batch is applied while the last one is
committed, and then waits. All calls come from one event loop; nothing here awaits but the commit itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition

from schemas.errors import LateLayout, ProtocolBroken
from streamer.core.control import Control
from streamer.core.records import Batch, Output, Record
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Counts, Sensor, Stage

#: How far this worker's `control` may lag behind another one's.
_CONTROL_LAG_S = 10.0
#: How many times longer a batch waits to be full while there is more in the log.
_BEHIND = 5.0
#: Inputs that are joined: read side by side, by append time.
_PAIRED = frozenset({"predictions", "outcomes"})
#: How far one of them may be read ahead of the other: far less than an outcome may be early, so that few have to wait,
#: and far more than a batch spans, so that batches stay whole.
_LEAD_MS = 10_000
#: How long one of them waits for the other where that one's log holds more, and a fetch is yet to bring it.
_PATIENCE_S = 1.0


class Status(Enum):
    """Life of a task on this worker."""

    RESTORING = "restoring"
    READY = "ready"
    CLOSED = "closed"


class Intake:
    """Records of one input that were fetched and not yet cut into a batch.

    begin: the next offset to cut. reached: where the consumer went on after what is here; the log may have holes.
    caught_up: at the last fetch there was nothing beyond `reached`.
    """

    def __init__(self, name: str, at: TopicPartition) -> None:
        self.name, self.at = name, at
        self.reached = 0
        self.caught_up = False
        self.since = 0.0
        self._records: list[Record] = []
        self._first = 0

    @property
    def rows(self) -> int:
        """Records that wait."""
        return len(self._records) - self._first

    @property
    def head_ms(self) -> int:
        """Append time of the next record."""
        return self._records[self._first].timestamp

    @property
    def tail_ms(self) -> int:
        """Append time of the last record."""
        return self._records[-1].timestamp

    def reset(self, position: int) -> None:
        """Nothing waits; reading goes on at `position`."""
        self._records, self._first = [], 0
        self.reached, self.caught_up = position, False

    def add(self, records: list[Record], *, reached: int, now: float) -> None:
        """Take in what a fetch gave; records before `reached` so far were seen already and are ignored."""
        if records and records[0].offset < self.reached:
            records = [record for record in records if record.offset >= self.reached]
        if records:
            if not self.rows:
                self._records, self._first, self.since = records, 0, now
            else:
                self._records = self._records[self._first :] + records
                self._first = 0
        self.reached = max(self.reached, reached)

    def cut(self, *, rows: int, size: int, until_ms: int | None = None) -> tuple[list[Record], int]:
        """At most `rows` records of at most `size` bytes together (one at least), and the next offset after them.

        until_ms: the batch ends before the first record, but the very first, that was appended later.
        """
        last = min(self._first + rows, len(self._records))
        if until_ms is not None and self._records[last - 1].timestamp > until_ms:
            first = self._first
            last = next(at for at in range(first, last) if self._records[at].timestamp > until_ms or at == last - 1)
            last = max(last, first + 1)
        chunk = _within(self._records[self._first : last], size)
        self._first += len(chunk)
        if self.rows:
            return chunk, self._records[self._first].offset
        self._records, self._first = [], 0
        return chunk, self.reached


def _within(records: list[Record], size: int) -> list[Record]:
    """The first of `records` that are of at most `size` bytes together, one at least."""
    with contextlib.suppress(TypeError):  # a tombstone has no length
        if sum(map(len, map(_value_of, records))) <= size:
            return records
    total = 0
    for n, record in enumerate(records):
        total += len(record.value or b"")
        if total > size and n:
            return records[:n]
    return records


_value_of = attrgetter("value")


class Work(NamedTuple):
    """What travels to an agent: a batch, and the task that it is for."""

    task: Task
    batch: Batch


class Writes(Protocol):
    """Where outputs go, all of them or none; streamer/kafka/transactions.py is the real one."""

    async def write(self, outputs: Iterable[Output]) -> None:
        """Raises when they are not there for good."""


class Task:
    """Partition `partition` of `stage`. `failed` is told of what ends the worker, `freed` that it can take more."""

    def __init__(
        self,
        settings: KafkaSettings,
        stage: Stage,
        *,
        partition: int,
        ledger: Writes,
        control: Callable[[], Control],
        failed: Callable[[Exception], None],
        freed: Callable[[Task], None],
        sensor: Sensor,
    ) -> None:
        self.stage, self.partition = stage, partition
        self.ledger = ledger
        self.intakes = {name: Intake(name, TopicPartition(settings.topic(name), partition)) for name in stage.inputs}
        self.status = Status.RESTORING
        self.queued = False
        self.committed_positions: dict[str, int] = {}
        self.commit_began: float | None = None
        self._settings, self._control, self._failed, self._freed = settings, control, failed, freed
        self._sensor = sensor
        self._state: Any = None
        self._notes: list[Output] = []
        self._held: tuple[list[Output], Counts, dict[str, int]] | None = None
        self._commit: asyncio.Task[None] | None = None
        self._last_batch = 0.0
        self._control_offset = -1
        self._boundary: int | None = None
        self._rows = settings.batch_rows
        self._late_since: float | None = None
        self._pace = 0.0  # rows a second, smoothed

    @property
    def name(self) -> str:
        """`stage/partition`."""
        return f"{self.stage.name}/{self.partition}"

    @property
    def state(self) -> Any:
        """The stage's own state, for gauges; one batch ahead of what is committed, at most."""
        return self._state

    @property
    def rows_bound(self) -> int:
        """Rows of its next batch at most: half of the last one's while outputs are larger than `batch_bytes`."""
        return self._rows

    @property
    def quiet(self) -> bool:
        """Nothing is with the agent or on its way to the broker."""
        return not self.queued and self._held is None and self._commit is None

    @property
    def hungry(self) -> list[Intake]:
        """Inputs of which it wants more records: all, or else those that the others wait for."""
        if self.status is not Status.READY:
            return []
        intakes = list(self.intakes.values())
        return intakes if sum(intake.rows for intake in intakes) < self._rows else self._lacking()

    def open(self, state: Any, notes: list[Output]) -> None:
        """It is restored: reading goes on at the state's positions; `notes` go out with its first transaction."""
        self._state, self._notes = state, notes
        for name, position in self.stage.reached(state).items():
            if name in self.intakes:
                self.intakes[name].reset(position)
        self._sensor.restored(self.partition, self.stage.counts(state))
        self.committed_positions = dict(self.stage.positions(state))
        self.status = Status.READY

    def close(self) -> None:
        """It is another worker's now, or nobody's; what is in flight may end or not."""
        self.status = Status.CLOSED
        self._sensor.gone(self.partition)

    def offer(self, now: float) -> Batch | None:
        """The next batch when one is due at `now` (monotonic seconds), with the next offset after it."""
        if self.status is not Status.READY or self.queued or self._held is not None:
            return None
        chosen = self._next_intake()
        if chosen is not None and self._held_back(chosen, now):
            return None
        if chosen is not None and self._due(chosen, now):
            until_ms = self._until(chosen)
            records, next_offset = chosen.cut(rows=self._rows, size=self._settings.batch_bytes, until_ms=until_ms)
            self._note_pace(len(records), now)
            if self._boundary is None or records[-1].timestamp >= self._boundary:
                self._boundary = self.stage.boundary(self._control(), records[-1].timestamp)
            return self._batch(chosen, records, next_offset, now)
        if chosen is None and self._wants_empty(now):
            # An input whose position moved over a hole goes first, so that the hole is recorded.
            known = self.stage.reached(self._state)
            behind = [intake for intake in self.intakes.values() if intake.reached != known[intake.name]]
            intake = behind[0] if behind else next(iter(self.intakes.values()))
            return self._batch(intake, [], intake.reached, now)
        return None

    def wait(self, now: float) -> float:
        """Seconds until `offer` may give something without new records."""
        if self.status is not Status.READY or self.queued or self._held is not None:
            return 1.0
        chosen = self._next_intake()
        if chosen is not None:
            patience = _PATIENCE_S if self._held_back(chosen, now) else 0.0
            return max(0.0, chosen.since + max(patience, self._linger(chosen)) - now)
        if self.stage.pending(self._state):
            return 0.0
        return max(0.0, self._last_batch + self._settings.tick_ms / 1000 - now) if self.stage.ticks else 1.0

    def take(self, batch: Batch) -> None:
        """Apply a batch and see it committed: what an agent calls. Never raises: a failure ends the worker."""
        self.queued = False
        if self.status is not Status.READY:
            return
        try:
            known = self.stage.reached(self._state)[batch.input]
            if batch.records and batch.records[0].offset < known:
                raise ProtocolBroken(f"task {self.name}: a batch begins at {batch.records[0].offset}, before {known}")
            self._state, outputs = self.stage.apply(self._control(), self._state, batch)
            reached = self.stage.reached(self._state)[batch.input]
            if reached != batch.next_offset:
                raise ProtocolBroken(f"task {self.name}: {batch.input} at {reached}, not {batch.next_offset}")
            size = sum(len(output.value or b"") for output in outputs)
            # The size of outputs is known too late to bound this batch; it bounds the next one.
            self._rows = max(1, self._rows // 2) if size > self._settings.batch_bytes else self._settings.batch_rows
        except LateLayout as error:
            self._await_control(batch, error)
            return
        except Exception as error:
            self._failed(error)
            return
        self._late_since = None
        if not outputs:
            self._freed(self)
            return
        outputs, self._notes = [*self._notes, *outputs], []
        self._held = (outputs, self.stage.counts(self._state), dict(self.stage.positions(self._state)))
        if self._commit is None:
            self._commit = asyncio.create_task(self._commit_held(), name=f"commit {self.name}")

    def _await_control(self, batch: Batch, error: LateLayout) -> None:
        """Another worker may have learned of a layout before us: the batch comes again when `control` has moved."""
        now = time.monotonic()
        if self._late_since is None:
            self._late_since = now
        if not self.stage.awaits_control or now > self._late_since + _CONTROL_LAG_S:
            self._failed(error)
            return
        self.queued = True
        asyncio.get_running_loop().call_later(0.05, self.take, batch)

    def _next_intake(self) -> Intake | None:
        waiting = [intake for intake in self.intakes.values() if intake.rows]
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda intake: intake.head_ms)

    def _lacking(self) -> list[Intake]:
        """Joined inputs of which nothing is here while their log holds more."""
        paired = [intake for intake in self.intakes.values() if intake.name in _PAIRED]
        return [intake for intake in paired if not intake.rows and not intake.caught_up] if len(paired) > 1 else []

    def _held_back(self, chosen: Intake, now: float) -> bool:
        """True while what is next in the other joined input may be older than what is next here."""
        return chosen.name in _PAIRED and now < chosen.since + _PATIENCE_S and bool(self._lacking())

    def _until(self, chosen: Intake) -> int | None:
        """Append time that a batch of `chosen` may reach, by what is next in the other joined input."""
        if chosen.name not in _PAIRED:
            return None
        others = [one for one in self.intakes.values() if one.name in _PAIRED and one is not chosen and one.rows]
        return min(one.head_ms for one in others) + _LEAD_MS if others else None

    def _due(self, intake: Intake, now: float) -> bool:
        if intake.rows >= self._rows or now >= intake.since + self._linger(intake):
            return True
        return self._boundary is not None and intake.tail_ms >= self._boundary

    def _linger(self, intake: Intake) -> float:
        """Seconds: longer where few rows come, for a small batch costs as much as a large one."""
        short = self._settings.linger_ms / 1000
        if self.stage.ticks and not intake.caught_up:
            # The next fetch brings more.
            return short * _BEHIND
        if not self.stage.ticks or self._pace * short >= self._settings.slow_rows:
            return short
        return max(short, self._settings.slow_linger_ms / 1000)

    def _note_pace(self, rows: int, now: float) -> None:
        elapsed = max(now - self._last_batch, 1e-3) if self._last_batch else 1.0
        weight = min(1.0, elapsed)
        self._pace += weight * (rows / elapsed - self._pace)

    def _wants_empty(self, now: float) -> bool:
        if self.stage.pending(self._state) or self._control().offset != self._control_offset:
            return True
        return self.stage.ticks and now >= self._last_batch + self._settings.tick_ms / 1000

    def _batch(self, intake: Intake, records: list[Record], next_offset: int, now: float) -> Batch:
        self._last_batch = now
        self._control_offset = self._control().offset
        self.queued = True
        everything = all(not other.rows and other.caught_up for other in self.intakes.values())
        return Batch(intake.name, records, next_offset, everything)

    async def _commit_held(self) -> None:
        try:
            while self._held is not None:
                outputs, counts, positions = self._held
                self._held = None
                began = self.commit_began = time.monotonic()
                await self.ledger.write(outputs)
                self.commit_began, self.committed_positions = None, positions
                self._sensor.committed(self.partition, counts, time.monotonic() - began)
                self._freed(self)
        except Exception as error:
            if self.status is not Status.CLOSED:
                self._failed(error)
                self.close()
            self._held = None
        finally:
            self.commit_began = None
            self._commit = None
