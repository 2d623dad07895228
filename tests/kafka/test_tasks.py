"""A task's batches: when one is due, what is in it, and that applying runs one commit ahead and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.errors import LateLayout, ProtocolBroken, TriplineError
from streamer.core.control import Control
from streamer.core.records import Batch, Output, PlainRecord
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Counts
from streamer.kafka.tasks import Intake, Status, Task

SETTINGS = KafkaSettings(bootstrap_servers="", batch_rows=10, linger_ms=100, slow_linger_ms=500, tick_ms=1_000)


def records(*offsets: int, size: int = 1, at_ms: int = 0) -> list[Any]:
    return [PlainRecord("t", 0, offset, at_ms, b"", b"x" * size) for offset in offsets]


class Noting:
    """A stage that notes its batches. boundary_ms: of the next pane's end; late: how often a layout is missing."""

    name, inputs, writes, spreads = "profiling", ("predictions", "features"), (), ()
    begins, reasons, awaits_control = None, (), True

    def __init__(self, *, ticks: bool = True, boundary_ms: int | None = None, late: int = 0) -> None:
        self.ticks, self.boundary_ms, self.late = ticks, boundary_ms, late
        self.batches: list[Batch] = []
        self.more = False

    def apply(self, control: Control, state: Any, batch: Batch) -> tuple[Any, list[Output]]:
        if self.late:
            self.late -= 1
            raise LateLayout("not yet")
        self.batches.append(batch)
        state[batch.input] = batch.next_offset
        return state, [Output("changelog", b"position", b"x")]

    def positions(self, state: Any) -> Mapping[str, int]:
        return dict(state)

    reached = positions

    def pending(self, state: Any) -> bool:
        return self.more

    def boundary(self, control: Control, after_ms: int) -> int | None:
        return self.boundary_ms

    def counts(self, state: Any) -> Counts:
        return Counts(0, 0, {})


