"""`tripline story`: one scenario file as a timeline; exit 1 when it does not go as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.alerts import AlertState, Incident
from streamer.core.wording import moved
from streamer.stories import Told, load_story, run_story
from streamer.story_lines import status_of


def story(file: Path, *, as_json: bool = False) -> int:
    """Run a scenario and print what happened; the exit code."""
    told = run_story(load_story(file))
    if as_json:
        print(json.dumps(_plain(told), indent=2, ensure_ascii=False))
    else:
        _tell(told)
    return 1 if told.failures else 0


def _tell(told: Told) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{told.story.story}[/]")
    if told.reference.provisional:
        console.print(f"provisional: {told.reference.provisional}")
    events = _events(told)
    last = ""
    for report in told.windows:
        pane = told.pane(report.end)
        said = events.pop(pane, [])
        status = status_of(report) if report.revision == 0 else f"revision {report.revision}, late {report.late_n}"
        # A line for each pane that has news: another status, or something said.
        if status != last or said:
            console.print(f"pane {pane:>4}  {report.n:>6,} events  {status:<10}  {'; '.join(said)}".rstrip())
        last = status
    for pane, said in sorted(events.items()):
        console.print(f"pane {pane:>4}  {'; '.join(said)}")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in told.dropped.items() if count)
    console.print(f"{told.applied:,} events counted" + (f"; dropped: {dropped}" if dropped else ""))
    for line in told.story.expect:
        wrong = [failure for failure in told.failures if failure.startswith(f"{line}: ")]
        console.print(f"[red]✗ {wrong[0]}[/]" if wrong else f"[green]✓[/] {line}")


def _events(told: Told) -> dict[int, list[str]]:
    events: dict[int, list[str]] = {}
    latest: dict[str, Incident] = {}
    for incident in told.incidents:
        if incident.id not in latest:
            first = "; ".join(moved(evidence) for evidence in incident.evidence[:3])
            events.setdefault(told.pane(incident.opened_at), []).append(f"[red]alert firing[/]: {first}")
        if incident.state == AlertState.RESOLVED and incident.resolved_at is not None:
            events.setdefault(told.pane(incident.resolved_at), []).append("[green]alert resolved[/]")
        latest[incident.id] = incident
    for trigger in told.triggers:
        events.setdefault(told.pane(trigger.window_end), []).append(f"[yellow]retrain trigger[/] {trigger.state}")
    return events


def _plain(told: Told) -> dict[str, Any]:
    latest = {incident.id: incident for incident in told.incidents}.values()
    return {
        "story": told.story.story,
        "passed": not told.failures,
        "failures": told.failures,
        "events": told.applied,
        "panes": [
            {"pane": told.pane(report.end), "n": report.n, "revision": report.revision, "status": status_of(report)}
            for report in told.windows
        ],
        "incidents": [
            {
                "id": incident.id,
                "opened_pane": told.pane(incident.opened_at),
                "resolved_pane": None if incident.resolved_at is None else told.pane(incident.resolved_at),
                "evidence": [
                    {"feature": e.feature, "view": str(e.view), "direction": e.direction} for e in incident.evidence
                ],
            }
            for incident in latest
        ],
        "triggers": [{"id": trigger.id, "state": trigger.state} for trigger in told.triggers],
        "dropped": told.dropped,
    }
