"""Limits on reported numbers: alerts that later labels amend or withdraw, the same whatever was cut or killed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.outcomes import JoinedRows, OutcomeTable, outcome_spec
from detectors.reported import firing_share, number
from schemas.alerts import Alert
from schemas.envelopes import unwrap
from schemas.layouts import ReportLimit, View
from schemas.profiles import Progress
from schemas.verdicts import Metric, OutcomeReport, OutcomeViewReport
from tests.core.stage2 import BEGIN, HOUR, LATENESS, Reader
from tests.core.test_maturing import PANE, N, Traffic, control, incidents, layout, reference, reports, scored

#: A model that is right in seven of ten, and in three of ten where its labels are turned.
HALF = ReportLimit(metric="accuracy", below=0.5)


def watched(*limits: ReportLimit, **settings: Any) -> Any:
    return layout(reported=limits or (HALF,), **settings)


def turned(rows: JoinedRows, share: float = 1.0) -> JoinedRows:
    first = np.arange(len(rows)) < share * len(rows)
    return replace(rows, outcome=np.where(first, 1 - rows.outcome, rows.outcome))


@cache
def stream(hours: int, *, wrong: tuple[int, ...] = (), fixed: int | None = None, left: float = 0.0) -> Traffic:
    """Labels come an hour after their prediction; those of the hours `wrong` are turned, until at hour `fixed`
    corrections take that back, but for a share `left`.
    """
    traffic = Traffic(watched())
    due: list[tuple[int, int, JoinedRows]] = []
    for step in range(hours * 6):
        start, hour = BEGIN + step * PANE, step // 6
        score, outcome = scored(np.random.default_rng(step), N)
        traffic.predictions(start, score, at=start + PANE)
        right = JoinedRows.of(score=score, outcome=outcome, delay_ms=np.full(N, HOUR))
        first = turned(right) if hour in wrong else right
        due.append((start + PANE + HOUR, start, first))
        if hour in wrong and fixed is not None:
            at = BEGIN + fixed * HOUR
            due += [(at, start, replace(first, sign=-first.sign)), (at, start, turned(right, left))]
        for at, pane, rows in [one for one in due if one[0] <= start + PANE]:
            whole = pane // HOUR * HOUR + HOUR
            traffic.outcomes(pane, rows, at=max(at, start + PANE), late=at > whole + traffic.one.maturity_ms)
        due = [one for one in due if one[0] > start + PANE]
        said = start + PANE + LATENESS
        traffic.log.append(said, Progress(**traffic.frame(caught_up=True, maxima={"m": said})))
    return traffic


def read(traffic: Traffic) -> Reader:
    return Reader.start(control(traffic.one)).read(traffic.log)


def alerts(reader: Reader) -> list[Alert]:
    found = [unwrap(o.value, Alert) for o in reader.outputs if o.topic == "alerts" and o.value is not None]
    return [one for one in found if one.evidence.detector == "reported"]


def test_a_report_past_its_limit_fires_and_the_next_one_within_it_resolves() -> None:
    """Labels that stay wrong: one alert, from the first report with 95 % of them to the first that is fine again."""
    reader = read(stream(12, wrong=(6, 7)))
    fired, over = alerts(reader)
    assert (fired.state.value, fired.reason.value) == ("firing", "hard_rule")
    assert (over.state.value, over.reason.value) == ("resolved", "rule_met_again")
    evidence = fired.evidence
    assert (evidence.feature, evidence.direction) == ("accuracy", "accuracy below 0.5")
    assert evidence.onset == BEGIN + 6 * HOUR
    assert (evidence.limit, evidence.unit) == (0.5, "")
    assert evidence.n >= 114
    assert evidence.after is not None
    assert evidence.after >= 0.95
    assert evidence.size == evidence.value
    told = [one for one in reports(reader) if one.start == evidence.onset and one.n == evidence.n]
    assert evidence.value in [m.value for one in told for m in one.views[0].metrics if m.name == "accuracy"]
    assert incidents(reader)[-1].state.value == "resolved"
    assert incidents(reader)[-1].reason.value == "all_members_resolved"


def test_a_late_batch_withdraws_an_alert_that_fires() -> None:
    """All that it rests on turns out to be fine: resolved, `withdrawn`, with both numbers; the incident with it."""
    *before, last = alerts(read(stream(15, wrong=(6, 7), fixed=9)))
    assert {one.state.value for one in before} == {"firing"}
    assert (last.state.value, last.reason.value, last.id) == ("resolved", "withdrawn", before[0].id)
    assert last.evidence.note.startswith("withdrawn: 0.")
    assert "was reported, now that further labels are in it is 0.68" in last.evidence.note
    over = incidents(read(stream(15, wrong=(6, 7), fixed=9)))[-1]
    assert (over.state.value, over.reason.value) == ("resolved", "withdrawn")


def test_an_alert_that_has_resolved_is_withdrawn_too() -> None:
    """Corrections come after hours that were fine: told once more, under the same id; its incident stays as it was."""
    reader = read(stream(18, wrong=(6, 7), fixed=13))
    fired, resolved, withdrawn = alerts(reader)
    assert [one.reason.value for one in (fired, resolved, withdrawn)] == ["hard_rule", "rule_met_again", "withdrawn"]
    assert fired.id == withdrawn.id
    assert fired.incident == withdrawn.incident
    assert incidents(reader)[-1].reason.value == "all_members_resolved"
    assert reader.state.models["m"].ledger.settled == []


def test_a_late_batch_that_changes_the_number_amends_it() -> None:
    """Corrections that leave it past its limit: it fires on, says the new number and what was said before."""
    reader = read(stream(12, wrong=(6, 7), fixed=9, left=0.8))
    amended = [one for one in alerts(reader) if one.reason.value == "amended"]
    assert {one.state.value for one in amended} == {"firing"}
    assert amended[0].evidence.note.startswith("amended: 0.")
    assert [one.amended for one in amended] == list(range(1, 1 + len(amended)))
    ids = [one for one in reader.outputs if one.topic == "alerts"]
    assert len({msgspec.json.decode(one.value or b"")["id"] for one in ids}) == len(ids)


def test_charts_go_on_as_without_limits() -> None:
    """Limits and their withdrawals change no byte of the charts."""
    traffic = stream(15, wrong=(6, 7), fixed=9)
    with_limits = dict(read(traffic).changelog)
    plain = Traffic(layout(), traffic.log)
    plain.log = type(traffic.log)()
    for record in traffic.log.records:
        value = (record.value or b"").replace(traffic.one.id.encode(), layout().id.encode())
        plain.log.records.append(record._replace(value=value))
    without = dict(Reader.start(control(layout())).read(plain.log).changelog)
    assert with_limits[b"chart|outcomes|m"] == without[b"chart|outcomes|m"]


@pytest.mark.parametrize("every", [41, 97])
def test_killed_anywhere_alerts_on_reports_go_on(every: int) -> None:
    """Restored again and again: the same records as a run that nothing stopped."""
    traffic = stream(18, wrong=(6, 7), fixed=13)
    whole, reader = read(traffic), Reader.start(control(traffic.one))
    for batch in traffic.log.batches(range(0, len(traffic.log.records), every)):
        reader.apply(batch)
        reader = reader.restored(traffic.log)
    assert [(o.key, o.value) for o in whole.outputs] == [(o.key, o.value) for o in reader.outputs]


def report(*, early: bool, n: int, expected: int = 1_000, value: float | None = 0.7) -> OutcomeReport:
    metric = Metric(name="accuracy", n=n, value=value, low=0.6, high=0.8, interval="wilson")
    view = OutcomeViewReport(view=View(), n=n, expected=expected, metrics=[metric])
    return OutcomeReport(
        model="m", layout="l", reference="r", start=0, end=1, revision=0, early=early, n=n, expected=expected,
        late_n=0, coverage=n / expected, views=[view],
    )  # fmt: skip


def test_an_early_report_waits_for_its_labels_a_mature_one_for_what_is_usual() -> None:
    """Early ones at the limit's coverage; mature ones at nine tenths of the habit, if that is less."""
    assert number(HALF, report(early=True, n=949)) is None
    assert number(HALF, report(early=True, n=950)) is not None
    assert number(HALF, report(early=False, n=540), habit=0.6) is not None
    assert number(HALF, report(early=False, n=539), habit=0.6) is None
    assert number(HALF, report(early=False, n=949), habit=math.nan) is None


