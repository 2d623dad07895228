"""What was learned of one feature in one view, and how a file of a reference holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.directions import STEP_BITS, Directions
from detectors.packed import pack, unpack, unpack_ints
from schemas.errors import ReferenceFileError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

HOURS = 168


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureReference:
    """What was learned of one feature in one view; k directions, s time scales.

    counts: (width,) cleaned counts by column of the spec. profile: (168, k) mean of each direction by hour of the week,
    Monday 00:00 local first, at the centres of the hours. v: (s, k) variance of block sums per row, m3: (s, k) third
    moment per row, n_bar: (s,) Σn²/Σn, each over blocks as long as `scales_ms` (s,), ascending.
    excluded: [from, to) in ms that cleaning left out.
    """

    counts: Ints
    directions: Directions
    profile: Floats
    scales_ms: Ints
    v: Floats
    m3: Floats
    n_bar: Floats
    excluded: tuple[tuple[int, int], ...] = ()

    @property
    def n(self) -> int:
        """N_ref: cleaned rows."""
        return int(self.counts.sum())


def content(feature: FeatureReference) -> dict[str, Any]:
    """Its part of the document of a reference."""
    along = feature.directions
    return {
        "counts": pack(feature.counts),
        "directions": list(along.names),
        "kinds": list(along.kinds),
        "phi": pack(along.phi, STEP_BITS),
        "q": pack(np.nan_to_num(along.q), 40),
        "upward_only": [bool(flag) for flag in along.upward_only],
        "weights": [float(weight) for weight in along.weights],
        "profile": pack(feature.profile, STEP_BITS),
        "scales_ms": [int(scale) for scale in feature.scales_ms],
        "v": pack(feature.v, STEP_BITS),
        "m3": pack(feature.m3, STEP_BITS),
        "n_bar": pack(feature.n_bar, STEP_BITS),
        "excluded": [list(span) for span in feature.excluded],
    }


class FeatureDocument(msgspec.Struct, forbid_unknown_fields=True):
    """What `content` writes, as it is read."""

    counts: dict[str, Any]
    directions: tuple[str, ...]
    kinds: tuple[str, ...]
    phi: dict[str, Any]
    q: dict[str, Any]
    upward_only: list[bool]
    weights: list[float]
    profile: dict[str, Any]
    scales_ms: list[int]
    v: dict[str, Any]
    m3: dict[str, Any]
    n_bar: dict[str, Any]
    excluded: tuple[tuple[int, int], ...]


def loaded(document: FeatureDocument, width: int, place: str) -> FeatureReference:
    """From its part of a document, of a feature with so many columns; `ReferenceFileError` with the place."""
    k, s = len(document.directions), len(document.scales_ms)
    for name, size in (
        ("kinds", len(document.kinds)),
        ("upward_only", len(document.upward_only)),
        ("weights", len(document.weights)),
    ):
        if size != k:
            raise ReferenceFileError(f"{place}.{name}: {size} entries for {k} directions")
    q = unpack(document.q, (k,), 40, f"{place}.q")
    return FeatureReference(
        counts=unpack_ints(document.counts, (width,), f"{place}.counts"),
        directions=Directions(
            names=document.directions,
            kinds=document.kinds,
            phi=unpack(document.phi, (width, k), STEP_BITS, f"{place}.phi"),
            q=np.where(np.array([kind == "shape" for kind in document.kinds], dtype=np.bool_), np.nan, q),
            upward_only=np.array(document.upward_only, dtype=np.bool_),
            weights=np.array(document.weights, dtype=np.float64),
        ),
        profile=unpack(document.profile, (HOURS, k), STEP_BITS, f"{place}.profile"),
        scales_ms=np.array(document.scales_ms, dtype=np.int64),
        v=unpack(document.v, (s, k), STEP_BITS, f"{place}.v"),
        m3=unpack(document.m3, (s, k), STEP_BITS, f"{place}.m3"),
        n_bar=unpack(document.n_bar, (s,), STEP_BITS, f"{place}.n_bar"),
        excluded=document.excluded,
    )
