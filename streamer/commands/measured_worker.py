"""A `tripline run` as a child process whose CPU time, memory and counters are read from outside.

Why: a benchmark inside the worker's own process would measure itself too, and a benchmark of the pieces would leave
out what lies between them. Linux only: the kernel's own accounting in /proc counts every thread.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^([a-z_:][a-z0-9_:]*)(?:\{([^}]*)\})? ([-+0-9.eEinfNa]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class MeasuredWorker:
    """One worker process on a configuration file; ended by its own pid when the `with` block is left.

    port: of its metrics, as the file says.
    """

    def __init__(self, configuration: Path, *, port: int, slot: int = 0) -> None:
        self.configuration, self.port, self.slot = configuration, port, slot
        self.log = configuration.with_suffix(".log")

    def __enter__(self) -> MeasuredWorker:
        with self.log.open("wb") as out:
            self._child = subprocess.Popen(
                [*tripline(), "run", "-c", str(self.configuration), "--slot", str(self.slot)],
                cwd=self.configuration.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(20)
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_until_ready(self, *, within: float = 60.0) -> None:
        """Until `/readyz` says so: its tasks are assigned and restored."""
        self.wait_until(lambda: self._page("readyz") is not None, what="ready", within=within)

    def wait_until(self, look: Callable[[], T | None], *, what: str, within: float = 120.0, every: float = 0.1) -> T:
        """First true answer of `look()`; RuntimeError with the worker's log when it ends or there is none in time."""
        end = time.monotonic() + within
        while not (answer := look()):
            if self._child.poll() is not None or time.monotonic() > end:
                ended = f"ended with {self._child.returncode}" if self._child.returncode is not None else "still runs"
                raise RuntimeError(f"worker not {what} in {within:.0f} s; {ended}:\n{self.log.read_text()[-4000:]}")
            time.sleep(every)
        return answer

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, by the kernel's account (10 ms)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Resident memory in MB (10⁶ bytes) now; `VmHWM`: the most so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 / 1e6 if found else 0.0

    def counters(self) -> dict[str, float]:
        """Its metrics, summed over their labels; a label's own sum stands under `name{label="value"}`."""
        return sums_of(self._page("metrics") or "")

    def _page(self, name: str) -> str | None:
        # A worker that is busy, or not up yet, answers later.
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=5) as answer:
                return str(answer.read().decode())
        except (OSError, http.client.HTTPException):
            return None


def tripline() -> list[str]:
    """The command of the environment that this runs in."""
    script = Path(sys.executable).with_name("tripline")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from streamer.commands import main; main()"]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sums_of(exposition: str) -> dict[str, float]:
    r"""Samples of a Prometheus exposition, summed by name and by name with one label.

    >>> sums_of('a_total{r="x",s="1"} 2.0\na_total{r="x",s="2"} 3.0\n')['a_total{r="x"}']
    5.0
    """
    found: dict[str, float] = {}
    for name, labels, value in _SAMPLE.findall(exposition):
        for key in (name, *(f'{name}{{{label}="{of}"}}' for label, of in _LABEL.findall(labels))):
            found[key] = found.get(key, 0.0) + float(value)
    return found
