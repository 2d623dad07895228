"""The frame of a chart's saved state: its format first, so that a newer one is refused before it is misread."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.errors import FormatError


class Framed(msgspec.Struct, array_like=True):
    """What every saved state begins with."""

    format: int


_Saved = TypeVar("_Saved", bound=Framed)

_format_decoder = msgspec.msgpack.Decoder(Framed)


def encoded(saved: Framed) -> bytes:
    """Bytes of a state; equal states give equal bytes."""
    return msgspec.msgpack.encode(saved)


def decoded(raw: bytes, kind: type[_Saved], *, newest: int, what: str) -> _Saved:
    """A state from its bytes; `FormatError` when damaged or of a newer format than `newest`. what: whose state it is.

    >>> decoded(encoded(Framed(1)), Framed, newest=1, what="a chart").format
    1
    """
    try:
        written = _format_decoder.decode(raw).format
        if written > newest:
            raise FormatError(f"state of {what} of format {written}; this one reads up to {newest}")
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"state of {what}: {error}") from error


def array_of(raw: bytes, dtype: str, shape: tuple[int, ...], *, what: str) -> npt.NDArray[Any]:
    """An array of eight-byte numbers in native order; `FormatError` when there are not as many as the shape holds.

    >>> array_of(np.arange(6, dtype="<i8").tobytes(), "<i8", (2, 3), what="a chart").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    if len(raw) != 8 * int(np.prod(shape, dtype=np.int64)):
        raise FormatError(f"state of {what}: {len(raw)} bytes for an array of shape {shape}")
    found = np.frombuffer(raw, dtype=dtype).reshape(shape)
    return found.astype(found.dtype.newbyteorder("="))
