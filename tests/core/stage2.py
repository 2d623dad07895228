"""What the tests of stage 2 have in common: a model with a small reference, sources that speak, a log, a reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from detectors.bins import Binner
from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.rows import Rows
from detectors.tabulate import tabulate
from schemas.alerts import Alert, AuditRecord, Incident
from schemas.control import Cluster
from schemas.envelopes import unwrap
from schemas.layouts import Layout, RetrainPolicy, View
from schemas.profiles import Delta, DeltaRow, Extra, Progress, encode, encode_ints, encode_sparse
from schemas.triggers import RetrainTrigger
from schemas.verdicts import WindowReport
from streamer.core import monitoring
from streamer.core.control import Control
from streamer.core.monitoring import MonitoringState
from streamer.core.records import Batch, Output, PlainRecord

HOUR = 3_600_000
DAY = 24 * HOUR
#: A Monday, the first pane of the stream; the reference is the two weeks before.
BEGIN = 1_735_516_800_000
PANE, LATENESS, IDLE_AFTER = 600_000, 30_000, 10_000
KINDS = {
    "windows": WindowReport,
    "alerts": Alert,
    "incidents": Incident,
    "retrain-triggers": RetrainTrigger,
    "audit": AuditRecord,
}


@dataclass
class Events:
    """Rows of a stream: ts (n,), x and y (n,), country and version (n,)."""

    ts: np.ndarray[Any, Any]
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    country: np.ndarray[Any, Any]
    version: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return int(self.ts.size)

    def take(self, index: Any) -> Events:
        """Some of them."""
        return Events(self.ts[index], self.x[index], self.y[index], self.country[index], self.version[index])


def events(n: int, *, start: int = BEGIN, span: int = PANE, seed: int = 0, shift: float = 0.0) -> Events:
    """So many events in `[start, start + span)` in order of time; x is moved by `shift` sd."""
    random = np.random.default_rng([seed, start // 1000 % (1 << 31)])
    return Events(
        ts=np.sort(random.integers(start, start + span, n)),
        x=random.normal(shift, 1.0, n),
        y=random.normal(0.0, 1.0, n),
        country=random.choice(np.array(["DE", "FR"], dtype=object), n, p=[0.7, 0.3]),
        version=random.choice(np.array(["1", "2"], dtype=object), n, p=[0.6, 0.4]),
    )


@cache
def reference() -> Reference:
    """Two weeks of `events`, 25 per pane."""
    past = events(14 * 144 * 25, start=BEGIN - 14 * DAY, span=14 * DAY, seed=99)
    rows = Rows(
        ts=past.ts,
        columns={"x": past.x, "y": past.y},
        version=past.version,
        segments={"country": past.country},
    )
    builder = ReferenceBuilder("m", "features", segments=("country",))
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def layout(**settings: Any) -> Layout:
    """The tests' layout."""
    chosen: dict[str, Any] = {
        "model": "m",
        "kind": "features",
        "from_ms": 0,
        "reference": reference().id,
        "pane_ms": PANE,
        "lateness_ms": LATENESS,
        "idle_after_ms": IDLE_AFTER,
        "hold_ms": HOUR,
        "segments": ("country",),
        "views": (View(), View("country", "FR")),
        "monitored": ("x", "y"),
        "monitors": 4,
        "max_alert_age_ms": None,
        "policies": (RetrainPolicy(for_ms=0),),
        "owner": "team",
        **settings,
    }
    return Layout(**chosen)


def control(*layouts: Layout, sources: int = 1) -> Control:
    """A control topic that says `layouts`, and has the reference."""
    models: dict[str, tuple[Layout, ...]] = {}
    for one in layouts or (layout(),):
        models[one.model] = (*models.get(one.model, ()), one)
    return Control(
        models=models,
        references={reference().id: reference()},
        cluster=Cluster(sources=sources, profiles=1),
    )


@dataclass
class Source:
    """A stage-1 task as stage 2 sees it: each call is one transaction."""

    number: int = 0
    position: int = 0
    seq: int = 0
    maxima: dict[str, int] = field(default_factory=dict)

    def delta(
        self, one: Layout, rows: Events, *, late: Sequence[bool] | None = None, extras: Sequence[Extra] = ()
    ) -> Delta:
        """Count rows; `late` marks rows, and they do not raise the maximum."""
        flags = np.zeros(len(rows), dtype=bool) if late is None else np.array(late)
        panes = rows.ts // one.pane_ms * one.pane_ms
        keys = list(zip(panes.tolist(), rows.version, rows.country, flags.tolist(), strict=True))
        cells = sorted(set(keys))
        place = {key: at for at, key in enumerate(cells)}
        group = np.array([place[key] for key in keys], dtype=np.int64)
        table = reference().table
        numeric = np.stack([rows.x if spec.name == "x" else rows.y for spec in table.numeric], axis=1)
        none = np.zeros((len(rows), 0), dtype=np.int32)
        counts, least, largest = tabulate(table, Binner(table.specs), numeric, none, group, len(cells))
        on_time = rows.ts[~flags]
        if on_time.size:
            self.maxima[one.model] = max(self.maxima.get(one.model, 0), int(on_time.max()))
        begin, self.position, self.seq = self.position, self.position + max(1, len(rows)), self.seq + 1
        return Delta(
            source=self.number,
            begin=begin,
            end=self.position,
            part=0,
            parts=1,
            seq=self.seq,
            model=one.model,
            layout=one.id,
            max_ts=self.maxima.get(one.model, int(rows.ts.max())),
            width=table.width,
            rows=[DeltaRow(pane, version, (country,), is_late) for pane, version, country, is_late in cells],
            body=encode_sparse(counts.ravel()),
            extremes=encode_ints(np.stack([least, largest], axis=-1).ravel()),
            extras=list(extras),
        )

    def progress(self, *, caught_up: bool = False) -> Progress:
        """Say where it stands."""
        self.seq += 1
        return Progress(
            source=self.number,
            begin=self.position,
            end=self.position,
            part=0,
            parts=1,
            seq=self.seq,
            caught_up=caught_up,
            maxima=dict(self.maxima),
        )


