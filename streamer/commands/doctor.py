"""`tripline doctor`: what is wrong, or will be, with a running deployment; exit 1 when something is wrong.

Looks and writes nothing. What it asks: the broker (topics, groups, changelogs, what is appended meanwhile), and every
Alertmanager. The file itself is `tripline check`'s affair; here it is compared with what is in force.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from aiokafka.errors import KafkaError

from schemas.errors import AccessDenied, BrokerUnavailable, ConfigurationError, FormatError, ReferenceFileError
from streamer import examining
from streamer.applying import in_words
from streamer.commands.apply import applied, control_of_topic, left_over
from streamer.commands.connecting import settings_from
from streamer.config import Loaded, load
from streamer.core.control import Control
from streamer.examining import Finding, worst_first
from streamer.kafka import survey
from streamer.kafka.key_samples import copartition_findings
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Stage
from streamer.kafka.topics import DECISIONS, check_topics, partition_counts, refuse_misfits, topic_specs
from streamer.sinks.errors import SinkError
from streamer.stages import Monitoring, Profiling

T = TypeVar("T")

#: How long open transactions and clocks are watched.
WATCH_S = 2.5
#: How long one question may take.
PATIENCE_S = 30.0


def doctor(config: Path, *, as_json: bool = False) -> int:
    """Print findings, the worst first; 0: nothing is wrong, 1: something is, 70: Kafka does not answer."""
    # What a client library has to say of a broker that is away is a finding here, and no line of its own.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False
    loaded = load(config)
    settings = settings_from(loaded)
    findings, code = asyncio.run(examined(loaded, settings))
    findings = worst_first(findings)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            print(finding)
        counts = {level: sum(finding.level == level for finding in findings) for level in ("wrong", "warning")}
        print(f"{counts['wrong']} wrong, {counts['warning']} warning{'s' * (counts['warning'] != 1)}")
    return code


async def examined(loaded: Loaded, settings: KafkaSettings) -> tuple[list[Finding], int]:
    """Everything that is found, and the exit code."""
    told = asyncio.create_task(_alertmanagers(loaded))
    try:
        found = await _broker(loaded, settings)
        code = 0
    except (BrokerUnavailable, AccessDenied, TimeoutError, KafkaError) as error:
        what = str(error) or f"no answer for {PATIENCE_S:g} s"
        todo = "is it there, is it this address, do TLS and SASL fit?"
        found = [Finding(level="wrong", check="broker", where=settings.bootstrap_servers, what=what, todo=todo)]
        code = error.exit_code if isinstance(error, AccessDenied) else BrokerUnavailable.exit_code
    found += await told
    return found, code or int(any(finding.level == "wrong" for finding in found))


async def _broker(loaded: Loaded, settings: KafkaSettings) -> list[Finding]:
    there = await _in_time(partition_counts(settings))
    found = []
    control, fault = Control(), ""
    if settings.topic("control") in there:
        try:
            control = await _in_time(control_of_topic(settings))
        except (FormatError, ReferenceFileError) as error:
            fault = str(error)
    found += await _in_time(_topics(settings, there, control))
    if fault:
        todo = "run the version that wrote it"
        return [*found, Finding(level="wrong", check="control", where="control", what=fault, todo=todo)]
    found += examining.in_force(control)
    if not control.models:
        return found
    if not any(finding.check == "topics" and finding.level == "wrong" and not finding.where for finding in found):
        found += await _in_time(_differences(loaded, settings, control))
    found += await _in_time(_copartition(settings, control, there))
    stages: list[Stage] = [Profiling(inputs=tuple(settings.inputs)), Monitoring()]
    groups = [stage.name for stage in stages] + (["notify"] if loaded.config.alertmanager else [])
    watched = {name: there[name] for name in _watched(settings, stages) if name in there}
    held, ahead, members = await asyncio.gather(
        _in_time(survey.held_back(settings, watched, seconds=WATCH_S)),
        _in_time(survey.clock_ahead(settings, there, seconds=WATCH_S)),
        _in_time(survey.members(settings, groups)),
    )
    found += examining.transactions(held, seconds=WATCH_S)
    found.append(examining.clock(ahead))
    tasks = await survey.tasks_seen(settings, stages, control, there)
    found += examining.tasks(tasks, members=members, now=_now() - (ahead or 0))
    found += examining.restores(tasks)
    return found


async def _topics(settings: KafkaSettings, there: Mapping[str, int], control: Control) -> list[Finding]:
    cluster, found = control.cluster, list[Finding]()
    try:
        sources, profiles = refuse_misfits(
            settings,
            there,
            sources=None if cluster is None else cluster.sources,
            profiles=None if cluster is None else cluster.profiles,
        )
    except ConfigurationError as error:
        # In the broker's own words below, topic by topic; this one is what a worker would refuse to start for.
        found.append(Finding(level="wrong", check="topics", where="", what=str(error)))
        inputs = [there[name] for name in settings.inputs.values() if name in there]
        sources = cluster.sources if cluster else max(inputs, default=1)
        profiles = cluster.profiles if cluster else settings.profiles_partitions
    specs = topic_specs(settings, sources=sources, profiles=profiles)
    for finding in await check_topics(settings, specs):
        level: examining.Level = "wrong" if finding.wrong else "warning"
        found.append(Finding(level=level, check="topics", where=finding.topic, what=finding.message))
    names = [spec.name for spec in specs]
    seen, brokers = await survey.topics_seen(settings, names)
    found += examining.sizes(seen[spec.name] for spec in specs if spec.ours and spec.name in seen)
    if not found:
        found.append(Finding(level="fine", check="topics", where="", what=f"{len(specs)}, as they should be"))
    found += examining.replication(seen.values(), brokers=brokers)
    inputs_there = [name for name in settings.inputs.values() if name in seen]
    found += examining.retention(seen, control, inputs=inputs_there, profiles=settings.topic("profiles"))
    return found


async def _differences(loaded: Loaded, settings: KafkaSettings, control: Control) -> list[Finding]:
    """What the file says that is not in force, and the other way round."""
    try:
        changes = await applied(loaded, settings, dry_run=True)
    except (ConfigurationError, ReferenceFileError) as error:
        return [Finding(level="wrong", check="file", where="", what=str(error), todo="`tripline check` says more")]
    found = [
        Finding(
            level="warning", check="file", where="", what=f"{in_words(change)}: not in force", todo="`tripline apply`"
        )
        for change in changes
    ]
    for name in left_over(loaded, control):
        what = "is in force, and not in the file: its events are counted as before"
        found.append(Finding(level="warning", check="file", where=name, what=what))
    return found or [Finding(level="fine", check="file", where="", what="is what is in force")]


async def _copartition(settings: KafkaSettings, control: Control, there: Mapping[str, int]) -> list[Finding]:
    if not any(of_model[-1].horizon_ms for of_model in control.models.values()):
        return []
    said = await copartition_findings(settings, there)
    return [Finding(level="wrong", check="co-partition", where="", what=words) for words in said] or [
        Finding(level="fine", check="co-partition", where="", what="outcomes lie with their predictions")
    ]


async def _alertmanagers(loaded: Loaded) -> list[Finding]:
    settings = loaded.config.alertmanager
    if settings is None:
        what = "none is configured: incidents stay on Kafka"
        return [Finding(level="warning", check="alertmanager", where="", what=what)]
    from streamer.sinks.alertmanager import connect

    found = []
    try:
        sink = connect(settings, os.environ)
    except ConfigurationError as error:
        return [Finding(level="wrong", check="alertmanager", where="", what=str(error))]
    async with sink:
        for url in settings.urls:
            try:
                status = await sink.status(url)
            except SinkError as error:
                todo = "nobody hears of an incident through it: address, credentials, TLS?"
                what = str(error).removeprefix(url).removeprefix(": ")
                found.append(Finding(level="wrong", check="alertmanager", where=url, what=what, todo=todo))
                continue
            what = f"answers, version {status.version}"
            found.append(Finding(level="fine", check="alertmanager", where=url, what=what))
            if status.at is not None and abs(ahead := round(status.at - datetime.now(UTC).timestamp())) > 5:
                found.append(examining.clock(ahead * 1000, where=url, than="this machine"))
    return found


def _watched(settings: KafkaSettings, stages: list[Stage]) -> list[str]:
    """Topics in which an open transaction of ours would hide something from somebody."""
    ours = [settings.topic(name) for name in ("profiles", *DECISIONS)]
    return [*settings.inputs.values(), *ours, *(settings.changelog(stage.name) for stage in stages)]


async def _in_time(asked: Awaitable[T]) -> T:
    return await asyncio.wait_for(asked, PATIENCE_S)


def _now() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)
