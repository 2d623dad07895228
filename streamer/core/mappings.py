"""Which mapping reads a record: of its input's mappings the last one that holds at the record's append time.

Why append time: a mapping says where a record's time is, so it cannot be chosen by it. The append time is there before
anything is decoded, and stays with the record: whoever reads it, and however often, reads it by the same mapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.control import InputMapping
from streamer.core.records import Record
from streamer.formats.mapping import MappedFormat, TopicMapping
from streamer.formats.native import NativeFormat
from streamer.formats.seam import Decoded, Format, Note, Refusal
from streamer.formats.shapes import Shapes

Ints: TypeAlias = npt.NDArray[np.int64]


def topic_mapping(one: InputMapping) -> TopicMapping | None:
    """The mapping as decoders take it; None for our own events. `ValueError` when it cannot work.

    >>> topic_mapping(InputMapping(input="predictions", fields={"ts": "at"})).timestamp
    'ms'
    """
    if one.native:
        return None
    return TopicMapping(fields=one.fields, features=one.features, constants=one.constants, timestamp=one.timestamp)


def input_mapping(name: str, mapping: TopicMapping | None, *, from_ms: int = 0) -> InputMapping:
    """The record of `control` that says so; None for our own events.

    >>> input_mapping("predictions", None, from_ms=5).native
    True
    """
    if mapping is None:
        return InputMapping(input=name, from_ms=from_ms, native=True)  # type: ignore[arg-type]
    return InputMapping(
        input=name,  # type: ignore[arg-type]
        from_ms=from_ms,
        fields=dict(mapping.fields),
        features=mapping.features if isinstance(mapping.features, str) else dict(mapping.features),
        constants=dict(mapping.constants),
        timestamp=mapping.timestamp,
    )


def by_mapping(
    mappings: Sequence[InputMapping], records: Sequence[Record]
) -> list[tuple[TopicMapping | None, list[int]]]:
    """Places of `records` by the mapping that reads them, ascending; before the first mapping they are our own events.

    A record without an append time is read as the oldest ones are.

    >>> from streamer.core.records import PlainRecord
    >>> later = InputMapping(input="predictions", from_ms=1_000, fields={"ts": "at"})
    >>> [(mapping is None, at) for mapping, at in by_mapping([later], [PlainRecord("p", 0, 0, 999, None, b"")])]
    [(True, [0])]
    """
    times = np.array([max(time or 0, 0) for time in map(attrgetter("timestamp"), records)], dtype=np.int64)
    chosen = np.searchsorted(np.array([one.from_ms for one in mappings], dtype=np.int64), times, side="right")
    found = np.unique(chosen).tolist()
    readers = [None, *map(topic_mapping, mappings)]
    return [(readers[code], np.flatnonzero(chosen == code).tolist()) for code in found]


@dataclass(eq=False)
class TimedFormat:
    """Decodes an input whose mapping changes: each record by the one in force at its append time."""

    shapes: Shapes
    mappings: tuple[InputMapping, ...]

    def __post_init__(self) -> None:
        self._native = NativeFormat(self.shapes)

    @property
    def strangers(self) -> dict[str, set[str]]:
        """See `streamer.formats.seam.Format`."""
        return self._native.strangers

    def decode(self, records: Sequence[Record], values: Sequence[bytes]) -> Decoded:
        """See `streamer.formats.seam.Format`."""
        rows: list[object] = [None] * len(values)
        refusals, notes = list[Refusal](), list[Note]()
        for mapping, at in by_mapping(self.mappings, records):
            reader = self._native if mapping is None else MappedFormat(self.shapes, mapping)
            part = reader.decode([records[i] for i in at], [values[i] for i in at])
            for place, row in zip(at, part.rows, strict=True):
                rows[place] = row
            refusals += [refusal._replace(at=at[refusal.at]) for refusal in part.refusals]
            notes += [note._replace(at=at[note.at]) for note in part.notes]
        return Decoded(rows, sorted(refusals), sorted(notes))


def format_for(shapes: Shapes, mappings: Sequence[InputMapping]) -> Format:
    """Decoder of an input; the plain one where nothing depends on the append time."""
    if not mappings:
        return NativeFormat(shapes)
    if len(mappings) == 1 and mappings[0].from_ms <= 0:
        mapping = topic_mapping(mappings[0])
        return NativeFormat(shapes) if mapping is None else MappedFormat(shapes, mapping)
    return TimedFormat(shapes, tuple(mappings))


def news(mappings: Iterable[InputMapping], known: Sequence[InputMapping], *, reached: int) -> InputMapping | None:
    """The first of `mappings` that is not among the `known` and holds at an append time that was `reached` already."""
    return next((one for one in mappings if one not in known and one.from_ms <= reached), None)


def latest(records: Sequence[Record]) -> int:
    """Largest append time of some records, ms; -1 where none has any.

    >>> from streamer.core.records import PlainRecord
    >>> latest([PlainRecord("p", 0, 0, 7, None, b""), PlainRecord("p", 0, 1, 5, None, b"")])
    7
    """
    times = list(map(attrgetter("timestamp"), records))
    return max((time for time in times if time is not None), default=-1) if None in times else max(times, default=-1)
