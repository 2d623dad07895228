"""Public streams with a published change: label reversals in tornado, and Electricity before its market widened."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.detect import public

REVERSALS = {20_000, 40_000, 60_000, 80_000}


def data(name: str) -> str:
    """The name, where the file is; else the test is skipped."""
    if not (public.DATA / name).exists():
        pytest.skip(f"no {name} in ../shared/data")
    return name


def test_a_frozen_model_errs_where_the_labels_are_turned_around() -> None:
    x = np.random.default_rng(0).random((4_000, 2))
    y = (x[:, 0] + x[:, 1] > 1.0).astype(float)
    y[2_000:] = 1.0 - y[2_000:]
    errors = public.frozen_errors(x, y, fitted=1_000)
    assert errors[:2_000].mean() < 0.02
    assert errors[2_000:].mean() > 0.98


@pytest.mark.parametrize("stream", ["sine1", "mixed"])
def test_every_label_reversal_is_found_within_300_events_and_nothing_before(stream: str) -> None:
    """The chart without a reference finds all four, and alarms at nothing else."""
    data(f"tornado_{stream}_w_50_n_0.1_101.arff.gz")
    at = public.adaptive_alarms(public.errors_of(stream))
    assert {int(one) // 1_000 * 1_000 for one in at} == REVERSALS
    assert (at % 20_000).max() <= 300
    assert at.size == 4


@pytest.mark.parametrize("stream", ["sine1", "mixed"])
def test_the_chart_with_a_reference_finds_each_rise(stream: str) -> None:
    """It says "worse" while errors are up, from rows 20,000 to 40,000 and 60,000 to 80,000, and then is quiet."""
    data(f"tornado_{stream}_w_50_n_0.1_101.arff.gz")
    at = public.loss_alarms(public.errors_of(stream))
    assert [int(at[at > place][0]) - place <= 300 for place in (20_000, 60_000)] == [True, True]
    assert [int(((at > place - 2_000) & (at <= place)).sum()) for place in (20_000, 60_000)] == [0, 0]


def test_electricity_is_within_its_budget_before_the_market_widened() -> None:
    """14 days are 672 rows, worth fewer than 500: shape and levels are silent, and say so."""
    data("electricity.csv.gz")
    rows = [row for row, _ in public.electricity_rows(days=(14,))]
    assert [row["stream"] for row in rows] == ["electricity price", "electricity demand", "electricity label"]
    assert [row["attained_arl0"] for row in rows] == [None, None, None]
    assert all("too few effective reference rows, silent" in row["setting"] for row in rows)
