"""`tripline reference build` and `show`: learn what is normal from a table or a topic, and say it in words."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from detectors.building import ReferenceBuilder
from detectors.references import Finding, Reference, dumps, loads
from detectors.rows import NO_TIME, Rows
from detectors.words import words
from schemas.errors import ReferenceFileError, TriplineError
from schemas.events import EARLIEST_MS
from schemas.layouts import FeatureLists, Layout
from streamer import spans
from streamer.commands.progress import with_progress
from streamer.commands.written import folder_for, write
from streamer.config import load
from streamer.core.timestamps import LATEST_MS
from streamer.table_files import TableError
from streamer.tables import Part, Reading, Table, reading_of

#: Where the configuration is unless somebody says otherwise.
CONFIG = Path("tripline.yaml")


def build(
    data: Path | None,
    *,
    model: str,
    output: Path,
    map: str = "",
    features: str = "",
    segments: str = "",
    categorical: str = "",
    timezone: str = "UTC",
    rows: str = "",
    every: str = "",
    start: str = "",
    header: bool | None = None,
    exclude: list[str] | None = None,
    from_topic: bool = False,
    last: str = "14d",
    pane: str = "5m",
    tolerance: float = 0.1,
    false_alarms: str = "1 per 30d",
    strict: bool = False,
    positive: str = "",
    maturity: str = "",
    batch_gap: str = "",
    derived: str = "",
    config: Path = CONFIG,
    as_json: bool = False,
) -> None:
    """Learn a reference, replay it through its own monitors, write it to `output`, print what was learned."""
    if (data is None) != from_topic:
        raise TableError("reference build takes a table or --from-topic, one of them")
    reading = reading_of(
        Reading(), map=map, features=features, segments=segments, categorical=categorical, rows=rows, every=every,
        start=start, header=header,
    )  # fmt: skip
    left_out = [parse_span(text) for text in exclude or ()]
    settings = _replayed_under(pane=pane, tolerance=tolerance, false_alarms=false_alarms, strict=strict)
    try:
        waited = spans.duration(maturity) if maturity else 0
    except ValueError as error:
        raise TableError(f"--maturity {maturity!r}: {error}") from error
    gap = _gap(batch_gap)
    folder_for(output)
    lists = _lists(config, model)
    with contextlib.ExitStack() as ends:
        if from_topic:
            data = ends.enter_context(_of_topic(config, model=model, last=last))
        assert data is not None
        table = Table(data, reading, timeless=not gap, outcomes=not gap, model=model, lists=lists)
        reference = learn(
            table,
            model=model,
            timezone=timezone,
            exclude=left_out,
            replayed_under=settings,
            progress=True,
            positive=positive,
            maturity_ms=waited,
            batch_gap_ms=gap,
            derived=tuple(name for name in (one.strip() for one in derived.split(",")) if name),
        )
    write(output, dumps(reference))
    denied = [f"denied by {config}, not read: {', '.join(table.denied)}"] if table.denied else []
    _say(reference, output, as_json=as_json, notes=[*denied, *table.file.notes, *table.tally.notes(words=False)])


def show(file: Path, *, as_json: bool = False) -> None:
    """Print again what a reference learned."""
    try:
        reference = loads(file.read_bytes())
    except OSError as error:
        raise ReferenceFileError(f"{file}: {error.strerror}") from error
    except ReferenceFileError as error:
        raise ReferenceFileError(f"{file}: {error}") from error
    _say(reference, None, as_json=as_json)


def learn(
    table: Table,
    *,
    model: str,
    timezone: str = "UTC",
    exclude: list[tuple[int, int]] | None = None,
    kind: Literal["predictions", "features"] | None = None,
    replayed_under: Layout | None = None,
    progress: bool = False,
    positive: str = "",
    maturity_ms: int = 0,
    batch_gap_ms: int = 0,
    derived: Sequence[str] = (),
) -> Reference:
    """The reference of a table, read twice. A zone that is not known is an error, before anything is read.

    replayed_under: pane, tolerance, strictness and budget of the replay through its own monitors; None: there is none.
    positive, maturity_ms, batch_gap_ms, derived: as in `ReferenceBuilder`.
    """
    try:
        builder = ReferenceBuilder(
            model,
            kind or table.kind,
            timezone=timezone,
            segments=table.reading.segments,
            exclude=exclude or (),
            positive=positive,
            maturity_ms=maturity_ms,
            batch_gap_ms=batch_gap_ms,
            served=table.served if (kind or table.kind) == "predictions" else (),
            derived=derived,
        )
    except (ValueError, KeyError) as error:
        raise TriplineError(f"--timezone {timezone}: {error}") from error
    for what, take in (("looking", builder.survey), ("counting", builder.count)):
        parts = table.parts()
        for part in with_progress(parts, what=what, total=table.total) if progress else parts:
            take(_in_our_time(part, table))
    for column, met in table.tally.words.items():
        texts = f"{met.count:,} text{'s' * (met.count != 1)} among its numbers, counted as missing"
        words = f"{column}: {texts}, the first in row {met.place:,}: {met.value!r}"
        builder.remark(Finding("wrong_type", column, words))
    for name in table.shadowed:
        words = f"{name}: a feature of that name is tested; how predictions were served in it is reported only"
        builder.remark(Finding("absent", name, words))
    reference = builder.finish()
    if replayed_under is None:
        return reference
    monitored = tuple(spec.name for spec in reference.specs)
    layout = msgspec.structs.replace(
        replayed_under,
        model=model,
        reference=reference.id,
        segments=reference.segments,
        monitored=monitored,
        monitors=max(1, len(monitored) * len(reference.views)),
    )
    return builder.shadow(reference, layout)


def _lists(config: Path, model: str) -> FeatureLists:
    """What the configuration says may be read of a model; a reference can be built before there is a configuration.

    One that is there and broken is an error: what it denies would be learned.
    """
    if config == CONFIG and not config.exists():
        return FeatureLists()
    found = load(config).config.models.get(model)
    return FeatureLists() if found is None else found.features.lists


def _in_our_time(part: Part, table: Table) -> Rows:
    """The rows; a time that no event of a stream may have is none. `TableError` where the first part has such alone."""
    ts = part.rows.ts
    odd = (ts != NO_TIME) & ((ts < EARLIEST_MS) | (ts > LATEST_MS))
    if not odd.any():
        return part.rows
    if odd.all() and part.first == table.reading.first:
        when = "before 1980" if ts[0] < EARLIEST_MS else "after the year 9999"
        raise TableError(
            f"{table.path}: row {part.first}: its time would be {when}; times are RFC 3339, or numbers of s, ms, µs or "
            "ns since 1970"
        )
    return dataclasses.replace(part.rows, ts=np.where(odd, NO_TIME, ts))


def _gap(text: str) -> int:
    try:
        gap = spans.duration(text) if text else 0
    except ValueError as error:
        raise TableError(f"--batch-gap {text!r}: {error}") from error
    if text and gap < 1_000:
        raise TableError(f"--batch-gap {text!r}: must be at least 1s")
    return gap


def _replayed_under(*, pane: str, tolerance: float, false_alarms: str, strict: bool) -> Layout:
    try:
        pane_ms = spans.duration(pane)
    except ValueError as error:
        raise TableError(f"--pane {pane!r}: {error}") from error
    if pane_ms < 1000:
        raise TableError(f"--pane {pane!r}: must be at least 1s")
    try:
        allowed = spans.budget(false_alarms)
    except ValueError as error:
        raise TableError(f"--false-alarms {false_alarms!r}: {error}") from error
    return Layout(
        model="",
        from_ms=0,
        reference="",
        pane_ms=pane_ms,
        tolerance=tolerance,
        false_alarms=allowed.false_alarms,
        budget_ms=allowed.budget_ms,
        strict=strict,
    )


def parse_span(text: str) -> tuple[int, int]:
    """`FROM..TO` as two times in ms.

    >>> parse_span("2025-01-01..2025-01-02")
    (1735689600000, 1735776000000)
    """
    begin, dots, end = text.partition("..")
    try:
        span = (spans.instant(begin), spans.instant(end))
    except ValueError as error:
        raise TableError(f"--exclude {text!r}: {error}, FROM..TO") from error
    if not dots or span[0] >= span[1]:
        raise TableError(f"--exclude {text!r}: must be FROM..TO, FROM before TO")
    return span


def _of_topic(config: Path, *, model: str, last: str) -> AbstractContextManager[Path]:
    from streamer.commands.connecting import settings_from
    from streamer.topic_tables import spooled

    try:
        since = time.time_ns() // 1_000_000 - spans.duration(last)
    except ValueError as error:
        raise TableError(f"--last {last!r}: {error}") from error
    loaded = load(config)
    return spooled(loaded, settings_from(loaded), model=model, since=since)


def _say(reference: Reference, output: Path | None, *, as_json: bool, notes: Sequence[str] = ()) -> None:
    """notes: what the reading of the table met."""
    if as_json:
        print(json.dumps({**_plain(reference, output), "table": list(notes)}, indent=2))
        return
    print("\n".join([*words(reference), *(f"table: {note}" for note in notes)]))
    print(f"reference {reference.id}" + (f" → {output}" if output else ""))


def _plain(reference: Reference, output: Path | None) -> dict[str, object]:
    return {
        "reference": reference.id,
        "file": str(output) if output else None,
        "model": reference.model,
        "kind": reference.kind,
        "n": reference.n,
        "start": spans.rfc3339(reference.start) if reference.end else None,
        "end": spans.rfc3339(reference.end) if reference.end else None,
        "timezone": reference.timezone,
        "provisional": reference.provisional,
        "features": [{"name": spec.name, "kind": spec.kind} for spec in reference.specs],
        "views": [str(view) for view in reference.views],
        "shadow": None if reference.shadow is None else msgspec.to_builtins(reference.shadow),
        "findings": [{"kind": f.kind, "feature": f.feature, "words": f.words} for f in reference.findings],
        "words": words(reference),
    }
