"""AUC and average precision of bins against those of the raw rows, over every shape of scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics  # type: ignore[import-untyped]

from loadtest.binned_ranking import HELD, SHAPES, Found, _auc, _average_precision, broken, held, measured


@pytest.mark.parametrize("name", list(SHAPES))
def test_figures_of_bins_are_as_near_as_promised(name: str) -> None:
    """With the reference's own bins; with other bins the interval holds what the raw rows say."""
    found = list(measured(name, rows=(50, 1_000, 20_000), runs=2, seed=3))
    assert broken(found) == []
    assert min(held(found, metric) for metric in ("roc_auc", "average_precision")) >= HELD


def test_a_figure_that_is_too_far_off_is_named() -> None:
    near = Found("roc_auc", "beta 2 5", own=True, n=20_000, few=500, error=0.0019, half=0.01, held=True)
    few, far = near._replace(few=5, error=0.0021), near._replace(error=-0.0021)
    assert broken([near, few._replace(half=0.02), far, far._replace(own=False)]) == [far]


def test_the_raw_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    score, y = np.round(rng.beta(2, 5, 500), 2), rng.integers(0, 2, 500)
    assert _auc(score, y) == pytest.approx(metrics.roc_auc_score(y, score), abs=1e-12)
    assert _average_precision(score, y) == pytest.approx(metrics.average_precision_score(y, score), abs=1e-12)
