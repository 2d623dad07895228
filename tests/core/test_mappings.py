"""Mappings in force: which record is read by which, whatever the batches, crashes and restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.control import InputMapping
from schemas.errors import FormatError, LateLayout
from streamer.core.control import Control, publish_mapping
from streamer.core.mappings import by_mapping, format_for, input_mapping, latest, news, topic_mapping
from streamer.core.profiling import apply, decode_position, restore, start
from streamer.core.records import Batch, PlainRecord
from streamer.formats.mapping import MappedFormat, TopicMapping
from streamer.formats.native import NativeFormat
from streamer.formats.shapes import Shapes
from tests.core.stage1 import BEGIN, CONTROL, SOURCE, control_of, event, layout, record, run, summed

#: When the log's producers began to write something else, and when they came back to our own form.
CHANGED, BACK = BEGIN + 20_000, BEGIN + 40_000
FOREIGN = TopicMapping(
    fields={"id": "key", "ts": "at", "score": "out.0"}, features={"age": "in.age"}, constants={"model": "credit"}
)
NAMELESS = TopicMapping(fields={"ts": "at", "score": "out.0"}, features="in.*", constants={"model": "credit"})
SHAPES = Shapes.of({}, kind="predictions")


def mapped(*mappings: tuple[int, TopicMapping | None], control: Control = CONTROL) -> Control:
    found = tuple(input_mapping("predictions", mapping, from_ms=from_ms) for from_ms, mapping in mappings)
    return replace(control, mappings={"predictions": found}, offset=control.offset + 1)


CHANGING = mapped((CHANGED, FOREIGN), (BACK, None))


def foreign(i: int) -> dict[str, Any]:
    return {"key": f"f{i}", "at": BEGIN + i, "out": [0.1], "in": {"age": 20 + i % 50}}


def stream(n: int = 300, *, form: Any = foreign) -> list[PlainRecord]:
    """Our own events, then foreign ones, then our own; a few come in the wrong form, and some are no JSON at all."""
    records = []
    for i in range(n):
        append = BEGIN + i * 60_000 // n
        other = CHANGED <= append < BACK
        value: Any = form(i) if other != (i % 29 == 0) else event(id=f"o{i}", ts=BEGIN + i)
        records.append(record(b"{" if i % 41 == 0 else value, offset=i, append=append))
    return records


def test_a_record_is_read_by_the_mapping_of_its_append_time() -> None:
    records = stream()
    state, outputs = run(start(CHANGING, SOURCE), records, CHANGING, [37])
    bad = sum(i % 29 == 0 or i % 41 == 0 for i in range(300))
    assert state.applied == 300 - bad
    assert (state.drops["decode"], state.drops["schema"]) == (8, bad - 8)
    ages = [table["age", "bin 0"] + table["age", "bin 1"] for table in summed(outputs, CHANGING).tables.values()]
    assert sum(ages) > 0


@pytest.mark.parametrize("form", [foreign, lambda i: {"at": BEGIN + i, "out": [0.1], "in": {"age": 30}}])
@pytest.mark.parametrize("sizes", [[1], [7], [300], [99, 2, 150]])
def test_batches_of_any_size_are_read_the_same(sizes: list[int], form: Any) -> None:
    """A batch across the change is read by both; rows without an id stand beside rows with one."""
    mapping = FOREIGN if form is foreign else NAMELESS
    control = mapped((CHANGED, mapping), (BACK, None))
    records = stream(form=form)
    whole, expected = run(start(control, SOURCE), records, control, [31])
    state, outputs = run(start(control, SOURCE), records, control, sizes)
    assert summed(outputs, control) == summed(expected, control)
    assert (state.drops, state.applied, state.appended) == (whole.drops, whole.applied, whole.appended)
    assert state.applied > 250


def test_a_task_that_comes_back_reads_every_record_by_its_own_mapping() -> None:
    """Stop after each batch and come back from the changelog, with all mappings known: the same bytes."""
    records = stream()
    _, expected = run(start(CHANGING, SOURCE), records, CHANGING, [23])
    state, changelog, actual = start(CHANGING, SOURCE), dict[bytes, bytes](), []
    for at in range(0, len(records), 23):
        part = records[at : at + 23]
        state, outputs = apply(state, Batch("predictions", part, part[-1].offset + 1), CHANGING)
        actual.append(outputs)
        changelog |= {out.key: out.value for out in outputs if out.topic == "changelog" and out.value is not None}
        restored = restore(changelog.items(), CHANGING)
        assert restored is not None
        state = restored
    assert actual == expected


def test_a_mapping_that_is_learned_in_time_changes_nothing_that_was_read() -> None:
    """A worker that learns of it while it runs writes what one writes that knew it from the beginning."""
    records = stream()
    _, expected = run(start(CHANGING, SOURCE), records, CHANGING, [25])
    state, outputs = run(start(CONTROL, SOURCE), records[:75], CONTROL, [25])
    state, rest = run(state, records[75:], CHANGING, [25])
    positions = [decode_position(batch[0].value or b"") for batch in (*outputs, *rest)]
    known = [decode_position(batch[0].value or b"") for batch in expected]
    assert [batch[1:] for batch in (*outputs, *rest)] == [batch[1:] for batch in expected]
    assert [position.applied for position in positions] == [position.applied for position in known]


def test_a_mapping_that_is_learned_too_late_ends_the_task() -> None:
    state, _ = run(start(CONTROL, SOURCE), stream()[:120], CONTROL, [60])
    with pytest.raises(LateLayout, match=f"mapping of predictions for what was appended from {CHANGED} on"):
        apply(state, Batch("predictions", [], 120), CHANGING)


def test_it_is_too_late_for_a_task_that_came_back_too() -> None:
    """What it has read stands in its position, not in memory only."""
    state, outputs = run(start(CONTROL, SOURCE), stream()[:120], CONTROL, [120])
    pairs = [(out.key, out.value) for out in outputs[0] if out.topic == "changelog"]
    restored = restore(pairs, CONTROL)
    assert restored is not None
    assert restored.appended == state.appended == {"predictions": latest(stream()[:120])}
    with pytest.raises(LateLayout):
        apply(restored, Batch("predictions", [], 120), CHANGING)


def test_layouts_and_mappings_change_independently() -> None:
    other = control_of(*(one for ones in CONTROL.models.values() for one in ones), layout("new", "churn"))
    state, _ = run(start(CHANGING, SOURCE), stream()[:50], CHANGING, [50])
    state, _ = apply(state, Batch("predictions", [], 50), replace(other, mappings=CHANGING.mappings))
    assert "new" in state.plans.models["predictions"]
    assert state.mappings == CHANGING.mappings


def test_control_keeps_the_mappings_of_an_input_in_order() -> None:
    control = Control()
    late, early = (input_mapping("features", FOREIGN, from_ms=at) for at in (9_000, 0))
    for mapping in (late, early, replace_timestamp(late)):
        output = publish_mapping(mapping)
        control = control.apply(output.key, output.value, offset=control.offset)
    assert control.mappings == {"features": (early, replace_timestamp(late))}
    output = publish_mapping(early)
    assert output.key == b"mapping|features|0"
    assert control.apply(output.key, None).mappings == {"features": (replace_timestamp(late),)}


def replace_timestamp(mapping: InputMapping) -> InputMapping:
    return input_mapping(mapping.input, TopicMapping(fields={"ts": "at"}, timestamp="s"), from_ms=mapping.from_ms)


@pytest.mark.parametrize(
    "value", [b"{", b'{"input": "sidewalks"}', b'{"input": "features", "format": 99}', b'{"input": "features"}']
)
def test_a_mapping_that_cannot_be_used_is_refused(value: bytes) -> None:
    with pytest.raises(FormatError):
        Control().apply(b"mapping|features|0", value, offset=0)


def test_what_stands_in_control_is_what_the_decoder_takes() -> None:
    assert topic_mapping(input_mapping("predictions", FOREIGN, from_ms=5)) == FOREIGN
    assert topic_mapping(input_mapping("predictions", NAMELESS)) == NAMELESS
    assert topic_mapping(input_mapping("predictions", None)) is None


def test_the_plain_decoder_serves_where_nothing_depends_on_the_time() -> None:
    always, later = input_mapping("predictions", FOREIGN), input_mapping("predictions", FOREIGN, from_ms=5)
    kinds = [type(format_for(SHAPES, mappings)) for mappings in ((), (always,), (input_mapping("predictions", None),))]
    assert kinds == [NativeFormat, MappedFormat, NativeFormat]
    assert format_for(SHAPES, (later,)).shapes is SHAPES


def test_a_record_without_an_append_time_is_read_as_the_oldest_are() -> None:
    always, later = input_mapping("predictions", FOREIGN), input_mapping("predictions", None, from_ms=50)
    records = [record(b"", append=at) for at in (-1, 0, 49, 50)]
    assert by_mapping((always, later), records) == [(FOREIGN, [0, 1, 2]), (None, [3])]
    assert by_mapping((), records) == [(None, [0, 1, 2, 3])]


def test_news_are_mappings_whose_time_has_passed_unknown() -> None:
    known, other = input_mapping("predictions", FOREIGN), input_mapping("predictions", None, from_ms=50)
    assert news((known, other), (known,), reached=49) is None
    assert news((known, other), (known,), reached=50) == other
    assert news((known, other), (known, other), reached=90) is None
