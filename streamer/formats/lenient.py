"""The slow and forgiving way to read an event: what the typed decoder refuses is looked at once more, in Python.

Accepts whatever the typed decoder accepts, to the same row, and beyond it: NaN, Infinity and 1e400 (non-finite),
features of a wrong type (missing, noted), features that the reference lacks (noted). Everything else is `Refused`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
import numpy as np

from schemas.events import DropReason
from streamer.formats.shapes import HEAD, TAG, Shape, Shapes

#: A shorter value is not looked at: it cannot be nested deeper than a decoder can go.
LOOK_FROM = 1024
#: An integer of more digits is beyond every float.
_DIGITS = 320
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = np.zeros(256, dtype=np.int32)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1

_NAMES = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "object"}


class Refused(Exception):
    """A record that is not counted, and why."""

    def __init__(self, reason: DropReason, detail: str = "", model: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.model = reason, detail, model


class _Loose(msgspec.Struct, gc=False):
    """Our event with nothing required and nothing typed; like the typed one, it skips what it does not know."""

    id: Any = None
    model: Any = None
    feature_set: Any = None
    ts: Any = None
    version: Any = None
    features: dict[str, msgspec.Raw] | None = None
    segment: Any = None
    score: Any = None
    proba: Any = None
    label: Any = None
    value: Any = None
    latency_ms: Any = None
    cost: Any = None
    status: Any = None
    outcome: Any = None
    outcome_ts: Any = None


_loose = msgspec.json.Decoder(_Loose)
_any = msgspec.json.Decoder()


def too_deep(value: bytes, limit: int) -> bool:
    """True when `value`, of 1 kB or more, nests deeper than `limit`. Costs two scans where it is flat.

    >>> too_deep(b"[" * 2000, 32), too_deep(b'{"a": "' + b"[" * 2000 + b'"}', 32)
    (True, False)
    """
    if len(value) < LOOK_FROM or value.count(b"[") + value.count(b"{") <= limit:
        return False
    brackets = _STRINGS.sub(b"", value).translate(None, _NOT_BRACKETS)
    depth = np.cumsum(_STEP[np.frombuffer(brackets, dtype=np.uint8)])
    return bool(depth.size and depth.max() > limit)


def as_float(value: float) -> float:
    """A number as a float; an integer beyond every float is infinite, as 1e400 is.

    >>> as_float(10**400), as_float(-(10**400)), as_float(7)
    (inf, -inf, 7.0)
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def parse_native(value: bytes) -> dict[str, object]:
    """The fields of one of our events; features may be `msgspec.Raw`."""
    try:
        loose = _loose.decode(value)
    except (ValueError, RecursionError):
        parsed = _parse_lenient(value)
        if not isinstance(parsed, dict):
            raise Refused(DropReason.DECODE, f"expected an object, got {_name(parsed)}") from None
        return parsed
    return msgspec.structs.asdict(loose)


def parse_foreign(value: bytes) -> object:
    """Any JSON, NaN, Infinity and 1e400 included."""
    try:
        parsed: object = _any.decode(value)
    except (ValueError, RecursionError):
        return _parse_lenient(value)
    return parsed


def parse(
    event: dict[str, object], shapes: Shapes, *, hint: str = "", identified: bool = True
) -> tuple[Shape, object, list[tuple[str, str, str]]]:
    """Shape, row and notes (kind, feature, name) of an event's fields. `Refused` where it cannot be counted.

    hint: the model where the event names none. identified: the event must have an id.

    >>> from streamer.formats.shapes import Sketch
    >>> shapes = Shapes.of({"credit": Sketch(features={"age": "number"})}, kind="predictions")
    >>> event = {"id": "a", "model": "credit", "ts": 5, "features": {"age": "old", "shoe": 44}}
    >>> parse(event, shapes)[2]
    [('wrong_type', 'age', 'str'), ('unknown', '', 'shoe')]
    """
    tag = TAG[shapes.kind]
    model = event.get(tag)
    model = hint if model is None else model
    if not isinstance(model, str):
        raise Refused(DropReason.SCHEMA, f"{tag}: expected text, got {_name(model)}")
    if not model:
        raise Refused(DropReason.SCHEMA, f"{tag}: is missing")
    shape = shapes.by_model.get(model)
    if shape is None:
        raise Refused(DropReason.UNKNOWN_MODEL, model=model[:256])
    try:
        row, notes = _row(event, shape, shapes, identified=identified)
    except Refused as refused:
        refused.model = model
        raise
    return shape, row, notes


def _row(
    event: dict[str, object], shape: Shape, shapes: Shapes, *, identified: bool
) -> tuple[object, list[tuple[str, str, str]]]:
    fields: dict[str, object] = {"ts": _time(event.get("ts")), "version": _scalar(event, "version", (str, int, float))}
    if shapes.kind == "predictions":
        fields["id"] = _scalar(event, "id", (str, int))
        if identified and fields["id"] is None:
            raise Refused(DropReason.SCHEMA, "id: is missing")
        for name in shapes.slots[len(HEAD) :]:
            fields[name] = _OUTPUT[name](event, name)
    fields["features"], notes = _features(event.get("features"), shape)
    fields["segment"] = _segment(event.get("segment"), shape)
    return shape.struct(**fields), notes


