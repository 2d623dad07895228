"""Columns of a batch: what counting works on, whether rows were decoded from records or read from a table.

No Python loop over (event, feature): structs become tuples, tuples become columns, columns become arrays, in C.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from detectors.rows import level_text
from detectors.served import STATUS_LEVELS, status_level, status_levels
from streamer.core.plans import CATEGORICAL_OUTPUTS, NUMERIC_OUTPUTS, Plan
from streamer.core.timestamps import milliseconds
from streamer.formats.lenient import as_float
from streamer.formats.seam import Note
from streamer.formats.shapes import ABSENT, Shape, Shapes

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int32]
Column: TypeAlias = Sequence[Any]

_POSITIVE = frozenset({"1", "true", "yes", "positive"})
_TEXT = {str, type(None)}
#: What an event says of its result.
OUTPUT_NAMES = frozenset((*NUMERIC_OUTPUTS, *CATEGORICAL_OUTPUTS))


class Names(NamedTuple):
    """A column of texts: codes (n,) into `names`; missing is the empty text."""

    codes: Ints
    names: list[str]


class Odd(NamedTuple):
    """Named oddities of some rows: `unseen` level, `unknown` feature, `wrong_type`. rows: their places, (k,)."""

    kind: str
    feature: str
    name: str
    rows: Ints


class Features(NamedTuple):
    """numeric: (n, Fn) in the order of `Plan.numeric`; categorical: (n, Fc) columns within the feature.

    denied: values of features that may not be read: of them there is nothing but this number.
    """

    numeric: Floats
    categorical: Codes
    odd: list[Odd]
    denied: int = 0


class Marks(NamedTuple):
    """What events say about how they were served: ms and money, NaN where they do not; status 0 ok, 1 error, -1."""

    latency: Floats | None
    cost: Floats | None
    status: npt.NDArray[np.int8] | None


class Truth(NamedTuple):
    """Outcomes, (n,): as classes, None where there is none; as numbers, NaN where they are none."""

    text: Sequence[str | None]
    number: Floats


class Said(NamedTuple):
    """What predictions said, (n,) each: score and value NaN, label None where they did not. scored: the score is their
    own, not that of `proba`. outcome: what came with them; outcome_ts: ms, when. None: no row has any.
    """

    score: Floats
    scored: npt.NDArray[np.bool_]
    label: Sequence[str | None]
    value: Floats
    proba: Sequence[Mapping[str, float] | None] | None = None
    outcome: Truth | None = None
    outcome_ts: Ints | None = None


class Values(Protocol):
    """Where the columns of rows come from. rows: places within the batch, ascending."""

    def features(self, plan: Plan, rows: Ints) -> Features:
        """Features of `rows`, all of the plan's model, in the plan's order."""
        ...

    def segment(self, plan: Plan, column: str, rows: Ints) -> Names:
        """One segment column of `rows`."""
        ...

    def marks(self, plan: Plan, rows: Ints) -> Marks:
        """How `rows` were served, all of the plan's model."""
        ...

    def said(self, rows: Ints) -> Said:
        """Outputs of `rows`, which are predictions."""
        ...


def named(column: Column) -> Names:
    """Codes of a column of texts, numbers, booleans and None.

    >>> named(["FR", None, 7, 7.0, True, ""])
    Names(codes=array([0, 1, 2, 2, 3, 1]), names=['FR', '', '7', 'true'])
    """
    codes = _Coder()
    texts = as_text(column)
    return Names(np.fromiter(map(codes.__getitem__, texts), dtype=np.int64, count=len(texts)), codes.names)


def as_text(column: Column) -> Sequence[str | None]:
    """A column as levels: see `detectors.rows.level_text`. Not by a dict of values: True is 1 there."""
    if set(map(type, column)) <= _TEXT:
        return column
    return [level_text(value) for value in column]


class _Coder(dict[str | None, int]):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __missing__(self, text: str | None) -> int:
        if text is None:
            code = self[""]
        else:
            code = len(self.names)
            self.names.append(text)
        self[text] = code
        return code


