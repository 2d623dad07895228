"""Stories of labels that come late, out of order, of one class first, or not at all, through both stages as records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import special

from detectors.building import ReferenceBuilder
from detectors.outcome_scopes import outcome_share
from detectors.references import Reference
from detectors.rows import Rows
from schemas.alerts import AlertState, Reason
from schemas.layouts import Layout, ReportLimit, View
from schemas.verdicts import OutcomeReport
from streamer.applying import control_of
from streamer.core.records import PlainRecord
from streamer.replaying import Replay

STEP, HOUR, DAY = 1_800_000, 3_600_000, 86_400_000
#: A Monday; the reference is the two weeks before.
BEGIN = 1_735_516_800_000
RATE = 60  # predictions an hour


@dataclass
class Stream:
    """Predictions and their outcomes: ts, score, outcome, came (append time of the outcome, −1 never), country."""

    ts: Any
    score: Any
    outcome: Any
    came: Any
    country: Any


def stream(
    days: int,
    *,
    seed: int,
    begin: int = BEGIN,
    rate: Callable[[Any], Any] | None = None,
    shape: Callable[[Any], tuple[float, float]] | None = None,
    meaning: Callable[[Any, Any, Any], Any] | None = None,
    cycle: float = 0.0,
) -> Stream:
    """Positives are labelled after some 2 hours, negatives after some 12. rate: factor of the traffic by day;
    shape: of the scores' Beta by day; meaning: logit of the outcome's chance by (day, logit of the score, country).
    """
    rng = np.random.default_rng(seed)
    n = days * 24 * RATE * 3
    ts = np.sort(rng.integers(begin, begin + days * DAY, n))
    day = (ts - begin) / DAY
    ts = ts[rng.random(n) < (np.ones(n) if rate is None else rate(day)) / 3.0]
    n, day = ts.size, (ts - begin) / DAY
    a, b = np.array([(2.0, 5.0) if shape is None else shape(d) for d in day]).T
    score = rng.beta(a, b)
    country = np.where(rng.random(n) < 0.5, "FR", "DE")
    logit = special.logit(np.clip(score, 1e-9, 1 - 1e-9)) + cycle * np.sin(2 * np.pi * ts / DAY)
    logit = logit if meaning is None else meaning(day, logit, country)
    outcome = rng.binomial(1, special.expit(logit))
    delay = np.where(outcome == 1, 2 * HOUR, 12 * HOUR) * rng.uniform(0.8, 1.2, n)
    return Stream(ts, score, outcome, ts + delay.astype(np.int64), country)


def twice(day: Any) -> Any:
    """Traffic enough for a segment's own reference."""
    return np.full(day.size, 2.0)


@cache
def reference(cycle: float = 0.0, segments: bool = False) -> Reference:
    past = stream(14, seed=1, begin=BEGIN - 14 * DAY, cycle=cycle, rate=twice if segments else None)
    rows = Rows(
        ts=past.ts,
        columns={"score": past.score, "outcome": past.outcome.astype(float), "outcome_ts": past.came},
        segments={"country": past.country.astype(object)} if segments else {},
    )
    builder = ReferenceBuilder("m", segments=["country"] if segments else ())
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def layout(learned: Reference, **settings: Any) -> Layout:
    assert learned.labels is not None
    one = Layout(
        model="m",
        from_ms=0,
        reference=learned.id,
        pane_ms=STEP,
        monitored=("score",),
        horizon_ms=3 * DAY,
        maturity_ms=DAY,
        max_alert_age_ms=None,
    )
    return msgspec.structs.replace(one, **settings)


def told(one: Layout, learned: Reference, flow: Stream) -> Replay:
    """The stream in steps of half an hour of append time, predictions and outcomes side by side."""
    replay = Replay(control_of({"m": one}, {"m": learned}))
    ids = [f"p{i}" for i in range(flow.ts.size)]
    came = np.argsort(flow.came, kind="stable")
    came = came[flow.came[came] >= 0]
    offset = 0
    last = int(flow.ts.max())  # later there is silence, which is another story
    for at in range(BEGIN, last, STEP):
        made = np.flatnonzero((flow.ts >= at) & (flow.ts < at + STEP))
        known = came[(flow.came[came] >= at) & (flow.came[came] < at + STEP)]
        predictions = [
            {"id": ids[i], "model": "m", "ts": int(flow.ts[i]), "score": float(flow.score[i]),
             "segment": {"country": str(flow.country[i])}} for i in made.tolist()
        ]  # fmt: skip
        outcomes = [
            {"id": ids[i], "model": "m", "ts": int(flow.came[i]), "label": int(flow.outcome[i])} for i in known.tolist()
        ]
        for name, content, times in (
            ("predictions", predictions, flow.ts[made]),
            ("outcomes", outcomes, flow.came[known]),
        ):
            records = [
                PlainRecord(name, 0, offset + i, int(ts), row["id"].encode(), json.dumps(row).encode())
                for i, (row, ts) in enumerate(zip(content, times.tolist(), strict=True))
            ]
            if records:
                replay.records(name, records)
        offset += 100_000
        replay.tick("predictions", append_ts=at + STEP)
    return replay


def mature(replay: Replay) -> list[OutcomeReport]:
    return [report for _, report in sorted(replay.said.matured.items())]


def alarmed(replay: Replay) -> set[tuple[str, str]]:
    return {(one.feature, str(one.view)) for incident in replay.said.incidents for one in incident.evidence}


QUIET: dict[str, dict[str, Any]] = {
    "at start": {},
    "with a daily cycle in meaning and traffic": {"cycle": 0.5, "rate": lambda d: 1 + 0.6 * np.sin(2 * np.pi * d)},
    "on a traffic step of three": {"rate": lambda d: np.where(d > 4, 3.0, 1.0)},
}


