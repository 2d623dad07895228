"""Counting: equal to counting one by one, and the tables of parts add up to the table of the whole."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.bins import Binner, FeatureSpec
from detectors.profiles import NO_LARGEST, NO_LEAST, Table
from detectors.tabulate import fixed_point, tabulate

NUMERIC = FeatureSpec(name="x", kind="numeric", edges=(0.0, 1.0), low=-2.0, high=2.0, scale_bits=4, clip=16.0)
SPECS = (
    NUMERIC,
    FeatureSpec(name="c", kind="categorical", levels=("a", "b")),
    msgspec.structs.replace(NUMERIC, name="y", edges=(), low=0.0, high=0.0),
)
TABLE, BINNER = Table(SPECS), Binner(SPECS)
VALUES = st.one_of(st.floats(-4, 4), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e9]))
ROWS = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 3), st.integers(0, 4)), max_size=40)


def tables(rows: list[tuple[float, float, int, int]]) -> tuple[npt.NDArray[np.int64], ...]:
    numeric = np.array([row[:2] for row in rows], dtype=np.float64).reshape(-1, 2)
    categorical = np.array([row[2] for row in rows], dtype=np.int32).reshape(-1, 1)
    return tabulate(TABLE, BINNER, numeric, categorical, np.array([row[3] for row in rows], dtype=np.int64), 5)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS)
def test_counts_equal_those_of_one_row_at_a_time(rows: list[tuple[float, float, int, int]]) -> None:
    counts, least, largest = tables(rows)
    single = [tables([row]) for row in rows]
    zero = np.zeros((5, TABLE.width), dtype=np.int64)
    assert np.array_equal(counts, sum((one[0] for one in single), zero))
    assert np.array_equal(least, np.min([np.full((5, 2), NO_LEAST), *(one[1] for one in single)], axis=0))
    assert np.array_equal(largest, np.max([np.full((5, 2), NO_LARGEST), *(one[2] for one in single)], axis=0))


def test_each_section_holds_what_it_says() -> None:
    counts, least, largest = tables([(0.5, np.nan, 0, 1), (99.0, 0.0, 3, 1), (-np.inf, 0.0, 2, 1)])
    assert counts[1, 0] == 3
    assert counts[1, TABLE.features["x"]].tolist() == [0, 1, 0, 0, 1, 0, 1]
    assert counts[1, TABLE.features["c"]].tolist() == [1, 0, 1, 1]
    assert counts[1, TABLE.sums].tolist() == [8 + 256, 0]
    assert (least[1].tolist(), largest[1].tolist()) == ([8, 0], [256, 0])
    assert counts[0].any() == np.False_
    assert (int(least[0, 0]), int(largest[0, 0])) == (NO_LEAST, NO_LARGEST)


def test_fixed_point_rounds_clips_and_masks() -> None:
    fixed, odd = fixed_point(TABLE, np.array([[0.03125 * 1.1, 1e9], [np.inf, -1e9]]))
    assert fixed.tolist() == [[1, 256], [0, -256]]
    assert odd is not None
    assert odd.tolist() == [[False, False], [True, False]]
