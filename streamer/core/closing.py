"""A model's panes close in order, once each, empty ones too: charts tick, the window is reported, decisions are made.

Why in pieces: a model that wakes after a week has thousands of panes to close. Each call closes one pane, or one run of
empty ones in closed form; the caller counts them and goes on in the next transaction. What is left to do stands in the
state (watermark and closed-through), so stopping between two pieces loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from detectors import series
from detectors.charts import rivers
from detectors.charts.rivers import Riverside
from detectors.outcome_states import OutcomeState
from detectors.outcome_states import save_state as save_outcomes
from detectors.results import ScopeResult
from detectors.scopes import ScopeState, load_state, quiet_panes, save_state, skip_empty, succeed, update
from schemas.alerts import Reason
from schemas.errors import ProtocolBroken
from streamer.core.control import Control
from streamer.core.forms import Form, Forms
from streamer.core.incidents import leading_version
from streamer.core.judging import Judge
from streamer.core.marking import spent
from streamer.core.merging import Extras, Pane
from streamer.core.models import OUTCOME_BLOCK, RIVER_BLOCK, SERIES_BLOCK, Held, Model
from streamer.core.outbox import Outbox
from streamer.core.positions import Counters
from streamer.core.records import Output
from streamer.core.reports import window_report
from streamer.core.tallies import Tally

#: A run of at least this many empty panes becomes one report and one step of the charts.
LONG_GAP = 24
#: The first close under a layout makes its charts, which takes so many times as long as a close.
FIRST_CLOSE = 50


class Seen(NamedTuple):
    """A pane at its close: its layout, the charts before it, counts and extremes of the views."""

    form: Form
    scope: ScopeState
    counts: npt.NDArray[np.int64]
    extremes: npt.NDArray[np.int64]


class SeenOutcomes(NamedTuple):
    """An outcome pane as the charts take it: its layout, the charts before it, counts by view, its local time, ms."""

    form: Form
    state: OutcomeState
    counts: npt.NDArray[np.int64]
    local: int


@dataclass
class Sought:
    """One pane that somebody wants to see as it closes, for `tripline explain`; seen: None until then.

    outcomes: the same of the outcome pane that starts there, once it is mature.
    """

    model: str
    start: int
    seen: Seen | None = None
    outcomes: SeenOutcomes | None = None


@dataclass
class Turn:
    """What one apply does: where it puts its words, and which parts of the state it must write.

    now: append time, ms. held, late: (model, pane start) -> layout id, of the held panes that changed; outcomes: the
    same of outcome panes. sought: a pane to be shown as it closes. quiet: nobody reads window reports and changelogs,
    or looks at held panes.
    """

    partition: int
    control: Control
    forms: Forms
    outbox: Outbox
    counters: Counters
    now: int
    clocks: set[str] = field(default_factory=set)
    ledgers: set[str] = field(default_factory=set)
    charts: set[str] = field(default_factory=set)
    held: dict[tuple[str, int], str] = field(default_factory=dict)
    late: dict[tuple[str, int], str] = field(default_factory=dict)
    outcomes: dict[tuple[str, int], str] = field(default_factory=dict)
    sought: Sought | None = None
    quiet: bool = False

    def note(self, model: str, detector: str, *, at: int, **details: str | float) -> None:
        """Count and audit what one of river's detectors said: outside the budget, never a page."""
        self.counters.noted[detector] = self.counters.noted.get(detector, 0) + 1
        self.outbox.audit(
            f"model {model}",
            "noted, outside the budget",
            Reason.OTHER_DETECTOR,
            at=at,
            model=model,
            detector=detector,
            **details,  # type: ignore[arg-type]
        )

    def changed(self, models: dict[str, Model], *, through: int) -> list[Output]:
        """Changelog records of everything that changed, in one order. through: first record that is not taken."""
        if self.quiet:
            return []
        records = [models[name].clock_record() for name in sorted(self.clocks)]
        records += [models[name].ledger_record() for name in sorted(self.ledgers)]
        for name in sorted(self.charts):
            model = models[name]
            form = self.forms.by_id(name, model.layout)
            blocks = {} if form is None or model.scope is None else save_state(model.scope)
            if form is not None and model.outcome_state is not None:
                blocks[OUTCOME_BLOCK] = save_outcomes(model.outcome_state)
            elif form is not None and form.outcomes is not None and OUTCOME_BLOCK in model.blocks:
                blocks[OUTCOME_BLOCK] = model.blocks[OUTCOME_BLOCK]  # not looked at since the restart
            if form is not None and model.rivers is not None:
                blocks[RIVER_BLOCK] = rivers.save(model.rivers)
            elif form is not None and form.layout.also and RIVER_BLOCK in model.blocks:
                blocks[RIVER_BLOCK] = model.blocks[RIVER_BLOCK]
            if form is not None and model.series is not None:
                blocks[SERIES_BLOCK] = rivers.save(model.series)
            elif form is not None and form.layout.series and SERIES_BLOCK in model.blocks:
                blocks[SERIES_BLOCK] = model.blocks[SERIES_BLOCK]
            records += model.chart_records(blocks)
        records += [models[name].held_record(start, layout) for (name, start), layout in sorted(self.held.items())]
        records += [models[name].late_record(start, layout) for (name, start), layout in sorted(self.late.items())]
        for name, model in sorted(models.items()):
            for start, pane in model.outcomes.items():
                if pane.stale(at=through, now=self.now):
                    self.outcomes[name, start] = pane.form.id
        records += [
            models[name].outcome_record(start, layout, through=through)
            for (name, start), layout in sorted(self.outcomes.items())
        ]
        return records

    def marked(self, form: Form, at: int) -> int:
        """Incidents marked false within the budget's time before `at`."""
        marks = self.control.marks
        return spent(form.layout, marks, at=at).marked if marks else 0

    def judge(self, model: Model, form: Form) -> Judge:
        """Who decides about a model under a layout."""
        control = self.control
        return Judge(
            model, form.layout, self.outbox, self.counters, control.approvals, self.now, marks=control.marks
        )


