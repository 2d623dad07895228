"""Silences of sparse streams: chance alone is no page, an outage still is one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from detectors.building import ReferenceBuilder
from detectors.quiet import chance_silences
from detectors.references import Reference, dumps, loads
from detectors.rows import Rows
from detectors.rules import silence_limits
from detectors.scopes import build_scope, skip_empty
from detectors.seasonality import DAY, HOUR, hour_of_week
from schemas.layouts import Layout

MONDAY = 1_736_121_600_000
PANE = HOUR // 2


def sparse(rng: np.random.Generator, days: int, *, an_hour: float = 3.0, cluster: int = 1) -> npt.NDArray[np.int64]:
    """Times of rows: a day that swings by .8 about `an_hour`, half of it on weekends; each row `cluster` times."""
    hours = np.arange(days * 24)
    rate = an_hour * (1 + 0.8 * np.sin((hours % 24 - 9) * 2 * np.pi / 24)) * np.where(hours // 24 % 7 >= 5, 0.5, 1.0)
    n = rng.poisson(rate / cluster)
    ts = np.repeat(hours * HOUR, n) + rng.integers(0, HOUR, n.sum())
    return np.sort(np.repeat(ts, cluster) + rng.integers(0, 60_000, n.sum() * cluster)) + MONDAY


def learned(ts: npt.NDArray[np.int64]) -> Reference:
    builder = ReferenceBuilder("m", "features")
    rows = Rows(ts=ts, columns={"x": np.arange(ts.size) % 9 * 1.0})
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def limits_of(reference: Reference) -> npt.NDArray[np.float64]:
    return build_scope(reference, layout(reference)).silence


def layout(reference: Reference) -> Layout:
    return Layout(model="m", from_ms=0, reference=reference.id, monitored=("x",), pane_ms=PANE)


def false_silences(limits: npt.NDArray[np.float64], ts: npt.NDArray[np.int64]) -> int:
    filled = np.unique(ts // PANE)
    holes = np.flatnonzero(np.diff(filled) > 1)
    # Judged at the end of each empty pane, from the last row on.
    last = np.array([ts[np.searchsorted(ts, (filled[hole] + 1) * PANE) - 1] for hole in holes])
    found = 0
    for hole, since in zip(holes, last, strict=True):
        panes = np.arange(filled[hole] + 1, filled[hole + 1]) * PANE
        silent = panes + PANE - since
        found += bool(((silent >= 2 * PANE) & (silent > limits[hour_of_week(panes)])).any())
    return found


@pytest.mark.parametrize(("an_hour", "cluster"), [(1.0, 1), (3.0, 1), (12.0, 1), (20.0, 10)])
def test_a_sparse_stream_with_nights_is_silent_less_than_once_in_ten_budgets(an_hour: float, cluster: int) -> None:
    """40 budgets; by the longest gaps alone .17 a budget at three rows an hour."""
    rng, found = np.random.default_rng(7), 0
    for _ in range(40):
        limits = limits_of(learned(sparse(rng, 14, an_hour=an_hour, cluster=cluster)))
        found += false_silences(limits, sparse(rng, 30, an_hour=an_hour, cluster=cluster) + 14 * DAY)
    assert found <= 4


def test_an_outage_by_day_is_found_within_six_hours_at_three_rows_an_hour() -> None:
    reference = learned(sparse(np.random.default_rng(8), 14))
    noon = MONDAY + 15 * DAY + 12 * HOUR
    scope = build_scope(reference, layout(reference))
    _, results = skip_empty(scope, scope.start(), start=noon, panes=12)
    assert any(alarm.evidence.detector == "silence" for alarm in results.alarms)


def test_the_hours_before_count_by_their_own_rate() -> None:
    """One row an hour by day, none by night: nine hours of day are needed, and the night adds itself."""
    rows = np.zeros((7, 24))
    rows[:, 8:20] = 200.0
    gaps = np.array([0.0])
    found = chance_silences(rows.ravel(), np.full(168, 200.0), begins=gaps, ends=gaps).reshape(7, 24) / HOUR
    assert found[:, 19] == pytest.approx(found[0, 19], rel=0.02)
    assert 8 < found[2, 19] < 24
    assert found[2, 23] == pytest.approx(found[2, 20] + 3.0, abs=0.05)


def test_an_outage_in_the_reference_does_not_make_clusters_of_single_rows() -> None:
    rng = np.random.default_rng(9)
    ts = sparse(rng, 14)
    broken = ts[(ts < MONDAY + 3 * DAY) | (ts > MONDAY + 4 * DAY)]
    assert np.median(limits_of(learned(broken)) / limits_of(learned(ts))) < 1.5


def test_ordinary_traffic_has_nothing_of_it_and_its_file_does_not_change() -> None:
    reference = learned(MONDAY + np.sort(np.random.default_rng(10).integers(0, 14 * DAY, 200_000)))
    assert reference.silences.size == 0
    assert b'"silences"' not in dumps(reference)


def test_what_was_learned_is_in_the_file_and_a_file_without_it_goes_by_the_gaps() -> None:
    reference = learned(sparse(np.random.default_rng(11), 14))
    again = loads(dumps(reference))
    assert again.silences.tolist() == reference.silences.tolist()
    assert b'"tripline_reference": 5' in dumps(reference)
    by_gaps = silence_limits(reference.gaps, days=reference.days, rows=reference.n)
    assert limits_of(reference).tolist() == np.maximum(by_gaps, reference.silences).tolist()
    assert (limits_of(reference) > by_gaps).any()
