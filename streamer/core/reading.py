"""From records to columns: values are looked at, decoded by the input's format, and laid out for admission."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from schemas.events import DropReason
from streamer.core.admission import Arrivals, Unfit
from streamer.core.columns import Column, StructValues, as_text, named
from streamer.core.identities import identities
from streamer.core.outputs import unfit_outputs
from streamer.core.plans import ModelPlan
from streamer.core.profiling_state import ProfilingState
from streamer.core.records import Record
from streamer.core.timestamps import milliseconds
from streamer.formats.lenient import LOOK_FROM, too_deep
from streamer.formats.seam import Refusal
from streamer.formats.shapes import Kind

Ints: TypeAlias = npt.NDArray[np.int64]


def read(
    state: ProfilingState, name: str, kind: Kind, records: Sequence[Record]
) -> tuple[list[Refusal], Arrivals | None]:
    """Decode: refusals by number of the record, and the columns of the other rows."""
    values, sizes, refusals = sound_values(records, limit=state.plans.event_bytes, nesting=state.plans.nesting)
    at = np.arange(len(records))
    if refusals:
        at = np.delete(at, [refusal.at for refusal in refusals])
        picked = at.tolist()
        records, values, sizes = [records[i] for i in picked], [values[i] for i in picked], sizes[at]
    decoded = state.format_of(name, kind).decode(records, values)
    refusals.extend(refusal._replace(at=int(at[refusal.at])) for refusal in decoded.refusals)
    notes = [note._replace(at=int(at[note.at])) for note in decoded.notes]
    shapes = state.format_of(name, kind).shapes
    state.learn(name)
    append = append_times(records)
    if append.size:
        state.appended[name] = max(state.appended.get(name, -1), int(append.max()))
    rows: Sequence[Any] = decoded.rows
    if decoded.refusals:
        kept = np.array([row is not None for row in rows], dtype=bool)
        rows = [row for row in rows if row is not None]
        at, sizes, append = at[kept], sizes[kept], append[kept]
    if not rows:
        return refusals, None
    columns: dict[str, Column] = dict(zip(shapes.slots, zip(*map(astuple, rows), strict=True), strict=True))
    codes = np.fromiter(map(shapes.codes.__getitem__, map(type, rows)), dtype=np.int64, count=len(rows))
    there = np.flatnonzero(np.bincount(codes, minlength=len(shapes.by_model)))
    names = list(shapes.by_model)
    models = tuple(names[code] for code in there.tolist())
    model = np.searchsorted(there, codes)
    plans = [state.plans.models[kind][one] for one in models]
    words, key, unfit, anonymous = None, None, list[Unfit](), None
    nameless = columns["id"].count(None)
    if nameless < len(rows) and kind == "predictions":
        ids = as_text(columns["id"])
        words, unfit = identify(ids, plans, model)
        key = state.plans.join_keys(ids)
        if nameless:  # by a mapping that names no id, beside others that do
            anonymous = np.array([name is None for name in columns["id"]], dtype=bool)
            unfit = [one._replace(rows=one.rows[~anonymous[one.rows]]) for one in unfit]
    if kind == "predictions":
        unfit += unfit_outputs(columns, append, model, [state.plans.joined.get(one, ()) for one in models])
    limits = np.array([plan.sketch.event_bytes for plan in plans])
    if int(sizes.max()) > int(limits.min()):
        unfit.append(Unfit(np.flatnonzero(sizes > limits[model]), DropReason.TOO_LARGE, ""))
    arrivals = Arrivals(
        at=at,
        models=models,
        model=model,
        ts=milliseconds(columns["ts"]),
        append=append,
        identity=words,
        anonymous=anonymous,
        unfit=unfit,
        version=named(columns["version"]),
        values=StructValues(shapes, columns, at, notes),
        key=key,
    )
    return refusals, arrivals


def sound_values(records: Sequence[Record], *, limit: int, nesting: int) -> tuple[list[bytes], Ints, list[Refusal]]:
    """Values and their sizes, and refusals of those that no decoder should see."""
    found = list(map(attrgetter("value"), records))
    refusals = []
    if None in found:
        refusals = [Refusal(at, DropReason.DECODE, "no value") for at, value in enumerate(found) if value is None]
        found = [value or b"" for value in found]
    sizes = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
    for at in np.flatnonzero((sizes >= LOOK_FROM) | (sizes > limit)).tolist():
        if sizes[at] > limit:
            refusals.append(Refusal(at, DropReason.TOO_LARGE, f"{sizes[at]} bytes"))
        elif too_deep(found[at], nesting):
            refusals.append(Refusal(at, DropReason.TOO_DEEP))
    return found, sizes, refusals


def append_times(records: Sequence[Record]) -> Ints:
    """Append times of records, ms; -1 where unknown."""
    times = list(map(attrgetter("timestamp"), records))
    if None in times:
        times = [-1 if time is None else time for time in times]
    return np.fromiter(times, dtype=np.int64, count=len(times))


def identify(
    ids: Sequence[str | None], plans: Sequence[ModelPlan], model: Ints
) -> tuple[npt.NDArray[np.uint64], list[Unfit]]:
    """Identities of rows by their ids; those whose id is empty or too long. plans: by code of `model` (n,)."""
    texts = [text or "" for text in ids]
    limits = np.array([plan.sketch.string_length for plan in plans])
    cut = int(limits.max()) + 1
    if max(map(len, texts)) >= cut:
        texts = [text[:cut] for text in texts]
    salts = np.array([plan.salt for plan in plans], dtype=np.uint64)
    words, lengths = identities(texts, salts[model])
    unfit = []
    if int(lengths.min()) == 0:
        unfit.append(Unfit(np.flatnonzero(lengths == 0), DropReason.SCHEMA, "id: is empty"))
    if int(lengths.max()) > int(limits.min()):
        unfit.append(Unfit(np.flatnonzero(lengths > limits[model]), DropReason.OVER_LIMIT, "id"))
    return words, unfit
