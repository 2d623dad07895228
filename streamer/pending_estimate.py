"""How many predictions will wait for outcomes, and what that takes: rate × horizon × bytes, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from detectors.references import Reference
from schemas.layouts import Layout
from streamer import spans
from streamer.applying import rate_of
from streamer.core.plans import outcome_table

#: Bytes of a pending row with a score or a label; a multiclass or a regression's row has more.
ROW_BYTES, MORE_BYTES = 40, 16
_DAY_MS = 86_400_000


class PendingEstimate(NamedTuple):
    """rows, bytes: of all partitions together. words: the sum by model."""

    rows: int
    bytes: int
    words: str


def pending_estimate(layouts: Mapping[str, Layout], references: Mapping[str, Reference]) -> PendingEstimate | None:
    """What the models with outcomes will keep, by the rates of their references; None where nothing is joined."""
    rows = size = 0
    parts = []
    for name, layout in layouts.items():
        table = outcome_table(references[name], layout)
        if table is None:
            continue
        kept_ms = layout.horizon_ms + layout.hold_ms
        rate = rate_of(references[name])
        of_model = round(rate * kept_ms / _DAY_MS)
        rows += of_model
        size += of_model * (ROW_BYTES if table.spec.kind == "binary" else ROW_BYTES + MORE_BYTES)
        parts.append(f"{name} {rate:,.0f} a day × {spans.words(kept_ms)}")
    if not parts:
        return None
    return PendingEstimate(rows, size, ", ".join(parts))


def too_many(estimate: PendingEstimate, *, limit: int, partitions: int) -> str:
    """Why so many rows cannot be kept by tasks of `limit` rows each; "" where they can.

    >>> estimate = PendingEstimate(9_000_000, 360_000_000, "credit 1,285,714 a day × 7d")
    >>> too_many(estimate, limit=5_000_000, partitions=1)[:58], too_many(estimate, limit=5_000_000, partitions=2)
    ('is too little: 9,000,000 predictions would wait for outcom', '')
    """
    each = -(-estimate.rows // max(1, partitions))
    if each <= limit:
        return ""
    return (
        f"is too little: {estimate.rows:,} predictions would wait for outcomes ({estimate.words}), {each:,} in each of "
        f"{partitions} partitions; at {estimate.bytes // max(1, estimate.rows)} bytes each that takes "
        f"{estimate.bytes / 1e6:.0f} MB"
    )
