"""Which column of a table a value is counted in."""

from __future__ import annotations

from typing import Literal

import msgspec


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a reference: its type and its columns.

    Numeric: value bins `(edges[i-1], edges[i]]`, the first open below and the last above, i.e. len(edges) + 1 of them,
    then `below` (x < low), `above` (x > high), `missing`, `non_finite`. low, high: the reference's range.
    scale_bits, clip: a sum is kept as Σ rint(clip(x, ±clip)·2**scale_bits), int64.
    Categorical: one column per level, then `unseen` and `missing`.

    >>> FeatureSpec(name="age", kind="numeric", edges=(30.0, 45.0), low=18.0, high=90.0).columns
    ('bin 0', 'bin 1', 'bin 2', 'below', 'above', 'missing', 'non_finite')
    >>> FeatureSpec(name="country", kind="categorical", levels=("DE", "FR")).width
    4
    """

    name: str
    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    scale_bits: int = 0
    clip: float = 0.0
    levels: tuple[str, ...] = ()

    @property
    def value_bins(self) -> int:
        """Columns that hold values seen in the reference: bins or levels."""
        return len(self.edges) + 1 if self.kind == "numeric" else len(self.levels)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        if self.kind == "numeric":
            return (*(f"bin {i}" for i in range(self.value_bins)), "below", "above", "missing", "non_finite")
        return (*self.levels, "unseen", "missing")

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.value_bins + (4 if self.kind == "numeric" else 2)
