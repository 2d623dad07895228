"""Outcomes that carry their prediction: the echo is read as a prediction is, and counted in outcome tables only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from schemas.events import EARLIEST_MS, FUTURE_MS, DropReason
from streamer.core import timestamps
from streamer.core.cells import bounded
from streamer.core.columns import StructValues, named
from streamer.core.join_cells import JoinCells
from streamer.core.outputs import unfit_outputs
from streamer.core.plans import Plan, Plans
from streamer.core.predicted import Predicted, concatenated, predicted_of
from streamer.core.records import PlainRecord
from streamer.core.told import Told, pick
from streamer.formats.native import NativeFormat
from streamer.formats.seam import Refusal
from streamer.formats.shapes import Shapes

Ints: TypeAlias = npt.NDArray[np.int64]


def read_echoes(told: Told, plans: Plans, cells: JoinCells) -> tuple[list[Refusal], Told, Predicted | None]:
    """The predictions that outcomes carry: refusals by `told.at`, the other outcomes, and what theirs said."""
    shapes = Shapes.of(plans.sketches("predictions"), kind="predictions")
    # The outcome's model speaks for the echo that names none.
    headers = [(("model", name.encode()),) if name else () for name in told.model]
    records = [PlainRecord(told.topic, 0, 0, 0, None, None, one) for one in headers]
    decoded = NativeFormat(shapes).decode(records, told.echo)
    wrong = {refusal.at: refusal._replace(detail=f"prediction: {refusal.detail}") for refusal in decoded.refusals}
    parts: list[tuple[Ints, Predicted]] = []
    here = np.array([at for at in range(len(decoded.rows)) if at not in wrong], dtype=np.int64)
    if here.size:
        rows = [decoded.rows[at] for at in here.tolist()]
        parts = _parts(rows, here, told, wrong, shapes=shapes, plans=plans, cells=cells)
    refusals = [Refusal(int(told.at[at]), one.reason, one.detail, one.model) for at, one in sorted(wrong.items())]
    if not parts:
        return refusals, pick(told, here[:0]), None
    at = np.concatenate([places for places, _ in parts])
    order = np.argsort(at, kind="stable")
    return refusals, pick(told, at[order]), concatenated([rows for _, rows in parts]).take(order)


def _parts(
    rows: Sequence[Any],
    here: Ints,
    told: Told,
    wrong: dict[int, Refusal],
    *,
    shapes: Shapes,
    plans: Plans,
    cells: JoinCells,
) -> list[tuple[Ints, Predicted]]:
    """By layout: places in `told`, and rows. What cannot be counted goes to `wrong`."""
    columns = dict(zip(shapes.slots, zip(*map(astuple, rows), strict=True), strict=True))
    names = list(shapes.by_model)
    model = [names[shapes.codes[type(row)]] for row in rows]
    ts, version = timestamps.milliseconds(columns["ts"]), named(columns["version"])
    values = StructValues(shapes, columns, here)
    for unfit in unfit_outputs(columns, told.append[here], np.zeros(here.size, dtype=np.int64), [()]):
        for i in unfit.rows.tolist():
            wrong[int(here[i])] = Refusal(int(here[i]), unfit.reason, f"prediction: {unfit.detail}", model[i])
    by_plan: dict[int, list[int]] = {}
    for i, at in enumerate(here.tolist()):
        if at in wrong:
            continue
        reason = _unfit(int(ts[i]), told, at, model[i])
        plan = None if reason else _plan(plans, model[i], int(ts[i]))
        if reason:
            wrong[at] = Refusal(at, reason[0], reason[1], model[i])
        elif plan is None or plan.outcomes is None:
            detail = "outcomes of this model are not joined"
            wrong[at] = Refusal(at, DropReason.UNMATCHED_OUTCOME, detail, model[i])
        else:
            by_plan.setdefault(cells.plans.index(plan), []).append(i)
    parts = []
    for place, chosen in sorted(by_plan.items()):
        plan, mine = cells.plans[place], np.array(chosen, dtype=np.int64)
        layout = plan.layout
        segments = [values.segment(plan, column, mine) for column in (*layout.segments, *layout.marginals)]
        of_version = version._replace(codes=version.codes[mine])
        limit = layout.limits.string_length
        cell = cells.codes(plan, [bounded(column, limit) for column in (of_version, *segments)])
        none = np.zeros(mine.size, dtype=np.int64)
        said = values.said(mine)
        parts.append((here[mine], predicted_of(plan, place, said, ts=ts[mine], append=none, cell=cell, echo=True)))
    return parts


def _unfit(ts: int, told: Told, at: int, model: str) -> tuple[DropReason, str] | None:
    if told.model[at] and told.model[at] != model:
        return DropReason.SCHEMA, f"prediction: is of model {model[:64]!r}, the outcome of another"
    if not EARLIEST_MS <= ts <= timestamps.LATEST_MS:
        return DropReason.SCHEMA, f"prediction: {timestamps.complaint(ts)}"
    append = int(told.append[at])
    return (DropReason.FUTURE, "prediction") if 0 <= append < ts - FUTURE_MS else None


def _plan(plans: Plans, model: str, ts: int) -> Plan | None:
    of_model = plans.models["predictions"][model]
    place = max(0, int(np.searchsorted(of_model.from_ms, ts, side="right")) - 1)
    return of_model.plans[place] if of_model.plans else None
