"""Binning: the lookup table answers what `searchsorted` answers, to the bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.bins import Binner, FeatureSpec
from detectors.survey import quantile_edges

Floats = npt.NDArray[np.float64]

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
COLUMNS = {
    "normal": lambda rng: rng.normal(size=5000),
    "heavy tail": lambda rng: rng.lognormal(0, 3, 5000),
    "cauchy": lambda rng: rng.standard_t(1, 5000),
    "two values": lambda rng: rng.integers(0, 2, 5000) * 1.0,
    "whole numbers": lambda rng: rng.integers(0, 100, 5000) * 1.0,
    "constant": lambda rng: np.full(5000, 7.0),
    "constant zero": lambda rng: np.zeros(5000),
    "far from zero": lambda rng: 1e6 + rng.random(5000),
    "zero-inflated": lambda rng: np.where(rng.random(5000) < 0.6, 0.0, rng.lognormal(8, 2, 5000)),
    "tiny": lambda rng: rng.random(5000) * 1e-300,
    "subnormal": lambda rng: rng.random(5000) * 5e-323,
    "huge": lambda rng: rng.normal(size=5000) * 1e307,
    "both ends": lambda rng: rng.choice([-1.7e308, 0.0, 1.7e308], 5000),
}


def spec_of(values: Floats, name: str = "x") -> FeatureSpec:
    ordered = np.sort(values)
    low, high = float(ordered[0]), float(ordered[-1])
    return FeatureSpec(name=name, kind="numeric", edges=quantile_edges(ordered, high=high), low=low, high=high)


def searched(spec: FeatureSpec, values: Floats) -> npt.NDArray[np.int64]:
    bins = spec.value_bins
    codes = np.searchsorted(np.array(spec.edges), values, side="left")
    codes = np.where(values < spec.low, bins, np.where(values > spec.high, bins + 1, codes))
    return np.where(np.isnan(values), bins + 2, np.where(np.isinf(values), bins + 3, codes))


def around(spec: FeatureSpec) -> Floats:
    """Every edge and both ends, and the floats next to them."""
    at = np.array([*spec.edges, spec.low, spec.high])
    with np.errstate(over="ignore"):
        return np.concatenate([at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)])


@pytest.mark.parametrize("name", COLUMNS)
def test_codes_equal_searchsorted_on_columns_of_every_kind(name: str) -> None:
    rng = np.random.default_rng(3)
    column = COLUMNS[name](rng)
    spec = spec_of(column)
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.7e308, -1.7e308, 5e-324])
    scales = 10.0 ** rng.integers(-320, 307, 2000)
    values = rng.permutation(np.concatenate([column, around(spec), odd, rng.normal(size=2000) * scales]))
    found = Binner((spec,)).codes(values[:, None])[:, 0]
    assert found.tolist() == searched(spec, values).tolist()


@settings(max_examples=200, deadline=None)
@given(seen=st.lists(FINITE, min_size=1, max_size=100), values=st.lists(st.floats(), max_size=50))
def test_codes_equal_searchsorted_whatever_the_reference(seen: list[float], values: list[float]) -> None:
    spec = spec_of(np.array(seen))
    x = np.concatenate([np.array(values, dtype=np.float64), np.array(seen), around(spec)])
    assert Binner((spec,)).codes(x[:, None])[:, 0].tolist() == searched(spec, x).tolist()


def test_features_are_binned_each_by_its_own_table() -> None:
    rng = np.random.default_rng(4)
    columns = np.stack([make(rng) for make in COLUMNS.values()], axis=1)
    specs = tuple(spec_of(columns[:, i], f"f{i}") for i in range(columns.shape[1]))
    found = Binner(specs).codes(columns)
    expected = np.stack([searched(spec, columns[:, i]) for i, spec in enumerate(specs)], axis=1)
    assert np.array_equal(found, expected)


def test_without_rows_or_features_there_are_no_codes() -> None:
    spec = spec_of(np.arange(10.0))
    assert Binner((spec,)).codes(np.zeros((0, 1))).shape == (0, 1)
    assert Binner(()).codes(np.zeros((5, 0))).shape == (5, 0)


def test_levels_that_the_reference_lacks_are_unseen_and_none_is_missing() -> None:
    spec = FeatureSpec(name="c", kind="categorical", levels=("a", "b"))
    assert Binner((spec,)).level_codes(0, ["b", "a", "z", None]).tolist() == [1, 0, 2, 3]
