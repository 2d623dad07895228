"""Two logs, of predictions and of their outcomes, with everything in them that can happen; and what they come to.

The truth goes outcome by outcome through the rules at the top of `streamer.core.joining`, with dictionaries and loops.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.outcomes import JoinedRows, OutcomeSpec, OutcomeTable, class_codes, label_codes, tabulate_outcomes
from schemas.layouts import Layout
from schemas.profiles import OUTCOME, Delta, decode, decode_sparse
from streamer.core.control import Control
from streamer.core.plans import outcome_table
from streamer.core.profiling import ProfilingState, apply, restore, start
from streamer.core.records import Batch, Output, PlainRecord
from tests.core.stage1 import BEGIN, REFERENCES, SOURCE, control_of, layout

HOUR = 3_600_000
HORIZON, HOLD, WAIT, MATURITY = 6 * HOUR, HOUR, 10 * 60_000, HOUR
#: From here on `credit` is counted by another layout.
SECOND = BEGIN + 4 * HOUR
#: Repeats of an id so far apart are two predictions.
WINDOW = 20


def joined(model: str, reference: str, **settings: Any) -> Layout:
    """A layout with outcomes."""
    chosen: dict[str, Any] = {
        "pane_ms": HOUR // 2,
        "lateness_ms": 60_000,
        "hold_ms": HOLD,
        "horizon_ms": HORIZON,
        "maturity_ms": MATURITY,
        "early_outcome_wait_ms": WAIT,
        "duplicates_window": WINDOW,
        **settings,
    }
    return layout(model, reference, **chosen)


CONTROL = control_of(
    joined("credit", "first", segments=("country",)),
    joined("credit", "second", from_ms=SECOND, segments=("country",)),
    joined("churn", "churn", partition=1, outcome_pane_ms=2 * HOUR),
)


@dataclass
class Logs:
    """What lies in the two inputs of a task."""

    predictions: list[PlainRecord] = field(default_factory=list)
    outcomes: list[PlainRecord] = field(default_factory=list)


def prediction(at: int, **fields: Any) -> dict[str, Any]:
    """A sound prediction of `credit` at BEGIN + at."""
    return {"id": "a", "model": "credit", "version": "1", "ts": BEGIN + at, "score": 0.25, "features": {}, **fields}


def outcome(at: int, **fields: Any) -> dict[str, Any]:
    """A sound outcome of `credit` at BEGIN + at."""
    return {"id": "a", "model": "credit", "ts": BEGIN + at, "label": 1, **fields}


def record(value: object, *, append: int, offset: int = 0, topic: str = "predictions") -> PlainRecord:
    """A record appended at BEGIN + append."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return PlainRecord(topic, SOURCE, offset, BEGIN + append, None, raw, ())


