"""A log in memory that obeys Kafka's rules, and clients of it: the rim is tried on it in thousands of interleavings.

What is modelled: offsets with holes, LogAppendTime, transactions with a coordinator (epochs fence, `EndTxn` answers
before the markers are written, an owner's start aborts what it finds), the last stable offset, read_committed readers,
and two faults of real brokers: markers that are late, and markers that a crash loses, all of a transaction or some
(DESIGN 2, trap 1: a hanging transaction, which the next marker of the same producer ends in its own way). What is not:
groups, retention, replication.
The same law tests run against this and against a real broker (tests/integration/test_log_laws.py).

Every call of a client first asks its `turn`, where a scheduler decides who goes on; without one nothing waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from streamer.core.records import PlainRecord, Record
from streamer.kafka.settings import KafkaSettings

Turn = Callable[[str], Awaitable[None]]
Ending = Literal["commit", "abort"]


class _Entry(NamedTuple):
    """A record, or the marker that ends a transaction. producer None: written without one."""

    record: PlainRecord
    producer: int | None
    marker: Ending | None = None


@dataclass(eq=False)
class Partition:
    """One partition. hidden: offsets of aborted records; open: first offset of each producer's open transaction."""

    topic: str
    number: int
    entries: list[_Entry] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    open: dict[int, int] = field(default_factory=dict)
    now: int = 0

    @property
    def end(self) -> int:
        """Next offset."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """Up to where a read_committed reader sees: the first offset of the oldest open transaction."""
        return min(self.open.values(), default=self.end)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        *,
        producer: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        at: int | None = None,
    ) -> int:
        """Write a record; its offset. at: append time, by default a millisecond after the last."""
        self.now = self.now + 1 if at is None else max(at, self.now)
        offset = self.end
        record = PlainRecord(self.topic, self.number, offset, self.now, key, value, tuple(headers))
        self.entries.append(_Entry(record, producer))
        if producer is not None:
            self.open.setdefault(producer, offset)
        return offset

    def mark(self, producer: int, ending: Ending) -> None:
        """Write the marker of a producer's transaction: all of it since it was opened shows, or never will."""
        first = self.open.pop(producer, self.end)
        if ending == "abort":
            self.hidden |= {
                entry.record.offset for entry in self.entries[first:] if entry.producer == producer and not entry.marker
            }
        here = PlainRecord(self.topic, self.number, self.end, self.now, None, None)
        self.entries.append(_Entry(here, producer, ending))

    def read(self, begin: int, *, limit: int, committed: bool = True) -> tuple[list[PlainRecord], int]:
        """At most `limit` visible records from `begin` on, and where to read on."""
        found: list[PlainRecord] = []
        at, until = begin, self.stable if committed else self.end
        while at < until and len(found) < limit:
            entry = self.entries[at]
            if not entry.marker and not (committed and at in self.hidden):
                found.append(entry.record)
            at += 1
        return found, at


@dataclass(eq=False)
class _Transaction:
    """What the coordinator knows of one transactional id. pending: partitions whose marker is not written yet."""

    producer: int
    epoch: int = -1
    partitions: set[TopicPartition] = field(default_factory=set)
    ending: Ending | None = None
    pending: list[TopicPartition] = field(default_factory=list)


class SimulatedLog:
    """All partitions and the transaction coordinator.

    >>> log = SimulatedLog({"t": 1})
    >>> producer = log.begin("mine")
    >>> log.send("mine", producer, TopicPartition("t", 0), b"k", b"v"), log.partition("t", 0).read(0, limit=9)
    (0, ([], 0))
    >>> log.end("mine", producer, "commit")
    >>> log.write_marker("mine"), [record.value for record in log.partition("t", 0).read(0, limit=9)[0]]
    (True, [b'v'])
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.partitions = {
            TopicPartition(topic, number): Partition(topic, number)
            for topic, count in topics.items()
            for number in range(count)
        }
        self._transactions: dict[str, _Transaction] = {}

    def partition(self, topic: str, number: int) -> Partition:
        """One partition."""
        return self.partitions[TopicPartition(topic, number)]

    def visible(self, topic: str) -> list[PlainRecord]:
        """What a read_committed reader sees of a topic now, by partition."""
        return [
            record
            for at, partition in sorted(self.partitions.items())
            if at.topic == topic
            for record in partition.read(0, limit=partition.end)[0]
        ]

    def ends_pending(self) -> list[str]:
        """Transactional ids of which a marker is not written yet."""
        return [name for name, transaction in self._transactions.items() if transaction.pending]

    def settled(self, name: str) -> bool:
        """No marker of this id is on its way: a new transaction may begin."""
        transaction = self._transactions.get(name)
        return transaction is None or transaction.ending is None

    def begin(self, name: str) -> int:
        """A producer of this transactional id starts: its epoch. An open transaction of an earlier one is aborted."""
        transaction = self._transactions.setdefault(name, _Transaction(len(self._transactions) + 1))
        assert transaction.ending is None
        transaction.epoch += 1
        if transaction.partitions:
            self._end(transaction, "abort")
        return transaction.epoch

    def send(  # noqa: PLR0917
        self,
        name: str,
        epoch: int,
        at: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """Write into the transaction; its offset. `ProducerFenced` for an epoch that is over."""
        transaction = self._checked(name, epoch)
        transaction.partitions.add(at)
        return self.partitions[at].append(key, value, producer=transaction.producer, headers=headers)

    def end(self, name: str, epoch: int, ending: Ending) -> None:
        """Decide the transaction. Its markers follow, one by one (`write_marker`)."""
        self._end(self._checked(name, epoch), ending)

    def write_marker(self, name: str, at: TopicPartition | None = None) -> bool:
        """Write a marker of a decided transaction, any or that of a partition; False when there is none."""
        transaction = self._transactions[name]
        if not transaction.pending:
            return False
        assert transaction.ending is not None
        chosen = transaction.pending[-1] if at is None else at
        transaction.pending.remove(chosen)
        self.partitions[chosen].mark(transaction.producer, transaction.ending)
        if not transaction.pending:
            transaction.ending = None
        return True

    def pending(self, name: str) -> list[TopicPartition]:
        """Partitions that wait for a marker of this id."""
        return list(self._transactions[name].pending)

    def ending(self, name: str) -> Ending | None:
        """What was decided of this id's transaction, as long as a marker of it is not written."""
        return self._transactions[name].ending

    def lose_markers(self, name: str, partitions: Sequence[TopicPartition]) -> None:
        """Lose the markers that these partitions wait for, for good, as a crash may.

        The coordinator believes them written; the partitions have a hanging transaction.
        """
        transaction = self._transactions[name]
        transaction.pending = [at for at in transaction.pending if at not in partitions]
        if not transaction.pending:
            transaction.ending = None

    def hangs(self, name: str) -> bool:
        """True when records of this id stay open for a marker that nobody is going to write."""
        transaction = self._transactions[name]
        over = not transaction.pending and not transaction.partitions
        return over and any(transaction.producer in partition.open for partition in self.partitions.values())

    def _checked(self, name: str, epoch: int) -> _Transaction:
        transaction = self._transactions[name]
        if transaction.epoch != epoch:
            raise ProducerFenced(f"{name}: epoch {epoch} is over, {transaction.epoch} is in force")
        return transaction

    def _end(self, transaction: _Transaction, ending: Ending) -> None:
        transaction.pending = sorted(transaction.partitions)
        transaction.partitions = set()
        transaction.ending = ending if transaction.pending else None


