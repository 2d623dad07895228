"""Outcomes as JSON: our own, typed first and leniently for the few that are refused, or foreign ones by a mapping."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.events import DropReason
from streamer.core.records import Record
from streamer.formats.lenient import Refused, as_float, parse_foreign
from streamer.formats.mapping import MappedFormat, TopicMapping
from streamer.formats.seam import Refusal
from streamer.formats.shapes import Shapes

#: What a mapping of outcomes may name.
FIELDS = frozenset({"id", "ts", "model", "label", "value"})
_NOTHING = msgspec.Raw(b"")


class OutcomeRow(msgspec.Struct, gc=False):
    """One outcome, its types checked and nothing else. prediction: the echo, as JSON; empty where there is none."""

    id: str | int
    ts: int | float | str
    model: str | None = None
    label: str | int | float | bool | None = None
    value: float | None = None
    prediction: msgspec.Raw = _NOTHING


class DecodedOutcomes(NamedTuple):
    """rows: one per value, None where refused; refusals by number of the value."""

    rows: list[OutcomeRow | None]
    refusals: list[Refusal]


_decoder = msgspec.json.Decoder(OutcomeRow)


def decode(
    records: Sequence[Record], values: Sequence[bytes], *, models: Iterable[str], mapping: TopicMapping | None = None
) -> DecodedOutcomes:
    """Decode the values of `records`; never raises. models: those that a record's header or key may name.

    >>> decoded = decode([], [b'{"id": "a", "ts": 5, "label": 1}', b'{"id": "b", "ts": 6, "value": NaN}'], models=())
    >>> decoded.rows[0].label, [(refusal.at, refusal.reason.value) for refusal in decoded.refusals]
    (1, [(1, 'non_finite')])
    """
    rows: list[OutcomeRow | None] = []
    slow: list[int] = []
    read: Callable[[object], dict[str, Any]] = _native
    if mapping is None:
        rest = iter(values)
        while len(rows) < len(values):
            try:
                rows.extend(map(_decoder.decode, rest))
            except (ValueError, RecursionError):
                slow.append(len(rows))
                rows.append(None)
    else:
        rows, slow = [None] * len(values), list(range(len(values)))
        read = MappedFormat(Shapes.of({}, kind="predictions"), mapping).native
    refusals = []
    for at in slow:
        try:
            rows[at] = _row(read(parse_foreign(values[at])))
        except Refused as refused:
            refusals.append(Refusal(at, refused.reason, refused.detail, refused.model))
        except RecursionError:
            refusals.append(Refusal(at, DropReason.TOO_DEEP))
        except (ValueError, OverflowError, TypeError) as error:
            refusals.append(Refusal(at, DropReason.DECODE, type(error).__name__))
    if records:
        known = set(models)
        for record, row in zip(records, rows, strict=True):
            if row is not None and not row.model:
                row.model = _hint(record, known)
    return DecodedOutcomes(rows, refusals)


def _hint(record: Record, known: set[str]) -> str | None:
    for name, raw in record.headers or ():
        if name == "model" and raw:
            return raw.decode(errors="replace")
    key = (record.key or b"").decode(errors="replace")
    return key if key in known else None


def _native(parsed: object) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise Refused(DropReason.DECODE, "expected an object")
    return parsed


def _row(event: dict[str, Any]) -> OutcomeRow:
    name: Any = event.get("id")
    ts: Any = event.get("ts")
    model = event.get("model")
    for field, found, kinds, words in (
        ("id", name, (str, int), "text"),
        ("ts", ts, (int, float, str), "a number or text"),
        ("label", event.get("label"), (str, int, float, bool, type(None)), "a class"),
        ("value", event.get("value"), (int, float, type(None)), "a number"),
        ("model", model, (str, type(None)), "text"),
    ):
        if found is None and field in ("id", "ts"):
            raise Refused(DropReason.SCHEMA, f"{field}: is missing", model if isinstance(model, str) else "")
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            raise Refused(DropReason.SCHEMA, f"{field}: expected {words}, got {type(found).__name__}")
        if isinstance(found, int | float) and field != "id" and not math.isfinite(as_float(found)):
            raise Refused(DropReason.NON_FINITE, field)
    echo, value = event.get("prediction"), event.get("value")
    return OutcomeRow(
        id=name,
        ts=ts,
        model=model,
        label=event.get("label"),
        value=None if value is None else as_float(value),
        prediction=_NOTHING if echo is None else msgspec.Raw(json.dumps(echo).encode()),
    )
