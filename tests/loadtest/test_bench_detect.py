"""The benchmark's own arithmetic: seeds, run lengths, delays, thresholds, rows, and what it says without a checkout."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.detect import coverage, honesty, labels, match, matched, report, scores, stress
from loadtest.detect.charts import Adaptive, Calibrated, Mixture
from loadtest.detect.fleet import binned
from loadtest.detect.rows import bar
from loadtest.detect.run_length import delays, limits, rate
from loadtest.detect.streams import CHANGES, NULLS, Null, seeded
from schemas.errors import ConfigurationError
from streamer.commands.bench_detect import detect

Floats = npt.NDArray[np.float64]
KEYS = {
    "detector", "ours", "stream", "monitors", "arl0", "attained_arl0", "interval", "setting", "mean_delay",
    "median_delay", "p90_delay", "missed", "early", "ns_per_event",
}  # fmt: skip
NORMAL = next(change for change in CHANGES if change.name == "normal mean .5")


class Largest:
    """A chart whose value is 1 over a uniform of the pane: a limit of h is passed once in h panes."""

    def step(self, values: Floats) -> Floats:
        return np.asarray(1.0 / values[:, 0])

    def restart(self, which: npt.NDArray[np.bool_]) -> None:
        """Nothing is remembered."""


def uniforms(seed: int, panes: int) -> list[Floats]:
    return list(np.random.default_rng(seed).random((panes, 64, 1)))


def test_a_replicate_is_drawn_again_to_the_bit_and_another_set_is_another() -> None:
    again = [seeded("null iid", 3).random(4) for _ in range(2)]
    assert again[0].tolist() == again[1].tolist()
    assert again[0].tolist() != seeded("null iid", 3, seed=1).random(4).tolist()
    assert again[0].tolist() != seeded("null iid", match.CALIBRATION + 3).random(4).tolist()


@pytest.mark.parametrize("null", NULLS, ids=lambda null: null.name)
def test_a_null_has_the_rows_that_it_says(null: Null) -> None:
    values, rows = null.path(seeded(null.name, 0), 300, 10)
    assert rows.size == 300
    assert values.size == rows.sum()
    assert np.isfinite(values).all()


def test_run_length_is_events_per_alarm() -> None:
    """A limit of 50 is passed once in 50 panes of one event."""
    found = rate(Largest(), uniforms(1, 2000), limit=50.0)
    assert found.events == 128_000
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert low < 50 < high


def test_limits_give_the_wanted_run_length() -> None:
    """The run without restarts finds the limit that the run with restarts confirms."""
    found = limits(Largest(), uniforms(2, 600), wanted=[30.0, 100.0], lowest=1.5, highest=1e4)
    assert found[30.0] == pytest.approx(30.0, rel=0.3)
    assert found[100.0] == pytest.approx(100.0, rel=0.4)


def test_delays_count_events_to_the_end_of_the_pane_and_early_alarms_apart() -> None:
    quiet, loud = np.full((2, 4), 1.0), np.full((2, 4), 0.001)
    mixed = np.array([[1.0] * 4, [0.001] * 4])
    found = delays(Largest(), before=[quiet, mixed], after=[quiet, mixed, loud], limit=100.0)
    assert sorted(found.found.tolist()) == [8.0, 12.0]
    assert (found.early, found.missed) == (0.5, 0.0)


def test_ours_finds_the_change_and_is_quiet_before() -> None:
    chart = Mixture(NORMAL, 8, upward=False)
    found = delays(
        chart,
        before=match.panes_of(NORMAL, 8, count=20, replicate=0),
        after=match.panes_of(NORMAL, 8, count=40, replicate=0, changed=True),
        limit=3000.0,
    )
    assert (found.early, found.missed) == (0.0, 0.0)
    assert np.median(found.found) <= 320


def test_a_reference_is_learned_from_the_first_panes_only() -> None:
    """Learned rows and counted rows are those of the path."""
    values, rows = NULLS[0].path(seeded("null iid", 0), 4 * 288, 10)
    learned, counts = binned(values, rows, learning=3 * 288, levels=False)
    assert learned.n == 3 * 288 * 10
    assert counts.sum(axis=1).tolist() == rows.tolist()


def test_the_adaptive_chart_finds_a_rise_without_a_reference() -> None:
    change = next(one for one in CHANGES if one.name == "bernoulli .1->.3")
    chart = Adaptive(change, 8, two_sided=False, untouched=3125.0)
    found = delays(
        chart,
        before=match.panes_of(change, 8, count=60, replicate=0),
        after=match.panes_of(change, 8, count=40, replicate=0, changed=True),
        limit=1.0,
    )
    assert (found.early, found.missed) == (0.0, 0.0)
    assert np.median(found.found) <= 160


def test_scores_hold_their_labels_and_the_oracle_sees_the_change() -> None:
    change = scores.CHANGES[0]
    before, after = (change.draw(np.random.default_rng(0), (20_000,), changed=changed) for changed in (False, True))
    p, y = scores.parted(before)
    assert y.mean() == pytest.approx(p.mean(), abs=0.01)
    assert scores.counted(before[None])[0].sum(axis=0).tolist() == [20_000 - y.sum(), y.sum()]
    assert change.log_ratio(before).mean() < 0 < change.log_ratio(after).mean()
    assert scores.brier(before).mean() == pytest.approx((p * (1 - p)).mean(), abs=0.01)


def test_calibration_finds_a_shift_and_is_quiet_when_scores_drift_alone() -> None:
    for change, found_by in ((scores.CHANGES[0], 8), (scores.CHANGES[-1], 0)):
        chart = Calibrated(change, 8)
        panes = match.panes_of(change, 8, count=60, replicate=0, changed=True)
        found = delays(chart, before=[], after=panes, limit=1851.7)
        assert found.found.size == found_by, change.name


@pytest.mark.parametrize("null", labels.NULLS, ids=lambda null: null.name)
def test_a_null_of_labels_errs_as_often_as_it_says(null: labels.LabelNull) -> None:
    errors = null.path(labels.seeded(null.number, 0, seed=0), 20_000, 50, 288)
    assert errors.shape == (20_000,)
    assert errors.mean() / 50 == pytest.approx(labels.RATE, abs=0.015)


def test_a_total_outage_pages_at_the_first_closed_pane() -> None:
    row, (judged,) = next(stress.outage_rows(runs=1, seed=0))
    assert set(row) == KEYS
    assert (row["missed"], row["early"], judged["value"]) == (0.0, 0.0, 1.0)


def test_the_visible_change_is_where_nine_of_ten_days_show_it() -> None:
    """Powers of a probit line that passes .9 at a factor of 1.1."""
    line = 1.2816 + 4.0 * (coverage.FACTORS - 1.1)
    powers = np.array([NormalDist().cdf(float(z)) for z in line])
    assert coverage.at_ninety(powers) == pytest.approx(1.1, abs=0.01)
    assert coverage.at_ninety(np.zeros(coverage.FACTORS.size)) is None


def test_rows_have_the_keys_that_are_promised_and_the_table_says_what_missed() -> None:
    row, missed = honesty.null_row(NULLS[0], n=2, monitors=1, budgets=1, seed=0)
    assert set(row) == KEYS
    absent = next(found for found, _ in matched.chart_rows("bernoulli", arls=(77,), quick=True, seed=0))
    assert set(absent) == KEYS
    assert absent["setting"].startswith("n/a (")
    bars = [missed, bar("power", 0.7, 0.5, least=True)]
    run = {
        "rows": [row, absent], "bars": bars, "cost": [], "groups": {"honesty": 1, "public": 1}, "quick": True,
        "seed": 0, "seconds": 1.0, "machine": {"cores": 2, "numpy": "2", "peers": "there"},
    }  # fmt: skip
    text = report.markdown(run, run)
    assert "**missed**" in text  # one budget proves nothing: its interval reaches 3.7
    assert "n/a (" in text
    assert "## Bars: 2 of 4 met" in text
    assert "--only honesty,public" in text
    other = run | {"seed": 7, "bars": [bars[1]], "kept": {"pieces": 3, "seconds": 100.0}}
    text = report.markdown(run, other, notes=["A note."])
    assert "## Bars met: 1 of 2 with seed 0, 1 of 1 with seed 7" in text
    assert "**missed**" in text
    assert "| not run |" in text
    assert "100 s in 3 pieces" in text
    assert "A note." in text
    assert report.verdicts(bars)[0] == "1 of 2 bars met"
    assert ">= 0.50" in report.verdicts(bars)[2]


def test_a_group_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no group 'nonsense', but matched, honesty"):
        report.bench(quick=True, seed=0, only=["nonsense"], say=print)


def test_without_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs a checkout"):
        detect(root=tmp_path)
