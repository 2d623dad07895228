"""Real parts on a bare machine: Apache Kafka, Alertmanager and promtool as child processes on 127.0.0.1.

Standard library only, no pytest: tests, benchmarks and `make up` start the same thing. Each process is ended by its
own pid, and dies with the process that started it. Ports lie below 32768, so that no outgoing connection holds them.

    python tests/integration/brokers.py [4.3|3.9]    # `make up`: a Kafka and an Alertmanager, until Ctrl-C
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from parts import VERSIONS, PartMissing, kafka_libs, program

START_SECONDS = 60.0

T = TypeVar("T")

KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""

KAFKA_4_PROPERTIES = """\
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""

LOG4J2 = """\
status=error
rootLogger.level=info
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c)%n
"""

LOG4J1 = """\
log4j.rootLogger=INFO, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n
"""

ALERTMANAGER_YML = """\
route: {receiver: nobody, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: nobody}]
"""


def eventually(look: Callable[[], T], *, within: float = 30.0, every: float = 0.05, what: str = "") -> T:
    """First true answer of `look()`; AssertionError with its last answer when there is none `within` seconds."""
    end = time.monotonic() + within
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what or getattr(look, '__name__', 'it')}: not within {within} s; last {answer!r}")
        time.sleep(every)


def free_port(wish: int | None = None) -> int:
    """A port of 127.0.0.1 that nobody listens on, below the ephemeral range; `wish` when that is free."""
    for attempt in range(200):
        port = wish if wish is not None and attempt == 0 else random.randrange(20_000, 32_000)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise PartMissing("no free port between 20000 and 32000")


class Process:
    """A child process with a log file; `stop`, `kill`, `pause`, `resume` act on its own pid only."""

    def __init__(self, *, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.command, self.log, self.environment = command, log, environment
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def code(self) -> int:
        """How it ended; 0 or more by itself, minus the signal otherwise."""
        assert self._child is not None
        assert self._child.returncode is not None
        return self._child.returncode

    def spawn(self) -> None:
        # setpriv replaces itself by the program: the same pid, and it dies with us however we die.
        tie = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log.open("ab") as out:
            self._child = subprocess.Popen(
                [*tie, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.log.parent,
                env=self.environment,
            )

    def stop(self, *, within: float = 20.0) -> None:
        """SIGTERM, then SIGKILL when it does not end."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)
            self._child.terminate()
        try:
            self._child.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a machine that goes away."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Kafka(Process):
    """One broker that is its own controller. `bootstrap` stays the same over `kill` and `start`; so does the data."""

    def __init__(self, folder: Path, *, version: str = "4.3.1", heap_mb: int = 768, port: int | None = None) -> None:
        self.version = VERSIONS[version]
        self.folder = folder
        self.heap_mb = heap_mb
        libs = kafka_libs(version)
        self._classpath = f"{libs}/*"
        self._wish, self.port = port, 0
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(command=[], log=folder / "kafka.log")

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Kafka:
        """Format when new, start, and wait until it serves."""
        for _ in range(3):
            if not (self.folder / "data" / "meta.properties").exists():
                self._format()
            before = self.log.stat().st_size if self.log.exists() else 0
            self.spawn()
            with contextlib.suppress(_EndedEarly):
                eventually(lambda: self._serves(before), within=START_SECONDS, what="Kafka")  # noqa: B023
                return self
            if "Address already in use" not in self.tail():
                break
            shutil.rmtree(self.folder / "data")
        raise AssertionError(f"Kafka did not start:\n{self.tail()}")

    def _serves(self, since: int) -> bool:
        if not self.running:
            raise _EndedEarly
        with self.log.open("rb") as log:
            log.seek(since)
            return b"Kafka Server started" in log.read()

    def _format(self) -> None:
        self.port, controller = free_port(self._wish), free_port()
        extra = KAFKA_4_PROPERTIES if self.version.startswith("4") else ""
        values = {"port": self.port, "controller": controller, "data": self.folder / "data"}
        properties = self.folder / "server.properties"
        properties.write_text((KAFKA_PROPERTIES + extra).format(**values))
        logging = self.folder / "log4j.properties"
        logging.write_text(LOG4J2 if self.version.startswith("4") else LOG4J1)
        option = "log4j2.configurationFile" if self.version.startswith("4") else "log4j.configuration"
        java = ["java", "-Xms256m", f"-Xmx{self.heap_mb}m", "-XX:+UseG1GC", "-cp", self._classpath]
        java.append(f"-D{option}=file:{logging}")
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        # A leading "-" would be read as an option.
        cluster = "A" + cluster[1:]
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(properties)],
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
        )
        self.command = [*java, "kafka.Kafka", str(properties)]


class _EndedEarly(Exception):
    """The process ended before it served."""


class Alertmanager(Process):
    """A real Alertmanager with storage of its own; `url` stays the same over `stop` and `start`."""

    def __init__(self, folder: Path, *, config: str = ALERTMANAGER_YML, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "alertmanager.yml").write_text(config)
        binary = program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
        self.port = free_port(port)
        command = [
            binary,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        super().__init__(command=command, log=folder / "alertmanager.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Alertmanager:
        """Start, and wait until it is ready."""
        self.spawn()
        eventually(self._ready, within=START_SECONDS, what="Alertmanager")
        return self

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        """Alerts that it holds now, resolved ones included as long as it does, with all of `labels`."""
        found = self._get("/api/v2/alerts?active=true&silenced=true&inhibited=true")
        assert isinstance(found, list)
        return [alert for alert in found if labels.items() <= alert["labels"].items()]

    def amtool(self, *arguments: str) -> str:
        """What `amtool --alertmanager.url=… ARGUMENTS` prints."""
        command = [program("amtool", package="prometheus-alertmanager"), f"--alertmanager.url={self.url}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

    def _ready(self) -> bool:
        if not self.running:
            raise AssertionError(f"Alertmanager did not start:\n{self.tail()}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)


def promtool_check_metrics(text: str) -> str:
    """What `promtool check metrics` says of an exposition; empty when it is clean."""
    command = [program("promtool", package="prometheus"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout + done.stderr).strip()


@contextlib.contextmanager
def parts_up(folder: Path, *, version: str = "4.3.1") -> Iterator[tuple[Kafka, Alertmanager]]:
    """A running Kafka and Alertmanager, on their usual ports when those are free, stopped at the end."""
    kafka = Kafka(folder / "kafka", version=version, port=9092)
    alertmanager = Alertmanager(folder / "alertmanager", port=9093)
    try:
        yield kafka.start(), alertmanager.start()
    finally:
        alertmanager.stop()
        kafka.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="Kafka and Alertmanager on this machine, until Ctrl-C")
    parser.add_argument("version", nargs="?", default="4.3", choices=sorted(VERSIONS))
    version = parser.parse_args().version
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tripline-up-") as folder,
            parts_up(Path(folder), version=version) as (kafka, alertmanager),
            contextlib.suppress(KeyboardInterrupt),
        ):
            print(
                f"Kafka {kafka.version} at {kafka.bootstrap}, Alertmanager at {alertmanager.url}; Ctrl-C ends both",
                flush=True,
            )
            signal.pause()
    except PartMissing as missing:
        print(missing, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
