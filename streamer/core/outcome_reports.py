"""What became of a model's predictions, for people: performance and calibration by view, coverage, delays, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import performance
from detectors.class_calibration import class_calibration
from detectors.outcome_scopes import OutcomeResult, OutcomeScope
from detectors.outcomes import OutcomeTable
from detectors.results import STATUSES
from schemas.envelopes import nine
from schemas.layouts import View
from schemas.verdicts import OutcomeReport, OutcomeVerdict, OutcomeViewReport, Verdict
from streamer.core.forms import Form
from streamer.core.incidents import Episode
from streamer.core.outcome_panes import OutcomePane
from streamer.core.tallies import Tally, merged

Ints: TypeAlias = npt.NDArray[np.int64]


def outcome_report(
    pane: OutcomePane,
    *,
    usual: Ints | None = None,
    result: OutcomeResult | None = None,
    episode: Episode | None = None,
    whole: bool = True,
) -> OutcomeReport:
    """The report on a pane as it stands; late outcomes are in its figures, not in its verdicts.

    usual: the table of the last mature panes, by which early labels are judged. result: what the charts said now.
    episode: the incident that is open after it. whole: with all views, not the model's alone.
    """
    form, layout = pane.form, pane.layout
    assert form.outcomes is not None
    table = form.outcomes.table
    views = views_of(form, merged(pane.on_time, pane.late))
    total = views[0]
    share = performance.coverage(table, total)
    early = not pane.charted
    return OutcomeReport(
        model=layout.model,
        layout=form.id,
        reference=form.reference.id,
        start=pane.start,
        end=pane.end,
        revision=pane.revision,
        early=early,
        n=int(total[table.n]),
        expected=performance.expected_of(table, total),
        late_n=int(pane.late.counts[:, table.n].sum()) if pane.late.slots else 0,
        coverage=None if share is None else nine(share),
        views=[
            _view(table, view, counts)
            for view, counts in zip(form.outcomes.views, views, strict=True)
            if whole or not view.column
        ],
        delays=performance.delays(table, total),
        verdicts=[] if result is None else _verdicts(form.outcomes, result, episode),
        provisional=bool(form.reference.provisional),
        findings=_findings(form, total, share, early=early, usual=usual, result=result),
    )


def views_of(form: Form, tally: Tally) -> Ints:
    """Sums of cells by view: (views, width)."""
    assert form.outcomes is not None
    further = tally.marginals or Tally(width=tally.width, numeric=0)
    counts = np.zeros((len(form.outcomes.views), tally.width), dtype=np.int64)
    for at, view in enumerate(form.outcomes.views):
        table = further if view.column in form.marginals else tally
        names = list(table.slots)
        rows = form.rows_of(view, names)
        if names and rows != []:
            table.counts[rows].sum(axis=0, out=counts[at])
    return counts


def _view(table: OutcomeTable, view: View, counts: Ints) -> OutcomeViewReport:
    return OutcomeViewReport(
        view=view,
        n=int(counts[table.n]),
        expected=performance.expected_of(table, counts),
        metrics=performance.measure(table, counts),
        calibration=performance.calibration(table, counts),
        classes=class_calibration(table, counts),
    )


def _verdicts(scope: OutcomeScope, result: OutcomeResult, episode: Episode | None) -> list[OutcomeVerdict]:
    members = {} if episode is None else {one.monitor: one.evidence for one in episode.members if one.firing}
    found = []
    for m, monitor in enumerate(scope.monitors):
        evidence = members.get(scope.monitor_of(m))
        status = STATUSES[result.status[m]]
        notes = (result.notes[m], "" if evidence is None else evidence.note)
        found.append(
            OutcomeVerdict(
                view=scope.views[monitor.view],
                feature=monitor.name,
                verdict=Verdict(
                    status=status,
                    value=nine(float(result.value[m])) or 0.0,
                    limit=nine(float(result.limit[m])) or 0.0,
                    n=int(result.n[m]),
                    effective_n=nine(float(result.n[m]) / scope.deff_of(m)) or 0.0,
                    reference=scope.reference.id,
                    direction="" if evidence is None else evidence.direction,
                    onset=None if evidence is None else evidence.onset,
                    size=None if evidence is None else evidence.size,
                    size_low=None if evidence is None else evidence.size_low,
                    size_high=None if evidence is None else evidence.size_high,
                    unit=_unit(scope, monitor.kind) if evidence is None else evidence.unit,
                    note="; ".join(note for note in notes if note),
                ),
            )
        )
    return found


def _unit(scope: OutcomeScope, kind: str) -> str:
    if kind == "losses":
        return "value" if scope.table.spec.kind == "regression" else "share"
    return "logit"


def _findings(
    form: Form, total: Ints, share: float | None, *, early: bool, usual: Ints | None, result: OutcomeResult | None
) -> list[str]:
    assert form.outcomes is not None
    table, found = form.outcomes.table, []
    if result is not None and result.waits:
        found.append(result.waits)
    elif share is not None and total[table.n] <= 0:
        rows = performance.expected_of(table, total)
        found.append(f"no label of {rows} predictions is in: nothing is known of the model")
    learned = {} if form.reference.labels is None else form.reference.labels.delays
    unlike = performance.unlike_medians(learned) if usual is None else performance.unlike_delays(table, usual)
    if early and unlike and (share is None or share < performance.COVERED):
        first, last = unlike
        found.append(
            f"labels {first} come sooner than labels {last}: until this pane is covered its performance is biased"
        )
    if early and share is not None:
        found.append(f"early: {share:.0%} of the labels are in; charts take the pane at its maturity")
    if result is not None:
        found += _without(form.outcomes)
    return found


def _without(scope: OutcomeScope) -> Sequence[str]:
    if scope.reference.labels is None:
        return ("the reference has no outcomes: errors are compared with their own past, calibration with nothing",)
    return ()
