"""How a task comes back: fence, barrier, mend, changelog, replay, position, inputs; all tasks assigned at once.

Why all at once: a hanging transaction of one task may hide the end of `profiles` from another; `start` of every
producer ends them all before anyone waits. Nothing here runs inside a rebalance callback (no heartbeats there).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiokafka
from aiokafka import TopicPartition

from schemas.alerts import AuditRecord, Reason
from schemas.envelopes import wrap
from schemas.errors import PositionLost
from streamer.core.control import Control
from streamer.core.records import Output
from streamer.kafka.mending import lacking, read_tails
from streamer.kafka.reading import ends_of, open_reader, read_between
from streamer.kafka.recognising import ANOTHER_LOG, refuse_others
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Stage
from streamer.kafka.transactions import Ledger

log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A task that may go on. notes: what its first transaction says beside its own (accepted gaps)."""

    partition: int
    state: Any
    notes: list[Output]


async def restore_tasks(
    settings: KafkaSettings,
    stage: Stage,
    control: Control,
    ledgers: Mapping[int, Ledger],
    *,
    profiles: int,
) -> AsyncGenerator[Restored, None]:
    """Yield each task as soon as it is ready. profiles: partitions of the spread outputs.

    Raises `PositionLost`, and whatever the stage raises on what it reads.
    """
    await asyncio.gather(*(ledger.start() for ledger in ledgers.values()))
    async with open_reader(settings, f"{stage.name}-restore") as reader:
        session = _Session(settings, stage, control, reader)
        if not settings.embedded:
            async with open_reader(settings, f"{stage.name}-mend", committed=False) as raw:
                passed = await session.pass_barriers(ledgers, profiles=profiles)
                while await session.mend(ledgers, passed, raw, profiles=profiles):
                    # What was written again must show, all of it, before anybody relies on it.
                    passed = await session.pass_barriers(ledgers, profiles=profiles)
        kept, known = await session.read_changelogs(list(ledgers)), list[Restored]()
        for partition in ledgers:
            task = await session.restored(partition, kept.pop(partition), profiles=profiles)
            if any(stage.milestones(task.state).values()):
                known.append(task)
            else:
                yield task
        await session.recognise(known)
        for task in known:
            yield task


