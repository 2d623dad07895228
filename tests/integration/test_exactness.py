"""The rim is exact: what is killed, stopped, cut off or restarted changes nothing that a committed reader sees."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from brokers import Kafka, eventually
from fleets import (
    PROFILES,
    SOURCES,
    Feeder,
    Fleet,
    check_exact,
    counted,
    make_topics,
    settings_for,
    summed,
    wait_until_counted,
)
from markers import lose_last_commit
from steps import STEPS

from streamer.kafka.settings import KafkaSettings


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


def test_a_worker_that_dies_at_every_step_of_a_restore_and_of_a_transaction_counts_exactly(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """SIGKILL at each named step, one after the other, in both stages, under load."""
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    plan = tmp_path / "steps"
    steps = list(STEPS)
    random.Random(3).shuffle(steps)
    plan.write_text("\n".join(["", *steps, ""]))
    fleet = Fleet(settings, tmp_path, slots=1, steps=str(plan))
    feeder = Feeder(settings, rate=1_000)
    try:
        # An untouched worker first: a changelog must be there to be read.
        eventually(lambda: summed(settings).total() > 0, within=30)
        plan.write_text(plan.read_text().lstrip("\n"))
        fleet.workers[0].kill()
        eventually(lambda: not plan.read_text() and fleet.ready(0), within=240, every=0.5, what="died at every step")
        truth = feeder.stop()
        wait_until_counted(settings, truth)
    finally:
        feeder.stop()
        fleet.stop()
    check_exact(settings, truth)
    assert [code for _, code in fleet.ended] == [-9] * (len(STEPS) + 1)


def test_a_zombie_is_fenced(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Stopped for longer than its session, it comes back to tasks that are another's: exit 70, nothing twice."""
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=2)
    feeder = Feeder(settings, rate=2_000)
    try:
        eventually(lambda: (fleet.tasks(0), fleet.tasks(1)) == (4, 3), within=30, what="both have their tasks")
        fleet.workers[0].pause()
        eventually(lambda: fleet.tasks(1) == SOURCES + PROFILES, within=30, what="the other has them all")
        fleet.workers[0].resume()
        eventually(lambda: (0, 70) in fleet.ended, within=30, what="the zombie ends")
        truth = feeder.stop()
        wait_until_counted(settings, truth)
    finally:
        feeder.stop()
        fleet.stop()
    check_exact(settings, truth)