def close_next(turn: Turn, model: Model) -> int:
    """Close the next pane of a model, or the next run of empty ones, if the watermark allows.

    Returns what it cost in monitor-panes, 0 when nothing was due.
    """
    watermark, start = model.clock.watermark, model.closed
    if start is None:
        start = min(model.panes, default=None)
    if watermark is None or start is None:
        return 0
    form = turn.forms.at(model.name, start)
    if form is None:
        raise ProtocolBroken(f"{model.name}: no layout for the pane at {start}; its control records are gone")
    pane_ms = form.layout.pane_ms
    if form.layout.partition != turn.partition:
        return _move_away(turn, model, start, watermark)
    if start + pane_ms > watermark:
        return 0
    cost = form.monitors if form.built else form.monitors * FIRST_CLOSE
    if form.id != model.layout:
        _begin(turn, model, form, at=start)
    say_revisions(turn, model)
    if model.scope is None:
        model.scope = load_state(form.scope, blocks) if (blocks := model.feature_blocks()) else form.scope.start()
    pane = model.panes.pop(start, None)
    if pane is not None:
        _close(turn, model, form, pane)
        closed = 1
    else:
        closed = _close_empty(turn, model, form, start, _empty_run(turn, model, form, start, watermark))
    model.closed = start + closed * pane_ms
    turn.clocks.add(model.name)
    turn.charts.add(model.name)
    turn.counters.panes += closed
    release(turn, model)
    return cost


