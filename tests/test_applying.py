"""From the file to what is in force: layouts, when they begin, and where their models stand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import msgspec
import pytest

from schemas.errors import ConfigurationError
from schemas.layouts import Expectation, Layout, RetrainPolicy, View
from schemas.profiles import Delta, Progress
from streamer import applying
from streamer.applying import (
    LEARNED_MS,
    Change,
    control_of,
    differing,
    in_words,
    load_references,
    plan,
    records,
    remappings,
    targets,
    times_heard,
)
from streamer.config import ConfigurationErrors, Loaded, load_text
from streamer.core.control import Control, publish_mapping
from streamer.formats.mapping import TopicMapping
from tests.histories import HOUR, START, reference, write_reference

FILE = "models:\n  m:\n    reference: reference.json\n    pane: 1h\n"


def loaded(folder: Path, more: str = "") -> Loaded:
    return load_text(FILE + more, file=str(folder / "tripline.yaml"))


def layout_of(folder: Path, more: str = "") -> Layout:
    write_reference(folder)
    configuration = loaded(folder, more)
    return targets(configuration, load_references(configuration))["m"]


def planned(wanted: dict[str, Layout], control: Control, **more: object) -> list[Change]:
    arguments: dict[str, object] = {"profiles": 8, "rates": {}, "times": {"m": START}, **more}
    return plan(wanted, control, **arguments)  # type: ignore[arg-type]


def test_a_layout_says_what_the_file_says(tmp_path: Path) -> None:
    layout = layout_of(
        tmp_path,
        "    tolerance: 0.2\n    false_alarms: 2 per 10d\n    expect: {age: {range: [0, 120]}, rows_at_least: 3}\n"
        "    retrain: {when: drift for 2h, mode: approve}\n    cooldown: 3\n    max_alert_age: off\n",
    )
    assert (layout.kind, layout.pane_ms, layout.tolerance, layout.timezone) == ("features", HOUR, 0.2, "UTC")
    assert layout.budget_panes == 120
    assert layout.expect == (Expectation(feature="age", range=(0.0, 120.0)), Expectation(feature="", rows_at_least=3))
    assert layout.policies == (RetrainPolicy(for_ms=2 * HOUR, mode="approve"),)
    assert (layout.cooldown_panes, layout.max_alert_age_ms) == (3, None)
    assert (layout.views, layout.monitored, layout.monitors) == ((View(),), ("age", "country"), 2)


@pytest.mark.parametrize(
    ("text", "days", "lag"),
    [("", 0, 0), ("compare: yesterday", 1, 0), ("compare: last week", 1, 6), ("compare: trailing 14d", 14, 1)],
)
def test_what_it_is_compared_with_is_part_of_the_layout(tmp_path: Path, text: str, days: int, lag: int) -> None:
    layout = layout_of(tmp_path, f"    {text}\n")
    assert (layout.compare_days, layout.compare_lag) == (days, lag)


def test_a_calendar_and_weights_are_part_of_the_layout(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, "    calendar: {2025-12-26: off, 2025-12-25: sunday}\n    weights: {age: 2}\n")
    assert list(layout.calendar.items()) == [("2025-12-25", "sunday"), ("2025-12-26", "off")]
    assert layout.weights == {"age": 2.0}
    assert layout.id != layout_of(tmp_path, "").id


@pytest.mark.parametrize(
    ("more", "horizon", "maturity", "pane"),
    [
        ("", 0, 0, 3_600_000),
        ("outcomes: {}", 7 * 86_400_000, 86_400_000, 3_600_000),
        ("outcomes: {horizon: 7h, pane: 2h}", 25_200_000, 3_600_000, 7_200_000),
        ("outcomes: {maturity: 2d}", 7 * 86_400_000, 2 * 86_400_000, 3_600_000),
    ],
)
def test_maturity_is_a_seventh_of_the_horizon_and_a_day_at_most_where_nothing_else_is_said(
    tmp_path: Path, more: str, horizon: int, maturity: int, pane: int
) -> None:
    write_reference(tmp_path)
    file = loaded(tmp_path, f"    kind: predictions\n    {more}\n")
    layout = applying.layout_of("m", file.config.models["m"], load_references(file)["m"])
    assert (layout.horizon_ms, layout.maturity_ms, layout.outcome_pane_ms) == (horizon, maturity, pane)


def test_ignored_features_are_counted_and_not_tested(tmp_path: Path) -> None:
    assert layout_of(tmp_path, "    ignore: [coun*]\n").monitored == ("age",)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("    ignore: [agee]\n", "tripline.yaml:5: models.m.ignore[0]: no feature is 'agee', did you mean `age`?"),
        ("    ignore: ['*']\n", "tripline.yaml:5: models.m.ignore: leaves no feature to be tested"),
        ("    expect: {agee: {}}\n", "tripline.yaml:5: models.m.expect.agee: is not in the reference, did you mean"),
        ("    kind: predictions\n    outcomes: {}\n", "tripline.yaml:6: models.m.outcomes: nothing to compare"),
        ("    outcomes: {}\n", "tripline.yaml:5: models.m.outcomes: are for predictions; this is a feature set"),
        ("    expect: {country: {range: [0, 1]}}\n", "models.m.expect.country.range: is for numbers"),
        ("    expect: {age: {levels: closed}}\n", "models.m.expect.age.levels: is for levels"),
        ("    weights: {agee: 2}\n", "tripline.yaml:5: models.m.weights.agee: is not in the reference, did you mean"),
        ("    false_alarms: 1 per 5h\n", "must be at most one in ten panes of this model, for instance 1 per 10h"),
    ],
)
def test_what_the_reference_contradicts_is_an_error_with_its_place(tmp_path: Path, more: str, expected: str) -> None:
    with pytest.raises(ConfigurationErrors) as caught:
        layout_of(tmp_path, more)
    assert expected in str(caught.value)


def test_a_reference_that_cannot_be_used_is_an_error_at_its_line(tmp_path: Path) -> None:
    configuration = loaded(tmp_path)
    with pytest.raises(ConfigurationErrors, match=r"tripline\.yaml:3: models\.m\.reference: cannot be read"):
        load_references(configuration)
    (tmp_path / "reference.json").write_text("{}")
    with pytest.raises(ConfigurationErrors, match=r"models\.m\.reference: .*not a Tripline reference"):
        load_references(configuration)


def test_a_first_layout_holds_from_the_beginning(tmp_path: Path) -> None:
    [change] = planned({"m": layout_of(tmp_path)}, Control())
    assert (change.layout.from_ms, change.before) == (0, None)


def test_what_is_in_force_is_not_published_again(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    assert planned({"m": layout}, control_of({"m": layout}, {"m": reference()})) == []


def test_a_change_begins_two_panes_and_two_minutes_ahead_on_panes_of_both_layouts(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    control = control_of({"m": layout}, {"m": reference()})
    longer = msgspec.structs.replace(layout, pane_ms=90 * 60_000)
    [change] = planned({"m": longer}, control, times={"m": START + 1})
    assert change.layout.from_ms == START + 6 * HOUR
    assert change.differences == ("pane_ms",)


def test_a_change_begins_when_it_is_told_to_but_not_too_soon(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    control = control_of({"m": layout}, {"m": reference()})
    other = msgspec.structs.replace(layout, tolerance=0.3)
    [change] = planned({"m": other}, control, since=START + 9 * HOUR + 1)
    assert change.layout.from_ms == START + 10 * HOUR
    with pytest.raises(ConfigurationError, match="the earliest is 2025-01-06T02:00:00Z"):
        planned({"m": other}, control, since=START + HOUR)


def test_a_change_that_waits_is_followed_by_the_next(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    waiting = msgspec.structs.replace(layout, tolerance=0.3, from_ms=START + 50 * HOUR)
    control = control_of({"m": layout}, {"m": reference()})
    for output in records([Change(layout=waiting, before=layout, differences=())], {"m": reference()}, control):
        control = control.apply(output.key, output.value, offset=control.offset)
    [change] = planned({"m": layout}, control)
    assert change.layout.from_ms == START + 51 * HOUR


def test_models_are_spread_over_partitions_by_their_rates_and_stay_where_they_are(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    wanted = {name: msgspec.structs.replace(layout, model=name) for name in "abcd"}
    rates = {"a": 100.0, "b": 60.0, "c": 50.0, "d": 1.0}
    changes = planned(wanted, Control(), profiles=2, rates=rates)
    placed = {change.layout.model: change.layout.partition for change in changes}
    assert placed == {"a": 0, "b": 1, "c": 1, "d": 0}
    control = control_of(wanted, dict.fromkeys(wanted, reference()), profiles=2)
    stays = control.models["b"][-1].partition
    moved = {"b": msgspec.structs.replace(wanted["b"], tolerance=0.5)}
    assert planned(moved, control, profiles=2)[0].layout.partition == stays


def test_references_come_before_the_layouts_that_use_them_and_once_only(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    wanted = {name: msgspec.structs.replace(layout, model=name) for name in "ab"}
    outputs = records(planned(wanted, Control()), dict.fromkeys(wanted, reference()), Control())
    kinds = [output.key.decode().partition("|")[0] for output in outputs]
    assert kinds == ["reference", "reference", "layout", "layout"]


def test_where_and_when_a_layout_stands_is_no_difference(tmp_path: Path) -> None:
    layout = layout_of(tmp_path)
    assert differing(layout, msgspec.structs.replace(layout, from_ms=HOUR, partition=3)) == ()


FOREIGN = TopicMapping(fields={"ts": "at"}, constants={"model": "m"})
OTHER = TopicMapping(fields={"ts": "time"}, constants={"model": "m"})


def in_force(tmp_path: Path, mappings: Mapping[str, TopicMapping]) -> Control:
    return control_of({"m": layout_of(tmp_path)}, {"m": reference()}, mappings=mappings)


def test_a_first_mapping_holds_from_the_beginning() -> None:
    [change] = remappings({"features": FOREIGN}, Control(), now=START)
    assert (change.mapping.input, change.mapping.from_ms, change.before) == ("features", 0, None)
    assert in_words(change) == "input features: read by a mapping of ts, from the beginning"


def test_what_is_in_force_already_is_no_change(tmp_path: Path) -> None:
    control = in_force(tmp_path, {"features": FOREIGN})
    assert remappings({"features": FOREIGN}, control, now=START) == []
    assert remappings({}, in_force(tmp_path, {}), now=START) == []


@pytest.mark.parametrize(("before", "after", "native"), [
    ({"features": FOREIGN}, {"features": OTHER}, False),
    ({"features": FOREIGN}, {}, True),
    ({}, {"features": FOREIGN}, False),
])  # fmt: skip
def test_an_input_in_use_changes_two_minutes_ahead(
    tmp_path: Path, before: dict[str, TopicMapping], after: dict[str, TopicMapping], native: bool
) -> None:
    """Another mapping, none any more, or one where there was none: a model is counted from it."""
    [change] = remappings(after, in_force(tmp_path, before), now=START)
    assert (change.mapping.from_ms, change.mapping.native) == (START + 120_000, native)
    assert change.before is not None
    assert "what is appended from 2025-01-06T00:02:00Z on" in in_words(change)
    [later] = remappings(after, in_force(tmp_path, before), now=START, since=START + HOUR)
    assert later.mapping.from_ms == START + HOUR


def test_an_input_that_no_model_is_counted_from_is_read_so_from_the_beginning(tmp_path: Path) -> None:
    """`m` is a feature set: predictions and outcomes are of nobody yet."""
    changes = remappings({"predictions": FOREIGN, "outcomes": FOREIGN}, in_force(tmp_path, {}), now=START)
    assert [(change.mapping.input, change.mapping.from_ms) for change in changes] == [
        ("predictions", 0),
        ("outcomes", 0),
    ]


def test_two_changes_in_a_row_stand_one_after_the_other(tmp_path: Path) -> None:
    control = in_force(tmp_path, {"features": FOREIGN})
    for wanted in ({"features": OTHER}, {"features": FOREIGN}):
        [change] = remappings(wanted, control, now=START)
        output = publish_mapping(change.mapping)
        control = control.apply(output.key, output.value, offset=control.offset)
    assert [one.from_ms for one in control.mappings["features"]] == [0, START + 120_000, START + 120_001]


def heard(at: int, ts: int, *, model: str = "m") -> tuple[int, Delta]:
    """A delta that was appended at `at`, of events up to `ts`."""
    return at, Delta(0, 0, 1, 0, 1, 1, model, "layout", ts, 1, [], b"")


def test_a_layout_is_ahead_of_a_model_that_is_silent() -> None:
    """Silence moves the watermark: nine minutes of it are nine minutes, though sources repeat their maximum."""
    silent = [(at, Progress(0, 1, 1, 0, 1, 2, True, {"m": START})) for at in range(0, 540_000, 1_000)]
    assert times_heard(chain([heard(0, START)], silent), ["m"], now=540_000) == {"m": START + 540_000 + LEARNED_MS}


def test_a_model_without_late_events_stands_where_the_clock_stands() -> None:
    said = [(1_000, Progress(0, 1, 1, 0, 1, 2, True, {"m": START}))]
    assert times_heard(said, ["m", "n"], now=2_000) == {"m": 302_000, "n": 302_000}


def test_a_layout_is_ahead_of_a_history_that_is_read_faster_than_it_happened() -> None:
    """An hour a second, lately; what was an hour ago does not count."""
    said = [heard(at, START + 3_600 * at) for at in range(600_000, 620_000, 1_000)]
    hour = {"m": START + 3_600 * 619_000 + 1_000 + 3_600 * LEARNED_MS}
    assert times_heard([heard(0, START - 10**12), *said], ["m"], now=620_000) == hour
