"""Options of the test suite. Sockets are blocked everywhere but in integration/ (pyproject: `--disable-socket`)."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka", default="4.3", help="version of Apache Kafka for the integration tests: 4.3 or 3.9")
