"""What of a committed transaction does not show is found, however far back, and nothing else is taken for it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from streamer.core.records import Output
from streamer.kafka import mending
from streamer.kafka.mending import MARK_HEADER, Mark, Tail, lacking, read_tails
from streamer.kafka.reading import open_reader
from streamer.kafka.simulated import SimulatedLog, SimulatedSettings
from streamer.kafka.transactions import Ledger

CHANGELOG, WINDOWS = TopicPartition("tripline-monitoring-changelog", 0), TopicPartition("windows", 0)
TASK = "tripline.monitoring.0"


def log_of() -> SimulatedLog:
    return SimulatedLog({CHANGELOG.topic: 1, WINDOWS.topic: 1})


def settle(log: SimulatedLog, *, lost: TopicPartition | None = None) -> None:
    """Write the markers that are due, but that of a partition."""
    log.lose_markers(TASK, [] if lost is None else [lost])
    while log.write_marker(TASK):
        pass


async def wrote(log: SimulatedLog, *, batches: int, lost: int = -1) -> Ledger:
    """A task that has written some batches; of one of them the window's marker is lost."""

    async def turn(what: str) -> None:
        del what
        for name in log.ends_pending():
            while log.write_marker(name):
                pass

    ledger = Ledger(SimulatedSettings(log=log, turn=turn), stage="monitoring", partition=0)
    await ledger.start()
    for n in range(batches):
        producer = ledger._producer
        await producer.begin_transaction()
        for place, at in enumerate((CHANGELOG, WINDOWS)):
            if at == CHANGELOG or n <= max(lost, 0):
                mark = Mark(TASK, "owner", n, place).encode()
                await producer.send(at.topic, b"%d" % n, b"key", 0, headers=[(MARK_HEADER, mark)])
        producer._log.end(TASK, producer._epoch, "commit")
        settle(log, lost=WINDOWS if n == lost else None)
    return ledger


async def tails_of(log: SimulatedLog, ledger: Ledger) -> dict[TopicPartition, Tail]:
    settings = ledger._settings
    ends = await ledger.abort_everywhere([CHANGELOG, WINDOWS])
    async with open_reader(settings, "raw", committed=False) as raw, open_reader(settings, "stable") as stable:
        return await read_tails(raw, stable, ends, {at: [TASK] for at in ends}, stall_s=5)


def test_a_window_that_was_lost_long_ago_is_found() -> None:
    """Nothing was written to that log since; five hundred batches and forty barriers passed elsewhere or there."""

    async def story() -> list[bytes | None]:
        log = log_of()
        ledger = await wrote(log, batches=500, lost=1)
        for _ in range(40):
            await ledger.abort_everywhere([CHANGELOG, WINDOWS])
        return [record.value for record in lacking((await tails_of(log, ledger)).values(), TASK)]

    assert asyncio.run(story()) == [b"1"]


def test_a_log_is_read_back_to_what_shows_and_no_further() -> None:
    async def story() -> tuple[int, int]:
        log = log_of()
        tails = await tails_of(log, await wrote(log, batches=500))
        return tails[CHANGELOG].begin, log.partitions[CHANGELOG].end

    begin, end = asyncio.run(story())
    assert end - 20 < begin < end


def of_others(log: SimulatedLog, n: int) -> None:
    for _ in range(n):
        log.partition(*WINDOWS).append(b"key", b"other", headers=[(MARK_HEADER, Mark("another", "o", 0, 0).encode())])


def test_a_log_is_read_back_as_far_as_it_takes_where_its_task_is_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others have written there meanwhile, more than any bound: it is found, what others wrote is not kept, and the
    log says why this takes long.
    """
    monkeypatch.setattr(mending, "_FURTHEST", 100)

    async def story() -> Tail:
        log = log_of()
        ledger = await wrote(log, batches=3, lost=1)
        of_others(log, 5_000)
        tails = await tails_of(log, ledger)
        assert [record.value for record in lacking(tails.values(), TASK)] == [b"1"]
        return tails[WINDOWS]

    with caplog.at_level("WARNING"):
        tail = asyncio.run(story())
    assert (tail.begin, len(tail.records)) == (0, 2)
    assert "windows/0: nothing of ['tripline.monitoring.0'] in the last 4096 offsets: reads on" in caplog.text


def test_a_task_of_which_nothing_shows_anywhere_does_not_read_all_that_others_wrote(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a new `kafka.app` on topics of another one."""
    monkeypatch.setattr(mending, "_FURTHEST", 100)

    async def story() -> int:
        log = log_of()
        ledger = await wrote(log, batches=0)
        of_others(log, 5_000)
        return (await tails_of(log, ledger))[WINDOWS].begin

    with caplog.at_level("INFO"):
        assert asyncio.run(story()) > 4_000
    assert "in the last 256 offsets, nor elsewhere" in caplog.text


def test_what_was_written_again_is_not_written_again() -> None:
    async def story() -> list[list[bytes | None]]:
        log = log_of()
        ledger, found = await wrote(log, batches=3, lost=1), []
        for _ in range(2):
            records = lacking((await tails_of(log, ledger)).values(), TASK)
            found.append([record.value for record in records])
            await ledger.write_again(records)
        return found

    assert asyncio.run(story()) == [[b"1"], []]


def test_what_was_committed_and_has_not_been_seen_is_known_until_it_is() -> None:
    """Of its own partitions: those that others write too may be held up by them."""

    async def story() -> list[list[TopicPartition]]:
        log = log_of()
        ledger = await wrote(log, batches=0)
        await ledger.write([Output("windows", b"key", b"shared", 0), Output("changelog", b"key", b"own")])
        before = ledger.unseen
        return [before, list(ledger.hidden({CHANGELOG: 0})), list(ledger.hidden({CHANGELOG: 1})), ledger.unseen]

    assert asyncio.run(story()) == [[CHANGELOG], [CHANGELOG], [], []]


def test_what_was_seen_says_nothing_of_what_was_committed_after_it() -> None:
    async def story() -> list[list[TopicPartition]]:
        log = log_of()
        ledger = await wrote(log, batches=0)
        for value in (b"first", b"second"):
            await ledger.write([Output("changelog", b"key", value)])
        last = max(record.offset for record in (await tails_of(log, ledger))[CHANGELOG].records)
        return [list(ledger.hidden({CHANGELOG: end})) for end in (last, last + 1)]

    assert asyncio.run(story()) == [[CHANGELOG], []]
