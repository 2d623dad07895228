"""Typed structs made from what the references know, so that a whole event decodes in one C call.

Why: a generic dict of features costs three times as much to decode and to take apart as a struct with one slot per
feature. The union over the models is tagged by the field `model` (`feature_set` for feature rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["predictions", "features"]
#: `number`: float. `text`: str. `scalar`: a category that may come as number or bool too.
Wire: TypeAlias = Literal["number", "text", "scalar"]

#: Slots of a row, in order; feature rows have the first five.
HEAD = ("id", "ts", "version", "features", "segment")
OUTPUTS = ("score", "proba", "label", "value", "latency_ms", "cost", "status")
#: Further slots where outcomes are joined.
OUTCOME = ("outcome", "outcome_ts")
TAG = {"predictions": "model", "features": "feature_set"}
#: Unknown features that a struct has slots for; events with further ones decode slowly, and count as exactly.
STRANGERS = 64
#: The same where a list denies features: those come with every event.
DENIED = 1_024
#: Slot of an unknown feature that is not there.
ABSENT = msgspec.Raw(b"")

_WIRE: dict[str, Any] = {"number": float | None, "text": str | None, "scalar": str | int | float | bool | None}
_OUTPUT_TYPES: dict[str, Any] = {
    "score": float | None,
    "proba": dict[str, float] | None,
    "label": str | int | float | bool | None,
    "value": float | None,
    "latency_ms": float | None,
    "cost": float | None,
    "status": str | int | bool | None,
}
_OUTCOME_TYPES: dict[str, Any] = {"outcome": str | int | float | bool | None, "outcome_ts": int | float | str | None}


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What the layouts of a model say about its events. features: name → wire type, in the order of the events.

    strangers: how many further names have slots.
    """

    features: Mapping[str, Wire]
    segments: tuple[str, ...] = ()
    string_length: int = 256
    event_bytes: int = 1_000_000
    strangers: int = STRANGERS


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """The struct of one model's events. `struct` has the slots `HEAD` (and `OUTPUTS`).

    features: slots `f0`, `f1`, … in the order of `sketch.features`, then `x0`, … for `strangers`.
    segment: slots `s0`, … in the order of `sketch.segments`.
    """

    model: str
    sketch: Sketch
    strangers: tuple[str, ...]
    struct: type[msgspec.Struct]
    features: type[msgspec.Struct]
    segment: type[msgspec.Struct]
    slots: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", {name: i for i, name in enumerate(self.sketch.features)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapes:
    """The shapes of all models of one input, and the decoder of their tagged union (None without models)."""

    kind: Kind
    by_model: dict[str, Shape]
    decoder: msgspec.json.Decoder[Any] | None
    slots: tuple[str, ...]
    codes: dict[type, int]

    @classmethod
    def of(
        cls,
        sketches: Mapping[str, Sketch],
        *,
        kind: Kind,
        strangers: Mapping[str, AbstractSet[str]] | None = None,
        outcomes: bool = False,
    ) -> Shapes:
        """Shapes of `sketches` by model; `strangers`: unknown features seen before, by model. outcomes: predictions may
        carry theirs.

        >>> shapes = Shapes.of({"credit": Sketch(features={"age": "number"})}, kind="predictions")
        >>> event = shapes.decoder.decode(b'{"id": "a", "model": "credit", "ts": 5, "features": {"age": 41}}')
        >>> event.ts, event.features.f0
        (5, 41.0)
        """
        seen = strangers or {}
        by_model = {
            model: _shape(
                model,
                sketch,
                kind=kind,
                # What was unknown when it was seen may be known by now: a layout has come that counts it.
                strangers=tuple(sorted(seen.get(model, set()) - sketch.features.keys()))[: sketch.strangers],
                outcomes=outcomes,
            )
            for model, sketch in sketches.items()
        }
        structs = [shape.struct for shape in by_model.values()]
        decoder = msgspec.json.Decoder(reduce(or_, structs)) if structs else None
        slots = HEAD + OUTPUTS + (OUTCOME if outcomes else ()) if kind == "predictions" else HEAD
        codes = {struct: code for code, struct in enumerate(structs)}
        return cls(kind=kind, by_model=by_model, decoder=decoder, slots=slots, codes=codes)


def can_be_slot(name: str) -> bool:
    """False for the names that msgspec gives no slot: events with such a feature are read the lenient way.

    >>> can_be_slot("debt ratio"), can_be_slot('the "ratio"')
    (True, False)
    """
    return not any(letter in '\\"' or letter < " " for letter in name)


def _slot_name(name: str, slot: str) -> str:
    return name if can_be_slot(name) else f"tripline: {slot} has a name that cannot stand here"


def _shape(model: str, sketch: Sketch, *, kind: Kind, strangers: tuple[str, ...], outcomes: bool) -> Shape:
    names = {f"f{i}": _slot_name(name, f"f{i}") for i, name in enumerate(sketch.features)}
    names |= {f"x{i}": name for i, name in enumerate(strangers)}
    slots: list[Any] = [(f"f{i}", _WIRE[wire], None) for i, wire in enumerate(sketch.features.values())]
    slots += [(f"x{i}", msgspec.Raw, ABSENT) for i in range(len(strangers))]
    # Unknown names must be counted exactly: they go to the slow path, which tells us of them.
    features = msgspec.defstruct("Features", slots, rename=names, forbid_unknown_fields=True, gc=False)
    segment = msgspec.defstruct(
        "Segment",
        [(f"s{i}", _WIRE["scalar"], None) for i in range(len(sketch.segments))],
        rename={f"s{i}": _slot_name(name, f"s{i}") for i, name in enumerate(sketch.segments)},
        # Segments that are not ours are skipped, but for a name without a slot: then every event goes the lenient way.
        forbid_unknown_fields=not all(map(can_be_slot, sketch.segments)),
        gc=False,
    )
    required = kind == "predictions"
    head: list[Any] = [
        ("id", str | int) if required else ("id", str | int | None, None),
        ("ts", int | float | str),
        ("version", str | int | float | None, None),
        ("features", features, msgspec.field(default_factory=features)),
        ("segment", segment, msgspec.field(default_factory=segment)),
    ]
    types = _OUTPUT_TYPES | (_OUTCOME_TYPES if outcomes else {})
    outputs = [(name, kind_of, None) for name, kind_of in types.items()] if required else []
    struct = msgspec.defstruct("Event", head + outputs, tag=model, tag_field=TAG[kind], kw_only=True, gc=False)
    return Shape(model=model, sketch=sketch, strangers=strangers, struct=struct, features=features, segment=segment)
