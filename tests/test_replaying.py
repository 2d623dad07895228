"""I2c: the same rows as records of a topic, and as a table, lead to the same incidents, alerts and triggers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from schemas.layouts import Layout
from streamer.applying import control_of, layout_of
from streamer.backtesting import run
from streamer.config import load_text
from streamer.core.records import PlainRecord
from streamer.recipes import Change, Recipe, draw
from streamer.replaying import Replay
from streamer.tables import Part
from tests.histories import HOUR, START, reference, rows

REFERENCE = reference()
FILE = "models: {m: {reference: r, pane: 1h, max_alert_age: off, retrain: {when: drift for 2h}}}"
TABLE = rows(60, start=START, seed=2, shift=1.0, since=24)


def layout() -> Layout:
    return layout_of("m", load_text(FILE).config.models["m"], REFERENCE)


def records() -> list[PlainRecord]:
    columns = TABLE.columns
    events = [
        {"feature_set": "m", "ts": ts, "features": {"age": age, "country": country}}
        for ts, age, country in zip(TABLE.ts.tolist(), columns["age"].tolist(), columns["country"], strict=True)
    ]
    return [
        PlainRecord("features", 0, i, event["ts"], None, msgspec.json.encode(event)) for i, event in enumerate(events)
    ]


def streamed(size: int) -> Replay:
    replay = Replay(control_of({"m": layout()}, {"m": REFERENCE}), keep=True)
    log = records()
    for first in range(0, len(log), size):
        replay.records("features", log[first : first + size])
    replay.flush("m", "features")
    return replay


def said(replay: Replay) -> tuple[list[object], list[object]]:
    incidents = {incident.id: incident for incident in replay.said.incidents}
    return list(incidents.values()), list(replay.said.triggers)


def test_the_stream_and_the_backtest_say_the_same() -> None:
    backtest = run([Part(0, TABLE)], layout=layout(), reference=REFERENCE)
    assert said(streamed(100)) == (backtest.incidents, backtest.triggers)
    assert len(backtest.incidents) == 1


@pytest.mark.parametrize("size", [7, 1000])
def test_what_is_said_does_not_depend_on_batches(size: int) -> None:
    assert said(streamed(size)) == said(streamed(100))


def test_recipes_draw_the_same_rows_for_the_same_seed() -> None:
    def drawn(seed: int, *changes: Change) -> object:
        found = draw(
            {"a": Recipe(normal=[0, 1], missing=0.1), "c": Recipe(levels={"x": 1, "y": 3})},
            segments={}, versions={}, start=START, pane_ms=HOUR, panes=3, rows=200, seed=seed, changes=changes,
        )  # fmt: skip
        return found.ts.tolist(), np.nan_to_num(found.columns["a"]).tolist(), found.columns["c"].tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_a_change_touches_its_panes_and_its_feature_only() -> None:
    recipes = {"a": Recipe(normal=[10, 2]), "b": Recipe(normal=[0, 1])}
    change = Change.model_validate({"panes": 1, "feature": "a", "shift": 3.0})
    plain, changed = (
        draw(recipes, segments={}, versions={}, start=START, pane_ms=HOUR, panes=3, rows=50, seed=1, changes=changes)
        for changes in ((), (change,))
    )
    moved = changed.columns["a"] - plain.columns["a"]
    pane = (changed.ts - START) // HOUR
    assert moved[pane == 1].round(9).tolist() == [6.0] * 50
    assert moved[pane != 1].tolist() == [0.0] * 100
    assert changed.columns["b"].tolist() == plain.columns["b"].tolist()
