"""Every metric from the table against its definition on the raw rows; intervals cover what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, special, stats

from detectors import performance
from detectors.bins import FeatureSpec
from detectors.outcomes import (
    JoinedRows,
    OutcomeSpec,
    OutcomeTable,
    class_codes,
    expected_rows,
    label_codes,
    outcome_spec,
    tabulate_outcomes,
)
from detectors.references import Reference
from detectors.survey import quantile_edges
from loadtest.interval_coverage import KINDS, LEAST, MOST, coverage, words
from schemas.errors import ConfigurationError
from schemas.layouts import Layout
from schemas.verdicts import Metric

LAYOUT = Layout(model="m", from_ms=0, reference="r")


def spec_of(*, scores: Any = None, labels: tuple[str, ...] = (), values: Any = None) -> OutcomeSpec:
    specs = []
    for name, column in (("score", scores), ("value", values)):
        if column is not None:
            ordered = np.sort(column)
            specs.append(
                FeatureSpec(
                    name=name,
                    kind="numeric",
                    edges=quantile_edges(ordered, high=ordered[-1]),
                    low=float(ordered[0]),
                    high=float(ordered[-1]),
                )
            )
    if labels:
        specs.append(FeatureSpec(name="label", kind="categorical", levels=labels))
    found = outcome_spec(Reference(model="m", specs=tuple(specs), views={}), LAYOUT)
    assert found is not None
    return found


def counted(table: OutcomeTable, rows: JoinedRows) -> Any:
    return tabulate_outcomes(table, rows, np.zeros(len(rows), np.int64), 1)[0]


def named(metrics: list[Metric], of: str = "") -> dict[str, Metric]:
    return {one.name: one for one in metrics if one.of == of}


def printed(title: str, rows: dict[str, tuple[float, float, float]]) -> None:
    print(f"\n{title}\n{'metric':24}{'table':>14}{'raw rows':>14}{'within':>10}")
    for name, (ours, raw, bar) in rows.items():
        print(f"{name:24}{ours:14.7f}{raw:14.7f}{bar:10.0e}{'' if abs(ours - raw) <= bar else '  <---'}")


def binary(seed: int, n: int = 20_000, *, shape: tuple[float, float] = (0.6, 5.0), tilt: float = 0.8) -> Any:
    rng = np.random.default_rng(seed)
    scores = rng.beta(*shape, n).astype(np.float32).astype(np.float64)
    truth = rng.binomial(1, special.expit(-0.2 + tilt * special.logit(np.clip(scores, 1e-9, 1 - 1e-9))))
    return scores, truth.astype(np.int64)


def average_precision(scores: Any, y: Any) -> float:
    """Σ (R_k − R_{k−1})·P_k over the distinct thresholds, highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(y[order])[last]
    return float((np.diff(hits, prepend=0) / y.sum() * hits / (last + 1)).sum())


def test_binary_metrics_equal_those_of_the_raw_rows() -> None:
    """AUC within .002, average precision within .005, slope within .01, the rest to rounding."""
    scores, y = binary(1)
    labels = (scores >= 0.3).astype(np.int64)
    table = OutcomeTable(spec_of(scores=scores, labels=("0", "1")))
    vector = counted(table, JoinedRows.of(score=scores, label=labels, outcome=y))
    found = named(performance.measure(table, vector))
    tp, fp, fn, tn = (int(((labels == a) & (y == b)).sum()) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0)))
    clipped = np.clip(scores, np.finfo(float).eps, 1 - np.finfo(float).eps)
    u = stats.mannwhitneyu(scores[y == 1], scores[y == 0]).statistic / (y.sum() * (1 - y).sum())
    raw = {
        "accuracy": ((tp + tn) / y.size, 1e-8),
        "precision": (tp / (tp + fp), 1e-8),
        "recall": (tp / (tp + fn), 1e-8),
        "f1": (stats.hmean([tp / (tp + fp), tp / (tp + fn)]), 1e-8),
        "specificity": (tn / (tn + fp), 1e-8),
        "balanced_accuracy": ((tp / (tp + fn) + tn / (tn + fp)) / 2, 1e-8),
        "mcc": (np.corrcoef(labels, y)[0, 1], 1e-8),
        "roc_auc": (u, 2e-3),
        "average_precision": (average_precision(scores, y), 5e-3),
        "log_loss": (-np.mean(np.log(np.where(y == 1, clipped, 1 - clipped))), 1e-6),
        "brier": (np.mean((scores - y) ** 2), 1e-6),
        "brier_uncertainty": (y.mean() * (1 - y.mean()), 1e-8),
    }
    printed("binary", {name: (float(found[name].value or 0.0), value, bar) for name, (value, bar) in raw.items()})
    assert {name for name, (value, bar) in raw.items() if abs((found[name].value or 0.0) - value) > bar} == set()
    assert all(one.low is not None and one.low <= (one.value or 0) <= (one.high or 0) for one in found.values())
    assert found["accuracy"].n == y.size


