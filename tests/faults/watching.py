"""Who made progress when: deltas of each (model, source) as a committed reader sees them arrive."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from schemas.profiles import Delta, decode


class Watcher:
    """Reads `profiles` in a thread; `arrivals` are the times (monotonic seconds) by (model, source)."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.arrivals: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap, "group.id": "watcher", "enable.auto.commit": False, "log_level": 0,
                "isolation.level": "read_committed", "fetch.wait.max.ms": 100, "reconnect.backoff.max.ms": 500,
            }
        )  # fmt: skip
        places = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, place, OFFSET_BEGINNING) for place in places])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            message = self._consumer.poll(0.2)
            if message is None or message.error():
                continue
            said = decode(message.value())
            if isinstance(said, Delta):
                self.arrivals[said.model, said.source].append(time.monotonic())

    def close(self) -> None:
        """No more."""
        self._over.set()
        self._thread.join(10)
        self._consumer.close()

    def resumed(self, after: float) -> float | None:
        """Seconds from `after` until every (model, source) had made progress; None when one has not yet."""
        firsts = [next((at for at in times if at > after), None) for times in self.arrivals.values()]
        return None if not firsts or None in firsts else max(at for at in firsts if at is not None) - after

    def longest_stall(self) -> float:
        """Longest time, in seconds, without progress of one (model, source)."""
        return max(
            (max(map(float.__sub__, times[1:], times), default=0.0) for times in self.arrivals.values()), default=0.0
        )