@dataclass(eq=False)
class StructValues:
    """Values of decoded rows. columns: slots of `Shapes.slots`, (n,) each; at: numbers of their records, ascending."""

    shapes: Shapes
    columns: Mapping[str, Column]
    at: Ints
    notes: Sequence[Note] = ()

    def features(self, plan: Plan, rows: Ints) -> Features:
        """See `Values`."""
        shape = self.shapes.by_model[plan.layout.model]
        slots = self._slots(rows)
        odd: list[Odd] = []
        numeric = np.empty((len(plan.numeric), rows.size))  # (Fn, n): a feature's values side by side
        for j, name in enumerate(plan.numeric):
            if name in plan.derived:
                continue
            if name in plan.outputs:
                numeric[j] = self._output(name)[rows]
            elif shape.sketch.features[name] == "number":
                numeric[j] = np.array(slots[shape.slots[name]], dtype=np.float64)
            else:
                numeric[j] = numbers_of(slots[shape.slots[name]], name, odd)
        codes = np.empty((len(plan.categorical), rows.size), dtype=np.int32)
        for k, name in enumerate(plan.categorical):
            column: Column
            if name in plan.served:
                column = status_levels(as_text(self._pick(self.columns[name], rows)))
            elif name in plan.outputs:
                column = as_text(self._pick(self._labels(), rows))
            else:
                column = slots[shape.slots[name]]
                column = column if shape.sketch.features[name] == "text" else as_text(column)
            codes[k] = level_codes(plan, k, column, odd)
        derive(plan, numeric)
        denied = self._strangers(shape, plan, slots, odd) + self._noted(plan, rows, odd)
        return Features(numeric.T, codes.T, odd, denied)

    def segment(self, plan: Plan, column: str, rows: Ints) -> Names:
        """See `Values`. An event that does not name a segment has the feature of that name for it."""
        shape = self.shapes.by_model[plan.layout.model]
        slot = attrgetter(f"s{shape.sketch.segments.index(column)}")
        values: Column = list(map(slot, self._pick(self.columns["segment"], rows)))
        if column in shape.slots and None in values:
            feature = self._slots(rows)[shape.slots[column]]
            values = [own if own is not None else other for own, other in zip(values, feature, strict=True)]
        return named(values)

    def marks(self, plan: Plan, rows: Ints) -> Marks:
        """See `Values`."""
        if "status" not in self.columns:
            return Marks(None, None, None)
        latency, cost, status = (self._pick(self.columns[name], rows) for name in ("latency_ms", "cost", "status"))
        n = rows.size
        return Marks(
            None if latency.count(None) == n else np.array(latency, dtype=np.float64),
            None if cost.count(None) == n else np.array(cost, dtype=np.float64),
            None if status.count(None) == n else statuses_of(status),
        )

    def said(self, rows: Ints) -> Said:
        """See `Values`."""
        columns = self.columns
        score, proba = self._output("score")[rows], self._pick(columns["proba"], rows)
        own = self._pick(columns["score"], rows)
        outcome, outcome_ts = None, None
        if "outcome" in columns and columns["outcome"].count(None) < len(columns["outcome"]):
            outcome = truth_of(self._pick(columns["outcome"], rows))
            times, ts = self._pick(columns["outcome_ts"], rows), self._pick(columns["ts"], rows)
            outcome_ts = milliseconds([own if at is None else at for at, own in zip(times, ts, strict=True)])
        return Said(
            score=score,
            scored=np.array([one is not None for one in own]),
            label=as_text(self._pick(self._labels(), rows)),
            value=self._output("value")[rows],
            proba=None if proba.count(None) == len(proba) else proba,
            outcome=outcome,
            outcome_ts=outcome_ts,
        )

    def _slots(self, rows: Ints) -> list[Column]:
        """Slots of the features of `rows`, (n,) each."""
        if self._slots_of is not None and self._slots_of[0] is rows:
            return self._slots_of[1]
        slots: list[Column] = list(zip(*map(astuple, self._pick(self.columns["features"], rows)), strict=True))
        self._slots_of = (rows, slots)
        return slots

    _slots_of: tuple[Ints, list[Column]] | None = None
    _getter: tuple[Ints, itemgetter[Any]] | None = None
    _outputs: dict[str, Any] | None = None

    def _output(self, name: str) -> Floats:
        outputs = self._derived()
        if name not in outputs:
            outputs[name] = np.array(self.columns[name], dtype=np.float64)
        found: Floats = outputs[name]
        return found

    def _labels(self) -> Column:
        found: Column = self._derived()["label"]
        return found

    def _derived(self) -> dict[str, Any]:
        """Score and label of all rows, taken from `proba` where an event has none of its own."""
        if self._outputs is not None:
            return self._outputs
        labels, proba = self.columns["label"], self.columns["proba"]
        self._outputs = {"label": labels}
        if proba.count(None) < len(proba):
            scores, labels = list(self.columns["score"]), list(labels)
            for i, shares in enumerate(proba):
                if shares:
                    score, label = from_proba(shares)
                    scores[i] = score if scores[i] is None else scores[i]
                    labels[i] = label if labels[i] is None else labels[i]
            self._outputs = {"label": labels, "score": np.array(scores, dtype=np.float64)}
        return self._outputs

    def _strangers(self, shape: Shape, plan: Plan, slots: list[Column], odd: list[Odd]) -> int:
        """Slots of features that no reference knows, and of those that this layout's lacks; how many are denied."""
        known, permits, denied = len(shape.slots), plan.layout.features.permits, 0
        for name, column in zip(shape.strangers, slots[known:], strict=True):
            if column.count(ABSENT) == len(column):
                continue
            if not permits(name):
                denied += len(column) - column.count(ABSENT)
                continue
            there = np.array([value is not ABSENT for value in column])
            odd.append(Odd("unknown", "", name, np.flatnonzero(there)))
        if known > len(plan.numeric) + len(plan.categorical) - len(plan.outputs):
            mine = {spec.name for spec in plan.table.specs} - plan.outputs
            for name, slot in shape.slots.items():
                if name in mine or slots[slot].count(None) == len(slots[slot]):
                    continue
                if not permits(name):
                    denied += len(slots[slot]) - slots[slot].count(None)
                    continue
                there = np.array([value is not None for value in slots[slot]])
                odd.append(Odd("unknown", "", name, np.flatnonzero(there)))
        return denied

    def _noted(self, plan: Plan, rows: Ints, odd: list[Odd]) -> int:
        """What was noted when `rows` were decoded; how much of that is denied."""
        if not self.notes:
            return 0
        permits, denied = plan.layout.features.permits, 0
        at, noted = self.at[rows], np.array([note.at for note in self.notes], dtype=np.int64)
        place_of = np.minimum(np.searchsorted(at, noted), at.size - 1)
        places: dict[tuple[str, str, str], list[int]] = {}
        for i in np.flatnonzero(at[place_of] == noted).tolist():
            note = self.notes[i]
            if permits(note.feature or note.name):
                places.setdefault(note[1:], []).append(int(place_of[i]))
            else:
                denied += 1
        odd.extend(Odd(*name, np.array(found, dtype=np.int64)) for name, found in places.items())
        return denied

    def _pick(self, column: Column, rows: Ints) -> Column:
        if rows.size == len(column):
            return column
        if rows.size == 1:
            return (column[int(rows[0])],)
        if self._getter is None or self._getter[0] is not rows:
            self._getter = (rows, itemgetter(*rows.tolist()))
        picked: Column = self._getter[1](column)
        return picked


