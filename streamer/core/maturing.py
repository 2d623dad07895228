"""Outcome panes of a model at stage 2: rows come in, a pane matures once, reports are revised, old panes go."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import numpy as np

from detectors import outcome_scopes, performance
from detectors.charts import rivers
from detectors.charts.rivers import Noted, Riverside
from detectors.outcome_scopes import OutcomeResult, OutcomeScope
from detectors.outcome_states import OutcomeState, load_state
from detectors.outcomes import LOSS_BITS, losses_of
from detectors.results import ScopeResult
from schemas.errors import FormatError
from schemas.events import DropReason
from schemas.profiles import Delta
from streamer.core.closing import SeenOutcomes, Turn
from streamer.core.forms import Form, Forms
from streamer.core.incidents import leading_version
from streamer.core.models import OUTCOME_BLOCK, RIVER_BLOCK, Model
from streamer.core.outcome_panes import OutcomePane
from streamer.core.outcome_reports import outcome_report, views_of
from streamer.core.positions import WRONG_LAYOUT
from streamer.core.reported import hear_report
from streamer.core.tallies import decode_rows

#: Mature panes whose delays say what is usual.
RECENT = 24


def take_outcomes(model: Model, delta: Delta, offset: int, turn: Turn) -> None:
    """Add a delta of outcome tables to the model's outcome panes; matches are counted, corrections as negative ones."""
    rows, counters = decode_rows(delta), turn.counters
    for (start, late), take in rows_by_outcome_pane(delta).items():
        matches = sum(rows.events[row] for row in take if not rows.rows[row].marginal)
        form = outcome_form(turn.forms, delta, start)
        pane = None if form is None else _pane(model, form, start)
        wrong = form is None or (pane is not None and pane.form.id != form.id)
        if pane is None or wrong:
            counters.outcome_drops[WRONG_LAYOUT if wrong else DropReason.LATE.value] += matches
            continue
        counters.outcomes += matches
        counters.folded += pane.add(rows, take, late=late, offset=offset, now=turn.now)


def again(model: Model, delta: Delta, offset: int, forms: Forms, *, now: int) -> None:
    """After a restart: add a delta to the panes that were written without it."""
    rows = decode_rows(delta)
    for (start, late), take in rows_by_outcome_pane(delta).items():
        form = outcome_form(forms, delta, start, known=model.known)
        pane = None if form is None else _pane(model, form, start)
        if form is not None and pane is not None and pane.form.id == form.id and offset >= pane.through:
            pane.add(rows, take, late=late, offset=offset, now=now)


def _pane(model: Model, form: Form, start: int) -> OutcomePane | None:
    """The outcome pane that starts at `start`, a new one if need be; None when its time is over."""
    pane = model.outcomes.get(start)
    if pane is None:
        pane = OutcomePane(form, start)
        if model.closed is not None and pane.gone <= model.closed:
            return None
        pane.charted = model.closed is not None and pane.due <= model.closed
        model.outcomes[start] = pane
    return pane


def label_delays(model: Model) -> dict[tuple[str, str], float]:
    """Delay of labels in s by class and quantile (`0.5`, `0.99`), of the last mature panes; for metrics."""
    mature = [pane for _, pane in sorted(model.outcomes.items()) if pane.charted and pane.form.id == model.layout]
    if not mature:
        return {}
    scope = mature[-1].form.outcomes
    assert scope is not None
    counts = np.sum([pane.on_time.counts.sum(axis=0) for pane in mature[-RECENT:]], axis=0)
    found = performance.delays(scope.table, counts)
    words = {"p50": "0.5", "p99": "0.99"}
    return {(name, words[p]): of[p] / 1000.0 for name, of in found.items() for p in words}


def rows_by_outcome_pane(delta: Delta) -> dict[tuple[int, bool], list[int]]:
    """Rows of a delta by pane and lateness, in ascending order."""
    found: dict[tuple[int, bool], list[int]] = {}
    for number, row in enumerate(delta.rows):
        found.setdefault((row.pane, row.late), []).append(number)
    return found


def outcome_form(forms: Forms, delta: Delta, start: int, *, known: Collection[str] | None = None) -> Form | None:
    """Form of an outcome pane; None when the delta counted it under another layout, or outcomes are not watched.

    known: as in `Forms.at`.
    """
    form = forms.at(delta.model, start, known=known)
    if form is None or form.id != delta.layout or form.outcomes is None:
        return None
    strange = {row.marginal for row in delta.rows if row.marginal} - set(form.marginals)
    if strange:
        raise FormatError(f"outcomes of {delta.model}: {min(strange)!r} is no marginal of layout {form.id}")
    if not form.outcomes.table.holds(delta.width) or start % form.layout.outcome_pane_ms:
        raise FormatError(
            f"outcomes of {delta.model}: pane {start} and width {delta.width}, but layout {form.id} has outcome panes "
            f"of {form.layout.outcome_pane_ms} ms and width {form.outcomes.table.width}"
        )
    return form


