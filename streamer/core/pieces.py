"""Values of a changelog that are too large for one record travel in several: pieces, and a head that counts them.

Why: a topic takes a megabyte by Kafka's default. The members of an incident of six thousand monitors, or a held pane of
five hundred busy cells, are more; refused by the broker, such a value would end every worker that has the task.

All pieces of a value are written in one transaction, under keys of their own, and the head last: of each key the
latest is kept, so what a restore joins is of one write. The head is of a newer format than what it stands for: a worker
that knows nothing of pieces refuses the changelog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from schemas.errors import FormatError
from streamer.core.records import Output

PIECE_BYTES = 512 * 1024
PIECES_FORMAT = 2
#: What the keys of pieces begin with.
_PIECE = b"piece|"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What stands under the key of a value in pieces: how many, and how long they are together."""

    pieces: int
    size: int
    format: int = PIECES_FORMAT


def in_pieces(outputs: Iterable[Output], counts: dict[bytes, int], *, size: int = PIECE_BYTES) -> list[Output]:
    """The changelog records `outputs`, those of more than `size` bytes in pieces.

    counts: pieces of each key that has any, as they are in the changelog; brought up to date. Pieces that a shorter
    value no longer has are taken away.

    >>> counts = {}
    >>> [len(one.value) for one in in_pieces([Output("changelog", b"held|0", bytes(600_000))], counts)][:2], counts
    ([524288, 75712], {b'held|0': 2})
    >>> [(one.key, one.value) for one in in_pieces([Output("changelog", b"held|0", None)], counts)]
    [(b'piece|0|held|0', None), (b'piece|1|held|0', None), (b'held|0', None)]
    """
    found = []
    for output in outputs:
        key, value = output.key, output.value
        before, pieces = counts.pop(key, 0), list[bytes]()
        if value is not None and len(value) > size:
            pieces = [value[at : at + size] for at in range(0, len(value), size)]
            counts[key] = len(pieces)
        found += [output._replace(key=_piece(at, key), value=piece) for at, piece in enumerate(pieces)]
        found += [output._replace(key=_piece(at, key), value=None) for at in range(len(pieces), before)]
        head = msgspec.msgpack.encode(Head(pieces=len(pieces), size=len(value or b"")))
        found.append(output._replace(value=head) if pieces else output)
    return found


def joined(found: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
    """The latest values of a changelog, whole again, and `counts` as of `in_pieces`; `FormatError` when one lacks.

    >>> counts = {}
    >>> outputs = in_pieces([Output("changelog", b"held|0", bytes(600_000))], counts)
    >>> whole, again = joined({one.key: one.value for one in outputs})
    >>> {key: len(value) for key, value in whole.items()}, again == counts
    ({b'held|0': 600000}, True)
    """
    pieces = {key: value for key, value in found.items() if key.startswith(_PIECE)}
    whole = {key: value for key, value in found.items() if key not in pieces}
    counts = {}
    for key in dict.fromkeys(key.split(b"|", 2)[2] for key in pieces):
        head = _head(key, whole.get(key, b""))
        parts = [pieces.get(_piece(at, key), b"") for at in range(head.pieces)]
        value = b"".join(parts)
        if len(value) != head.size:
            told = f"{len(value)} bytes in {head.pieces} pieces"
            raise FormatError(f"changelog {key!r}: {told}, the head says {head.size}")
        whole[key], counts[key] = value, head.pieces
    return whole, counts


def _head(key: bytes, raw: bytes) -> Head:
    try:
        return msgspec.msgpack.decode(raw, type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"changelog {key!r}: pieces without a head: {error}") from error


def _piece(at: int, key: bytes) -> bytes:
    return _PIECE + b"%d|" % at + key
