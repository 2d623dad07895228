"""The topics that Tripline owns: their settings, making them, and what is wrong with those that are there.

Why these settings (DESIGN 3): changelogs are compacted only, in small segments, so that a restore reads little;
`profiles` carries append time, because event time advances by it; decisions are kept for 30 days.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.errors import BrokerUnavailable, ConfigurationError
from streamer.kafka.refusals import Overheard, explained
from streamer.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
#: How long the making of topics waits until it can see them.
_SEEN_S = 2.0

_COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "segment.bytes": "67108864",
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "3600000",
}
_KEPT = {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)}
_PROFILES = {
    "cleanup.policy": "delete",
    "retention.ms": str(7 * DAY_MS),
    "message.timestamp.type": "LogAppendTime",
}
_INPUT = {"message.timestamp.type": "LogAppendTime"}

#: Topics of stage 2's decisions: as many partitions as `profiles`, partition p written by task p.
DECISIONS = ("windows", "alerts", "incidents", "retrain-triggers", "audit")


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """A topic as it should be. ours: False for inputs, whose settings are their owner's."""

    name: str
    partitions: int
    configs: Mapping[str, str] = field(default_factory=dict)
    ours: bool = True


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a topic. wrong: a worker would refuse to start; otherwise it will surprise."""

    topic: str
    wrong: bool
    message: str


def topic_specs(settings: KafkaSettings, *, sources: int, profiles: int) -> list[TopicSpec]:
    """Every topic, inputs first. sources: partitions of the inputs; profiles: of `profiles` and the decisions.

    >>> settings = KafkaSettings(bootstrap_servers="", inputs={"predictions": "p"})
    >>> [spec.name for spec in topic_specs(settings, sources=4, profiles=8)][:4]
    ['p', 'control', 'profiles', 'dead-letter']
    """
    specs = [TopicSpec(name=name, partitions=sources, configs=_INPUT, ours=False) for name in settings.inputs.values()]
    ours = [
        ("control", 1, _COMPACTED),
        ("profiles", profiles, _PROFILES),
        ("dead-letter", sources, _KEPT),
        *((name, profiles, _COMPACTED if name == "incidents" else _KEPT) for name in DECISIONS),
    ]
    specs += [TopicSpec(name=settings.topic(name), partitions=n, configs=configs) for name, n, configs in ours]
    specs.append(TopicSpec(name=settings.changelog("profiling"), partitions=sources, configs=_COMPACTED))
    specs.append(TopicSpec(name=settings.changelog("monitoring"), partitions=profiles, configs=_COMPACTED))
    return specs


async def partition_counts(settings: KafkaSettings) -> dict[str, int]:
    """Partitions of every topic that the broker has. `BrokerUnavailable` when it does not answer."""
    async with Admin(settings) as admin:
        return {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}


async def await_broker(settings: KafkaSettings) -> dict[str, int]:
    """`partition_counts` as soon as the broker answers; `BrokerUnavailable` after `broker_timeout_s`."""
    clock = asyncio.get_running_loop().time
    end, said = clock() + settings.broker_timeout_s, False
    while True:
        try:
            return await partition_counts(settings)
        except BrokerUnavailable as error:
            if clock() > end:
                silent = f"no answer for {settings.broker_timeout_s:g} s"
                raise BrokerUnavailable(f"Kafka at {settings.bootstrap_servers}: {silent}") from error
            if not said:
                log.warning("%s; trying for %g s", error, settings.broker_timeout_s)
                said = True
        await asyncio.sleep(0.5)


async def create_topics(settings: KafkaSettings, specs: list[TopicSpec]) -> list[str]:
    """Make the topics that are not there; their names. What is there is left as it is: see `check_topics`."""
    async with Admin(settings) as admin:
        there = {entry["topic"] for entry in await admin.describe_topics()}
        missing = [spec for spec in specs if spec.name not in there]
        if not missing:
            return []
        # aiokafka takes -1, the broker's own replication, only beside an (empty) assignment.
        assigned: dict[int, list[int]] | None = {} if settings.replication == -1 else None
        wanted = [
            NewTopic(
                spec.name,
                spec.partitions,
                settings.replication,
                replica_assignments=assigned,
                topic_configs=dict(spec.configs),
            )
            for spec in missing
        ]
        answer = await admin.create_topics(wanted, timeout_ms=20_000)
        made = []
        for name, code, *said in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                made.append(name)
            elif error is not TopicAlreadyExistsError:
                raise ConfigurationError(f"topic {name} cannot be made: {error.__name__} {said[0] if said else ''}")
        await _until_seen(admin, set(made))
        return made


async def _until_seen(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """Until a broker tells of topics that were just made: whoever asks next finds them. Not for long: who may only
    make topics never sees them.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SEEN_S):
            while not names <= {entry["topic"] for entry in await admin.describe_topics()}:
                await asyncio.sleep(0.02)


