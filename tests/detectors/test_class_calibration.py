"""Calibration by class: counts say what the raw rows say, and the class that is wrong is the one that stands out."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.class_calibration import class_calibration, class_edges
from detectors.outcomes import JoinedRows, OutcomeSpec, OutcomeTable, tabulate_outcomes
from detectors.performance import calibration, measure
from schemas.verdicts import ClassCalibration

CLASSES = ("cat", "cow", "dog")


def table_of(classes: tuple[str, ...] = CLASSES) -> OutcomeTable:
    return OutcomeTable(OutcomeSpec(kind="multiclass", classes=classes, edges=(0.4, 0.6, 0.8)))


def rows_of(n: int, seed: int, *, boast: float = 1.0, k: int = 3) -> tuple[JoinedRows, np.ndarray]:
    """Rows of a model that knows its chances, but for class 1, whose logit it makes `boast` larger; and its shares."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((n, k))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    outcome = (chances.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    said = logits.copy()
    said[:, 1] += boast - 1.0
    shares = np.exp(said) / np.exp(said).sum(axis=1, keepdims=True)
    label = shares.argmax(axis=1)
    return JoinedRows.of(score=shares.max(axis=1), label=label, outcome=outcome, shares=shares), shares


def counted(table: OutcomeTable, rows: JoinedRows) -> np.ndarray:
    return tabulate_outcomes(table, rows, np.zeros(len(rows), np.int64), 1)[0]


def by_kind(table: OutcomeTable, rows: JoinedRows, kind: str) -> dict[str, ClassCalibration]:
    return {one.of: one for one in class_calibration(table, counted(table, rows)) if one.kind == kind}


def test_figures_are_those_of_the_raw_rows() -> None:
    rows, shares = rows_of(4000, 1)
    found, said = by_kind(table_of(), rows, "one_vs_rest"), by_kind(table_of(), rows, "predicted")
    for code, name in enumerate(CLASSES):
        p, y = shares[:, code], rows.outcome == code
        place = np.searchsorted(class_edges(3), p)
        gaps = [abs(y[place == i].sum() - p[place == i].sum()) for i in np.unique(place)]
        one = found[name]
        assert (one.n, one.frequency.value) == (4000, pytest.approx(y.mean()))
        assert (one.score, one.ece) == pytest.approx((p.mean(), sum(gaps) / 4000), abs=1e-8)
        mine = rows.label == code
        right = (rows.outcome == code)[mine]
        assert (said[name].n, said[name].frequency.value) == (mine.sum(), pytest.approx(right.mean()))
        assert said[name].score == pytest.approx(rows.score[mine].mean(), abs=1e-8)


def test_a_class_that_is_boasted_of_stands_out() -> None:
    found = by_kind(table_of(), rows_of(20_000, 2, boast=1.6)[0], "one_vs_rest")
    honest = by_kind(table_of(), rows_of(20_000, 2)[0], "one_vs_rest")
    assert found["cow"].ece > 5 * found["cow"].ece_noise
    assert found["cow"].frequency.high is not None
    assert found["cow"].score > found["cow"].frequency.high
    assert max(one.ece / one.ece_noise for one in honest.values()) < 2.0
    assert found["cow"].intercept.high is not None
    assert found["cow"].intercept.high < 0.0


def test_the_noise_is_what_an_honest_model_shows() -> None:
    ratios = [
        one.ece / one.ece_noise
        for seed in range(20)
        for one in by_kind(table_of(), rows_of(3000, seed)[0], "one_vs_rest").values()
    ]
    assert 0.85 < float(np.mean(ratios)) < 1.15


def test_tables_add_and_what_went_in_comes_out() -> None:
    table = table_of()
    rows, _ = rows_of(900, 3)
    parts = tabulate_outcomes(table, rows, np.arange(900) % 4, 4)
    assert np.array_equal(parts.sum(axis=0), counted(table, rows))
    out = JoinedRows(**{**vars(rows), "sign": -rows.sign})
    assert not (counted(table, rows) + counted(table, out)).any()


def test_without_shares_only_the_said_class_is_judged() -> None:
    rows, _ = rows_of(500, 4)
    plain = JoinedRows(**{**vars(rows), "shares": None})
    assert {one.kind for one in class_calibration(table_of(), counted(table_of(), plain))} == {"predicted"}
    half = rows.shares
    assert half is not None
    half[::2] = np.nan
    assert by_kind(table_of(), rows, "one_vs_rest")["cat"].n == 250


def test_a_hundred_classes_have_a_table_and_a_class_that_is_none_has_no_row() -> None:
    names = tuple(f"c{i:02d}" for i in range(100))
    table = table_of(names)
    rows, _ = rows_of(2000, 5, k=100)
    strange = JoinedRows(**{**vars(rows), "label": np.full(2000, 100)})
    assert table.width < 5000
    assert len(by_kind(table, rows, "one_vs_rest")) == 100
    assert by_kind(table, strange, "predicted") == {}


def test_two_classes_and_scores_that_only_rank_have_no_such_table() -> None:
    two = OutcomeTable(OutcomeSpec(kind="binary", classes=("0", "1"), edges=(0.5,)))
    ranks = OutcomeTable(OutcomeSpec(kind="multiclass", classes=CLASSES, edges=(0.5,), probability=False))
    assert class_calibration(two, np.ones(two.width, np.int64)) == []
    assert class_calibration(ranks, np.ones(ranks.width, np.int64)) == []


def test_a_vector_from_before_classes_were_calibrated_is_read_as_one_without() -> None:
    table = table_of()
    rows, _ = rows_of(500, 6)
    vector = counted(table, rows)
    older = vector.copy()
    older[table.errors.stop :] = 0
    assert table.holds(table.errors.stop)
    assert not table.holds(table.errors.stop + 1)
    assert class_calibration(table, older) == []
    assert (measure(table, older), calibration(table, older)) == (measure(table, vector), calibration(table, vector))
