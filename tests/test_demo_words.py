"""The demo's judgement of itself, and what it prints: good only if the drift fired, triggered and resolved."""

from __future__ import annotations

import pytest

from schemas.alerts import AlertState, Evidence, Incident
from schemas.triggers import RetrainTrigger
from schemas.verdicts import WindowReport
from streamer.commands.demo_words import Narrator, Seen

DRIFT, PANE = 1_742_374_800_000, 600_000
INCOME = Evidence(feature="income", detector="distribution", direction="location down", size=-0.5, onset=DRIFT,
                  value=1e6, limit=100.0)  # fmt: skip


def incident(
    state: AlertState, *, id: str = "i", opened: int = DRIFT + 3 * PANE, at: int = DRIFT + 3 * PANE
) -> Incident:
    return Incident(
        id=id, model="credit", version="7", state=state, severity="page", opened_at=opened, updated_at=at, sequence=0,
        evidence=[INCOME], open_alerts=1,
    )  # fmt: skip


def trigger(id: str = "t") -> RetrainTrigger:
    return RetrainTrigger(
        id=id, model="credit", version="7", policy="default", state="approved", incident="i",
        window_end=DRIFT + 6 * PANE, opened_at=DRIFT + 3 * PANE, reference="r", evidence=[INCOME],
    )  # fmt: skip


def pane(start: int, *, n: int = 100, revision: int = 0) -> WindowReport:
    return WindowReport(
        model="credit", layout="l", reference="r", start=start, end=start + PANE, revision=revision, n=n, late_n=0,
        cells=[], views=[],
    )  # fmt: skip


FIRED, RESOLVED = incident(AlertState.FIRING), incident(AlertState.RESOLVED, at=DRIFT + 90 * PANE)


def seen(*said: WindowReport | Incident | RetrainTrigger) -> Seen:
    found = Seen(drift=DRIFT, closed=0)
    for one in said:
        found.take(one)
    return found


def test_fired_triggered_and_resolved_is_complete() -> None:
    assert seen(FIRED, trigger(), RESOLVED).complete


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([FIRED, trigger()], id="not resolved"),
        pytest.param([FIRED, RESOLVED], id="no trigger"),
        pytest.param([FIRED, trigger(), trigger("u"), RESOLVED], id="two triggers"),
        pytest.param([], id="nothing"),
    ],
)
def test_less_or_more_is_not_complete(said: list[Incident | RetrainTrigger]) -> None:
    assert not seen(*said).complete


def test_an_incident_in_the_quiet_stretch_is_a_false_alarm() -> None:
    early = incident(AlertState.FIRING, id="e", opened=DRIFT)
    assert (seen(early).false_alarms, seen(FIRED).false_alarms) == (1, 0)


def test_panes_count_once_and_quiet_ones_end_before_the_drift() -> None:
    found = seen(pane(DRIFT - 2 * PANE), pane(DRIFT - PANE), pane(DRIFT - PANE, n=120, revision=1), pane(DRIFT))
    assert (found.panes, found.quiet_panes, found.events, found.closed) == (3, 2, 300, DRIFT + PANE)


def test_the_story_names_what_moved_and_ends_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    narrator, found = Narrator(silent=False, drift=DRIFT, back=DRIFT + 54 * PANE), Seen(drift=DRIFT, closed=0)
    for said in (pane(DRIFT - PANE), pane(DRIFT), FIRED, trigger(), pane(DRIFT + 54 * PANE), RESOLVED):
        found.take(said)
        narrator.tell(said, found)
    narrator.closing(found, good=True, seconds=31.0, told="")
    lines = capsys.readouterr().out.splitlines()
    words = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert words == ["drift", "FIRING", "TRIGGER", "recovery", "RESOLVED", "demo:"]
    assert "1. income fell by 0.50 sd" in "\n".join(lines)
    assert lines[-1] == (
        "demo: good. 1 quiet panes without an alert; the drift fired after 30 minutes; one retrain trigger; resolved. "
        "300 events, 31 s"
    )


def test_a_silent_narrator_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(silent=True, drift=DRIFT, back=DRIFT + PANE)
    narrator.opening()
    narrator.tell(FIRED, seen(FIRED))
    assert capsys.readouterr().out == ""
