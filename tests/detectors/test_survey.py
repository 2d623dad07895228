"""What a column is: types, edges, levels, and what is remarkable about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.rows import Rows, as_levels, level_text
from detectors.survey import KEPT_LEVELS, SAMPLE, Survey, fixed_point_of, quantile_edges


def survey_of(**columns: Any) -> Survey:
    survey = Survey()
    size = len(next(iter(columns.values())))
    survey.add(Rows(ts=np.arange(size), columns=columns))
    return survey


def kinds(survey: Survey, name: str) -> list[str]:
    return [finding.kind for finding in survey.spec(name)[1]]


def words(values: list[Any]) -> np.ndarray:
    return np.array(values, dtype=object)


def test_edges_are_the_inverted_cdf_quantiles_below_the_maximum() -> None:
    x = np.random.default_rng(1).gamma(2.0, size=4999)
    expected = np.quantile(x, np.arange(1, 32) / 32, method="inverted_cdf")
    assert quantile_edges(np.sort(x), high=float(x.max())) == tuple(np.unique(expected).tolist())
    assert quantile_edges(np.array([1.0, 1.0]), high=1.0) == ()


def test_numbers_are_numeric_words_and_bools_are_categorical() -> None:
    survey = survey_of(
        whole=np.array([1, 2, 1]),
        real=np.array([0.5, 1, 2]),
        flag=np.array([True, False, True]),
        word=words(["a", None, "b"]),
    )
    assert [survey.spec(name)[0].kind for name in survey.order] == ["numeric", "numeric", "categorical", "categorical"]
    assert survey.spec("flag")[0].levels == ("true", "false")


def test_missing_and_non_finite_values_do_not_make_edges() -> None:
    spec, findings = survey_of(x=np.array([np.nan, 3.0, np.inf, 1.0, 2.0, -np.inf])).spec("x")
    assert (spec.edges, spec.low, spec.high, findings) == ((1.0, 2.0), 1.0, 3.0, [])


def test_what_is_remarkable_is_a_finding() -> None:
    n = 3000
    survey = survey_of(
        constant=np.full(n, 4.0),
        absent=np.full(n, np.nan),
        nothing=words([None] * n),
        row=np.arange(n) * 1.0,
        uuid=words([f"u{i}" for i in range(n)]),
        many=words([f"m{i % 400}" for i in range(n)]),
        one=words(["x"] * n),
        fine=np.random.default_rng(2).normal(size=n),
    )
    found = {name: kinds(survey, name) for name in survey.order}
    assert found == {
        "constant": ["constant"],
        "absent": ["all_missing"],
        "nothing": ["all_missing"],
        "row": ["id_like"],
        "uuid": ["id_like"],
        "many": ["many_levels"],
        "one": ["constant"],
        "fine": [],
    }
    assert survey.spec("uuid")[0].levels == ()
    assert len(survey.spec("many")[0].levels) == KEPT_LEVELS


def test_a_column_of_times_is_called_one() -> None:
    """Of many times as of few: what a person does about it is not what he does about an identifier."""
    n = 3000
    survey = survey_of(
        moment=words([f"2025-01-{1 + i % 28:02d}T{i // 60 % 24:02d}:{i % 60:02d}:00.{i:06d}" for i in range(n)]),
        day=words([f"2025-01-{1 + i % 28:02d}" for i in range(n)]),
        year=words([str(2000 + i % 25) for i in range(n)]),
    )
    assert {name: kinds(survey, name) for name in survey.order} == {"moment": ["times"], "day": ["times"], "year": []}
    assert (len(survey.spec("moment")[0].levels), len(survey.spec("day")[0].levels)) == (0, 28)


def test_floats_beyond_the_whole_numbers_are_no_identifier() -> None:
    """Every float past 2**53 is whole; only what fits a machine word and has no sign may be an id of 64 bits."""
    rng = np.random.default_rng(5)
    survey = survey_of(
        signed=rng.normal(size=3000) * 1e25,
        energy=rng.lognormal(size=3000) * 1e30,
        snowflake=rng.permutation(3000) * 4194304.0 * 4096 + 1.2e18,
        small=rng.permutation(3000) * 1.0,
    )
    found = {name: kinds(survey, name) for name in survey.order}
    assert found == {"signed": [], "energy": [], "snowflake": ["id_like"], "small": ["id_like"]}


def test_numbers_that_go_on_are_tested_for_their_absence_alone() -> None:
    """Tomorrow's are all above the range: an invoice number must not page. An amount is whole and unique by chance."""
    rng = np.random.default_rng(6)
    columns = {
        "dealt": rng.permutation(3000) + 1e6,
        "snowflake": np.cumsum(rng.integers(1, 1 << 40, 3000)).astype(float),
        "cents": rng.permutation(np.unique(rng.lognormal(17, 1, 4000).round())[:3000]),
    }
    whole, parts = survey_of(**columns), Survey()
    for piece in np.array_split(np.arange(3000), 13):
        parts.add(Rows(ts=piece, columns={name: column[piece] for name, column in columns.items()}))
    assert {name: kinds(whole, name) for name in columns} == {name: ["id_like"] for name in columns}
    assert [whole.spec(name)[0].width for name in columns] == [2, 2, 36]
    assert [parts.spec(name) for name in columns] == [whole.spec(name) for name in columns]


