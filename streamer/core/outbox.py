"""Where the monitor agent's words become records: one CloudEvent each, with an id that the log alone decides."""

from __future__ import annotations

import hashlib

import msgspec

from schemas.alerts import Alert, AuditRecord, Evidence, Incident, Reason
from schemas.envelopes import Message, nine, wrap
from schemas.triggers import RetrainTrigger
from schemas.verdicts import OutcomeReport, WindowReport
from streamer.core.records import Output
from streamer.core.shedding import fitting, outcomes_fitting


class Outbox:
    """Records to send, in the order in which they were decided. audits: how many audit records there were, ever."""

    def __init__(self, *, partition: int, audits: int) -> None:
        self.source = f"/tripline/{partition}"
        self.partition, self.audits = partition, audits
        self.records: list[Output] = []

    def window(self, report: WindowReport) -> None:
        """Publish a window report under `model|start|revision`."""
        name = f"{report.model}|{report.start}|{report.revision}"
        report = fitting(report)
        self._put("windows", name, report, id=name, subject=report.model, at=report.end)

    def outcomes(self, report: OutcomeReport) -> None:
        """Publish a report on outcomes under `model|outcomes|start|revision`."""
        name = f"{report.model}|outcomes|{report.start}|{report.revision}"
        report = outcomes_fitting(report)
        self._put("windows", name, report, id=name, subject=report.model, at=report.end)

    def alert(self, alert: Alert) -> None:
        """Publish a transition of an alert under its id."""
        name = f"{alert.id}-{alert.state}" + (f"-{alert.amended}" if alert.amended else "")
        if alert.reason is Reason.WITHDRAWN:
            name = f"{alert.id}-withdrawn"
        self._put("alerts", alert.id, alert, id=name, subject=alert.model, at=alert.window_end)

    def incident(self, incident: Incident) -> None:
        """Publish an incident under `model|version`."""
        key = f"{incident.model}|{incident.version}"
        self._put(
            "incidents", key, incident, id=f"{incident.id}-{incident.sequence}", subject=key, at=incident.updated_at
        )

    def trigger(self, trigger: RetrainTrigger) -> None:
        """Publish a retrain trigger under its id."""
        self._put(
            "retrain-triggers",
            trigger.id,
            trigger,
            id=f"{trigger.id}-{trigger.state}",
            subject=f"{trigger.model}|{trigger.version}",
            at=trigger.window_end,
        )

    def audit(
        self,
        subject: str,
        decision: str,
        reason: Reason,
        *,
        at: int,
        model: str = "",
        version: str = "",
        **details: str | int | float | bool | None,
    ) -> None:
        """Publish one named decision with the numbers that decided."""
        self.audits += 1
        record = AuditRecord(
            subject=subject,
            decision=decision,
            reason=reason,
            at=at,
            model=model,
            version=version,
            details={name: nine(value) if isinstance(value, float) else value for name, value in details.items()},
        )
        name = f"{self.partition}-{self.audits}"
        self._put("audit", model or subject, record, id=name, subject=subject, at=at)

    def _put(self, topic: str, key: str, message: Message, *, id: str, subject: str, at: int) -> None:
        value, headers = wrap(message, id=id, source=self.source, subject=subject, at=at)
        self.records.append(Output(topic, key.encode(), value, headers=headers))


def content_hash(*parts: str | int) -> str:
    """16 hex digits that identify a cause: equal parts, equal hash.

    >>> content_hash("credit", "3", 0) == content_hash("credit", "3", 0), len(content_hash("a"))
    (True, 16)
    """
    raw = "\x1f".join(str(part) for part in parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def nine_digits(evidence: Evidence) -> Evidence:
    """Evidence as it is printed: every float with nine significant digits."""
    floats = {name: nine(getattr(evidence, name)) for name in _FLOATS}
    return msgspec.structs.replace(evidence, **floats)


_FLOATS = ("size", "size_low", "size_high", "raw_size", "before", "after", "effective_n", "value", "limit", "size_now")
