"""Options and rules of the whole suite.

Sockets are blocked but in integration/ and faults/ (pyproject: `--disable-socket`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# `tests.…` and `loadtest.…` import from anywhere. At the end of the path: what is installed comes before the sources.
sys.path.append(str(Path(__file__).parents[1]))

#: In the reason of a skip for want of a public stream. Those lie beside the source tree where they may: no part of it.
PUBLIC_STREAMS = "../shared/data"
REAL_PARTS = ("tests/integration/", "tests/faults/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka", default="4.3", help="version of Apache Kafka for the integration tests: 4.3 or 3.9")
    parser.addoption("--outcome-rows", default="60000", help="predictions of the truth test of outcomes: 300000")


def pytest_report_header() -> str:
    import streamer

    return f"tripline: {Path(streamer.__file__).parent}"


def pytest_configure() -> None:
    """`make test` says which code it means to test: a source tree on the path must not hide a broken wheel."""
    import streamer

    if os.environ.get("TRIPLINE_TESTS_ON") == "wheel" and "site-packages" not in streamer.__file__:
        raise pytest.UsageError(f"the tests should run on the built wheel, but found {streamer.__file__}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true, a skipped integration test is a failure: a part that is not there would hide what it tests.

    A public stream that is not there is none.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None:
        return
    skipped = [
        report
        for report in reporter.stats.get("skipped", ())
        if report.nodeid.startswith(REAL_PARTS) and PUBLIC_STREAMS not in str(report.longrepr)
    ]
    if skipped:
        reporter.write_line(
            f"CI allows no skip, and skipped were: {', '.join(one.nodeid for one in skipped)}", red=True
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