@pytest.mark.parametrize(
    ("shape", "tilt"), [((0.6, 5.0), 0.8), ((2, 5), 2.0), ((0.3, 8), 1.0), ((500, 500), 1.0), ((0.2, 0.2), 0.3)]
)
def test_ranking_metrics_hold_wherever_the_scores_are(shape: tuple[float, float], tilt: float) -> None:
    """AUC within .002 of the raw rows' for spread, rare, narrow and extreme scores."""
    scores, y = binary(2, shape=shape, tilt=tilt)
    table = OutcomeTable(spec_of(scores=scores[::2]))
    found = named(performance.measure(table, counted(table, JoinedRows.of(score=scores, outcome=y))))
    u = stats.mannwhitneyu(scores[y == 1], scores[y == 0]).statistic / (y.sum() * (1 - y).sum())
    assert found["roc_auc"].value == pytest.approx(u, abs=2e-3)
    assert found["average_precision"].value == pytest.approx(average_precision(scores, y), abs=5e-3)


def test_a_score_that_only_ranks_has_an_auc_and_no_loss() -> None:
    """Scores outside [0, 1] are not probabilities: no log loss, no calibration, no label of their own."""
    rng = np.random.default_rng(5)
    y = rng.binomial(1, 0.3, 10_000)
    scores = (rng.normal(0, 1, y.size) + y).astype(np.float32).astype(float)
    table = OutcomeTable(spec_of(scores=scores))
    vector = counted(table, JoinedRows.of(score=scores, outcome=y))
    found = named(performance.measure(table, vector))
    u = stats.mannwhitneyu(scores[y == 1], scores[y == 0]).statistic / (y.sum() * (1 - y).sum())
    assert set(found) == {"roc_auc", "average_precision"}
    assert found["roc_auc"].value == pytest.approx(u, abs=2e-3)
    assert performance.calibration(table, vector) is None


def test_brier_is_the_sum_of_its_parts() -> None:
    """Reliability − resolution + uncertainty + within = Brier, exactly as summed."""
    from detectors.statistics.calibration_error import brier_parts, grouped

    scores, y = binary(3)
    table = OutcomeTable(spec_of(scores=scores))
    vector = counted(table, JoinedRows.of(score=scores, outcome=y))
    parts = brier_parts(grouped(performance.score_sums(table, vector)))
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(np.mean((scores - y) ** 2), abs=1e-6)


def test_calibration_slope_and_intercept_are_the_maximum_likelihood_ones() -> None:
    """Against scipy's optimiser on the raw rows; ECE against its definition on the same groups."""
    scores, y = binary(4, shape=(2, 5), tilt=1.6)
    x = special.logit(scores)
    table = OutcomeTable(spec_of(scores=scores))
    found = performance.calibration(table, counted(table, JoinedRows.of(score=scores, outcome=y)))
    assert found is not None

    def cost(beta: Any) -> float:
        line = beta[0] + beta[1] * x
        return float(np.mean(np.logaddexp(0, line) - y * line))

    both = optimize.minimize(cost, np.array([0.0, 1.0])).x
    alone = optimize.minimize_scalar(lambda a: cost((a, 1.0))).x
    rows = found.reliability
    ece = sum(row.n * abs(row.score - row.frequency) for row in rows) / found.n
    raw = {
        "slope": (found.slope.value or 0.0, both[1], 1e-2),
        "intercept": (found.intercept.value or 0.0, alone, 1e-2),
        "ece": (found.ece, ece, 1e-6),
    }
    printed("calibration", raw)
    assert {name for name, (ours, value, bar) in raw.items() if abs(ours - value) > bar} == set()
    assert sum(row.n for row in rows) == found.n == y.size
    assert found.ece_noise < found.ece / 3


