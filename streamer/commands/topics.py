"""`tripline topics create | check`: the topics that a configuration needs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path

from schemas.errors import ConfigurationError
from streamer.commands.connecting import settings_of
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import TopicSpec, check_topics, create_topics, partition_counts, sources_of, topic_specs

#: Partitions of inputs that are made, unless said.
DEFAULT = 4


def topics_create(
    config: Path, *, sources: int | None = None, replication: int = -1, as_json: bool = False
) -> list[str]:
    """Make the topics that are not there, and say which.

    sources: partitions of the inputs that have to be made; those that are there say it themselves. replication: -1 as
    the broker's default says.
    """
    settings = replace(settings_of(config), replication=replication)

    async def create() -> list[str]:
        return await create_topics(settings, await _specs(settings, sources=sources))

    made = asyncio.run(create())
    if as_json:
        print(json.dumps(made))
    else:
        print("\n".join(f"made {name}" for name in made) or "all topics are there")
    return made


def topics_check(config: Path, *, as_json: bool = False) -> int:
    """Say what differs from what Tripline needs; 1 when something is wrong, 0 when it only will surprise."""
    settings = settings_of(config)

    async def check() -> list[dict[str, object]]:
        sources = sources_of(settings, await partition_counts(settings)) or DEFAULT
        specs = topic_specs(settings, sources=sources, profiles=settings.profiles_partitions)
        return [asdict(finding) for finding in await check_topics(settings, specs)]

    findings = asyncio.run(check())
    if as_json:
        print(json.dumps(findings, indent=2))
    else:
        lines = [f"{'wrong' if found['wrong'] else 'note'}: {found['topic']} {found['message']}" for found in findings]
        print("\n".join(lines) or "all topics are there and as they should be")
    return int(any(found["wrong"] for found in findings))


async def _specs(settings: KafkaSettings, *, sources: int | None) -> list[TopicSpec]:
    there = await partition_counts(settings)
    found = {there[name] for name in settings.inputs.values() if name in there}
    if len(found) > 1 or (found and sources is not None and found != {sources}):
        listed = ", ".join(f"{name} has {there[name]}" for name in settings.inputs.values() if name in there)
        raise ConfigurationError(f"inputs must have the same number of partitions: {listed}")
    count = next(iter(found), sources if sources is not None else DEFAULT)
    return topic_specs(settings, sources=count, profiles=settings.profiles_partitions)
