"""Every metric of the reports against scikit-learn on the same raw rows, in a table; `pytest -s` shows it.

Rows of a table are exact counts and fixed-point sums, so all but the ranking metrics agree to rounding; AUC and average
precision come from 64 and more score bins, calibration lines from the bins' sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn import linear_model, metrics  # type: ignore[import-untyped]

from detectors import performance
from detectors.outcomes import JoinedRows, OutcomeTable
from tests.detectors.test_performance import binary, counted, named, printed, spec_of

EXACT, ROUNDED = 1e-8, 1e-6


def beyond(title: str, ours: dict[str, Any], raw: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Metrics further from scikit-learn's than they may be; prints all of them."""
    printed(title, {name: (float(ours[name]), float(value), bar) for name, (value, bar) in raw.items()})
    wrong = {name for name, (value, bar) in raw.items() if abs(float(ours[name]) - float(value)) > bar}
    return {name: (float(ours[name]), float(raw[name][0])) for name in wrong}


SHAPES = ((0.6, 5.0), 0.8), ((2.0, 5.0), 2.0), ((0.3, 8.0), 1.0), ((500.0, 500.0), 1.0), ((0.2, 0.2), 0.3)


@pytest.mark.parametrize(("shape", "tilt"), SHAPES)
def test_binary_metrics_are_those_of_scikit_learn(shape: tuple[float, float], tilt: float) -> None:
    """Scores spread, steep, rare, narrow, extreme, labels at .3: AUC within .002 (measured .0001), average precision
    within .01 (.0054 where 3 % are positive, elsewhere .0015).
    """
    scores, y = binary(21, shape=shape, tilt=tilt)
    labels = (scores >= 0.3).astype(np.int64)
    table = OutcomeTable(spec_of(scores=scores, labels=("0", "1")))
    found = named(performance.measure(table, counted(table, JoinedRows.of(score=scores, label=labels, outcome=y))))
    raw = {
        "accuracy": (metrics.accuracy_score(y, labels), EXACT),
        "precision": (metrics.precision_score(y, labels), EXACT),
        "recall": (metrics.recall_score(y, labels), EXACT),
        "f1": (metrics.f1_score(y, labels), EXACT),
        "specificity": (metrics.recall_score(y, labels, pos_label=0), EXACT),
        "balanced_accuracy": (metrics.balanced_accuracy_score(y, labels), EXACT),
        "mcc": (metrics.matthews_corrcoef(y, labels), EXACT),
        "roc_auc": (metrics.roc_auc_score(y, scores), 2e-3),
        "average_precision": (metrics.average_precision_score(y, scores), 1e-2),
        "log_loss": (metrics.log_loss(y, scores), ROUNDED),
        "brier": (metrics.brier_score_loss(y, scores), ROUNDED),
    }
    ours = {name: one.value if one.value is not None else np.nan for name, one in found.items()}
    assert beyond(f"binary, scores of Beta{shape}", ours, raw) == {}
    assert set(found) == {*raw, "brier_uncertainty", "brier_reliability", "brier_resolution"}


def test_the_calibration_line_is_that_of_a_logistic_regression() -> None:
    """Slope of an unpenalised regression on logit p; the intercept is that at slope 1, so it is not compared."""
    scores, y = binary(22, shape=(2.0, 5.0), tilt=1.6)
    table = OutcomeTable(spec_of(scores=scores))
    found = performance.calibration(table, counted(table, JoinedRows.of(score=scores, outcome=y)))
    assert found is not None
    line = linear_model.LogisticRegression(C=np.inf, tol=1e-8).fit(special.logit(scores)[:, None], y)
    frequency = np.average([row.frequency for row in found.reliability], weights=[row.n for row in found.reliability])
    ours = {"slope": found.slope.value, "frequency": frequency}
    assert beyond("calibration", ours, {"slope": (line.coef_[0, 0], 1e-2), "frequency": (y.mean(), EXACT)}) == {}


def test_multiclass_metrics_are_those_of_scikit_learn() -> None:
    """Eight classes of unequal size: top-1, top-5, macro, MCC, and each class by itself."""
    rng = np.random.default_rng(23)
    k, n, names = 8, 12_000, tuple("abcdefgh")
    y = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    logits = rng.normal(0, 1.5, (n, k))
    logits[np.arange(n), y] += 1.5
    share = special.softmax(logits, axis=1)
    ranks = np.argsort(-logits, axis=1)[:, :5]
    labels = ranks[:, 0].astype(np.int64)
    table = OutcomeTable(spec_of(scores=share.max(axis=1), labels=names))
    rows = JoinedRows.of(score=share.max(axis=1), label=labels, outcome=y, ranks=ranks)
    found = performance.measure(table, counted(table, rows))
    ours = {f"{one.name} {one.of}".rstrip(): one.value for one in found}
    raw = {
        "top_1": (metrics.accuracy_score(y, labels), EXACT),
        "top_5": (metrics.top_k_accuracy_score(y, share, k=5), EXACT),
        "balanced_accuracy": (metrics.balanced_accuracy_score(y, labels), EXACT),
        "macro_f1": (metrics.f1_score(y, labels, average="macro"), EXACT),
        "mcc": (metrics.matthews_corrcoef(y, labels), EXACT),
    }
    each = metrics.precision_recall_fscore_support(y, labels)[:3]
    raw |= {
        f"{name} {of}": (value, EXACT)
        for name, values in zip(("precision", "recall", "f1"), each, strict=True)
        for of, value in zip(names, values.tolist(), strict=True)
    }
    assert beyond("multiclass", ours, raw) == {}
    assert set(ours) == set(raw)


def test_regression_metrics_are_those_of_scikit_learn() -> None:
    """In the value's own unit; errors are counted to a millionth of the predictions' scale."""
    rng = np.random.default_rng(24)
    truth = rng.gamma(2.0, 400.0, 20_000)
    value = 0.9 * truth + rng.normal(50.0, 120.0, truth.size)
    table = OutcomeTable(spec_of(values=value))
    found = named(performance.measure(table, counted(table, JoinedRows.of(value=value, truth=truth))))
    raw = {
        "mae": (metrics.mean_absolute_error(truth, value), 1e-3),
        "rmse": (metrics.root_mean_squared_error(truth, value), 1e-3),
        "bias": (float(np.mean(value - truth)), 1e-3),
        "r2": (metrics.r2_score(truth, value), 1e-5),
    }
    assert beyond("regression", {name: one.value for name, one in found.items()}, raw) == {}
    assert set(found) == set(raw)
