"""What every log format gives: one row per record, or the reason why there is none. A format is one small file.

`native.py` reads our own events, `mapping.py` foreign JSON. A format that carries many rows in a record (an Arrow
stream, DESIGN 4.7) hands columns to `streamer.core.table_values.TableValues` in place of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from schemas.events import DropReason
from streamer.core.records import Record
from streamer.formats.lenient import Refused
from streamer.formats.shapes import Shape, Shapes


class Refusal(NamedTuple):
    """A record that is not counted. at: its number in the batch."""

    at: int
    reason: DropReason
    detail: str = ""
    model: str = ""


class Note(NamedTuple):
    """Something odd about a row that *is* counted: an `unknown` feature (by name), or a `wrong_type` (of a feature)."""

    at: int
    kind: str
    feature: str
    name: str


class Decoded(NamedTuple):
    """rows: one instance of a `Shape.struct` per value, None where refused; the rest by number of the value."""

    rows: list[object]
    refusals: list[Refusal]
    notes: list[Note]


class Format(Protocol):
    """Turns values into rows. Never raises, whatever the bytes."""

    def decode(self, records: Sequence[Record], values: Sequence[bytes]) -> Decoded:
        """Rows of `values`, which are those of `records`."""
        ...

    @property
    def shapes(self) -> Shapes:
        """The structs that its rows are instances of."""
        ...

    @property
    def strangers(self) -> dict[str, set[str]]:
        """Names of features seen that the references lack, by model, at most `Sketch.strangers` each.

        Worth knowing to the decoder.
        """
        ...


#: Reads the value at an index slowly but surely: its shape, row and notes (kind, feature, name); or raises `Refused`.
One = Callable[[int, bytes], tuple[Shape, object, list[tuple[str, str, str]]]]


def decode_each(values: Sequence[bytes], one: One, *, indices: Sequence[int] | None = None) -> Decoded:
    """Rows of the values at `indices` (all of them by default), one by one; other rows are None."""
    rows: list[object] = [None] * len(values)
    refusals: list[Refusal] = []
    notes: list[Note] = []
    for index in range(len(values)) if indices is None else indices:
        try:
            _, rows[index], odd = one(index, values[index])
        except Refused as refused:
            refusals.append(Refusal(index, refused.reason, refused.detail, refused.model))
        except RecursionError:
            refusals.append(Refusal(index, DropReason.TOO_DEEP))
        except (ValueError, OverflowError, TypeError, msgspec.MsgspecError) as error:
            # The door: what a parser cannot read is a bad record, whatever it calls it.
            refusals.append(Refusal(index, DropReason.DECODE, type(error).__name__))
        else:
            notes.extend(Note(index, *note) for note in odd)
    return Decoded(rows, refusals, notes)