@pytest.mark.parametrize("story", list(QUIET))
def test_positives_sooner_than_negatives_page_nobody(story: str) -> None:
    """Labels of one class come ten hours before the other's; charts wait for maturity, so nothing fires."""
    recipe = QUIET[story]
    learned = reference(recipe.get("cycle", 0.0))
    replay = told(layout(learned), learned, stream(8, seed=21, **recipe))
    assert replay.said.incidents == []
    assert len(mature(replay)) > 100
    early = [report for report in replay.said.outcomes.values() if report.early and report.n]
    assert any("come sooner" in finding for report in early for finding in report.findings)


def test_negatives_held_back_two_days_page_nobody() -> None:
    """For two days only positives are labelled: those panes are left out with their coverage, not judged."""
    learned = reference()
    flow = stream(10, seed=22)
    held = (flow.outcome == 0) & (flow.came >= BEGIN + 4 * DAY) & (flow.came < BEGIN + 6 * DAY)
    flow.came = np.where(held, BEGIN + 6 * DAY + (flow.came - BEGIN) % HOUR, flow.came)
    replay = told(layout(learned), learned, flow)
    assert replay.said.incidents == []
    left_out = [report for report in mature(replay) if any("leave this pane out" in one for one in report.findings)]
    assert 24 <= len(left_out) <= 60
    last = replay.said.outcomes["m", left_out[5].start]
    assert last.late_n > 0
    assert last.coverage == 1.0


def test_scores_that_drift_while_calibration_holds_are_no_calibration_page() -> None:
    """Higher scores that mean what they say: the score's own chart fires, calibration does not."""
    learned = reference()
    flow = stream(9, seed=23, shape=lambda day: (4.0, 3.0) if day > 4 else (2.0, 5.0))
    replay = told(layout(learned), learned, flow)
    assert ("score", "model") in alarmed(replay)
    assert "calibration" not in {feature for feature, _ in alarmed(replay)}


def test_one_over_confident_segment_is_named() -> None:
    """Scores of one country mean half of what they did: its calibration is in the incident, with direction and map."""
    learned = reference(segments=True)
    middle = special.logit(2 / 7)

    def meaning(day: Any, logit: Any, country: Any) -> Any:
        return np.where((day > 3) & (country == "FR"), middle + 0.35 * (logit - middle), logit)

    views = (View(), View("country", "DE"), View("country", "FR"))
    one = layout(learned, segments=("country",), views=views, monitors=3)
    replay = told(one, learned, stream(8, seed=24, meaning=meaning, rate=twice))
    assert ("calibration", "country=FR") in alarmed(replay)
    assert not [who for who in alarmed(replay) if who[1] == "country=DE"]
    evidence = [
        e for e in replay.said.incidents[-1].evidence if (e.feature, str(e.view)) == ("calibration", "country=FR")
    ]
    assert "over-confident" in evidence[0].direction
    assert "means" in evidence[0].note
    assert evidence[0].onset is not None
    assert abs(evidence[0].onset - (BEGIN + 3 * DAY)) < 2 * DAY


def test_a_label_pipeline_that_stops_is_a_finding_not_a_fine_model() -> None:
    """No labels from day 4 on: coverage says so at every maturity, and no verdict is ok."""
    learned = reference()
    flow = stream(9, seed=25)
    flow.came = np.where(flow.came >= BEGIN + 4 * DAY, -1, flow.came)
    replay = told(layout(learned), learned, flow)
    after = [report for report in mature(replay) if report.start >= BEGIN + 4 * DAY]
    assert len(after) > 24
    assert all(report.coverage == 0.0 for report in after)
    assert all("labels of 0%" in report.findings[0] for report in after)
    assert {one.verdict.status.value for report in after for one in report.verdicts} == {"undecided"}
    assert replay.said.incidents == []


def test_a_late_batch_withdraws_an_alert_on_a_reported_number() -> None:
    """Negatives of three hours are held back, so the accuracy that is reported is of positives: an alert. The batch
    that brings them withdraws it, with both numbers; charts never saw those panes without them.
    """
    learned = reference()
    flow = stream(3, seed=26)
    flow.came = flow.ts + 2 * HOUR
    since = BEGIN + DAY
    held = (flow.outcome == 0) & (flow.ts >= since) & (flow.ts < since + 3 * HOUR)
    flow.came[held] = since + 5 * HOUR + STEP // 2
    limit = ReportLimit(metric="accuracy", below=0.5, least=10, coverage=0.2)
    replay = told(layout(learned, reported=(limit,)), learned, flow)
    ours = [one for one in replay.said.alerts if since <= (one.evidence.onset or 0) < since + 3 * HOUR]
    assert ours[0].reason is Reason.HARD_RULE
    assert ours[-1].reason is Reason.WITHDRAWN
    assert ours[-1].state is AlertState.RESOLVED
    assert ours[-1].evidence.note.startswith("withdrawn: 0.")
    assert {one.reason for one in ours[1:-1]} <= {Reason.AMENDED, Reason.RULE_MET_AGAIN}
    assert {incident.state for incident in replay.said.incidents[-1:]} == {AlertState.RESOLVED}
    assert {one.evidence.detector for one in replay.said.alerts} == {"reported"}


def test_the_share_of_the_budget_is_two_for_each_kind() -> None:
    """One feature weighs 1, error and calibration 2 each: four fifths of this small model's budget."""
    learned = reference()
    assert outcome_share(learned, layout(learned)) == pytest.approx(0.8)
