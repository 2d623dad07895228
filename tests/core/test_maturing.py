"""Outcome panes at stage 2: taken once at maturity, revised until the horizon, the same whatever was cut or killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import special

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.outcomes import JoinedRows, OutcomeTable, expected_rows, outcome_spec, tabulate_outcomes
from detectors.performance import coverage
from detectors.references import Reference
from detectors.rows import Rows
from detectors.tabulate import tabulate
from schemas.alerts import Incident
from schemas.control import Cluster
from schemas.envelopes import TYPES, open_envelope, unwrap
from schemas.errors import FormatError, ProtocolBroken
from schemas.layouts import Layout, RetrainPolicy
from schemas.profiles import OUTCOME, Delta, DeltaRow, Progress, encode_ints, encode_sparse
from schemas.verdicts import OutcomeReport
from streamer.core import monitoring
from streamer.core.control import Control
from tests.core.stage2 import BEGIN, DAY, HOUR, LATENESS, Log, Reader

PANE, N = 600_000, 20


def scored(rng: Any, n: int, *, b: float = 1.0) -> tuple[Any, Any]:
    score = rng.beta(2, 5, n).astype(np.float32).astype(float)
    return score, rng.binomial(1, special.expit(b * special.logit(score)))


@cache
def reference() -> Reference:
    rng = np.random.default_rng(0)
    n = 14 * 144 * N
    score, outcome = scored(rng, n)
    rows = Rows(
        ts=BEGIN - 14 * DAY + np.arange(n) * (14 * DAY // n),
        columns={"score": score, "outcome": outcome.astype(float)},
    )
    builder = ReferenceBuilder("m")
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def layout(**settings: Any) -> Layout:
    one = Layout(
        model="m",
        from_ms=0,
        reference=reference().id,
        pane_ms=PANE,
        lateness_ms=LATENESS,
        monitored=("score",),
        horizon_ms=12 * HOUR,
        maturity_ms=3 * HOUR,
        max_alert_age_ms=None,
        policies=(RetrainPolicy(min_label_coverage=0.5),),
    )
    return msgspec.structs.replace(one, **settings)


def control(*layouts: Layout) -> Control:
    return Control(
        models={"m": layouts}, references={reference().id: reference()}, cluster=Cluster(sources=1, profiles=1)
    )


@dataclass
class Traffic:
    """One source: a delta of predictions per pane, its outcomes as they come. waiting: (due, pane, rows)."""

    one: Layout
    log: Log = field(default_factory=Log)
    position: int = 0
    seq: int = 0
    waiting: list[tuple[int, int, JoinedRows]] = field(default_factory=list)

    @property
    def table(self) -> OutcomeTable:
        spec = outcome_spec(reference(), self.one)
        assert spec is not None
        return OutcomeTable(spec)

    def frame(self, **of: Any) -> dict[str, Any]:
        begin, self.position, self.seq = self.position, self.position + 1, self.seq + 1
        return {
            "source": 0, "begin": begin, "end": self.position, "part": 0, "parts": 1, "seq": self.seq, **of
        }  # fmt: skip

    def predictions(self, start: int, score: Any, *, at: int) -> None:
        table = reference().table
        counts, least, largest = tabulate(
            table,
            Binner(table.specs),
            score[:, None],
            np.zeros((score.size, 0), np.int32),
            np.zeros(score.size, int),
            1,
        )
        extremes = encode_ints(np.stack([least, largest], axis=-1).ravel())
        self.delta(
            at,
            width=table.width,
            max_ts=start + PANE - 1,
            rows=[DeltaRow(start, "1", ())],
            body=encode_sparse(counts.ravel()),
            extremes=extremes,
        )
        whole = start // self.one.outcome_pane_ms * self.one.outcome_pane_ms
        self.outcome_rows(whole, expected_rows(self.table, np.array([score.size])), at=at)

    def outcomes(self, start: int, rows: JoinedRows, *, at: int, late: bool = False) -> None:
        whole = start // self.one.outcome_pane_ms * self.one.outcome_pane_ms
        counts = tabulate_outcomes(self.table, rows, np.zeros(len(rows), np.int64), 1)
        self.outcome_rows(whole, counts, at=at, late=late)

    def outcome_rows(self, start: int, counts: Any, *, at: int, late: bool = False) -> None:
        self.delta(
            at, kind=OUTCOME, width=self.table.width, max_ts=0, rows=[DeltaRow(start, "1", (), late)],
            body=encode_sparse(counts.ravel()),
        )  # fmt: skip

    def delta(self, at: int, **of: Any) -> None:
        self.log.append(at, Delta(**self.frame(model="m", layout=self.one.id, **of)))

    def run(
        self, panes: int, *, first: int = 0, b: dict[int, float] | None = None, delay: int = HOUR, stop: int = 10**9
    ) -> Traffic:
        """Panes of N predictions; outcomes `delay` later, none of predictions from pane `stop` on."""
        for number in range(first, first + panes):
            start = BEGIN + number * PANE
            slope = next((v for k, v in reversed(list((b or {}).items())) if number >= k), 1.0)
            score, outcome = scored(np.random.default_rng(number), N, b=slope)
            self.predictions(start, score, at=start + PANE)
            if number < stop:
                came = JoinedRows.of(score=score, outcome=outcome, delay_ms=np.full(N, delay))
                self.waiting.append((start + PANE + delay, start, came))
            due = [one for one in self.waiting if one[0] <= start + PANE]
            self.waiting = [one for one in self.waiting if one[0] > start + PANE]
            for at, pane, rows in due:
                self.outcomes(pane, rows, at=max(at, start + PANE))
            self.log.append(
                start + PANE + LATENESS, Progress(**self.frame(caught_up=True, maxima={"m": start + PANE + LATENESS}))
            )
        return self


def reports(reader: Reader) -> list[OutcomeReport]:
    values = [output.value for output in reader.outputs if output.topic == "windows" and output.value is not None]
    return [unwrap(value, OutcomeReport) for value in values if open_envelope(value).type == TYPES[OutcomeReport]]


def incidents(reader: Reader) -> list[Incident]:
    return [unwrap(o.value, Incident) for o in reader.outputs if o.topic == "incidents" and o.value is not None]


def test_a_pane_is_reported_early_and_taken_once_at_its_maturity() -> None:
    """Early reports say so; the one at maturity has the verdicts; coverage is n of expected."""
    reader = Reader.start(control(layout())).read(Traffic(layout()).run(60).log)
    of_first = [one for one in reports(reader) if one.start == BEGIN]
    assert [one.revision for one in of_first] == list(range(len(of_first)))
    assert of_first[0].early
    assert of_first[0].coverage is not None
    assert of_first[0].coverage < 1.0
    assert any("early" in finding for finding in of_first[0].findings)
    (taken,) = [one for one in of_first if one.verdicts]
    assert not taken.early
    assert (taken.n, taken.expected, taken.coverage) == (6 * N, 6 * N, 1.0)
    assert {one.feature for one in taken.verdicts} == {"error", "calibration"}
    assert {one.name for one in taken.views[0].metrics} >= {"accuracy", "roc_auc", "brier"}
    assert taken.delays["1"]["p50"] == pytest.approx(HOUR, rel=0.5)
    assert incidents(reader) == []


def test_scores_that_lose_their_meaning_open_an_incident_and_ask_for_a_retraining() -> None:
    """Outcomes half as steep: an incident of losses or calibration, found at a maturity; resolved when it is over."""
    traffic = Traffic(layout()).run(700, b={0: 1.0, 150: -0.5, 300: 1.0})
    reader = Reader.start(control(layout())).read(traffic.log)
    first, last = incidents(reader)[0], incidents(reader)[-1]
    assert {one.feature for one in last.evidence} == {"error", "calibration"}
    assert BEGIN + 150 * PANE < first.opened_at < BEGIN + 300 * PANE
    assert (first.opened_at - 3 * HOUR) % HOUR == 0
    assert last.state.value == "resolved"
    assert last.open_alerts == 0
    assert [output.topic for output in reader.outputs].count("retrain-triggers") == 1


def test_late_labels_and_corrections_revise_reports_and_move_no_chart() -> None:
    """After maturity: the next report counts them, `late_n` says how many; the charts' state keeps its bytes."""
    traffic = Traffic(layout()).run(40)
    rows = JoinedRows.of(score=np.full(5, 0.9), outcome=np.zeros(5, np.int64))
    charts = Reader.start(control(layout())).read(traffic.log)
    traffic.outcomes(BEGIN, rows, at=BEGIN + 41 * PANE, late=True)
    traffic.outcomes(BEGIN, rows, at=BEGIN + 41 * PANE)
    taken_back = JoinedRows(**{**vars(rows), "sign": -rows.sign})
    traffic.outcomes(BEGIN, taken_back, at=BEGIN + 41 * PANE)
    late = Reader.start(control(layout())).read(traffic.run(0).log)
    before, after = dict(charts.changelog), dict(late.changelog)
    assert before[b"chart|outcomes|m"] == after[b"chart|outcomes|m"]
    done = Reader.start(control(layout())).read(traffic.run(90, first=42).log)
    last = [one for one in reports(done) if one.start == BEGIN][-1]
    assert (last.n, last.late_n) == (6 * N + 5, 5)
    assert done.state.counters.outcomes == sum(
        int(pane.on_time.counts[:, 0].sum() + pane.late.counts[:, 0].sum())
        for pane in done.state.models["m"].outcomes.values()
    ) + sum(
        one.n
        for one in {r.start: r for r in reports(done)}.values()
        if one.start not in done.state.models["m"].outcomes
    )