def _features(found: object, shape: Shape) -> tuple[object, list[tuple[str, str, str]]]:
    notes: list[tuple[str, str, str]] = []
    if found is None:
        return shape.features(), notes
    if not isinstance(found, dict):
        raise Refused(DropReason.SCHEMA, f"features: expected an object, got {_name(found)}")
    slots: dict[str, object] = {}
    for name, raw in found.items():
        slot = shape.slots.get(name)
        if slot is None:
            notes.append(("unknown", "", name))
            continue
        value = _plain(raw)
        number = shape.sketch.features[name] == "number"
        allowed = (int, float) if number else (str, int, float, bool)
        if value is not None and (not isinstance(value, allowed) or (number and isinstance(value, bool))):
            notes.append(("wrong_type", name, _name(value)))
            continue
        slots[f"f{slot}"] = _number(value) if number and value is not None else _category(value)
    return shape.features(**slots), notes


def _segment(found: object, shape: Shape) -> object:
    if found is None:
        return shape.segment()
    if not isinstance(found, dict):
        raise Refused(DropReason.SCHEMA, f"segment: expected an object, got {_name(found)}")
    names = shape.sketch.segments
    scalars = (str, int, float, bool)
    return shape.segment(**{f"s{i}": _category(_scalar(found, name, scalars)) for i, name in enumerate(names)})


def _plain(raw: object) -> object:
    if not isinstance(raw, msgspec.Raw):
        return raw
    try:
        value: object = _any.decode(raw)
    except ValueError:
        return _parse_lenient(bytes(raw))
    return value


def _number(value: Any) -> float:
    """A number as a float; what is not finite is ±inf: NaN would say "missing"."""
    number = as_float(value)
    return math.inf if math.isnan(number) else number


def _category(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _time(value: object, field: str = "ts") -> object:
    if value is None:
        raise Refused(DropReason.SCHEMA, f"{field}: is missing")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(DropReason.SCHEMA, f"{field}: expected a number or text, got {_name(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(DropReason.NON_FINITE, field)
    return value


def _scalar(event: Any, name: str, allowed: tuple[type, ...]) -> object:
    value = event.get(name)
    if value is None or (isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))):
        if isinstance(value, float) and not math.isfinite(value) and name == "version":
            raise Refused(DropReason.NON_FINITE, name)
        return value
    raise Refused(DropReason.SCHEMA, f"{name}: got {_name(value)}")


def _finite(event: Any, name: str) -> float | None:
    value = event.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(DropReason.SCHEMA, f"{name}: expected a number, got {_name(value)}")
    number = _number(value)
    if not math.isfinite(number):
        raise Refused(DropReason.NON_FINITE, name)
    return number


def _finite_or_none(event: Any, name: str) -> float | None:
    """Of `latency_ms` and `cost`: they say nothing about the model, so a broken one costs only itself."""
    try:
        return _finite(event, name)
    except Refused as refused:
        if refused.reason is DropReason.NON_FINITE:
            return None
        raise


def _proba(event: Any, name: str) -> dict[str, float] | None:
    value = event.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refused(DropReason.SCHEMA, f"{name}: expected an object, got {_name(value)}")
    found = {key: _finite(value, key) for key in value}
    if None in found.values():
        raise Refused(DropReason.SCHEMA, f"{name}: a probability is null")
    return {key: number for key, number in found.items() if number is not None}


def _label(event: Any, name: str) -> object:
    value = _scalar(event, name, (str, int, float, bool))
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(DropReason.NON_FINITE, name)
    return value


_OUTPUT: dict[str, Any] = {
    "score": _finite,
    "proba": _proba,
    "label": _label,
    "value": _finite,
    "latency_ms": _finite_or_none,
    "cost": _finite_or_none,
    "status": lambda event, name: _scalar(event, name, (str, int, bool)),
    "outcome": _label,
    "outcome_ts": lambda event, name: None if event.get(name) is None else _time(event[name], name),
}


def _parse_lenient(value: bytes) -> object:
    try:
        text = value.decode()
        parsed: object = json.loads(text, parse_constant=_constant, parse_int=_integer)
        if "\\u" in text:
            # A lone surrogate would be refused later, by whoever writes the string.
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise Refused(DropReason.TOO_DEEP) from None
    except ValueError as error:
        raise Refused(DropReason.DECODE, _where(error)) from None
    return parsed


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (character {error.pos})"
    return "not UTF-8" if isinstance(error, UnicodeError) else type(error).__name__


def _constant(word: str) -> float:
    return -math.inf if word == "-Infinity" else math.inf if word == "Infinity" else math.nan


def _integer(digits: str) -> int | float:
    if len(digits) > _DIGITS:
        return -math.inf if digits.startswith("-") else math.inf
    return int(digits)


def _name(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)
