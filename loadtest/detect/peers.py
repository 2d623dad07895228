"""The competitors, asked: a process of their own environment, which answers one job at a time, in order.

Why apart: their packages pin other versions than ours, and a benchmark must not import what it judges. The environment
is `.venv-peers` (`make peers`, or made by the benchmark where it lacks), or the one that `--peers` names. Without one,
`why` says so and their rows are `n/a`. What runs there is `loadtest/peers/serve.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.detect.run_length import Rate
from loadtest.peers.contestants import Peer
from schemas.errors import ConfigurationError

Floats: TypeAlias = npt.NDArray[np.float64]

FOLDER = Path(__file__).parents[1] / "peers"


@dataclass(frozen=True)
class Environment:
    """An environment of its own: folder, its pins, and what runs there."""

    folder: str
    pins: Path
    serve: str


DETECTORS = Environment(".venv-peers", FOLDER / "requirements.txt", "serve.py")
#: Evidently and NannyML pin other versions than the detectors do.
NAIVE = Environment(".venv-naive", FOLDER / "naive.txt", "verdicts.py")


class PeerError(RuntimeError):
    """A peer could not do a job; the text is its own."""


class Peers:
    """A running environment, or, with `why`, none. Jobs run one by one, beside the caller; answers are futures."""

    def __init__(self, python: Path | None, why: str = "", *, serve: str = DETECTORS.serve) -> None:
        self.why = why
        self._process: subprocess.Popen[str] | None = None
        self._turns = ThreadPoolExecutor(1)
        self._folder = tempfile.TemporaryDirectory(prefix="tripline-peers-")
        self._files = 0
        if python is not None:
            command = [str(python), "-E", "-s", str(FOLDER / serve)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._turns.shutdown(wait=kind is None, cancel_futures=True)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._folder.cleanup()

    def file(self, values: npt.NDArray[Any] | None = None) -> str:
        """A file for jobs, with these values in it; it goes when the process does."""
        self._files += 1
        name = str(Path(self._folder.name) / f"{self._files}.npy")
        if values is not None:
            np.save(name, values)
        return name

    def submit(self, do: str, **job: Any) -> Future[dict[str, Any]]:
        """Queue a job; its answer raises `PeerError` when the peer failed or there is none."""
        return self._turns.submit(self._ask, {"do": do, **job})

    def rate(self, peer: Peer, knob: float, values: str, *, alarms: int, events: int) -> Rate:
        """False alarms on a file in which nothing changes, until so many alarms or events."""
        found = self.submit("rate", peer=peer.name, knob=knob, values=values, alarms=alarms, events=events).result()
        return Rate(found["alarms"], found["events"])

    def versions(self) -> dict[str, str]:
        """What is installed there; empty without an environment."""
        return {} if self._process is None else dict(self.submit("versions").result())

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise PeerError(self.why)
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError as error:
            raise PeerError(f"the peers' process ended: {error}") from error
        if not answer:
            raise PeerError("the peers' process ended")
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise PeerError(found["error"])
        return found


def open_peers(
    path: Path | None, *, root: Path, say: Callable[[str], None], environment: Environment = DETECTORS
) -> Peers:
    """The environment at `path` (a folder of a venv, or its python), by default its own, made where it lacks.

    `ConfigurationError` when `path` is given and is none; what cannot be made is not an error, but peers with a `why`.
    """
    if path is not None:
        python = path if path.is_file() else _python(path)
        if not python.is_file():
            raise ConfigurationError(f"--peers: there is no Python at {path}; `make peers` makes an environment")
        return Peers(python, serve=environment.serve)
    folder, pins = root / environment.folder, environment.pins.read_text(encoding="utf-8")
    stamp = folder / environment.pins.name
    if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == pins):
        say(f"installing the competitors into {environment.folder} (once; `make peers` does it too)")
        try:
            _make(folder, environment.pins)
        except (subprocess.CalledProcessError, OSError) as error:
            output = getattr(error, "stderr", None) or str(error)
            last = output.strip().splitlines()[-1][:160] if output.strip() else str(error)
            return Peers(None, f"no environment for it: {last}")
        stamp.write_text(pins, encoding="utf-8")
    return Peers(_python(folder), serve=environment.serve)


def _make(folder: Path, pins: Path) -> None:
    # The pins are whole, so nothing is resolved: older pips stumble over pins of packages with extras.
    pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    pip += ["-r", str(pins)]
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(_python(folder)), *pip]):
        subprocess.run(command, check=True, capture_output=True, text=True)


def _python(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def knob_for(
    peer: Peer,
    ask: Callable[[float, int], Rate],
    *,
    arl: float,
    alarms: int,
    beyond: float | None = None,
    start: float | None = None,
) -> tuple[float, Rate]:
    """The knob whose null has one alarm per `arl` events within 15 %, and its rate over `alarms` alarms.

    ask(knob, alarms): the rate of a run of so many alarms, or of 1.4 times as many events as they should take.
    Bisection on its logarithm with few alarms, then Newton's steps with all of them. beyond: a knob that alarms too
    often, but within a tenth. start: a knob that is near already. `ValueError` when none is near enough.
    """
    low, high = float(np.log(peer.low)), float(np.log(peer.high))
    if beyond is not None and peer.rising:
        low, high = float(np.log(beyond)) - 3.0, float(np.log(beyond))
    elif beyond is not None:
        low, high = float(np.log(beyond)), float(np.log(beyond)) + 1.5
    rough: list[tuple[float, float]] = []
    for _ in range(0 if start is not None else 9 if beyond is None else 5):
        at = (low + high) / 2
        off = _off(ask(float(np.exp(at)), 10), arl)
        rough.append((at, off))
        # A rare alarm is a run length above the wanted one.
        low, high = (low, at) if (off < 0) == peer.rising else (at, high)
    near = sorted(rough, key=lambda point: abs(point[1]))
    at, fine = float(np.log(start)) if start is not None else near[0][0], []
    best: tuple[float, float, Rate] | None = None
    for _ in range(8):
        found = ask(float(np.exp(at)), alarms)
        off = _off(found, arl)
        fine.append((at, off))
        if best is None or abs(off) < abs(best[0]):
            best = (off, at, found)
        if abs(off) < 0.12:
            break
        at = float(np.clip(_next(fine, near[:4], rising=peer.rising), np.log(peer.low), np.log(peer.high)))
    assert best is not None
    if abs(best[0]) > np.log(1.15):
        raise ValueError(f"no {peer.knob} in [{peer.low:g}, {peer.high:g}] gives one alarm per {arl:g} events; "
                         f"nearest: one per {best[2].events / max(best[2].alarms, 1):,.0f}")  # fmt: skip
    return float(np.exp(best[1])), best[2]


def _off(found: Rate, arl: float) -> float:
    """Log of the attained run length over the wanted one; without an alarm as if there had been half of one."""
    return float(np.log(found.events / max(found.alarms, 0.5) / arl))


def _next(fine: list[tuple[float, float]], rough: list[tuple[float, float]], *, rising: bool) -> float:
    """Between the nearest points on either side of 0; else from the last one, by the slope of the rough ones."""
    above = min((point for point in fine if point[1] >= 0), key=lambda point: point[1], default=None)
    below = max((point for point in fine if point[1] < 0), key=lambda point: point[1], default=None)
    if above is not None and below is not None:
        return above[0] + (below[0] - above[0]) * above[1] / (above[1] - below[1])
    if len(rough) < 2:
        return fine[-1][0] + fine[-1][1] * (0.7 if rising else -0.25)
    x, y = np.array(rough).T
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(float(((x - x.mean()) ** 2).sum()), 1e-12))
    step = fine[-1][1] / slope if slope else 0.1
    return fine[-1][0] - float(np.clip(step, -0.5, 0.5))
