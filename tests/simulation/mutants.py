"""Workers that are wrong, each in one way: what the invariants are proved with. Every one must be caught.

A mutant takes a `pytest.MonkeyPatch` and breaks one thing of the product. What they break is said in their docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from streamer.core import admission, join_log, joining, monitoring, policy, profiling, taking
from streamer.core.profiling_state import POSITION_KEY
from streamer.core.records import Batch, Output, Record
from streamer.kafka import mending, restore, simulated, telling
from streamer.kafka.transactions import Ledger

Mutant = Callable[[pytest.MonkeyPatch], None]


def _writing(patch: pytest.MonkeyPatch, change: Callable[[list[Output]], list[Output]]) -> None:
    whole = Ledger.write

    async def write(self: Ledger, outputs: Iterable[Output]) -> None:
        await whole(self, change(list(outputs)))

    patch.setattr(Ledger, "write", write)


def _every(n: int) -> Callable[[], bool]:
    numbers = count(1)
    return lambda: next(numbers) % n == 0


def delta_dropped(patch: pytest.MonkeyPatch) -> None:
    """Now and then a record of `profiles` is not sent."""
    now = _every(9)
    _writing(patch, lambda outputs: [o for o in outputs if o.topic != "profiles" or not now()])


def delta_twice(patch: pytest.MonkeyPatch) -> None:
    """Now and then a record of `profiles` is sent twice: stage 2 drops the repeat, but it is there."""
    now = _every(9)
    _writing(patch, lambda outputs: [o for o in outputs for _ in range(2 if o.topic == "profiles" and now() else 1)])


def window_twice(patch: pytest.MonkeyPatch) -> None:
    """Now and then a window report is sent twice."""
    now = _every(5)
    _writing(patch, lambda outputs: [o for o in outputs for _ in range(2 if o.topic == "windows" and now() else 1)])


def dead_letter_dropped(patch: pytest.MonkeyPatch) -> None:
    """A record that was refused leaves no letter."""
    _writing(patch, lambda outputs: [o for o in outputs if o.topic != "dead-letter"])


def charts_not_kept(patch: pytest.MonkeyPatch) -> None:
    """The charts' state is not in the changelog."""
    _writing(patch, lambda outputs: [o for o in outputs if not o.key.startswith(b"chart|")])


def held_panes_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A closed pane that late events may reach is not in the changelog."""
    _writing(patch, lambda outputs: [o for o in outputs if not o.key.startswith(b"held|")])


def ledger_not_kept(patch: pytest.MonkeyPatch) -> None:
    """The open incident and the policies' memory are not in the changelog."""
    _writing(patch, lambda outputs: [o for o in outputs if not o.key.startswith(b"ledger|")])


def position_before_its_state(patch: pytest.MonkeyPatch) -> None:
    """The position is committed by itself, before what it stands for."""
    whole = Ledger.write

    async def write(self: Ledger, outputs: Iterable[Output]) -> None:
        said = list(outputs)
        await whole(self, [o for o in said if o.key == POSITION_KEY])
        await whole(self, [o for o in said if o.key != POSITION_KEY])

    patch.setattr(Ledger, "write", write)


def position_after_its_state(patch: pytest.MonkeyPatch) -> None:
    """What a batch said is committed before the position that says so."""
    whole = Ledger.write

    async def write(self: Ledger, outputs: Iterable[Output]) -> None:
        said = list(outputs)
        await whole(self, [o for o in said if o.key != POSITION_KEY])
        await whole(self, [o for o in said if o.key == POSITION_KEY])

    patch.setattr(Ledger, "write", write)


def no_barrier(patch: pytest.MonkeyPatch) -> None:
    """A restore trusts what a crash may have left open (DESIGN 2, trap 1)."""

    async def pass_by(*_: object, **__: object) -> dict[TopicPartition, int]:
        return {}

    patch.setattr(restore._Session, "pass_barriers", pass_by)


def no_mending(patch: pytest.MonkeyPatch) -> None:
    """What the barrier has aborted stays away, though the rest of its transaction shows."""

    async def leave_it(*_: object, **__: object) -> bool:
        return False

    patch.setattr(restore._Session, "mend", leave_it)


