"""Stage 1 as a whole: what it counts, drops, says and writes down."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from schemas.errors import FormatError, LateLayout, ProtocolBroken, ReferenceFileError
from schemas.profiles import decode
from streamer.core.control import Control
from streamer.core.profiling import apply, decode_position, restore, start
from streamer.core.profiling_state import ProfilingPosition, ProfilingState
from streamer.core.records import Batch, Output
from tests.core.stage1 import (
    BEGIN,
    CONTROL,
    HOLD,
    LATENESS,
    MARGINALS,
    PANE,
    SECOND,
    SOURCE,
    control_of,
    counted_by_hand,
    event,
    layout,
    progress,
    record,
    run,
    stream,
    summed,
)


def begun(**settings: object) -> ProfilingState:
    return start(CONTROL, SOURCE, next={"predictions": 0}, **settings)  # type: ignore[arg-type]


def position_of(outputs: list[Output]) -> ProfilingPosition:
    return decode_position(next(out.value for out in outputs if out.key == b"position") or b"")


@pytest.mark.parametrize("control", [CONTROL, MARGINALS], ids=["cells", "marginals"])
@pytest.mark.parametrize("seed", range(4))
def test_deltas_add_up_to_the_truth_by_hand(seed: int, control: Control) -> None:
    """Every table, extreme and name equals a count record by record, and so do the drops; an event counts once."""
    records = stream(600, seed)
    state, outputs = run(start(control, SOURCE, next={"predictions": 0}), records, control, [37])
    expected, actual = counted_by_hand(records, control), summed(outputs, control)
    assert {key: +table for key, table in expected.tables.items()} == {k: +table for k, table in actual.tables.items()}
    assert expected.extremes == actual.extremes
    assert expected.extras == actual.extras
    assert dict(expected.drops) == {reason: n for reason, n in state.drops.items() if n}
    assert expected.applied == state.applied
    assert expected.maxima == state.maxima


@pytest.mark.parametrize("control", [CONTROL, MARGINALS], ids=["cells", "marginals"])
@pytest.mark.parametrize("sizes", [[1], [7], [300], [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]])
def test_batches_of_any_size_count_the_same(sizes: list[int], control: Control) -> None:
    """I2a: deltas, summed, are a function of the records."""
    records = stream(300, 9)
    whole, whole_outputs = run(start(control, SOURCE, next={"predictions": 0}), records, control, [200])
    state, outputs = run(start(control, SOURCE, next={"predictions": 0}), records, control, sizes)
    expected, actual = summed(whole_outputs, control), summed(outputs, control)
    assert expected == actual
    assert (whole.drops, whole.applied, whole.maxima) == (state.drops, state.applied, state.maxima)


def test_a_task_that_is_restored_goes_on_as_if_it_had_never_stopped() -> None:
    """Stop after each batch, read the changelog as compaction left it, go on: the same bytes."""
    records = stream(500, 3)
    undisturbed, expected = run(begun(), records, CONTROL, [60])
    state, changelog, actual = begun(), dict[bytes, bytes](), []
    for at in range(0, len(records), 60):
        part = records[at : at + 60]
        state, outputs = apply(state, Batch("predictions", part, part[-1].offset + 1), CONTROL)
        actual.append(outputs)
        changelog |= {out.key: out.value for out in outputs if out.topic == "changelog" and out.value is not None}
        restored = restore(changelog.items(), CONTROL)
        assert restored is not None
        state = restored
    assert expected == actual
    assert undisturbed.record() == state.record()


def test_an_empty_changelog_has_no_state() -> None:
    assert restore([], CONTROL) is None


def test_consumed_is_applied_and_dropped_in_every_position() -> None:
    records = stream(400, 5)
    _, outputs = run(begun(), records, CONTROL, [33])
    positions = [position_of(batch) for batch in outputs]
    assert [p.consumed for p in positions] == [p.applied + sum(p.drops.values()) for p in positions]
    assert positions[-1].consumed == len(records)
    assert [p.seq for p in positions] == list(range(1, len(positions) + 1))


def test_ranges_join_on_every_partition() -> None:
    """Each record begins where the last one to its partition ended; parts of a transaction count up."""
    _, outputs = run(begun(), stream(400, 6), CONTROL, [20])
    said = {
        partition: [[decode(out.value or b"") for out in batch if out.partition == partition] for batch in outputs]
        for partition in (0, 1)
    }
    for batches in said.values():
        written = [batch for batch in batches if batch]
        assert [{(one.begin, one.end, one.seq) for one in batch} for batch in written] == [
            {(batch[0].begin, batch[0].end, batch[0].seq)} for batch in written
        ]
        assert [[one.part for one in batch] for batch in written] == [list(range(len(batch))) for batch in written]
        assert [{one.parts for one in batch} for batch in written] == [{len(batch)} for batch in written]
        assert [batch[0].begin for batch in written[1:]] == [batch[0].end for batch in written[:-1]]


def test_a_tick_says_progress_to_every_partition() -> None:
    state, _ = apply(begun(), Batch("predictions", [record(event())], 1), CONTROL)
    state, outputs = apply(state, Batch("predictions", [], 1, caught_up=True), CONTROL)
    assert [(one.caught_up, one.maxima, one.begin, one.end) for one in progress(outputs)] == [
        (True, {"credit": BEGIN}, 1, 1),
        (True, {}, 1, 1),
    ]
    assert [out.partition for out in outputs if out.topic == "profiles"] == [0, 1]


def test_progress_is_said_when_a_maximum_passes_the_end_of_a_pane_and_lateness() -> None:
    def said(state: ProfilingState, offset: int, ts: int) -> tuple[ProfilingState, int]:
        one = record(event(id=str(offset), ts=ts), offset=offset, append=ts)
        state, outputs = apply(state, Batch("predictions", [one], offset + 1), CONTROL)
        return state, len(progress(outputs))

    state, first = said(begun(), 0, BEGIN + LATENESS)
    state, within = said(state, 1, BEGIN + PANE)
    state, just_before = said(state, 2, BEGIN + PANE + LATENESS - 1)
    state, passed = said(state, 3, BEGIN + PANE + LATENESS)
    assert (first, within, just_before, passed) == (2, 0, 0, 2)


def test_late_is_decided_against_the_maximum_before_the_record() -> None:
    """Late from the pane's end plus lateness on; dropped once the hold has passed, too."""
    last = BEGIN + PANE + LATENESS
    times = [BEGIN + PANE - 1, last - 1, BEGIN, last, BEGIN + 1, last + HOLD - 1, BEGIN + 2, last + HOLD, BEGIN + 3]
    records = [record(event(id=str(i), ts=ts), offset=i, append=ts) for i, ts in enumerate(times)]
    state, outputs = apply(begun(), Batch("predictions", records, len(records)), CONTROL)
    rows = summed([outputs], CONTROL).tables
    late = sum(table["n", ""] for key, table in rows.items() if key[4])
    assert (late, state.drops["late"], state.applied) == (2, 1, 8)


