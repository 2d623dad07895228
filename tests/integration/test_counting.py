"""Counts are exact: every event once in the deltas and in the reports, whatever is killed, and the same incidents."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import logs
import numpy as np
import pytest
from brokers import Kafka, eventually, free_port
from truth import Truth, summed, truth_of

from detectors.profiles import Table
from schemas.layouts import Layout
from streamer.commands.bench_topics import STREAM_MS, Site, build_references, configured
from streamer.commands.measured_worker import tripline
from streamer.core.control import Control
from streamer.generating import Applicants, Shift

EVENTS, PARTITIONS, KILLS = 200_000, 4, 10
PANE_MS, PANES = 60_000, 24
MODELS = ("lending-north", "lending-south", "lending-cards", "lending-autos")
#: The stream ends ten seconds into a further pane, so that the last whole one closes without waiting.
SPAN_MS = PANES * PANE_MS + 10_000
SECONDS_OF_STREAM = 40.0

MODEL = """\
  {model}:
    reference: {model}.json
    pane: 1m
    lateness: 5s
    hold: 5m
    segments: [country]
    retrain: {{when: drift, cooldown: 1h, mode: auto}}
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_kills_change_no_count_no_report_and_no_decision(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """200,000 events, 4 partitions, 4 models × 2 versions × 5 countries; two workers, one of them killed ten times."""
    site = Site(bootstrap=kafka.bootstrap, folder=tmp_path, name=prefix.rstrip("-"))
    build_references(site, MODELS, per_day=1_500.0)
    site.create_input(PARTITIONS)
    storm = Application(site, f"{prefix}storm", slots=2).prepare()
    calm = Application(site, f"{prefix}calm", slots=1).prepare()

    with storm.running():
        streaming = threading.Thread(target=_stream, args=(site,))
        streaming.start()
        kills = storm.kill_at_random_moments(slot=0, times=KILLS)
        streaming.join()
        storm.wait_until_closed()
    with calm.running():
        calm.wait_until_closed()

    control = storm.control()
    truth = _truth(site, control)
    counted, _ = summed([record.value or b"" for record in storm.read("profiles")])
    reports = storm.reports()

    assert kills == KILLS
    assert storm.unexpected_exits() == []
    assert _different(counted, truth) == []
    assert [storm.cells_of(model) for model in MODELS] == [_closed_rows(truth, model) for model in MODELS]
    assert [key for key, times in Counter(reports.keys_seen).items() if times != 1] == []
    assert min(len(_closed_rows(truth, model)) for model in MODELS) >= 20
    assert reports.late == {key: n for key, n in truth.late.items() if key[1] < STREAM_MS + PANES * PANE_MS}
    assert storm.dead_letters() == truth.dropped
    assert len(storm.decisions("incidents")) >= 1
    assert len(storm.decisions("retrain-triggers")) >= 1
    assert storm.decisions("incidents") == calm.decisions("incidents")
    assert storm.decisions("retrain-triggers") == calm.decisions("retrain-triggers")


@dataclass
class Reports:
    """Window reports: the key of each one seen, and the late events of each window's last revision."""

    keys_seen: list[tuple[str, int, int]] = field(default_factory=list)
    late: dict[tuple[str, int], int] = field(default_factory=dict)


class Application:
    """Workers under one configuration, and what they wrote; a small supervisor restarts what it finds ended."""

    def __init__(self, site: Site, name: str, *, slots: int) -> None:
        self.site, self.name, self.slots = site, name, slots
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.ports = {slot: free_port() for slot in range(slots)}
        self.exits: list[int] = []
        self.over = threading.Event()

    def file(self, slot: int) -> Path:
        return self.site.folder / f"{self.name}-{slot}.yaml"

    def prepare(self) -> Application:
        for slot, port in self.ports.items():
            text = configured(self.site, name=self.name, port=port)
            self.file(slot).write_text(text + "".join(MODEL.format(model=model) for model in MODELS))
        self.site.command("topics", "create", "-c", str(self.file(0)))
        self.site.command("apply", "-c", str(self.file(0)))
        return self

    def running(self) -> _Running:
        return _Running(self)

    def spawn(self, slot: int) -> None:
        with (self.site.folder / f"{self.name}-{slot}.log").open("ab") as out:
            self.children[slot] = subprocess.Popen(
                [*tripline(), "run", "-c", str(self.file(slot)), "--slot", str(slot)], stdout=out, stderr=out
            )

    def supervise(self) -> None:
        """Restart what ended, as a supervisor does; a kill of ours counts as -9."""
        while not self.over.wait(0.05):
            for slot, child in list(self.children.items()):
                if child.poll() is not None:
                    self.exits.append(child.returncode)
                    self.spawn(slot)

    def kill_at_random_moments(self, *, slot: int, times: int, seed: int = 7) -> int:
        """SIGKILL, `times` times, each up to two seconds after the worker is ready again."""
        moments = random.Random(seed)
        for _ in range(times):
            eventually(lambda: self._ready(slot), within=60, what=f"slot {slot} ready: {self._tail(slot)}")
            time.sleep(moments.uniform(0.0, 2.0))
            victim = self.children[slot]
            victim.kill()
            eventually(lambda: self.children[slot] is not victim, what="restart")  # noqa: B023
        return self.exits.count(-9)

    def unexpected_exits(self) -> list[int]:
        """Exit codes but for our kills, and 70: a worker that meets trouble with the broker ends and is restarted."""
        return [code for code in self.exits if code not in (-9, 70)]

    def wait_until_closed(self) -> None:
        """Until every model's last whole pane is reported."""
        last = STREAM_MS + (PANES - 1) * PANE_MS

        def closed() -> bool:
            return all(last in self.cells_of(model) for model in MODELS)

        eventually(closed, within=120, every=1.0, what=f"last panes of {self.name}: {self._tail(0)}")

    def read(self, topic: str) -> list[Any]:
        return logs.read(self.site.bootstrap, f"{self.name}-{topic}")

    def reports(self) -> Reports:
        found = Reports()
        for record in self.read("windows"):
            report = json.loads(record.value)["data"]
            found.keys_seen.append((report["model"], report["start"], report["revision"]))
            if report["late_n"]:
                found.late[report["model"], report["start"]] = report["late_n"]
        return found

    def cells_of(self, model: str) -> dict[int, dict[tuple[str, tuple[str, ...]], int]]:
        """Events of each cell in the last revision of each window; empty windows left out."""
        found: dict[int, dict[tuple[str, tuple[str, ...]], int]] = {}
        for record in self.read("windows"):
            report = json.loads(record.value)["data"]
            if report["model"] == model and report["n"]:
                found[report["start"]] = {
                    (cell["version"], tuple(cell["segment"])): cell["n"] for cell in report["cells"]
                }
        return found

    def dead_letters(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for record in self.read("dead-letter"):
            letter = json.loads(record.value)
            found[letter["reason"]] += letter.get("count", 1)
        return found

    def decisions(self, topic: str) -> dict[bytes, list[bytes]]:
        """Records of a topic by key, in their order: the same bytes or not the same decisions."""
        found: dict[bytes, list[bytes]] = defaultdict(list)
        for record in self.read(topic):
            found[record.key].append(record.value)
        return dict(found)

    def control(self) -> Control:
        control = Control()
        for record in self.read("control"):
            control = control.apply(record.key, record.value, offset=record.offset)
        return control

    def _ready(self, slot: int) -> bool:
        from urllib.request import urlopen

        try:
            with urlopen(f"http://127.0.0.1:{self.ports[slot]}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _tail(self, slot: int) -> str:
        log = self.site.folder / f"{self.name}-{slot}.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""


class _Running:
    """`with`: the workers are up and supervised; afterwards they are gone."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def __enter__(self) -> Application:
        for slot in range(self.application.slots):
            self.application.spawn(slot)
        self.supervisor = threading.Thread(target=self.application.supervise)
        self.supervisor.start()
        return self.application

    def __exit__(self, *raised: object) -> None:
        self.application.over.set()
        self.supervisor.join()
        for child in self.application.children.values():
            child.terminate()
        for child in self.application.children.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _stream(site: Site) -> None:
    logs.produce(site.bootstrap, site.input, list(_records()), seconds=SECONDS_OF_STREAM)


def _records() -> Iterator[tuple[int, bytes | None, bytes]]:
    """Events nearly in order (up to 3 s out of it), with some bad, repeated and late ones among them."""
    half = STREAM_MS + SPAN_MS // 2
    shift = Shift(start=half, end=half + SPAN_MS, income=-0.5, utilisation=1.2, missing_employment=0.2)
    applicants = Applicants(seed=5, models=MODELS, versions=("2025-03-01", "2025-03-08"), shifts=(shift,))
    drawn = np.random.default_rng(5)
    ts = STREAM_MS + np.arange(EVENTS, dtype=np.int64) * SPAN_MS // EVENTS
    ts = np.maximum(ts - drawn.integers(0, 3_000, EVENTS), STREAM_MS)
    late = (drawn.random(EVENTS) < 0.002) & (ts > STREAM_MS + 4 * PANE_MS)
    ts[late] -= drawn.integers(PANE_MS, 3 * PANE_MS, int(late.sum()))
    too_late = (drawn.random(EVENTS) < 0.0005) & (ts > STREAM_MS + 12 * PANE_MS)
    ts[too_late] -= 9 * PANE_MS
    partition = drawn.integers(0, PARTITIONS, EVENTS).tolist()
    odd = drawn.random(EVENTS)
    for i, event in enumerate(applicants.at(ts).events()):
        yield partition[i], None, event
        if odd[i] < 0.001:
            yield partition[i], None, event  # a repeated id
        elif odd[i] < 0.0015:
            yield partition[i], None, event[:-20]  # cut
        elif odd[i] < 0.002:
            yield partition[i], None, event.replace(b"lending-", b"lonely-")  # no such model


def _truth(site: Site, control: Control) -> Truth:
    layouts: dict[str, Layout] = {model: control.models[model][-1] for model in MODELS}
    tables = {}
    for model, layout in layouts.items():
        reference = control.reference(layout.reference)
        assert reference is not None
        tables[model] = Table(reference.specs)
    return truth_of(logs.read(site.bootstrap, site.input), layouts, tables)


def _closed_rows(truth: Truth, model: str) -> dict[int, dict[tuple[str, tuple[str, ...]], int]]:
    return {pane: cells for pane, cells in truth.rows(model).items() if pane < STREAM_MS + PANES * PANE_MS}


def _different(counted: dict[Any, np.ndarray], truth: Truth) -> list[Any]:
    """Cells whose tables differ, the first few, with the columns."""
    keys = sorted({*counted, *truth.tables})
    wrong = [key for key in keys if not np.array_equal(counted.get(key), truth.tables.get(key))]
    return [(key, np.flatnonzero(counted.get(key, 0) != truth.tables.get(key, 0))[:8].tolist()) for key in wrong[:8]]