def test_a_number_on_too_few_rows_or_of_nothing_is_not_judged() -> None:
    assert number(HALF, report(early=False, n=99, expected=99), habit=1.0) is None
    assert number(HALF, report(early=False, n=1_000, value=None), habit=1.0) is None
    elsewhere = ReportLimit(metric="accuracy", below=0.5, view=View("country", "FR"))
    assert number(elsewhere, report(early=False, n=1_000), habit=1.0) is None


def test_coverage_is_known_at_maturity() -> None:
    """A label pipeline that stops can page: coverage is a number like the others."""
    limit = ReportLimit(metric="coverage", below=0.5)
    assert number(limit, report(early=True, n=10)) is None
    found = number(limit, report(early=False, n=10), habit=1.0)
    assert found is not None
    assert (found.value, found.n) == (0.01, 1_000)


def test_how_often_a_limit_fires_with_nothing_changed() -> None:
    """Near the model's own accuracy half of the time, far below it never; of AUC likewise."""
    spec = outcome_spec(reference(), layout())
    assert spec is not None
    table = OutcomeTable(spec)

    def share(metric: str, below: float) -> float | None:
        limit = ReportLimit(metric=metric, below=below)
        return firing_share(limit, reference=reference(), table=table, n=400)

    labels = reference().labels
    assert labels is not None
    learned = labels.views[View()].losses
    assert learned is not None
    assert 0.3 < (share("accuracy", 1.0 - learned.rate) or 0.0) < 0.7
    assert share("accuracy", 0.5) == 0.0
    assert share("roc_auc", 0.99) == 1.0
    assert share("ece", 0.9) is not None
    assert share("coverage", 0.5) is None
