"""What a list denies is nowhere: not in a delta, not in a letter, not in the changelog; only how many there were is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.rows import Rows
from schemas.control import InputMapping
from schemas.errors import FormatError, ReferenceFileError
from schemas.layouts import LISTS_FORMAT, FeatureLists, Layout
from schemas.profiles import Delta, decode
from streamer.core.control import Control, publish_layout
from streamer.core.plans import Plans
from streamer.core.profiling import apply, profile_rows, restore, start
from streamer.core.profiling_state import ProfilingState
from streamer.core.records import Batch, Output, PlainRecord
from streamer.formats.shapes import DENIED
from streamer.metrics import MORE
from streamer.stages import Profiling
from tests.core.stage1 import BEGIN, PANE, SECOND, SOURCE, control_of, event, layout, record, run

SECRET = "s3cret@example.org"
DENYING = FeatureLists(deny=("e*mail", "ssn"))
ALLOWING = FeatureLists(allow=("age", "c*", "grade"))


def denying(lists: FeatureLists = DENYING, **settings: Any) -> Control:
    """`credit` under a list."""
    one = layout("credit", "first", segments=("country",), features=lists, format=LISTS_FORMAT, **settings)
    return control_of(one)


def begun(control: Control, **settings: Any) -> ProfilingState:
    return start(control, SOURCE, next={"predictions": 0}, **settings)


def records(secrets: dict[str, object], *, n: int = 40) -> list[PlainRecord]:
    """Sound events, each with `secrets` among its features but every fourth."""
    features = [{"age": 20 + i, "country": "FR", **(secrets if i % 4 else {})} for i in range(n)]
    events = [event(id=f"e{i}", ts=BEGIN + 1000 * i, features=of) for i, of in enumerate(features)]
    return [record(one, offset=i) for i, one in enumerate(events)]


def written(outputs: list[list[Output]]) -> bytes:
    """All that leaves a task."""
    return b"".join(out.key + b"|" + (out.value or b"") + b"\n" for batch in outputs for out in batch)


def deltas(outputs: list[list[Output]]) -> list[Delta]:
    found = [decode(out.value or b"") for batch in outputs for out in batch if out.topic == "profiles"]
    return [one for one in found if isinstance(one, Delta)]


def but_the_position(outputs: list[list[Output]]) -> list[Output]:
    return [one for batch in outputs for one in batch if one.key != b"position"]


@pytest.mark.parametrize("lists", [DENYING, ALLOWING], ids=["deny", "allow"])
@pytest.mark.parametrize("sizes", [[1], [7], [40]])
@pytest.mark.parametrize("value", [SECRET, 7, None, [SECRET], {"at": SECRET}], ids=str)
def test_what_is_denied_is_counted_as_if_it_were_not_there(
    value: object, sizes: list[int], lists: FeatureLists
) -> None:
    """The same bytes as without it, whatever its type, but for the number of values in the position."""
    control = denying(lists)
    state, outputs = run(begun(control), records({"e-mail": value}), control, sizes)
    other, without = run(begun(control), records({}), control, sizes)
    assert but_the_position(outputs) == but_the_position(without)
    assert SECRET.encode() not in written(outputs)
    assert b"e-mail" not in written(outputs)
    assert (state.denied, other.denied) == (30, 0)
    assert Profiling().counts(state).more["features_denied", ""] == 30
    assert "features_denied" in MORE


def test_without_a_list_an_unknown_feature_is_told_of() -> None:
    """The other side of the test above: it would show."""
    control = denying(FeatureLists())
    state, outputs = run(begun(control), records({"e-mail": SECRET}), control, [40])
    assert {extra.name for one in deltas(outputs) for extra in one.extras} == {"e-mail"}
    assert state.denied == 0


@pytest.mark.parametrize("n", [1, 70, DENIED + 20])
def test_any_number_of_denied_names_is_counted_exactly(n: int) -> None:
    """Beyond the names that the fast decoder has slots for, too."""
    control = denying(FeatureLists(allow=("age", "country", "grade")))
    state, _ = run(begun(control), records({f"x{i}": i for i in range(n)}, n=12), control, [3])
    assert state.denied == 9 * n


def test_no_bad_record_is_kept_whole_where_a_list_denies() -> None:
    """Whose it is, and what in it may be read, is not known of a record that cannot be decoded."""
    secret = {"age": 41, "ssn": SECRET}
    bad = [
        record(json.dumps(event(features=secret)).encode()[:-1]),
        record(event(model="nobody", features=secret), offset=1),
    ]
    kept = {}
    for lists in (DENYING, FeatureLists()):
        control = denying(lists)
        state, outputs = run(begun(control, dead_letter_payload=True), bad, control, [2])
        assert state.drops["decode"] + state.drops["unknown_model"] == 2
        letters = [json.loads(out.value or b"") for out in outputs[0] if out.topic == "dead-letter"]
        kept[lists.given] = [bool(letter.get("payload")) for letter in letters]
    assert kept == {True: [False, False], False: [True, True]}


def test_a_list_holds_from_its_layout_on_and_no_sooner() -> None:
    """`grade` is counted before, and neither counted nor called unknown after; so are values of a wrong type."""
    lists = FeatureLists(deny=("grade",))
    control = control_of(
        layout("credit", "first"),
        layout("credit", "second", from_ms=SECOND, pane_ms=PANE // 2, features=lists, format=LISTS_FORMAT),
    )
    before = control.models["credit"][0].id
    grades: list[object] = ["1", "1", SECRET, [SECRET], None]
    events = [
        event(id=f"{ts}-{i}", ts=ts, features={"age": 41, "grade": grade})
        for ts in (BEGIN, SECOND)
        for i, grade in enumerate(grades)
    ]
    feed = [record(one, offset=i, append=SECOND) for i, one in enumerate(events)]
    state, outputs = run(begun(control), feed, control, [3])
    said = {(extra.kind, one.layout == before) for one in deltas(outputs) for extra in one.extras}
    assert said == {("unseen", True), ("wrong_type", True)}
    assert state.denied == 4


def test_a_mapped_input_is_read_by_the_same_lists() -> None:
    mapping = InputMapping(
        input="predictions",
        fields={"ts": "at", "id": "id", "score": "out"},
        features="in.*",
        constants={"model": "credit"},
    )
    control = replace(denying(), mappings={"predictions": (mapping,)})
    events = [{"at": BEGIN + i, "id": f"e{i}", "out": 0.5, "in": {"age": 30, "ssn": SECRET}} for i in range(5)]
    state, outputs = run(begun(control), [record(one, offset=i) for i, one in enumerate(events)], control, [5])
    assert (state.applied, state.denied) == (5, 5)
    assert SECRET.encode() not in written(outputs)


def test_columns_of_a_table_are_denied_likewise() -> None:
    control = denying()
    rows = Rows(
        ts=np.arange(3, dtype=np.int64) + BEGIN,
        columns={"age": np.array([30.0, 40.0, 50.0]), "ssn": np.array([SECRET, None, SECRET], dtype=object)},
    )
    state, outputs = profile_rows(begun(control), rows, control, "credit")
    assert (state.applied, state.denied) == (3, 2)
    assert SECRET.encode() not in written([outputs])
    assert [extra for one in deltas([outputs]) for extra in one.extras] == []


def test_a_restored_task_goes_on_with_its_number() -> None:
    control, feed = denying(), records({"ssn": SECRET})
    state, outputs = run(begun(control), feed[:20], control, [20])
    pairs = [(out.key, out.value) for out in outputs[0] if out.topic == "changelog"]
    again = restore(pairs, control)
    assert again is not None
    assert again.denied == state.denied == 15
    again, _ = apply(again, Batch("predictions", feed[20:], 40), control)
    assert again.denied == 30


@pytest.mark.parametrize(
    ("lists", "settings", "named"),
    [
        (FeatureLists(deny=("gr*",)), {}, "grade"),
        (FeatureLists(allow=("age", "country")), {}, "grade"),
        (FeatureLists(deny=("plan",)), {"marginals": ("plan",)}, "plan"),
    ],
)
def test_a_worker_stops_at_a_layout_that_counts_what_it_denies(
    lists: FeatureLists, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ReferenceFileError, match=f"denies {named}, which it or its reference would count"):
        Plans.of(denying(lists, **settings))


def test_outputs_are_no_features() -> None:
    """`score` and `label` of the reference are not named by the list that allows three features."""
    plans = Plans.of(denying(FeatureLists(allow=("age", "country", "grade"))))
    assert [spec.name for spec in plans.models["predictions"]["credit"].plans[0].table.specs][-2:] == ["score", "label"]


def test_a_list_changes_the_id_of_a_layout_and_no_list_does_not() -> None:
    plain = Layout(model="m", from_ms=0, reference="r")
    assert msgspec.structs.replace(plain, features=FeatureLists()).id == plain.id
    assert msgspec.structs.replace(plain, features=DENYING).id != plain.id


def test_a_worker_that_does_not_know_a_layouts_format_refuses_it() -> None:
    """Lists are of format 2, so that a worker from before does not count what they deny."""
    (one,) = denying().models["credit"]
    known, newer = (publish_layout(msgspec.structs.replace(one, format=at)) for at in (LISTS_FORMAT, LISTS_FORMAT + 1))
    assert Control().apply(known.key, known.value).models["credit"][0].features == DENYING
    with pytest.raises(FormatError, match="layout of format 3"):
        Control().apply(newer.key, newer.value)
