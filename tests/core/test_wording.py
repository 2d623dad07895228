"""What on-call reads: sentences, one for each kind of evidence."""

from __future__ import annotations

import msgspec
import pytest

from schemas.alerts import AlertState, Evidence, Incident, Reason
from schemas.layouts import View
from streamer.core.wording import amount, gone_on, moved, summary, table


def drift(direction: str, size: float, unit: str = "sd", **more: object) -> Evidence:
    return Evidence(feature="age", detector="distribution", direction=direction, size=size, unit=unit, **more)  # type: ignore[arg-type]


def rule(detector: str, direction: str, size: float, unit: str = "share", **more: object) -> Evidence:
    feature = "" if detector in ("rows", "silence") else "age"
    return Evidence(feature=feature, detector=detector, direction=direction, size=size, unit=unit, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (drift("location up", 0.42), "age rose by 0.42 sd"),
        (drift("location down", -0.42, size_low=-0.5, size_high=-0.3), "age fell by 0.42 sd (0.30 to 0.50)"),
        (drift("location up", 0.42, raw_size=4.25), "age rose by 0.42 sd, 4.25 in its own unit"),
        (
            drift("location up", 0.52, size_low=0.4, size_high=0.64, before=9310.2, after=10690.7),
            "age rose by 0.52 sd (0.40 to 0.64), its median from 9,310 to about 10,691",
        ),
        (
            drift("location down", -0.5, before=0.3512, after=0.3011),
            "age fell by 0.50 sd, its median from 0.3512 to about 0.3011",
        ),
        (drift("scale up", 0.3, size_low=0.2, size_high=0.4), "the spread of age grew by about 19 % (13 to 25 %)"),
        (
            drift("scale down", -0.3, size_low=-0.4, size_high=-0.2),
            "the spread of age shrank by about 24 % (15 to 34 %)",
        ),
        (drift("scale down", -5.0), "the spread of age shrank by about 100 %"),
        (drift("skew up", 0.3), "the skew of age rose by 0.30 sd"),
        (drift("skew down", -0.3), "the skew of age fell by 0.30 sd"),
        (drift("tails up", 0.3), "the tails of age grew by 0.30 sd"),
        (drift("tails down", -0.3), "the tails of age shrank by 0.30 sd"),
        (
            drift("missing up", 0.05, "share", size_low=0.04, size_high=0.062, before=0.01),
            "missing values of age rose from 1.0 % to 5.0 % (4.0 to 6.2 %)",
        ),
        (drift("missing down", 0.0, "share", before=0.1), "missing values of age fell from 10.0 % to 0.0 %"),
        (
            drift("unseen up", 0.05, "share", before=0.0001),
            "levels of age that the reference lacks rose from 0.01 % to 5.0 %",
        ),
        (
            drift("below up", 0.05, "share", before=0.0),
            "values of age below the reference's range rose from 0.0 % to 5.0 %",
        ),
        (drift("above up", 0.05, "share"), "values of age above the reference's range rose to 5.0 %"),
        (
            drift("non_finite up", 0.05, "share", before=0.0),
            "values of age that are not finite rose from 0.0 % to 5.0 %",
        ),
        (drift("level a b down", 0.1, "share", before=0.2), "the share of a b in age fell from 20.0 % to 10.0 %"),
        (drift("levels 3 of 8 up", 0.1, "share"), "the share of a group of levels (3 of 8) of age rose to 10.0 %"),
        (drift("location up", 0.42, view=View("country", "FR")), "age rose by 0.42 sd (country=FR)"),
        (drift("location up", 0.42, note="provisional: 3 days"), "age rose by 0.42 sd, provisional: 3 days"),
        (drift("sideways", 0.42), "age: sideways by 0.42 sd"),
        (rule("missing", "missing up", 1.0, n=1204), "age is missing in 100.0 % of 1,204 events"),
        (rule("range", "below up", 0.6), "age is below the reference's range in 60.0 % of the events"),
        (rule("range", "above up", 0.6), "age is above the reference's range in 60.0 % of the events"),
        (rule("range", "unseen up", 0.6), "age is of a level that the reference lacks in 60.0 % of the events"),
        (rule("range", "outside the range", 0.6, n=50), "age is outside its expected range in 60.0 % of 50 events"),
        (rule("range", "below the range", 0.0001), "age is below its expected range in 0.01 % of the events"),
        (rule("required", "missing up", 0.01), "age, which is required, is missing in 1.0 % of the events"),
        (rule("levels", "unseen up", 0.01), "age has levels outside its closed list in 1.0 % of the events"),
        (rule("rows", "rows down", 3, "rows", before=1000.0), "only 3 events in a pane, at least 1,000 are expected"),
        (rule("rows", "rows down", 3, "rows"), "only 3 events in a pane"),
        (rule("silence", "silence", 10_800_000, "ms"), "no event for 3 h"),
        (
            rule("silence", "silence", 7_200_000, "ms", before=1_500_000.0),
            "no event for 2 h, at this hour up to 25 min are normal",
        ),
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


def test_a_sentence_with_a_comma_has_one_before_since() -> None:
    [evidence] = [drift("location up", 0.42, onset=60_000, before=41.0, after=46.1)]
    incident = msgspec.structs.replace(INCIDENT, state=AlertState.FIRING, evidence=[evidence], open_alerts=2)
    assert summary(incident) == (
        "credit: age rose by 0.42 sd, its median from 41 to about 46.1, since 1970-01-01 00:01 UTC; 2 alerts open"
    )


def test_a_ramp_of_the_spread_goes_on_in_percent() -> None:
    assert gone_on(drift("scale up", 0.3, shape="ramp", size_now=1.0)) == "; it has grown since, to about 55 %"


def test_a_long_table_is_cut_and_says_so() -> None:
    lines = table([drift("location up", 0.42)] * 25, rows=3).splitlines()
    assert (len(lines), lines[-1]) == (5, "and 22 more")


def test_the_columns_of_a_table_are_aligned() -> None:
    head, first, second = table([drift("location up", 0.42), drift("skew down", -1.5, n=12)]).splitlines()
    assert {line.index(word) for line, word in ((head, "change"), (first, "location"), (second, "skew"))} == {
        head.index("change")
    }


def test_a_limit_on_a_statistic_is_said_with_its_value_and_unit() -> None:
    psi = Evidence(feature="age", detector="psi", direction="psi above 0.2", size=0.3512, unit="nats", n=60)
    ks = Evidence(feature="age", detector="ks", direction="ks above 0.2", size=0.3512, unit="share", n=60)
    assert [moved(psi), moved(ks)] == ["psi of age is 0.351 nats, above 0.2", "ks of age is 35.1 %, above 0.2"]


def test_an_incident_that_was_withdrawn_says_so() -> None:
    """Not `resolved`: the number that it was raised on has been another since."""
    number = Evidence(
        feature="accuracy", detector="reported", direction="accuracy below 0.5", size=0.32, unit="", n=120, onset=0,
        after=0.978, note="withdrawn: 0.32 was reported, now that further labels are in it is 0.68",
    )  # fmt: skip
    incident = Incident(
        id="i", model="credit", version="3", state=AlertState.RESOLVED, severity="page", opened_at=0,
        resolved_at=60_000, updated_at=60_000, sequence=2, evidence=[number], open_alerts=0, reason=Reason.WITHDRAWN,
    )  # fmt: skip
    assert summary(incident) == (
        "credit, version 3: accuracy was 0.32, below 0.5, on 120 predictions, 97 % of the labels in, withdrawn: "
        "0.32 was reported, now that further labels are in it is 0.68, since 1970-01-01 00:00 UTC; "
        "withdrawn at 1970-01-01 00:01 UTC"
    )
