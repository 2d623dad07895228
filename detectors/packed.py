"""Arrays of fixed-point integers as a file of a reference keeps them: base64 of zlib of little-endian int64."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.directions import STEP_BITS
from schemas.errors import ReferenceFileError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_LARGEST_ARRAY = 1 << 28


def fixed(values: Floats, bits: int = STEP_BITS) -> Floats:
    """Values as the file keeps them, rounded to multiples of 2**-bits: what is built equals what is loaded."""
    rounded: Floats = np.ldexp(np.rint(np.ldexp(values, bits)), -bits)
    return rounded + 0.0  # no negative zeros


def pack(values: npt.NDArray[Any], bits: int = 0) -> dict[str, Any]:
    """An array for the file, in multiples of 2**-bits: its shape, and base64 of zlib of little-endian int64.

    >>> unpack(pack(np.array([0.5, -0.25]), 2), (2,), 2, "here")
    array([ 0.5 , -0.25])
    """
    whole = np.rint(np.ldexp(values, bits)) if bits else values
    raw = np.ascontiguousarray(whole).astype("<i8").tobytes()
    return {"shape": list(values.shape), "data": base64.b64encode(zlib.compress(raw, 6)).decode()}


def unpack_ints(packed: dict[str, Any], shape: tuple[int, ...], place: str) -> Ints:
    """Integers from what `pack` made of them; `ReferenceFileError` with the place for another shape, or damage."""
    if packed.get("shape") != list(shape):
        raise ReferenceFileError(f"{place}: shape {packed.get('shape')}, expected {list(shape)}")
    size = 8 * int(np.prod(shape))
    if size > _LARGEST_ARRAY:
        raise ReferenceFileError(f"{place}: {size} bytes are too many")
    try:
        # Bounded: a damaged stream must not blow up memory.
        raw = zlib.decompressobj().decompress(base64.b64decode(str(packed.get("data")), validate=True), size + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise ReferenceFileError(f"{place}: {error}") from error
    if len(raw) != size:
        raise ReferenceFileError(f"{place}: {len(raw)} bytes for shape {list(shape)}")
    return np.frombuffer(raw, dtype="<i8").astype(np.int64).reshape(shape)


def unpack(packed: dict[str, Any], shape: tuple[int, ...], bits: int, place: str) -> Floats:
    """Values from what `pack` made of them; errors as of `unpack_ints`."""
    values: Floats = np.ldexp(unpack_ints(packed, shape, place).astype(np.float64), -bits)
    return values
