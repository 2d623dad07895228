"""Which rows of a batch are counted, under which layout, and which are late: per row, in offset order.

The answer for a row depends on the rows before it in the source, never on where a batch ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.events import EARLIEST_MS, FUTURE_MS, DropReason
from streamer.core import timestamps
from streamer.core.columns import Names, Values
from streamer.core.plans import ModelPlan, Plan, missing_reference
from streamer.core.recent import Recent
from streamer.formats.seam import Refusal

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_NO_MAXIMUM = -(1 << 62)


class Unfit(NamedTuple):
    """Rows that are not to be counted, by place, and why."""

    rows: Ints
    reason: DropReason
    detail: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrivals:
    """The decoded rows of a batch, in offset order; all arrays (n,).

    at: numbers of their records. model: codes into `models`. ts: as told, not checked yet. append: append times, -1
    where unknown; None when no row has one. identity: of (model, id); None when no row has an id; anonymous: those
    that have none, when others do. unfit: rows that were found wanting when their columns were made. key: of the id
    alone, by which outcomes are joined.
    """

    at: Ints
    models: tuple[str, ...]
    model: Ints
    ts: Ints
    append: Ints | None
    identity: npt.NDArray[np.uint64] | None
    anonymous: Bools | None = None
    unfit: Sequence[Unfit]
    version: Names
    values: Values
    key: npt.NDArray[np.uint64] | None = None


class Group(NamedTuple):
    """Rows that one layout counts. rows: places in the arrivals, ascending; late: (k,)."""

    plan: Plan
    rows: Ints
    late: Bools


class Admitted(NamedTuple):
    """groups: what is counted; refusals: the others; maxima: running maximum of accepted times by model, after them."""

    groups: list[Group]
    refusals: list[Refusal]
    maxima: dict[str, int]


def admit(
    arrivals: Arrivals, plans: Mapping[str, ModelPlan], *, maxima: Mapping[str, int], recent: Recent | None
) -> Admitted:
    """Decide on every row. `recent` takes in the identities of the rows that are otherwise sound.

    Order of the questions: what the columns said, a time that cannot be, a time ahead of the log, an event seen
    before, a pane no longer held. A row that is refused by one of the first three leaves no trace.
    """
    refusals: list[Refusal] = []
    open_rows = np.ones(arrivals.ts.size, dtype=bool)

    def refuse(rows: Ints, reason: DropReason, details: Sequence[str] = ()) -> None:
        if rows.size:
            open_rows[rows] = False
            models = [arrivals.models[code] for code in arrivals.model[rows].tolist()]
            told = details or [""] * rows.size
            refusals.extend(map(Refusal, arrivals.at[rows].tolist(), [reason] * rows.size, told, models))

    for unfit in arrivals.unfit:
        rows = unfit.rows[open_rows[unfit.rows]]
        refuse(rows, unfit.reason, [unfit.detail] * rows.size)
    ts = arrivals.ts
    unsound = np.flatnonzero(open_rows & ((ts < EARLIEST_MS) | (ts > timestamps.LATEST_MS)))
    if unsound.size:
        refuse(unsound, DropReason.SCHEMA, [timestamps.complaint(time) for time in ts[unsound].tolist()])
    if arrivals.append is not None:
        ahead = open_rows & (ts > arrivals.append + FUTURE_MS) & (arrivals.append >= 0)
        if ahead.any():
            refuse(np.flatnonzero(ahead), DropReason.FUTURE)
    if arrivals.identity is not None and recent is not None:
        rows = np.flatnonzero(open_rows if arrivals.anonymous is None else open_rows & ~arrivals.anonymous)
        windows = np.array([plans[model].window for model in arrivals.models], dtype=np.int64)
        repeated = recent.take(arrivals.identity[rows], windows[arrivals.model[rows]])
        if repeated.any():
            refuse(rows[repeated], DropReason.DUPLICATE)
    groups: list[Group] = []
    after = dict(maxima)
    for code, model in enumerate(arrivals.models):
        rows = np.flatnonzero(open_rows & (arrivals.model == code) if len(arrivals.models) > 1 else open_rows)
        if rows.size:
            kept, gone, after[model] = _by_layout(plans[model], rows, ts[rows], maxima.get(model), plans)
            groups.extend(kept)
            refuse(gone, DropReason.LATE)
    return Admitted(groups, refusals, after)


def _by_layout(
    plan: ModelPlan, rows: Ints, ts: Ints, maximum: int | None, plans: Mapping[str, ModelPlan]
) -> tuple[list[Group], Ints, int]:
    if plan.waiting and (not plan.plans or int(ts.max()) >= min(plan.waiting)):
        raise missing_reference(plan.model, plans)
    layouts = [one.layout for one in plan.plans]
    chosen = np.zeros_like(ts)
    if len(layouts) > 1:
        chosen = np.maximum(np.searchsorted(plan.from_ms, ts, side="right") - 1, 0)
    pane = np.array([layout.pane_ms for layout in layouts], dtype=np.int64)[chosen]
    lateness = np.array([layout.lateness_ms for layout in layouts], dtype=np.int64)[chosen]
    hold = np.array([layout.hold_ms for layout in layouts], dtype=np.int64)[chosen]
    # The maximum before each row; rows that are dropped as late cannot raise it, so they may stay in.
    running = np.maximum.accumulate(np.concatenate([[_NO_MAXIMUM if maximum is None else maximum], ts]))
    behind = (running[:-1] - lateness) - ((ts // pane + 1) * pane)  # how long ago the row's pane should have closed
    late = behind >= 0
    if late.any():
        gone = late & (behind >= hold)
        kept = ~gone
        lost = rows[gone]
        rows, late, chosen = rows[kept], late[kept], chosen[kept]
    else:
        lost = rows[:0]
    groups = []
    for code, one in enumerate(plan.plans):
        mine = chosen == code
        if mine.all():
            groups.append(Group(one, rows, late))
        elif mine.any():
            groups.append(Group(one, rows[mine], late[mine]))
    return (groups if rows.size else []), lost, int(running[-1])
