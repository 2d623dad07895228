"""What is promised about false alarms and delay, measured with fixed seeds, as intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import DAY, EVENTS, PANE, T0, counts, layout, play, quiet, reference, rows

from detectors import budget, rules
from detectors.charts import tempered
from detectors.scopes import Scope, build_scope

BUDGET = 8640


def alone(**settings: object) -> Scope:
    """One monitor, of a normal feature."""
    return build_scope(reference(), layout(reference(), monitored=("x0",), monitors=1, **settings))


def delay(scope: Scope, *, shift: float, seed: int) -> int:
    """Panes from the change to the incident, after a quiet stretch of a day."""
    quiet_part = quiet(reference(), 288, seed=seed)
    changed = counts(reference(), rows(seed + 1, 100 * EVENTS, shift=shift), panes=100)
    _, results = play(scope, np.concatenate([quiet_part, changed]))
    return next(i for i, result in enumerate(results) if result.opened) - 287


@pytest.mark.slow
def test_half_a_deviation_is_found_within_eight_panes() -> None:
    """Independent rows, 50 a pane, one monitor, a 14-day reference: median at most 8, none early."""
    scope = alone()
    delays = [delay(scope, shift=0.5, seed=100 + 2 * k) for k in range(11)]
    assert min(delays) > 0
    assert np.median(delays) <= 6


@pytest.mark.slow
def test_independent_rows_keep_the_budget() -> None:
    """Twelve budgets of thirty days: no more than what a rate of .3 a budget gives with 98 %."""
    scope = alone()
    panes = quiet(reference(), BUDGET, seed=50)
    opened = 0
    for k in range(12):
        rng = np.random.default_rng(k)
        _, results = play(scope, panes[rng.integers(0, BUDGET, BUDGET)])
        opened += sum(result.opened for result in results)
    assert opened <= 8


@pytest.mark.slow
def test_without_tolerance_the_expected_number_of_alarms_is_below_one_a_budget() -> None:
    """The theorem: Σ w·R + A·alarms − panes is a supermartingale, so at most T/A alarms; tolerance 0, A = 300."""
    scope = build_scope(reference(), layout(reference(), tolerance=0.0, budget_ms=300 * PANE, monitors=3))
    rng = np.random.default_rng(7)
    panes = quiet(reference(), 3000, seed=60)
    alarms = []
    for _ in range(6):
        _, results = play(scope, panes[rng.integers(0, 3000, 3000)])
        alarms.append(sum(len(result.alarms) + len(result.absorbed) > 0 for result in results))
    # Sixty budgets in all; ε is never 0, the reference widens it, so the bound is not tight.
    assert sum(alarms) <= 60


def test_the_list_keeps_its_budget_under_any_dependence() -> None:
    """e-d-BH on thirty charts that are copies of one another, or independent: first alarms per budget at most 1."""

    def first_alarms(copies: bool, seed: int) -> float:
        rng = np.random.default_rng(seed)
        runs, length, limit, bet = 200, 400, 400.0, 0.5
        r = np.zeros((runs, 30))
        alive = np.ones(runs, dtype=bool)
        for _ in range(length):
            draw = rng.normal(size=(runs, 1 if copies else 30)) * np.ones((1, 30))
            r = (r + 1.0) * np.exp(bet * draw - bet**2 / 2)
            ordered = -np.sort(-r / 30, axis=1) * np.arange(1, 31)
            alive &= ~(ordered >= limit).any(axis=1)
        return float(1.0 - alive.mean())

    # P(an alarm in A panes) <= 1 by the bound; in truth below 1 − 1/e and far lower for the copies' common shocks.
    assert first_alarms(copies=True, seed=1) <= 0.8
    assert first_alarms(copies=False, seed=2) <= 0.5


def test_one_pane_of_evidence_cannot_alarm_alone() -> None:
    """The cap: whatever a pane says, R grows by a third of the way at most."""
    scope = alone()
    pane = counts(reference(), rows(1, 5000, shift=3.0), panes=1)[0]
    charts, tick = tempered.tick(
        scope.bets, tempered.Charts.start(scope.bets.size), flat=np.append(pane.ravel(), 0), mu=scope.mu(T0), pane=1
    )
    assert tick.value[0] < scope.budget / 10
    np.testing.assert_allclose(np.log(charts.r).max(), scope.bets.cap.max(), rtol=0.3)


HOUR = 3_600_000


def silences(times: npt.NDArray[np.int64], limits: npt.NDArray[np.float64]) -> int:
    """Silences of a stream of event times that would page: empty panes beyond the limit, at least two."""
    filled = np.unique(times // PANE)
    hole = np.flatnonzero(np.diff(filled) > 1)
    length = (np.diff(filled)[hole] - 1) * PANE
    hour = (filled[hole + 1] - 1) * PANE // HOUR % 168
    return int(((length >= 2 * PANE) & (length > limits[hour])).sum())


def longest_gaps(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Longest gap that touches each hour of the week."""
    gaps = np.zeros(168, dtype=np.int64)
    for later in range(12):
        hour = np.minimum(times[:-1] + later * HOUR, times[1:]) // HOUR % 168
        np.maximum.at(gaps, hour, np.diff(times))
    return gaps


@pytest.mark.parametrize("minutes", [0.5, 2.0, 10.0, 45.0])
def test_a_sparse_stream_is_not_called_silent(minutes: float) -> None:
    """Poisson events, one every `minutes` on average, fourteen days of reference: under .3 silences a month."""
    rng, mean = np.random.default_rng(11), minutes * 60_000
    found = 0
    for _ in range(10):
        past = np.cumsum(rng.exponential(mean, int(14 * DAY / mean))).astype(np.int64)
        limits = rules.silence_limits(longest_gaps(past), days=14, rows=past.size)
        found += silences(np.cumsum(rng.exponential(mean, int(30 * DAY / mean))).astype(np.int64), limits)
    assert found <= 6


@pytest.mark.slow
def test_the_size_interval_covers_the_truth() -> None:
    """Shifts of .4: the interval holds it in at least 95 % of 40 alarms."""
    scope = alone()
    inside = []
    for k in range(40):
        changed = counts(reference(), rows(900 + k, 40 * EVENTS, shift=0.4), panes=40)
        _, results = play(scope, np.concatenate([quiet(reference(), 12, seed=700 + k), changed]))
        found = next(result.alarms[0].evidence for result in results if result.alarms)
        inside.append(found.size_low <= 0.4 <= found.size_high)
    assert np.mean(inside) >= 0.95


def test_budget_shares_sum_to_at_most_one() -> None:
    whole, part = budget.shares(whole=10, parts=70, monitors=200, segmented=True)
    assert 10 * whole + 190 * part == pytest.approx(1.0)
