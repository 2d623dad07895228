"""Few labels in the reference: the theory limit holds its budget; a small version of `loadtest.small_references`."""

from __future__ import annotations

import pytest

from loadtest.small_references import SIZES, errors, line, scores


@pytest.mark.parametrize("labels", SIZES)
def test_errors_hold_the_budget(labels: int) -> None:
    """Thirty charts, each with a reference of its own, over a budget each: the interval lies below 1."""
    held = errors(labels, 0.1, budgets=30, seed=11)
    print(line(held))
    assert held.rate[2] < 1.0


@pytest.mark.parametrize("labels", SIZES)
def test_calibration_holds_the_budget(labels: int) -> None:
    held = scores(labels, (2.0, 5.0), budgets=20, seed=11)
    print(line(held))
    assert held.rate[2] < 1.0
