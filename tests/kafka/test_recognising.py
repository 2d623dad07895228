"""A log is known by its milestones: one that was replaced is noticed whenever that was, one that was not never is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import pytest
from aiokafka import TopicPartition

from schemas.errors import PositionLost
from streamer.core.milestones import Milestone, passed
from streamer.core.records import PlainRecord
from streamer.kafka.reading import open_reader
from streamer.kafka.recognising import others, refuse_others
from streamer.kafka.simulated import SimulatedLog, SimulatedSettings

AT, OTHER = TopicPartition("predictions", 0), TopicPartition("predictions", 1)


def log_of(*values: bytes, since: int = 1_000) -> SimulatedLog:
    """A log of two partitions, of which the first holds these."""
    log = SimulatedLog({AT.topic: 2})
    for n, value in enumerate(values):
        log.partition(*AT).append(None, value, at=since + n)
    return log


def milestones_of(log: SimulatedLog, *, batch: int = 1, upto: int | None = None) -> list[Milestone]:
    """What reading the first partition in batches leaves behind."""
    found: list[Milestone] = []
    for record in log.partition(*AT).read(0, limit=len(log.partition(*AT).entries))[0][batch - 1 : upto : batch]:
        found = passed(found, record)
    return found


def strange(log: SimulatedLog, known: Mapping[TopicPartition, list[Milestone]]) -> dict[TopicPartition, int]:
    """Offsets at which a log is another one than it was."""

    async def looked() -> dict[TopicPartition, Milestone]:
        async with open_reader(SimulatedSettings(log=log), "raw", committed=False) as raw:
            return await others(raw, known, stall_s=5)

    return {at: one.offset for at, one in asyncio.run(looked()).items()}


def test_a_log_that_is_what_it_was_is_known() -> None:
    log = log_of(*(b"%d" % n for n in range(300)))
    assert strange(log, {AT: milestones_of(log, batch=7)}) == {}


@pytest.mark.parametrize("seed", range(20))
def test_another_log_is_noticed_however_much_of_it_was_read_on(seed: int) -> None:
    """It was replaced while nobody looked, and then read on from the old position for any while."""
    chance = random.Random(seed)
    old, new = ([b"%d" % chance.randrange(50) for _ in range(600)] for _ in range(2))
    position = chance.randrange(1, 200)
    there = log_of(*new, since=9_000)
    found = milestones_of(log_of(*old), upto=position)
    for record in there.partition(*AT).read(position, limit=chance.randrange(400))[0]:
        found = passed(found, record)
    assert list(strange(there, {AT: found})) == [AT]


def test_a_log_put_back_from_an_older_copy_is_noticed_by_its_newest_milestone() -> None:
    """It begins as the one that was read, and then holds other records."""
    values = [b"%d" % n for n in range(300)]
    known = milestones_of(log_of(*values))
    assert strange(log_of(*values[:280], *(b"new",) * 90), {AT: known}) == {AT: known[-3].offset}
    assert known[-4].offset < 280 <= known[-3].offset


def test_the_same_records_appended_anew_are_another_log() -> None:
    """Their append times enter what is decided."""
    values = [b"same"] * 30
    assert list(strange(log_of(*values, since=5_000), {AT: milestones_of(log_of(*values))})) == [AT]


def test_what_is_gone_says_nothing() -> None:
    """Compaction took one record, the log's end comes before another; each log is looked at by itself."""
    log = log_of(*(b"%d" % n for n in range(10)))
    known = milestones_of(log, upto=5)
    log.partition(*AT).hidden.add(known[0].offset)
    beyond = [Milestone(40, 7)]

    async def looked() -> dict[TopicPartition, Milestone]:
        async with open_reader(SimulatedSettings(log=log), "stable") as stable:
            return await others(stable, {AT: [Milestone(0, 7), *known[1:]], OTHER: beyond}, stall_s=5)

    assert asyncio.run(looked()) == {}


def test_it_is_refused_with_the_place_and_what_to_do() -> None:
    log = log_of(b"new")
    known = {AT: passed([], PlainRecord(AT.topic, 0, 0, 1_000, None, b"old")), OTHER: []}
    with pytest.raises(PositionLost, match=r"predictions/0: at 0 lies another record than was read there") as refused:
        asyncio.run(refuse_others(SimulatedSettings(log=log), "test", known))
    assert str(refused.value).endswith("was the topic made anew? Then start a new `kafka.app`")
    asyncio.run(refuse_others(SimulatedSettings(log=log), "test", {AT: milestones_of(log), OTHER: []}))
