"""What the rim relies on, of a real broker and of the simulated log alike: the laws that keep the fake honest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from brokers import eventually
from fleets import make_topics, settings_for

from schemas.errors import TaskTaken
from streamer.core.records import Output, Record
from streamer.kafka.mending import MARK_HEADER, Mark, lacking, mark_of, read_tails
from streamer.kafka.reading import ends_of, open_reader, read_between
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.simulated import SimulatedLog, SimulatedSettings
from streamer.kafka.transactions import Ledger

WINDOWS = "windows"


@pytest.fixture(params=["simulated", "kafka"])
def settings(request: pytest.FixtureRequest, prefix: str) -> Iterator[KafkaSettings]:
    """Settings of a world with topics in it: in memory, or a real broker's."""
    if request.param == "kafka":
        real = settings_for(request.getfixturevalue("kafka").bootstrap, prefix)
        make_topics(real)
        yield real
        return
    log = SimulatedLog({WINDOWS: 3, "audit": 3, "tripline-law-changelog": 3})

    async def turn(what: str) -> None:
        del what
        for name in log.ends_pending():
            while log.write_marker(name):
                pass

    yield SimulatedSettings(log=log, turn=turn)


def one_of(value: str) -> Output:
    return Output(WINDOWS, b"key", value.encode(), headers=(("by", b"law"),))


async def seen(settings: KafkaSettings) -> list[Record]:
    """What a committed reader reads of partition 0."""
    at = TopicPartition(settings.topic(WINDOWS), 0)
    reader = settings.consumer(role="law", auto_offset_reset="earliest", fetch_max_wait_ms=100)
    await reader.start()
    try:
        end = (await ends_of(reader, [at]))[at]
        return [record async for _, part in read_between(reader, {at: (0, end)}) for record in part]
    finally:
        await reader.stop()


def values(settings: KafkaSettings) -> list[str]:
    return [(record.value or b"").decode() for record in asyncio.run(seen(settings))]


def test_what_is_committed_is_seen_in_order_with_holes(settings: KafkaSettings) -> None:
    """Markers take offsets of their own; keys, values and headers arrive as they were sent."""

    async def write() -> None:
        ledger = Ledger(settings, stage="law", partition=0)
        await ledger.start()
        await ledger.write([one_of("a"), one_of("b")])
        await ledger.write([one_of("c")])
        await ledger.stop()

    asyncio.run(write())
    eventually(lambda: len(values(settings)) == 3, within=20, every=0.2)
    records = asyncio.run(seen(settings))
    assert [(record.offset, record.value) for record in records] == [(0, b"a"), (1, b"b"), (3, b"c")]
    assert {(record.key, next(iter(record.headers))) for record in records} == {(b"key", ("by", b"law"))}
    marks = [mark_of(record) for record in records]
    assert [(mark.number, mark.place) for mark in marks if mark is not None] == [(0, 0), (0, 1), (1, 0)]


def test_a_barrier_is_passed_and_never_seen(settings: KafkaSettings) -> None:
    """Its offsets are below the stable end once its marker is there; no committed reader sees its records."""

    async def write() -> dict[TopicPartition, int]:
        ledger = Ledger(settings, stage="law", partition=0)
        await ledger.start()
        passed = await ledger.abort_everywhere([TopicPartition(settings.topic(WINDOWS), q) for q in (0, 1)])
        await ledger.write([one_of("after")])
        await ledger.stop()
        return passed

    passed = asyncio.run(write())
    assert sorted(passed.values()) == [0, 0]
    eventually(lambda: values(settings) == ["after"], within=20, every=0.2)


def test_what_does_not_show_of_a_committed_transaction_is_found_and_written_again(settings: KafkaSettings) -> None:
    """Half of a transaction was aborted, as a barrier does after a crash; the other half shows. Once is enough."""
    hidden, shown = (TopicPartition(settings.topic(WINDOWS), q) for q in (0, 1))

    async def write() -> list[list[bytes | None]]:
        ledger = Ledger(settings, stage="law", partition=0)
        await ledger.start()
        await ledger.write([one_of("whole"), one_of("whole")._replace(partition=1)])
        producer: Any = ledger._producer
        for at, index, end in ((hidden, 0, "abort"), (shown, 1, "commit"), (hidden, 7, "abort")):
            mark = Mark(ledger.task, "crashed", 5 + (index == 7), index)
            await producer.begin_transaction()
            value = b"undecided" if index == 7 else b"half"
            await (await producer.send(at.topic, value, b"key", at.partition, headers=[(MARK_HEADER, mark.encode())]))
            await getattr(producer, f"{end}_transaction")()
        found = [await _mend(settings, ledger, [hidden, shown]) for _ in range(2)]
        await ledger.stop()
        return found

    assert asyncio.run(write()) == [[b"half"], []]
    eventually(lambda: values(settings) == ["whole", "half"], within=20, every=0.2)


async def _mend(settings: KafkaSettings, ledger: Ledger, logs: list[TopicPartition]) -> list[bytes | None]:
    """Values of what was written again."""
    async with open_reader(settings, "law-raw", committed=False) as raw, open_reader(settings, "law") as stable:
        passed = await ledger.abort_everywhere(logs)
        behind = passed
        while behind:
            ends = await ends_of(stable, list(behind))
            behind = {at: offset for at, offset in behind.items() if ends[at] <= offset}
            await asyncio.sleep(0.05)
        tails = await read_tails(raw, stable, passed, {at: [ledger.task] for at in logs}, stall_s=20)
    records = lacking([tails[at] for at in logs], ledger.task)
    if records:
        await ledger.write_again(records)
    return [record.value for record in records]


def test_a_new_owner_fences_the_old_one_and_ends_what_it_left_open(settings: KafkaSettings) -> None:
    """The old owner's open transaction is never seen and holds nobody up; its next word is `TaskTaken`."""

    async def write() -> None:
        old = Ledger(settings, stage="law", partition=0)
        await old.start()
        producer: Any = old._producer
        await producer.begin_transaction()
        await (await producer.send(settings.topic(WINDOWS), b"left open", b"key", 0))
        new = Ledger(settings, stage="law", partition=0)
        await new.start()
        await new.write([one_of("new")])
        with pytest.raises(TaskTaken):
            await _end(old)
        await new.write([one_of("newer")])
        await asyncio.gather(old.stop(), new.stop())

    asyncio.run(write())
    eventually(lambda: values(settings) == ["new", "newer"], within=20, every=0.2)


def test_an_open_transaction_holds_committed_readers(settings: KafkaSettings) -> None:
    """The stable end stands at its first record, whatever others commit behind it."""

    async def write() -> int:
        slow, quick = (Ledger(settings, stage="law", partition=partition) for partition in (0, 1))
        await asyncio.gather(slow.start(), quick.start())
        producer: Any = slow._producer
        await producer.begin_transaction()
        await (await producer.send(settings.topic(WINDOWS), b"open", b"key", 0))
        await quick.write([one_of("behind")._replace(partition=0)])
        before = len(await seen(settings))
        await producer.commit_transaction()
        await asyncio.gather(slow.stop(), quick.stop())
        return before

    assert asyncio.run(write()) == 0
    eventually(lambda: values(settings) == ["open", "behind"], within=20, every=0.2)


async def _end(ledger: Ledger) -> None:
    """Commit by the ledger's own rules for errors."""
    producer: Any = ledger._producer
    async with ledger._bounded("transaction"):
        await producer.commit_transaction()
