"""What a bet must keep: fair under the tolerance, exact in float64, and its share of the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from panes_of_counts import T0, layout, quiet, reference

from detectors.charts import tempered
from detectors.charts.bets import Bets, Learned, build_bets
from detectors.scopes import Scope, build_scope


@pytest.fixture(scope="module")
def scope() -> Scope:
    return build_scope(reference(), layout(reference()))


def mean_of_exp(bets: Bets, learned: Learned, p: np.ndarray, bet: int) -> float:
    """E exp(L) of one event drawn from `p`, at the profile's own mean."""
    direction = bets.bet_direction[bet] - bets.direction_start[bets.bet_monitor[bet]]
    phi = learned.phi[:, direction]
    mu = float(p @ phi)
    table = np.floor(np.log1p(bets.slope[bet] * phi) * 2**20) / 2**20
    offset = np.ceil(np.log1p(bets.slope[bet] * mu + bets.pad[bet]) * 2**20) / 2**20
    return float(p @ np.exp(table - offset))


def test_no_bet_grows_on_average_when_nothing_changed(scope: Scope) -> None:
    """E exp(L) <= 1 for every bet of a numeric and of a categorical monitor, under the reference's own shares."""
    worst = [
        mean_of_exp(scope.bets, scope.monitors.learned[m], scope.monitors.counts[m] / scope.monitors.counts[m].sum(), b)
        for b, m in enumerate(scope.bets.bet_monitor.tolist())
    ]
    assert max(worst) <= 1.0
    assert min(worst) > 0.9


def test_no_bet_grows_on_average_when_the_mean_moved_by_the_tolerance(scope: Scope) -> None:
    """A tilt that moves location by exactly ε leaves the location bets fair."""
    learned, bets = scope.monitors.learned[1], scope.bets
    p = scope.monitors.counts[1] / scope.monitors.counts[1].sum()
    location = learned.phi[:, learned.names.index("location")]
    moved = p * (1.0 + 0.0999 * location)
    place = bets.direction_start[1] + learned.names.index("location")
    upward = np.flatnonzero((bets.bet_direction == place) & (bets.sign > 0))
    slope, pad = bets.slope[upward], bets.pad[upward]
    grown = [moved @ (1.0 + s * location) / (1.0 + s * (p @ location) + e) for s, e in zip(slope, pad, strict=True)]
    assert upward.size == 3
    assert np.max(grown) <= 1.0 + 1e-6


def test_the_weights_of_a_monitor_sum_to_one(scope: Scope) -> None:
    total = np.bincount(scope.bets.bet_monitor, scope.bets.weight)
    np.testing.assert_allclose(total, np.ones(scope.bets.monitors), rtol=1e-12)


def test_location_weighs_twice_scale_and_four_times_skew(scope: Scope) -> None:
    bets, learned = scope.bets, scope.monitors.learned[1]
    of = {
        name: float(bets.weight[bets.bet_direction == bets.direction_start[1] + i].sum())
        for i, name in enumerate(learned.names)
    }
    assert of["location"] / of["scale"] == pytest.approx(2.0)
    assert of["location"] / of["skew"] == pytest.approx(4.0)


def test_no_event_costs_a_bet_more_than_four_fifths(scope: Scope) -> None:
    bets = scope.bets
    worst = [
        (bets.slope[b] * scope.monitors.learned[m].phi[:, bets.bet_direction[b] - bets.direction_start[m]]).min()
        for b, m in enumerate(bets.bet_monitor.tolist())
    ]
    assert min(worst) >= -0.8 - 1e-12


