"""No fault of ours ends a command with 1, which is an answer, nor without a word."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.app import Worker
from streamer.commands.run import serve
from streamer.kafka.settings import KafkaSettings

#: A command of the real command line whose body is put in.
COMMAND = """\
import sys
from streamer import commands
@commands.app.command("odd")
def odd() -> None:
    {body}
sys.argv = ["tripline", "odd"]
commands.main()
"""


def ended(body: str, *, read: int = -1) -> tuple[int, str]:
    """Exit code and what was said on stderr. read: so many bytes of its output, then its reader goes away; -1: all."""
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    if read >= 0:
        child.stdout.read(read)
        child.stdout.close()
        said = child.stderr.read()
        child.stderr.close()
    else:
        _, said = child.communicate(timeout=60)
    return child.wait(60), said.decode()


def test_an_installation_that_is_not_whole_ends_with_70_and_a_sentence(tmp_path: Path) -> None:
    """Not with Python's own 1: a package that the command line itself needs is broken."""
    (tmp_path / "typer.py").write_text("raise ImportError('half of it is missing')")
    command = [sys.executable, "-c", "from streamer.start import main; main()", "check"]
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 70
    last = "tripline: cannot start: ImportError: half of it is missing; is it installed whole?"
    assert done.stderr.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("raise ValueError('no such thing')", "unexpected: ValueError: no such thing; this is a fault of ours"),
        ("raise OSError(5, 'Input/output error')", "unexpected: OSError: [Errno 5] Input/output error"),
        # Of a connection, not of our output: typer takes it for the latter, and says nothing.
        ("raise BrokenPipeError(32, 'Broken pipe')", "unexpected: BrokenPipeError: [Errno 32] Broken pipe"),
        ("import nowhere", "unexpected: ModuleNotFoundError: No module named 'nowhere'"),
        ("import asyncio; raise asyncio.CancelledError", "unexpected: CancelledError"),
    ],
)
def test_what_nobody_expected_ends_with_70_and_a_sentence(body: str, named: str) -> None:
    code, said = ended(body)
    assert code == 70
    assert named in said.splitlines()[-1]
    assert "Traceback" in said


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`tripline … | head -1`."""
    assert ended("print('a line' * 1_000_000)", read=4) == (0, "")
    assert ended("print('a line')", read=0) == (0, "")


class Odd(Worker):
    """A worker that ends in an odd way."""

    starts: Callable[[], None] = staticmethod(lambda: None)
    stops: Callable[[], None] = staticmethod(lambda: None)

    async def start(self) -> None:
        type(self).starts()

    async def stop(self) -> None:
        type(self).stops()


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return staticmethod(work)  # type: ignore[return-value]


@pytest.mark.parametrize("when", ["starts", "stops"])
@pytest.mark.parametrize(
    ("error", "named"),
    [
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (RuntimeError("no loop"), "no loop"),
        (asyncio.CancelledError(), "was cancelled from within"),
    ],
    ids=["pipe", "runtime", "cancelled"],
)
def test_a_worker_that_fails_oddly_ends_with_70_and_its_cause(
    when: str, error: BaseException, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While it starts, or while it stops: a client library may raise anything, a cancellation too."""
    chosen = {"starts": raising(error)}
    if when == "stops":
        # Stopped because it failed; how it then stops does not hide why.
        chosen = {"starts": raising(ValueError("the first")), "stops": raising(error)}
    odd = type("Chosen", (Odd,), chosen)
    with caplog.at_level(logging.ERROR):
        code = asyncio.run(serve(lambda: odd(KafkaSettings(bootstrap_servers="127.0.0.1:1"))))
    assert code == 70
    assert ("the first" if when == "stops" else named) in caplog.text
