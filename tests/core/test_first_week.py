"""A model whose reference has no times, through both stages: silent for a week, audited when it has learned."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.rows import NO_TIME, Rows
from detectors.scopes import build_scope, load_state, save_state
from schemas.alerts import AuditRecord, Reason
from streamer.applying import control_of, layout_of
from streamer.config import load_text
from streamer.replaying import Replay
from tests.histories import HOUR, START, rows

DAY = 24 * HOUR
FILE = "models: {m: {reference: r, pane: 1h, max_alert_age: off}}"


@cache
def bag() -> Reference:
    table = rows(14 * 24, start=START, seed=1)
    timeless = Rows(ts=np.full(len(table), NO_TIME), columns=table.columns)
    builder = ReferenceBuilder("m", "features")
    builder.survey(timeless)
    builder.count(timeless)
    return builder.finish()


def replayed(days: int, *, shift: float = 0.0, since: int = 0) -> Replay:
    layout = layout_of("m", load_text(FILE).config.models["m"], bag())
    replay = Replay(control_of({"m": layout}, {"m": bag()}), windows=True)
    table = rows(days * 24, start=START, seed=2, shift=shift, since=since)
    for first in range(0, len(table), 40):
        piece = table.take(slice(first, first + 40))
        replay.rows(piece, "m", append_ts=int(piece.ts[-1]))
    replay.flush("m", "features")
    return replay


def lessons(replay: Replay) -> list[AuditRecord]:
    return [audit for audit in replay.said.audits if audit.reason in (Reason.LEARNED, Reason.NOT_LEARNED)]


def test_the_lesson_is_audited_and_reported_and_what_comes_after_it_pages() -> None:
    replay = replayed(9, shift=1.2, since=8 * 24)
    [audit] = lessons(replay)
    assert (audit.reason, audit.at, audit.decision) == (
        Reason.LEARNED, START + 7 * DAY, "learned from the stream's own first week",
    )  # fmt: skip
    assert "age: location" in str(audit.details["words"])
    assert [window.provisional for window in replay.said.windows[::24]] == [True] * 7 + [False] * 2
    assert replay.said.windows[7 * 24].findings[0].startswith("age: location ")
    assert START + 8 * DAY < replay.said.incidents[0].opened_at < START + 8 * DAY + 12 * HOUR


@pytest.mark.parametrize("days", [3, 9])
def test_what_the_changelog_has_is_the_state_to_the_bit(days: int) -> None:
    """Half way through the week, and after it; the records are those of the model's last pane."""
    model = replayed(days).model("m")
    assert model is not None
    assert model.scope is not None
    scope = build_scope(bag(), layout_of("m", load_text(FILE).config.models["m"], bag()))
    assert any(key.startswith("week" if days < 7 else "own") for key in model.blocks)
    assert save_state(load_state(scope, model.blocks)) == save_state(model.scope) == model.blocks


def test_a_week_that_is_not_stationary_is_audited_and_stays_provisional() -> None:
    replay = replayed(8, shift=1.0, since=84)
    [audit] = lessons(replay)
    assert audit.reason is Reason.NOT_LEARNED
    assert str(audit.details["words"]).startswith("not stationary while learning: age, location is ")
    assert replay.said.windows[-1].provisional
    assert replay.said.incidents == []
