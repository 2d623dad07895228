"""Stage 1: a batch of records of one input partition in, deltas, progress, dead letters and the new position out.

    records -> values -> rows (formats) -> columns -> admitted -> counted by cell -> deltas

What it counted leaves with every batch; every result is a function of the records up to the position, whatever the
batches (DESIGN 3, I1 and I2a). Only records carry time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.rows import Rows, as_levels
from schemas.errors import LateLayout, ProtocolBroken
from schemas.events import DropReason
from schemas.profiles import Delta, Progress
from streamer.core.admission import Admitted, Arrivals, Unfit, admit
from streamer.core.cells import count
from streamer.core.columns import as_text, named
from streamer.core.control import Control
from streamer.core.deltas import Transaction, deltas, numbered
from streamer.core.drops import LETTERS, counted, dead_letters, suppressed
from streamer.core.joined import join_batch, joined
from streamer.core.joining import Join
from streamer.core.mappings import latest, news
from streamer.core.milestones import passed
from streamer.core.outcome_reading import read_outcomes
from streamer.core.outputs import SOONER, unfit_shares
from streamer.core.plans import Plans
from streamer.core.profiling_state import (
    POSITION_KEY,
    ProfilingPosition,
    ProfilingState,
    decode_position,
    from_changelog,
)
from streamer.core.reading import identify, read
from streamer.core.recent import Recent
from streamer.core.records import Batch, Output, PlainRecord, Record
from streamer.core.table_values import TableValues
from streamer.core.told import Told
from streamer.formats.seam import Refusal
from streamer.formats.shapes import Kind

__all__ = ["ProfilingPosition", "ProfilingState", "apply", "decode_position", "profile_rows", "restore", "start"]

#: Inputs of a stage-1 task, by what they carry.
_KINDS: dict[str, Kind] = {"predictions": "predictions", "features": "features"}
_OUTCOMES = "outcomes"


def start(
    control: Control,
    source: int,
    *,
    next: Mapping[str, int] | None = None,
    dead_letter_payload: bool = False,
    dead_letter_limit: int = LETTERS,
) -> ProfilingState:
    """A task that has read nothing yet.

    source: the partition of its inputs. next: first offset to read of each input. dead_letter_limit: letters per batch
    and reason; the others share one.
    """
    plans = Plans.of(control)
    return ProfilingState(
        source=source,
        payload=dead_letter_payload,
        letters=dead_letter_limit,
        plans=plans,
        next=dict(next or {}),
        recent=Recent(plans.window),
        join=Join(plans) if plans.joined else None,
    )


def restore(
    pairs: Iterable[tuple[bytes, bytes | None]],
    control: Control,
    *,
    dead_letter_payload: bool = False,
    dead_letter_limit: int = LETTERS,
) -> ProfilingState | None:
    """The task as its changelog (key, value) pairs say, in order; None when they hold no position: then `start`.

    Raises `FormatError` on a newer or damaged record, `ProtocolBroken` where a digest or a chunk of ids does not fit.
    """
    return from_changelog(pairs, control, payload=dead_letter_payload, letters=dead_letter_limit)


def apply(state: ProfilingState, batch: Batch, control: Control) -> tuple[ProfilingState, list[Output]]:
    """Count a batch. An empty one is a tick: nothing but progress.

    Raises `LateLayout` when `control` brings a layout or a mapping whose time has passed here, `ProtocolBroken` when
    the batch does not begin at the next offset or later, `ReferenceFileError` when a layout's reference is not whole.
    """
    records = batch.records
    _check(state, batch)
    _learn_control(state, control)
    before = state.position
    kind = _KINDS.get(batch.input)
    told = None
    if batch.input == _OUTCOMES:
        state.appended[_OUTCOMES] = max(state.appended.get(_OUTCOMES, -1), latest(records))
        refusals, told = read_outcomes(records, state.plans, state.mappings.get(_OUTCOMES))
        arrivals = None
    elif kind is None:
        raise ProtocolBroken(f"no such input: {batch.input}")
    else:
        refusals, arrivals = read(state, batch.input, kind, records) if records else ([], None)
    state.next[batch.input] = batch.next_offset
    if records:
        state.milestones[batch.input] = passed(state.milestones.get(batch.input, ()), records[-1])
    outputs = _advance(
        state, arrivals, refusals, told, kind=kind, before=before, caught_up=batch.caught_up, consumed=len(records)
    )
    # Whose a bad record is may not be known, nor where in it its features are.
    payload = state.payload and not state.plans.denying
    outputs.extend(dead_letters(records, refusals, payload=payload, letters=state.letters))
    state.suppressed += suppressed(refusals, letters=state.letters)
    return state, outputs


def profile_rows(
    state: ProfilingState,
    rows: Rows,
    control: Control,
    model: str,
    *,
    ids: Sequence[str] | None = None,
    ahead: npt.NDArray[np.bool_] | None = None,
    caught_up: bool = False,
) -> tuple[ProfilingState, list[Output]]:
    """Count rows that came in columns, by the same rules as records: the table's way into stage 1.

    rows: some consecutive rows, in order; their numbers go on from the last call's and stand in dead letters as
    offsets of the topic `rows`. ids: of predictions, when repeats are to be dropped. There is no append time: no
    delay is counted, and in the future are the rows that are `ahead`, (n,). A row without a time is dropped as
    `schema`.
    """
    _learn_control(state, control)
    kind: Kind = "predictions" if model in state.plans.models["predictions"] else "features"
    n, before, first = len(rows), state.position, state.next.get(kind, 0)
    refusals: list[Refusal] = []
    arrivals: Arrivals | None = None
    plan = state.plans.models[kind].get(model)
    if plan is None:
        refusals = [Refusal(at, DropReason.UNKNOWN_MODEL, "", model) for at in range(n)]
    elif n:
        refusals = _unfit_outputs(rows, model) if kind == "predictions" else []
        at = np.delete(np.arange(n), [refusal.at for refusal in refusals])
        if refusals:
            rows, ids = rows.take(at), None if ids is None else [ids[i] for i in at.tolist()]
        rows, outcome, outcome_ts = _aside(rows)
        version = named([None] * at.size if rows.version is None else rows.version.tolist())
        words, unfit = None, list[Unfit]()
        if ids is not None:
            words, unfit = identify(as_text(ids), [plan], np.zeros(at.size, dtype=np.int64))
        if ahead is not None and ahead.any():
            future = Unfit(np.flatnonzero(ahead[at]), DropReason.FUTURE, "far ahead of the rows around it")
            unfit = [future, *unfit]
        arrivals = Arrivals(
            at=at,
            models=(model,),
            model=np.zeros(at.size, dtype=np.int64),
            ts=rows.ts,
            append=None,
            identity=words,
            unfit=unfit,
            version=version,
            values=TableValues(rows, outcome=outcome, outcome_ts=outcome_ts),
        )
    state.next[kind] = first + n
    outputs = _advance(state, arrivals, refusals, kind=kind, before=before, caught_up=caught_up, consumed=n)
    if refusals:
        places: dict[int, Record] = {
            refusal.at: PlainRecord("rows", state.source, first + refusal.at, -1, None, None) for refusal in refusals
        }
        outputs.extend(dead_letters(places, refusals, payload=False))
    return state, outputs


def _aside(rows: Rows) -> tuple[Rows, npt.NDArray[Any] | None, npt.NDArray[np.int64] | None]:
    """Rows without the columns `outcome` and `outcome_ts` (ms), which are no features; and these."""
    outcome, at = rows.columns.get("outcome"), rows.columns.get("outcome_ts")
    if outcome is None and at is None:
        return rows, None, None
    columns = {name: column for name, column in rows.columns.items() if name not in ("outcome", "outcome_ts")}
    return dataclasses.replace(rows, columns=columns), outcome, None if at is None else at.astype(np.int64)


def _unfit_outputs(rows: Rows, model: str) -> list[Refusal]:
    """Rows whose score, value or probabilities are none: a record with such a one is refused, and so is a row."""
    found: dict[int, Refusal] = {}
    if rows.proba is not None:
        for wrong_rows, words in unfit_shares(rows.proba.tolist()):
            found |= {at: Refusal(at, DropReason.SCHEMA, words, model) for at in wrong_rows.tolist()}
    outcome_ts = rows.columns.get("outcome_ts")
    if outcome_ts is not None and "outcome" in rows.columns:
        there = [text is not None for text in as_levels(rows.columns["outcome"])]
        sooner = np.flatnonzero((outcome_ts < rows.ts) & there)
        found |= {int(at): Refusal(int(at), DropReason.SCHEMA, SOONER, model) for at in sooner}
    for name in ("value", "score"):
        column = rows.columns.get(name)
        if column is None:
            continue
        for at in np.flatnonzero(np.isinf(column)) if column.dtype.kind == "f" else range(len(column)):
            value = column[at]
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                wrong = f"{name}: expected a number, got {type(value).__name__}"
                found[int(at)] = Refusal(int(at), DropReason.SCHEMA, wrong, model)
            elif math.isinf(value):
                found[int(at)] = Refusal(int(at), DropReason.NON_FINITE, name, model)
    return [found[at] for at in sorted(found)]


def _check(state: ProfilingState, batch: Batch) -> None:
    here = state.next.get(batch.input, 0)
    begins = batch.records[0].offset if batch.records else batch.next_offset
    ends = batch.records[-1].offset + 1 if batch.records else batch.next_offset
    if begins < here or batch.next_offset < ends:
        raise ProtocolBroken(
            f"source {state.source}: a batch of {batch.input} from offset {begins} to {batch.next_offset}, at {here}"
        )


def _learn_control(state: ProfilingState, control: Control) -> None:
    state.control_offset = control.offset
    if state.plans.serve(control):
        return
    plans, known = Plans.of(control), state.plans.layout_ids
    for model, layouts in plans.layout_ids.items():
        maximum = state.maxima.get(model)
        for layout_id, from_ms in layouts:
            # At the maximum already: rows from `from_ms` on were counted under the layout before.
            if (layout_id, from_ms) not in known.get(model, ()) and maximum is not None and maximum >= from_ms:
                raise LateLayout(
                    f"source {state.source}: learned of layout {layout_id} of model {model} from {from_ms} "
                    f"when its events had reached {maximum}"
                )
    for name, mappings in control.mappings.items():
        late = news(mappings, state.mappings.get(name, ()), reached=state.appended.get(name, -1))
        if late is not None:
            raise LateLayout(
                f"source {state.source}: learned of a mapping of {name} for what was appended from {late.from_ms} on "
                f"when it had read up to {state.appended[name]}"
            )
    state.plans = plans
    state.formats = {}
    if state.join is not None:
        state.join.serve(plans)
    elif plans.joined:
        state.join = Join(plans)
    state.recent.grow(plans.window)


def _advance(
    state: ProfilingState,
    arrivals: Arrivals | None,
    refusals: list[Refusal],
    told: Told | None = None,
    *,
    kind: Kind | None,
    before: int,
    caught_up: bool,
    consumed: int,
) -> list[Output]:
    """Count what is admitted, move the accounts, and write it all down. `refusals` is extended by those made here."""
    state.seq += 1
    since = state.recent.next
    admitted = Admitted([], [], state.maxima)
    if arrivals is not None and kind is not None:
        admitted = admit(arrivals, state.plans.models[kind], maxima=state.maxima, recent=state.recent)
        refusals.extend(admitted.refusals)
    records: dict[int, list[Delta | Progress]] = {}
    kept = join_batch(state, arrivals, admitted.groups, told, consumed=consumed, caught_up=caught_up)
    refusals.extend(kept.refusals)
    for group in admitted.groups:
        assert arrivals is not None
        partition, layout = group.plan.layout.partition, group.plan.layout
        counted_rows = count(arrivals, group)
        state.folded += counted_rows.folded
        state.denied += counted_rows.denied
        found = deltas(
            group.plan,
            counted_rows,
            max_ts=admitted.maxima[layout.model],
            transaction=_transaction(state, partition, before),
        )
        records.setdefault(partition, []).extend(found)
        state.applied += int(group.rows.size)
    if state.join is not None:
        for layout, tables in joined(state.join):
            maximum = admitted.maxima.get(layout.model, 0)
            more = tables(max_ts=maximum, transaction=_transaction(state, layout.partition, before))
            records.setdefault(layout.partition, []).extend(more)
    if consumed == 0 or caught_up != state.caught_up or _passed(state, admitted.maxima):
        for partition in range(state.plans.profiles):
            news = _progress(state, partition, before, caught_up=caught_up, maxima=admitted.maxima)
            records.setdefault(partition, []).append(news)
    state.maxima, state.caught_up = admitted.maxima, caught_up
    state.consumed += consumed
    state.drops = counted(state.drops, refusals)
    if state.consumed != state.applied + state.waiting + sum(state.drops.values()):
        raise ProtocolBroken(f"source {state.source}: consumed is not applied, waiting and dropped")
    outputs = []
    for partition, parts in sorted(records.items()):
        state.ends[partition] = state.position
        outputs.extend(numbered(parts, partition=partition))
    if state.quiet:
        return [*outputs, *kept.letters]
    ids = [Output("changelog", key, value) for key, value in state.recent.changes(since)]
    position = Output("changelog", POSITION_KEY, msgspec.msgpack.encode(state.record()))
    return [position, *ids, *(Output("changelog", key, value) for key, value in kept.pairs), *outputs, *kept.letters]


def _transaction(state: ProfilingState, partition: int, before: int) -> Transaction:
    begin = state.ends.get(partition, before)
    return Transaction(source=state.source, begin=begin, end=state.position, seq=state.seq)


def _progress(
    state: ProfilingState, partition: int, before: int, *, caught_up: bool, maxima: Mapping[str, int]
) -> Progress:
    of = _transaction(state, partition, before)
    carried = state.plans.partitions
    return Progress(
        source=of.source,
        begin=of.begin,
        end=of.end,
        part=0,
        parts=1,
        seq=of.seq,
        caught_up=caught_up,
        maxima={model: maximum for model, maximum in maxima.items() if partition in carried.get(model, ())},
    )


def _passed(state: ProfilingState, maxima: Mapping[str, int]) -> bool:
    """True when the maximum of a model has passed the end of a pane plus lateness."""
    if maxima is state.maxima:
        return False
    for model, maximum in maxima.items():
        before = state.maxima.get(model)
        if before == maximum:
            continue
        layout = state.plans.control.layout_at(model, maximum)
        if before is None or layout is None:
            return True
        if (before - layout.lateness_ms) // layout.pane_ms < (maximum - layout.lateness_ms) // layout.pane_ms:
            return True
    return False
