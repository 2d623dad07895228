"""What a broker says of a running deployment: topics, groups, positions, changelogs, clocks. Reads only.

Judged elsewhere (streamer/examining.py). Positions come from the changelogs, where the truth is, not from the groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas.errors import TriplineError
from streamer.core.control import Control
from streamer.core.milestones import Milestone
from streamer.examining import TaskSeen, TopicSeen
from streamer.kafka.reading import open_reader, read_between
from streamer.kafka.recognising import others, stranger
from streamer.kafka.restore import Gap
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Stage
from streamer.kafka.topics import Admin, configs_of

#: Every changelog of a stage is read for at most so long, and so many bytes.
READ_S, READ_BYTES = 10.0, 200_000_000
#: In these last records of a changelog its position is looked for, where it was not read whole.
TAIL = 2_000
#: How many of the tasks that are behind are asked how long their oldest record waits.
ASKED = 8
_POSITION = b"position"


async def topics_seen(settings: KafkaSettings, names: Iterable[str]) -> tuple[dict[str, TopicSeen], int]:
    """The topics of `names` that are there, by name; and how many brokers the cluster has."""
    wanted = set(names)
    async with Admin(settings) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        there = [entry for entry in await admin.describe_topics() if entry["topic"] in wanted]
        configs = await configs_of(admin, [entry["topic"] for entry in there]) if there else {}
    return {entry["topic"]: _topic(entry, configs.get(entry["topic"], {})) for entry in there}, brokers


async def members(settings: KafkaSettings, stages: Iterable[str]) -> dict[str, int]:
    """Members of the group of each stage."""
    found: dict[str, int] = {}
    async with Admin(settings) as admin:
        for stage in stages:
            found[stage] = 0
            # A broker on which there has never been a group has nobody who looks after one.
            with contextlib.suppress(GroupCoordinatorNotAvailableError):
                (answer,) = await admin.describe_consumer_groups([settings.group(stage)])
                found[stage] = sum(len(group[5]) for group in answer.groups)
    return found


async def held_back(settings: KafkaSettings, topics: Mapping[str, int], *, seconds: float) -> dict[str, int]:
    """Records that an open transaction hides for at least `seconds`, by topic/partition. topics: partitions by name."""
    places = [TopicPartition(name, partition) for name, count in topics.items() for partition in range(count)]
    async with (
        open_reader(settings, "doctor-stable") as stable,
        open_reader(settings, "doctor-ends", committed=False) as raw,
    ):
        first = await _hidden(stable, raw, places)
        if not first:
            return {}
        await asyncio.sleep(seconds)
        again = await _hidden(stable, raw, list(first))
    return {f"{at.topic}/{at.partition}": high - low for at, (low, high) in again.items() if first[at][0] == low}


async def clock_ahead(settings: KafkaSettings, counts: Mapping[str, int], *, seconds: float) -> int | None:
    """How far this machine's clock is ahead of the broker's, ms, from what is appended to `profiles` meanwhile.

    counts: partitions by topic. None when nothing is, and the newest record says nothing either. A record is here a
    few ms after its append: the smallest difference of all counts.
    """
    name = settings.topic("profiles")
    places = [TopicPartition(name, partition) for partition in range(counts.get(name, 0))]
    if not places:
        return None
    async with open_reader(settings, "doctor-clock") as reader:
        reader.assign(places)
        begins, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
        for at in places:
            # The records before the end are there already: they only say how far the broker's clock is at least.
            reader.seek(at, max(begins[at], ends[at] - 2))
        least: int | None = None
        behind: list[int] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            got = await reader.getmany(timeout_ms=200)
            now = time.time_ns() // 1_000_000
            for at, records in got.items():
                for record in records:
                    if record.offset >= ends[at]:
                        least = min(now - record.timestamp, now if least is None else least)
                    else:
                        behind.append(now - record.timestamp)
    if least is None and behind and min(behind) < 0:
        return min(behind)
    return least


async def tasks_seen(
    settings: KafkaSettings, stages: Sequence[Stage], control: Control, counts: Mapping[str, int]
) -> list[TaskSeen]:
    """Every task of `stages`, from its changelog. counts: partitions by topic."""
    seen: list[TaskSeen] = []
    async with (
        open_reader(settings, "doctor-state") as reader,
        open_reader(settings, "doctor-ends", committed=False) as raw,
    ):
        for stage in stages:
            name = settings.changelog(stage.name)
            partitions = range(counts.get(name, 0))
            for partition in partitions:
                seen.append(await _task(settings, reader, stage, control, partition, raw=raw))
        oldest = sorted((task for task in seen if task.lag), key=lambda task: -sum(task.lag.values()))[:ASKED]
        waits = {task.name: await _behind(settings, reader, task) for task in oldest if sum(task.lag.values())}
    return [replace(task, behind_ms=waits.get(task.name, 0)) for task in seen]


async def _task(
    settings: KafkaSettings,
    reader: aiokafka.AIOKafkaConsumer,
    stage: Stage,
    control: Control,
    partition: int,
    *,
    raw: aiokafka.AIOKafkaConsumer,
) -> TaskSeen:
    at = TopicPartition(settings.changelog(stage.name), partition)
    begin, end = (await reader.beginning_offsets([at]))[at], (await reader.end_offsets([at]))[at]
    latest: dict[bytes, bytes] = {}
    read, size, reached, written = 0, 0, begin, None
    began = time.monotonic()
    async for _, records in read_between(reader, {at: (begin, end)}, stall_s=settings.broker_timeout_s):
        for record in records:
            read, size = read + 1, size + len(record.key or b"") + len(record.value or b"")
            _keep(latest, record)
            written = record.timestamp if record.key == _POSITION else written
            reached = record.offset + 1
        if size > READ_BYTES or time.monotonic() - began > READ_S:
            break
    else:
        reached = end
    task = TaskSeen(stage=stage.name, partition=partition, records=read, bytes=size)
    if reached < end:
        share = (reached - begin) / max(1, end - begin)
        task = replace(task, share=share, seconds=time.monotonic() - began)
        tail = {at: (max(reached, end - TAIL), end)}
        async for _, records in read_between(reader, tail, stall_s=settings.broker_timeout_s):
            for record in records:
                _keep(latest, record)
                written = record.timestamp if record.key == _POSITION else written
        latest = {key: value for key, value in latest.items() if key == _POSITION}
        # Without the rest only the position can be looked at.
        return replace(task, written_ms=written)
    if not latest:
        return replace(task, seconds=time.monotonic() - began)
    try:
        state = stage.restore(control, partition, latest.items())
        positions, replay = stage.positions(state), stage.replay_from(state)
    except TriplineError as error:
        return replace(task, seconds=time.monotonic() - began, fault=f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - began
    logs = {name: TopicPartition(settings.topic(name), partition) for name in stage.inputs}
    stable = await reader.end_offsets(list(logs.values()))
    known = {logs[name]: found for name, found in stage.milestones(state).items() if name in logs}
    return replace(
        task,
        seconds=seconds,
        lost=await _lost(settings, raw, {logs[name]: at for name, at in positions.items() if name in logs}, known),
        next=dict(positions),
        lag={name: max(0, stable[log] - positions[name]) for name, log in logs.items() if name in positions},
        written_ms=written,
        replay=0 if replay is None else max(0, min(positions.values()) - replay),
    )


async def _lost(
    settings: KafkaSettings,
    raw: aiokafka.AIOKafkaConsumer,
    positions: Mapping[TopicPartition, int],
    known: Mapping[TopicPartition, Sequence[Milestone]],
) -> str:
    """Why a worker would end with 72: the first input that is not where it was left; "" when all are."""
    begins, ends = await raw.beginning_offsets(list(positions)), await raw.end_offsets(list(positions))
    for at, position in positions.items():
        if not begins[at] <= position <= ends[at]:
            return str(Gap(at=at, position=position, begin=begins[at], end=ends[at]).error())
    found = await others(raw, known, stall_s=settings.broker_timeout_s) if known else {}
    return next((str(stranger(at, other)) for at, other in found.items()), "")


async def _behind(settings: KafkaSettings, reader: aiokafka.AIOKafkaConsumer, task: TaskSeen) -> int:
    """How long the oldest record that a task has not done has waited, ms."""
    now, waits = time.time_ns() // 1_000_000, [0]
    for name, lag in task.lag.items():
        if not lag:
            continue
        at = TopicPartition(settings.topic(name), task.partition)
        reader.assign([at])
        begin = (await reader.beginning_offsets([at]))[at]
        reader.seek(at, max(begin, task.next[name]))
        for records in (await reader.getmany(timeout_ms=1_000, max_records=1)).values():
            waits += [now - record.timestamp for record in records]
    return max(waits)


async def _hidden(
    stable: aiokafka.AIOKafkaConsumer, raw: aiokafka.AIOKafkaConsumer, places: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Stable end and end of the logs where they differ."""
    if not places:
        return {}
    low, high = await stable.end_offsets(list(places)), await raw.end_offsets(list(places))
    return {at: (low[at], high[at]) for at in places if low[at] < high[at]}


def _keep(latest: dict[bytes, bytes], record: Any) -> None:
    latest.pop(record.key or b"", None)
    if record.value is not None:
        latest[record.key or b""] = record.value


def _topic(entry: Mapping[str, Any], configs: Mapping[str, str]) -> TopicSeen:
    parts = entry["partitions"]
    return TopicSeen(
        name=entry["topic"],
        partitions=len(parts),
        replicas=min((len(part["replicas"]) for part in parts), default=0),
        in_sync=min((len(part["isr"]) for part in parts), default=0),
        leaderless=sum(part["leader"] < 0 for part in parts),
        configs=dict(configs),
    )
