"""Conditions over what fires: leaves, all, any, at least; what a policy and `page_when` make of them."""

from __future__ import annotations

from typing import Any

import pytest
from stage2 import Log, Reader, Source, control, steady
from stage2 import layout as stage2_layout
from test_alerting import AGE_CLEAR, PANE, Story, alarm, layout

from detectors.results import Cleared, Look
from schemas.alerts import Evidence, Reason
from schemas.layouts import Condition, RetrainPolicy, View
from streamer.core.alerting import Member
from streamer.core.conditions import holds, needs_drift, text

FR = View("country", "FR")
FEATURES = ("age", "debt", "income")


def member(
    feature: str, *, detector: str = "distribution", direction: str = "location up", view: View = View(),  # noqa: B008
    ends_at: int | None = None, shape: str = "",
) -> Member:  # fmt: skip
    evidence = Evidence(feature=feature, detector=detector, direction=direction, view=view, shape=shape)
    at = FEATURES.index(feature) if feature in FEATURES else -1
    return Member(feature + detector, (int(view == FR), at), "1", evidence, 0, ends_at=ends_at)


def any_of(*conditions: Condition) -> Condition:
    return Condition(of=conditions, least=1)


def all_of(*conditions: Condition) -> Condition:
    return Condition(of=conditions, least=len(conditions))


AGE, DEBT, GONE = Condition(feature="age"), Condition(feature="debt"), Condition(kind="missing", feature="income")


@pytest.mark.parametrize(
    ("condition", "members", "expected"),
    [
        (Condition(), [], False),
        (Condition(), [member("age")], True),
        (Condition(), [member("age", ends_at=5)], False),
        (Condition(), [member("age", detector="missing")], False),
        (Condition(), [member("age"), member("age", detector="missing")], False),
        (AGE, [member("debt")], False),
        (Condition(feature="a*"), [member("age")], True),
        (Condition(view=FR), [member("age")], False),
        (Condition(view=FR), [member("age", view=FR)], True),
        (Condition(view=View()), [member("age", view=FR)], False),
        (Condition(kind="step"), [member("age", shape="step")], True),
        (Condition(kind="ramp"), [member("age", shape="step")], False),
        (Condition(kind="trend"), [member("age", shape="ramp")], True),
        (Condition(kind="trend"), [member("age", shape="block")], False),
        (Condition(kind="trend"), [member("age")], False),
        (GONE, [member("income", detector="required")], True),
        (GONE, [member("income", direction="missing up")], True),
        (GONE, [member("income", direction="location up")], False),
        (Condition(kind="range"), [member("age", detector="range")], True),
        (Condition(kind="range"), [member("age", direction="above up")], True),
        (Condition(kind="levels"), [member("age", detector="levels", direction="unseen up")], True),
        (Condition(kind="silence"), [member("", detector="silence")], True),
        (Condition(kind="rows"), [member("", detector="silence")], False),
        (Condition(kind="rule"), [member("", detector="rows")], True),
        (Condition(kind="rule"), [member("age")], False),
        (all_of(AGE, DEBT), [member("age")], False),
        (all_of(AGE, DEBT), [member("age"), member("debt")], True),
        (any_of(AGE, DEBT), [member("debt")], True),
        (Condition(of=(AGE, DEBT, GONE), least=2), [member("debt"), member("income", detector="missing")], True),
        (Condition(of=(AGE, DEBT, GONE), least=2), [member("debt")], False),
        (all_of(AGE, any_of(DEBT, GONE)), [member("age"), member("income", detector="missing")], True),
    ],
)
def test_when_a_condition_holds(condition: Condition, members: list[Member], expected: bool) -> None:
    assert holds(condition, members) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition(), True),
        (Condition(kind="trend"), True),
        (GONE, False),
        (any_of(AGE, GONE), False),
        (all_of(AGE, GONE), True),
        (Condition(of=(AGE, DEBT, GONE), least=2), True),
        (Condition(of=(AGE, GONE, Condition(kind="rule")), least=2), False),
    ],
)
def test_whether_broken_data_alone_can_meet_it(condition: Condition, expected: bool) -> None:
    assert needs_drift(condition) == expected


def test_a_condition_reads_as_it_was_written() -> None:
    condition = Condition(of=(AGE, any_of(Condition(feature="annual income", view=FR), GONE), DEBT), least=2)
    assert text(condition) == (
        'at least 2 of (drift age, any of (drift "annual income" in country=FR, missing income), drift debt)'
    )


def looks(*shapes: str, size_now: float = 0.5) -> dict[str, Any]:
    return {"looks": tuple(Look(0, at, shape, size_now) for at, shape in enumerate(shapes) if shape)}


def states(published: dict[str, list[Any]]) -> list[str]:
    return [trigger.state for trigger in published["retrain-triggers"]]