class Slow:
    """A ledger whose transactions end when they are let go."""

    def __init__(self) -> None:
        self.written: list[list[Output]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def write(self, outputs: Iterable[Output]) -> None:
        await self.gate.wait()
        self.gate.clear()
        if self.error is not None:
            raise self.error
        self.written.append(list(outputs))


class Deaf:
    """A sensor."""

    def restored(self, partition: int, counts: Counts) -> None: ...
    def committed(self, partition: int, counts: Counts, seconds: float) -> None: ...
    def gone(self, partition: int) -> None: ...


class Bench:
    """A ready task with a slow ledger, and what it said."""

    def __init__(self, stage: Noting | None = None, settings: KafkaSettings = SETTINGS) -> None:
        self.stage, self.ledger = stage or Noting(), Slow()
        self.failures: list[Exception] = []
        self.freed = 0
        self.control = Control()
        self.task = Task(
            settings,
            self.stage,  # type: ignore[arg-type]
            partition=0,
            ledger=self.ledger,
            control=lambda: self.control,
            failed=self.failures.append,
            freed=self._note,
            sensor=Deaf(),
        )
        self.task.open({"predictions": 0, "features": 0}, [])

    def _note(self, task: Task) -> None:
        self.freed += 1

    def feed(self, *offsets: int, name: str = "predictions", now: float, at_ms: int = 0) -> None:
        self.task.intakes[name].add(records(*offsets, at_ms=at_ms), reached=offsets[-1] + 1, now=now)

    async def commit(self) -> None:
        self.ledger.gate.set()
        for _ in range(10):
            await asyncio.sleep(0)


def first_tick(bench: Bench) -> None:
    """The batch that writes the first position; a task has it as soon as it is ready."""
    batch = bench.task.offer(now=100.0)
    assert batch is not None
    bench.task.take(batch)


def test_an_intake_ignores_what_it_has_and_cuts_by_rows_and_bytes() -> None:
    intake = Intake("predictions", TopicPartition("p", 0))
    intake.add(records(0, 1, 2), reached=3, now=0.0)
    intake.add(records(1, 2, 3, 7), reached=8, now=0.0)
    assert [record.offset for record in intake.cut(rows=2, size=100)[0]] == [0, 1]
    chunk, following = intake.cut(rows=2, size=100)
    assert ([record.offset for record in chunk], following) == ([2, 3], 7)
    assert intake.cut(rows=9, size=100)[1] == 8


def test_a_batch_is_bounded_by_bytes_but_one_record_always_goes() -> None:
    intake = Intake("predictions", TopicPartition("p", 0))
    intake.add(records(0, 1, 2, size=60), reached=3, now=0.0)
    assert len(intake.cut(rows=9, size=130)[0]) == 2
    assert len(intake.cut(rows=9, size=1)[0]) == 1


async def test_a_new_task_writes_its_position_before_anything_comes() -> None:
    """Else a crash before the first event would lose `latest`."""
    bench = Bench()
    first_tick(bench)
    await bench.commit()
    assert [batch.records for batch in bench.stage.batches] == [[]]
    assert len(bench.ledger.written) == 1


@pytest.mark.parametrize(("caught_up", "waits_s"), [(True, 0.1), (False, 0.5)])
async def test_a_part_of_a_batch_waits_longer_while_there_is_more_in_the_log(caught_up: bool, waits_s: float) -> None:
    bench = Bench(settings=replace(SETTINGS, slow_rows=0))
    first_tick(bench)
    await bench.commit()
    bench.feed(0, 1, now=100.1)
    bench.task.intakes["predictions"].caught_up = caught_up
    assert bench.task.wait(now=100.1) == pytest.approx(waits_s)
    assert bench.task.offer(now=100.1 + waits_s - 0.01) is None
    assert bench.task.offer(now=100.1 + waits_s + 0.01) is not None


async def test_few_rows_linger_and_many_do_not() -> None:
    bench = Bench()
    first_tick(bench)
    await bench.commit()
    bench.feed(0, 1, now=100.1)
    assert bench.task.offer(now=100.3) is None
    batch = bench.task.offer(now=100.61)
    assert batch is not None
    assert len(batch.records) == 2
    bench.task.take(batch)
    await bench.commit()
    bench.feed(*range(2, 14), now=100.7)
    full = bench.task.offer(now=100.7)
    assert full is not None
    assert (len(full.records), full.next_offset) == (10, 12)


async def test_a_panes_end_flushes_at_once() -> None:
    bench = Bench(Noting(boundary_ms=60_000))
    first_tick(bench)
    await bench.commit()
    bench.feed(0, now=101.0, at_ms=59_000)
    batch = bench.task.offer(now=101.6)
    assert batch is not None
    bench.task.take(batch)
    await bench.commit()
    bench.feed(1, now=101.7, at_ms=59_500)
    assert bench.task.offer(now=101.7) is None
    bench.feed(2, now=101.71, at_ms=60_001)
    assert bench.task.offer(now=101.71) is not None


async def test_the_input_with_the_older_record_goes_first() -> None:
    bench = Bench()
    bench.feed(0, now=0.0, at_ms=2_000)
    bench.feed(0, name="features", now=0.0, at_ms=1_000)
    batch = bench.task.offer(now=10.0)
    assert batch is not None
    assert batch.input == "features"


async def test_it_ticks_and_says_whether_it_had_read_to_the_end() -> None:
    bench = Bench()
    first_tick(bench)
    await bench.commit()
    assert bench.task.offer(now=100.9) is None
    for intake in bench.task.intakes.values():
        intake.caught_up = True
    tick = bench.task.offer(now=101.1)
    assert tick is not None
    assert (tick.records, tick.caught_up) == ([], True)


async def test_a_hole_in_the_log_is_recorded_by_a_tick() -> None:
    bench = Bench()
    first_tick(bench)
    await bench.commit()
    bench.task.intakes["features"].add([], reached=5, now=100.5)
    tick = bench.task.offer(now=101.5)
    assert tick is not None
    assert (tick.input, tick.next_offset) == ("features", 5)


async def test_pending_work_needs_no_input() -> None:
    bench = Bench(Noting(ticks=False))
    first_tick(bench)
    await bench.commit()
    assert bench.task.offer(now=110.0) is None
    bench.stage.more = True
    assert bench.task.offer(now=110.0) is not None


async def test_one_batch_is_applied_ahead_of_the_commit_and_no_more() -> None:
    bench = Bench()
    first_tick(bench)
    await asyncio.sleep(0)
    bench.feed(*range(10), now=101.0)
    ahead = bench.task.offer(now=101.0)
    assert ahead is not None
    bench.task.take(ahead)
    bench.feed(*range(10, 20), now=101.0)
    assert bench.task.offer(now=101.0) is None
    await bench.commit()
    assert bench.freed == 1
    assert bench.task.offer(now=101.0) is not None


async def test_a_failed_commit_ends_the_worker_and_closes_the_task() -> None:
    bench = Bench()
    bench.ledger.error = TriplineError("gone")
    first_tick(bench)
    await bench.commit()
    assert [str(error) for error in bench.failures] == ["gone"]
    assert bench.task.status is Status.CLOSED
    assert bench.task.quiet


async def test_a_closed_task_takes_nothing() -> None:
    bench = Bench()
    batch = bench.task.offer(now=100.0)
    assert batch is not None
    bench.task.close()
    bench.task.take(batch)
    assert bench.stage.batches == []


async def test_a_batch_from_before_the_position_is_never_counted() -> None:
    bench = Bench()
    bench.task.open({"predictions": 5, "features": 0}, [])
    bench.task.take(Batch("predictions", records(4, 5), 6))
    assert [type(error) for error in bench.failures] == [ProtocolBroken]
    assert bench.stage.batches == []


@pytest.mark.parametrize("late", [1, 3])
async def test_a_layout_that_another_worker_knows_already_is_waited_for(late: int) -> None:
    bench = Bench(Noting(late=late))
    first_tick(bench)
    while not bench.stage.batches:
        await asyncio.sleep(0.01)
    await bench.commit()
    assert bench.failures == []
    assert len(bench.ledger.written) == 1


class Paired(Noting):
    """A stage whose two inputs are joined."""

    inputs = ("predictions", "outcomes")


def paired() -> tuple[Bench, Intake, Intake]:
    bench = Bench(Paired())
    return bench, bench.task.intakes["predictions"], bench.task.intakes["outcomes"]


def test_a_joined_input_waits_for_the_other_whose_log_holds_more() -> None:
    """For a second: a fetch is about to bring what may be older."""
    bench, predictions, outcomes = paired()
    predictions.add(records(*range(10)), reached=10, now=0.0)
    assert bench.task.offer(0.0) is None
    assert (bench.task.wait(0.25), bench.task.hungry) == (0.75, [outcomes])
    batch = bench.task.offer(1.0)
    assert batch is not None
    assert len(batch.records) == 10


def test_a_joined_input_does_not_wait_for_one_that_was_read_to_its_end() -> None:
    bench, predictions, outcomes = paired()
    outcomes.caught_up = True
    predictions.add(records(*range(10)), reached=10, now=0.0)
    assert bench.task.hungry == []
    assert bench.task.offer(0.0) is not None


def test_a_joined_input_is_read_no_further_than_a_little_ahead_of_the_other() -> None:
    bench, predictions, outcomes = paired()
    early, late = records(0, 1, 2), records(3, 4, 5, 6, 7, 8, 9, at_ms=60_000)
    predictions.add(early + late, reached=10, now=0.0)
    outcomes.add(records(0, at_ms=1_000), reached=1, now=0.0)
    batch = bench.task.offer(0.0)
    assert batch is not None
    assert (batch.input, len(batch.records), batch.next_offset) == ("predictions", 3, 3)
    assert predictions.head_ms == 60_000
