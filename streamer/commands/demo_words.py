"""What the demo saw, and how it tells it: a line per stretch while nothing happens, every word when something does."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from detectors.references import Reference
from schemas.alerts import AlertState, Incident
from schemas.triggers import RetrainTrigger
from schemas.verdicts import Status, WindowReport
from streamer.core.wording import minute, moved

#: Members of the incident that are printed.
SHOWN = 6
_SUMMED_MS = 6 * 3_600_000


@dataclass
class Seen:
    """What the output topics held so far. drift: when it begins (ms). closed: end of the last closed pane (ms)."""

    drift: int
    closed: int
    panes: int = 0
    quiet_panes: int = 0
    events: int = 0
    fired: dict[str, Incident] = field(default_factory=dict)
    resolved: dict[str, Incident] = field(default_factory=dict)
    triggers: list[RetrainTrigger] = field(default_factory=list)

    @property
    def false_alarms(self) -> int:
        """Incidents that opened before the drift."""
        return sum(incident.opened_at <= self.drift for incident in self.fired.values())

    @property
    def complete(self) -> bool:
        """The drift fired, asked for one retraining, and resolved."""
        found = {name for name, incident in self.fired.items() if incident.opened_at > self.drift}
        asked = [trigger for trigger in self.triggers if trigger.incident in found]
        return bool(found) and len(asked) == 1 and found == set(self.resolved)

    def take(self, said: WindowReport | Incident | RetrainTrigger) -> None:
        """Note one record."""
        if isinstance(said, RetrainTrigger):
            self.triggers.append(said)
        elif isinstance(said, Incident):
            # The first record of an incident says why it opened; later ones that more has joined it.
            first = self.resolved if said.state is AlertState.RESOLVED else self.fired
            first.setdefault(said.id, said)
        elif said.revision == 0:
            self.panes += 1
            self.quiet_panes += said.end <= self.drift
            self.events += said.n
            self.closed = max(self.closed, said.end)

    def plain(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "panes": self.panes,
            "quiet_panes": self.quiet_panes,
            "events": self.events,
            "false_alarms": self.false_alarms,
            "drift_at": minute(self.drift),
            "incidents": [
                {
                    "id": incident.id,
                    "opened_at": minute(incident.opened_at),
                    "resolved_at": minute(self.resolved[name].updated_at) if name in self.resolved else None,
                    "evidence": [moved(evidence) for evidence in incident.evidence],
                }
                for name, incident in self.fired.items()
            ],
            "triggers": [{"id": one.id, "policy": one.policy, "state": one.state} for one in self.triggers],
        }


class Narrator:
    """Prints the story; `silent` prints nothing."""

    def __init__(self, *, silent: bool, drift: int, back: int) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True, quiet=silent)
        self._turns = [
            (drift, "drift", "other people apply: incomes fall by a quarter, credit lines fill up, more by brokers"),
            (back, "recovery", "the applicants are as they were"),
        ]
        self._drift = drift
        self._since: int | None = None
        self._panes = self._events = 0
        self._strongest = (0.0, "nothing")
        self._known: set[str] = set()

    def opening(self) -> None:
        """What this is, and what it is not."""
        self._console.print(
            "Tripline's demo: a credit-scoring model, watched by the worker that `tripline run` starts. In place of\n"
            "Kafka stands librdkafka's mock cluster in this process: exact counts through crashes need a real broker.\n"
        )

    def learned(self, rows: int, reference: Reference, seconds: float) -> None:
        """The reference is there."""
        monitors = len(reference.specs) * len(reference.views)
        self._line(
            "history", reference.start,
            f"{rows:,} applications of {reference.days:.0f} days become the reference {reference.id}: "
            f"{len(reference.specs)} features × {len(reference.views)} views = {monitors} monitors ({seconds:.0f} s)",
        )  # fmt: skip

    def quiet(self, begin: int) -> None:
        """The stream begins."""
        self._line("quiet", begin, "the stream begins; nothing is wrong with it", style="green")

    def tell(self, said: WindowReport | Incident | RetrainTrigger, seen: Seen) -> None:
        """One record of the output topics."""
        if isinstance(said, WindowReport):
            self._pane(said)
        elif isinstance(said, Incident):
            self._incident(said, seen)
        else:
            self._flush(said.window_end)
            self._line(
                "TRIGGER", said.window_end,
                f"retrain {said.model}, version {said.version}: policy {said.policy}, {said.state}, id {said.id}",
                style="bold yellow",
            )  # fmt: skip

    def closing(self, seen: Seen, *, good: bool, seconds: float, told: str) -> None:
        """The last line says whether all went as it should."""
        if told:
            self._console.print(f"Alertmanager: {told}")
        if good:
            [incident] = (one for one in seen.fired.values() if one.opened_at > seen.drift)
            delay = (incident.opened_at - seen.drift) // 60_000
            text = (
                f"demo: good. {seen.quiet_panes} quiet panes without an alert; the drift fired after {delay} minutes; "
                f"one retrain trigger; resolved. {seen.events:,} events, {seconds:.0f} s"
            )
        else:
            text = (
                f"demo: NOT as it should be: {seen.false_alarms} false alarms, {len(seen.fired)} incidents, "
                f"{len(seen.triggers)} triggers, {len(seen.resolved)} resolved, {seen.panes} panes, {seconds:.0f} s"
            )
        self._console.print(f"\n{text}", style="bold green" if good else "bold red")

    def _pane(self, report: WindowReport) -> None:
        if report.revision:
            return
        if self._turns and report.start >= self._turns[0][0]:
            _, word, text = self._turns.pop(0)
            self._flush(report.start)
            self._line(word, report.start, text, style="magenta")
        self._since = report.start if self._since is None else self._since
        self._panes += 1
        self._events += report.n
        for view in report.views:
            for one in view.features:
                if one.verdict is not None and one.verdict.status is not Status.DRIFT:
                    value, limit = one.verdict.value, one.verdict.limit
                    name = str(report.model) if not view.view.column else str(view.view)
                    words = f"{value:,.0f} of {limit:,.0f} ({one.feature}, {name})"
                    self._strongest = max(self._strongest, (value / limit, words))
        soon = self._drift <= report.start < self._drift + 3_600_000 and not self._known
        if soon or report.end - self._since >= _SUMMED_MS:
            self._flush(report.end)

    def _incident(self, incident: Incident, seen: Seen) -> None:
        if incident.state is AlertState.RESOLVED:
            self._flush(incident.updated_at)
            hours = (incident.updated_at - seen.fired[incident.id].opened_at) / 3_600_000
            text = f"incident {incident.id} after {hours:.1f} h: all {len(incident.evidence)} that had moved are back"
            self._line("RESOLVED", incident.updated_at, text, style="bold green")
        elif incident.id not in self._known:
            self._known.add(incident.id)
            self._flush(incident.updated_at)
            since = min((e.onset for e in incident.evidence if e.onset is not None), default=incident.opened_at)
            text = f"incident {incident.id}: {incident.model}, version {incident.version}, moved since {minute(since)}"
            self._line("FIRING", incident.updated_at, text, style="bold red")
            for rank, evidence in enumerate(incident.evidence[:SHOWN], 1):
                self._line("", None, f"{rank}. {moved(evidence)}; evidence {evidence.value or 0:,.0f}, limit "
                                     f"{evidence.limit or 0:,.0f}")  # fmt: skip
            if len(incident.evidence) > SHOWN:
                self._line("", None, f"and {len(incident.evidence) - SHOWN} more")

    def _flush(self, until: int) -> None:
        """One line for the panes since the last one."""
        if not self._panes or self._since is None:
            return
        panes = "1 pane" if self._panes == 1 else f"{self._panes} panes"
        self._line(
            "", self._since,
            f"{panes:>8}, {self._events:>5,} events, strongest evidence {self._strongest[1]}",
            style="dim",
        )  # fmt: skip
        self._since, self._panes, self._events, self._strongest = None, 0, 0, (0.0, "nothing")

    def _line(self, word: str, at: int | None, text: str, *, style: str = "") -> None:
        when = "" if at is None else f"{dt.datetime.fromtimestamp(at / 1000, dt.UTC):%a %d %b %H:%M}"
        self._console.print(f"{word:<9}", style=style, end="")
        self._console.print(f"{when:<17} {text}", style="dim" if style == "dim" else "")
