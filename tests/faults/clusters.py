"""Brokers behind proxies: one, or three that replicate (three copies, two in sync) and whose leader is what dies."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from brokers import Kafka, eventually, free_port
from confluent_kafka.admin import AdminClient

from tests.faults.proxies import Mode, Proxy

#: A broker that comes back on a machine that does much else.
START_SECONDS = 180.0
#: Of three brokers, each its own controller too. Elections and fencing in seconds, as a storm wants them.
REPLICATED = """\
default.replication.factor=3
min.insync.replicas=2
replica.lag.time.max.ms=5000
replica.fetch.wait.max.ms=100
"""


class BehindProxy(Kafka):
    """A broker that tells its clients to come through a proxy. voters: every node's controller address, by node id."""

    def __init__(
        self, folder: Path, *, version: str, heap_mb: int = 512, node: int = 1, voters: dict[int, int] | None = None
    ) -> None:
        super().__init__(folder, version=version, heap_mb=heap_mb)
        self.front, self.node = free_port(), node
        self._voters = voters or {}
        self._cluster_id = ""

    def told(self, cluster_id: str) -> BehindProxy:
        """Of that cluster; before `start`."""
        self._cluster_id = cluster_id
        return self

    def launch(self) -> None:
        """Format when new and start, without waiting until it serves."""
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        self.spawn()

    def _format(self) -> None:
        if not self._voters:
            super()._format()
            self._advertise()
            return
        # The launcher's own format makes a cluster of one: its files are kept, and formatted anew as one of three.
        super()._format()
        import shutil

        shutil.rmtree(self.folder / "data")
        self._advertise()
        properties = self.folder / "server.properties"
        lines = properties.read_text().splitlines()
        own = self._voters[self.node]
        kept = [line for line in lines if not line.startswith(("controller.quorum", "node.id", "listeners="))]
        kept = [
            line.replace("replication.factor=1", "replication.factor=3").replace("min.isr=1", "min.isr=2")
            for line in kept
        ]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in self._voters.items())
        listeners = f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{own}"
        kept += [f"node.id={self.node}", f"controller.quorum.voters={voters}", listeners]
        # Brokers talk to each other past the proxies, which stand between them and their clients only.
        inner = free_port()
        text = "\n".join(kept) + "\n" + REPLICATED
        text = text.replace(
            f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER",
            f"PLAINTEXT://127.0.0.1:{self.port},INNER://127.0.0.1:{inner},CONTROLLER",
        )
        text = text.replace(
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.front}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.front},INNER://127.0.0.1:{inner}",
        )
        text = text.replace("inter.broker.listener.name=PLAINTEXT", "inter.broker.listener.name=INNER")
        text = text.replace("CONTROLLER:PLAINTEXT,PLAINTEXT", "CONTROLLER:PLAINTEXT,INNER:PLAINTEXT,PLAINTEXT")
        properties.write_text(text)
        java = self.command[:-2]
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(properties)],
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
        )

    def _advertise(self) -> None:
        properties = self.folder / "server.properties"
        told = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}"
        properties.write_text(properties.read_text().replace(told, told.replace(str(self.port), str(self.front))))


class Brokers:
    """What a storm's workers talk to: one broker, or three. `kill`, `start`, `pause`, `resume` act on one of them.

    Of three, it is the leader of the first partition of `topic`, when that is known.
    """

    def __init__(self, folder: Path, *, version: str, brokers: int = 1) -> None:
        voters = {node: free_port() for node in range(1, brokers + 1)} if brokers > 1 else {}
        cluster_id = "A" + base64.urlsafe_b64encode(os.urandom(16)).decode()[1:22]
        self.nodes = [
            BehindProxy(
                folder / f"kafka-{node}", version=version, heap_mb=384 if voters else 512, node=node, voters=voters
            ).told(cluster_id)
            for node in range(1, brokers + 1)
        ]
        self.version = self.nodes[0].version
        self.topic = ""
        self.killed = 0
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            eventually(lambda: "Kafka Server started" in node.tail(400), within=START_SECONDS, what=node.tail())  # noqa: B023
        self.lines = [Proxy(port=node.front, target=node.port) for node in self.nodes]
        self._chosen = self.nodes[0]

    @property
    def bootstrap(self) -> str:
        """Addresses of all, through their proxies."""
        return ",".join(f"127.0.0.1:{node.front}" for node in self.nodes)

    def set(self, mode: Mode) -> None:
        """What happens to connections of clients, to every broker."""
        for line in self.lines:
            line.set(mode)

    def kill(self) -> None:
        """SIGKILL of the leader."""
        self._chosen = self._leader()
        self._chosen.kill()
        self.killed += 1

    def start(self) -> None:
        """The one that was killed comes back."""
        before = self._chosen.log.stat().st_size
        self._chosen.spawn()
        eventually(lambda: self._chosen._serves(before), within=START_SECONDS, what=self._chosen.tail())

    def pause(self) -> None:
        """SIGSTOP of the leader."""
        self._chosen = self._leader()
        self._chosen.pause()

    def resume(self) -> None:
        """SIGCONT of the one that was stopped."""
        self._chosen.resume()

    def close(self) -> None:
        """No more."""
        for line in self.lines:
            line.close()
        for node in self.nodes:
            node.kill()

    def _leader(self) -> BehindProxy:
        if len(self.nodes) == 1 or not self.topic:
            return self.nodes[0]
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        leader = admin.list_topics(self.topic, timeout=30).topics[self.topic].partitions[0].leader
        return next((node for node in self.nodes if node.node == leader), self.nodes[0])
