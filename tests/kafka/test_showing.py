"""Whichever markers of a command's transaction a crash loses, it shows whole and once before the command says so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from schemas.errors import BrokerUnavailable
from streamer.core.records import Output
from streamer.kafka.reading import open_reader
from streamer.kafka.showing import show_all
from streamer.kafka.simulated import SimulatedLog, SimulatedSettings
from streamer.kafka.transactions import Ledger

INPUT, LETTERS, AUDIT = (TopicPartition(name, 0) for name in ("predictions", "dead-letter", "audit"))
EVERY = (INPUT, LETTERS, AUDIT)
SAID = [Output(at.topic, b"key", value, 0) for at in EVERY for value in (b"one", b"two")]


def written(
    *lost: Sequence[TopicPartition], patience_s: float = 0.0, others: bool = False
) -> tuple[SimulatedLog, int | BrokerUnavailable]:
    """A transaction whose markers in `lost` a crash takes, and those of what follows it; and what came of it.

    others: another writer's transaction is open in the input.
    """
    log, crashes = SimulatedLog({at.topic: 1 for at in EVERY}), list(lost)

    async def turn(what: str) -> None:
        del what
        for name in log.ends_pending():
            if log.ending(name) == "commit" and crashes:
                log.lose_markers(name, [at for at in crashes.pop(0) if at in log.pending(name)])
            while log.write_marker(name):
                pass

    async def story() -> int | BrokerUnavailable:
        settings = SimulatedSettings(log=log, turn=turn)
        ledger = Ledger(settings, stage="dlq", partition=0)
        await ledger.start()
        if others:
            log.send("theirs", log.begin("theirs"), INPUT, b"key", b"theirs")
        async with open_reader(settings, "raw", committed=False) as raw, open_reader(settings, "stable") as stable:
            begins = await raw.end_offsets(list(EVERY))
            await ledger.write(SAID)
            try:
                return await show_all(ledger, raw, stable, begins, patience_s=patience_s)
            except BrokerUnavailable as error:
                return error

    return log, asyncio.run(story())


@pytest.mark.parametrize("lost", [some for n in range(4) for some in itertools.combinations(EVERY, n)])
def test_a_transaction_shows_whole_and_once(lost: tuple[TopicPartition, ...]) -> None:
    log, again = written(lost)
    assert [[one.value for one in log.visible(at.topic)] for at in EVERY] == [[b"one", b"two"]] * 3
    assert again == 2 * len(lost)


def test_a_second_crash_changes_nothing() -> None:
    """It takes a marker of the repair."""
    log, again = written([INPUT, AUDIT], [AUDIT])
    assert [[one.value for one in log.visible(at.topic)] for at in EVERY] == [[b"one", b"two"]] * 3
    assert again == 6


def test_a_broker_that_crashes_at_each_repair_is_said_to() -> None:
    _, error = written(*[[INPUT]] * 4)
    assert str(error) == "2 records that were committed do not show, though written again and again"


def test_what_others_hide_is_said() -> None:
    log, error = written(others=True)
    assert "another writer's open transaction hides the end of predictions/0, so whether it shows" in str(error)
    assert [one.value for one in log.visible("audit")] == [b"one", b"two"]
