"""Stage 2, the monitor agent's core: deltas of all sources become panes, panes close, verdicts and decisions follow.

`apply(state, batch, control)` is pure but for the state, which it changes in place and returns. Records are taken one
by one, and everything that is decided is decided between two records: cutting the log into other batches gives the
same bytes. What does not fit into one transaction waits in the state (`pending`), and the next apply goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.errors import LateLayout, ProtocolBroken
from schemas.profiles import OUTCOME, Delta, Progress, decode
from streamer.core.closing import Sought, Turn, begin_late, close_next
from streamer.core.control import Control
from streamer.core.forms import Forms
from streamer.core.marking import Spent, spent
from streamer.core.maturing import again, label_delays, mature_next, tell_outcomes
from streamer.core.merging import DIGEST_BITS, Pane
from streamer.core.models import Model
from streamer.core.outbox import Outbox
from streamer.core.outcome_panes import OutcomePane
from streamer.core.pieces import in_pieces, joined
from streamer.core.positions import (
    POSITION_KEY,
    WRONG_LAYOUT,
    Counters,
    MonitoringPosition,
    latest,
    pack,
    unpack,
)
from streamer.core.ranges import Source
from streamer.core.records import Batch, Output, Record
from streamer.core.restoring import restore_record
from streamer.core.taking import Taker, extras_by_row, open_pane, rows_by_pane
from streamer.core.tallies import decode_rows

#: Closes of one apply, in panes and in monitors × panes. A close costs 1 ms with 10 monitors and some 10 µs per
#: monitor with many: about 50 ms.
PANES_PER_APPLY = 50
MONITOR_PANES_PER_APPLY = 5_000


class Waiting(NamedTuple):
    """A record of `profiles`, decoded, that is still to be taken."""

    offset: int
    append_ts: int
    content: Delta | Progress


@dataclass(eq=False, kw_only=True)
class MonitoringState:
    """State of one stage-2 task, partition `partition` of `profiles`.

    next: first offset that is not in the state; read_to: where reading stands, further on while records wait in
    `backlog`. now: largest append time seen, ms. due: models that may have panes to close. sought: a pane that is to
    be shown as it closes. quiet: a replay of a table, of which nobody reads window reports and changelog.
    pieces: how many records of the changelog hold a value that is too large for one.
    The rest is as in `MonitoringPosition`. For metrics: `counters`, `watermarks()`, `incidents_open`, `pending`.
    """

    partition: int
    seq: int = 0
    next: int = 0
    read_to: int = 0
    now: int = 0
    began: int | None = None
    ticked: int = 0
    sources: dict[int, Source] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    skipped: list[int] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    backlog: deque[Waiting] = field(default_factory=deque)
    due: set[str] = field(default_factory=set)
    forms: Forms | None = None
    learned: Forms | None = None
    replay_from: int = 0
    digest: int = 0
    replayed: bool = True
    sought: Sought | None = None
    quiet: bool = False
    opened: dict[str, dict[int, int]] = field(default_factory=dict)
    pieces: dict[bytes, int] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """There are closes to do without new input: call `apply` again with an empty batch."""
        return bool(self.due or self.backlog)

    @property
    def incidents_open(self) -> int:
        """Models with an open incident."""
        return sum(model.episode is not None for model in self.models.values())

    def watermarks(self) -> dict[str, int]:
        """Watermark of every model that has one, ms."""
        return {name: model.clock.watermark for name, model in self.models.items() if model.clock.watermark is not None}

    def budgets(self, control: Control) -> dict[str, Spent]:
        """Spent and stated false alarms of every model of this partition that has closed a pane."""
        found: dict[str, Spent] = {}
        for name, model in self.models.items():
            layout = None if model.closed is None else control.layout_at(name, model.closed - 1)
            if model.closed is not None and layout is not None and layout.partition == self.partition:
                found[name] = spent(layout, control.marks, at=model.closed)
        return found

    def label_coverage(self) -> dict[str, float]:
        """Coverage of the last outcome pane that matured, of every model that has had one."""
        found = {name: model.ledger.coverage for name, model in self.models.items()}
        return {name: share for name, share in found.items() if share is not None}

    def label_delays(self) -> dict[tuple[str, ...], float]:
        """Delay of labels in s by model, class and quantile."""
        return {
            (name, *of): seconds for name, model in self.models.items() for of, seconds in label_delays(model).items()
        }

    def open_panes(self) -> Iterable[Pane]:
        """All open panes."""
        return (pane for model in self.models.values() for pane in model.panes.values())

    def outcome_panes(self) -> Iterable[OutcomePane]:
        """All outcome panes."""
        return (pane for model in self.models.values() for pane in model.outcomes.values())

    def digested(self) -> int:
        """Digest of the integers of all of them."""
        total = sum(pane.digest for pane in self.open_panes()) + sum(pane.digest for pane in self.outcome_panes())
        return total & DIGEST_BITS


def start(control: Control, partition: int, *, next_offset: int = 0) -> MonitoringState:
    """State of a task that has never run; `next_offset` is where it begins to read."""
    return MonitoringState(
        partition=partition, next=next_offset, read_to=next_offset, replay_from=next_offset, forms=Forms(control)
    )


def apply(state: MonitoringState, batch: Batch, control: Control) -> tuple[MonitoringState, list[Output]]:
    """Take in a batch of `profiles`; what to send, the changed state and position last.

    `LateLayout` when a record's layout or its reference is not in `control` yet: the state is then as it was, and the
    same batch may be applied again with a newer control. Any other exception leaves the state broken.
    """
    if not state.replayed:
        raise ProtocolBroken(f"partition {state.partition}: open panes from {state.replay_from} on are not rebuilt")
    forms = _forms(state, control)
    # What was read before comes again after a rebalance.
    fresh = [record for record in batch.records if record.offset >= state.read_to]
    waiting = [_decoded(record) for record in fresh]
    for record in waiting:
        _require_layout(record.content, forms)
    outbox = Outbox(partition=state.partition, audits=state.counters.audits)
    turn = Turn(
        state.partition, control, forms, outbox, state.counters, state.now, sought=state.sought, quiet=state.quiet
    )
    if state.learned is not forms:
        _learn_layouts(state, turn)
    state.forms = state.learned = forms
    state.backlog.extend(waiting)
    state.read_to = max(state.read_to, batch.next_offset, *(record.offset + 1 for record in waiting[-1:]))
    before = (state.next, state.counters.panes)
    taker = Taker(state, turn)
    taker.review()
    _work(state, turn, taker)
    state.counters.audits = outbox.audits
    changed = turn.changed(state.models, through=state.next)
    if not (changed or outbox.records or before != (state.next, state.counters.panes)):
        return state, []
    state.seq += 1
    if state.quiet:
        return state, outbox.records
    changed.append(Output("changelog", POSITION_KEY, pack(_position(state, control))))
    return state, [*outbox.records, *in_pieces(changed, state.pieces)]


def restore(
    pairs: Iterable[tuple[bytes, bytes | None]], control: Control, partition: int, *, next_offset: int = 0
) -> MonitoringState:
    """State from the changelog's (key, value) pairs in log order; `start` when there are none.

    Open panes are not in it: `replay` them from `state.replay_from` to `state.next` before the first apply, unless
    `state.replayed`. `FormatError` when a record is damaged or of a newer format.
    """
    found, pieces = joined(latest(pairs))
    if POSITION_KEY not in found:
        return start(control, partition, next_offset=next_offset)
    position = unpack(found.pop(POSITION_KEY), MonitoringPosition, key=POSITION_KEY)
    if position.partition != partition:
        raise ProtocolBroken(f"changelog of partition {position.partition}, read for partition {partition}")
    state = MonitoringState(
        partition=partition,
        seq=position.seq,
        next=position.next["profiles"],
        read_to=position.next["profiles"],
        now=position.now,
        began=position.began,
        ticked=position.ticked,
        sources=position.sources,
        absent=set(position.absent),
        skipped=position.skipped,
        counters=position.counters,
        forms=Forms(control),
        replay_from=position.replay_from,
        digest=position.digest,
        replayed=position.replay_from == position.next["profiles"],
        opened=position.opened,
        pieces=pieces,
    )
    # Reasons that are new since the position was written begin at zero.
    state.counters.drops = {**Counters().drops, **state.counters.drops}
    # A clock makes the model that the other records belong to.
    order = {"clock": 0, "ledger": 1, "chart": 2, "held": 3, "late": 4, "outcome": 5}
    for name in sorted(found, key=lambda raw: order[raw.partition(b"|")[0].decode()]):
        restore_record(state, name, found[name])
    state.due = set(state.models)
    return state


def replay(
    state: MonitoringState, records: Iterable[Record], control: Control, *, last: bool = True
) -> MonitoringState:
    """Rebuild the open panes from records replay_from..next of `profiles`, without output.

    May be called with one run of records after the other; with the `last` one the digest of what was rebuilt is
    compared with the position's (`verify`).
    """
    state.forms = forms = _forms(state, control)
    skipped = set(state.skipped)
    for record in records:
        if not state.replay_from <= record.offset < state.next or record.offset in skipped:
            continue
        content = _decoded(record).content
        if isinstance(content, Progress):
            continue
        _require_layout(content, forms)
        if content.kind == OUTCOME:
            again(state.models[content.model], content, record.offset, forms, now=record.timestamp)
        else:
            _rebuild(state, content, record.offset, forms)
    if last:
        verify(state)
    return state


def verify(state: MonitoringState) -> None:
    """After `replay`: `ProtocolBroken` when the open panes are not those that were lost."""
    digest = state.digested()
    if digest != state.digest:
        raise ProtocolBroken(
            f"partition {state.partition}: open panes rebuilt from {state.replay_from} to {state.next} have the "
            f"digest {digest:016x}, the position says {state.digest:016x}"
        )
    state.replayed = True


def _work(state: MonitoringState, turn: Turn, taker: Taker) -> None:
    """Close what is due, take the next record, and so on, until nothing is left or the apply is long enough."""
    panes, monitor_panes = 0, 0
    while True:
        for name in sorted(state.due):
            model = state.models[name]
            while cost := close_next(turn, model):
                # At once, so that nothing that is due is ever left for another apply.
                while of_outcomes := mature_next(turn, model):
                    cost += of_outcomes
                tell_outcomes(turn, model)
                panes, monitor_panes = panes + 1, monitor_panes + cost
                if panes >= PANES_PER_APPLY or monitor_panes >= MONITOR_PANES_PER_APPLY:
                    return
            state.due.discard(name)
        if not state.backlog:
            state.next = max(state.next, state.read_to)
            return
        record = state.backlog.popleft()
        taker.take(record.offset, record.append_ts, record.content)
        state.next = record.offset + 1


def _position(state: MonitoringState, control: Control) -> MonitoringPosition:
    unwritten = [pane.dirty_from for pane in state.outcome_panes() if pane.dirty_from >= 0]
    state.replay_from = min([pane.first_offset for pane in state.open_panes()] + unwritten, default=state.next)
    state.digest = state.digested()
    state.skipped = [offset for offset in state.skipped if offset >= state.replay_from]
    return MonitoringPosition(
        partition=state.partition,
        seq=state.seq,
        next={"profiles": state.next},
        replay_from=state.replay_from,
        now=state.now,
        sources=state.sources,
        skipped=state.skipped,
        digest=state.digest,
        control_offset=control.offset,
        counters=state.counters,
        began=state.began,
        absent=sorted(state.absent),
        ticked=state.ticked,
        opened={
            name: {start: pane.first_offset for start, pane in sorted(model.panes.items())}
            for name, model in sorted(state.models.items())
            if model.refused >= state.replay_from
        },
    )


def _forms(state: MonitoringState, control: Control) -> Forms:
    if state.forms is not None and state.forms.serves(control):
        return state.forms
    return Forms(control, state.forms)


def _decoded(record: Record) -> Waiting:
    if record.value is None:
        raise ProtocolBroken(f"{record.topic}/{record.partition} at {record.offset}: a record without a value")
    return Waiting(record.offset, record.timestamp, decode(record.value))


def _require_layout(content: Delta | Progress, forms: Forms) -> None:
    if isinstance(content, Delta) and not forms.knows(content.model, content.layout):
        raise LateLayout(
            f"a delta of {content.model} is counted under layout {content.layout}, which, with its reference, is not "
            f"in the control topic as far as it was read (offset {forms.control.offset})"
        )


def _learn_layouts(state: MonitoringState, turn: Turn) -> None:
    """Note new layouts of the models that are here; `LateLayout` when one's time has passed.

    A task that comes back takes such a layout, from the first pane that is not closed: else it would stop for ever.
    """
    news = [
        (model, from_ms, layout_id)
        for name, model in state.models.items()
        for from_ms, layout_id in turn.forms.ids(name)
        if layout_id not in model.known
    ]
    for model, from_ms, layout_id in news:
        watermark = model.clock.watermark
        if watermark is not None and from_ms <= watermark and state.learned is not None:
            raise LateLayout(
                f"layout {layout_id} of {model.name} begins at {from_ms}, but the watermark is at {watermark} already"
            )
    for model, from_ms, layout_id in news:
        model.known.append(layout_id)
        turn.clocks.add(model.name)
        if model.closed is not None and from_ms < model.closed:
            begin_late(turn, model, layout_id, from_ms=from_ms)
        for at, outcome_pane in model.outcomes.items():
            if turn.forms.at(model.name, at) is not outcome_pane.form:
                # Written as it stands: its records are of a layout that a replay no longer has there.
                turn.outcomes[model.name, at] = outcome_pane.form.id
        for at in [at for at, pane in model.panes.items() if turn.forms.at(model.name, at) is not pane.form]:
            # Counted by a source before it learned of the layout; the pane's own layout never sees these events.
            pane = model.panes.pop(at)
            events = int(pane.on_time.counts[:, 0].sum() + pane.late.counts[:, 0].sum())
            turn.counters.applied -= events
            turn.counters.drops[WRONG_LAYOUT] += events


def _rebuild(state: MonitoringState, delta: Delta, offset: int, forms: Forms) -> None:
    model, opened = state.models.get(delta.model), state.opened.get(delta.model)
    if model is None:
        raise ProtocolBroken(f"a delta of {delta.model} at {offset}, but the changelog does not know the model")
    rows, extras = decode_rows(delta), extras_by_row(delta)
    for (at, late), take in rows_by_pane(delta).items():
        # By what was known when it was counted: a layout that is new since is learned by the first apply.
        form = forms.at(delta.model, at, known=model.known)
        if (model.closed is not None and at < model.closed) or form is None or form.id != delta.layout:
            continue
        if opened is not None and offset < opened.get(at, state.next):  # refused: too many panes were open
            continue
        named = [extra for row in take for extra in extras.get(row, ())]
        open_pane(model, form, start=at, offset=offset).add(rows, take, named, late=late)
