"""The command line's own composition root: a configuration file becomes settings, with this process's environment."""

from __future__ import annotations

import os
from pathlib import Path

from streamer.config import Loaded, load
from streamer.connections import kafka_settings
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import Since
from streamer.spans import instant


def settings_of(config: Path) -> KafkaSettings:
    """Settings of Kafka clients from a configuration file."""
    return settings_from(load(config))


def settings_from(loaded: Loaded) -> KafkaSettings:
    """Settings of Kafka clients from a configuration."""
    return kafka_settings(loaded, os.environ)


def since_of(text: str) -> Since:
    """`earliest`, `latest`, or a time."""
    named: dict[str, Since] = {"earliest": "earliest", "latest": "latest"}
    if text in named:
        return named[text]
    try:
        return instant(text)
    except ValueError as error:
        # Late: it brings pyarrow, which a worker that starts need not wait for.
        from streamer.table_files import TableError

        raise TableError(f"--since {text!r}: {error}, or earliest, or latest") from error
