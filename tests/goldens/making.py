"""Make the golden changelogs of this version: `python -m tests.goldens.making VERSION`, once per released version.

What two tasks, one of each stage, keep after a short stream with everything in it: an incident that is open, late rows,
outcomes that match, wait and correct. As bytes: `control`, both changelogs, the part of `profiles` that a restore reads
again, and some events that come afterwards. Never made again for a version that is out: its bytes are on others' disks.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectors.references import dumps
from schemas.control import Cluster
from schemas.layouts import Layout, RetrainPolicy
from streamer.core import monitoring, profiling
from streamer.core.control import Control, publish_cluster, publish_layout, publish_reference
from streamer.core.records import Batch, Output, PlainRecord
from tests.core.test_maturing import reference, scored

HERE = Path(__file__).parent
BEGIN, MINUTE = 1_735_689_600_000, 60_000
PANE, PANES, EACH = 10 * MINUTE, 40, 20
LAYOUT = Layout(
    model="m",
    from_ms=0,
    reference=reference().id,
    monitored=("score",),
    pane_ms=PANE,
    lateness_ms=MINUTE,
    hold_ms=2 * PANE,
    horizon_ms=12 * 3_600_000,
    maturity_ms=1_800_000,
    budget_ms=4 * 86_400_000,
    cooldown_panes=1,
    max_alert_age_ms=None,
    policies=(RetrainPolicy(),),
)

Pairs = list[tuple[bytes, bytes | None]]


def control_records() -> list[tuple[bytes, bytes]]:
    """What `control` holds."""
    outputs = [
        publish_cluster(Cluster(sources=1, profiles=1)),
        *publish_reference(reference().id, dumps(reference())),
        publish_layout(LAYOUT),
    ]
    return [(output.key, output.value or b"") for output in outputs]


def events() -> list[PlainRecord]:
    """Predictions and outcomes in the order of their append times; scores move away in the second half."""
    rng = np.random.default_rng(11)
    made: list[tuple[int, str, dict[str, Any]]] = []
    score, outcome = scored(rng, PANES * EACH)
    for i in range(PANES * EACH):
        at = BEGIN + i * PANE // EACH
        moved = min(0.99, float(score[i]) + 0.4) if i > PANES * EACH // 2 else float(score[i])
        late = 15 * MINUTE if i % 37 == 0 and i > 100 else 0
        made.append((at, "predictions", {"id": f"p{i}", "model": "m", "version": "1", "ts": at - late, "score": moved}))
        if i % 5:
            due = at + 20 * MINUTE + int(rng.integers(0, 40 * MINUTE))
            made.append((due, "outcomes", {"id": f"p{i}", "model": "m", "ts": due, "label": int(outcome[i])}))
        if i % 50 == 7:
            early = at - MINUTE
            made.append((early, "outcomes", {"id": f"p{i + 1}", "model": "m", "ts": early, "label": 1}))
        if i % 10 == 3:
            made.append((at + 2 * MINUTE, "outcomes", {"id": f"never{i}", "model": "m", "ts": at, "label": 1}))
    offsets = {"predictions": 0, "outcomes": 0}
    found = []
    for append, topic, value in sorted(made, key=lambda one: one[0]):
        found.append(PlainRecord(topic, 0, offsets[topic], append, None, json.dumps(value).encode(), ()))
        offsets[topic] += 1
    return found


def control_of(records: Iterable[tuple[bytes, bytes]]) -> Control:
    """The value of `control`."""
    control = Control()
    for offset, (key, value) in enumerate(records):
        control = control.apply(key, value, offset=offset)
    return control


def run(
    first: profiling.ProfilingState,
    second: monitoring.MonitoringState,
    records: Sequence[PlainRecord],
    control: Control,
) -> tuple[list[Output], list[Output], list[PlainRecord]]:
    """Outputs of both stages over some events, and the records of `profiles` between them."""
    ones: list[Output] = []
    twos: list[Output] = []
    between: list[PlainRecord] = []
    at = second.read_to
    for record in records:
        batch = Batch(record.topic, [record], record.offset + 1, True)
        _, outputs = profiling.apply(first, batch, control)
        ones += outputs
        said = [output for output in outputs if output.topic == "profiles"]
        logged = [
            PlainRecord("profiles", 0, at + i, record.timestamp, output.key, output.value)
            for i, output in enumerate(said)
        ]
        between += logged
        at += len(logged)
        batch = Batch("profiles", logged, at)
        while True:
            _, decided = monitoring.apply(second, batch, control)
            twos += decided
            if not second.pending:
                break
            batch = Batch("profiles", [], at)
    return ones, twos, between


def make() -> dict[str, Any]:
    """The golden, as JSON."""
    control = control_of(control_records())
    first = profiling.start(control, 0, next={"predictions": 0, "outcomes": 0})
    second = monitoring.start(control, 0)
    records = events()
    cut = len(records) * 9 // 10
    ones, twos, between = run(first, second, records[:cut], control)
    return {
        "control": _pairs(control_records()),
        "profiling": _pairs(_kept(ones)),
        "monitoring": _pairs(_kept(twos)),
        "profiles": [
            [record.offset, record.timestamp, _text(record.value)]
            for record in between
            if record.offset >= second.replay_from
        ],
        "events": [[r.topic, r.offset, r.timestamp, (r.value or b"").decode()] for r in records[cut:]],
        "consumed": [first.consumed, second.counters.consumed],
    }


def read(path: Path) -> dict[str, Any]:
    """A golden of a file: bytes as bytes, records as records."""
    plain = json.loads(gzip.decompress(path.read_bytes()))
    named = {name: [(_raw(k), _raw(v)) for k, v in plain[name]] for name in ("control", "profiling", "monitoring")}
    profiles = [PlainRecord("profiles", 0, offset, at, None, _raw(value)) for offset, at, value in plain["profiles"]]
    after = [PlainRecord(topic, 0, offset, at, None, value.encode()) for topic, offset, at, value in plain["events"]]
    return {**named, "profiles": profiles, "events": after, "consumed": plain["consumed"]}


def _kept(outputs: Iterable[Output]) -> list[tuple[bytes, bytes]]:
    """What compaction leaves of a changelog, in the order of the last writes."""
    found: dict[bytes, bytes] = {}
    for output in outputs:
        if output.topic == "changelog":
            found.pop(output.key, None)
            if output.value is not None:
                found[output.key] = output.value
    return list(found.items())


def _pairs(pairs: Iterable[tuple[bytes, bytes]]) -> list[list[str]]:
    return [[_text(key), _text(value)] for key, value in pairs]


def _text(raw: bytes | None) -> str:
    return base64.b64encode(raw or b"").decode()


def _raw(text: str) -> bytes:
    return base64.b64decode(text)


if __name__ == "__main__":
    # Without the time of day in its header: the same bytes each time.
    (HERE / f"{sys.argv[1]}.json.gz").write_bytes(gzip.compress(json.dumps(make()).encode(), mtime=0))
