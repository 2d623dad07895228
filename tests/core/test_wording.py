"""What on-call reads: sentences, one for each kind of evidence."""

from __future__ import annotations

import pytest

from schemas.alerts import AlertState, Evidence, Incident
from schemas.layouts import View
from streamer.core.wording import amount, moved, summary, table


def drift(direction: str, size: float, unit: str = "sd", **more: object) -> Evidence:
    return Evidence(feature="age", detector="distribution", direction=direction, size=size, unit=unit, **more)  # type: ignore[arg-type]


def rule(detector: str, direction: str, size: float, unit: str = "share") -> Evidence:
    feature = "" if detector in ("rows", "silence") else "age"
    return Evidence(feature=feature, detector=detector, direction=direction, size=size, unit=unit)


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (drift("location up", 0.42), "age rose by 0.42 sd"),
        (drift("location down", -0.42, size_low=-0.5, size_high=-0.3), "age fell by 0.42 sd (0.30 to 0.50)"),
        (drift("location up", 0.42, raw_size=4.25), "age rose by 0.42 sd, 4.25 in its own unit"),
        (drift("scale down", -0.3), "the spread of age shrank by 0.30 sd"),
        (drift("tails up", 0.3), "the tails of age grew by 0.30 sd"),
        (drift("missing up", 0.05, "share"), "missing values of age rose to 5.0 %"),
        (
            drift("unseen up", 0.05, "share", note="share 0.001 in the reference"),
            "unseen levels of age rose to 5.0 %, share 0.001 in the reference",
        ),
        (drift("level a b down", 0.1, "share"), "the share of a b in age fell to 10.0 %"),
        (drift("levels 3 of 8 up", 0.1, "share"), "the share of a group of levels (3 of 8) of age rose to 10.0 %"),
        (drift("location up", 0.42, view=View("country", "FR")), "age rose by 0.42 sd (country=FR)"),
        (drift("sideways", 0.42), "age: sideways by 0.42 sd"),
        (rule("missing", "missing up", 1.0), "age is missing in 100.0 % of the events"),
        (rule("range", "below up", 0.6), "age is below the reference in 60.0 % of the events"),
        (rule("range", "outside the range", 0.6), "age is outside the range in 60.0 % of the events"),
        (rule("required", "missing up", 0.01), "age, which is required, is missing in 1.0 % of the events"),
        (rule("levels", "unseen up", 0.01), "age has levels outside its closed list in 1.0 % of the events"),
        (rule("rows", "rows down", 3, "rows"), "too few events: 3 rows"),
        (rule("silence", "silence", 10_800_000, "ms"), "no events for 3.0 h"),
    ],
)
def test_evidence_is_half_a_sentence(evidence: Evidence, words: str) -> None:
    assert moved(evidence) == words


def test_evidence_without_a_size_says_nothing_of_it() -> None:
    assert amount(Evidence(feature="age", detector="missing", direction="missing up")) == ""


INCIDENT = Incident(
    id="i",
    model="credit",
    version="",
    state=AlertState.RESOLVED,
    severity="page",
    opened_at=0,
    resolved_at=3_600_000,
    updated_at=0,
    sequence=0,
    evidence=[drift("location up", 0.42, onset=60_000)],
    open_alerts=0,
)


def test_a_resolved_incident_says_since_when_and_until_when() -> None:
    words = "credit: age rose by 0.42 sd since 1970-01-01 00:01 UTC; resolved at 1970-01-01 01:00 UTC"
    assert summary(INCIDENT) == words


def test_a_long_table_is_cut_and_says_so() -> None:
    lines = table([drift("location up", 0.42)] * 25, rows=3).splitlines()
    assert (len(lines), lines[-1]) == (5, "and 22 more")


def test_the_columns_of_a_table_are_aligned() -> None:
    head, first, second = table([drift("location up", 0.42), drift("skew down", -1.5, n=12)]).splitlines()
    assert {line.index(word) for line, word in ((head, "change"), (first, "location"), (second, "skew"))} == {
        head.index("change")
    }
