"""The benchmark's own arithmetic: seeds, run lengths, delays, thresholds, rows, and what it says without a checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.detect import honesty, match, matched, report
from loadtest.detect.charts import Mixture
from loadtest.detect.fleet import binned
from loadtest.detect.peers import Never, Peer, Upward, delays_to, knob_for, rate_of
from loadtest.detect.run_length import Rate, delays, limits, rate
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


class Over:
    """A detector that alarms on any value of at least `limit`."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.drift_detected = False

    def update(self, x: float) -> None:
        self.drift_detected = x >= self._limit


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


def test_a_peer_begins_anew_after_an_alarm_and_a_miss_is_no_delay() -> None:
    assert rate_of(lambda: Over(0.9), [np.array([0.0, 1.0, 0.0, 1.0])], alarms=9, events=4) == Rate(2, 4)
    runs = [(np.zeros(3), np.array([0.0, 1.0])), (np.ones(1), np.zeros(5))]
    found = delays_to(lambda: Over(0.9), runs)
    assert found.row() | {"mean_delay": 2.0, "missed": 0.5, "early": 0.5} == found.row()
    assert delays_to(Never, runs).row()["median_delay"] is None


def test_upward_ignores_a_fall() -> None:
    class Steps:
        estimation, drift_detected = 0.0, True

        def update(self, x: float) -> None:
            self.estimation = x

    one = Upward(Steps())
    one.update(1.0)
    assert one.drift_detected
    one.update(0.5)
    assert not one.drift_detected


def test_the_knob_is_found_or_refused() -> None:
    """`x >= knob` of uniforms: one alarm per 50 events at a knob of .98."""
    peer = Peer("over", ("normal",), "limit", 0.5, 1.0, False, Over)
    found, said = knob_for(peer, lambda k: [np.random.default_rng(k).random(20_000)], arl=50, alarms=200)
    assert found == pytest.approx(0.98, abs=0.004)
    assert said.alarms >= 140
    with pytest.raises(ValueError, match=r"no limit in \[0.5, 1\]"):
        knob_for(peer, lambda k: [np.zeros(1000)], arl=50, alarms=200)


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


def test_rows_have_the_keys_that_are_promised_and_the_table_says_what_missed() -> None:
    row, bar = honesty.null_row(NULLS[0], n=2, monitors=1, budgets=1, seed=0)
    assert set(row) == KEYS
    absent = next(found for found, _ in matched.rows(arls=(77,), quick=True, seed=0))  # type: ignore[arg-type]
    assert set(absent) == KEYS
    assert absent["setting"].startswith("n/a (")
    text = report.markdown({
        "rows": [row, absent], "bars": [bar], "cost": [], "absent": ["x"], "quick": True, "seed": 0, "seconds": 1.0,
        "machine": {"cores": 2, "numpy": "2"},
    })  # fmt: skip
    assert "**missed**" in text  # one budget proves nothing: its interval reaches 3.7
    assert "n/a (" in text


def test_without_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs a checkout"):
        detect(root=tmp_path)