def test_a_policy_waits_for_a_trend_and_a_block_begins_the_wait_anew() -> None:
    policy = RetrainPolicy(condition=Condition(kind="trend"), for_ms=2 * PANE)
    story = Story(layout=layout(policies=(policy,)))
    assert states(story.pane(1, alarm(pane=1))) == []
    found = [story.pane(number, **looks(shape)) for number, shape in enumerate(["step", "ramp", "block", "step"], 2)]
    assert [states(one) for one in found] == [[], [], [], []]
    found = [story.pane(number, **looks("step")) for number in (6, 7)]
    assert [states(one) for one in found] == [[], ["approved"]]
    [trigger] = found[-1]["retrain-triggers"]
    assert [one.shape for one in trigger.evidence] == ["step"]


def test_a_policy_of_several_conditions_is_audited_in_words() -> None:
    policy = RetrainPolicy(condition=all_of(AGE, Condition(kind="missing", feature="debt")))
    story = Story(layout=layout(policies=(policy,)))
    assert states(story.pane(1, alarm(pane=1))) == []
    published = story.pane(2, alarm("debt", pane=2, detector="missing"))
    assert states(published) == ["approved"]
    assert published["audit"][-1].details["when"] == "all of (drift age, missing debt)"


def test_a_new_shape_is_published_with_the_size_now_and_an_old_one_is_not() -> None:
    story = Story()
    story.pane(1, alarm(pane=1, size=0.5))
    published = [
        story.pane(2, **looks("step")),
        story.pane(3, **looks("step")),
        story.pane(4, **looks("ramp", size_now=1.5)),
    ]
    found = [[(one.evidence[0].shape, one.evidence[0].size_now) for one in some["incidents"]] for some in published]
    assert found == [[("step", 0.5)], [], [("ramp", 1.5)]]


def test_a_chart_that_clears_was_a_block() -> None:
    story = Story()
    story.pane(1, alarm(pane=1))
    published = story.pane(9, cleared=(AGE_CLEAR,), resolved=True)
    assert [one.evidence.shape for one in published["alerts"]] == ["block"]


def test_an_incident_is_a_note_until_page_when_holds_and_pages_to_its_end() -> None:
    story = Story(layout=layout(page_when=all_of(AGE, DEBT)))
    first = story.pane(1, alarm(pane=1))
    assert [(one.note, one.sequence) for one in first["incidents"]] == [(True, 1)]
    assert [one.reason for one in first["audit"]][-1] == Reason.PAGE_WHEN_NOT_MET
    second = story.pane(2, alarm("debt", pane=2))
    assert [one.note for one in second["incidents"]] == [False]
    assert Reason.PAGE_WHEN_MET in [one.reason for one in second["audit"]]
    third = story.pane(3, cleared=(AGE_CLEAR,))
    last = story.pane(4, cleared=(Cleared(0, 1, Reason.BELOW_CLEAR_LIMIT),), resolved=True)
    assert [one.note for one in (*third["incidents"], *last["incidents"])] == [False, False]


def test_a_note_that_resolves_was_never_posted() -> None:
    story = Story(layout=layout(page_when=Condition(kind="rule")))
    story.pane(1, alarm(pane=1))
    [resolved] = story.pane(2, cleared=(AGE_CLEAR,), resolved=True)["incidents"]
    assert resolved.note


def test_a_shape_alone_may_make_it_page() -> None:
    story = Story(layout=layout(page_when=Condition(kind="trend")))
    story.pane(1, alarm(pane=1))
    published = [story.pane(2), story.pane(3, **looks("step"))]
    assert [[one.note for one in some["incidents"]] for some in published] == [[], [False]]


@pytest.mark.parametrize("cut", [13, 30, 44])
def test_a_worker_that_comes_back_in_the_middle_says_the_same(cut: int) -> None:
    """Shapes, waits and notes are part of the state: restored from the changelog, the bytes that follow are equal."""
    policy = RetrainPolicy(condition=Condition(kind="trend", feature="x"), for_ms=4 * 600_000)
    one = stage2_layout(page_when=Condition(kind="trend"), policies=(policy,))
    log = Log()
    steady(log, [Source()], one, panes=30, shifts=dict.fromkeys(range(5, 30), 0.8))
    whole = Reader.start(control(one)).read(log)
    first, second = log.batches([cut])
    broken = Reader.start(control(one))
    broken.apply(first)
    again = broken.restored(log)
    again.apply(second)
    assert [one.value for one in again.outputs] == [one.value for one in whole.outputs]
    notes = [incident.note for incident in whole.said("incidents")]
    assert (notes[0], notes[-1]) == (True, False)
    assert [trigger.state for trigger in whole.said("retrain-triggers")] == ["approved"]
