"""What was counted, as records of `profiles`: at most 512 KB each, split between cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.profiles import Delta, DeltaRow, Progress, encode, encode_ints, encode_sparse
from streamer.core.cells import Counted
from streamer.core.plans import Plan
from streamer.core.records import Output

Ints: TypeAlias = npt.NDArray[np.int64]

#: A record of `profiles` is no larger than this, but for a single cell that is.
RECORD_BYTES = 512 * 1024


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What all records of one transaction to one partition of `profiles` have in common."""

    source: int
    begin: int
    end: int
    seq: int


def deltas(plan: Plan, counted: Counted, *, max_ts: int, transaction: Transaction) -> list[Delta]:
    """Deltas of one layout, not numbered yet: `part` and `parts` come last, by `numbered`."""
    return list(_split(plan, counted, max_ts, transaction))


def numbered(records: list[Delta | Progress], *, partition: int) -> list[Output]:
    """The records of one transaction to one partition, in order, as parts 0, 1, …"""
    outputs = []
    for part, record in enumerate(records):
        record.part, record.parts = part, len(records)
        key = record.model if isinstance(record, Delta) else f"source|{record.source}"
        outputs.append(Output("profiles", key.encode(), encode(record), partition))
    return outputs


def fits(rows: Sequence[DeltaRow], size: int) -> bool:
    """Whether rows, with so many bytes beside their names, go into one record; a single row always does."""
    texts = sum(len(row.version) + len(row.marginal) + sum(map(len, row.segment)) for row in rows)
    return len(rows) <= 1 or size + 4 * texts + 16 * len(rows) <= RECORD_BYTES - 1024


def delta_of(
    plan: Plan, rows: list[DeltaRow], transaction: Transaction, *, max_ts: int, width: int, body: bytes, **more: Any
) -> Delta:
    """A delta of one layout; it is numbered later. more: further fields of it."""
    return Delta(
        source=transaction.source,
        begin=transaction.begin,
        end=transaction.end,
        part=0,
        parts=1,
        seq=transaction.seq,
        model=plan.layout.model,
        layout=plan.id,
        max_ts=max_ts,
        width=width,
        rows=rows,
        body=body,
        **more,
    )


def _split(plan: Plan, counted: Counted, max_ts: int, transaction: Transaction) -> Iterator[Delta]:
    body, extremes = encode_sparse(counted.counts.ravel()), encode_ints(counted.extremes.ravel())
    named = sum(len(extra.feature) + len(extra.name) for extra in counted.extras) * 4 + 16 * len(counted.extras)
    rows = len(counted.rows)
    if not fits(counted.rows, len(body) + len(extremes) + named):
        half = rows // 2
        yield from _split(plan, _part(counted, 0, half), max_ts, transaction)
        yield from _split(plan, _part(counted, half, rows), max_ts, transaction)
        return
    yield delta_of(
        plan, counted.rows, transaction,
        max_ts=max_ts, width=plan.table.width, body=body, extremes=extremes, extras=counted.extras,
    )  # fmt: skip


def _part(counted: Counted, start: int, stop: int) -> Counted:
    extras = [
        msgspec.structs.replace(extra, row=extra.row - start) for extra in counted.extras if start <= extra.row < stop
    ]
    cut = slice(start, stop)
    return Counted(counted.rows[cut], counted.counts[cut], counted.extremes[cut], extras)