def test_a_layout_begins_at_its_time_within_a_batch() -> None:
    records = [record(event(id=str(i), ts=SECOND + i - 2), offset=i, append=SECOND) for i in range(4)]
    _, outputs = apply(begun(), Batch("predictions", records, 4), CONTROL)
    first, second = (one.id for one in CONTROL.models["credit"])
    counts = {key[0]: table["n", ""] for key, table in summed([outputs], CONTROL).tables.items()}
    assert counts == {first: 2, second: 2}


def test_a_layout_that_is_learned_in_time_takes_effect() -> None:
    before = control_of(CONTROL.models["credit"][0])
    state = start(before, SOURCE)
    state, _ = apply(state, Batch("predictions", [record(event())], 1), before)
    state, _ = apply(state, Batch("predictions", [record(event(id="b", model="churn"), offset=1)], 2), CONTROL)
    assert state.applied == 2


def test_a_feature_that_was_unknown_is_counted_by_the_layout_that_brings_it() -> None:
    """Events have had `debt` all along; the second layout's reference is the first that knows it."""
    before = control_of(CONTROL.models["credit"][0])
    state = start(before, SOURCE)
    features = {"age": 40.0, "debt": 0.3, "country": "FR"}
    for at in range(3):
        one = record(event(id=str(at), features=features), offset=at)
        state, _ = apply(state, Batch("predictions", [one], at + 1), before)
    later = record(event(id="later", ts=SECOND, features=features), offset=3, append=SECOND)
    state, outputs = apply(state, Batch("predictions", [later], 4), CONTROL)
    (table,) = summed([outputs], CONTROL).tables.values()
    assert (state.applied, table["n", ""], table["debt", "bin 0"]) == (4, 1, 1)