def plain(bets: Bets, learned: Sequence[Learned], flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`c·table` and S, monitor by monitor and bet by bet."""
    sums, tables = [], np.zeros(bets.size)
    for m, one in enumerate(learned):
        own = flat[one.first : one.first + one.phi.shape[0]]
        sums.append(own @ one.phi)
        for b in range(int(bets.bet_start[m]), int(bets.bet_start[m + 1])):
            phi = one.phi[:, bets.bet_direction[b] - bets.direction_start[m]]
            tables[b] = own @ (np.floor(np.log1p(bets.slope[b] * phi) * 2**20) / 2**20)
    return tables, np.concatenate(sums)


def test_products_are_exactly_those_of_the_plain_matrices(scope: Scope) -> None:
    """Dense tables and one-count parts together equal `counts @ phi` and `counts @ table`, to the bit."""
    flat = np.append(quiet(scope.reference, 1, n=777)[0].ravel(), 0)
    n, tables, sums = tempered.products(scope.bets, flat)
    plain_tables, plain_sums = plain(scope.bets, scope.monitors.learned, flat)
    assert n.tolist() == [777] * scope.bets.monitors
    np.testing.assert_array_equal(sums, plain_sums)
    np.testing.assert_array_equal(tables, plain_tables)


@pytest.mark.parametrize("pattern", ["xxxxxxxxxxxxxxxxxxxx", "xcxxxxxxyxxxxxcxxxxxxxyxx", "cyx"])
def test_monitors_that_share_a_table_have_the_bits_of_tables_of_their_own(scope: Scope, pattern: str) -> None:
    """x: a number; c: a category; y: the number, but of other shares. In a row, and among the others."""
    of = scope.monitors.learned
    number = next(one for one in of if "location" in one.names)
    kinds = {
        "x": number,
        "c": next(one for one in of if "location" not in one.names),
        "y": replace(number, phi=number.phi - 2.0**-20 * (np.abs(number.phi) > 2.0**-19)),
    }
    learned, first = [], 0
    for kind in pattern:
        learned.append(replace(kinds[kind], first=first))
        first += kinds[kind].phi.shape[0]
    prior = np.full(len(learned), 1.0 / len(learned))
    bets = build_bets(learned, tolerance=0.1, strict=False, budget=8640.0, prior=prior, struck=1)
    wanted = [pattern.count("x")] if len(pattern) > 3 else []
    assert [group.columns.shape[0] for group in bets.tables.shared] == wanted
    flat = np.append(np.random.default_rng(0).poisson(3.0, first), 0)
    _, tables, sums = tempered.products(bets, flat)
    plain_tables, plain_sums = plain(bets, learned, flat)
    np.testing.assert_array_equal(sums, plain_sums)
    np.testing.assert_array_equal(tables, plain_tables)


def test_a_small_reference_widens_the_tolerance_and_silences_what_it_cannot_know() -> None:
    """700 rows: every direction at √(50/700) or more; none below 500 effective rows pages."""
    small = reference(days=14, events=1)
    scope = build_scope(small, layout(small))
    assert scope.bets.tolerance.min() >= np.sqrt(50 / small.n) - 1e-9
    assert "tolerance widened" in scope.notes[1]


def test_a_mean_that_wanders_from_day_to_day_is_tolerated_up_to_five_of_its_sd(scope: Scope) -> None:
    one = replace(scope.monitors.learned[0], n=1e9, wander=np.linspace(0.0, 0.05, len(scope.monitors.learned[0].names)))
    assert one.tolerance(0.1)[[0, -1]].tolist() == pytest.approx([0.1, 0.25])


def test_a_third_moment_raises_kappa_on_its_side_and_leaves_all_other_bits(scope: Scope) -> None:
    """κ(1 + ε/λ) = deff + M₃·λ/(3κ) where it points the bet's way; elsewhere the bits of bets without it."""
    ones = scope.monitors.learned
    at = ones[1].names.index("level grey") if "level grey" in ones[1].names else 0
    skew = np.zeros(len(ones[1].names))
    skew[at] = 600.0
    plain, skewed = (
        build_bets([ones[0], one, *ones[2:]], tolerance=0.1, strict=False, budget=8640.0, prior=scope.prior, struck=3)
        for one in (ones[1], replace(ones[1], skew=skew))
    )
    n = np.full(plain.size, 50.0)
    before, after = tempered.temper(plain, n), tempered.temper(skewed, n)
    raised = (plain.bet_direction == plain.direction_start[1] + at) & (plain.sign > 0)
    assert after[~raised].tobytes() == before[~raised].tobytes()
    deff = 1.0 + plain.excess[raised] * np.maximum(50.0 / plain.n_bar[raised], 1.0)
    solved = after[raised] * plain.divisor[raised]
    assert solved == pytest.approx(deff + 600.0 * plain.fraction[raised] / 3.0 / after[raised])
    assert (after[raised] > 2.0 * before[raised]).all()


def test_an_upward_only_kind_has_no_bet_on_a_fall(scope: Scope) -> None:
    learned, bets = scope.monitors.learned[1], scope.bets
    missing = bets.direction_start[1] + learned.names.index("missing")
    assert set(bets.sign[bets.bet_direction == missing].tolist()) == {1.0}


def test_the_charts_follow_the_recursion(scope: Scope) -> None:
    """R <- (R + 1)·exp(min(L/κ, cap)), by a loop over the bets, for twenty panes."""
    bets, charts = scope.bets, tempered.Charts.start(scope.bets.size)
    r = np.zeros(bets.size)
    for i, pane in enumerate(quiet(scope.reference, 20)):
        flat, mu = np.append(pane.ravel(), 0), scope.mu(T0 + i * 300_000)
        charts, _ = tempered.tick(bets, charts, flat=flat, mu=mu, pane=i + 1)
        n, tables, _ = tempered.products(bets, flat)
        for b in range(bets.size):
            events = float(n[bets.bet_monitor[b]])
            kappa = (1.0 + bets.excess[b] * max(1.0, events / bets.n_bar[b])) / (
                1.0 + bets.tolerance[b] / bets.fraction[b]
            )
            offset = np.log1p(bets.fraction[b] * (bets.sign[b] * mu[bets.bet_direction[b]] + bets.tolerance[b]))
            step = min((tables[b] - events * offset) / max(1.0, kappa), bets.cap[b])
            r[b] = (r[b] + 1.0) * np.exp(step)
    np.testing.assert_allclose(charts.r, r, rtol=1e-3)


@pytest.mark.parametrize("excess", [0.0, 1e4])
@pytest.mark.parametrize("entry", [1e-4, 1e30])
def test_shortcuts_change_no_bit(scope: Scope, excess: float, entry: float) -> None:
    """κ of 1 is not divided by, and an a of 1 not computed: the same steps as with both."""
    bets = replace(scope.bets, excess=np.full(scope.bets.size, excess), entry=np.full(scope.bets.size, entry))
    assert (bets.tempered, bets.rests) == (excess > 0.0, entry < 1.0)
    [pane] = quiet(scope.reference, 1)
    said = tempered.steps(bets, flat=np.append(pane.ravel(), 0), mu=scope.mu(T0))
    kappa = tempered.temper(bets, said.events)
    np.testing.assert_array_equal(said.kappa, kappa)
    np.testing.assert_array_equal(said.step, np.minimum(said.gain / kappa, bets.cap))
    np.testing.assert_array_equal(said.entering, np.minimum(entry * said.events / kappa, 1.0))


def test_monitors_without_bets_have_no_evidence(scope: Scope) -> None:
    bets = scope.bets
    ends = np.array([0, 0, bets.bet_start[1], bets.bet_start[1], bets.size, bets.size])
    bare = replace(bets, bet_start=ends, bet_monitor=np.repeat(np.arange(5), np.diff(ends)))
    r = np.arange(1.0, bets.size + 1)
    expected = np.bincount(bare.bet_monitor, weights=bare.weight * r, minlength=5)
    np.testing.assert_allclose(tempered.evidence_of(bare, r), expected, rtol=1e-14)


def test_cells_that_the_path_passed_push_the_earlier_ones_back() -> None:
    before = np.tile(np.array([[30], [20], [10]], np.int32), (1, 5))
    after = tempered._passages(before, np.array([0, 1, 2, 3, 7], np.int32), np.int32(41))
    assert after.T.tolist() == [[30, 20, 10], [41, 30, 20], [41, 41, 20], [41, 41, 41], [41, 41, 41]]


def test_the_onset_set_is_that_of_the_whole_path(scope: Scope) -> None:
    """Since, latest and the earliest passage against the path kept in full: exact, exact, and never too late."""
    rng = np.random.default_rng(3)
    size = 200
    charts, path = tempered.Charts.start(size), [np.zeros(size)]
    for pane in range(1, 121):
        step = rng.normal(-0.4 if pane < 90 else 0.9, 1.2, size)
        charts = tempered._twins(
            charts, r=charts.r, step=step.copy(), moved=charts.moved + 1, events=charts.events + 1, pane=pane
        )
        path.append(path[-1] + step)
    sums = np.array(path)
    lowest = sums.min(axis=0)
    alive = charts.since > 0
    inside = sums[:-1] <= lowest + tempered.ONSET_DEPTH  # start s = index + 1
    assert alive.mean() > 0.9
    np.testing.assert_array_equal(charts.since[alive], (np.argmin(sums, axis=0) + 1)[alive])
    last = np.array([np.flatnonzero(sums[:, j] <= lowest[j] + tempered.ONSET_DEPTH)[-1] + 1 for j in range(size)])
    np.testing.assert_array_equal(charts.latest[alive], last[alive])
    first = np.argmax(inside, axis=0) + 1
    earliest = np.minimum(charts.passages[-1], charts.since)
    assert (earliest[alive] <= first[alive]).all()
    assert np.median((first - earliest)[alive]) <= 6


def test_a_chart_that_hears_nothing_rests_far_below_the_budget(scope: Scope) -> None:
    """Dependence so strong that a pane says next to nothing: the evidence stays under a fifth of A for two budgets."""
    budget = scope.layout.budget_panes
    deaf = replace(scope.bets, excess=scope.bets.excess + 1e5)
    charts, mu = tempered.Charts.start(deaf.size), scope.mu(T0)
    largest = 0.0
    for i in range(0, int(2 * budget), 500):
        for pane in quiet(scope.reference, 500, seed=i):
            flat = np.append(pane.ravel(), 0)
            charts, tick = tempered.tick(deaf, charts, flat=flat, mu=mu, pane=i + 1)
            largest = max(largest, float(tick.value.max()))
    assert largest < 0.2 * budget
