"""A pane of the stream seen again: the same numbers as the window report, and honest where the front is gone."""

from __future__ import annotations

import pytest

from schemas.envelopes import nine
from schemas.errors import ConfigurationError, LateLayout
from schemas.layouts import View
from schemas.verdicts import Verdict
from streamer.commands.explain import lines
from streamer.explaining import explain_seen
from streamer.recalling import recall
from tests.core.stage2 import BEGIN, PANE, Log, Reader, Source, control, layout, steady

PANES = 30
LOG = Log()
steady(LOG, [Source()], layout(), panes=PANES, shifts=dict.fromkeys(range(12, PANES), 0.7))
READER = Reader.start(control()).read(LOG)


def verdict(pane: int, *, feature: str = "x", view: View = View()) -> Verdict:  # noqa: B008
    report = next(one for one in READER.said("windows") if one.start == BEGIN + pane * PANE)
    features = next(one for one in report.views if one.view == view).features
    found: Verdict = next(one for one in features if one.feature == feature).verdict
    return found


@pytest.mark.parametrize("pane", [0, 5, 14, 20, 28])
@pytest.mark.parametrize("view", [View(), View("country", "FR")], ids=str)
def test_it_is_the_verdict_of_the_window_report_digit_for_digit(pane: int, view: View) -> None:
    found = recall(control(), LOG.records, model="m", start=BEGIN + pane * PANE)
    assert found.seen is not None
    one = explain_seen(found.seen, start=BEGIN + pane * PANE, feature="x", view=view)
    said = verdict(pane, view=view)
    assert (nine(one.value), nine(one.limit), one.n, one.status) == (said.value, said.limit, said.n, said.status)
    assert found.exact


def test_without_a_feature_it_is_the_strongest() -> None:
    found = recall(control(), LOG.records, model="m", start=BEGIN + 14 * PANE)
    assert found.seen is not None
    assert explain_seen(found.seen, start=BEGIN + 14 * PANE).feature == "x"


def test_the_shape_of_a_member_is_said() -> None:
    found = recall(control(), LOG.records, model="m", start=BEGIN + 28 * PANE)
    assert found.seen is not None
    one = explain_seen(found.seen, start=BEGIN + 28 * PANE, feature="x")
    assert (one.shape, verdict(28).shape) == ("step", "step")
    assert any(line.startswith("since the alarm    a step") for line in lines(one))


def test_where_retention_took_the_front_it_is_not_called_exact() -> None:
    found = recall(control(), LOG.records[30:], model="m", start=BEGIN + 20 * PANE)
    assert (found.seen is not None, found.exact, found.first) == (True, False, 90)


def test_charts_that_begin_anew_within_the_recording_are_exact() -> None:
    """The front is gone, but a new layout's charts begin behind it."""
    second = layout(from_ms=BEGIN + 10 * PANE, tolerance=0.2)
    both = control(layout(), second)
    log, source = Log(), Source()
    steady(log, [source], layout(), panes=10)
    steady(log, [source], second, panes=10, start=BEGIN + 10 * PANE)
    found = recall(both, log.records[8:], model="m", start=BEGIN + 15 * PANE)
    assert found.exact
    whole = recall(both, log.records, model="m", start=BEGIN + 15 * PANE)
    assert found.seen is not None
    assert whole.seen is not None
    values = [explain_seen(one, start=BEGIN + 15 * PANE, feature="x").value for one in (found.seen, whole.seen)]
    assert values[0] == values[1] > 0


def test_a_pane_that_has_not_closed_is_not_seen() -> None:
    found = recall(control(), LOG.records[:10], model="m", start=BEGIN + 20 * PANE)
    assert (found.seen, found.passed) == (None, False)


def test_what_is_not_there_is_said() -> None:
    found = recall(control(), LOG.records, model="m", start=BEGIN)
    assert found.seen is not None
    with pytest.raises(ConfigurationError, match="--feature nope: not monitored; x, y are"):
        explain_seen(found.seen, start=BEGIN, feature="nope")
    with pytest.raises(ConfigurationError, match="--view country=UK: not tested"):
        explain_seen(found.seen, start=BEGIN, feature="x", view=View("country", "UK"))
    with pytest.raises(LateLayout, match="no layout of other"):
        recall(control(), [], model="other", start=0)