def sources_of(settings: KafkaSettings, there: Mapping[str, int]) -> int | None:
    """Partitions that the inputs should have: as many as when our topics were made, else as they have; None for none.

    there: partitions by topic.

    >>> settings = KafkaSettings(bootstrap_servers="", inputs={"predictions": "p"})
    >>> sources_of(settings, {"p": 3}), sources_of(settings, {"p": 3, settings.changelog("profiling"): 2})
    (3, 2)
    """
    made = there.get(settings.changelog("profiling"))
    return made or max((there[name] for name in settings.inputs.values() if name in there), default=None)


async def check_topics(settings: KafkaSettings, specs: list[TopicSpec]) -> list[Finding]:
    """What differs from `specs` on the broker, wrong things first."""
    async with Admin(settings) as admin:
        there = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
        present = [spec for spec in specs if spec.name in there]
        configs = await configs_of(admin, [spec.name for spec in present]) if present else {}
    findings = [
        Finding(topic=spec.name, wrong=True, message="is not there; make it with `tripline topics create`")
        for spec in specs
        if spec.name not in there
    ]
    for spec in present:
        if there[spec.name] != spec.partitions:
            message = f"has {there[spec.name]} partitions, not {spec.partitions}; a count cannot change under a worker"
            findings.append(Finding(topic=spec.name, wrong=True, message=message))
        for name, wanted in spec.configs.items():
            found = configs.get(spec.name, {}).get(name)
            if found is not None and not _same(found, wanted):
                message = _differs(name, found, wanted)
                findings.append(Finding(topic=spec.name, wrong=_matters(spec, name), message=message))
    return sorted(findings, key=lambda finding: not finding.wrong)


def refuse_misfits(
    settings: KafkaSettings, there: Mapping[str, int], *, sources: int | None, profiles: int | None
) -> tuple[int, int]:
    """Partition counts (sources, profiles) of a broker's topics; `ConfigurationError` when a worker cannot run on them.

    there: partitions by topic. sources, profiles: what `control` fixed when the configuration was applied, if it was.

    >>> settings = KafkaSettings(bootstrap_servers="", inputs={"predictions": "p", "features": "f"})
    >>> refuse_misfits(settings, {"p": 4, "f": 2}, sources=None, profiles=None)
    Traceback (most recent call last):
    schemas.errors.ConfigurationError: inputs must have the same number of partitions: f has 2, p has 4
    """
    counts = {name: there[name] for name in settings.inputs.values() if name in there}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {n}" for name, n in sorted(counts.items()))
        raise ConfigurationError(f"inputs must have the same number of partitions: {listed}")
    found = next(iter(counts.values()), 0)
    wide = there.get(settings.topic("profiles"), 0)
    specs = topic_specs(settings, sources=found, profiles=wide)
    missing = [spec.name for spec in specs if spec.name not in there]
    if missing:
        raise ConfigurationError(f"no topic {', '.join(missing)}; {_how(settings)}")
    for what, now, then in (("the inputs have", found, sources), ("profiles has", wide, profiles)):
        if then is not None and now != then:
            raise ConfigurationError(
                f"{what} {now} partitions, but {then} when the configuration was applied: which partition an event is "
                "in decides who counts it. Go back to the old count, or start a new `kafka.app` on the new topics."
            )
    for spec in specs:
        if there[spec.name] < spec.partitions:
            raise ConfigurationError(f"topic {spec.name} has {there[spec.name]} partitions, needs {spec.partitions}")
    return found, wide


def _how(settings: KafkaSettings) -> str:
    """What to do about a topic that is not seen: a broker does not tell of those that one may not see."""
    make = "make it with `tripline topics create`"
    return f"{make}, or grant the right to see it (deploy/kafka-acls.csv)" if settings.security else make


def _matters(spec: TopicSpec, name: str) -> bool:
    return spec.ours and name in ("cleanup.policy", "message.timestamp.type")


def _differs(name: str, found: str, wanted: str) -> str:
    if name == "message.timestamp.type":
        return f"carries {found}, not {wanted}: replays against producers with skewed clocks differ"
    return f"{name} is {found}, not {wanted}"


def _same(found: str, wanted: str) -> bool:
    try:
        return float(found) == float(wanted)
    except ValueError:
        return set(found.split(",")) == set(wanted.split(","))


async def configs_of(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(asked):
        for code, said, _, name, entries in answer.resources:
            if code:
                raise ConfigurationError(f"settings of topic {name} cannot be read: {for_code(code).__name__} {said}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


class Admin:
    """An admin client for the length of a `with` block; its errors become `BrokerUnavailable`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = AIOKafkaAdminClient(**settings.client("admin"))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        try:
            with Overheard() as overheard:
                await self._admin.start()
        except KafkaError as error:
            await self._admin.close()
            raise overheard.error(self._settings, error) from error
        return self._admin

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self._admin.close()
        if isinstance(error, KafkaError):
            raise explained("", error, self._settings) from error