def test_a_column_of_numbers_and_words_is_counted_by_level() -> None:
    survey = survey_of(x=np.array([1.0, 2.0, 2.0]))
    survey.add(Rows(ts=np.arange(2), columns={"x": words(["2", "n/a"])}))
    spec, findings = survey.spec("x")
    assert spec.levels == ("2", "1", "n/a")
    assert [finding.kind for finding in findings] == ["mixed_types"]


def test_levels_beyond_the_bound_do_not_depend_on_the_chunks() -> None:
    rng = np.random.default_rng(3)
    column = words([f"k{i}" for i in rng.integers(0, 150_000, 200_000)] + ["late"] * 10)
    whole, parts = survey_of(c=column), Survey()
    for piece in np.array_split(column, 7):
        parts.add(Rows(ts=np.arange(piece.size), columns={"c": piece}))
    assert whole.levels["c"].counts == parts.levels["c"].counts
    assert whole.levels["c"].beyond == parts.levels["c"].beyond > 0


def test_a_long_column_is_sampled_alike_in_chunks_of_any_size() -> None:
    x = np.random.default_rng(4).normal(size=3 * SAMPLE)
    whole, parts = survey_of(x=x), Survey()
    for piece in np.array_split(x, 11):
        parts.add(Rows(ts=np.arange(piece.size), columns={"x": piece}))
    assert whole.spec("x")[0] == parts.spec("x")[0]
    share = np.searchsorted(np.sort(x), whole.spec("x")[0].edges) / x.size
    assert np.abs(share - np.arange(1, 32) / 32).max() < 0.004


@pytest.mark.parametrize("largest", [0.0, 1e-310, 1e-12, 1.0, 99.0, 1e12, 1.7e308])
def test_fixed_point_holds_forty_bits_whatever_the_range(largest: float) -> None:
    clip, bits = fixed_point_of(largest)
    assert clip >= largest
    assert np.ldexp(clip, bits) <= 2.0**42


def test_levels_are_written_as_people_write_them() -> None:
    assert [level_text(x) for x in (np.int64(3), np.float64(3.0), 0.1, np.True_, float("nan"))] == [
        "3",
        "3",
        "0.1",
        "true",
        None,
    ]
    assert as_levels(words(["a", 3, None, 2.5])) == ["a", "3", None, "2.5"]


def test_minus_zero_is_zero_whichever_comes_first() -> None:
    specs = []
    for values in ([-0.0, 0.0, 0.0], [0.0, -0.0, -0.0]):
        survey = Survey()
        survey.add(Rows(ts=np.arange(3), columns={"x": np.array(values)}))
        spec, findings = survey.spec("x")
        specs.append((str(spec), [finding.words for finding in findings]))
    assert specs[0] == specs[1]
    assert "-0" not in str(specs)
