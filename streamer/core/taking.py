"""One record of `profiles` at a time: does it join, what does it add, how far does it bring the watermark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.alerts import Reason
from schemas.errors import ConfigurationError, FormatError
from schemas.events import DropReason
from schemas.profiles import OUTCOME, Delta, Extra, Progress
from streamer.core.closing import Turn, say_revisions
from streamer.core.forms import Form
from streamer.core.marking import unheard
from streamer.core.maturing import take_outcomes, tell_outcomes
from streamer.core.merging import Extras, Pane
from streamer.core.models import Held, Model
from streamer.core.positions import WRONG_LAYOUT
from streamer.core.ranges import joins, taken
from streamer.core.tallies import decode_rows
from streamer.core.watermarks import Clock, advance, heard, saw

if TYPE_CHECKING:
    from streamer.core.monitoring import MonitoringState

#: A source that has said nothing for this long, by append time, is announced.
STALLED_MS = 60_000
#: Rows that are refused after so many records of `profiles` without any are told of anew.
REFUSED_AGAIN = 1_000


class Taker:
    """Takes records into a state, one after the other; its words go to the turn's outbox."""

    def __init__(self, state: MonitoringState, turn: Turn) -> None:
        self.state, self.turn = state, turn

    def take(self, offset: int, append_ts: int, record: Delta | Progress) -> None:
        """Take in one record; `ProtocolBroken` when it does not join its source's last one."""
        state, number = self.state, record.source
        state.now = self.turn.now = max(state.now, append_ts)
        if state.began is None:
            state.began = append_ts
        source = state.sources.get(number)
        if not joins(source, record):
            self.turn.counters.repeated += 1
            state.skipped.append(offset)
            return
        if (source is not None and source.stalled) or number in state.absent:
            state.absent.discard(number)
            silent_since = state.began if source is None else source.spoke_at
            self._audit_source(number, "moves", Reason.SOURCE_MOVES, silent_ms=append_ts - silent_since)
        state.sources[number] = taken(source, record, append_ts=append_ts)
        if isinstance(record, Progress):
            self._progress(record)
        elif record.kind != OUTCOME:
            self._delta(record, offset, append_ts)
        else:
            # Outcomes move no watermark: they come when they come.
            take_outcomes(self._model(record.model, append_ts), record, offset, self.turn)
        self._settle(number)

    def review(self) -> None:
        """Decide pending triggers by what `control` says now, and by the time; hear marks on incidents."""
        marks = self.turn.control.marks
        for name in sorted(self.state.models):
            model = self.state.models[name]
            if not model.ledger.pending and not unheard(model.ledger.marked, marks, model=name):
                continue
            form = self._form_in_force(model)
            if form is None:
                continue
            judge = self.turn.judge(model, form)
            if form.layout.partition != self.state.partition:
                judge.marks = {}  # the task that the model has moved to says it
            judge.review(at=model.closed if model.closed is not None else 0)
            if judge.changed:
                self.turn.ledgers.add(name)

    def _delta(self, delta: Delta, offset: int, append_ts: int) -> None:
        model = self._model(delta.model, append_ts)
        merge(model, delta, offset, self.turn)
        heard(model.clock, source=delta.source, append_ts=append_ts)
        self.state.sources[delta.source].said[model.name] = delta.max_ts
        self.turn.clocks.add(model.name)

    def _settle(self, number: int) -> None:
        """Believe the maxima of a source's transaction when the last of its parts is here, not before."""
        source = self.state.sources[number]
        if not source.complete:
            return
        for name, max_ts in sorted(source.said.items()):
            model = self.state.models[name]
            saw(model.clock, source=number, max_ts=max_ts)
            self.turn.clocks.add(name)
            self._advance(model)
        source.said = {}

    def _progress(self, progress: Progress) -> None:
        state, turn = self.state, self.turn
        state.ticked = state.now
        for name, max_ts in sorted(progress.maxima.items()):
            if name not in state.models and not self._is_ours(name, max_ts):
                continue
            clock = self._model(name, state.now).clock
            if clock.max_ts.get(progress.source, max_ts - 1) < max_ts:
                saw(clock, source=progress.source, max_ts=max_ts)
                turn.clocks.add(name)
        for name in sorted(state.models):
            model = state.models[name]
            say_revisions(turn, model)
            tell_outcomes(turn, model)
            self._advance(model)
        self._announce_silent()
        self.review()

    def _advance(self, model: Model) -> None:
        form = self._form_in_force(model)
        if form is None:
            return
        quiet = model.clock.quiet_since
        moved = advance(
            model.clock,
            self.state.sources,
            expected=self._expected(),
            lateness_ms=form.layout.lateness_ms,
            idle_after_ms=form.layout.idle_after_ms,
            now=self.state.now,
        )
        if quiet != model.clock.quiet_since:
            self.turn.clocks.add(model.name)
        if moved:
            self.state.due.add(model.name)

    def _announce_silent(self) -> None:
        state = self.state
        for number in range(self._expected()):
            source = state.sources.get(number)
            if source is None:
                silent_ms = state.now - (state.now if state.began is None else state.began)
                if silent_ms > STALLED_MS and number not in state.absent:
                    state.absent.add(number)
                    self._audit_source(number, "stalled", Reason.SOURCE_STALLED, silent_ms=silent_ms)
            elif not source.stalled and state.now - source.spoke_at > STALLED_MS:
                source.stalled = True
                silent_ms = state.now - source.spoke_at
                self._audit_source(number, "stalled", Reason.SOURCE_STALLED, silent_ms=silent_ms)

    def _audit_source(self, number: int, decision: str, reason: Reason, *, silent_ms: int) -> None:
        self.turn.outbox.audit(f"source {number}", decision, reason, at=self.state.now, silent_ms=silent_ms)

    def _model(self, name: str, append_ts: int) -> Model:
        model = self.state.models.get(name)
        if model is None:
            known = [layout_id for _, layout_id in self.turn.forms.ids(name)]
            model = self.state.models[name] = Model(name, Clock(first_seen=append_ts), known)
            self.turn.clocks.add(name)
        return model

    def _form_in_force(self, model: Model) -> Form | None:
        """Form at the model's present: where its next pane closes, else where its first one opens."""
        at = model.closed
        if at is None:
            at = min(model.panes, default=max(model.clock.max_ts.values(), default=0))
        return self.turn.forms.at(model.name, at)

    def _is_ours(self, name: str, ts: int) -> bool:
        form = self.turn.forms.at(name, ts)
        return form is not None and form.layout.partition == self.state.partition

    def _expected(self) -> int:
        cluster = self.turn.control.cluster
        if cluster is None:
            raise ConfigurationError("the control topic has no `cluster` record: run `tripline apply`")
        return cluster.sources


