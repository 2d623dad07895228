"""Faust agents on channels that carry partition batches. No logic: what a batch means is its task's business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import faust

from streamer.kafka.tasks import Work


def add_stage_agent(app: faust.App, channel: Any, *, name: str) -> None:
    """An agent that lets each batch of `channel` be applied, one after the other."""

    @app.agent(channel, name=name)  # type: ignore[untyped-decorator]
    async def agent(works: AsyncIterator[Work]) -> None:
        async for work in works:
            work.task.take(work.batch)
            # A channel that has more does not give way by itself: commits and fetches would wait.
            await asyncio.sleep(0)
