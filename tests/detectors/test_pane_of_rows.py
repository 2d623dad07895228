"""A library alone: from rows to verdicts without a stream, in parts of any size and order, saved and restored."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import Layout, ReferenceBuilder, Rows, View, build_scope, load_state, pane_counts, save_state, update
from detectors.references import Reference
from schemas.errors import ConfigurationError

START, PANE, DAY = 1_736_121_600_000, 300_000, 86_400_000
EACH = 40


def rows(panes: int, *, first: int, seed: int, shift: float = 0.0) -> Rows:
    rng = np.random.default_rng(seed)
    n = panes * EACH
    word = rng.choice(np.array(["ü", "東京", None], dtype=object), n, p=[0.6, 0.3, 0.1])
    return Rows(
        ts=START + (first * EACH + np.arange(n)) * (PANE // EACH),
        columns={"pareto": rng.pareto(1.2, n) * (1 + shift), "tied": rng.poisson(2, n).astype(float), "word": word},
        segments={"country": rng.choice(np.array(["FR", "DE"], dtype=object), n)},
    )


def learned() -> Reference:
    history = rows(14 * DAY // PANE, first=0, seed=1)
    builder = ReferenceBuilder("m", "features", segments=["country"])
    builder.survey(history)
    builder.count(history)
    return builder.finish()


REFERENCE = learned()
VIEWS = (View(), View("country", "DE"))
NAMES = ("pareto", "tied", "word")
SCOPE = build_scope(
    REFERENCE,
    Layout(
        model="m", from_ms=0, reference=REFERENCE.id, pane_ms=PANE, monitored=NAMES, views=VIEWS, segments=("country",),
        monitors=6,
    ),
)  # fmt: skip
FIRST = 14 * DAY // PANE


def test_parts_in_any_order_add_up_to_the_pane() -> None:
    pane = rows(1, first=FIRST, seed=2)
    counts, extremes = pane_counts(REFERENCE, pane, views=VIEWS)
    order = np.random.default_rng(3).permutation(EACH)
    parts = [pane_counts(REFERENCE, pane.take(piece), views=VIEWS) for piece in np.array_split(order, 7)]
    assert (np.sum([part for part, _ in parts], axis=0) == counts).all()
    assert (np.min([part[..., 0] for _, part in parts], axis=0) == extremes[..., 0]).all()
    assert (np.max([part[..., 1] for _, part in parts], axis=0) == extremes[..., 1]).all()
    assert counts[0, 0] == EACH
    assert 0 < counts[1, 0] < EACH


def test_stop_save_restore_go_on_is_the_same_to_the_bit() -> None:
    """And a change is found, named and dated."""
    stopped = state = SCOPE.start()
    alarms = []
    for i in range(40):
        pane = rows(1, first=FIRST + i, seed=100 + i, shift=1.5 * (i >= 20))
        counts, extremes = pane_counts(REFERENCE, pane, views=VIEWS)
        start = START + (FIRST + i) * PANE
        state, result = update(SCOPE, state, start=start, counts=counts, extremes=extremes)
        stopped = load_state(SCOPE, save_state(stopped))
        stopped, _ = update(SCOPE, stopped, start=start, counts=counts, extremes=extremes)
        assert save_state(stopped) == save_state(state)
        alarms += [alarm.evidence for alarm in result.alarms]
    assert {alarm.feature for alarm in alarms} == {"pareto"}
    assert alarms[0].direction == "location up"
    assert alarms[0].onset_low <= START + (FIRST + 20) * PANE <= alarms[0].onset_high  # type: ignore[operator]


def test_columns_that_lack_or_have_another_type_are_missing() -> None:
    pane = rows(1, first=FIRST, seed=2)
    odd = Rows(ts=pane.ts, columns={"tied": np.array(["x"] * EACH, dtype=object)})
    counts, _ = pane_counts(REFERENCE, odd)
    missing = [REFERENCE.table.features[s.name].start + s.columns.index("missing") for s in REFERENCE.specs]
    assert counts[0, missing].tolist() == [EACH] * 3
    none, _ = pane_counts(REFERENCE, pane.take(slice(0, 0)))
    assert not none.any()


def test_derived_features_need_their_rows() -> None:
    history = rows(2000, first=0, seed=4)
    builder = ReferenceBuilder("m", "features", derived=("pareto", "tied"))
    builder.survey(history)
    builder.count(history)
    with pytest.raises(ConfigurationError, match="has derived features"):
        pane_counts(builder.finish(), history)