def begin_late(turn: Turn, model: Model, layout_id: str, *, from_ms: int) -> None:
    """A layout was learned after panes of its time had closed: it holds from the next of its own panes on."""
    assert model.closed is not None
    form = turn.forms.at(model.name, model.closed)
    if form is not None:
        model.closed = -(-model.closed // form.layout.pane_ms) * form.layout.pane_ms
    turn.outbox.audit(
        f"layout {layout_id}",
        "learned after its time",
        Reason.LAYOUT_LATE,
        at=model.closed,
        model=model.name,
        from_ms=from_ms,
    )


def say_revisions(turn: Turn, model: Model) -> None:
    """Report again every held pane that late events have reached since its last report."""
    again, model.unsaid = sorted(model.unsaid), set()
    for start in again:
        held = model.held.get(start)
        if held is None or not held.unsaid:
            continue
        held.revision += 1
        held.unsaid = False
        turn.counters.windows += 1
        turn.counters.revisions += 1
        turn.late[model.name, start] = held.form.id
        if turn.quiet:
            continue
        tally = Tally.unpack(held.on_time) if held.on_time is not None else held.form.tally()
        turn.outbox.window(
            window_report(
                held.form,
                start=start,
                end=start + held.form.layout.pane_ms,
                revision=held.revision,
                on_time=tally,
                late=held.late,
                extras=held.extras,
                marked=turn.marked(held.form, start + held.form.layout.pane_ms),
            )
        )


def release(turn: Turn, model: Model) -> None:
    """Let go of held panes that the watermark has left behind by `hold`."""
    watermark = model.clock.watermark
    if watermark is None:
        return
    for held in model.let_go(watermark):
        turn.held[model.name, held.start] = held.form.id
        if held.late.slots:
            turn.late[model.name, held.start] = held.form.id


def _close(turn: Turn, model: Model, form: Form, pane: Pane) -> None:
    tally = pane.on_time
    counts, extremes = form.views_of(tally)
    assert model.scope is not None
    if turn.sought is not None and (turn.sought.model, turn.sought.start) == (model.name, pane.start):
        turn.sought.seen = Seen(form, model.scope, counts, extremes)
    model.scope, result = update(form.scope, model.scope, start=pane.start, counts=counts, extremes=extremes)
    events = zip((version for version, _ in tally.slots), tally.counts[:, 0].tolist(), strict=True)
    model.version = leading_version(events) or model.version
    _decide(turn, model, form, result)
    noted: list[str] = []
    if form.layout.series:
        noted = _note_series(turn, model, form, counts[0], at=pane.start + form.layout.pane_ms)
    turn.counters.windows += 1
    if not turn.quiet:
        report = window_report(
            form,
            start=pane.start,
            end=pane.start + form.layout.pane_ms,
            revision=0,
            on_time=tally,
            late=pane.late,
            extras=pane.extras,
            views=(counts, extremes),
            result=result,
            episode=model.episode,
            marked=turn.marked(form, pane.start + form.layout.pane_ms),
        )
        turn.outbox.window(msgspec.structs.replace(report, findings=[*report.findings, *noted]) if noted else report)
    if form.layout.hold_ms > 0 and not turn.quiet:
        held = Held(form, pane.start, tally.pack(), pane.extras)
        held.late = pane.late
        model.hold(held)
        turn.held[model.name, pane.start] = form.id
        if pane.late.slots:
            turn.late[model.name, pane.start] = form.id


def _note_series(turn: Turn, model: Model, form: Form, row: npt.NDArray[np.int64], *, at: int) -> list[str]:
    """What river's detectors say of the statistics of a pane, in words: for the report and the audit, never a page."""
    told = form.layout.series
    if model.series is None:
        saved = model.blocks.get(SERIES_BLOCK)
        detectors = [one.detector for one in told]
        model.series = series.start(told) if saved is None else rivers.load(detectors, saved)
    model.series, noted = series.update(told, form.scope.series, model.series, row)
    for one in noted:
        turn.note(
            model.name,
            one.series.detector.name,
            at=at,
            feature=one.series.feature,
            statistic=one.series.statistic,
            panes=one.panes,
            before=one.before,
            now=one.now,
        )
    return [one.words for one in noted]


def _close_empty(turn: Turn, model: Model, form: Form, start: int, run: int) -> int:
    """Close empty panes from `start` on, at most `run`; how many."""
    assert model.scope is not None
    panes, pane_ms = 1, form.layout.pane_ms
    if run >= LONG_GAP:
        # Up to the pane that raises an alarm in one step; that one alone, so that it is dated right.
        panes = max(1, min(run, quiet_panes(form.scope, model.scope, start=start, panes=run)))
    tally = form.tally()
    counts, extremes = form.views_of(tally)
    if panes == 1:
        model.scope, result = update(form.scope, model.scope, start=start, counts=counts, extremes=extremes)
    else:
        model.scope, result = skip_empty(form.scope, model.scope, start=start, panes=panes)
    _decide(turn, model, form, result)
    turn.counters.windows += 1
    if turn.quiet:
        return panes
    report = window_report(
        form,
        start=start,
        end=start + panes * pane_ms,
        revision=0,
        on_time=tally,
        late=tally,
        extras=Extras(),
        views=(counts, extremes),
        result=result,
        episode=model.episode,
        marked=turn.marked(form, start + panes * pane_ms),
    )
    turn.outbox.window(report)
    return panes


def _decide(turn: Turn, model: Model, form: Form, result: ScopeResult) -> None:
    judge = turn.judge(model, form)
    judge.hear(result, version=model.version)
    if judge.changed:
        turn.ledgers.add(model.name)


def _empty_run(turn: Turn, model: Model, form: Form, start: int, watermark: int) -> int:
    """How many panes from `start` on are empty, end by the watermark and are of this layout."""
    ends = [watermark - watermark % form.layout.pane_ms, *(open_at for open_at in model.panes if open_at > start)]
    next_from = turn.forms.next_from(model.name, start)
    if next_from is not None:
        ends.append(next_from)
    return int(min(ends) - start) // form.layout.pane_ms


def _begin(turn: Turn, model: Model, form: Form, *, at: int) -> None:
    """A layout comes in force: charts begin anew, and the old one's incident is over.

    What the stream taught goes on, unless the layout is a reset: that keeps nothing but the policies' cooldowns.
    """
    older = turn.forms.by_id(model.name, model.layout) if model.layout else None
    if model.episode is not None:
        turn.judge(model, older or form).end(Reason.RESET if form.layout.reset else Reason.LAYOUT_CHANGED, at=at)
        turn.ledgers.add(model.name)
    turn.outbox.audit(
        f"layout {form.id}",
        "begins anew" if form.layout.reset else "in force",
        Reason.RESET if form.layout.reset else Reason.LAYOUT_IN_FORCE,
        at=at,
        model=model.name,
        before=model.layout,
        reference=form.layout.reference,
        **({"why": form.layout.reset} if form.layout.reset else {}),
    )
    state = model.scope
    if state is None and older is not None and model.blocks:
        state = load_state(older.scope, model.feature_blocks())
    if older is None or state is None or form.layout.reset:
        model.scope = form.scope.start()
    else:
        model.scope = succeed(form.scope, older=older.scope, state=state)
    model.layout = form.id
    model.outcome_state = None if form.outcomes is None else form.outcomes.start()
    model.rivers = Riverside.start(form.layout.also) if form.layout.also else None
    model.series = series.start(form.layout.series) if form.layout.series else None


def _move_away(turn: Turn, model: Model, start: int, watermark: int) -> int:
    """From `start` on the model's panes belong to another partition's task; here only late events may still come."""
    if model.layout:
        older = turn.forms.by_id(model.name, model.layout)
        if model.episode is not None and older is not None:
            turn.judge(model, older).end(Reason.LAYOUT_CHANGED, at=start)
            turn.ledgers.add(model.name)
        model.scope, model.outcome_state, model.rivers, model.series, model.layout = None, None, None, None, ""
        turn.charts.add(model.name)
        turn.clocks.add(model.name)
    release(turn, model)
    back = turn.forms.next_from(model.name, start)
    if back is None or back > watermark:
        return 0
    model.closed = back
    turn.clocks.add(model.name)
    return 1
