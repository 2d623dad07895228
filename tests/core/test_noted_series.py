"""river's detectors on the series of a statistic: noted at the pane, the same after any kill, and no page."""

from __future__ import annotations

import numpy as np
import pytest
from river.drift import ADWIN

from detectors import series
from detectors.catalogue import STATISTICS
from detectors.scopes import build_scope
from schemas.alerts import AuditRecord, Reason
from schemas.layouts import Layout, OtherDetector, Series, View
from streamer.config import load_text
from tests.core.stage2 import BEGIN, PANE, Log, Reader, Source, control, layout, reference, steady

ON_PSI = Series(
    feature="x", statistic="psi", detector=OtherDetector(name="adwin", parameters={"delta": 0.05, "grace_period": 5})
)
ON_KS = Series(
    feature="x", statistic="ks", detector=OtherDetector(name="kswin", parameters={"window_size": 40, "stat_size": 15})
)
SHIFTS = dict.fromkeys(range(60, 100), 0.7)


def told(one: Layout, panes: int = 100) -> Log:
    log = Log()
    steady(log, [Source()], one, panes=panes, n=200, shifts=SHIFTS)
    return log


def noted(reader: Reader) -> list[AuditRecord]:
    return [one for one in reader.said("audit") if one.reason is Reason.OTHER_DETECTOR]


def test_a_change_of_a_statistic_is_noted_and_pages_nobody() -> None:
    watched, plain = layout(series=(ON_PSI, ON_KS)), layout()
    reader = Reader.start(control(watched)).read(told(watched))
    records = noted(reader)
    assert {one.details["statistic"] for one in records} == {"psi", "ks"}
    first = records[0]
    assert BEGIN + 61 * PANE <= first.at < BEGIN + 80 * PANE
    assert isinstance(first.details["now"], float)
    reports = {report.end: report for report in reader.said("windows")}
    assert all(any("river's" in finding for finding in reports[one.at].findings) for one in records)
    without = Reader.start(control(plain)).read(told(plain))
    assert [one.opened_at for one in reader.said("incidents")] == [one.opened_at for one in without.said("incidents")]
    assert sum(reader.state.counters.noted.values()) == len(records)


def test_the_first_alarm_is_that_of_river_on_the_statistics_of_the_reports() -> None:
    watched = layout(series=(ON_PSI,))
    reader = Reader.start(control(watched)).read(told(watched))
    detector, first = ADWIN(delta=0.05, grace_period=5), None
    for report in reader.said("windows"):
        x = next(one for one in report.views[0].features if one.feature == "x")
        detector.update(x.psi)
        first = report.end if detector.drift_detected and first is None else first
    assert first is not None
    assert noted(reader)[0].at == first


@pytest.mark.parametrize("every", [7, 31])
def test_killed_anywhere_they_go_on_as_if_never_stopped(every: int) -> None:
    watched = layout(series=(ON_PSI, ON_KS))
    log = told(watched)
    whole = Reader.start(control(watched)).read(log)
    reader = Reader.start(control(watched)).read_killed(log, every=every)
    assert whole.words == reader.words
    assert whole.state.counters == reader.state.counters


def test_without_them_nothing_of_it_is_kept() -> None:
    reader = Reader.start(control(layout())).read(told(layout(), panes=5))
    assert not [key for key, _ in reader.changelog if key.startswith(b"chart|series")]


def test_a_pane_of_few_events_has_no_value() -> None:
    watched = layout(series=(ON_PSI,))
    scope = build_scope(reference(), watched)
    start = series.start(watched.series)
    row = reference().table.width * [0]
    assert series.update(watched.series, scope.series, start, np.array(row)) == (start, ())


def test_what_it_costs_in_peace_is_said() -> None:
    [limit] = build_scope(reference(), layout(series=(ON_PSI,))).series
    quiet = series.alarms_a_month(ON_PSI, limit, n=200.0, panes=500)
    nervous = Series(feature="x", statistic="psi", detector=OtherDetector(name="kswin", parameters={"alpha": 0.2}))
    assert series.alarms_a_month(nervous, limit, n=200.0, panes=500) > quiet
    assert STATISTICS["psi"].value(limit.reference, limit.reference) == pytest.approx(0.0, abs=1e-6)
    assert View() in reference().views


def test_river_may_be_named_as_in_python() -> None:
    file = "models: {m: {reference: r, watch: [{feature: x, statistic: psi, detector: river.PageHinkley}]}}"
    found = load_text(file).config.models["m"].watch[0].detector
    assert found == OtherDetector(name="page_hinkley")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{feature: x, statistic: psi}", "exactly one of above, detector"),
        ("{feature: x, statistic: psi, above: 0.2, detector: adwin}", "exactly one of above, detector"),
        ("{feature: x, statistic: psi, detector: ddm}", "'ddm' is none of adwin, page_hinkley, kswin"),
        ("{feature: x, statistic: psi, detector: {kswin: {beta: 1}}}", "kswin has no beta"),
    ],
)
def test_an_entry_that_means_nothing_is_refused_with_its_line(entry: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        load_text(f"models: {{m: {{reference: r, watch: [{entry}]}}}}")
