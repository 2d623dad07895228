"""The two stages as the rim sees them: each pure module behind the one protocol of `streamer.kafka.stages`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from detectors.charts.rivers import RIVERS
from schemas.events import DropReason
from streamer.core import monitoring, profiling
from streamer.core.control import Control
from streamer.core.drops import LETTERS
from streamer.core.join_position import outcome_counts
from streamer.core.milestones import Milestone
from streamer.core.monitoring import MonitoringState
from streamer.core.positions import Counters
from streamer.core.profiling_state import ProfilingState
from streamer.core.records import Batch, Output, Record
from streamer.kafka.stages import Counts
from streamer.kafka.topics import DECISIONS

#: Reason of events that retention took before they were counted; no record was seen, so no dead letter says it.
GAP = "gap"
_REASONS = (*(reason.value for reason in DropReason), GAP)


class Profiling(NamedTuple):
    """Stage 1: streamer/core/profiling.py."""

    inputs: tuple[str, ...] = ("predictions", "features", "outcomes")
    dead_letter_payload: bool = False
    dead_letter_limit: int = LETTERS
    name: str = "profiling"
    writes: tuple[str, ...] = ("dead-letter",)
    spreads: tuple[str, ...] = ("profiles",)
    ticks: bool = True
    begins: str | None = None
    reasons: tuple[str, ...] = _REASONS
    awaits_control: bool = False

    def start(self, control: Control, partition: int, positions: Mapping[str, int]) -> ProfilingState:
        return profiling.start(
            control,
            partition,
            next=positions,
            dead_letter_payload=self.dead_letter_payload,
            dead_letter_limit=self.dead_letter_limit,
        )

    def restore(
        self, control: Control, partition: int, records: Iterable[tuple[bytes, bytes]]
    ) -> ProfilingState | None:
        state = profiling.restore(
            records,
            control,
            dead_letter_payload=self.dead_letter_payload,
            dead_letter_limit=self.dead_letter_limit,
        )
        if state is not None:
            # An input that was added to the configuration since: read from its start.
            for name in self.inputs:
                state.next.setdefault(name, 0)
        return state

    def replay_from(self, state: ProfilingState) -> int | None:
        return None

    def replay(self, control: Control, state: ProfilingState, records: Sequence[Record]) -> ProfilingState:
        raise NotImplementedError("stage 1 keeps everything in its changelog")

    def verify(self, control: Control, state: ProfilingState) -> ProfilingState:
        return state  # `restore` has compared the digests

    def apply(self, control: Control, state: ProfilingState, batch: Batch) -> tuple[ProfilingState, list[Output]]:
        return profiling.apply(state, batch, control)

    def positions(self, state: ProfilingState) -> Mapping[str, int]:
        return state.next

    def reached(self, state: ProfilingState) -> Mapping[str, int]:
        return state.next

    def milestones(self, state: ProfilingState) -> Mapping[str, Sequence[Milestone]]:
        return state.milestones

    def moved(self, state: ProfilingState, positions: Mapping[str, int]) -> ProfilingState:
        lost = sum(position - state.next[name] for name, position in positions.items())
        state.next.update(positions)
        state.consumed += lost
        state.drops[GAP] = state.drops.get(GAP, 0) + lost
        return state

    def pending(self, state: ProfilingState) -> bool:
        return False

    def boundary(self, control: Control, after_ms: int) -> int | None:
        paces = {(layout.pane_ms, layout.lateness_ms) for of_model in control.models.values() for layout in of_model}
        return min(((after_ms - lateness) // pane * pane + pane + lateness for pane, lateness in paces), default=None)

    def counts(self, state: ProfilingState) -> Counts:
        joined = outcome_counts({} if state.join is None else state.join.counts)
        more = {
            ("delta_events_folded", ""): state.folded,
            ("features_denied", ""): state.denied,
            ("dead_letters_suppressed", ""): state.suppressed,
            **joined,
        }
        return Counts(state.consumed, state.applied, dict(state.drops), more)


class Monitoring(NamedTuple):
    """Stage 2: streamer/core/monitoring.py."""

    inputs: tuple[str, ...] = ("profiles",)
    name: str = "monitoring"
    writes: tuple[str, ...] = DECISIONS
    spreads: tuple[str, ...] = ()
    ticks: bool = False
    # Nothing that stage 1 ever said is skipped.
    begins: str | None = "earliest"
    reasons: tuple[str, ...] = tuple(Counters().drops)
    awaits_control: bool = True

    def start(self, control: Control, partition: int, positions: Mapping[str, int]) -> MonitoringState:
        return monitoring.start(control, partition, next_offset=positions["profiles"])

    def restore(self, control: Control, partition: int, records: Iterable[tuple[bytes, bytes]]) -> MonitoringState:
        return monitoring.restore(records, control, partition)

    def replay_from(self, state: MonitoringState) -> int | None:
        return None if state.replayed else state.replay_from

    def replay(self, control: Control, state: MonitoringState, records: Sequence[Record]) -> MonitoringState:
        return monitoring.replay(state, records, control, last=False)

    def verify(self, control: Control, state: MonitoringState) -> MonitoringState:
        return state if state.replayed else monitoring.replay(state, [], control, last=True)

    def apply(self, control: Control, state: MonitoringState, batch: Batch) -> tuple[MonitoringState, list[Output]]:
        return monitoring.apply(state, batch, control)

    def positions(self, state: MonitoringState) -> Mapping[str, int]:
        return {"profiles": state.next}

    def reached(self, state: MonitoringState) -> Mapping[str, int]:
        return {"profiles": state.read_to}

    def milestones(self, state: MonitoringState) -> Mapping[str, Sequence[Milestone]]:
        return {}  # ranges that do not join tell of another log

    def moved(self, state: MonitoringState, positions: Mapping[str, int]) -> MonitoringState:
        # What fed the open panes is gone: they begin anew, and every source is taken where it is now.
        state.next = state.read_to = state.replay_from = positions["profiles"]
        state.sources.clear()
        state.replayed, state.digest = True, 0
        return state

    def pending(self, state: MonitoringState) -> bool:
        return state.pending

    def boundary(self, control: Control, after_ms: int) -> int | None:
        return None

    def counts(self, state: MonitoringState) -> Counts:
        counters = state.counters
        more: dict[tuple[str, str], int] = {
            ("profiles_repeated", ""): counters.repeated,
            ("events_folded", ""): counters.folded,
            ("marginals_folded", ""): counters.folded_marginals,
            ("panes_closed", ""): counters.panes,
            ("windows", ""): counters.windows,
            ("window_revisions", ""): counters.revisions,
            ("outcome_reports", ""): counters.outcome_reports,
            **{("river_alarms", name): counters.noted.get(name, 0) for name in RIVERS},
            ("audit_records", ""): counters.audits,
        }
        for name in ("alerts", "incidents", "triggers"):
            more |= {(name, word): n for word, n in getattr(counters, name).items()}
        return Counts(counters.consumed, counters.applied, dict(counters.drops), more)
