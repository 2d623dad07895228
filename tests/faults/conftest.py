"""The fault suite talks to real parts on this machine, as tests/integration does; its launchers are those."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Launchers import each other by their bare names.
sys.path.append(str(HERE.parent / "integration"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs real parts, and may talk to this machine, and to nothing else."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1", "::1", "localhost"]))


@pytest.fixture(scope="session")
def version(request: pytest.FixtureRequest) -> str:
    """Version of Kafka; where it, or Alertmanager, is not to be had, the tests are skipped and say why."""
    from parts import PartMissing, kafka_libs, program

    found = str(request.config.getoption("--kafka"))
    try:
        kafka_libs(found)
        program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
    except PartMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI allows no skip: {missing}", pytrace=False)
        pytest.skip(str(missing))
    return found
