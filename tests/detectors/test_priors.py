"""Prior weights: who matters more alarms sooner, the budget of all stays what it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from panes_of_counts import EVENTS, counts, layout, play, quiet, reference, rows

from detectors.budget import priors, shares
from detectors.scopes import build_scope
from schemas.layouts import View

WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=30)


@given(whole=WEIGHTS, parts=st.lists(st.floats(0.01, 100), max_size=30), more=st.integers(0, 50))
def test_the_shares_of_all_are_at_most_one_and_go_by_the_weights(
    whole: list[float], parts: list[float], more: int
) -> None:
    monitors = len(whole) + len(parts) + more
    found = priors(whole, parts, monitors=monitors, segmented=bool(parts))
    plain = shares(whole=len(whole), parts=len(parts), monitors=monitors, segmented=bool(parts))
    assert found.sum() <= 1 + 1e-9
    assert found.sum() == pytest.approx(len(whole) * plain[0] + len(parts) * plain[1])
    assert found[: len(whole)] / found[0] == pytest.approx(np.array(whole) / whole[0])


def test_equal_weights_are_no_weights() -> None:
    assert priors([3.0] * 3, [], monitors=3, segmented=False).tolist() == [1 / 3] * 3


def test_a_weight_lowers_the_limit_of_its_feature_in_every_view() -> None:
    of = reference(segments=True)
    views = (View(), View("country", "FR"))
    plain = build_scope(of, layout(of, views=views, segments=("country",), monitors=9))
    heavy = build_scope(of, layout(of, views=views, segments=("country",), monitors=9, weights={"x0": 2.0}))
    ratio = (plain.limit / heavy.limit).reshape(2, -1)
    place = heavy.monitored.index("x0")
    others = [i for i in range(3) if i != place]
    assert ratio[:, place] == pytest.approx(1.5)
    assert ratio[:, others].ravel() == pytest.approx(0.75)


def test_a_heavy_feature_alarms_no_later_and_alone_at_its_own_limit() -> None:
    of = reference()
    panes = np.concatenate([quiet(of, 20), counts(of, rows(5, 60 * EVENTS, shift=0.35), panes=60)])
    opened = []
    for weights in ({"x0": 0.02}, {}, {"x0": 50.0}):
        _, results = play(build_scope(of, layout(of, weights=weights)), panes)
        opened.append(next(i for i, result in enumerate(results) if result.opened))
    assert opened == sorted(opened, reverse=True)
    assert opened[0] > opened[2]
