"""The rim is exact: what is killed, stopped, cut off or restarted changes nothing that a committed reader sees."""

from __future__ import annotations

import random
import time
from pathlib import Path

from brokers import Kafka, eventually
from fleets import Feeder, Fleet, check_exact, counted, make_topics, settings_for, wait_until_counted


def test_two_workers_one_killed_ten_times_count_exactly(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """SIGKILL at random moments: deltas and windows equal the truth, nothing twice."""
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    rng = random.Random(7)
    fleet = Fleet(settings, tmp_path, slots=2)
    feeder = Feeder(settings)
    try:
        eventually(lambda: counted(settings).total() > 0, within=30)
        for _ in range(10):
            time.sleep(rng.uniform(0.2, 2.0))  # the moment of the kill is the test's seed, not a wait
            before = counted(settings).total()
            fleet.workers[0].kill()
            eventually(lambda: counted(settings).total() > before, within=20, every=0.2)  # noqa: B023
        truth = feeder.stop()
        wait_until_counted(settings, truth)
    finally:
        feeder.stop()
        fleet.stop()
    check_exact(settings, truth)
    assert [code for _, code in fleet.ended] == [-9] * 10