def mended_blindly(patch: pytest.MonkeyPatch) -> None:
    """Everything that does not show is written again, what was never committed too."""

    def blind(tails: Iterable[mending.Tail], task: str) -> list[Record]:
        marked = [(tail, one, mending.mark_of(one)) for tail in tails for one in tail.records]
        shown = {mark for tail, one, mark in marked if one.offset in tail.visible}
        return [one for _, one, mark in marked if mark is not None and mark.task == task and mark not in shown]

    patch.setattr(restore, "lacking", blind)


def changelog_not_mended(patch: pytest.MonkeyPatch) -> None:
    """What shows in the outputs while the position does not say so is left there, and done anew."""
    whole = mending.lacking
    patch.setattr(
        restore,
        "lacking",
        lambda tails, task: [one for one in whole(tails, task) if not one.topic.endswith("changelog")],
    )


def no_fencing(patch: pytest.MonkeyPatch) -> None:
    """A task's new owner does not fence the old one."""
    begin = simulated.SimulatedLog.begin

    def join(self: simulated.SimulatedLog, name: str) -> int:
        known = self._transactions.get(name)
        return known.epoch if known is not None and known.epoch >= 0 else begin(self, name)

    patch.setattr(simulated.SimulatedLog, "begin", join)


def uncommitted_reads(patch: pytest.MonkeyPatch) -> None:
    """A restore reads what was never committed."""
    patch.setattr(
        simulated.SimulatedSettings,
        "consumer",
        lambda self, *topics, role, committed=True, **more: simulated._Consumer(self.log, self.turn, committed=False),
    )


def panes_not_rebuilt(patch: pytest.MonkeyPatch) -> None:
    """A restored stage 2 goes on without its open panes."""

    def replay(state: Any, records: Any, control: Any, *, last: bool = True) -> Any:
        state.replayed = True
        return state

    patch.setattr(monitoring, "replay", replay)


def stale_watermark(patch: pytest.MonkeyPatch) -> None:
    """A restored model does not know how far its time had come."""
    whole = monitoring.restore_record

    def forget(state: Any, name: bytes, value: bytes) -> None:
        whole(state, name, value)
        for model in state.models.values():
            model.closed = None if model.closed is None else model.closed - 600_000

    patch.setattr(monitoring, "restore_record", forget)


def eager_watermark(patch: pytest.MonkeyPatch) -> None:
    """The watermark goes by the first source that spoke, not by the last."""
    whole = taking.advance

    def first(clock: Any, sources: Any, **rules: Any) -> bool:
        return whole(clock, sources, **{**rules, "expected": 1})

    patch.setattr(taking, "advance", first)


def late_dropped_silently(patch: pytest.MonkeyPatch) -> None:
    """What comes too late is neither counted nor said."""
    whole = admission._by_layout

    def silent(*args: Any, **rest: Any) -> Any:
        groups, gone, maximum = whole(*args, **rest)
        return groups, gone[:0], maximum

    patch.setattr(admission, "_by_layout", silent)


def lost_counter(patch: pytest.MonkeyPatch) -> None:
    """A reason is not counted, and the total neither: the accounts balance, and are wrong."""
    whole = profiling.counted

    def fewer(drops: Any, refusals: Any) -> Any:
        return whole(drops, [one for one in refusals if one.reason.value != "decode"])

    patch.setattr(profiling, "counted", fewer)
    patch.setattr(profiling, "read", _uncounted(profiling.read))


def _uncounted(read: Callable[..., Any]) -> Callable[..., Any]:
    def fewer(state: Any, name: str, kind: Any, records: Any) -> Any:
        refusals, arrivals = read(state, name, kind, records)
        state.consumed -= sum(one.reason.value == "decode" for one in refusals)
        return refusals, arrivals

    return fewer


def trigger_inside_its_cooldown(patch: pytest.MonkeyPatch) -> None:
    """A policy forgets what it asked for, whenever it looks."""
    whole = policy.decide

    def forgetful(ledger: Any, *args: Any, **rest: Any) -> Iterator[Any]:
        ledger.last.clear()
        return whole(ledger, *args, **rest)

    patch.setattr("streamer.core.judging.decide", forgetful)


