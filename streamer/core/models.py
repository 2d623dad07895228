"""One model at one monitor task, as it stands in memory: clock, open and held panes, charts, incident, policies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from detectors.charts.rivers import Riverside
from detectors.outcome_states import OutcomeState
from detectors.scopes import ScopeState
from schemas.profiles import Extra
from streamer.core.forms import Form
from streamer.core.incidents import Episode
from streamer.core.merging import Extras, Folded, Pane
from streamer.core.outcome_panes import OutcomePane
from streamer.core.policy import Ledger
from streamer.core.positions import ClockRecord, HeldRecord, LateRecord, LedgerRecord, pack
from streamer.core.records import Output
from streamer.core.tallies import PackedTally, Rows
from streamer.core.watermarks import Clock

#: The block of the chart state that belongs to outcomes.
OUTCOME_BLOCK = "outcomes"
#: Block of the state of river's detectors.
RIVER_BLOCK = "rivers"
#: Block of the state of river's detectors on statistics.
SERIES_BLOCK = "series"


class Held:
    """A closed pane that late events may still reach, until `hold` has passed.

    on_time: its table at the close, packed; None when it was empty. late: what came late, and shows in reports only.
    revision: of its last report. unsaid: more came late since that.
    """

    __slots__ = ("extras", "form", "late", "on_time", "revision", "start", "unsaid")

    def __init__(self, form: Form, start: int, on_time: PackedTally | None, extras: Extras) -> None:
        self.form, self.start, self.on_time, self.extras = form, start, on_time, extras
        self.late = form.tally()
        self.revision = 0
        self.unsaid = False

    @property
    def gone(self) -> int:
        """Watermark from which on it is held no more."""
        return self.start + self.form.layout.pane_ms + self.form.layout.hold_ms

    def add(self, rows: Rows, take: Sequence[int], named: Sequence[Extra]) -> Folded:
        """Count late rows; what of them was folded."""
        pane = Pane(self.form, start=self.start, first_offset=0)
        # Caps hold for late rows as for others: the slots that are there count first.
        for version, segment in [*(self.on_time.slots if self.on_time else ()), *self.late.slots]:
            pane.admit(version, segment)
        before = self.on_time.marginals if self.on_time else None
        after = self.late.marginals
        for version, (column, value) in [*(before.slots if before else ()), *(after.slots if after else ())]:
            pane.admit_marginal(version, column, value)
        pane.late, pane.extras = self.late, self.extras
        self.unsaid = True
        return pane.add(rows, take, named, late=True)


@dataclass(eq=False)
class Model:
    """A model at a task. closed: its panes up to here are closed; None before the first close.

    layout: id of the one in force at `closed`, "" before the first close. known: ids of all layouts ever seen.
    version: the one with most events in the last pane that had any. refused: as in `ClockRecord`. scope: None until it
    is first needed; blocks: the chart state as the changelog has it. outcomes: panes of predictions whose outcomes may
    still come, with the state of their charts. held: use `hold` to add to it; leaving: a heap of when and which of them
    go, unsaid: those that are to be reported again. Of panes of a second thousands are held, so nobody looks at all.
    """

    name: str
    clock: Clock
    known: list[str]
    closed: int | None = None
    layout: str = ""
    version: str = ""
    refused: int = -1
    scope: ScopeState | None = None
    panes: dict[int, Pane] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    leaving: list[tuple[int, int]] = field(default_factory=list)
    unsaid: set[int] = field(default_factory=set)
    episode: Episode | None = None
    ledger: Ledger = field(default_factory=Ledger)
    blocks: dict[str, bytes] = field(default_factory=dict)
    outcomes: dict[int, OutcomePane] = field(default_factory=dict)
    outcome_state: OutcomeState | None = None
    rivers: Riverside | None = None
    series: Riverside | None = None

    def hold(self, held: Held) -> None:
        """Hold a pane from now on."""
        self.held[held.start] = held
        heappush(self.leaving, (held.gone, held.start))

    def let_go(self, watermark: int) -> Iterator[Held]:
        """Held panes that the watermark has left behind by `hold`; they are held no more."""
        while self.leaving and self.leaving[0][0] <= watermark:
            _, start = heappop(self.leaving)
            held = self.held.get(start)
            if held is not None and held.gone <= watermark:
                del self.held[start]
                self.unsaid.discard(start)
                yield held

    def clock_record(self) -> Output:
        """Its event time, for the changelog."""
        record = ClockRecord(
            clock=self.clock,
            closed=self.closed,
            layout=self.layout,
            version=self.version,
            known=self.known,
            refused=self.refused,
        )
        return Output("changelog", key("clock", self.name), pack(record))

    def ledger_record(self) -> Output:
        """Its incident and policies, for the changelog."""
        record = LedgerRecord(episode=self.episode, ledger=self.ledger)
        return Output("changelog", key("ledger", self.name), pack(record))

    def chart_records(self, blocks: dict[str, bytes]) -> list[Output]:
        """What changed of the chart state, tombstones for blocks that are gone."""
        changed = [
            Output("changelog", key("chart", block, self.name), value)
            for block, value in blocks.items()
            if self.blocks.get(block) != value
        ]
        gone = [
            Output("changelog", key("chart", block, self.name), None) for block in self.blocks if block not in blocks
        ]
        self.blocks = blocks
        return [*changed, *gone]

    def held_record(self, start: int, layout: str) -> Output:
        """A held pane as it closed; a tombstone when it is held no more."""
        held = self.held.get(start)
        record = None
        if held is not None and held.on_time is not None:
            record = pack(HeldRecord(on_time=held.on_time, extras=held.extras.sorted()))
        return Output("changelog", key("held", str(start), layout, self.name), record)

    def feature_blocks(self) -> dict[str, bytes]:
        """The chart state without that of outcomes and of river's detectors."""
        others = (OUTCOME_BLOCK, RIVER_BLOCK, SERIES_BLOCK)
        return {name: value for name, value in self.blocks.items() if name not in others}

    def outcome_record(self, start: int, layout: str, *, through: int) -> Output:
        """An outcome pane as it stands after the records before `through`; a tombstone when it is gone."""
        pane = self.outcomes.get(start)
        record = None if pane is None else pack(pane.record(through=through))
        return Output("changelog", key("outcome", str(start), layout, self.name), record)

    def late_record(self, start: int, layout: str) -> Output:
        """What came late for a held pane; a tombstone when it is held no more."""
        held = self.held.get(start)
        record = None
        if held is not None:
            late = LateRecord(
                late=held.late.pack(), extras=held.extras.sorted(), revision=held.revision, unsaid=held.unsaid
            )
            record = pack(late)
        return Output("changelog", key("late", str(start), layout, self.name), record)


def key(*parts: str) -> bytes:
    """Changelog key; the model stands last, as its name may hold anything.

    >>> key("chart", "0", "a|b")
    b'chart|0|a|b'
    """
    return "|".join(parts).encode()
