"""Fixtures of the tests against real parts. One Kafka for the whole session, topics of its own for each test.

A part that cannot be had skips its tests and says which and why; with CI=true it fails them instead.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import Alertmanager, Kafka
from lacking import without
from parts import PartMissing, kafka_libs, program

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an integration test, and may talk to this machine, and to nothing else."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1", "::1", "localhost"]))


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The session's broker, of the version of `--kafka`. A test that kills it asks for `own_kafka` instead."""
    version = request.config.getoption("--kafka")
    try:
        kafka_libs(version)
    except PartMissing as missing:
        without(missing)
    broker = Kafka(tmp_path_factory.mktemp("kafka"), version=version)
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture
def own_kafka(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kafka]:
    """A broker for this test alone: it may be killed, paused and started again."""
    version = request.config.getoption("--kafka")
    try:
        kafka_libs(version)
    except PartMissing as missing:
        without(missing)
    broker = Kafka(tmp_path / "kafka", version=version)
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Start of the names of this test's topics, groups and application: `t-<test>-<random>-`."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    return f"t-{name}-{secrets.token_hex(3)}-"


@pytest.fixture
def alertmanagers(tmp_path: Path) -> Iterator[Callable[[], Alertmanager]]:
    """`alertmanagers()` starts one more Alertmanager; all are stopped at the end."""
    try:
        program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
    except PartMissing as missing:
        without(missing)
    started: list[Alertmanager] = []

    def another() -> Alertmanager:
        started.append(Alertmanager(tmp_path / f"alertmanager-{len(started)}"))
        return started[-1].start()

    yield another
    for alertmanager in started:
        alertmanager.stop()


@pytest.fixture
def alertmanager(alertmanagers: Callable[[], Alertmanager]) -> Alertmanager:
    """A running Alertmanager."""
    return alertmanagers()


@pytest.fixture
def promtool() -> str:
    """Path of promtool."""
    try:
        return program("promtool", package="prometheus")
    except PartMissing as missing:
        without(missing)
        raise
