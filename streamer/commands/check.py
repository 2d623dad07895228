"""`tripline check`: every error of the configuration, and what will surprise; exit 2 on errors, 0 otherwise."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import msgspec

from detectors.references import Reference
from schemas.errors import BrokerUnavailable, ConfigurationError, FormatError
from schemas.layouts import Layout
from streamer.applying import load_references, targets
from streamer.checking import warnings_of
from streamer.config import ConfigurationErrors, Loaded, json_schema, load
from streamer.pending_estimate import PendingEstimate, pending_estimate, too_many
from streamer.sampling import sample_findings

#: How long `check` waits for a broker that may not be there.
BROKER_SECONDS = 5.0
#: And how long for some records of its inputs.
SAMPLE_SECONDS = 3.0


@dataclass
class Findings:
    """What was found. notes: what could not be looked at."""

    errors: list[ConfigurationError] = field(default_factory=list)
    warnings: list[ConfigurationError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(config: Path, *, sample: Path | None = None, broker: bool = True, as_json: bool = False) -> int:
    """Print what is wrong with a configuration and what will surprise; the exit code."""
    found = Findings()
    try:
        loaded = load(config)
        references = load_references(loaded)
        layouts = targets(loaded, references)
    except ConfigurationErrors as error:
        found.errors = error.errors
    except ConfigurationError as error:
        found.errors = [error]
    else:
        _look(found, loaded, layouts, references, sample=sample, broker=broker)
    _say(found, config, as_json=as_json)
    return 2 if found.errors else 0


def print_schema() -> None:
    """Print the JSON Schema of the file."""
    print(json.dumps(json_schema(), indent=2))


def print_config(config: Path) -> None:
    """Print the configuration as it is understood, defaults and all; of secrets only where they are. As JSON."""
    loaded = load(config)
    print(json.dumps(loaded.config.model_dump(mode="python"), indent=2, ensure_ascii=False, default=_understood))


def _understood(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _look(
    found: Findings,
    loaded: Loaded,
    layouts: dict[str, Layout],
    references: dict[str, Reference],
    *,
    sample: Path | None,
    broker: bool,
) -> None:
    found.warnings += sorted(warnings_of(loaded, layouts, references), key=lambda warning: warning.line)
    if sample is not None:
        errors, warnings = sample_findings(loaded, layouts, references, sample)
        found.errors += errors
        found.warnings += warnings
    estimate = pending_estimate(layouts, references)
    if estimate is not None:
        found.notes.append(
            f"outcomes: about {estimate.rows:,} predictions will wait for theirs ({estimate.words}), "
            f"{estimate.bytes / 1e6:,.0f} MB over all partitions"
        )
    if broker and loaded.config.kafka is not None:
        try:
            _ask_broker(found, loaded, estimate)
        except ConfigurationError as error:
            found.errors.append(error)


def _ask_broker(found: Findings, loaded: Loaded, estimate: PendingEstimate | None) -> None:
    from streamer.commands.connecting import settings_from
    from streamer.kafka.key_samples import copartition_findings
    from streamer.kafka.settings import KafkaSettings
    from streamer.kafka.topics import Finding, check_topics, partition_counts, sources_of, topic_specs

    apart: list[str] = []
    sources = 0

    async def ask(settings: KafkaSettings) -> list[Finding]:
        nonlocal sources
        there = await partition_counts(settings)
        sources = there.get(settings.inputs.get("predictions", ""), 0)
        if estimate is not None:
            try:
                apart.extend(await asyncio.wait_for(copartition_findings(settings, there), SAMPLE_SECONDS))
            except TimeoutError:
                found.notes.append("where outcomes lie was not looked at: the broker is slow")
        specs = topic_specs(settings, sources=sources_of(settings, there) or 1, profiles=settings.profiles_partitions)
        return await check_topics(settings, specs)

    settings = settings_from(loaded)
    try:
        findings = asyncio.run(asyncio.wait_for(ask(settings), BROKER_SECONDS))
    except (BrokerUnavailable, FormatError, TimeoutError) as error:
        found.notes.append(f"topics were not looked at: {error or 'no answer'} ({settings.bootstrap_servers})")
        return
    for words in apart:
        found.warnings.append(loaded.fault("kafka", "inputs", message=words))
    refused = too_many(estimate, limit=loaded.config.limits.pending_rows, partitions=sources) if estimate else ""
    if refused and sources:
        found.errors.append(loaded.fault("limits", "pending_rows", message=refused))
    for finding in findings:
        fault = loaded.fault("kafka", message=f"topic {finding.topic}: {finding.message}")
        # Topics that are not there yet are the next step, not a mistake of the file.
        found.warnings.append(fault)


def _say(found: Findings, config: Path, *, as_json: bool) -> None:
    if as_json:
        plain = {
            "errors": [_plain(error) for error in found.errors],
            "warnings": [_plain(warning) for warning in found.warnings],
            "notes": found.notes,
        }
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    for error in found.errors:
        print(error, file=sys.stderr)
    for warning in found.warnings:
        file = f"{warning.file}:{warning.line}" if warning.line else warning.file
        place = ": ".join(part for part in (file, warning.path) if part)
        print(f"{place}: warning: {warning.message}")
    for note in found.notes:
        print(f"note: {note}")
    if not found.errors:
        count = len(found.warnings)
        print(f"{config}: no errors, {count} warning{'s' * (count != 1)}")


def _plain(error: ConfigurationError) -> dict[str, Any]:
    return {"file": error.file, "line": error.line, "path": error.path, "message": error.message}
