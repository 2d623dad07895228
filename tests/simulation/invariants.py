"""What must hold of a world of the real stages, read from its topics as any committed reader sees them.

I1 counts: deltas, of outcomes too, summed by (source, layout, model, cell, pane), equal those of an undisturbed run
(I2a); I2b: stage 2 over the recorded `profiles`, in one go, says the same bytes; I3: no (model, window, revision) is
there twice; I4: the ranges of a source join, positions and sequences never go back; I6: one trigger id, one record,
none within the cooldown of another; I7: consumed = applied + dropped (+ outcomes that wait), and as many events were
consumed as the inputs hold. The watermark waits for every source.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from schemas.alerts import AuditRecord, Reason
from schemas.envelopes import TYPES, open_envelope, unwrap
from schemas.errors import ProtocolBroken
from schemas.events import DeadLetter
from schemas.profiles import OUTCOME, Delta, Progress, decode, decode_sparse
from schemas.triggers import RetrainTrigger
from schemas.verdicts import OutcomeReport, WindowReport
from streamer.core import monitoring
from streamer.core.control import Control
from streamer.core.positions import MonitoringPosition, unpack
from streamer.core.profiling_state import decode_position
from streamer.core.records import Batch, Record
from streamer.kafka.stages import Stage
from streamer.stages import GAP

#: Outputs of stage 2 that a reader sees.
SAID = ("windows", "alerts", "incidents", "retrain-triggers", "audit")
Cell = tuple[int, int, str, str, int, bool, str, tuple[str, ...], str]
Report = TypeVar("Report", WindowReport, OutcomeReport)


class Evidence(Protocol):
    """Topics of an application as a committed reader sees them: of a simulated world, or of a real broker.

    sources, profiles: partitions of the inputs, and of `profiles`.
    """

    @property
    def stages(self) -> Sequence[Stage]: ...
    @property
    def control(self) -> Control: ...
    @property
    def sources(self) -> int: ...
    @property
    def profiles(self) -> int: ...

    def visible(self, name: str) -> Sequence[Record]:
        """Committed records of a logical topic, by partition and offset."""

    def changelog(self, stage: str) -> Sequence[Record]:
        """Committed records of a stage's changelog, as far as they are kept."""

    def written(self, name: str, partition: int) -> int:
        """How many records a partition of an input was given."""


