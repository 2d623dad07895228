"""How a worker ends: its exit code says what an operator does next, its log says why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition
from brokers import Kafka, eventually, free_port, promtool_check_metrics
from fleets import (
    SOURCES,
    Feeder,
    Fleet,
    check_exact,
    counted,
    make_topics,
    read_topic,
    settings_for,
    wait_until_counted,
)
from logs import produce

from streamer.kafka.settings import KafkaSettings


def until_ended(fleet: Fleet, *, within: float = 30) -> tuple[int, str]:
    """Exit code of the fleet's first worker, and its log."""
    eventually(lambda: fleet.ended, within=within, what="the worker ends")
    fleet.stop()
    return fleet.ended[0][1], fleet.workers[0].tail(60)


def test_without_topics_it_names_the_command_that_makes_them(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    fleet = Fleet(settings_for(kafka.bootstrap, prefix), tmp_path, slots=1, restart=False)
    code, log = until_ended(fleet)
    assert code == 2
    assert "tripline topics create" in log


def test_a_broker_that_is_away_at_the_start_ends_it_with_70(prefix: str, tmp_path: Path) -> None:
    settings = settings_for(f"127.0.0.1:{free_port()}", prefix, broker_timeout_s=2.0)
    fleet = Fleet(settings, tmp_path, slots=1, restart=False)
    code, log = until_ended(fleet)
    assert code == 70
    assert "no answer for 2 s" in log


def test_a_broker_that_goes_away_ends_it_with_70_and_nothing_is_lost(
    own_kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    settings = settings_for(own_kafka.bootstrap, prefix, broker_timeout_s=7.0)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1, restart=False)
    feeder = Feeder(settings, rate=2_000)
    eventually(lambda: counted(settings).total() > 0, within=30)
    own_kafka.kill()
    code, log = until_ended(fleet, within=30)
    assert code == 70
    assert "does not answer" in log
    own_kafka.start()
    truth = feeder.stop()
    again = Fleet(settings, tmp_path, slots=1)
    wait_until_counted(settings, truth)
    again.stop()
    check_exact(settings, truth)


def test_a_position_that_retention_took_ends_it_with_72_unless_the_gap_is_accepted(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1)
    feeder = Feeder(settings, rate=2_000)
    eventually(lambda: counted(settings).total() > 0, within=30)
    fleet.stop()
    before = counted(settings).total()
    eventually(lambda: feeder.truth.total() > before + 4_000, within=10)
    feeder.stop()
    lost = asyncio.run(delete_up_to_end(settings, settings.topic("predictions"), partition=0))
    code, log = until_ended(Fleet(settings, tmp_path, slots=1, restart=False))
    assert code == 72
    assert f"{settings.topic('predictions')}/0: position" in log
    assert f"({lost} to {lost})" in log
    accepting = Fleet(settings_for(kafka.bootstrap, prefix, accept_gap=True), tmp_path, slots=1)
    (note,) = eventually(lambda: read_topic(settings, settings.topic("audit")), within=30, what="an audit record")
    eventually(lambda: accepting.metric("tripline_position_dropped_events", partition="0", reason="gap") > 0)
    accepting.stop()
    assert b"gap_accepted" in note.value


def counted_and_made_anew(settings: KafkaSettings, folder: Path) -> Counter[str]:
    """A worker counts an input and is stopped; then the input is deleted, and there again, empty. What was counted."""
    make_topics(settings)
    fleet = Fleet(settings, folder, slots=1)
    feeder = Feeder(settings, rate=2_000)
    eventually(lambda: counted(settings).total() > 0, within=30)
    wait_until_counted(settings, feeder.stop())
    fleet.stop()
    before = counted(settings)
    asyncio.run(make_anew(settings, settings.topic("predictions")))
    return before


def test_an_input_that_was_made_anew_ends_it_with_72_and_a_new_application_counts_it(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """Its positions are of another log: nothing is counted from there, and no flag makes it so."""
    settings = settings_for(kafka.bootstrap, prefix, accept_gap=True)
    before = counted_and_made_anew(settings, tmp_path)
    code, log = until_ended(Fleet(settings, tmp_path, slots=1, restart=False))
    assert code == 72
    assert "was the topic made anew? Then start a new `kafka.app`" in log
    assert counted(settings) == before
    again = replace(settings_for(kafka.bootstrap, prefix + "again-"), inputs=settings.inputs)
    make_topics(again)
    feeder = Feeder(again, rate=1_000)
    fleet = Fleet(again, tmp_path, slots=1)
    eventually(lambda: counted(again).total() > 0, within=30)
    truth = feeder.stop()
    wait_until_counted(again, truth)
    fleet.stop()
    check_exact(again, truth)


def test_an_input_made_anew_that_has_grown_past_the_position_ends_it_with_72_all_the_same(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """The position lies within the new log; the records that were read there do not. Nothing of it is counted."""
    settings = settings_for(kafka.bootstrap, prefix, accept_gap=True)
    before = counted_and_made_anew(settings, tmp_path)
    fill(settings, before.total())
    for _ in range(2):
        code, log = until_ended(Fleet(settings, tmp_path, slots=1, restart=False))
        assert code == 72
        assert "lies another record than was read there: this is not the log that was read" in log
    assert counted(settings) == before


def test_an_input_made_anew_while_it_runs_ends_it_and_no_start_goes_on_with_it(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """Between two fetches, or with a rebalance in between, which finds the topic gone: a worker stops either way."""
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1, restart=False)
    feeder = Feeder(settings, rate=2_000)
    eventually(lambda: counted(settings).total() > 0, within=30)
    wait_until_counted(settings, truth := feeder.stop())
    asyncio.run(make_anew(settings, settings.topic("predictions")))
    fill(settings, truth.total())
    code, log = until_ended(fleet)
    assert code in {2, 72}, log
    code, log = until_ended(Fleet(settings, tmp_path, slots=1, restart=False))
    assert code == 72, log
    assert "this is not the log that was read" in log


def test_an_input_made_anew_between_two_fetches_ends_it_all_the_same(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """It stands still meanwhile: its next fetch finds a topic that is longer than it was, and nobody rebalances."""
    settings = settings_for(kafka.bootstrap, prefix, session_timeout_ms=20_000)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1, restart=False)
    feeder = Feeder(settings, rate=2_000)
    eventually(lambda: counted(settings).total() > 0, within=30)
    wait_until_counted(settings, truth := feeder.stop())
    fleet.workers[0].pause()
    asyncio.run(make_anew(settings, settings.topic("predictions")))
    fill(settings, truth.total())
    fleet.workers[0].resume()
    for _ in range(2):
        code, log = until_ended(fleet, within=40)
        assert code == 72, log
        assert "this is not the log that was read" in log
        # What it has counted of the other log by then does not make that log the one that was read.
        fleet = Fleet(settings, tmp_path, slots=1, restart=False)
    fleet.stop()


def test_a_worker_without_a_task_works_on_and_ends_with_the_others_when_an_input_is_gone(
    kafka: Kafka, prefix: str, tmp_path: Path
) -> None:
    """Of two workers and one partition one has nothing to count; that is no sign that the topic is not there."""
    settings = settings_for(kafka.bootstrap, prefix, metadata_ms=1_000)
    make_topics(settings, sources=1)
    fleet = Fleet(settings, tmp_path, slots=2, restart=False)
    eventually(
        lambda: (fleet.tasks(0) + fleet.tasks(1), fleet.ready(0), fleet.ready(1)) == (4, True, True), within=90,
        what="both ready",
    )  # fmt: skip
    asyncio.run(delete(settings, settings.topic("predictions")))
    eventually(lambda: len(fleet.ended) == 2, within=40, what="both end")
    fleet.stop()
    assert {code for _, code in fleet.ended} == {2}
    assert all("is not there any more: put it back from a copy" in worker.tail(60) for worker in fleet.workers)


def test_inputs_that_grew_are_refused_with_instructions(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    asyncio.run(grow(settings, settings.topic("predictions"), to=5))
    code, log = until_ended(Fleet(settings, tmp_path, slots=1, restart=False))
    assert code == 2
    assert "inputs must have the same number of partitions" in log


@pytest.mark.parametrize("grown", [["predictions"], ["predictions", "features"]])
def test_inputs_that_grow_while_it_runs_end_it_with_instructions_and_so_does_the_next_start(
    kafka: Kafka, prefix: str, tmp_path: Path, grown: list[str]
) -> None:
    """What was counted until then is exact; nobody counts what goes to a partition that was not there."""
    settings = settings_for(kafka.bootstrap, prefix, metadata_ms=1_000)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1, restart=False)
    feeder = Feeder(settings, rate=2_000)
    eventually(lambda: counted(settings).total() > 0, within=30)
    for name in grown:
        asyncio.run(grow(settings, settings.topic(name), to=5))
    code, log = until_ended(fleet)
    truth = feeder.stop()
    assert code == 2
    # Which of two that grow is seen first is the broker's affair.
    assert "partitions are now predictions 5, features " in log
    assert ", but were 4: which partition an event is in decides who counts it" in log
    assert "Go back to the old count, or start a new `kafka.app` on the new topics" in log
    assert counted(settings) <= truth
    code, log = until_ended(Fleet(settings, tmp_path, slots=1, restart=False))
    assert code == 2
    assert "partitions" in log


def test_who_came_back_into_its_slot_sees_inputs_grow_too(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """A leader that was killed is not told that it leads the group again: it looks for itself."""
    settings = settings_for(kafka.bootstrap, prefix, metadata_ms=1_000)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1)
    eventually(lambda: fleet.ready(0), within=30, what="ready")
    fleet.workers[0].kill()
    eventually(lambda: fleet.ended, within=5, what="killed")
    eventually(lambda: fleet.ready(0), within=30, what="ready again")
    asyncio.run(grow(settings, settings.topic("predictions"), to=5))
    eventually(lambda: len(fleet.ended) > 1, within=60, what="ended")
    fleet.stop()
    assert fleet.ended[:2] == [(0, -9), (0, 2)]


def test_its_page_is_ready_when_restored_and_clean(kafka: Kafka, prefix: str, tmp_path: Path, promtool: str) -> None:
    """Every reason of a drop is there at zero before anything was dropped."""
    settings = settings_for(kafka.bootstrap, prefix)
    make_topics(settings)
    fleet = Fleet(settings, tmp_path, slots=1)
    eventually(lambda: fleet.ready(0), within=30, what="ready")
    page = fleet.page(0, "metrics")
    assert promtool_check_metrics(page) == ""
    assert fleet.metric("tripline_events_dropped_total", stage="profiling", reason="decode") == 0
    assert fleet.page(0, "healthz") == "ok\n"
    began = time.monotonic()
    fleet.stop()
    assert time.monotonic() - began < 5


async def delete_up_to_end(settings: KafkaSettings, topic: str, *, partition: int) -> int:
    """What retention would do; the log's new start, which is its end."""
    reader = settings.consumer(role="test")
    at = TopicPartition(topic, partition)
    await reader.start()
    end = (await reader.end_offsets([at]))[at]
    await reader.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    await admin.delete_records({at: RecordsToDelete(end)})
    await admin.close()
    return int(end)


async def grow(settings: KafkaSettings, topic: str, *, to: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    await admin.create_partitions({topic: NewPartitions(to)})
    await admin.close()


def fill(settings: KafkaSettings, events: int) -> None:
    """More records in each partition of the predictions than it had before."""
    topic = settings.topic("predictions")
    produce(settings.bootstrap_servers, topic, [(at % SOURCES, None, b"new") for at in range(2 * events + SOURCES)])


async def delete(settings: KafkaSettings, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    await admin.delete_topics([topic])
    while topic in await admin.list_topics():
        await asyncio.sleep(0.05)
    await admin.close()


async def make_anew(settings: KafkaSettings, topic: str, *, partitions: int = SOURCES) -> None:
    """The same name, and another log."""
    await delete(settings, topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()