def outputs_of(settings: KafkaSettings, stage: Stage, partition: int, *, profiles: int) -> list[TopicPartition]:
    """Every output partition of a task."""
    own = [TopicPartition(settings.topic(name), partition) for name in stage.writes]
    spread = [TopicPartition(settings.topic(name), q) for name in stage.spreads for q in range(profiles)]
    return [TopicPartition(settings.changelog(stage.name), partition), *own, *spread]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A position that its log does not hold: `begin` to `end` is what there is. open: of panes that are still open."""

    at: TopicPartition
    position: int
    begin: int
    end: int
    open: bool = False

    def error(self) -> PositionLost:
        """The error that says what is gone, with both offsets, and what an operator can do."""
        log_of = f"{self.at.topic}/{self.at.partition}: position {self.position} lies"
        if self.open:
            return PositionLost(
                f"{log_of} before the log's start ({self.begin} to {self.end}): retention took what open panes were "
                "counted from; `tripline run --accept-gap` begins these panes anew and records the gap"
            )
        if self.position < self.begin:
            return PositionLost(
                f"{log_of} before the log's start ({self.begin} to {self.end}): retention took what was not counted; "
                "`tripline run --accept-gap` goes on at the log's start and records the gap"
            )
        return PositionLost(f"{log_of} past the log's end ({self.begin} to {self.end}): {ANOTHER_LOG}")

    def note(self, task: str, partition: int) -> Output:
        """The audit record of an accepted gap. Its time is the worker's: it is an operator's decision, not a result."""
        at = time.time_ns() // 1_000_000
        details = {"topic": self.at.topic, "partition": self.at.partition, "from": self.position, "to": self.begin}
        decision = "gap accepted, open panes begin anew" if self.open else "gap accepted"
        record = AuditRecord(subject=task, decision=decision, reason=Reason.GAP_ACCEPTED, at=at, details={**details})
        name = f"gap-{self.at.topic}-{self.at.partition}-{self.position}"
        value, headers = wrap(record, id=name, source=f"/tripline/{task}", subject=task, at=at)
        return Output("audit", task.encode(), value, partition, headers)


@dataclass(frozen=True)
class _Session:
    """One restore of some tasks of one stage, with one consumer."""

    settings: KafkaSettings
    stage: Stage
    control: Control
    reader: aiokafka.AIOKafkaConsumer

    async def pass_barriers(self, ledgers: Mapping[int, Ledger], *, profiles: int) -> dict[TopicPartition, int]:
        """Ends of the tasks' output partitions before which nothing is open any more."""
        passed = await asyncio.gather(
            *(
                ledger.abort_everywhere(outputs_of(self.settings, self.stage, partition, profiles=profiles))
                for partition, ledger in ledgers.items()
            )
        )
        behind: dict[TopicPartition, int] = {}
        for offsets in passed:
            for at, offset in offsets.items():
                behind[at] = max(offset, behind.get(at, -1))
        barriers, wait = dict(behind), 0.005
        async with asyncio.timeout(self.settings.broker_timeout_s):
            while behind:
                ends = await ends_of(self.reader, list(behind))
                behind = {at: offset for at, offset in behind.items() if ends[at] <= offset}
                if behind:
                    await asyncio.sleep(wait)
                    wait = min(wait * 1.5, 0.1)
        return barriers

    async def mend(
        self,
        ledgers: Mapping[int, Ledger],
        ends: Mapping[TopicPartition, int],
        raw: aiokafka.AIOKafkaConsumer,
        *,
        profiles: int,
    ) -> bool:
        """Write again what was committed and does not show before `ends`; False when there is nothing of the kind."""
        logs = {one: outputs_of(self.settings, self.stage, one, profiles=profiles) for one in ledgers}
        writers: dict[TopicPartition, list[str]] = defaultdict(list)
        for partition, places in logs.items():
            for at in places:
                writers[at].append(ledgers[partition].task)
        stall_s = self.settings.broker_timeout_s
        tails = await read_tails(raw, self.reader, ends, writers, stall_s=stall_s)
        mended = False
        for partition, ledger in ledgers.items():
            records = lacking([tails[at] for at in logs[partition] if at in tails], ledger.task)
            if records:
                mended = True
                where = ", ".join(sorted({f"{one.topic}/{one.partition}" for one in records}))
                log.warning(
                    "%s/%d: a crash of the broker hid %d committed records in %s: written again",
                    self.stage.name, partition, len(records), where,
                )  # fmt: skip
                await ledger.write_again(records)
        return mended

    async def read_changelogs(self, partitions: Sequence[int]) -> dict[int, dict[bytes, bytes]]:
        """Latest value of each key, in the order of the last writes."""
        name = self.settings.changelog(self.stage.name)
        logs = [TopicPartition(name, partition) for partition in partitions]
        begins, ends = await self.reader.beginning_offsets(logs), await ends_of(self.reader, logs)
        kept: dict[int, dict[bytes, bytes]] = {partition: {} for partition in partitions}
        bounds = {at: (begins[at], ends[at]) for at in logs}
        async for at, records in read_between(self.reader, bounds, stall_s=self.settings.broker_timeout_s):
            latest = kept[at.partition]
            for record in records:
                key, value = record.key or b"", record.value
                latest.pop(key, None)
                if value is not None:
                    latest[key] = value
        return kept

    async def restored(self, partition: int, kept: Mapping[bytes, bytes], *, profiles: int) -> Restored:
        if kept:
            state = self.stage.restore(self.control, partition, kept.items())
        else:
            state = self.stage.start(self.control, partition, await self.first_positions(partition))
        gaps = await self.gaps_of(partition, state)
        if gaps:
            state = self.stage.moved(state, {name: gap.begin for name, gap in gaps.items()})
        since = self.stage.replay_from(state)
        if since is not None and (lost := await self.lost_of(partition, state, since=since)) is not None:
            # What is left of these panes' events would count them in part: they begin anew.
            gaps["open panes"] = lost
            state = self.stage.moved(state, self.stage.positions(state))
        elif since is not None:
            state = await self.replay(partition, state, since=since)
        notes = [gap.note(f"{self.stage.name}/{partition}", partition % profiles) for gap in gaps.values()]
        return Restored(partition, self.stage.verify(self.control, state), notes)

    async def recognise(self, tasks: Sequence[Restored]) -> None:
        """`PositionLost` when an input is another log than the one that a task has read. All tasks' inputs at once."""
        if not self.settings.embedded:
            logs = {
                TopicPartition(self.settings.topic(name), task.partition): known
                for task in tasks
                for name, known in self.stage.milestones(task.state).items()
                if name in self.stage.inputs
            }
            await refuse_others(self.settings, f"{self.stage.name}-recognise", logs)

    async def first_positions(self, partition: int) -> dict[str, int]:
        start = self.stage.begins or self.settings.start
        found = {}
        for name in self.stage.inputs:
            at = TopicPartition(self.settings.topic(name), partition)
            begin, end = await self.log_of(at)
            if isinstance(start, int):
                later = (await self.reader.offsets_for_times({at: start}))[at]
                found[name] = end if later is None else later.offset
            else:
                found[name] = begin if start == "earliest" else end
        log.info("%s/%d: no position yet, starts at %s", self.stage.name, partition, found)
        return found

    async def gaps_of(self, partition: int, state: Any) -> dict[str, Gap]:
        """Inputs whose log no longer holds the state's position: accepted, or `PositionLost`."""
        gaps = {}
        for name, position in self.stage.positions(state).items():
            at = TopicPartition(self.settings.topic(name), partition)
            begin, end = await self.log_of(at)
            if position > end:
                # A broker's crash may set the stable end back for a while: what counts is the log's own end.
                async with open_reader(self.settings, f"{self.stage.name}-ends", committed=False) as raw:
                    end = (await raw.end_offsets([at]))[at]
            if begin <= position <= end:
                continue
            gap = Gap(at=at, position=position, begin=begin, end=end)
            # Only what retention took can be passed over: a log that ends before the position is another log.
            if not self.settings.accept_gap or position > end:
                raise gap.error()
            log.warning("%s; accepted by --accept-gap", gap.error())
            gaps[name] = gap
        return gaps

    async def lost_of(self, partition: int, state: Any, *, since: int) -> Gap | None:
        """What retention took of what `replay` needs: nothing, accepted, or `PositionLost`."""
        (name,) = self.stage.inputs
        at = TopicPartition(self.settings.topic(name), partition)
        begin = (await self.log_of(at))[0]
        if since >= begin:
            return None
        gap = Gap(at=at, position=since, begin=begin, end=self.stage.positions(state)[name], open=True)
        if not self.settings.accept_gap:
            raise gap.error()
        log.warning("%s; accepted by --accept-gap", gap.error())
        return gap

    async def replay(self, partition: int, state: Any, *, since: int) -> Any:
        (name,) = self.stage.inputs
        at = TopicPartition(self.settings.topic(name), partition)
        until = self.stage.positions(state)[name]
        pieces = read_between(self.reader, {at: (since, until)}, stall_s=self.settings.broker_timeout_s)
        async for _, records in pieces:
            state = self.stage.replay(self.control, state, records)
        return state

    async def log_of(self, at: TopicPartition) -> tuple[int, int]:
        """Start and stable end of a log."""
        return (await self.reader.beginning_offsets([at]))[at], (await ends_of(self.reader, [at]))[at]
