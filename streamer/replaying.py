"""Both stages in one process, joined by a log in memory: how `backtest` and stories run the cores that the stream runs.

Nothing is decided here. Append time, which a broker would give, the caller gives; all else is the records'.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.rows import Rows
from schemas.alerts import Alert, AuditRecord, Incident
from schemas.envelopes import TYPES, unwrap
from schemas.events import DropReason
from schemas.triggers import RetrainTrigger
from schemas.verdicts import OutcomeReport, WindowReport
from streamer.core import monitoring, profiling
from streamer.core.closing import Sought
from streamer.core.control import Control
from streamer.core.models import Model
from streamer.core.outcome_reports import outcome_report
from streamer.core.records import Batch, Output, PlainRecord


class Said:
    """What stage 2 said, decoded, in order. windows are kept only when asked for: there is one per pane.

    outcomes: the last report on each outcome pane, by model and start; matured: the one with the charts' verdicts.
    """

    def __init__(self, *, windows: bool = False) -> None:
        self.incidents: list[Incident] = []
        self.alerts: list[Alert] = []
        self.triggers: list[RetrainTrigger] = []
        self.audits: list[AuditRecord] = []
        self.windows: list[WindowReport] = []
        self.outcomes: dict[tuple[str, int], OutcomeReport] = {}
        self.matured: dict[tuple[str, int], OutcomeReport] = {}
        self._keep_windows = windows

    def take(self, output: Output) -> None:
        """Take in one record; changelogs and tombstones are nothing that is said."""
        if output.value is None:
            return
        if output.topic == "incidents":
            self.incidents.append(unwrap(output.value, Incident))
        elif output.topic == "alerts":
            self.alerts.append(unwrap(output.value, Alert))
        elif output.topic == "retrain-triggers":
            self.triggers.append(unwrap(output.value, RetrainTrigger))
        elif output.topic == "audit":
            self.audits.append(unwrap(output.value, AuditRecord))
        elif output.topic == "windows" and dict(output.headers)["ce_type"].decode() == TYPES[OutcomeReport]:
            report = unwrap(output.value, OutcomeReport)
            self.outcomes[report.model, report.start] = report
            if report.verdicts:
                self.matured[report.model, report.start] = report
        elif output.topic == "windows" and self._keep_windows:
            self.windows.append(unwrap(output.value, WindowReport))


class Replay:
    """One source, one monitor task. The control must name one source and one partition of `profiles`.

    append_ts of successive calls must not go back. outputs: every record of stage 2 but its changelog, when `keep`.
    quiet: window reports, changelogs and held panes are not made; nobody reads them, and they are most of what a pane
    costs. What is decided is the same to the bit.
    """

    def __init__(
        self,
        control: Control,
        *,
        windows: bool = False,
        keep: bool = False,
        quiet: bool = False,
    ) -> None:
        self.control = control
        self.said = Said(windows=windows)
        self.outputs: list[Output] = []
        self.now = 0
        self._keep = keep
        self._offset = 0
        self._profiling = profiling.start(control, 0)
        self._monitoring = monitoring.start(control, 0)
        self._profiling.quiet = self._monitoring.quiet = quiet

    def rows(
        self,
        rows: Rows,
        model: str,
        *,
        append_ts: int,
        ids: Sequence[str] | None = None,
        ahead: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Feed rows of a table. ahead: (n,) those whose time is in the future."""
        self._profiling, outputs = profiling.profile_rows(
            self._profiling, rows, self.control, model, ids=ids, ahead=ahead
        )
        self._pass_on(outputs, append_ts)

    def records(self, input: str, records: Sequence[PlainRecord]) -> None:
        """Feed records of an input; the log's time is the last one's."""
        batch = Batch(input, records, records[-1].offset + 1)
        self._profiling, outputs = profiling.apply(self._profiling, batch, self.control)
        self._pass_on(outputs, records[-1].timestamp)

    def tick(self, input: str, *, append_ts: int) -> None:
        """The source says that it is caught up."""
        batch = Batch(input, [], self._profiling.next.get(input, 0), caught_up=True)
        self._profiling, outputs = profiling.apply(self._profiling, batch, self.control)
        self._pass_on(outputs, append_ts)

    def seek(self, sought: Sought) -> None:
        """Show a pane as it closes; see `Sought`."""
        self._monitoring.sought = sought

    def learn(self, output: Output) -> None:
        """A record of `control`: an approval, a layout."""
        self.control = self.control.apply(output.key, output.value, offset=self.control.offset)

    def flush(self, model: str, input: str) -> None:
        """Close every pane that has rows: the source falls silent until the watermark stands at the last one's end.

        When all is idle the watermark advances by append time, so the silence is as long as the end is ahead; then one
        pane more would need one pane more of silence.
        """
        latest = self._profiling.maxima.get(model)
        if latest is None:
            return
        layout = self.control.layout_at(model, latest)
        assert layout is not None
        ahead = layout.pane_ms - latest % layout.pane_ms + layout.lateness_ms
        idle = self.now + layout.idle_after_ms + 1
        self.tick(input, append_ts=idle)
        self.tick(input, append_ts=idle + ahead)

    def performance(self, name: str) -> list[OutcomeReport]:
        """The last word on every outcome pane, by time; those that no chart has taken yet as they stand."""
        found = {start: report for (of, start), report in self.said.outcomes.items() if of == name}
        model = self.model(name)
        for start, pane in () if model is None else model.outcomes.items():
            if start not in found or pane.unsaid:
                found[start] = outcome_report(pane)
        taken = {start: report.verdicts for (of, start), report in self.said.matured.items() if of == name}
        return [
            msgspec.structs.replace(found[start], verdicts=taken.get(start, found[start].verdicts))
            for start in sorted(found)
        ]

    def model(self, name: str) -> Model | None:
        """A model at stage 2 as it stands; None before its first profile."""
        return self._monitoring.models.get(name)

    @property
    def panes(self) -> int:
        """Panes closed so far, empty ones included."""
        return self._monitoring.counters.panes

    @property
    def applied(self) -> int:
        """Events counted so far."""
        return self._profiling.applied

    @property
    def dropped(self) -> dict[str, int]:
        """Events dropped so far, by reason; both stages."""
        late = self._monitoring.counters.drops
        return {reason.value: self._profiling.drops[reason] + late.get(reason, 0) for reason in DropReason}

    @property
    def strange_outcomes(self) -> dict[str, int]:
        """Outcomes of a table that are none of the classes, or no numbers, the most frequent first."""
        join = self._profiling.join
        return {} if join is None else dict(join.strangers.most_common())

    @property
    def late_outcomes(self) -> int:
        """Outcomes of a table that came after the horizon of their predictions."""
        join = self._profiling.join
        return 0 if join is None else join.after_horizon

    def _pass_on(self, outputs: Sequence[Output], append_ts: int) -> None:
        self.now = max(self.now, append_ts)
        records = []
        for output in outputs:
            if output.topic == "profiles":
                records.append(PlainRecord("profiles", 0, self._offset, self.now, output.key, output.value))
                self._offset += 1
        batch = Batch("profiles", records, self._offset, caught_up=True)
        while True:
            self._monitoring, said = monitoring.apply(self._monitoring, batch, self.control)
            for output in said:
                if output.topic != "changelog":
                    self.said.take(output)
                    if self._keep:
                        self.outputs.append(output)
            if not self._monitoring.pending:
                return
            batch = Batch("profiles", [], self._offset, caught_up=True)