def test_a_calibrated_model_shows_no_more_than_the_noise() -> None:
    """ECE of perfect scores is their noise level; debiased it is near 0."""
    ratios, left = [], []
    for seed in range(40):
        scores, y = binary(100 + seed, 1000, shape=(2, 5), tilt=1.0)
        y = np.random.default_rng(seed).binomial(1, scores)
        table = OutcomeTable(spec_of(scores=scores))
        found = performance.calibration(table, counted(table, JoinedRows.of(score=scores, outcome=y)))
        assert found is not None
        ratios.append(found.ece / found.ece_noise)
        left.append((found.ece_debiased.value or 0.0) / found.ece_noise)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
    assert np.median(left) < 0.5


def test_multiclass_metrics_equal_those_of_the_raw_rows() -> None:
    """top-1, top-5, macro and per class, against their definitions."""
    rng = np.random.default_rng(6)
    k, n = 8, 12_000
    y = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    logits = rng.normal(0, 1.5, (n, k))
    logits[np.arange(n), y] += 1.5
    ranks = np.argsort(-logits, axis=1)[:, :5]
    labels = ranks[:, 0].astype(np.int64)
    confidence = special.softmax(logits, axis=1).max(axis=1)
    table = OutcomeTable(spec_of(scores=confidence, labels=tuple("abcdefgh")))
    rows = JoinedRows.of(score=confidence, label=labels, outcome=y, ranks=ranks)
    metrics = performance.measure(table, counted(table, rows))
    found = named(metrics)
    hits = np.array([((labels == c) & (y == c)).sum() for c in range(k)])
    recall, precision = hits / np.bincount(y, minlength=k), hits / np.bincount(labels, minlength=k)
    f1 = stats.hmean([recall, precision])
    one_hot = np.eye(k)[labels] - np.eye(k)[labels].mean(axis=0), np.eye(k)[y] - np.eye(k)[y].mean(axis=0)
    covariance = [[float((a * b).sum()) for b in one_hot] for a in one_hot]
    raw = {
        "top_1": (labels == y).mean(),
        "top_5": (ranks == y[:, None]).any(axis=1).mean(),
        "balanced_accuracy": recall.mean(),
        "macro_f1": f1.mean(),
        "mcc": covariance[0][1] / np.sqrt(covariance[0][0] * covariance[1][1]),
    }
    printed("multiclass", {name: (found[name].value or 0.0, value, 1e-8) for name, value in raw.items()})
    assert {name: found[name].value for name in raw} == pytest.approx(raw, abs=1e-8)
    assert [named(metrics, of=name)["recall"].value for name in "abcdefgh"] == pytest.approx(recall.tolist(), abs=1e-8)
    assert [named(metrics, of=name)["f1"].value for name in "abcdefgh"] == pytest.approx(f1.tolist(), abs=1e-8)


def test_regression_metrics_equal_those_of_the_raw_rows() -> None:
    """MAE, RMSE, bias and R² in the value's own unit."""
    rng = np.random.default_rng(7)
    truth = rng.gamma(2.0, 400.0, 20_000)
    value = 0.9 * truth + rng.normal(50.0, 120.0, truth.size)
    table = OutcomeTable(spec_of(values=value))
    found = named(performance.measure(table, counted(table, JoinedRows.of(value=value, truth=truth))))
    error = value - truth
    raw = {
        "mae": (np.abs(error).mean(), 1e-3),
        "bias": (error.mean(), 1e-3),
        "rmse": (np.sqrt((error**2).mean()), 1e-3),
        "r2": (1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum(), 1e-5),
    }
    printed("regression", {name: (found[name].value or 0.0, value, bar) for name, (value, bar) in raw.items()})
    assert {name for name, (value, bar) in raw.items() if abs((found[name].value or 0.0) - value) > bar} == set()


