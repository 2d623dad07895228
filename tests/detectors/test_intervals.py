"""Intervals next to 0 and 1, of few rows and of rare classes: exactly where that can be worked out, else by drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from detectors import performance
from detectors.bins import FeatureSpec
from detectors.outcomes import JoinedRows, OutcomeSpec, OutcomeTable, spec_of, tabulate_outcomes
from detectors.statistics.intervals import mean, on_fisher, on_log, student, wilson
from schemas.verdicts import Metric


@pytest.mark.parametrize("n", [5, 20, 50, 200, 1_000])
def test_a_share_is_covered_wherever_it_is(n: int) -> None:
    """Every share from 0 to 1, 0 and 1 among them, by the binomial distribution: 91.5 % at least, 95 % on average."""
    ends = np.array([wilson(hits, n) for hits in range(n + 1)])
    shares = np.concatenate(([0.0], np.geomspace(0.05 / n, 0.5, 300), [1.0]))
    covered = [
        float(stats.binom.pmf(np.arange(n + 1), n, p)[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum()) for p in shares
    ]
    assert min(covered) > 0.915
    assert np.mean(covered) > 0.95


@pytest.mark.parametrize("df", [1, 2, 3, 4, 10, 50, 1_000])
def test_quantiles_of_student_s_t(df: int) -> None:
    assert student(df) == pytest.approx(stats.t.ppf(0.975, df), rel=0.01 if df < 5 else 0.002)


def test_a_mean_of_few_rows_is_covered() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(3.0, 2.0, (2_000, 5))
    ends = np.array([mean(float(row.sum()), float((row * row).sum()), 5)[1:] for row in draws])
    assert np.mean((ends[:, 0] <= 3.0) & (ends[:, 1] >= 3.0)) > 0.93


def test_what_has_no_end_says_so() -> None:
    assert on_fisher(1.0, 0.1) == on_fisher(0.5, math.inf) == (-1.0, 1.0)
    assert on_log(0.0, 0.1, 9) == on_log(2.0, 0.1, 1) == (0.0, math.inf)


def held(classes: int, shares: list[float], *, accuracy: float, n: int, runs: int = 300) -> dict[str, float]:
    """Share of samples whose interval holds the truth, of the figures of all classes."""
    rng = np.random.default_rng(7)
    names = tuple("abcde"[:classes])
    table = OutcomeTable(OutcomeSpec(kind="multiclass", classes=names))

    def figures(rows: int) -> dict[str, Metric]:
        true = rng.choice(classes, rows, p=shares)
        label = np.where(rng.random(rows) < accuracy, true, rng.integers(0, classes, rows))
        counts = tabulate_outcomes(table, JoinedRows.of(label=label, outcome=true), np.zeros(rows, np.int64), 1)[0]
        return {one.name: one for one in performance.measure(table, counts) if not one.of}

    truth = figures(1_000_000)
    inside = dict.fromkeys(truth, 0)
    for _ in range(runs):
        for name, one in figures(n).items():
            assert one.low is not None
            assert one.high is not None
            inside[name] += one.low <= (truth[name].value or 0.0) <= one.high
    return {name: count / runs for name, count in inside.items()}


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("accuracy", [0.7, 0.995, 1.0])
def test_figures_of_classes_are_covered_next_to_perfect_too(accuracy: float, n: int) -> None:
    """A table without a wrong row does not say that there is no doubt. Of 300 runs .905 is three errors below .95."""
    covered = held(3, [0.4, 0.35, 0.25], accuracy=accuracy, n=n)
    assert min(covered.values()) > 0.905


@pytest.mark.parametrize("n", [50, 1_000])
def test_rare_errors_are_expected_before_they_come(n: int) -> None:
    """At a rate of 1 in 1,000 most samples have no positive: log loss's and Brier's interval hold the truth even so."""
    rng = np.random.default_rng(8)
    table = OutcomeTable(OutcomeSpec(kind="binary", classes=("0", "1"), edges=(0.0005, 0.001, 0.002, 0.005)))
    score = (0.001 * rng.lognormal(-0.5, 1.0, 200_000)).astype(np.float32).astype(float)
    y = rng.binomial(1, score)
    truth = {"log_loss": -np.mean(np.log(np.where(y == 1, score, 1 - score))), "brier": np.mean((score - y) ** 2)}
    inside = dict.fromkeys(truth, 0)
    for _ in range(300):
        take = rng.integers(0, score.size, n)
        rows = JoinedRows.of(score=score[take], outcome=y[take])
        counts = tabulate_outcomes(table, rows, np.zeros(n, np.int64), 1)[0]
        for one in performance.measure(table, counts):
            if one.name in truth:
                assert one.low is not None
                assert one.high is not None
                inside[one.name] += one.low <= truth[one.name] <= one.high
    assert min(inside.values()) > 0.92 * 300


def test_bins_go_as_far_as_the_scores_and_a_reference_keeps_those_that_it_learned_with() -> None:
    """At 1 in 10,000 nearly all scores are beyond the grid; a map of 65 edges and the quantiles is from before that."""
    edges = tuple(np.geomspace(1e-7, 1e-4, 31).tolist())
    rare = FeatureSpec(name="score", kind="numeric", edges=edges, low=1e-8, high=0.01)
    usual = FeatureSpec(name="score", kind="numeric", edges=(0.2, 0.4), low=0.01, high=0.9)
    known, older = spec_of([rare], (), positive=""), spec_of([rare], (), positive="", bins=65 + 31 + 1)
    assert known is not None
    assert older is not None
    assert (sum(edge < 3e-4 for edge in older.edges), len(older.edges)) == (31, 96)
    assert sum(edge < 3e-4 for edge in known.edges) > 31 + 10
    plain = spec_of([usual], (), positive="")
    assert plain is not None
    assert len(plain.edges) == 65 + 2


def test_one_class_alone_leaves_half_unknown() -> None:
    """Without a positive nothing is known of the recall, and of what goes with it."""
    table = OutcomeTable(OutcomeSpec(kind="binary", classes=("0", "1"), edges=(0.5,)))
    rows = JoinedRows.of(score=np.full(50, 0.1), outcome=np.zeros(50, np.int64))
    counts = tabulate_outcomes(table, rows, np.zeros(50, np.int64), 1)[0]
    found = {one.name: one for one in performance.measure(table, counts)}
    assert (found["mcc"].low, found["mcc"].high, found["mcc"].interval) == (-1.0, 1.0, "none")
    assert found["balanced_accuracy"].low is not None
    assert found["balanced_accuracy"].low < 0.5
    assert (found["recall"].value, found["recall"].low, found["recall"].high) == (None, 0.0, 1.0)