def test_a_broker_that_is_killed_and_comes_back_costs_nothing(own_kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Its crash may lose commit markers (DESIGN 2, trap 1): the barrier keeps a batch from showing twice, and what the
    barrier hides of a committed one is written again.
    """
    settings = settings_for(own_kafka.bootstrap, prefix)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=2)
    feeder = Feeder(settings, rate=2_000)
    try:
        eventually(lambda: counted(settings).total() > 0, within=30)
        for kill_workers in (False, True, True):
            own_kafka.kill()
            if kill_workers:
                fleet.workers[0].kill()
            own_kafka.start()
            before = counted(settings).total()
            eventually(lambda: counted(settings).total() > before, within=60, every=0.5)  # noqa: B023
        truth = feeder.stop()
        wait_until_counted(settings, truth)
    finally:
        feeder.stop()
        fleet.stop()
    check_exact(settings, truth)


def test_whichever_commit_markers_a_crash_loses_nothing_is_lost_or_twice(
    own_kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """Markers are cut out of the logs of a broker that was killed: of changelogs, of outputs, of both."""
    settings = settings_for(own_kafka.bootstrap, prefix)
    make_topics(settings)
    rng = random.Random(11)
    feeder = Feeder(settings, rate=400)
    mended = 0
    try:
        for _ in range(6):
            mended += cut_off(own_kafka, settings, tmp_path, rng)
        fleet = Fleet(settings, tmp_path, slots=2)
        try:
            truth = feeder.stop()
            wait_until_counted(settings, truth)
        finally:
            fleet.stop()
    finally:
        feeder.stop()
    check_exact(settings, truth)
    assert mended >= 3


def test_what_stays_hidden_while_the_worker_lives_ends_it_with_70_and_shows_again(
    own_kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """Nothing follows that would show it too: no input comes any more when the broker dies and loses the marker."""
    settings = settings_for(own_kafka.bootstrap, prefix, broker_timeout_s=8.0)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1)
    feeder = Feeder(settings, rate=1_000)
    try:
        eventually(lambda: summed(settings).total() > 0, within=30)
        truth = feeder.stop()
        wait_until_counted(settings, truth)
        own_kafka.kill()
        lost = [lose_last_commit(own_kafka.folder / "data", settings.topic("windows"), q) for q in range(PROFILES)]
        own_kafka.start()
        assert any(lost)
        assert summed(settings) != truth
        eventually(lambda: fleet.ended, within=60, what="the worker ends")
        eventually(lambda: summed(settings) == truth, within=30, every=0.5, what="it shows again")
    finally:
        feeder.stop()
        fleet.stop()
    check_exact(settings, truth)
    assert fleet.ended[0][1] == 70


def test_without_mending_what_a_crash_hides_is_lost_or_twice(own_kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """The same crashes, and workers that do not look: they refuse to go on, or their counts are wrong."""
    settings = settings_for(own_kafka.bootstrap, prefix)
    make_topics(settings)
    rng = random.Random(11)
    feeder = Feeder(settings, rate=2_000)
    try:
        for _ in range(3):
            cut_off(own_kafka, settings, tmp_path, rng, mend=False)
        fleet = Fleet(settings, tmp_path, slots=2, mend=False)
        try:
            truth = feeder.stop()
            with pytest.raises(AssertionError):
                exact_in_the_end(settings, truth)
        finally:
            fleet.stop()
    finally:
        feeder.stop()


def exact_in_the_end(settings: KafkaSettings, truth: Counter[str]) -> None:
    wait_until_counted(settings, truth, within=15)
    check_exact(settings, truth)


def cut_off(kafka: Kafka, settings: KafkaSettings, folder: Path, rng: random.Random, *, mend: bool = True) -> int:
    """Workers run for a while and are killed; so is the broker, and half of its logs lose their last commit marker.

    How often the workers wrote again what an earlier crash had hidden.
    """
    fleet = Fleet(settings, folder, slots=2, mend=mend)
    try:
        eventually(lambda: fleet.tasks(0) + fleet.tasks(1) == SOURCES + PROFILES or fleet.ended, within=40)
        time.sleep(rng.uniform(0.5, 1.5))  # the moment of the kill is the test's seed, not a wait
    finally:
        fleet.kill()
    time.sleep(0.5)  # the markers of what was decided are written
    kafka.kill()
    data = kafka.folder / "data"
    names = {settings.topic("profiles"): PROFILES, settings.topic("windows"): PROFILES}
    names |= {settings.changelog("profiling"): SOURCES, settings.changelog("monitoring"): PROFILES}
    logs = [(name, partition) for name, count in names.items() for partition in range(count)]
    for name, partition in rng.sample(logs, len(logs) // 2):
        lose_last_commit(data, name, partition)
    kafka.start()
    said = sum(worker.log.read_text(errors="replace").count(": written again") for worker in fleet.workers)
    for worker in fleet.workers:
        worker.log.unlink()
    return said


def test_workers_that_come_and_go_in_good_order_count_exactly(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """SIGTERM under load ends a worker with 0 in under 5 s, its last batch committed; nobody is fenced for it."""
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=2)
    feeder = Feeder(settings)
    try:
        for slot in (0, 1, 0):
            eventually(lambda: fleet.ready(slot), within=30, what="ready")  # noqa: B023
            before, began = len(fleet.ended), time.monotonic()
            fleet.terminate(slot)
            eventually(lambda: len(fleet.ended) > before, within=10, what="ended")  # noqa: B023
            assert time.monotonic() - began < 5
        truth = feeder.stop()
        wait_until_counted(settings, truth)
    finally:
        feeder.stop()
        fleet.stop()
    check_exact(settings, truth)
    assert {code for _, code in fleet.ended} == {0}
