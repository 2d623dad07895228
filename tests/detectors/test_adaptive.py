"""The adaptive chart: its laws, its limits, and how fast it is with nothing known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from detectors.charts import adaptive, adaptive_limits
from detectors.charts.adaptive import Adaptive, History, build_adaptive
from detectors.charts.losses import BETTER, UNIT, WORSE
from schemas.errors import ConfigurationError, FormatError


def binary(panes: int, monitors: int, *, rate: float, seed: int, n: int = 32) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).binomial(n, rate, (panes, monitors)) * UNIT


def play(
    plan: Adaptive, sums: npt.NDArray[np.int64], *, n: int = 32, history: History | None = None
) -> tuple[History, npt.NDArray[np.float64]]:
    """History after the panes, and d − limit after each (panes, 2, monitors)."""
    history, rows, found = history or plan.start(), np.full(sums.shape[1], n), []
    for pane in sums:
        history, said = adaptive.tick(plan, history, n=rows, sums=pane)
        found.append(said.value - said.limit)
    return history, np.array(found)


# Laws


def test_stopped_saved_restored_equals_never_stopped() -> None:
    plan = build_adaptive(4, budget=3000.0)
    sums = binary(90, 4, rate=0.2, seed=1)
    whole, _ = play(plan, sums)
    back = adaptive.load(plan, adaptive.save(play(plan, sums[:41])[0]))
    assert adaptive.save(play(plan, sums[41:], history=back)[0]) == adaptive.save(whole)


def test_blocks_of_monitors_of_any_size_give_the_same_bits() -> None:
    sums = binary(70, 5, rate=0.2, seed=2)
    whole = adaptive.look(plan := build_adaptive(5, budget=3000.0), play(plan, sums)[0])
    one = build_adaptive(1, budget=3000.0, share=np.array([0.2]))
    apart = [adaptive.look(one, play(one, sums[:, i : i + 1])[0]) for i in range(5)]
    np.testing.assert_array_equal(np.concatenate([tick.value for tick in apart], axis=1), whole.value)
    np.testing.assert_array_equal(np.concatenate([tick.limit for tick in apart]), whole.limit)


def test_memory_grows_with_the_logarithm_of_the_panes() -> None:
    history, _ = play(build_adaptive(1, budget=3000.0), binary(1000, 1, rate=0.1, seed=3))
    assert sum(history.spans) == 1000
    assert len(history.spans) <= 5 * np.log2(1000)
    assert list(history.spans) == sorted(history.spans, reverse=True)


def test_no_label_is_lost_by_merging() -> None:
    sums = binary(333, 3, rate=0.3, seed=4)
    history, _ = play(build_adaptive(3, budget=3000.0), sums)
    np.testing.assert_array_equal(history.sums.sum(axis=0), sums.sum(axis=0))
    assert history.n.sum(axis=0).tolist() == [333 * 32] * 3
    assert history.seen.tolist() == [333] * 3


def test_input_is_not_changed() -> None:
    plan = build_adaptive(2, budget=3000.0)
    history, _ = play(plan, binary(20, 2, rate=0.2, seed=5))
    before = adaptive.save(history)
    adaptive.tick(plan, history, n=np.array([32, 32]), sums=np.array([UNIT, UNIT]))
    adaptive.reset(history, np.array([True, False]))
    assert adaptive.save(history) == before


def test_the_largest_cut_is_that_of_a_plain_loop() -> None:
    """Over buckets of one pane each (five panes, so that none have merged), with a reference as the oldest."""
    sums = binary(5, 1, rate=0.3, seed=6)
    plan = build_adaptive(1, budget=3000.0, reference=(np.array([200]), np.array([20 * UNIT])))
    said = adaptive.look(plan, play(plan, sums)[0])
    n, s = [200, *[32] * 5], [20.0, *(sums[:, 0] / UNIT)]
    v = sum(s) / sum(n) * (1 - sum(s) / sum(n))
    best = 0.0
    for cut in range(1, 6):
        n1, n2, gap = sum(n[:cut]), sum(n[cut:]), sum(s[cut:]) / sum(n[cut:]) - sum(s[:cut]) / sum(n[:cut])
        m = n1 * n2 / (n1 + n2)
        grid = np.linspace(0, 60, 600_001)
        best = max(best, grid[np.argmax(np.sqrt(2 * grid * v / m) + 2 * grid / (3 * m) >= gap)]) if gap > 0 else best
    assert said.value[WORSE, 0] == pytest.approx(best, abs=2e-4)


def test_a_restart_forgets_the_stream_and_keeps_the_reference() -> None:
    plan = build_adaptive(1, budget=3000.0, reference=(np.array([20_000]), np.array([2_000 * UNIT])))
    history, excess = play(plan, binary(60, 1, rate=0.4, seed=7))
    assert excess[-1, WORSE, 0] > 0
    again = adaptive.reset(history, np.array([True]))
    assert adaptive.look(plan, again).value.max() == 0.0
    assert play(plan, binary(20, 1, rate=0.4, seed=8), history=again)[1][-1, WORSE, 0] > 0


def test_panes_without_labels_say_nothing() -> None:
    plan = build_adaptive(1, budget=3000.0)
    none = np.zeros(1, np.int64)
    history = plan.start()
    for _ in range(20):
        history, said = adaptive.tick(plan, history, n=none, sums=none)
        assert said.value.max() == 0.0
        assert np.isfinite(said.limit).all()
    assert history.seen.tolist() == [0]


def test_a_damaged_or_foreign_state_and_a_bad_reference_are_named() -> None:
    plan = build_adaptive(2, budget=3000.0)
    raw = adaptive.save(play(plan, binary(9, 2, rate=0.1, seed=9))[0])
    with pytest.raises(FormatError, match="1 monitors"):
        adaptive.load(build_adaptive(1, budget=3000.0), raw)
    with pytest.raises(FormatError, match="adaptive"):
        adaptive.load(plan, raw[:-3])
    with pytest.raises(ConfigurationError, match="reference"):
        build_adaptive(1, budget=3000.0, reference=(np.array([1]), np.array([2 * UNIT])))
    with pytest.raises(ConfigurationError, match="deff"):
        build_adaptive(1, budget=3000.0, deff=np.array([0.5]))


# Limits


def test_limits_are_those_of_the_grid_at_its_points_and_rise_with_the_budget() -> None:
    budgets, x = np.log(np.array(adaptive_limits.BUDGETS)), np.array(adaptive_limits.INFORMATION)
    found = adaptive.limits(budgets, np.full(budgets.size, x[4]), two_sided=False)
    np.testing.assert_allclose(found, np.array(adaptive_limits.ONE_SIDED)[:, 4], rtol=1e-12)
    assert (np.diff(np.array(adaptive_limits.ONE_SIDED), axis=0) > 0).all()
    assert (np.array(adaptive_limits.TWO_SIDED) >= np.array(adaptive_limits.ONE_SIDED)).all()
    beyond = adaptive.limits(budgets[-1:] + 1.0, x[4:5], two_sided=False)
    assert beyond[0] > found[-1]


def test_limits_of_no_information_and_of_very_much_are_numbers() -> None:
    assert np.isfinite(adaptive.limits(np.zeros(3), np.array([0.0, 1e-9, 1e9]), two_sided=True)).all()


# Run lengths: panes of 32 at a rate of .1, a budget of 1e5 events


def mean_delay(plan: Adaptive, rate: float, *, quiet: int, side: int, before: float = 0.1) -> float:
    """Events from the change to the alarm, after `quiet` panes in which alarms restart."""
    monitors = plan.ln_budget.size
    history = plan.start()
    for pane in binary(quiet, monitors, rate=before, seed=31):
        history, said = adaptive.tick(plan, history, n=np.full(monitors, 32), sums=pane)
        history = adaptive.reset(history, (said.value[side] >= said.limit))
    _, excess = play(plan, binary(120, monitors, rate=rate, seed=32), history=history)
    over = excess[:, side] >= 0.0
    assert over.any(axis=0).mean() >= 0.98
    return float(32 * (over.argmax(axis=0) + 1)[over.any(axis=0)].mean())


@pytest.mark.slow
@pytest.mark.parametrize(("two_sided", "rate", "n"), [(False, 0.1, 32), (True, 0.1, 32), (False, 0.5, 20)])
def test_independent_labels_keep_the_budget_between_the_points_of_the_grid(
    two_sided: bool, rate: float, n: int
) -> None:
    """A = 1,000 panes, 200 runs of as many: attained budget within 30 % of it, and no less for symmetric labels."""
    plan = build_adaptive(200, budget=1000.0, share=np.ones(200), two_sided=two_sided)
    _, excess = play(plan, binary(1000, 200, rate=rate, seed=33, n=n), n=n)
    worst = excess.max(axis=1) if two_sided else excess[:, WORSE]
    over = np.maximum.accumulate(worst, axis=0) >= 0.0
    attained = float((~over).sum() / over[-1].sum())
    assert 700.0 <= attained <= (1300.0 if rate == 0.1 else 2000.0)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "most"), [(0.15, 600.0), (0.2, 200.0)])
def test_a_risen_rate_is_found_without_a_reference(rate: float, most: float) -> None:
    """After 600 panes of its own past, one-sided, as fast as river's ADWIN or so."""
    plan = build_adaptive(200, budget=3125.0, share=np.ones(200))
    assert mean_delay(plan, rate, quiet=600, side=WORSE) <= most


@pytest.mark.slow
def test_a_reference_makes_a_young_stream_as_fast() -> None:
    known = (np.full(200, 20_000), np.full(200, 2_000 * UNIT))
    plan = build_adaptive(200, budget=3125.0, share=np.ones(200), reference=known)
    assert mean_delay(plan, 0.15, quiet=20, side=WORSE) <= 530.0


@pytest.mark.slow
def test_a_fall_is_found_on_the_other_side() -> None:
    plan = build_adaptive(100, budget=3125.0, share=np.ones(100), two_sided=True)
    assert mean_delay(plan, 0.1, before=0.2, quiet=300, side=BETTER) <= 400.0