async def _at_once(what: str) -> None:
    del what


@dataclass(frozen=True, kw_only=True)
class SimulatedSettings(KafkaSettings):
    """Settings whose clients work on a `SimulatedLog`. turn: called with a word before each step of each client."""

    bootstrap_servers: str = "simulated:0"
    log: SimulatedLog
    turn: Turn = _at_once

    def consumer(self, *topics: str, role: str, committed: bool = True, **more: Any) -> Any:
        """A reader of assigned partitions. There are no groups: who subscribes has all partitions, as others do."""
        return _Consumer(self.log, self.turn, committed=committed)

    def producer(self, *, role: str, transactional_id: str) -> Any:
        """A transactional producer."""
        return _Producer(self.log, self.turn, name=transactional_id)


class _Producer:
    """What `Ledger` uses of AIOKafkaProducer."""

    def __init__(self, log: SimulatedLog, turn: Turn, *, name: str) -> None:
        self._log, self._turn, self._name, self._epoch = log, turn, name, -1

    async def start(self) -> None:
        await self._until_settled("start")
        self._epoch = self._log.begin(self._name)
        # An open transaction of the last owner is aborted before its successor may write.
        await self._until_settled("start")

    async def begin_transaction(self) -> None:
        await self._turn("begin")

    async def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[PlainRecord]:
        await self._until_settled("send")
        at = TopicPartition(topic, partition)
        offset = self._log.send(self._name, self._epoch, at, key, value, headers)
        future: asyncio.Future[PlainRecord] = asyncio.get_running_loop().create_future()
        future.set_result(self._log.partitions[at].entries[offset].record)
        return future

    async def commit_transaction(self) -> None:
        await self._turn("commit")
        self._log.end(self._name, self._epoch, "commit")
        await self._turn("committed")

    async def abort_transaction(self) -> None:
        await self._turn("abort")
        self._log.end(self._name, self._epoch, "abort")
        await self._turn("aborted")

    async def stop(self) -> None:
        """Nothing to close."""

    async def _until_settled(self, what: str) -> None:
        """Wait as the client does on CONCURRENT_TRANSACTIONS."""
        await self._turn(what)
        while not self._log.settled(self._name):
            await self._turn("markers")


class _Consumer:
    """What restoring and telling use of AIOKafkaConsumer."""

    def __init__(self, log: SimulatedLog, turn: Turn, *, committed: bool) -> None:
        self._log, self._turn, self._committed = log, turn, committed
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._polls = 0

    async def start(self) -> None:
        await self._turn("connect")

    async def stop(self) -> None:
        """Nothing to close."""

    def subscribe(self, topics: Sequence[str], *, listener: Any) -> None:
        self.assign([at for at in self._log.partitions if at.topic in topics])
        listener.on_partitions_assigned(self.assignment())

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def last_poll_timestamp(self, at: TopicPartition) -> int:
        return self._polls

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self._turn("ends")
        logs = self._log.partitions
        return {at: logs[at].stable if self._committed else logs[at].end for at in partitions}

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions, 0)
        self._paused = set()

    def seek(self, at: TopicPartition, offset: int) -> None:
        self._positions[at] = offset

    def pause(self, at: TopicPartition) -> None:
        self._paused.add(at)

    async def position(self, at: TopicPartition) -> int:
        return self._positions[at]

    async def getmany(self, *, timeout_ms: int, max_records: int = 500) -> dict[TopicPartition, list[Record]]:
        await self._turn("fetch")
        self._polls += 1
        found: dict[TopicPartition, list[Record]] = {}
        for at in self._positions.keys() - self._paused:
            log = self._log.partitions[at]
            records, self._positions[at] = log.read(self._positions[at], limit=max_records, committed=self._committed)
            if records:
                found[at] = list(records)
        # The answer is on its way, and may be old when it is read.
        await self._turn("fetched")
        return dict(sorted(found.items()))