@dataclass
class Log:
    """The `profiles` partition of one task."""

    records: list[PlainRecord] = field(default_factory=list)

    def append(self, at: int, *contents: Delta | Progress) -> None:
        """Append records at append time `at`; offsets have holes, as those of transactional topics do."""
        for content in contents:
            offset = 3 * len(self.records)
            self.records.append(PlainRecord("profiles", 0, offset, at, None, encode(content)))

    def batches(self, cuts: Iterable[int]) -> Iterator[Batch]:
        """The log cut before the records `cuts`."""
        bounds = [0, *sorted(set(cuts)), len(self.records)]
        for begin, end in pairwise(bounds):
            chosen = self.records[begin:end]
            yield Batch("profiles", chosen, 3 * end)


@dataclass
class Reader:
    """A worker without Kafka: applies batches, keeps what they say and the changelog."""

    control: Control
    state: MonitoringState
    outputs: list[Output] = field(default_factory=list)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)

    @classmethod
    def start(cls, one: Control) -> Reader:
        """A task that has never run."""
        return cls(one, monitoring.start(one, 0))

    def apply(self, batch: Batch) -> list[Output]:
        """One transaction, and the ones that it leaves to do."""
        said: list[Output] = []
        for _ in range(1_000):
            self.state, outputs = monitoring.apply(self.state, batch, self.control)
            said += [output for output in outputs if output.topic != "changelog"]
            self.changelog += [(output.key, output.value) for output in outputs if output.topic == "changelog"]
            if not self.state.pending:
                break
            batch = Batch("profiles", [], batch.next_offset)
        self.outputs += said
        return said

    def read(self, log: Log, cuts: Iterable[int] = ()) -> Reader:
        """The whole log, cut into batches."""
        for batch in log.batches(cuts):
            self.apply(batch)
        return self

    def read_killed(self, log: Log, *, every: int) -> Reader:
        """The whole log by workers of which each dies after so many records, and another comes back for it."""
        reader = self
        for batch in log.batches(range(0, len(log.records), every)):
            reader.apply(batch)
            reader = reader.restored(log)
        return reader

    @property
    def words(self) -> list[tuple[bytes, bytes | None]]:
        """All that was said, byte by byte."""
        return [(output.key, output.value) for output in self.outputs]

    def restored(self, log: Log) -> Reader:
        """Another worker that comes back from the changelog and the log."""
        state = monitoring.restore(self.changelog, self.control, 0)
        state = monitoring.replay(state, log.records, self.control)
        return replace(self, state=state, outputs=list(self.outputs), changelog=list(self.changelog))

    def said(self, topic: str) -> list[Any]:
        """What was published on a topic."""
        return [
            unwrap(output.value, KINDS[topic])
            for output in self.outputs
            if output.topic == topic and output.value is not None
        ]


def steady(log: Log, sources: Sequence[Source], one: Layout, *, panes: int, shifts: dict[int, float] | None = None,
           n: int = 60, start: int = BEGIN, seed: int = 0) -> int:  # fmt: skip
    """Live traffic: `panes` panes of n events by each source, one delta a pane each, progress after lateness.

    shifts: pane -> shift of x. Returns the append time after it.
    """
    at = start
    for pane in range(panes):
        begin = start + pane * one.pane_ms
        at = begin + one.pane_ms
        shift = (shifts or {}).get(pane, 0.0)
        for source in sources:
            rows = events(n, start=begin, span=one.pane_ms, seed=seed + source.number, shift=shift)
            log.append(at, source.delta(one, rows))
        for source in sources:
            log.append(at + LATENESS, source.progress(caught_up=True))
    return at + LATENESS


def busy_log(one: Layout | None = None) -> Log:
    """Two sources, disorder, a late pane's worth, a drift and its end, a record twice, a silence and a return."""
    one = one or layout()
    log, sources = Log(), [Source(0), Source(1)]
    at = steady(log, sources, one, panes=6, n=40)
    late = events(15, start=BEGIN + PANE, span=2 * PANE, seed=7)
    log.append(at + 1, sources[0].delta(one, late, late=[True] * 15))
    log.append(at + 2, sources[0].progress(caught_up=True))
    at = steady(log, sources, one, panes=30, n=40, start=BEGIN + 6 * PANE, shifts=dict.fromkeys(range(4, 12), 2.0))
    log.records.append(log.records[-1]._replace(offset=3 * len(log.records)))
    for second in range(0, 1_800, 60):
        for source in sources:
            log.append(at + second * 1_000, source.progress(caught_up=True))
    steady(log, sources, one, panes=5, n=40, start=BEGIN + 60 * PANE)
    return log


def last_reports(reader: Reader) -> dict[int, WindowReport]:
    """The last revision of every window, by its start."""
    found: dict[int, WindowReport] = {}
    for report in reader.said("windows"):
        found[report.start] = report
    return found


def cells(report: WindowReport) -> dict[tuple[str, tuple[str, ...]], int]:
    return {(cell.version, cell.segment): cell.n for cell in report.cells}


def busy_log_of_one() -> Log:
    log = Log()
    steady(log, [Source()], layout(), panes=6)
    return log