def test_labels_that_come_all_at_once_are_reported_at_once() -> None:
    """A nightly job brings the labels of a day ago: half of that age was waited for, now ten seconds are."""
    traffic = Traffic(layout()).run(60, stop=0)
    score, outcome = scored(np.random.default_rng(1), 6 * N)
    now = BEGIN + 61 * PANE
    for hour in range(8):
        came = JoinedRows.of(score=score, outcome=outcome, delay_ms=np.full(6 * N, 9 * HOUR))
        traffic.outcomes(BEGIN + hour * HOUR, came, at=now, late=True)
    few = JoinedRows.of(score=score[:3], outcome=outcome[:3], delay_ms=np.full(3, 9 * HOUR))
    for seconds in (11, 22, 33):
        maxima = {"m": now + seconds * 1000}
        if seconds > 11:
            traffic.outcomes(BEGIN, few, at=now + seconds * 1000, late=True)
        traffic.log.append(now + seconds * 1000, Progress(**traffic.frame(caught_up=True, maxima=maxima)))
    reader = Reader.start(control(layout())).read(traffic.log)
    first = [(one.n, one.late_n) for one in reports(reader) if one.start == BEGIN]
    assert first[-1] == (6 * N, 6 * N)
    assert {one.n for one in reports(reader) if BEGIN <= one.start < BEGIN + 8 * HOUR} == {0, 6 * N}
    killed = Reader.start(control(layout())).read_killed(traffic.log, every=7)
    assert killed.words == reader.words