def late_by_batch(patch: pytest.MonkeyPatch) -> None:
    """Lateness is decided by the maximum of the whole batch."""
    whole = admission._by_layout

    def batched(plan: Any, rows: Any, ts: Any, maximum: Any, plans: Any) -> Any:
        return whole(plan, rows, ts, max(int(ts.max()), maximum or 0), plans)

    patch.setattr(admission, "_by_layout", batched)


def mixed_layout(patch: pytest.MonkeyPatch) -> None:
    """All rows of a batch are counted in the pane of its first."""
    whole = profiling.count

    def mixed(arrivals: Any, group: Any) -> Any:
        counted = whole(arrivals, group)
        first = counted.rows[0].pane
        return counted._replace(rows=[msgspec.structs.replace(row, pane=first) for row in counted.rows])

    patch.setattr(profiling, "count", mixed)


def record_skipped(patch: pytest.MonkeyPatch) -> None:
    """The last record of some batches is passed over."""
    whole = profiling.apply
    now = _every(7)

    def hasty(state: Any, batch: Batch, control: Any) -> Any:
        return whole(state, batch._replace(records=batch.records[:-1] if now() else batch.records), control)

    patch.setattr(profiling, "apply", hasty)


def maxima_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A restored stage 1 does not know how late it is."""
    whole = profiling.restore

    def forgetful(*args: Any, **rest: Any) -> Any:
        state = whole(*args, **rest)
        if state is not None:
            state.maxima = {}
        return state

    patch.setattr(profiling, "restore", forgetful)


def restored_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """A task goes on at the end of its inputs, not at its position, as a consumer group without offsets would."""
    whole = restore._Session.restored

    async def hasty(self: Any, partition: int, kept: Any, *, profiles: int) -> Any:
        found = await whole(self, partition, kept, profiles=profiles)
        if self.stage.spreads and kept:
            for name in self.stage.inputs:
                at = restore.TopicPartition(self.settings.topic(name), partition)
                found.state.next[name] = (await self.log_of(at))[1]
        return found

    patch.setattr(restore._Session, "restored", hasty)


def _chunks(patch: pytest.MonkeyPatch, **lacking: Any) -> None:
    whole = join_log._chunk

    def poorer(*args: Any) -> join_log.Chunk:
        return msgspec.structs.replace(whole(*args), **lacking)

    patch.setattr(join_log, "_chunk", poorer)


def missing_match_list(patch: pytest.MonkeyPatch) -> None:
    """Which predictions have their outcome is not in the changelog."""
    _chunks(patch, settled=b"", outcomes=b"", delays=b"", truths=b"")


def missing_match_list_undigested(patch: pytest.MonkeyPatch) -> None:
    """The same, and the digest, which would say so, is of nothing: a repeat after a restart is a first."""
    missing_match_list(patch)
    patch.setattr(joining.Join, "_digest", lambda self: 0)


def waiting_outcomes_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Outcomes that wait for their predictions are not in the changelog."""
    _chunks(patch, waiting=[])


def zombies_post(patch: pytest.MonkeyPatch) -> None:
    """A notify agent that was stopped longer than its session tells what it last knew (test_notifying_zombies.py)."""
    patch.setattr(telling.Telling, "_out_of_touch", lambda self: False)


#: Of the join: caught in the story of outcomes.
JOINING: tuple[Mutant, ...] = (missing_match_list, missing_match_list_undigested, waiting_outcomes_not_kept)

MUTANTS: tuple[Mutant, ...] = (
    delta_dropped, delta_twice, window_twice, dead_letter_dropped, charts_not_kept, held_panes_not_kept,
    ledger_not_kept, position_before_its_state, position_after_its_state, no_barrier, no_mending, mended_blindly,
    changelog_not_mended, no_fencing, uncommitted_reads,
    panes_not_rebuilt, stale_watermark, eager_watermark, late_dropped_silently, lost_counter,
    trigger_inside_its_cooldown, late_by_batch, mixed_layout, record_skipped, maxima_not_kept, restored_at_the_end,
)  # fmt: skip