def mature_next(turn: Turn, model: Model) -> int:
    """Let the charts take the next outcome pane whose time has come; what it cost in monitor-panes, 0 for none.

    Its time has come when every pane that ends by then is closed, so that both kinds of alarm come in one order.
    """
    if model.closed is None:
        return 0
    waiting = (start for start, pane in model.outcomes.items() if not pane.charted and pane.due <= model.closed)
    due = min(waiting, default=None)
    if due is None:
        return 0
    pane = model.outcomes[due]
    pane.charted = True
    scope = pane.form.outcomes
    assert scope is not None
    result = _judge(turn, model, pane) if pane.form.id == model.layout else None
    taken = result is not None and not result.waits
    noted = _note(turn, model, pane) if taken and pane.layout.also else ()
    _say(turn, model, pane, result, whole=True, noted=noted)
    return max(1, len(scope.monitors))


def tell_outcomes(turn: Turn, model: Model) -> None:
    """Report again what has changed for long enough, and let go of panes that no outcome can reach any more."""
    closed = model.closed
    if closed is None:
        return
    for start, pane in sorted(model.outcomes.items()):
        if pane.end > closed:
            break
        gone = pane.gone <= closed
        if pane.unsaid and (gone or pane.tells(now=turn.now)):
            _say(turn, model, pane, None, whole=gone)
        if gone:
            del model.outcomes[start]
            turn.outcomes[model.name, start] = pane.form.id


def _judge(turn: Turn, model: Model, pane: OutcomePane) -> OutcomeResult:
    form = pane.form
    scope = form.outcomes
    assert scope is not None
    counts = views_of(form, pane.on_time)
    local, charts = form.scope.local(pane.start), _charts(model, scope)
    if turn.sought is not None and (turn.sought.model, turn.sought.start) == (model.name, pane.start):
        turn.sought.outcomes = SeenOutcomes(form, charts, counts, local)
    model.outcome_state, result = outcome_scopes.update(scope, charts, start=pane.start, local=local, counts=counts)
    judge = turn.judge(model, form)
    share = performance.coverage(scope.table, counts[0])
    if share is not None:
        model.ledger.coverage, judge.changed = share, True
    members = [] if model.episode is None else model.episode.members
    gone = {(one.view, one.feature) for one in result.cleared}
    over = bool(gone) and all(member.monitor in gone for member in members if member.firing)
    # Dated to when it could be known; over: nothing of the incident is left.
    heard = ScopeResult.of_incident(
        end=pane.due,
        pane_ms=form.layout.pane_ms,
        alarms=result.alarms,
        absorbed=result.absorbed,
        cleared=result.cleared,
        resolved=over,
    )
    judge.hear(heard, version=_version(model, pane))
    if judge.changed:
        turn.ledgers.add(model.name)
    turn.charts.add(model.name)
    return result


def _note(turn: Turn, model: Model, pane: OutcomePane) -> tuple[Noted, ...]:
    """What river's detectors say of a pane that the charts took: for the report and the audit, never for a page."""
    layout, scope = pane.layout, pane.form.outcomes
    assert scope is not None
    if model.rivers is None:
        saved = model.blocks.get(RIVER_BLOCK)
        model.rivers = Riverside.start(layout.also) if saved is None else rivers.load(layout.also, saved)
    n, total = losses_of(scope.table, views_of(pane.form, pane.on_time)[0])
    model.rivers, noted = rivers.update(layout.also, model.rivers, n=int(n), k=round(int(total) / (1 << LOSS_BITS)))
    for one in noted:
        turn.note(
            layout.model,
            one.detector,
            at=pane.due,
            pane=pane.start,
            panes=one.panes,
            before=one.before,
            now=one.now,
        )
    return noted


def _charts(model: Model, scope: OutcomeScope) -> OutcomeState:
    """The state of the charts, from the changelog if it has not been looked at since the restart."""
    if model.outcome_state is None:
        saved = model.blocks.get(OUTCOME_BLOCK)
        model.outcome_state = scope.start() if saved is None else load_state(scope.start(), scope.plan, saved)
    return model.outcome_state


def _version(model: Model, pane: OutcomePane) -> str:
    """The version with most outcomes in a pane, else in the last pane of predictions."""
    events = zip((version for version, _ in pane.on_time.slots), pane.on_time.counts[:, 0].tolist(), strict=True)
    return leading_version(events) or model.version


def _say(
    turn: Turn,
    model: Model,
    pane: OutcomePane,
    result: OutcomeResult | None,
    *,
    whole: bool,
    noted: tuple[Noted, ...] = (),
) -> None:
    """Report a pane. whole: with the figures of every view, which cost some milliseconds each."""
    mature = [one for _, one in sorted(model.outcomes.items()) if one.charted and one.form.id == pane.form.id]
    usual = np.sum([one.on_time.counts.sum(axis=0) for one in mature[-RECENT:]], axis=0) if mature else None
    limits = pane.layout.reported
    whole = whole or any(limit.view.column for limit in limits)
    report = outcome_report(pane, usual=usual, result=result, episode=model.episode, whole=whole)
    report = msgspec.structs.replace(report, findings=[*report.findings, *(one.words for one in noted)])
    turn.outbox.outcomes(report)
    if limits and pane.form.id == model.layout and model.closed is not None:
        scope, judge = pane.form.outcomes, turn.judge(model, pane.form)
        assert scope is not None
        at = max(model.closed, pane.end)
        hear_report(judge, report, habit=_charts(model, scope).habit, at=at, version=_version(model, pane))
        if judge.changed:
            turn.ledgers.add(model.name)
    pane.said(now=turn.now)
    turn.counters.outcome_reports += 1
    turn.outcomes[model.name, pane.start] = pane.form.id
