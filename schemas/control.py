"""Records of the compacted `control` topic: everything that changes a result and is not an event.

Keys: `cluster` · `layout|<model>|<from_ms>` · `reference|<id>|head` · `reference|<id>|<i>` (raw bytes) ·
`approval|<trigger id>` (a `schemas.triggers.Approval`). Values are JSON but for the reference chunks.
"""

from __future__ import annotations

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
