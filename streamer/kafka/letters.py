"""Dead letters on Kafka: read them, read the records that they are of, and write those again, once.

Why a record cannot be replayed twice: the letter that says so travels in the same transaction, a replay first fences
every other one (one transactional id), and only then reads which records were replayed. Should a broker's crash hide
the end of an earlier replay, it waits, and says so. What it has committed itself it sees to show, and writes again
where a crash hides it, before it says that it is done.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
from aiokafka import TopicPartition

from schemas.alerts import AuditRecord, Reason
from schemas.envelopes import wrap
from schemas.errors import BrokerUnavailable
from schemas.events import DeadLetter
from streamer.core.records import Output, Record
from streamer.kafka.mending import MARK_HEADER
from streamer.kafka.reading import ends_of, open_reader, read_between
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.showing import show_all
from streamer.kafka.tailing import Since, retained
from streamer.kafka.topics import partition_counts
from streamer.kafka.transactions import Ledger
from streamer.letters import Pile, Place, Wanted, place_of, replayed, runs

#: A replay writes so many records, of so many bytes together, at most: it is one transaction.
RECORDS, BYTES = 10_000, 64_000_000
#: What a record that was written again says of where it comes from.
HEADER = "tripline-replayed"
#: Transactions of a replay that dies are ended after this, and half a minute.
_PATIENCE_S = 10.0


@dataclass
class Originals:
    """Records of letters, by place; and those that cannot be had, with why."""

    found: dict[Place, Record] = field(default_factory=dict)
    lost: dict[Place, str] = field(default_factory=dict)


async def read_letters(settings: KafkaSettings, wanted: Wanted, *, since: Since = "earliest") -> Pile:
    """Every letter from `since` on that is `wanted`."""
    pile = Pile(wanted)
    there = await partition_counts(settings)
    for partition in range(there.get(settings.topic("dead-letter"), 0)):
        async for records in retained(settings, "dead-letter", partition=partition, since=since):
            for record in records:
                pile.take(msgspec.json.decode(record.value or b"", type=DeadLetter))
    return pile


async def originals(settings: KafkaSettings, letters: Sequence[DeadLetter]) -> Originals:
    """The records of `letters`, as their topics still hold them, each compared with its hash.

    What retention or compaction took, what has another content, and what lies in a topic that is no input is `lost`.
    """
    answer, inputs = Originals(), set(settings.inputs.values())
    wanted: dict[TopicPartition, dict[int, DeadLetter]] = defaultdict(dict)
    for letter in letters:
        if letter.topic in inputs:
            wanted[TopicPartition(letter.topic, letter.partition)][letter.offset] = letter
        else:
            answer.lost[place_of(letter)] = "is in no input of this configuration"
    if not wanted:
        return answer
    async with open_reader(settings, "letters") as reader:
        begins, ends = await reader.beginning_offsets(list(wanted)), await ends_of(reader, list(wanted))
        for at, by_offset in wanted.items():
            within = [offset for offset in by_offset if begins[at] <= offset < ends[at]]
            for first, last in runs(within):
                async for _, records in read_between(reader, {at: (first, last)}, stall_s=settings.broker_timeout_s):
                    for record in records:
                        if record.offset in by_offset:
                            _compare(answer, by_offset[record.offset], record)
            for offset, letter in by_offset.items():
                place = place_of(letter)
                if place not in answer.found and place not in answer.lost:
                    gone = "retention took it" if offset < begins[at] else "the log does not hold it any more"
                    answer.lost[place] = f"{gone} ({begins[at]} to {ends[at]})"
    return answer


class Replay:
    """One replay: `async with Replay(settings) as replay` ends every other one; then read, and `write`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = replace(settings, broker_timeout_s=_PATIENCE_S)
        self._ledger = Ledger(self._settings, stage="dlq", partition=0)

    async def __aenter__(self) -> Replay:
        await self._ledger.start()
        await self._settled()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._ledger.stop()

    async def write(self, letters: Sequence[DeadLetter], records: dict[Place, Record], *, by: str) -> int:
        """Write the records of `letters` again, each into its own partition, in one transaction; how many."""
        at = time.time_ns() // 1_000_000
        logical = {topic: name for name, topic in self._settings.inputs.items()}
        outputs: list[Output] = []
        for letter in letters:
            record = records[place_of(letter)]
            origin = f"{letter.topic}|{letter.partition}|{letter.offset}"
            kept = ((name, value) for name, value in record.headers if name not in {HEADER, MARK_HEADER})
            headers = (*kept, (HEADER, origin.encode()))
            again = Output(logical[letter.topic], record.key, record.value, letter.partition, headers)  # type: ignore[arg-type]
            said = msgspec.json.encode(replayed(letter, at=at))
            outputs += [again, Output("dead-letter", origin.encode(), said, letter.partition)]
        if outputs:
            await self._write([*outputs, _audit(letters, at=at, by=by)])
        return len(letters)

    async def _write(self, outputs: Sequence[Output]) -> None:
        """One transaction, all of which shows when this returns."""
        settings = self._settings
        places = {TopicPartition(settings.topic(one.topic), one.partition or 0) for one in outputs}
        async with (
            open_reader(settings, "letters-raw", committed=False) as raw,
            open_reader(settings, "letters-shown") as stable,
        ):
            begins = await raw.end_offsets(sorted(places))
            # A right to read that is missing is to be met before anything is written.
            last = {at: (max(0, end - 1), end) for at, end in begins.items()}
            async for _ in read_between(raw, last, stall_s=settings.broker_timeout_s):
                pass
            await self._ledger.write(outputs)
            await show_all(self._ledger, raw, stable, begins, patience_s=_PATIENCE_S)

    async def _settled(self) -> None:
        """Until the end of what earlier replays wrote can be read: only then is it known what they have done."""
        settings = self._settings
        counts = await partition_counts(settings)
        name = settings.topic("dead-letter")
        places = [TopicPartition(name, partition) for partition in range(counts.get(name, 0))]
        async with (
            open_reader(settings, "letters-ends", committed=False) as raw,
            open_reader(settings, "letters-stable") as stable,
        ):
            behind = await raw.end_offsets(places) if places else {}
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    while behind:
                        ends = await ends_of(stable, list(behind))
                        behind = {at: end for at, end in behind.items() if ends[at] < end}
                        await asyncio.sleep(0.05 if behind else 0)
            except TimeoutError as error:
                named = ", ".join(f"{at.topic}/{at.partition}" for at in behind)
                raise BrokerUnavailable(
                    f"{named}: a transaction is open, and may be a replay of which it is not known what it did; "
                    "nothing was written. Try again later; `tripline doctor` says whether it is still there"
                ) from error


def _compare(answer: Originals, letter: DeadLetter, record: Record) -> None:
    if hashlib.sha256(record.value or b"").hexdigest() == letter.sha256:
        answer.found[place_of(letter)] = record
    else:
        answer.lost[place_of(letter)] = "has another content than the letter's hash: is the topic another one?"


def _audit(letters: Sequence[DeadLetter], *, at: int, by: str) -> Output:
    first = place_of(letters[0])
    reasons = sorted({letter.reason.value for letter in letters})
    record = AuditRecord(
        subject="dead-letter",
        decision=f"{len(letters)} records written again",
        reason=Reason.REPLAYED,
        at=at,
        details={"by": by, "records": len(letters), "reasons": ",".join(reasons), "first": str(first)},
    )
    name = f"replay-{first.topic}-{first.partition}-{first.offset}-{at}"
    value, headers = wrap(record, id=name, source="/tripline/dlq", subject=record.subject, at=at)
    return Output("audit", record.subject.encode(), value, 0, headers)
