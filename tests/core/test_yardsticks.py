"""Yardsticks that follow the stream, at stage 2: killed after any record and restored, the same bytes go on."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pytest

from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.rows import NO_TIME, Rows
from detectors.scopes import build_scope, succeed
from schemas.alerts import Reason
from schemas.control import Cluster
from schemas.layouts import Layout
from streamer.core.control import Control
from tests.core.stage2 import BEGIN, DAY, HOUR, Log, Reader, Source, events, layout, steady

PANE = 12 * HOUR
YESTERDAY = {"compare_days": 1, "calendar": {"2025-01-03": "sunday", "2025-01-05": "off"}}


@cache
def bag() -> Reference:
    """Rows of the tests' stream, without their times."""
    past = events(20_000, start=BEGIN - 14 * DAY, span=14 * DAY, seed=99)
    rows = Rows(
        ts=np.full(len(past), NO_TIME),
        columns={"x": past.x, "y": past.y},
        version=past.version,
        segments={"country": past.country},
    )
    builder = ReferenceBuilder("m", "features", segments=("country",))
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def setting(**settings: object) -> tuple[Layout, Control]:
    one = layout(pane_ms=PANE, reference=bag().id, page_provisional=True, **settings)
    known = Control(models={"m": (one,)}, references={bag().id: bag()}, cluster=Cluster(sources=2, profiles=1))
    return one, known


def log_of(one: Layout) -> Log:
    """Ten days of two sources, a drift on the ninth."""
    log = Log()
    steady(log, [Source(0), Source(1)], one, panes=20, n=200, shifts=dict.fromkeys(range(17, 20), 1.0))
    return log


@pytest.mark.parametrize("settings", [{}, YESTERDAY], ids=["first week", "first week and yesterday"])
def test_coming_back_after_any_record_is_as_if_nothing_had_happened(settings: dict[str, object]) -> None:
    one, known = setting(**settings)
    log = log_of(one)
    expected = Reader.start(known).read(log)
    reader = Reader.start(known)
    for batch in log.batches(range(1, len(log.records))):
        reader = reader.restored(log)
        reader.apply(batch)
    assert reader.outputs == expected.outputs
    assert reader.state.counters == expected.state.counters


@pytest.mark.parametrize("day", [4, 8], ids=["in the week", "after the week"])
def test_a_new_layout_does_not_begin_the_week_again(day: int) -> None:
    """The tolerance is changed: one lesson, a week after the first pane; also when killed after any record."""
    one, _ = setting(**YESTERDAY)
    two = msgspec.structs.replace(one, from_ms=BEGIN + day * DAY, tolerance=0.2)
    known = Control(models={"m": (one, two)}, references={bag().id: bag()}, cluster=Cluster(sources=2, profiles=1))
    log = Log()
    sources = [Source(0), Source(1)]
    steady(log, sources, one, panes=2 * day, n=200)
    steady(log, sources, two, panes=2 * (10 - day), n=200, start=BEGIN + day * DAY)
    expected = Reader.start(known).read(log)
    reader = Reader.start(known)
    for batch in log.batches(range(1, len(log.records))):
        reader = reader.restored(log)
        reader.apply(batch)
    assert reader.outputs == expected.outputs
    lessons = [audit for audit in reader.said("audit") if audit.subject == "model m"]
    assert [(audit.reason, audit.at) for audit in lessons] == [(Reason.LEARNED, BEGIN + 7 * DAY)]
    assert not reader.said("windows")[-1].provisional


def test_another_pane_is_learned_anew() -> None:
    one, _ = setting()
    two = msgspec.structs.replace(one, pane_ms=2 * PANE)
    state = build_scope(bag(), one).start()
    kept, fresh = (succeed(build_scope(bag(), to), older=build_scope(bag(), one), state=state) for to in (one, two))
    assert kept.week is state.week
    assert fresh.week is not None
    assert fresh.week.block_ms == 2 * PANE


def test_the_week_ends_in_that_log_and_what_was_kept_of_it_is_gone() -> None:
    """Else the law above would say nothing of it: the lesson is heard, and its parts are deleted from the changelog."""
    one, known = setting()
    log = log_of(one)
    reader = Reader.start(known).read(log, range(1, len(log.records)))
    assert [audit.reason for audit in reader.said("audit") if audit.subject == "model m"] == [Reason.LEARNED]
    last: dict[bytes, bytes | None] = dict(reader.changelog)
    weeks = {key: raw for key, raw in last.items() if key.startswith(b"chart|week")}
    assert weeks
    assert set(weeks.values()) == {None}
    assert last[b"chart|own0|m"]
