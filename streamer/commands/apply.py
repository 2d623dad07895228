"""`tripline apply`: check the file, publish references and layouts that differ from those in force."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas.control import Cluster
from schemas.errors import ConfigurationError, FormatError
from schemas.profiles import decode
from streamer import spans
from streamer.applying import (
    Change,
    Remapping,
    in_words,
    load_references,
    plan,
    rate_of,
    records,
    refuse_batches,
    remappings,
    targets,
    times_heard,
)
from streamer.commands.connecting import settings_from
from streamer.config import Loaded, load
from streamer.core.control import Control, publish_cluster, publish_mapping
from streamer.core.records import Output
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import history, publish
from streamer.kafka.topics import partition_counts, refuse_misfits

#: How far back `profiles` is read to learn the models' times: a live source says its time every second.
RECENT_MS = 600_000


def apply(config: Path, *, since: str = "", dry_run: bool = False, as_json: bool = False) -> None:
    """Put the file in force, and say what changed."""
    try:
        from_ms = spans.instant(since) if since else None
    except ValueError as error:
        raise ConfigurationError(f"--from {since!r}: {error}") from error
    loaded = load(config)
    settings = settings_from(loaded)
    changes = asyncio.run(applied(loaded, settings, since=from_ms, dry_run=dry_run))
    if as_json:
        print(json.dumps([_plain(change) for change in changes], indent=2))
        return
    if not changes:
        print("in force already: nothing to change")
    for name in left_over(loaded, asyncio.run(control_of_topic(settings))):
        print(f"{name}: not in the file, but still in force: its events are counted as before")
    for change in changes:
        print(in_words(change) + (" (not applied)" if dry_run else ""))


def left_over(loaded: Loaded, control: Control) -> list[str]:
    """Models in force that the file does not name. What was counted under them must stay readable: they remain."""
    return sorted(control.models.keys() - loaded.config.models.keys())


async def applied(
    loaded: Loaded,
    settings: KafkaSettings,
    *,
    since: int | None = None,
    dry_run: bool = False,
    timed: bool = True,
    control: Control | None = None,
) -> list[Change | Remapping]:
    """Publish what differs from `control`, and return it.

    timed: with the times from which it would hold, for which the last hour of `profiles` is read; a worker that only
    asks whether anything differs does without, and starts as fast on a busy application as on a new one.
    control: what is in force, where it has just been read.
    """
    refuse_batches(loaded)
    references = load_references(loaded)
    wanted = targets(loaded, references)
    there = await partition_counts(settings)
    control = await control_of_topic(settings) if control is None else control
    cluster = control.cluster
    sources, profiles = refuse_misfits(
        settings,
        there,
        sources=cluster.sources if cluster else None,
        profiles=cluster.profiles if cluster else None,
    )
    rates = {name: rate_of(reference) for name, reference in references.items()}
    times = await times_of(settings, control) if timed else dict.fromkeys(control.models, 0)
    changes = plan(wanted, control, profiles=profiles, rates=rates, times=times, since=since)
    inputs = remappings(loaded.config.mapping, control, now=time.time_ns() // 1_000_000, since=since)
    outputs: list[Output] = []
    if cluster is None:
        outputs.append(publish_cluster(Cluster(sources=sources, profiles=profiles)))
    # Mappings before layouts: no worker counts a model before it knows how to read it.
    outputs += [publish_mapping(one.mapping) for one in inputs]
    outputs += records(changes, references, control)
    if outputs and not dry_run:
        await publish(settings, outputs)
    return [*inputs, *changes]


async def control_of_topic(settings: KafkaSettings) -> Control:
    """What is in force, as the control topic says it."""
    control = Control()
    for record in await history(settings, "control"):
        control = control.apply(record.key or b"", record.value, offset=record.offset)
    return control


async def times_of(settings: KafkaSettings, control: Control) -> Mapping[str, int]:
    """How far each model's event time may have come.

    By what the sources said last, see `times_heard`.
    """
    now = time.time_ns() // 1_000_000
    said = []
    for record in await history(settings, "profiles", since=now - RECENT_MS):
        with contextlib.suppress(FormatError):
            said.append((record.timestamp, decode(record.value or b"")))
    return times_heard(said, control.models, now=now)


def _plain(change: Change | Remapping) -> dict[str, object]:
    if isinstance(change, Remapping):
        mapping = change.mapping
        return {
            "input": mapping.input,
            "mapping": None if mapping.native else msgspec.to_builtins(mapping),
            "from": spans.rfc3339(mapping.from_ms),
            "new": change.before is None,
        }
    layout = change.layout
    return {
        "model": layout.model,
        "layout": layout.id,
        "reference": layout.reference,
        "from": spans.rfc3339(layout.from_ms),
        "partition": layout.partition,
        "new": change.before is None,
        "differences": list(change.differences),
    }
