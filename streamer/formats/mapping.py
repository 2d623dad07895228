r"""Events that are not ours, read by a mapping: where in the foreign JSON each of our fields is.

A path is keys and list positions joined by dots, `output.scores.0`; a dot inside a key is written `\.`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from schemas.events import DropReason
from streamer.core.records import Record
from streamer.formats.lenient import Refused, parse, parse_foreign
from streamer.formats.seam import Decoded, decode_each
from streamer.formats.shapes import HEAD, OUTCOME, OUTPUTS, TAG, Shape, Shapes

Path: TypeAlias = tuple[str | int, ...]

FIELDS = frozenset(HEAD + OUTPUTS + OUTCOME + tuple(TAG.values())) - {"features"}
_PARTS = ("segment.", "proba.")
_UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class TopicMapping:
    """How an input that is not ours is read; plain data, as it stands in the configuration.

    fields: our field → path. `segment.NAME` and `proba.NAME` name one entry; `segment` and `proba` a whole object.
    Without `id` a record's place in the log is its id: nothing repeats, and no outcome can be joined.
    features: name → path, or `path.*` for a whole object (`*` for the record itself).
    constants: our field → value, for what the records do not say (`model`, most often).
    timestamp: `ms`, `s`, `us`, `ns`, `rfc3339`, or a strptime format; a time without an offset is UTC.

    >>> TopicMapping(fields={"ts": "meta.at"}, features="in.*", constants={"model": "credit"}).timestamp
    'ms'
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] | str = field(default_factory=dict)
    constants: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    timestamp: str = "ms"

    def __post_init__(self) -> None:
        for name in (*self.fields, *self.constants):
            if name not in FIELDS and not name.startswith(_PARTS):
                raise ValueError(f"fields: {name!r} is none of ours; they are {', '.join(sorted(FIELDS))}")
        if "ts" not in self.fields:
            raise ValueError("fields: ts must be mapped")
        if isinstance(self.features, str) and not (self.features == "*" or self.features.endswith(".*")):
            raise ValueError(f"features: must be name: path, or end in `.*`, got {self.features!r}")
        if self.timestamp not in (*_UNITS, "rfc3339") and "%" not in self.timestamp:
            raise ValueError(f"timestamp: must be ms, s, us, ns, rfc3339 or a strptime format, got {self.timestamp!r}")


@dataclass(frozen=True)
class MappedFormat:
    """Decodes the values of one input by a `TopicMapping`."""

    shapes: Shapes
    mapping: TopicMapping

    def decode(self, records: Sequence[Record], values: Sequence[bytes]) -> Decoded:
        """See `streamer.formats.seam.Format`."""
        return decode_each(values, lambda _, value: self._one(value))

    @property
    def strangers(self) -> dict[str, set[str]]:
        """Nothing: names that the reference lacks cost no more here than others."""
        return {}

    def _one(self, value: bytes) -> tuple[Shape, object, list[tuple[str, str, str]]]:
        return parse(self.native(parse_foreign(value)), self.shapes, identified="id" in self.mapping.fields)

    def native(self, foreign: object) -> dict[str, object]:
        """One foreign event as one of ours; a time that cannot be read is `Refused`.

        >>> shapes = Shapes.of({}, kind="predictions")
        >>> mapping = TopicMapping(fields={"ts": "at", "score": "out.1"}, features={"age": "in.age"}, timestamp="s")
        >>> MappedFormat(shapes, mapping).native({"at": 1.5, "out": [0.9, 0.1], "in": {"age": 41}})
        {'ts': 1500, 'score': 0.1, 'features': {'age': 41}}
        """
        event: dict[str, object] = dict(self.mapping.constants)
        for name, path in self._fields:
            found = _look(foreign, path)
            if found is None:
                continue
            whole, _, part = name.partition(".")
            if part:
                entries = event.setdefault(whole, {})
                if isinstance(entries, dict):
                    entries[part] = found
            else:
                event[name] = self._time(found) if name in ("ts", "outcome_ts") else found
        event["features"] = self._features(foreign)
        return event

    @cached_property
    def _fields(self) -> tuple[tuple[str, Path], ...]:
        return tuple((name, split(path)) for name, path in self.mapping.fields.items())

    @cached_property
    def _named(self) -> tuple[tuple[str, Path], ...]:
        if isinstance(self.mapping.features, str):
            return ()
        return tuple((name, split(path)) for name, path in self.mapping.features.items())

    @cached_property
    def _whole(self) -> Path | None:
        if not isinstance(self.mapping.features, str):
            return None
        return split(self.mapping.features[:-2]) if self.mapping.features != "*" else ()

    def _features(self, foreign: object) -> object:
        if self._whole is not None:
            found = _look(foreign, self._whole)
            return found if found is not None else {}
        # An absent path is a lacking feature, as a null is.
        return {name: _look(foreign, path) for name, path in self._named}

    def _time(self, found: object) -> object:
        written = self.mapping.timestamp
        if written in _UNITS:
            if isinstance(found, str):
                try:
                    found = float(found) if not found.isdigit() else int(found[:40])
                except ValueError:
                    raise Refused(DropReason.SCHEMA, f"ts: expected a number of {written}, got text") from None
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise Refused(DropReason.SCHEMA, f"ts: expected a number of {written}")
            if isinstance(found, int):  # exactly: nanoseconds do not fit a float
                return found * 1000 if written == "s" else found // {"ms": 1, "us": 1000, "ns": 1_000_000}[written]
            # 1.015 s is 1014.9999999999999 ms in floats: to the nearest, where it is a number of something else.
            number = found * _UNITS[written]
            return round(number) if written == "s" and math.isfinite(number) else number
        if not isinstance(found, str) or written == "rfc3339":
            return found
        try:
            at = dt.datetime.strptime(found, written)  # noqa: DTZ007  naive is UTC, below
        except ValueError:
            raise Refused(DropReason.SCHEMA, f"ts: does not match {written!r}") from None
        at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
        return (at - _EPOCH) // dt.timedelta(milliseconds=1)


def split(path: str) -> Path:
    r"""Keys and list positions of a path.

    >>> split(r"out.scores.0.p\.one")
    ('out', 'scores', 0, 'p.one')
    """
    parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", path)]
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 9 else part for part in parts)


def _look(found: object, path: Path) -> object:
    for key in path:
        if isinstance(found, dict):
            found = found.get(str(key))
        elif isinstance(found, list) and isinstance(key, int) and key < len(found):
            found = found[key]
        else:
            return None
    return found