def counts(world: Evidence) -> dict[Cell, tuple[tuple[int, int], ...]]:
    """What stage 1 said, summed: (kind, source, layout, model, pane, late, version, segment, marginal) to its entries.

    What corrections have brought back to nothing is left out.
    """
    sums: dict[Cell, Counter[int]] = defaultdict(Counter)
    for record in world.visible("profiles"):
        said = decode(record.value or b"")
        if isinstance(said, Delta):
            for index, value in zip(*map(np.ndarray.tolist, decode_sparse(said.body)), strict=True):
                row = said.rows[index // said.width]
                at = (said.kind, said.source, said.layout, said.model, row.pane, row.late, row.version)
                sums[*at, tuple(row.segment), row.marginal][index % said.width] += value
    found = {cell: tuple((at, n) for at, n in sorted(entries.items()) if n) for cell, entries in sums.items()}
    return {cell: entries for cell, entries in found.items() if entries}


def violations(world: Evidence, calm: Evidence, *, idle: bool = False, compacted: Sequence[str] = ()) -> list[str]:
    """Names and particulars of what does not hold in `world`; `calm` had the same input and no fault.

    idle: sources may have been idle for a while; what comes when they wake may rightly come late. compacted: topics of
    which the broker may have let go of all but the last record of each key.
    """
    found = []
    if counts(world) != counts(calm):
        found.append("I1 counts: deltas do not sum to those of an undisturbed run")
    found += _joined(world) + _replayed(world, compacted) + _once(world) + _accounts(world)
    return found if idle else found + _on_time(world)


def events(world: Evidence) -> dict[tuple[str, int], int]:
    """Events of each window as its last report has them."""
    return {(report.model, report.start): report.n for report in _reports(world, WindowReport)}


def gaps_in(audit: Iterable[Record]) -> list[tuple[str, int, int, int]]:
    """Topic, partition, begin and end of each accepted gap."""
    notes = [unwrap(record.value or b"", AuditRecord) for record in audit]
    found = [note.details for note in notes if note.reason is Reason.GAP_ACCEPTED]
    return [(str(of["topic"]), *(int(str(of[name])) for name in ("partition", "from", "to"))) for of in found]  # type: ignore[misc]


def _joined(world: Evidence) -> list[str]:
    """I4, by the ranges that the records themselves tell."""
    ends: dict[tuple[int, int], Delta | Progress] = {}
    found = []
    for record in world.visible("profiles"):
        said = decode(record.value or b"")
        before = ends.get((record.partition, said.source))
        if before is not None:
            same = (before.seq, before.begin, before.end) == (said.seq, said.begin, said.end)
            joins = said.part == before.part + 1 if same else said.begin == before.end and said.seq > before.seq
            if not joins:
                found.append(f"I4 ranges: source {said.source}: [{said.begin}, {said.end}) after [.., {before.end})")
        ends[record.partition, said.source] = said
    return found


def _replayed(world: Evidence, compacted: Sequence[str]) -> list[str]:
    """I2b: stage 2 over what `profiles` holds, from the first record to the last, at once."""
    found = []
    for partition in range(world.profiles):
        log = [record for record in world.visible("profiles") if record.partition == partition]
        state = monitoring.start(world.control, partition)
        batch, expected = Batch("profiles", log, log[-1].offset + 1 if log else 0), list[tuple[Any, ...]]()
        while True:
            try:
                state, outputs = monitoring.apply(state, batch, world.control)
            except ProtocolBroken as error:
                return [f"I4 ranges: profiles/{partition}: {error}"]
            expected += [output[:3] for output in outputs if output.topic in SAID]
            if not state.pending:
                break
            batch = Batch("profiles", [], batch.next_offset)
        for topic in SAID:
            there = [(r.key, r.value) for r in _said(world, topic) if r.partition == partition]
            wanted = [(key, value) for name, key, value in expected if name == topic]
            if topic in compacted and dict(there) == dict(wanted) and _within(there, wanted):
                continue
            if there != wanted:
                at = next((i for i, pair in enumerate(zip(there, wanted, strict=False)) if pair[0] != pair[1]), -1)
                found.append(f"I2b replay: {topic}/{partition}: {len(there)} records for {len(wanted)}, first at {at}")
    return found


def _said(world: Evidence, topic: str) -> list[Record]:
    """What stage 2 said; in the audit there are also the gaps that an operator has accepted."""
    return [record for record in world.visible(topic) if topic != "audit" or not gaps_in([record])]


def _within(some: Sequence[object], of: Sequence[object]) -> bool:
    """True when `some` are of `of`, in their order."""
    rest = iter(of)
    return all(one in rest for one in some)


def _once(world: Evidence) -> list[str]:
    """I3 and I6."""
    windows = Counter(("window", one.model, one.start, one.revision) for one in _reports(world, WindowReport))
    of_outcomes = _reports(world, OutcomeReport)
    windows += Counter((f"outcomes {one.layout}", one.model, one.start, one.revision) for one in of_outcomes)
    found = [f"I3 windows: {window} is there {n} times" for window, n in windows.items() if n > 1]
    emitted: dict[tuple[str, str], list[int]] = defaultdict(list)
    ids: Counter[str] = Counter()
    for record in world.visible("retrain-triggers"):
        trigger = unwrap(record.value or b"", RetrainTrigger)
        ids[f"{trigger.id} {trigger.state}"] += 1
        if trigger.state in {"approved", "dry_run"}:
            emitted[trigger.model, trigger.policy].append(trigger.window_end)
    found += [f"I6 triggers: {trigger} is there {n} times" for trigger, n in ids.items() if n > 1]
    for (model, policy), ends in emitted.items():
        cooldown = _cooldown(world, model, policy)
        if any(later - earlier < cooldown for earlier, later in itertools.pairwise(ends)):
            found.append(f"I6 triggers: {model} {policy} within {cooldown} ms: {ends}")
    return found


def _on_time(world: Evidence) -> list[str]:
    """The watermark waits for every source: only what its own source called late comes late for a window."""
    late: Counter[tuple[str, int]] = Counter()
    for (kind, _, _, model, pane, was_late, *_, marginal), entries in counts(world).items():
        if was_late and not marginal and kind != OUTCOME:
            late[model, pane] += dict(entries).get(0, 0)
    return [
        f"watermark: {one.late_n} events came late for {one.model} {one.start}, {late[one.model, one.start]} were"
        for one in _reports(world, WindowReport)
        if one.late_n > late[one.model, one.start]
    ]


def _cooldown(world: Evidence, model: str, policy: str) -> int:
    return next(one.cooldown_ms for one in world.control.models[model][-1].policies if one.name == policy)


def _accounts(world: Evidence) -> list[str]:
    """I7, and that positions never go back (I4), from every position that was ever committed."""
    found = []
    for stage in world.stages:
        last: dict[int, Any] = {}
        for record in world.changelog(stage.name):
            if record.key != b"position":
                continue
            raw = record.value or b""
            said: Any = decode_position(raw) if stage.spreads else unpack(raw, MonitoringPosition, key=b"position")
            before = last.get(record.partition)
            if before is not None and (
                said.seq <= before.seq or any(at < before.next[name] for name, at in said.next.items())
            ):
                found.append(f"I4 positions: {stage.name}/{record.partition}: {before.seq} before {said.seq}")
            last[record.partition] = said
        for partition, said in last.items():
            accounts = said if stage.spreads else said.counters
            waiting = said.join.waiting if stage.spreads and said.join is not None else 0
            if accounts.consumed != accounts.applied + waiting + sum(accounts.drops.values()):
                found.append(f"I7 accounts: {stage.name}/{partition}: {accounts.consumed} consumed")
            if stage.spreads and accounts.consumed != _records(world, stage.inputs, partition):
                found.append(f"I7 accounts: {stage.name}/{partition}: {accounts.consumed} consumed of its inputs")
    return found + _letters(world)


def _letters(world: Evidence) -> list[str]:
    """I7 from the topics: every drop of stage 1 has its dead letter, by reason."""
    letters: Counter[tuple[int, str]] = Counter()
    for record in world.visible("dead-letter"):
        letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
        letters[record.partition, letter.reason.value] += letter.count
    dropped: Counter[tuple[int, str]] = Counter()
    for stage in world.stages:
        positions = [one for one in world.changelog(stage.name) if one.key == b"position" and stage.spreads]
        for partition, last in {one.partition: one.value for one in positions}.items():
            for reason, n in decode_position(last or b"").drops.items():
                dropped[partition, reason] += n
    # What was deleted unread has no letter: it stands in the audit.
    gaps = [one for one in gaps_in(world.visible("audit")) if not one[0].endswith("profiles")]
    for _, partition, begin, end in gaps:
        letters[partition, GAP] += end - begin
    return [] if +letters == +dropped else [f"I7 dead letters: {+letters} for {+dropped}"]


def _reports(world: Evidence, kind: type[Report]) -> list[Report]:
    values = [record.value or b"" for record in world.visible("windows")]
    return [unwrap(value, kind) for value in values if open_envelope(value).type == TYPES[kind]]


def _records(world: Evidence, inputs: tuple[str, ...], partition: int) -> int:
    return sum(world.written(name, partition) for name in inputs)