def test_a_pipeline_that_stops_is_a_finding_and_never_fine() -> None:
    """No labels any more: charts leave the panes out, say so, and no verdict is ok."""
    reader = Reader.start(control(layout())).read(Traffic(layout()).run(200, stop=100).log)
    taken = [one for one in reports(reader) if one.verdicts and one.start >= BEGIN + 102 * PANE]
    assert len(taken) > 10
    assert all("charts leave this pane out" in one.findings[0] for one in taken)
    assert {verdict.verdict.status.value for one in taken for verdict in one.verdicts} == {"undecided"}
    assert incidents(reader) == []


@pytest.mark.parametrize("cuts", [1, 3, 17])
def test_batches_do_not_matter(cuts: int) -> None:
    """Cut anywhere, the same bytes are said."""
    log = Traffic(layout()).run(220, b={0: 1.0, 100: -0.5}).log
    whole = Reader.start(control(layout())).read(log)
    parts = Reader.start(control(layout())).read(log, cuts=range(0, len(log.records), cuts))
    assert whole.words == parts.words


@pytest.mark.parametrize("every", [37, 101])
def test_killed_anywhere_it_goes_on_as_if_never_stopped(every: int) -> None:
    """Restored from the changelog and the log again and again: equal words, equal panes, to the bit."""
    log = Traffic(layout()).run(220, b={0: 1.0, 100: -0.5}).log
    whole = Reader.start(control(layout())).read(log)
    reader = Reader.start(control(layout())).read_killed(log, every=every)
    assert whole.words == reader.words
    assert whole.state.digested() == reader.state.digested()
    assert whole.state.counters == reader.state.counters


def test_outcome_panes_do_not_hold_the_replay_back() -> None:
    """They live for the horizon, but a restart reads a few minutes of the log."""
    log = Traffic(layout()).run(200).log
    reader = Reader.start(control(layout())).read(log, cuts=range(0, len(log.records), 5))
    assert len(reader.state.models["m"].outcomes) > 10
    assert reader.state.next - reader.state.replay_from < 30


