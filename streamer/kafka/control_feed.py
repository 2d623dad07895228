"""The `control` topic as it grows: read from its start to its end before anything is restored, then followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from streamer.core.control import Control
from streamer.kafka.reading import ends_of, read_between, start_client
from streamer.kafka.refusals import explained
from streamer.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)


class ControlFeed(Service):  # type: ignore[misc]
    """Service whose `control` is the newest value. When it has started, everything published before is in it."""

    def __init__(self, settings: KafkaSettings, *, failed: Callable[[Exception], None], **more: Any) -> None:
        super().__init__(**more)
        self.control = Control()
        self._settings, self._failed = settings, failed
        self._reader: aiokafka.AIOKafkaConsumer | None = None
        self._at = TopicPartition(settings.topic("control"), 0)

    async def on_start(self) -> None:
        """Read to the end."""
        # Each topic that it hears of for the first time costs one of these waits.
        self._reader = self._settings.consumer(role="control", auto_offset_reset="earliest", retry_backoff_ms=10)
        await start_client(self._settings, self._reader)
        self.control = await _read_to_end(self._settings, self._reader)
        log.info("control: %d models, offset %d", len(self.control.models), self.control.offset)

    async def on_stop(self) -> None:
        """Close the consumer."""
        if self._reader is not None:
            with contextlib.suppress(asyncio.TimeoutError, KafkaError):
                await asyncio.wait_for(self._reader.stop(), 1.0)

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow(self) -> None:
        assert self._reader is not None
        try:
            self._reader.assign([self._at])
            self._reader.seek(self._at, self.control.offset)
            while not self.should_stop:
                got = await self._reader.getmany(timeout_ms=1_000)
                for record in got.get(self._at, ()):
                    self.control = self.control.apply(record.key or b"", record.value, offset=record.offset)
        except asyncio.CancelledError:
            raise
        except KafkaError as error:
            self._failed(explained("control", error, self._settings))
        except Exception as error:
            self._failed(error)


async def _read_to_end(settings: KafkaSettings, reader: aiokafka.AIOKafkaConsumer) -> Control:
    at = TopicPartition(settings.topic("control"), 0)
    begin, end = (await reader.beginning_offsets([at]))[at], (await ends_of(reader, [at]))[at]
    control = Control()
    async for _, records in read_between(reader, {at: (begin, end)}, stall_s=settings.broker_timeout_s):
        for record in records:
            control = control.apply(record.key or b"", record.value, offset=record.offset)
    return control
