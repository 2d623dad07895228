"""What goes into the core and what comes out of it: bytes with their place, and nothing of any client library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Record(Protocol):
    """A record as read from a log; aiokafka's ConsumerRecord is one."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class PlainRecord(NamedTuple):
    """A record that is just a value: for files, tests and replays."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Output(NamedTuple):
    """A record to send. topic is logical (`profiles`, `windows`, `changelog`, …); the rim knows its name on Kafka.

    partition None: the task's own (every output but those to `profiles`). value None: a tombstone.
    """

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Batch(NamedTuple):
    """Records of one input of one task, in offset order; may be empty (a tick, or more closes to do).

    input: logical topic (`predictions`, `features`, `outcomes`, `profiles`). next_offset: where reading goes on
    afterwards (the log may have holes: not the last offset + 1). caught_up: all inputs of the task were read to their
    end when the batch was cut.
    """

    input: str
    records: Sequence[Record]
    next_offset: int
    caught_up: bool = False