def test_a_lost_row_is_noticed() -> None:
    """The digest covers outcome panes: replay without one of the unwritten records is refused."""
    traffic = Traffic(layout()).run(30)
    traffic.outcomes(BEGIN, JoinedRows.of(score=np.full(5, 0.9), outcome=np.zeros(5, np.int64)), at=BEGIN + 31 * PANE)
    log = traffic.log
    reader = Reader.start(control(layout())).read(log, cuts=[len(log.records) - 1])
    state = monitoring.restore(reader.changelog, reader.control, 0)
    assert state.replay_from == log.records[-1].offset
    with pytest.raises(ProtocolBroken, match="digest"):
        monitoring.replay(state, log.records[:-1], reader.control)


def test_what_comes_after_the_horizon_is_dropped_and_counted() -> None:
    """A pane that was let go does not open again."""
    traffic = Traffic(layout()).run(150)
    rows = JoinedRows.of(score=np.full(7, 0.9), outcome=np.zeros(7, np.int64))
    traffic.outcomes(BEGIN, rows, at=BEGIN + 151 * PANE, late=True)
    reader = Reader.start(control(layout())).read(traffic.log)
    assert reader.state.counters.outcome_drops["late"] == 7
    assert BEGIN not in reader.state.models["m"].outcomes
    tombstones = [name for name, value in reader.changelog if value is None and name.startswith(b"outcome|")]
    assert len(tombstones) > 5


def test_a_table_of_another_width_is_refused() -> None:
    """Damage, not data: it stops with the numbers."""
    traffic = Traffic(layout()).run(3)
    traffic.delta(
        BEGIN + 4 * PANE, kind=OUTCOME, width=3, max_ts=0, rows=[DeltaRow(BEGIN, "1", ())],
        body=encode_sparse(np.array([1, 0, 0])),
    )  # fmt: skip
    with pytest.raises(FormatError, match="width 3"):
        Reader.start(control(layout())).read(traffic.log)


def test_coverage_of_a_view_is_that_of_its_cells() -> None:
    """Sanity of the harness: the first pane's table is what was sent."""
    traffic = Traffic(layout()).run(20)
    reader = Reader.start(control(layout())).read(traffic.log)
    pane = reader.state.models["m"].outcomes[BEGIN]
    assert coverage(traffic.table, pane.on_time.counts[0]) == 1.0


def test_a_new_layout_begins_its_charts_anew_and_reports_the_old_panes() -> None:
    """Panes of the old layout mature into reports, not into the new charts; a restart in between changes nothing."""
    change = BEGIN + 60 * PANE
    older, newer = layout(), layout(from_ms=change, tolerance=0.2)
    traffic = Traffic(older).run(60)
    traffic.one = newer
    late = [(due, start, rows) for due, start, rows in traffic.waiting]
    traffic.waiting = []
    for _, start, rows in late:  # counted under the layout of their prediction
        traffic.one = older
        traffic.outcomes(start, rows, at=change + PANE)
    traffic.one = newer
    traffic.run(60, first=60)
    reader = Reader.start(control(older, newer))
    for batch in traffic.log.batches(range(0, len(traffic.log.records), 50)):
        reader.apply(batch)
        reader = reader.restored(traffic.log)
    taken = {one.start: one for one in reports(reader) if one.verdicts}
    assert max(start for start in taken if start < change) < change - 3 * HOUR
    assert {one.layout for start, one in taken.items() if start >= change} == {newer.id}
    last = {one.start: one for one in reports(reader)}
    assert not last[change - HOUR].early
    assert last[change - HOUR].n == 6 * N
    assert reader.state.counters.outcome_drops == {"late": 0, "layout": 0}


def test_coverage_and_delay_of_labels_are_what_metrics_export() -> None:
    """Of the last mature panes: coverage of the last, median and 99 % delay by class, in seconds."""
    reader = Reader.start(control(layout())).read(Traffic(layout()).run(60).log)
    assert reader.state.label_coverage() == {"m": 1.0}
    delays = reader.state.label_delays()
    assert set(delays) == {("m", label, quantile) for label in "01" for quantile in ("0.5", "0.99")}
    assert min(delays.values()) == pytest.approx(3600, rel=0.5)
    assert Reader.start(control(layout())).state.label_delays() == {}
