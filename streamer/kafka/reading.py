"""Readers of logs: clients without a group, from one offset to another, however long the broker takes to answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import AccessDenied, BrokerUnavailable
from streamer.core.records import Record
from streamer.kafka.refusals import Overheard, explained
from streamer.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

#: A piece of a log that is handed on at once.
_PIECE = 1_000


async def read_between(
    reader: aiokafka.AIOKafkaConsumer, bounds: Mapping[TopicPartition, tuple[int, int]], *, stall_s: float = 60.0
) -> AsyncIterator[tuple[TopicPartition, list[Record]]]:
    """Records of each partition from its first bound up to before its second, in pieces; returns at the end of all.

    The consumer must have no group. Offsets may have holes, so the end is where the consumer's position says.
    `BrokerUnavailable` when nothing moves for `stall_s`.
    """
    left = {at: end for at, (begin, end) in bounds.items() if begin < end}
    if not left:
        return
    reader.assign(list(left))
    for at in left:
        reader.seek(at, bounds[at][0])
    clock = asyncio.get_running_loop().time
    deadline = clock() + stall_s
    while left:
        got = await reader.getmany(timeout_ms=20, max_records=_PIECE)
        for at, records in got.items():
            if at in left:
                yield at, [record for record in records if record.offset < left[at]]
        passed = [at for at, end in left.items() if await reader.position(at) >= end]
        for at in passed:
            del left[at]
            reader.pause(at)
        if got or passed:
            deadline = clock() + stall_s
        elif clock() > deadline:
            raise BrokerUnavailable(f"reading {', '.join(map(str, left))}: nothing for {stall_s:g} s")


async def ends_of(reader: aiokafka.AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where a read_committed consumer could read to now (last stable offset)."""
    ends: dict[TopicPartition, int] = await reader.end_offsets(list(partitions)) if partitions else {}
    return ends


@contextlib.asynccontextmanager
async def open_reader(
    settings: KafkaSettings, role: str, *, committed: bool = True
) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    """A consumer without a group, for the length of a `with` block."""
    reader = settings.consumer(
        role=role,
        committed=committed,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        # Each topic that it hears of for the first time costs one of these.
        retry_backoff_ms=10,
    )
    try:
        await start_client(settings, reader)
        yield reader
    except KafkaError as error:
        raise explained(role, error, settings) from error
    except TimeoutError as error:
        raise BrokerUnavailable(f"{role}: Kafka at {settings.bootstrap_servers} does not get on") from error
    finally:
        with contextlib.suppress(asyncio.TimeoutError, KafkaError):
            await asyncio.wait_for(reader.stop(), 2.0)


async def start_client(settings: KafkaSettings, client: aiokafka.AIOKafkaConsumer) -> None:
    """Start a client, again and again while the broker is away; `BrokerUnavailable` after `broker_timeout_s`."""
    wait, said = 0.1, False
    try:
        async with asyncio.timeout(settings.broker_timeout_s):
            while True:
                try:
                    with Overheard() as overheard:
                        await client.start()
                    return
                except (KafkaError, OSError) as error:
                    if isinstance(refused := overheard.error(settings, error), AccessDenied):
                        raise refused from error
                    if not said:
                        log.warning("%s; trying for %g s", refused, settings.broker_timeout_s)
                        said = True
                await asyncio.sleep(wait)
                wait = min(2 * wait, 2.0)
    except TimeoutError as error:
        silent = f"no answer for {settings.broker_timeout_s:g} s"
        raise BrokerUnavailable(f"Kafka at {settings.bootstrap_servers}: {silent}") from error
