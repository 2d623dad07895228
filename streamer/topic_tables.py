"""The last days of an input topic as a table: for a reference where there is no table, only the stream.

The topic is read once, through the input's mapping if it has one, into a temporary file of JSON Lines; a reference
reads its table twice, and a topic's end moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import math
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.layouts import FeatureLists
from streamer.config import Loaded
from streamer.core.columns import from_proba
from streamer.core.records import Record
from streamer.formats.lenient import Refused, parse_foreign
from streamer.formats.mapping import MappedFormat
from streamer.formats.shapes import TAG, Kind, Shapes
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import partition_counts
from streamer.table_files import TableError

Read = Callable[[Record], dict[str, Any] | None]


@contextlib.contextmanager
def spooled(loaded: Loaded, settings: KafkaSettings, *, model: str, since: int) -> Iterator[Path]:
    """A file of the model's events appended from `since` (ms) on; it is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="tripline-") as folder:
        path = Path(folder) / "events.jsonl.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            written = asyncio.run(_spool(loaded, settings, model=model, since=since, file=file))
        if not written:
            raise TableError(f"no event of {model} since then in {', '.join(settings.inputs.values())}")
        yield path


def reader(loaded: Loaded, kind: Kind) -> Read:
    """How a record of an input is read: as one of ours, through the input's mapping; None for what is no event."""
    mapping = loaded.config.mapping.get(kind)
    mapped = MappedFormat(Shapes.of({}, kind=kind), mapping) if mapping is not None else None
    tag = TAG[kind]

    def read(record: Record) -> dict[str, Any] | None:
        try:
            event = parse_foreign(record.value or b"")
            event = mapped.native(event) if mapped is not None else event
        except Refused:
            return None
        if not isinstance(event, dict):
            return None
        event.setdefault(tag, _named(record, tag))
        if event.get("score") is None and isinstance(shares := event.pop("proba", None), dict) and shares:
            with contextlib.suppress(TypeError, ValueError):
                score, label = from_proba(shares)
                event |= {"score": score, "label": event.get("label", label)}
        return event

    return read


def _named(record: Record, tag: str) -> str:
    """What header or key say where the event itself does not name its model."""
    raw = next((value for name, value in record.headers or () if name == tag and value), record.key or b"")
    return raw.decode(errors="replace")


async def _spool(loaded: Loaded, settings: KafkaSettings, *, model: str, since: int, file: gzip.GzipFile) -> int:
    written = 0
    kinds: tuple[Kind, ...] = ("predictions", "features")
    for kind in kinds:
        if kind not in settings.inputs:
            continue
        read, lists = reader(loaded, kind), _lists(loaded, model)
        async for record in _records(settings, settings.inputs[kind], since=since):
            event = read(record)
            if event is not None and model in (event.get("model"), event.get("feature_set")):
                event = _without_denied(_without_non_finite(event), lists)
                file.write(msgspec.json.encode(event) + b"\n")
                written += 1
    return written


def _lists(loaded: Loaded, model: str) -> FeatureLists:
    found = loaded.config.models.get(model)
    return FeatureLists() if found is None else found.features.lists


def _without_denied(event: dict[str, Any], lists: FeatureLists) -> dict[str, Any]:
    """What may not be read does not reach the disk either.

    >>> _without_denied({"features": {"age": 41, "email": "a@b"}}, FeatureLists(deny=("email",)))
    {'features': {'age': 41}}
    """
    features = event.get("features")
    if not isinstance(features, dict) or not lists.given:
        return event
    return {**event, "features": {name: value for name, value in features.items() if lists.permits(name)}}


def _without_non_finite(event: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: 1e400 stands for it, and for NaN, which the stream counts as not finite too.

    >>> msgspec.json.encode(_without_non_finite({"features": {"a": math.nan, "b": -math.inf, "c": 1}}))
    b'{"features":{"a":1e400,"b":-1e400,"c":1}}'
    """
    features = event.get("features")
    if isinstance(features, dict):
        odd = {k: v for k, v in features.items() if isinstance(v, float) and not math.isfinite(v)}
        raw = {k: msgspec.Raw(b"-1e400" if v < 0 else b"1e400") for k, v in odd.items()}
        event = {**event, "features": {**features, **raw}}
    return event


async def _records(settings: KafkaSettings, topic: str, *, since: int) -> AsyncIterator[Record]:
    """Records of a topic from a time on to its end as it is now, partition by partition, a fetch at a time."""
    there = await partition_counts(settings)
    if topic not in there:
        raise ConfigurationError(f"no topic {topic}")
    consumer = settings.consumer(role="reference")
    try:
        await consumer.start()
        for number in range(there[topic]):
            place = TopicPartition(topic, number)
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            begin = (await consumer.offsets_for_times({place: since}))[place]
            consumer.seek(place, begin.offset if begin is not None else end)
            while await consumer.position(place) < end:
                for record in (await consumer.getmany(timeout_ms=500)).get(place, ()):
                    if record.offset < end:
                        yield record
    except KafkaError as error:
        raise BrokerUnavailable(f"Kafka at {settings.bootstrap_servers}: {error}") from error
    finally:
        await consumer.stop()