def merge(model: Model, delta: Delta, offset: int, turn: Turn) -> None:
    """Add a delta to the model's open panes, and what is too late for them to its held ones; count every event.

    A model has at most `limits.open_panes` open panes. Rows of a further one are refused, in the order of the log:
    what is open stays open, and a pane that was refused may open later, when others have closed.
    """
    rows, extras, counters = decode_rows(delta), extras_by_row(delta), turn.counters
    watermark = model.clock.watermark
    for (start, late), take in rows_by_pane(delta).items():
        # Rows of marginal tables hold the events of the cells once more.
        cells = [row for row in take if not rows.rows[row].marginal]
        events = sum(rows.events[row] for row in cells)
        counters.consumed += events
        form = _form_for(model, delta, start, turn)
        if form is None:
            counters.drops[WRONG_LAYOUT] += events
            continue
        if len(cells) < len(take):
            _check_marginals(delta, take, form)
        named = [extra for row in take for extra in extras.get(row, ())]
        if model.closed is None or start >= model.closed:
            if start not in model.panes and (not cells or len(model.panes) >= form.layout.limits.open_panes):
                if cells:
                    _tell_refused(turn, model, form, start=start, offset=offset)
                model.refused = offset
                counters.drops[DropReason.OVER_LIMIT.value] += events
                continue
            pane = open_pane(model, form, start=start, offset=offset)
            folded = pane.add(rows, take, named, late=late)
        elif watermark is not None and start + form.layout.pane_ms + form.layout.hold_ms <= watermark:
            counters.drops[DropReason.LATE.value] += events
            continue
        else:
            held = model.held.get(start)
            if held is not None and held.form.id != form.id:
                # It closed under the layout before, which was learned to be over too late.
                counters.drops[WRONG_LAYOUT] += events
                continue
            if held is None:
                held = Held(form, start, None, Extras())
                model.hold(held)
            folded = held.add(rows, take, named)
            model.unsaid.add(start)
            turn.late[model.name, start] = form.id
        counters.applied += events
        counters.folded += folded.events
        counters.folded_marginals += folded.marginals


def _tell_refused(turn: Turn, model: Model, form: Form, *, start: int, offset: int) -> None:
    """Audit that rows are refused: sources are further apart than `limits.open_panes` allows; once while it goes on."""
    if model.refused >= 0 and offset - model.refused <= REFUSED_AGAIN:
        return
    turn.outbox.audit(
        f"model {model.name}",
        "events dropped, too many panes are open",
        Reason.OVER_LIMIT,
        at=start,
        model=model.name,
        open_panes=len(model.panes),
        limit=form.layout.limits.open_panes,
        oldest=min(model.panes),
    )


def open_pane(model: Model, form: Form, *, start: int, offset: int) -> Pane:
    """The open pane that starts at `start`; a new one is fed by the record at `offset` first."""
    pane = model.panes.get(start)
    if pane is None:
        pane = model.panes[start] = Pane(form, start=start, first_offset=offset)
    return pane


def rows_by_pane(delta: Delta) -> dict[tuple[int, bool], list[int]]:
    """Rows of a delta by pane and lateness, in ascending order."""
    found: dict[tuple[int, bool], list[int]] = {}
    for number, row in enumerate(delta.rows):
        found.setdefault((row.pane, row.late), []).append(number)
    return found


def extras_by_row(delta: Delta) -> dict[int, list[Extra]]:
    """Extras of a delta by row."""
    found: dict[int, list[Extra]] = {}
    for extra in delta.extras:
        found.setdefault(extra.row, []).append(extra)
    return found


def _form_for(model: Model, delta: Delta, start: int, turn: Turn) -> Form | None:
    """Form of a pane; None when the delta counted it under another layout."""
    form = turn.forms.at(model.name, start)
    if form is None or form.id != delta.layout:
        return None
    if not form.reference.table.holds(delta.width) or start % form.layout.pane_ms:
        raise FormatError(
            f"a delta of {model.name}: pane {start} and width {delta.width}, "
            f"but layout {form.id} has panes of {form.layout.pane_ms} ms and width {form.width}"
        )
    return form


def _check_marginals(delta: Delta, take: Sequence[int], form: Form) -> None:
    for row in (delta.rows[at] for at in take):
        if row.marginal and (row.marginal not in form.marginals or len(row.segment) != 1):
            raise FormatError(f"a delta of {delta.model}: {row.marginal!r} is no marginal of layout {form.id}")
