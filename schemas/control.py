"""Records of the compacted `control` topic: everything that changes a result and is not an event.

Keys: `cluster` · `layout|<model>|<from_ms>` · `mapping|<input>|<from_ms>` · `reference|<id>|head` ·
`reference|<id>|<i>` (raw bytes) · `approval|<trigger id>` (a `schemas.triggers.Approval`) · `mark|<incident id>` (a
`schemas.alerts.Mark`). Values are JSON but for the reference chunks.
"""

from __future__ import annotations

from typing import Literal

import msgspec

CONTROL_FORMAT = 1
#: A reference travels in chunks of at most this many bytes.
CHUNK_BYTES = 512 * 1024


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Partition counts fixed at creation: `sources` of the inputs, `profiles` of the profiles topic."""

    sources: int
    profiles: int
    format: int = CONTROL_FORMAT


class ReferenceHead(msgspec.Struct, frozen=True, kw_only=True):
    """Published last: how many chunks a reference has. Usable only when their SHA-256 is `sha256`."""

    id: str
    chunks: int
    size: int
    sha256: str


class InputMapping(msgspec.Struct, frozen=True, kw_only=True):
    """How the records of an input are read that were appended at `from_ms` or later.

    By append time, the one time that a record has before it is decoded: which mapping reads a record is then a function
    of the record alone, the same in every replay. native: they are events of ours, and the rest says nothing.
    fields, features, constants, timestamp: see `streamer.formats.mapping.TopicMapping`.
    """

    input: Literal["predictions", "features", "outcomes"]
    from_ms: int = 0
    native: bool = False
    fields: dict[str, str] = {}
    features: dict[str, str] | str = {}
    constants: dict[str, str | int | float | bool] = {}
    timestamp: str = "ms"
    format: int = CONTROL_FORMAT
