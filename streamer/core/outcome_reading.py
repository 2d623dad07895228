"""From records of the outcomes input to columns, and what is wrong with some of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcomes import OutcomeSpec, class_codes
from detectors.rows import level_text
from schemas.control import InputMapping
from schemas.events import EARLIEST_MS, FUTURE_MS, DropReason
from streamer.core import timestamps
from streamer.core.columns import as_number, as_text
from streamer.core.mappings import by_mapping
from streamer.core.plans import Plans
from streamer.core.reading import append_times, sound_values
from streamer.core.records import Record
from streamer.core.told import Told, pick
from streamer.formats.outcomes import DecodedOutcomes, OutcomeRow, decode
from streamer.formats.seam import Refusal

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def read_outcomes(
    records: Sequence[Record], plans: Plans, mappings: Sequence[InputMapping] | None = None
) -> tuple[list[Refusal], Told | None]:
    """Decode: refusals by number of the record, and the columns of the other outcomes; None without any.

    The model is what the outcome says, or the record's header or key, or the only one that has outcomes.
    """
    values, _, refusals = sound_values(records, limit=plans.event_bytes, nesting=plans.nesting)
    here = np.arange(len(records))
    if refusals:
        here = np.delete(here, [refusal.at for refusal in refusals])
        records, values = [records[i] for i in here.tolist()], [values[i] for i in here.tolist()]
    decoded = _decoded(records, values, plans, mappings or ())
    refusals.extend(refusal._replace(at=int(here[refusal.at])) for refusal in decoded.refusals)
    append = append_times(records)
    rows = [row for row in decoded.rows if row is not None]
    kept = np.flatnonzero([row is not None for row in decoded.rows])
    here, append = here[kept], append[kept]
    if not rows:
        return refusals, None
    alone = next(iter(plans.joined)) if len(plans.joined) == 1 else ""
    ids = [text or "" for text in as_text(list(map(attrgetter("id"), rows)))]
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    key = plans.join_keys(ids)
    told = Told(
        at=here,
        key=np.zeros(len(ids), dtype=np.uint64) if key is None else key,
        ts=timestamps.milliseconds(list(map(attrgetter("ts"), rows))),
        append=append,
        model=[row.model or alone for row in rows],
        text=[_text(row) for row in rows],
        number=np.fromiter(map(_number, rows), dtype=np.float64, count=len(rows)),
        echo=[b"" if row.prediction == b"null" else bytes(row.prediction) for row in rows],
        offset=[records[i].offset for i in kept.tolist()],
        topic=records[0].topic,
    )
    wrong = _wrong(told, lengths, plans)
    if wrong:
        refusals.extend(refusal._replace(at=int(here[refusal.at])) for refusal in wrong)
        told = pick(told, np.delete(np.arange(len(rows)), [refusal.at for refusal in wrong]))
    return refusals, told if told.at.size else None


def _decoded(
    records: Sequence[Record], values: Sequence[bytes], plans: Plans, mappings: Sequence[InputMapping]
) -> DecodedOutcomes:
    """Each outcome by the mapping in force at its append time."""
    found = DecodedOutcomes([None] * len(values), [])
    for mapping, at in by_mapping(mappings, records):
        chosen = [records[i] for i in at], [values[i] for i in at]
        part = decode(*chosen, models=plans.models["predictions"], mapping=mapping)
        for place, row in zip(at, part.rows, strict=True):
            found.rows[place] = row
        found.refusals.extend(refusal._replace(at=at[refusal.at]) for refusal in part.refusals)
    return found


def _wrong(told: Told, lengths: Ints, plans: Plans) -> list[Refusal]:
    """What no outcome may be, whatever its prediction; `at` is a place in `told`, each at most once."""
    found: dict[int, Refusal] = {}
    models = plans.models["predictions"]

    def refuse(places: Bools | list[int], reason: DropReason, detail: str) -> None:
        for i in places if isinstance(places, list) else np.flatnonzero(places).tolist():
            found.setdefault(i, Refusal(i, reason, detail, told.model[i][:256]))

    ts = told.ts
    refuse(lengths == 0, DropReason.SCHEMA, "id: is empty")
    refuse(lengths > plans.string_length, DropReason.OVER_LIMIT, "id")
    for i in np.flatnonzero((ts < EARLIEST_MS) | (ts > timestamps.LATEST_MS)).tolist():
        refuse([i], DropReason.SCHEMA, timestamps.complaint(int(ts[i])))
    refuse((ts > told.append + FUTURE_MS) & (told.append >= 0), DropReason.FUTURE, "")
    named = set(told.model) - {""}
    for model in named - models.keys():
        refuse([i for i, one in enumerate(told.model) if one == model], DropReason.UNKNOWN_MODEL, "")
    without = [i for i, text in enumerate(told.text) if text is None]
    refuse([i for i in without if np.isnan(told.number[i])], DropReason.SCHEMA, "label: is missing, and so is value")
    for model in sorted(named & plans.joined.keys()):
        mine = np.array([i for i, one in enumerate(told.model) if one == model])
        tables = plans.joined[model]
        texts, fits = [told.text[i] for i in mine.tolist()], np.zeros(mine.size, dtype=bool)
        for table in tables:
            regression = table.spec.kind == "regression"
            fits |= ~np.isnan(told.number[mine]) if regression else class_codes(table.spec, texts) >= 0
        for i in mine[~fits].tolist():
            refuse([i], DropReason.SCHEMA, _misfit(tables[-1].spec, told.text[i]))
    for model in (named & models.keys()) - plans.joined.keys():
        refuse(
            [i for i, one in enumerate(told.model) if one == model],
            DropReason.UNMATCHED_OUTCOME, "outcomes of this model are not joined",
        )  # fmt: skip
    if not plans.joined:
        unnamed = [i for i, one in enumerate(told.model) if not one]
        refuse(unnamed, DropReason.UNMATCHED_OUTCOME, "no model has outcomes")
    return list(found.values())


def _misfit(spec: OutcomeSpec, text: str | None) -> str:
    if spec.kind == "regression":
        return "value: expected a number"
    return f"label: {(text or '')[:64]!r} is none of {', '.join(spec.classes[:8])}"


def _text(row: OutcomeRow) -> str | None:
    label = row.label
    return label if isinstance(label, str) else level_text(row.value if label is None else label)


def _number(row: OutcomeRow) -> float:
    return row.value if row.value is not None else as_number(row.label)