def test_a_layout_that_is_learned_too_late_stops_the_task() -> None:
    before = control_of(CONTROL.models["credit"][0])
    state = start(before, SOURCE)
    state, _ = apply(state, Batch("predictions", [record(event(ts=SECOND), append=SECOND)], 1), before)
    with pytest.raises(LateLayout, match=f"credit from {SECOND}"):
        apply(state, Batch("predictions", [], 1), CONTROL)


def test_a_layout_whose_reference_is_not_whole_stops_the_task() -> None:
    broken = control_of(layout("credit", "gone"))
    with pytest.raises(ReferenceFileError, match="model credit"):
        apply(start(broken, SOURCE), Batch("predictions", [record(event())], 1), broken)


def test_a_batch_from_before_the_position_stops_the_task() -> None:
    state, _ = apply(begun(), Batch("predictions", [record(event())], 1), CONTROL)
    with pytest.raises(ProtocolBroken, match="from offset 0 to 1, at 1"):
        apply(state, Batch("predictions", [record(event())], 1), CONTROL)


def test_outcomes_are_consumed_and_counted_as_unmatched() -> None:
    outcome = record({"id": "a", "ts": BEGIN, "label": 1}, topic="outcomes")
    state, outputs = apply(begun(), Batch("outcomes", [outcome], 1), CONTROL)
    assert (state.next, state.drops["unmatched_outcome"]) == ({"predictions": 0, "outcomes": 1}, 1)
    assert [out.topic for out in outputs] == ["changelog", "dead-letter"]


def test_feature_rows_count_under_their_set() -> None:
    row = {"feature_set": "sensors", "ts": BEGIN, "features": {"debt": 0.7, "country": "FR", "other": 1}}
    state, outputs = apply(begun(), Batch("features", [record(row, topic="features")] * 2, 2), CONTROL)
    (table,) = summed([outputs], CONTROL).tables.values()
    assert (state.applied, table["n", ""], table["debt", "bin 1"], table["country", "FR"]) == (2, 2, 2, 2)
    assert table["unknown", ""] == 2


def test_a_damaged_position_is_refused() -> None:
    _, outputs = apply(begun(), Batch("predictions", [record(event())], 1), CONTROL)
    raw = next(out.value for out in outputs if out.key == b"position") or b""
    fields = msgspec.msgpack.decode(raw)
    with pytest.raises(ProtocolBroken, match="digest"):
        decode_position(msgspec.msgpack.encode({**fields, "applied": 2}))
    with pytest.raises(FormatError, match="format 4"):
        decode_position(msgspec.msgpack.encode({**fields, "format": 4}))
    with pytest.raises(FormatError):
        decode_position(raw[:-5])


def test_a_position_of_the_format_before_is_read() -> None:
    """As format 1 wrote it: without `folded`, and a digest that knew nothing of it."""
    _, outputs = apply(begun(), Batch("predictions", [record(event())], 1), CONTROL)
    written = msgspec.msgpack.decode(next(out.value for out in outputs if out.key == b"position") or b"")
    names = "source seq next consumed applied drops maxima ends caught_up first_id next_id ids control_offset"
    older = {"format": 1, **{name: written[name] for name in names.split()}, "digest": ""}
    digest = hashlib.blake2b(msgspec.msgpack.encode(older, order="sorted"), digest_size=8).hexdigest()
    position = decode_position(msgspec.msgpack.encode({**older, "digest": digest}))
    assert (position.applied, position.folded) == (1, 0)


def test_a_changelog_without_a_chunk_of_ids_is_refused() -> None:
    _, outputs = apply(begun(), Batch("predictions", [record(event())], 1), CONTROL)
    pairs = [(out.key, out.value) for out in outputs if out.topic == "changelog"]
    with pytest.raises(ProtocolBroken, match="identities"):
        restore([pair for pair in pairs if pair[0] == b"position"], CONTROL)


def test_unknown_features_cost_no_exactness_when_the_decoder_learns_them() -> None:
    """Names met on the slow path get slots in the struct; beyond 64 they stay slow; the counts are the same."""
    records = [
        record(event(id=str(i), features={"age": 30, f"new{i % 80}": 1, "odd": None}), offset=i) for i in range(800)
    ]
    _, outputs = run(begun(), records, CONTROL, [100])
    (table,) = summed(outputs, CONTROL).tables.values()
    assert (table["n", ""], table["unknown", ""], table["age", "bin 0"]) == (800, 1600, 800)
