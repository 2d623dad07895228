"""The table of a pane: what is counted for one cell, as one flat vector of int64 that adds under `+`.

Sections, in order: `n` (1) · every feature's columns (`FeatureSpec.columns`) · `sums` (1 per numeric feature, fixed
point) · `delay` and `latency` (64 logarithmic buckets each) · `cost` (2: n, Σ in millionths) · `status` (2: ok, error)
· `schema` (2: unknown features, wrong-typed values) · `cost_sizes` (64 logarithmic buckets of millionths). Extremes
(least and largest, fixed point) stand beside the table: they merge by min and max, and carry no statistic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

BUCKETS = 64
#: Extremes where there was no value: least > largest.
NO_LEAST, NO_LARGEST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(frozen=True)
class Table:
    """Where things stand in the flat vector of one (reference, layout).

    >>> table = Table((FeatureSpec(name="c", kind="categorical", levels=("a", "b")),))
    >>> table.features["c"], table.width
    (slice(1, 5, None), 203)
    """

    specs: tuple[FeatureSpec, ...]
    features: dict[str, slice] = field(init=False)

    def __post_init__(self) -> None:
        at, places = 1, {}
        for spec in self.specs:
            places[spec.name] = slice(at, at + spec.width)
            at += spec.width
        object.__setattr__(self, "features", places)

    @cached_property
    def numeric(self) -> tuple[FeatureSpec, ...]:
        """Numeric features, in order."""
        return tuple(spec for spec in self.specs if spec.kind == "numeric")

    @cached_property
    def categorical(self) -> tuple[FeatureSpec, ...]:
        """Categorical features, in order."""
        return tuple(spec for spec in self.specs if spec.kind == "categorical")

    @cached_property
    def sums(self) -> slice:
        """Fixed-point sums of the numeric features."""
        at = 1 + sum(spec.width for spec in self.specs)
        return slice(at, at + len(self.numeric))

    @cached_property
    def delay(self) -> slice:
        """Append time less event time, in `bucket_of` buckets of ms."""
        return slice(self.sums.stop, self.sums.stop + BUCKETS)

    @cached_property
    def latency(self) -> slice:
        """`latency_ms` of predictions, in `bucket_of` buckets."""
        return slice(self.delay.stop, self.delay.stop + BUCKETS)

    @cached_property
    def cost(self) -> slice:
        """Events with a cost, and their sum in millionths."""
        return slice(self.latency.stop, self.latency.stop + 2)

    @cached_property
    def status(self) -> slice:
        """Events with status ok, with another."""
        return slice(self.cost.stop, self.cost.stop + 2)

    @cached_property
    def schema(self) -> slice:
        """Unknown features seen, values of a wrong type."""
        return slice(self.status.stop, self.status.stop + 2)

    @cached_property
    def cost_sizes(self) -> slice:
        """`cost` of predictions in millionths, in `bucket_of` buckets: from a millionth to three thousand."""
        return slice(self.schema.stop, self.schema.stop + BUCKETS)

    @cached_property
    def width(self) -> int:
        """Length of the vector."""
        return int(self.cost_sizes.stop)

    def holds(self, width: int) -> bool:
        """True for the width of a vector of this table, or of one that was counted before there were `cost_sizes`."""
        return width in (self.width, self.cost_sizes.start)


def bucket_of(milliseconds: Floats) -> Ints:
    """Logarithmic bucket, two per doubling: 0 below 1 ms, then 1 + floor(2·log2(x)), at most 63.

    >>> bucket_of(np.array([0.2, 1.0, 1.5, 2.0, 1e30]))
    array([ 0,  1,  2,  3, 63])
    """
    safe = np.maximum(milliseconds, 1.0)
    return np.where(milliseconds < 1.0, 0, np.minimum(1 + np.floor(2 * np.log2(safe)), BUCKETS - 1)).astype(np.int64)


def bucket_quantile(counts: Ints, share: float) -> float | None:
    """Upper end, in ms, of the bucket in which the `share` quantile lies; None without events.

    >>> bucket_quantile(np.array([0, 9, 0, 1]), 0.5)
    1.4142135623730951
    """
    total = int(counts.sum())
    if total == 0:
        return None
    bucket = int(np.searchsorted(np.cumsum(counts), share * total))
    return float(2.0 ** (bucket / 2))
