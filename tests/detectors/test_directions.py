"""Directions: mean 0 and variance 1 under the model, whatever the counts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.bins import FeatureSpec
from detectors.directions import Directions, directions, normal_scores

NUMERIC = FeatureSpec(name="x", kind="numeric", edges=tuple(float(i) for i in range(31)), low=-1.0, high=40.0)
EVEN = np.array([*[1000] * 32, 0, 0, 0, 0])


def column(found: Directions, name: str) -> np.ndarray:
    return found.phi[:, found.index(name)]


@settings(max_examples=100, deadline=None)
@given(
    inside=st.lists(st.integers(0, 10_000), min_size=32, max_size=32),
    odd=st.tuples(*[st.integers(0, 5000)] * 2),
)
def test_shape_directions_have_mean_0_variance_1_and_no_correlation(inside: list[int], odd: tuple[int, int]) -> None:
    counts = np.array([*inside, 0, 0, *odd])
    found = directions(NUMERIC, counts)
    share = counts / max(1, counts.sum())
    phi = found.phi[:, [kind == "shape" for kind in found.kinds]]
    assert np.abs(share @ phi).max(initial=0) < 1e-4
    assert np.abs((phi * share[:, None]).T @ phi - np.eye(phi.shape[1])).max(initial=0) < 1e-3


def test_thirty_two_even_bins_give_four_shapes_and_four_rare_kinds() -> None:
    found = directions(NUMERIC, EVEN)
    assert found.names == ("location", "scale", "skew", "tails", "below", "above", "missing", "non_finite")
    assert found.weights.tolist() == [2, 1, 0.5, 0.5, 1, 1, 1, 1]
    assert found.upward_only.tolist() == [False] * 4 + [True] * 4
    # Orthonormal polynomials: the location of the top bin is its normal score over the scores' deviation.
    z = normal_scores(EVEN[:32])
    assert abs(column(found, "location")[31] - z[31] / np.sqrt(np.mean(z**2))) < 2e-6


def test_tables_are_multiples_of_a_millionth_rounded_down() -> None:
    found = directions(NUMERIC, np.array([*range(1, 33), 0, 0, 7, 1]))
    assert np.array_equal(np.ldexp(found.phi, 20), np.rint(np.ldexp(found.phi, 20)))
    q = found.q[found.index("missing")]
    exact = (1 - q) / np.sqrt(q * (1 - q))
    assert 0 <= exact - column(found, "missing")[34] < 2**-20


def test_below_and_above_score_as_the_outermost_bins_and_missing_as_0() -> None:
    found = directions(NUMERIC, np.array([*[1000] * 32, 0, 0, 500, 20]))
    shape = found.phi[:, :4]
    assert np.array_equal(shape[32], shape[0])
    assert np.array_equal(shape[33], shape[31])
    assert not shape[34:].any()


def test_a_rare_kind_has_a_floored_share_and_only_a_rise_is_tested() -> None:
    found = directions(NUMERIC, np.array([*[1000] * 32, 0, 0, 10, 5000]))
    at = found.index("missing")
    assert abs(found.q[at] - 0.01) < 1e-12
    assert bool(found.upward_only[at])
    frequent = found.index("non_finite")
    assert abs(found.q[frequent] - 5000.5 / 37011) < 1e-12
    assert not found.upward_only[frequent]


def test_a_constant_feature_has_no_shape() -> None:
    spec = FeatureSpec(name="x", kind="numeric", low=7.0, high=7.0)
    assert directions(spec, np.array([900, 0, 0, 0, 0])).names == ("below", "above", "missing", "non_finite")


def test_two_values_have_a_location_only() -> None:
    spec = FeatureSpec(name="x", kind="numeric", edges=(0.0,), low=0.0, high=1.0)
    found = directions(spec, np.array([700, 300, 0, 0, 0, 0]))
    assert [name for name, kind in zip(found.names, found.kinds, strict=True) if kind == "shape"] == ["location"]
    assert np.allclose(column(found, "location")[:2], [-np.sqrt(3 / 7), np.sqrt(7 / 3)], atol=1e-5)


def test_a_feature_never_seen_has_its_absence_to_test() -> None:
    spec = FeatureSpec(name="x", kind="numeric")
    found = directions(spec, np.array([0, 0, 0, 900, 0]))
    assert found.names == ("missing", "non_finite")
    assert abs(found.q[0] - 0.99) < 1e-12
    empty = directions(FeatureSpec(name="c", kind="categorical"), np.array([0, 900]))
    assert empty.names == ("unseen", "missing")


def test_bins_that_a_view_never_saw_take_the_nearest_score() -> None:
    counts = np.array([0, 0, *[100] * 28, 0, 0, 0, 0, 0, 0])
    found = directions(NUMERIC, counts)
    location = column(found, "location")
    assert location[0] == location[1] == location[2]
    assert np.isfinite(found.phi).all()


def test_large_categories_have_sixteen_levels_and_eight_groups_of_equal_share() -> None:
    levels = tuple(f"L{i:03d}" for i in range(200))
    counts = np.array([*[5000] * 16, *[100] * 184, 0, 0])
    found = directions(FeatureSpec(name="c", kind="categorical", levels=levels), counts)
    assert found.names[:2] == ("level L000", "level L001")
    assert found.names[16:24] == tuple(f"levels {g} of 8" for g in range(1, 9))
    assert found.names[24:] == ("unseen", "missing")
    members = (found.phi[:, 16:24] > 0).T @ counts
    assert members.tolist() == [2300] * 8
    # Seeded, and not by the alphabet.
    assert np.abs(np.diff(np.flatnonzero(found.phi[:, 16] > 0))).max() > 8


def test_few_levels_have_one_direction_each() -> None:
    levels = tuple(f"L{i}" for i in range(19))
    found = directions(FeatureSpec(name="c", kind="categorical", levels=levels), np.array([*[50] * 19, 0, 0]))
    assert [name.startswith("level L") for name in found.names].count(True) == 19
    p = np.array([*[50] * 19, 0, 0]) / 950
    assert np.allclose(p @ found.phi[:, 0] ** 2, 1.0, atol=0.02)
