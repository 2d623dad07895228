"""What a report says of a window: figures by hand, noise at any n, rates and quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from stage2 import BEGIN, PANE, Events, Log, Reader, Source, control, events, layout, reference, steady

from detectors.building import ReferenceBuilder
from detectors.rows import Rows
from detectors.statistics.jensen_shannon import jensen_shannon, jensen_shannon_noise
from detectors.statistics.ks import ks, ks_noise
from detectors.statistics.psi import psi, psi_noise
from schemas.layouts import View
from schemas.verdicts import WindowReport
from streamer.core.figures import Yardstick
from streamer.core.forms import form_of
from streamer.core.merging import Extras
from streamer.core.reports import window_report

ONE = layout()
FORM = form_of(ONE, control(ONE))


def report_of(rows: Events) -> WindowReport:
    log, source = Log(), Source()
    log.append(BEGIN + PANE, source.delta(ONE, rows))
    steady(log, [source], ONE, panes=2, start=BEGIN + PANE)
    report: WindowReport = Reader.start(control(ONE)).read(log).said("windows")[0]
    return report


def test_figures_are_those_of_the_raw_values() -> None:
    rows = events(400, seed=12)
    rows.x[:40] = np.nan
    whole, french = report_of(rows).views
    x = next(feature for feature in whole.features if feature.feature == "x")
    valued = rows.x[40:]
    assert (x.n, x.missing) == (400, 0.1)
    assert x.mean == pytest.approx(valued.mean(), abs=1e-4)
    assert (x.least, x.largest) == pytest.approx((valued.min(), valued.max()), abs=1e-4)
    assert (french.view, french.n) == (View("country", "FR"), int((rows.country == "FR").sum()))


def test_distances_are_those_of_the_statistics_on_the_views_own_reference() -> None:
    rows = events(400, seed=13)
    french = report_of(rows).views[1]
    own = reference().views[View("country", "FR")].features["y"].counts
    spec = reference().spec("y")
    assert spec is not None
    y = rows.y[rows.country == "FR"]
    counts = np.bincount(np.searchsorted(spec.edges, y), minlength=spec.width)
    for kind, beyond in (("below", y < spec.low), ("above", y > spec.high)):
        np.subtract.at(counts, np.searchsorted(spec.edges, y[beyond]), 1)
        counts[spec.columns.index(kind)] += int(beyond.sum())
    of_y = next(feature for feature in french.features if feature.feature == "y")
    bins = spec.value_bins
    ordered = [bins, *range(bins), bins + 1]
    expected = (psi(own, counts), jensen_shannon(own, counts), ks(own[ordered], counts[ordered]))
    assert (of_y.psi, of_y.jensen_shannon, of_y.ks) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n", [1, 3, 7, 50, 60, 1_000, 4_321, 1_000_000])
def test_noise_in_between_is_within_two_percent(n: int) -> None:
    own = reference().views[View()].features["x"].counts
    bins = own.size - 4
    ordered = own[[bins, *range(bins), bins + 1]]
    yardstick = Yardstick(reference(), views=(View(),), names=("x",))
    expected = [psi_noise(own, n), jensen_shannon_noise(own, n), ks_noise(ordered, n)]
    assert yardstick.noise(0, n)[:, 0].tolist() == pytest.approx(expected, rel=0.02)


def test_rates_and_quantiles_come_from_the_tables_own_sections() -> None:
    table, tally = reference().table, FORM.tally()
    row = tally.slot(("1", ("DE",)))
    counts = tally.counts[row]
    counts[0] = 10
    counts[table.delay.start + 20] = 10
    counts[table.status.start : table.status.stop] = (8, 2)
    counts[table.schema.start : table.schema.stop] = (1, 5)
    report = window_report(
        FORM, start=BEGIN, end=BEGIN + PANE, revision=2, on_time=tally, late=FORM.tally(), extras=Extras()
    )
    assert report.rates == {"error": 0.2, "unknown_feature": 0.1, "wrong_type": 0.5}
    assert report.quantiles == {"delay_ms_p50": 1024.0, "delay_ms_p90": 1024.0, "delay_ms_p99": 1024.0}
    assert [feature.verdict for feature in report.views[0].features] == [None, None]


def test_an_empty_window_has_verdicts_and_no_figures() -> None:
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=2)
    steady(log, [source], ONE, panes=2, start=BEGIN + 4 * PANE)
    empty = Reader.start(control(ONE)).read(log).said("windows")[2]
    [x, _] = empty.views[0].features
    assert (empty.n, empty.cells, empty.rates, x.n, x.psi, x.mean) == (0, [], {}, 0, None, None)
    assert x.verdict is not None


def test_the_mean_of_values_near_the_largest_float_is_one() -> None:
    rows = Rows(ts=np.arange(1000) * 60_000, columns={"x": np.linspace(-1, 1, 1000) * 1e308})
    builder = ReferenceBuilder("m", "features")
    builder.survey(rows)
    builder.count(rows)
    learned = builder.finish()
    spec = learned.specs[0]
    counts = np.zeros((1, learned.table.width), dtype=np.int64)
    counts[0, learned.table.features["x"].start + spec.value_bins - 1] = 1000
    counts[0, learned.table.sums.start] = 1000 * round(1e308 * 2.0**spec.scale_bits)
    yardstick = Yardstick(learned, views=(View(),), names=("x",))
    assert yardstick.figures(counts, np.zeros((1, 1, 2), dtype=np.int64)).mean[0, 0] == pytest.approx(1e308)


def test_further_statistics_are_reported_with_what_chance_gives() -> None:
    """Those that need an order are left out for levels."""
    one = layout(statistics=("hellinger", "wasserstein", "chi2"))
    log = Log()
    steady(log, [Source()], one, panes=3, n=200)
    windows = Reader.start(control(one)).read(log).said("windows")
    statistics = windows[0].views[0].features[0].statistics
    assert list(statistics) == ["hellinger", "wasserstein", "chi2"]
    value, chance = statistics["chi2"]
    counted = reference().views[View()].features["x"].counts
    assert chance == pytest.approx(np.count_nonzero(counted) - 1, rel=0.1)
    assert 0.3 * chance < value < 3 * chance
