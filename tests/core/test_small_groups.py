"""What Alertmanager is sent names no group of fewer than 20 events: neither a segment value nor a level."""

from __future__ import annotations

import pytest

from schemas.alerts import Evidence
from schemas.layouts import View
from streamer.core.wording import moved, table


def level(*, size: float, before: float, n: int, view: View | None = None) -> Evidence:
    return Evidence(
        feature="town", detector="distribution", direction="level Orne up", size=size, unit="share", before=before, n=n,
        view=view or View(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("evidence", "named"),
    [
        (level(size=0.05, before=0.01, n=300), False),
        (level(size=0.07, before=0.01, n=300), True),
        (level(size=0.01, before=0.4, n=300), True),
    ],
)
def test_a_level_is_named_when_it_is_or_was_a_group_of_twenty(evidence: Evidence, named: bool) -> None:
    assert ("Orne" in moved(evidence)) == named
    assert ("Orne" in table([evidence])) == named
    assert ("a level (fewer than 20 events)" in moved(evidence)) == (not named)


@pytest.mark.parametrize(("n", "named"), [(19, False), (20, True)])
def test_a_segment_value_is_named_from_twenty_events_on(n: int, named: bool) -> None:
    evidence = Evidence(
        feature="age",
        detector="missing",
        direction="missing up",
        size=0.9,
        unit="share",
        n=n,
        view=View("town", "Orne"),
    )
    assert ("town=Orne" in moved(evidence)) == named
    assert ("town=Orne" in table([evidence])) == named
    assert ("town: fewer than 20 events" in moved(evidence)) == (not named)


def test_a_version_is_no_group_of_people() -> None:
    evidence = Evidence(feature="age", detector="missing", direction="missing up", n=3, view=View("version", "7"))
    assert "version=7" in moved(evidence)