def logs(n: int, seed: int) -> Logs:
    """About `n` predictions over ten hours, and outcomes: heavy-tailed delays, some never, corrected, twice, too early,
    too late, unknown; on the record; in echoes; and labels that are none.
    """
    rng = random.Random(seed)
    predicted: list[tuple[int, dict[str, Any]]] = []
    told: list[tuple[int, dict[str, Any]]] = []
    for i in range(n):
        at = i * 10 * HOUR // n
        model = rng.choice(["credit", "credit", "churn"])
        # Half of the ids come again later, long after the window of duplicates, and some under another model.
        name = f"id{i % (n // 2)}" if rng.random() < 0.2 else f"own{i}"
        made = prediction(
            at,
            id=name,
            model=model,
            version=rng.choice(["1", "2"]),
            segment={"country": rng.choice(["DE", "FR", None])},
        )
        made["score"] = rng.choice([round(rng.random(), 3), None])
        made["label"] = rng.choice([0, 1, "maybe", None])
        if rng.random() < 0.1:
            del made["score"], made["label"]
            p = round(rng.random(), 3)
            made["proba"] = {"0": 1 - p, "1": p}
        if rng.random() < 0.1:
            made["outcome"], made["outcome_ts"] = rng.choice([0, 1, "1"]), BEGIN + at + rng.randint(0, 200_000)
        predicted.append((at + rng.randint(0, 3_000), made))
        if rng.random() < 0.1:
            continue
        delay = int(HOUR * rng.paretovariate(0.7) / 4)
        due = at + delay
        shape = rng.random()
        said = outcome(due, id=name, model=model, label=rng.choice([0, 1, True, "0"]))
        if shape < 0.05:
            sooner = max(0, at - rng.randint(0, 15 * 60_000))
            told.append((sooner, {**said, "ts": BEGIN + sooner}))
            continue
        if shape < 0.1:
            said["prediction"] = {**made, "outcome": None}
        elif shape < 0.13:
            said["model"] = None
        elif shape < 0.15:
            said["label"] = rng.choice(["perhaps", None, 7])
        told.append((due + rng.randint(0, 60_000), said))
        if rng.random() < 0.2:
            later = rng.randint(1, 3 * HOUR)
            again = {**said, "label": rng.choice([said["label"], 0, 1]), "ts": said["ts"] + later * 9 // 10}
            told.append((due + later, again))
    made_of = Logs()
    for offset, (append, value) in enumerate(sorted(predicted, key=lambda one: one[0])):
        made_of.predictions.append(record(value, append=append, offset=offset))
    for offset, (append, value) in enumerate(sorted(told, key=lambda one: one[0])):
        made_of.outcomes.append(record(value, append=append, offset=offset, topic="outcomes"))
    return made_of


Key = tuple[str, int, str, tuple[str, ...], bool]


@dataclass
class Truth:
    """tables: by (layout, pane, version, segment, late); counts: what became of the outcomes."""

    tables: dict[Key, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class _Row:
    made: dict[str, Any]
    layout: Layout
    append: int
    echo: bool = False
    known: tuple[int, int] | None = None  # code, delay
    late: bool = False


def by_hand(of: Logs, control: Control) -> Truth:
    """The truth of two logs."""
    truth = Truth()
    rows: dict[str, list[_Row]] = defaultdict(list)
    latest: list[tuple[str, str]] = []
    append = 0
    for one in of.predictions:
        append = max(append, one.timestamp // 1000)
        made = json.loads(one.value or b"")
        if (made["model"], made["id"]) in latest[-WINDOW:]:
            continue
        latest.append((made["model"], made["id"]))
        row = _row(made, control, append)
        rows[made["id"]].append(row)
        _add(truth, row, "expected")
        own = made.get("outcome")
        if own is not None and made["outcome_ts"] <= made["ts"] + HORIZON:
            _first(truth, row, _code(row, own), made["outcome_ts"])
            truth.counts["on_record"] += 1
    append, seen = 0, Counter[str]()
    for one in of.outcomes:
        said = json.loads(one.value or b"")
        append = max(append, one.timestamp // 1000)
        if said["label"] is None or (said["model"] and said["label"] in ("perhaps", 7)):
            truth.counts["schema"] += 1
            continue
        if said["model"]:
            seen[said["model"]] = max(seen[said["model"]], said["ts"])
        come = seen[said["model"]] if said["model"] else 0
        truth.counts[_join(truth, rows, said, append=append, seen=come, control=control)] += 1
    return truth


def _join(
    truth: Truth, rows: dict[str, list[_Row]], said: dict[str, Any], *, append: int, seen: int, control: Control
) -> str:
    echo = said.get("prediction")
    if echo and said["ts"] > echo["ts"] + HORIZON:
        return "unmatched_outcome"
    fits = [row for row in rows[said["id"]] if row.echo == bool(echo) and _fits(row, said, append, seen)]
    if echo and not fits:
        fits = [_row(echo, control, append, echo=True)]
        rows[said["id"]] += fits
    if not fits:
        return "unmatched_outcome"
    row = fits[0]
    code = _code(row, said["label"])
    if code < 0:
        return "schema"
    if row.known is None:
        _first(truth, row, code, said["ts"])
        return "matched"
    if row.known[0] == code:
        return "duplicate"
    row.late |= _is_late(row, said["ts"])
    _add(truth, row, "pair", *row.known, sign=-1)
    row.known = (code, row.known[1])
    _add(truth, row, "pair", *row.known, sign=1)
    return "corrected"


def _row(made: dict[str, Any], control: Control, append: int, *, echo: bool = False) -> _Row:
    chosen = control.layout_at(made["model"], made["ts"])
    assert chosen is not None
    return _Row(made, chosen, append, echo)


def _fits(row: _Row, said: dict[str, Any], append: int, seen: int) -> bool:
    ts = row.made["ts"]
    return (
        said["model"] in (row.made["model"], None)
        and said["ts"] <= ts + HORIZON
        and row.append <= append + WAIT // 1000
        and append <= row.append + (HORIZON + HOLD) // 1000
        and seen <= ts + HORIZON + HOLD
    )


def _first(truth: Truth, row: _Row, code: int, ts: int) -> None:
    row.known, row.late = (code, max(ts - row.made["ts"], 0)), _is_late(row, ts)
    _add(truth, row, "pair", *row.known)


def _is_late(row: _Row, ts: int) -> bool:
    pane = row.layout.outcome_pane_ms
    return bool(ts > (row.made["ts"] // pane + 1) * pane + MATURITY)


def table_of(chosen: Layout) -> OutcomeTable:
    """The table of a layout of the tests."""
    table = outcome_table(REFERENCES[chosen.reference], chosen)
    assert table is not None
    return table


def _spec(row: _Row) -> OutcomeSpec:
    return table_of(row.layout).spec


def _code(row: _Row, label: object) -> int:
    return int(class_codes(_spec(row), [_text(label)])[0])


def _text(label: object) -> str | None:
    return label if label is None or isinstance(label, str) else str(label).lower()


def _add(truth: Truth, row: _Row, what: str, code: int = -1, delay: int = 0, *, sign: int = 1) -> None:
    made, chosen, table = row.made, row.layout, table_of(row.layout)
    start_ = made["ts"] // chosen.outcome_pane_ms * chosen.outcome_pane_ms
    segment = ("" if made["segment"]["country"] is None else made["segment"]["country"],) if chosen.segments else ()
    late = row.late and what == "pair"
    counts = truth.tables[chosen.id, start_, made["version"], segment, late]
    if what == "expected":
        counts[table.expected] += 1
        return
    shares = made.get("proba")
    score = shares["1"] if shares else made.get("score")
    label = ("1" if shares["1"] > shares["0"] else "0") if shares else _text(made.get("label"))
    rows = JoinedRows.of(
        score=np.array([np.nan if score is None else score]),
        label=label_codes(table.spec, [label]),
        outcome=np.array([code]),
        delay_ms=np.array([delay]),
    )
    found = tabulate_outcomes(table, rows, np.zeros(1, dtype=np.int64), 1)[0] * sign
    for at in np.flatnonzero(found).tolist():
        counts[at] += int(found[at])


def summed(outputs: Iterable[Output]) -> dict[Key, Counter[int]]:
    """Outcome deltas among `outputs`, added up; what comes to nothing is left out."""
    found: dict[Key, Counter[int]] = defaultdict(Counter)
    for one in outputs:
        delta = decode(one.value or b"") if one.topic == "profiles" else None
        if not isinstance(delta, Delta) or delta.kind != OUTCOME:
            continue
        for at, value in zip(*(part.tolist() for part in decode_sparse(delta.body)), strict=True):
            row = delta.rows[at // delta.width]
            found[delta.layout, row.pane, row.version, row.segment, row.late][at % delta.width] += value
    return without_zeros(found)


def without_zeros(tables: dict[Key, Counter[int]]) -> dict[Key, Counter[int]]:
    """Tables without the counts that are 0, and without those that have no other."""
    kept = {key: Counter({at: n for at, n in counts.items() if n}) for key, counts in tables.items()}
    return {key: counts for key, counts in kept.items() if counts}


@dataclass
class Run:
    """A task that reads two logs in some order. changelog: the latest value of each key."""

    control: Control
    state: ProfilingState
    outputs: list[Output] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def begun(cls, control: Control = CONTROL) -> Run:
        return cls(control, start(control, SOURCE, next={"predictions": 0, "outcomes": 0}))

    def take(self, records: Sequence[PlainRecord], *, caught_up: bool = False) -> None:
        """One batch."""
        name = records[0].topic
        batch = Batch(name, records, records[-1].offset + 1, caught_up)
        self.state, outputs = apply(self.state, batch, self.control)
        self.keep(outputs)

    def tick(self) -> None:
        """All inputs were read to their end."""
        batch = Batch("predictions", [], self.state.next["predictions"], caught_up=True)
        self.state, outputs = apply(self.state, batch, self.control)
        self.keep(outputs)

    def keep(self, outputs: Sequence[Output]) -> None:
        self.outputs += outputs
        for one in outputs:
            if one.topic == "changelog":
                self.changelog.pop(one.key, None)
                if one.value is not None:
                    self.changelog[one.key] = one.value

    def crash(self) -> None:
        """Come back from the changelog."""
        restored = restore(self.changelog.items(), self.control)
        assert restored is not None
        self.state = restored

    def read(self, of: Logs, rng: random.Random, *, lead: int, crashes: float = 0.0) -> None:
        """Read both logs to the end: batches of any size, one input at most `lead` records ahead in time order."""
        left = {"predictions": list(of.predictions), "outcomes": list(of.outcomes)}
        while any(left.values()):
            heads = {name: records[0].timestamp for name, records in left.items() if records}
            behind = min(heads, key=heads.__getitem__)
            name = behind if rng.random() < 0.5 else rng.choice(list(heads))
            size = rng.choice([1, 3, 20, lead])
            self.take(left[name][:size])
            left[name] = left[name][size:]
            if rng.random() < crashes:
                self.crash()