def derive(plan: Plan, numeric: Floats) -> None:
    """Fill in the features that are made of others; numeric (Fn, n) in the order of `Plan.numeric`."""
    if plan.derivation is not None:
        inputs, places = plan.derived_places
        numeric[places] = plan.derivation.values(numeric[inputs])


def truth_of(column: Column) -> Truth:
    """Outcomes as classes and as numbers.

    >>> truth_of(["1", 0.5, True, None])
    Truth(text=['1', '0.5', 'true', None], number=array([1. , 0.5, nan, nan]))
    """
    return Truth(as_text(column), np.fromiter(map(as_number, column), dtype=np.float64, count=len(column)))


def as_number(value: object) -> float:
    """A number, or a text that is one, as a float; NaN for what is none, or not finite.

    >>> as_number("2.5"), as_number(True), as_number("1e999")
    (2.5, nan, nan)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value) if isinstance(value, str) else as_float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def level_codes(plan: Plan, feature: int, column: Iterable[str | None], odd: list[Odd]) -> Codes:
    """Columns within the `feature`-th categorical feature; levels that the reference lacks go to `odd` by name."""
    levels = plan.binner.level_columns[feature]
    unseen = len(levels) - 1
    column = column if isinstance(column, list | tuple) else list(column)
    codes = np.fromiter(map(levels.get, column, repeat(unseen)), dtype=np.int32, count=len(column))
    rows = np.flatnonzero(codes == unseen)
    if rows.size:
        places: dict[str, list[int]] = {}
        for row in rows.tolist():
            places.setdefault(level_text(column[row]) or "", []).append(row)
        name = plan.categorical[feature]
        odd.extend(Odd("unseen", name, text, np.array(found, dtype=np.int64)) for text, found in places.items())
    return codes


def from_proba(shares: Mapping[str, float]) -> tuple[float, str]:
    """Score and label of a probability per class.

    Of two classes the score is that of the positive one (`1`, `true`, `yes`, `positive`, else the last in sorted
    order), of more the largest; the label is the most probable class, the first in sorted order among equals.

    >>> from_proba({"no": 0.7, "yes": 0.3}), from_proba({"a": 0.2, "b": 0.5, "c": 0.3})
    ((0.3, 'no'), (0.5, 'b'))
    """
    classes = sorted(shares)
    label = max(classes, key=shares.__getitem__)
    if len(classes) != 2:
        return float(shares[label]), label
    positive = next((name for name in classes if name.lower() in _POSITIVE), classes[-1])
    return float(shares[positive]), label


def numbers_of(column: Iterable[Any], name: str, odd: list[Odd]) -> Floats:
    """Numbers of a column that may hold anything else: that is missing, and of a wrong type."""
    wrong: dict[str, list[int]] = {}
    numbers = []
    for row, value in enumerate(column):
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            numbers.append(value if value is None else as_float(value))
        else:
            numbers.append(None)
            kind = "object" if isinstance(value, dict) else type(value).__name__
            wrong.setdefault(kind, []).append(row)
    odd.extend(Odd("wrong_type", name, kind, np.array(rows, dtype=np.int64)) for kind, rows in wrong.items())
    return np.array(numbers, dtype=np.float64)


def statuses_of(column: Column) -> npt.NDArray[np.int8]:
    """How calls went, (n,): places in `STATUS_LEVELS`, −1 where nothing is said."""
    # Equal values of two types (1 and True) are of one kind: neither is a word for success.
    kinds = {value: _status(level_text(value)) for value in set(column)}
    return np.fromiter(map(kinds.__getitem__, column), dtype=np.int8, count=len(column))


def _status(text: str | None) -> int:
    level = status_level(text)
    return -1 if level is None else STATUS_LEVELS.index(level)
