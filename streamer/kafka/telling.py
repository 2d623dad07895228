"""The notify agent's rim: `incidents` from its start to its end, then POSTs to every Alertmanager replica.

Which incident is due where and when is streamer/core/notifying.py's; this reads, sends, and says how it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import aiokafka
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from mode import Service

from schemas.alerts import Incident
from schemas.envelopes import unwrap
from schemas.errors import FormatError
from streamer.core.notifying import Notifier, Post
from streamer.core.records import Record
from streamer.kafka.reading import start_client
from streamer.kafka.refusals import explained
from streamer.kafka.settings import KafkaSettings
from streamer.sinks.errors import SinkError

log = logging.getLogger(__name__)

_STAGE = "notify"


class Sink(Protocol):
    """Where posts go; streamer/sinks/alertmanager.py is one."""

    async def send(self, post: Post) -> None:
        """`SinkError` says whether trying again helps."""

    async def close(self) -> None:
        """Close connections."""


class Telling(Service):  # type: ignore[misc]
    """Service that keeps every replica told of the latest state of the incidents of its partitions.

    The state is rebuilt from the topic at every assignment: what was told before is told again, and Alertmanager
    takes that as the same alert. It is rebuilt, too, when Kafka has not been heard for a session's length: another
    worker may have told of a resolve meanwhile, and a zombie that tells what it last knew would page for it again.

    now: wall clock, ms.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        notifier: Callable[[], Notifier],
        sink: Sink,
        failed: Callable[[Exception], None],
        now: Callable[[], int] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self._now = now or _now
        self._heard, self._polled = 0.0, dict[TopicPartition, int | None]()
        self.notifier = notifier()
        self.caught_up = False
        self.unreadable = 0
        self._past: dict[str, int] = {}
        self._settings, self._sink, self._failed, self._make = settings, sink, failed, notifier
        self._consumer: aiokafka.AIOKafkaConsumer = None
        self._ends: dict[TopicPartition, int] | None = None
        self._anew = False
        self._posts: set[asyncio.Task[None]] = set()

    @property
    def told(self) -> dict[str, int]:
        """The notifier's counters, over all assignments since the start."""
        return {name: n + self._past.get(name, 0) for name, n in self.notifier.counters.items()}

    async def on_start(self) -> None:
        """Join the group."""
        settings = self._settings
        static: dict[str, Any] = {}
        if settings.slot is not None:
            static = {"group_instance_id": f"{settings.group(_STAGE)}-{settings.slot}"}
        self._consumer = settings.consumer(
            role=_STAGE,
            group_id=settings.group(_STAGE),
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.session_timeout_ms // 5,
            auto_offset_reset="earliest",
            **static,
        )
        await start_client(settings, self._consumer)
        self._consumer.subscribe([settings.topic("incidents")], listener=_Listener(self))

    async def on_stop(self) -> None:
        """Let POSTs under way end, for a moment; leave."""
        if self._posts:
            await asyncio.wait(self._posts, timeout=1.0)
        for post in self._posts:
            post.cancel()
        with contextlib.suppress(asyncio.TimeoutError, KafkaError):
            await asyncio.wait_for(self._consumer.stop(), 1.0)
        await self._sink.close()

    def begin_anew(self) -> None:
        """The partitions have changed."""
        self._anew, self.caught_up = True, False

    @Service.task  # type: ignore[untyped-decorator]
    async def _tell(self) -> None:
        try:
            while not self.should_stop:
                if self._anew:
                    await self._rewind()
                timeout_ms = 100 if self.notifier.waiting else 500
                got = await self._consumer.getmany(timeout_ms=timeout_ms)
                if self.caught_up and self._out_of_touch():
                    self.begin_anew()
                if self._anew:
                    continue
                self._listen()
                for records in got.values():
                    for record in records:
                        self._take(record)
                if not self.caught_up:
                    self.caught_up = await self._at_the_end()
                if self.caught_up:
                    self._post()
        except asyncio.CancelledError:
            raise
        except KafkaError as error:
            self._failed(explained("notify", error, self._settings))
        except Exception as error:
            self._failed(error)

    def _out_of_touch(self) -> bool:
        """True when nothing was heard of the partitions for so long that they may be another's by now."""
        return asyncio.get_running_loop().time() - self._heard > self._settings.session_timeout_ms / 1000

    def _listen(self) -> None:
        """Note that Kafka was heard when it has answered for every partition since it was heard last."""
        with contextlib.suppress(AssertionError):  # taken away this moment: the listener says
            polled = {at: self._consumer.last_poll_timestamp(at) for at in self._consumer.assignment()}
            if all(polled[at] != self._polled.get(at) for at in polled):
                self._heard, self._polled = asyncio.get_running_loop().time(), polled

    async def _rewind(self) -> None:
        self._anew = False
        self._past = self.told
        self.notifier = self._make()
        assigned = list(self._consumer.assignment())
        with contextlib.suppress(IllegalStateError):  # taken away again: the next assignment says
            begins = await self._consumer.beginning_offsets(assigned) if assigned else {}
            self._ends = await self._consumer.end_offsets(assigned) if assigned else {}
            self._heard, self._polled = asyncio.get_running_loop().time(), {}
            for at, offset in begins.items():
                self._consumer.seek(at, offset)

    async def _at_the_end(self) -> bool:
        if self._ends is None:
            return False
        try:
            return all([await self._consumer.position(at) >= end for at, end in self._ends.items()])
        except IllegalStateError:
            return False

    def _take(self, record: Record) -> None:
        key = (record.key or b"").decode(errors="replace")
        try:
            incident = None if record.value is None else unwrap(record.value, Incident)
        except FormatError as error:
            # One record of a newer version must not keep the others from on-call.
            self.unreadable += 1
            log.warning("incidents/%d at %d: %s", record.partition, record.offset, error)
            return
        self.notifier.take(key, incident, self._now(), appended=record.timestamp)

    def _post(self) -> None:
        notifier = self.notifier
        for post in notifier.due(self._now()):
            sending = asyncio.create_task(self._send(notifier, post))
            self._posts.add(sending)
            sending.add_done_callback(self._posts.discard)

    async def _send(self, notifier: Notifier, post: Post) -> None:
        try:
            if self._out_of_touch():
                return  # stopped since it was due: this notifier is replaced by one that knows the latest
            await self._sink.send(post)
        except SinkError as error:
            log.warning("%s", error)
            notifier.done(post, ok=False, now=self._now(), retriable=error.retriable)
        except Exception as error:
            self._failed(error)
        else:
            notifier.done(post, ok=True, now=self._now())


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._telling.begin_anew()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._telling.begin_anew()


def _now() -> int:
    return time.time_ns() // 1_000_000
