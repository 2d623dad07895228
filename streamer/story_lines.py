"""What the lines of a story mean: each a sentence that came true, or why it did not.

quiet                                            pane 3: drift | ok | undecided | empty
alert firing at pane 5                           alert resolved by pane 9     alert firing between panes 3 and 5
no incident before pane 3                        incidents: 1                 incidents open: at least 1
retrain trigger: 1                               retrain trigger pending: 1   (dry_run, rejected, expired)
evidence: age location up                        evidence: age in country=FR  no evidence: income
shape of age: step                               posted from pane 7           never posted
false alarms spent: 1
dropped late: 3                                  late in pane 4: 2            rows in pane 4: 60
events: 1200                                     version: 2                   view learned: country=FR
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from schemas.alerts import AlertState
from schemas.layouts import View
from schemas.verdicts import Status, WindowReport

if TYPE_CHECKING:
    from streamer.stories import Told


def failure(line: str, told: Told) -> str:
    """Why a line did not come true; empty when it did."""
    for pattern, look in _LINES:
        match = pattern.fullmatch(line)
        if match:
            return look(told, match.groupdict())
    return "is no line that is known"


def is_known(line: str) -> bool:
    """True for a line that means something.

    >>> is_known("pane 3: drift"), is_known("alert firing by pane 5"), is_known("all is well")
    (True, True, False)
    """
    return any(pattern.fullmatch(line) for pattern, _ in _LINES)


def _quiet(told: Told, _: dict[str, Any]) -> str:
    return "" if not told.incidents else f"an incident opened at pane {told.pane(told.incidents[0].opened_at)}"


def _pane_is(told: Told, of: dict[str, Any]) -> str:
    start = told.story.start + int(of["pane"]) * told.layout.pane_ms
    report = next((w for w in told.windows if w.start <= start < w.end and w.revision == 0), None)
    if report is None:
        return "it never closed"
    found = status_of(report)
    return "" if found == of["status"] else f"it is {found}"


def status_of(report: WindowReport) -> str:
    """One word for a window: drift if a monitor says so, else ok if one says that, else undecided; or empty."""
    if report.n == 0:
        return "empty"
    verdicts = {f.verdict.status for view in report.views for f in view.features if f.verdict is not None}
    return next((s.value for s in (Status.DRIFT, Status.OK) if s in verdicts), Status.UNDECIDED.value)


def _edge(told: Told, of: dict[str, Any]) -> str:
    firing = of["edge"] == "firing"
    latest = {incident.id: incident for incident in told.incidents}.values()
    ends = [i.opened_at if firing else i.resolved_at for i in latest if firing or i.resolved_at is not None]
    panes = [told.pane(end) for end in ends if end is not None]
    if not panes:
        return "there was none"
    low, high = int(of["low"]), int(of["high"] or of["low"])
    low = 0 if of["how"] == "by" else low
    return "" if any(low <= pane <= high for pane in panes) else f"at pane {', '.join(map(str, panes))}"


def _none_before(told: Told, of: dict[str, Any]) -> str:
    panes = [told.pane(incident.opened_at) for incident in told.incidents]
    return "" if all(pane >= int(of["pane"]) for pane in panes) else f"one opened at pane {min(panes)}"


def _count(found: int, of: dict[str, Any]) -> str:
    wanted = int(of["count"])
    fine = found >= wanted if of.get("least") else found == wanted
    return "" if fine else f"there are {found}"


def _incidents(told: Told, of: dict[str, Any]) -> str:
    latest = {incident.id: incident for incident in told.incidents}.values()
    return _count(sum(not of["open"] or i.state == AlertState.FIRING for i in latest), of)


def _triggers(told: Told, of: dict[str, Any]) -> str:
    state = of["state"] or "approved"
    return _count(sum(trigger.state == state for trigger in told.triggers), of)


def _evidence(told: Told, of: dict[str, Any]) -> str:
    found = {
        (e.feature, str(e.view) if e.view.column else "", e.direction if e.detector == "distribution" else e.detector)
        for incident in told.incidents
        for e in incident.evidence
    }
    wanted = (of["feature"] if of["feature"] != "model" else "", of["view"] or "")
    fits = [words for *where, words in found if tuple(where) == wanted and (of["words"] or "") in words]
    if bool(fits) != bool(of["no"]):
        return ""
    return "there is: " + "; ".join(sorted(" ".join(filter(None, (f or "model", v, d))) for f, v, d in found))


def _shape(told: Told, of: dict[str, Any]) -> str:
    verdicts = [f.verdict for w in told.windows for v in w.views for f in v.features if f.feature == of["feature"]]
    shapes = [verdict.shape for verdict in verdicts if verdict is not None and verdict.shape]
    if not shapes:
        return "nothing is said of it"
    return "" if shapes[-1] == of["shape"] else f"it is {shapes[-1]}"


def _posted(told: Told, of: dict[str, Any]) -> str:
    panes = [told.pane(incident.updated_at) for incident in told.incidents if not incident.note]
    if "pane" not in of:
        return f"from pane {panes[0]}" if panes else ""
    return "" if panes[:1] == [int(of["pane"])] else f"from pane {panes[0]}" if panes else "never"


def _spent(told: Told, of: dict[str, Any]) -> str:
    return _count(told.windows[-1].false_alarms_spent if told.windows else 0, of)


def _dropped(told: Told, of: dict[str, Any]) -> str:
    return _count(told.dropped.get(of["reason"], -1), of)


def _late(told: Told, of: dict[str, Any]) -> str:
    start = told.story.start + int(of["pane"]) * told.layout.pane_ms
    return _count(max((w.late_n for w in told.windows if w.start == start), default=0), of)


def _rows(told: Told, of: dict[str, Any]) -> str:
    start = told.story.start + int(of["pane"]) * told.layout.pane_ms
    reports = [w for w in told.windows if w.start <= start < w.end]
    return _count(reports[-1].n if reports else -1, of)


def _events(told: Told, of: dict[str, Any]) -> str:
    return _count(told.applied, of)


def _version(told: Told, of: dict[str, Any]) -> str:
    versions = {incident.version for incident in told.incidents}
    return "" if versions == {of["version"]} else f"there is {', '.join(sorted(versions)) or 'none'}"


def _view(told: Told, of: dict[str, Any]) -> str:
    views = {str(view) for view in told.reference.views if view != View()}
    return "" if of["view"] in views else f"there are {', '.join(sorted(views)) or 'none'}"


_COUNT = r"(?P<least>at least )?(?P<count>\d+)"
_LINES: tuple[tuple[re.Pattern[str], Callable[[Told, dict[str, Any]], str]], ...] = tuple(
    (re.compile(pattern), look)
    for pattern, look in (
        (r"quiet", _quiet),
        (r"pane (?P<pane>\d+): (?P<status>drift|ok|undecided|empty)", _pane_is),
        (
            r"alert (?P<edge>firing|resolved) (?P<how>at|by|between) panes? (?P<low>\d+)(?: and (?P<high>\d+))?",
            _edge,
        ),
        (r"no incident before pane (?P<pane>\d+)", _none_before),
        (rf"incidents(?P<open> open)?: {_COUNT}", _incidents),
        (rf"retrain triggers?(?: (?P<state>approved|pending|dry_run|rejected|expired))?: {_COUNT}", _triggers),
        (r"(?P<no>no )?evidence: (?P<feature>\S+)(?: in (?P<view>\S+=\S+))?(?: (?P<words>.+))?", _evidence),
        (r"shape of (?P<feature>\S+): (?P<shape>step|ramp|block)", _shape),
        (rf"false alarms spent: {_COUNT}", _spent),
        (r"posted from pane (?P<pane>\d+)", _posted),
        (r"never posted", _posted),
        (rf"dropped (?P<reason>\w+): {_COUNT}", _dropped),
        (rf"late in pane (?P<pane>\d+): {_COUNT}", _late),
        (rf"rows in pane (?P<pane>\d+): {_COUNT}", _rows),
        (rf"events: {_COUNT}", _events),
        (r"version: (?P<version>\S+)", _version),
        (r"view learned: (?P<view>\S+)", _view),
    )
)