@pytest.mark.parametrize("kind", list(KINDS))
def test_intervals_cover_at_95_percent(kind: str) -> None:
    """Every interval holds the truth in 92 to 98 % of 1,000 samples of 1,000 rows; larger runs are a command."""
    covered = coverage(kind, rows=1_000, runs=1_000)
    print("\n" + words(kind, covered, rows=1_000, runs=1_000))
    assert len(covered) > 3
    assert {name: share for name, share in covered.items() if not LEAST <= share <= MOST} == {}


def test_tables_add_and_a_correction_takes_out_what_went_in() -> None:
    """Any split gives the same sums; a row with sign −1 leaves nothing of itself."""
    scores, y = binary(10, 3000)
    table = OutcomeTable(spec_of(scores=scores, labels=("0", "1")))
    rows = JoinedRows.of(score=scores, outcome=y, delay_ms=np.arange(3000) * 50)
    group = np.arange(3000) % 7
    assert np.array_equal(tabulate_outcomes(table, rows, group, 7).sum(axis=0), counted(table, rows))
    taken_out = JoinedRows(**{**vars(rows), "sign": -rows.sign})
    assert not (counted(table, rows) + counted(table, taken_out)).any()
    assert performance.coverage(table, counted(table, rows) + expected_rows(table, np.array([4000]))[0]) == 0.75


def test_labels_of_another_speed_are_named() -> None:
    """Positives after two hours, negatives after twelve: early performance would be biased, and it is said."""
    scores, y = binary(11, 4000)
    table = OutcomeTable(spec_of(scores=scores))
    delay = np.where(y == 1, 2, 12) * 3_600_000
    vector = counted(table, JoinedRows.of(score=scores, outcome=y, delay_ms=delay))
    assert performance.unlike_delays(table, vector) == ("1", "0")
    assert performance.delays(table, vector)["0"]["p50"] == pytest.approx(12 * 3_600_000, rel=0.5)
    same = counted(table, JoinedRows.of(score=scores, outcome=y, delay_ms=np.full(y.size, 3_600_000)))
    assert performance.unlike_delays(table, same) is None


def test_classes_are_read_as_people_write_them() -> None:
    """Words for yes and no are the classes `1` and `0`; anything else is outside them."""
    spec = spec_of(scores=np.linspace(0, 1, 100))
    assert class_codes(spec, ["true", "0", "No", "perhaps"]).tolist() == [1, 0, 0, -1]
    named_classes = spec_of(labels=("ham", "spam"))
    assert class_codes(named_classes, ["spam", "ham", "1"]).tolist() == [1, 0, -1]
    assert label_codes(named_classes, ["eggs", None]).tolist() == [2, -1]
    with pytest.raises(ConfigurationError, match="'fraud' is none of the classes"):
        outcome_spec(
            Reference(model="m", specs=(FeatureSpec(name="label", kind="categorical", levels=("a", "b")),), views={}),
            Layout(model="m", from_ms=0, reference="r", positive="fraud"),
        )


def test_a_score_that_is_no_probability_where_others_are_is_left_out() -> None:
    """Scores of 1.7 among probabilities: counted as matched, in no loss, no calibration, no confusion of their own."""
    scores, y = binary(11, 2000)
    table = OutcomeTable(spec_of(scores=scores))
    sound = counted(table, JoinedRows.of(score=scores, outcome=y))
    odd = counted(table, JoinedRows.of(score=np.array([1.7, -0.2]), outcome=np.array([0, 1])))
    assert odd[table.n] == 2
    assert performance.measure(table, sound + odd) == performance.measure(table, sound)
    assert performance.calibration(table, sound + odd) == performance.calibration(table, sound)


def test_nothing_counted_measures_nothing() -> None:
    """An empty table has no metric, no calibration, no coverage; not an exception."""
    table = OutcomeTable(spec_of(scores=np.linspace(0, 1, 100)))
    nothing = np.zeros(table.width, np.int64)
    assert performance.measure(table, nothing) == []
    assert performance.calibration(table, nothing) is None
    assert performance.coverage(table, nothing) is None
    assert performance.errors_of(table, nothing) == (0, 0)
