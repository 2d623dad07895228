"""Our own events as JSON: typed decoding first, the lenient way for the few that it refuses.

The model is what the event says. Only where it says none, a record header `model` (`feature_set` for feature rows)
speaks for it, or else the record's key where that is the name of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from streamer.core.records import Record
from streamer.formats.lenient import parse, parse_native
from streamer.formats.seam import Decoded, decode_each
from streamer.formats.shapes import TAG, Shape, Shapes, can_be_slot


@dataclass(frozen=True)
class NativeFormat:
    """Decodes the values of an input that carries our own events.

    >>> from streamer.formats.shapes import Sketch
    >>> shapes = Shapes.of({"credit": Sketch(features={"age": "number"})}, kind="predictions")
    >>> values = [b'{"id": "a", "model": "credit", "ts": 5, "features": {"age": 41}}', b"{", b'{"model": "churn"}']
    >>> decoded = NativeFormat(shapes).decode([], values)
    >>> decoded.rows[0].features.f0, [(refusal.at, refusal.reason.value) for refusal in decoded.refusals]
    (41.0, [(1, 'decode'), (2, 'unknown_model')])
    """

    shapes: Shapes
    strangers: dict[str, set[str]] = field(default_factory=dict)

    def decode(self, records: Sequence[Record], values: Sequence[bytes]) -> Decoded:
        """See `streamer.formats.seam.Format`."""
        rows: list[object] = []
        refused: list[int] = []
        decoder = self.shapes.decoder
        if decoder is None:
            return decode_each(values, partial(self._one, records))
        rest = iter(values)
        while len(rows) < len(values):
            try:
                # Stops at the first value that is refused; the rows before it are kept.
                rows.extend(map(decoder.decode, rest))
            except (ValueError, RecursionError):
                refused.append(len(rows))
                rows.append(None)
        if not refused:
            return Decoded(rows, [], [])
        slow = decode_each(values, partial(self._one, records), indices=refused)
        for index in refused:
            rows[index] = slow.rows[index]
        return Decoded(rows, slow.refusals, slow.notes)

    def _one(
        self, records: Sequence[Record], index: int, value: bytes
    ) -> tuple[Shape, object, list[tuple[str, str, str]]]:
        event = parse_native(value)
        tag = TAG[self.shapes.kind]
        named = event.get(tag) is not None or not records
        hint = "" if named else _hint(records[index], tag, self.shapes)
        shape, row, notes = parse(event, self.shapes, hint=hint)
        for kind, _, name in notes:
            if kind == "unknown":
                seen = self.strangers.get(shape.model) or set(shape.strangers)
                fits = len(name) <= shape.sketch.string_length and can_be_slot(name)
                if fits and name not in seen and len(seen) < shape.sketch.strangers:
                    self.strangers[shape.model] = seen | {name}
        return shape, row, notes


def _hint(record: Record, tag: str, shapes: Shapes) -> str:
    for name, raw in record.headers or ():
        if name == tag and raw:
            return raw.decode(errors="replace")
    name = (record.key or b"").decode(errors="replace")
    return name if name in shapes.by_model else ""
