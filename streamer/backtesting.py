"""History through the core of the stream, in event time: which incidents would there have been?

Rows are fed in the file's order, cut after each row whose arrival lets a pane close, and stamped with the largest event
time so far, as in live traffic that keeps up. So nothing depends on how the file is read, and a window's row is exact:
`row(E)` is the first row at which the largest event time so far, less the lateness, has reached E; the last row for
windows that only the end of the file closes. `max_alert_age` is off: in a replay all news is old.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.batches import BatchClock
from detectors.outcomes import outcome_spec
from detectors.references import Reference
from detectors.rows import Rows
from schemas.alerts import AlertState, Evidence, Incident, Reason
from schemas.events import EARLIEST_MS
from schemas.layouts import Layout
from schemas.triggers import RetrainTrigger
from schemas.verdicts import OutcomeReport
from streamer.applying import control_of
from streamer.core.timestamps import LATEST_MS
from streamer.replaying import Replay
from streamer.spans import rfc3339
from streamer.table_clock import with_future
from streamer.table_files import Kind
from streamer.tables import Part, Table

HOUR, DAY = 3_600_000, 86_400_000
#: Panes that one piece of an ordered table lets close: a piece costs about as much as three panes.
PANES = 64
_NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass
class Crossings:
    """First row at which event time had come so far, for every pane's end that it passed.

    >>> crossings = Crossings(pane_ms=10, lateness_ms=5)
    >>> crossings.cuts(np.array([3, 11, 15, 14, 47]), first=0).tolist(), crossings.row(10), crossings.row(40)
    ([1, 2, 4], 2, 4)
    """

    pane_ms: int
    lateness_ms: int
    latest: int | None = None
    last_row: int = -1
    passed: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def cuts(
        self, ts: npt.NDArray[np.int64], *, first: int, places: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Positions in `ts` after which a pane may close. first: row of the first of them; places: rows of all."""
        begin = ts[0] if self.latest is None else max(int(ts[0]), self.latest)
        running = np.maximum(np.maximum.accumulate(ts), begin)
        pane = (running - self.lateness_ms) // self.pane_ms
        before = pane[0] if not self.passed else self.passed[-1]
        cut = np.flatnonzero(np.diff(pane, prepend=before) > 0)
        if not self.passed:
            self.passed, self.rows = [int(pane[0])], [first]
        self.passed += pane[cut].tolist()
        self.rows += (cut + first if places is None else places[cut]).tolist()
        self.latest = int(running[-1])
        self.last_row = first + len(ts) - 1 if places is None else int(places[-1])
        return cut

    def row(self, end: int) -> int:
        """The row whose arrival let the window that ends at `end` close."""
        at = bisect_left(self.passed, end // self.pane_ms)
        return self.rows[at] if at < len(self.rows) else self.last_row


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """What a backtest found. incidents: the last word on each, in the order in which they opened.

    left_out: rows and lines that were never the model's, by what they were; see `Tally`. performance: the last report
    on every outcome pane, with the verdicts of its maturity. strange_outcomes: those that are none of the classes, or
    no numbers, and count as none. late_outcomes: those that came after the horizon, which count as none, too.
    lessons: time (ms), and in words, what the stream's own first week taught, or why it taught nothing.
    """

    model: str
    reference: str
    panes: int
    rows: int
    incidents: list[Incident]
    triggers: list[RetrainTrigger]
    dropped: dict[str, int]
    crossings: Crossings
    clock: BatchClock | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    performance: list[OutcomeReport] = field(default_factory=list)
    strange_outcomes: dict[str, int] = field(default_factory=dict)
    late_outcomes: int = 0
    lessons: list[tuple[int, str]] = field(default_factory=list)

    def end(self, window_end: int) -> int:
        """Time at which a window ended: of a batch, that of its last row."""
        return window_end if self.clock is None else self.clock.end_of(window_end)

    def plain(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "model": self.model,
            "reference": self.reference,
            "panes": self.panes,
            "incidents": [self._incident(incident) for incident in self.incidents],
            "triggers": [self._trigger(trigger) for trigger in self.triggers],
            "dropped": self.dropped,
            **({"left_out": self.left_out} if self.left_out else {}),
            **({"strange_outcomes": self.strange_outcomes} if self.strange_outcomes else {}),
            **({"learned": [[rfc3339(at), words] for at, words in self.lessons]} if self.lessons else {}),
            **({"late_outcomes": self.late_outcomes} if self.late_outcomes else {}),
            **({"performance": [_performance(one) for one in self.performance]} if self.performance else {}),
        }

    def _incident(self, incident: Incident) -> dict[str, Any]:
        resolved = incident.resolved_at if incident.state == AlertState.RESOLVED else None
        return {
            "id": incident.id,
            "opened_at": rfc3339(self.end(incident.opened_at)),
            "opened_row": self.crossings.row(incident.opened_at),
            "resolved_at": None if resolved is None else rfc3339(self.end(resolved)),
            "resolved_row": None if resolved is None else self.crossings.row(resolved),
            "severity": incident.severity,
            "evidence": [_evidence(evidence, self.clock) for evidence in incident.evidence],
        }

    def _trigger(self, trigger: RetrainTrigger) -> dict[str, Any]:
        return {
            "id": trigger.id,
            "policy": trigger.policy,
            "state": trigger.state,
            "incident": trigger.incident,
            "window_end": rfc3339(self.end(trigger.window_end)),
            "row": self.crossings.row(trigger.window_end),
        }


class Piece(NamedTuple):
    """Rows that arrive together: a pane may close after them. ahead: those that are ahead of the table's clock."""

    rows: Rows
    ids: Sequence[str] | None
    ahead: npt.NDArray[np.bool_]
    append_ts: int


def pieces(
    parts: Iterable[Part], crossings: Crossings, clock: BatchClock | None = None, *, panes: int = 1
) -> Iterator[Piece]:
    """A table cut as live traffic would arrive. Rows without a sound time move nothing; the stages refuse them.

    clock: where a pane is a batch, the one that the rows' times are put on. panes: how many may close after one piece,
    where its rows are in the order of their times.
    """
    for given, ahead in with_future(parts):
        part, ts = given, given.rows.ts
        sound = ~ahead & (ts >= EARLIEST_MS) & (ts <= LATEST_MS)
        if clock is not None:
            part = replace(given, rows=clock.retimed(given.rows, sound))
            ts = part.rows.ts
        running = _running(ts, sound, crossings.latest)
        cuts = _NO_ROWS if running is None else crossings.cuts(running, first=part.first, places=part.places) + 1
        ends = (cuts if panes == 1 else _together(cuts, ts, sound, panes=panes)).tolist()
        begin = 0
        for end in [*ends, len(ts)]:
            if begin < end:
                piece = slice(begin, end)
                ids = None if part.ids is None else part.ids[piece]
                yield Piece(part.rows.take(piece), ids, ahead[piece], 0 if running is None else int(running[end - 1]))
            begin = end


def _together(
    cuts: npt.NDArray[np.int64], ts: npt.NDArray[np.int64], sound: npt.NDArray[np.bool_], *, panes: int
) -> npt.NDArray[np.int64]:
    """Every `panes`-th cut, and all of them around a row that does not follow the one before in time."""
    if not cuts.size:
        return cuts
    wild = ~sound
    wild[0] = True  # what came before it stands in another part
    wild[1:] |= np.diff(ts) < 0
    disturbed = np.diff(np.cumsum(wild)[cuts - 1], prepend=0) > 0
    # The piece that such a row is in ends where it would, and so does the one before.
    kept = disturbed | (np.arange(1, cuts.size + 1) % panes == 0)
    kept[:-1] |= disturbed[1:]
    kept[-1] |= bool(wild[cuts[-1] :].any())
    found: npt.NDArray[np.int64] = cuts[kept]
    return found


def _running(
    ts: npt.NDArray[np.int64], sound: npt.NDArray[np.bool_], latest: int | None
) -> npt.NDArray[np.int64] | None:
    """The largest sound time so far, (n,); before the first one, the first. None when there is none yet."""
    if latest is None and not sound.any():
        return None
    begin = int(ts[np.argmax(sound)]) if latest is None else latest
    return np.maximum.accumulate(np.where(sound, ts, begin))


def run(parts: Iterable[Part], *, layout: Layout, reference: Reference) -> Backtest:
    """Feed a table's parts to the cores under one layout, from the beginning of time."""
    layout = msgspec.structs.replace(layout, from_ms=0, partition=0, max_alert_age_ms=None)
    replay = Replay(control_of({layout.model: layout}, {layout.model: reference}), quiet=True)
    crossings = Crossings(layout.pane_ms, layout.lateness_ms)
    clock = BatchClock(layout.batch_gap_ms) if layout.batch_gap_ms else None
    count = 0
    for piece in pieces(parts, crossings, clock, panes=1 if _by_append_time(layout) else PANES):
        replay.rows(piece.rows, layout.model, append_ts=piece.append_ts, ids=piece.ids, ahead=piece.ahead)
        count += len(piece.rows)
    replay.flush(layout.model, layout.kind)
    incidents = {incident.id: incident for incident in replay.said.incidents}
    triggers = {trigger.id: trigger for trigger in replay.said.triggers}
    return Backtest(
        model=layout.model,
        reference=reference.id,
        panes=replay.panes,
        rows=count,
        incidents=list(incidents.values()),
        triggers=list(triggers.values()),
        dropped=replay.dropped,
        crossings=crossings,
        clock=clock,
        performance=replay.performance(layout.model),
        strange_outcomes=replay.strange_outcomes,
        late_outcomes=replay.late_outcomes,
        lessons=[
            (one.at, f"{one.decision}: {one.details.get('words')}")
            for one in replay.said.audits
            if one.reason in {Reason.LEARNED, Reason.NOT_LEARNED}
        ],
    )


def _by_append_time(layout: Layout) -> bool:
    """Whether what is decided depends on when rows arrive within so many panes, or on how many cells come at once."""
    waits = any(policy.mode == "approve" for policy in layout.policies)
    return waits or layout.horizon_ms > 0 or bool(layout.batch_gap_ms or layout.segments or layout.marginals)


def with_outcomes(layout: Layout, reference: Reference, table: Table) -> Layout:
    """The layout under which a table's outcomes are counted: what the configuration says of them, or the defaults.

    Without times of outcomes (`outcome_ts`) they are there at once: nothing matures, and nothing comes later.
    """
    if not table.with_outcomes or table.kind != "predictions":
        return msgspec.structs.replace(layout, horizon_ms=0)
    if layout.horizon_ms == 0:
        hours = -(-HOUR // layout.pane_ms) * layout.pane_ms
        labels = reference.labels
        learned = DAY if labels is None or not labels.maturity_ms else labels.maturity_ms
        layout = msgspec.structs.replace(layout, horizon_ms=7 * DAY, outcome_pane_ms=hours, maturity_ms=learned)
    if not table.outcomes_timed:
        layout = msgspec.structs.replace(layout, maturity_ms=0, horizon_ms=layout.outcome_pane_ms)
    return layout if outcome_spec(reference, layout) is not None else msgspec.structs.replace(layout, horizon_ms=0)


def kinds_of(reference: Reference) -> Mapping[str, Kind]:
    """What columns are read as: as the reference knows them, whatever the table's first rows look like."""
    return {spec.name: "text" if spec.kind == "categorical" else "number" for spec in reference.specs}


def _performance(report: OutcomeReport) -> dict[str, Any]:
    """A pane as JSON: times for people, figures as in the report; the model's own view, then the others."""
    plain = {"n", "expected", "coverage", "early", "late_n", "views", "delays", "verdicts", "findings"}
    found = {name: value for name, value in msgspec.to_builtins(report).items() if name in plain}
    return {
        "start": rfc3339(report.start),
        "end": rfc3339(report.end),
        **{name: found.get(name) for name in ("n", "expected", "coverage", "early")},
        "metrics": found["views"][0].get("metrics", []),
        "calibration": found["views"][0].get("calibration"),
        **({"classes": found["views"][0]["classes"]} if found["views"][0].get("classes") else {}),
        "views": found["views"][1:],
        "delays": found.get("delays", {}),
        "verdicts": found.get("verdicts", []),
        "findings": found.get("findings", []),
    }


def _evidence(evidence: Evidence, clock: BatchClock | None) -> dict[str, Any]:
    def moment(at: int | None) -> str | None:
        return None if at is None else rfc3339(at if clock is None else clock.start_of(at))

    found: dict[str, Any] = {
        "feature": evidence.feature,
        "detector": evidence.detector,
        "direction": evidence.direction,
        "size": evidence.size,
        "onset": moment(evidence.onset),
        "n": evidence.n,
        "value": evidence.value,
        "limit": evidence.limit,
        "unit": evidence.unit,
        "size_interval": [evidence.size_low, evidence.size_high],
        "onset_interval": [moment(evidence.onset_low), moment(evidence.onset_high)],
    }
    # The whole model needs no word; a version or a segment value is said, and a shape when there is one.
    if evidence.view.column:
        found["view"] = str(evidence.view)
    if evidence.shape:
        found["shape"] = evidence.shape
    return found
