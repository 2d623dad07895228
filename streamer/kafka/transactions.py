"""One transactional producer per task: a batch's outputs, its state and its position become visible together or never.

Why one per task and not per worker: `producer.start()` of a task's new owner fences the old one, task by task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import TriplineError
from streamer.core.records import Output, Record
from streamer.kafka.mending import MARK_HEADER, Mark
from streamer.kafka.refusals import explained
from streamer.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

#: Key of the records of the aborted transaction; no committed reader ever sees one.
BARRIER_KEY = b"barrier"


class Ledger:
    """Where task `partition` of `stage` writes: `start` fences earlier owners, `write` is one transaction."""

    def __init__(self, settings: KafkaSettings, *, stage: str, partition: int) -> None:
        self._settings, self._partition = settings, partition
        self._changelog = settings.changelog(stage)
        self.name, self.task = f"{stage}/{partition}", f"{settings.app}.{stage}.{partition}"
        self._owner, self._number = uuid.uuid4().hex[:12], 0
        self._unseen: dict[TopicPartition, deque[tuple[int, float]]] = {}
        self._producer: aiokafka.AIOKafkaProducer = settings.producer(
            role=f"{stage}-{partition}", transactional_id=self.task
        )

    async def start(self) -> None:
        """Take the task: from here on an earlier owner's commits fail."""
        async with self._bounded("start of the producer"):
            await self._producer.start()

    async def write(self, outputs: Iterable[Output]) -> None:
        """One transaction, each record with its mark. `TaskTaken` when another worker has the task, `BrokerUnavailable`
        on any other failure.
        """
        number, self._number = self._number, self._number + 1
        said = list(outputs)
        async with self._bounded("transaction"):
            await self._producer.begin_transaction()
            sent = await self._sent(
                (
                    self._changelog if topic == "changelog" else self._settings.topic(topic),
                    value,
                    key,
                    self._partition if partition is None else partition,
                    (*headers, (MARK_HEADER, Mark(self.task, self._owner, number, index).encode())),
                )
                for index, (topic, key, value, partition, headers) in enumerate(said)
            )
            await self._producer.commit_transaction()
        now = time.monotonic()
        # What has other writers too may be hidden by them; and there it is soon followed by more.
        last = {
            TopicPartition(one.topic, one.partition): one.offset
            for output, one in zip(said, sent, strict=True)
            if output.partition is None
        }
        for at, offset in last.items():
            # Each transaction: the first to be seen says nothing of the next.
            self._unseen.setdefault(at, deque()).append((offset, now))

    def hidden(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
        """Of `unseen`, what lies not before these stable ends: since when (monotonic seconds). The rest is seen."""
        for at, end in ends.items():
            waiting = self._unseen.get(at, deque())
            while waiting and waiting[0][0] < end:
                waiting.popleft()
            if not waiting:
                self._unseen.pop(at, None)
        return {at: waiting[0][1] for at, waiting in self._unseen.items()}

    @property
    def unseen(self) -> list[TopicPartition]:
        """Partitions that it alone writes, where what it has committed has not been seen yet."""
        return list(self._unseen)

    async def write_again(self, records: Iterable[Record]) -> None:
        """One transaction of records that are in the logs and do not show, as they are; see mending.py."""
        async with self._bounded("repair"):
            await self._producer.begin_transaction()
            await self._sent((one.topic, one.value, one.key, one.partition, one.headers) for one in records)
            await self._producer.commit_transaction()

    async def abort_everywhere(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """One record to each of `partitions`, aborted; their offsets. Readers pass them when the markers are written.

        Why: the markers of a transaction that was committed before a broker's crash may be lost, and the next commit
        of the same producer id would then make its records visible a second time (DESIGN 2, trap 1).
        """
        async with self._bounded("barrier"):
            await self._producer.begin_transaction()
            said = await self._sent((at.topic, b"", BARRIER_KEY, at.partition, ()) for at in partitions)
            offsets = {at: one.offset for at, one in zip(partitions, said, strict=True)}
            await self._producer.abort_transaction()
            return offsets

    async def stop(self) -> None:
        """Close connections; gives up after a second, for with the broker down it would not end."""
        with contextlib.suppress(asyncio.TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(self._producer.stop(), 1.0)

    async def _sent(self, records: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send all, and wait for all: a batch that failed would otherwise be left out of the transaction silently."""
        sent: list[asyncio.Future[Any]] = []
        try:
            for topic, value, key, partition, headers in records:
                sent.append(await self._producer.send(topic, value, key, partition, headers=list(headers)))
            return [await future for future in sent]
        except Exception as error:
            # What a later send says of it ("not in a transaction") is not the cause: that is in an earlier future.
            for future in sent:
                future.add_done_callback(lambda done: done.cancelled() or done.exception())
            if sent:
                await asyncio.wait(sent, timeout=1.0)
            causes = [one.exception() for one in sent if one.done() and not one.cancelled()]
            raise next(filter(None, causes), error) from None

    @contextlib.asynccontextmanager
    async def _bounded(self, what: str):  # type: ignore[no-untyped-def]
        try:
            async with asyncio.timeout(self._settings.broker_timeout_s):
                yield
        except TriplineError:
            raise
        except Exception as error:
            raise explained(f"task {self.name}: {what}", error, self._settings) from error
