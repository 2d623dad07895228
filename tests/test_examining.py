"""What is seen of a deployment, judged: which is wrong, which a warning, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.layouts import Layout
from streamer.core.control import Control
from streamer.examining import (
    Finding,
    TaskSeen,
    TopicSeen,
    clock,
    in_force,
    replication,
    restores,
    retention,
    sizes,
    tasks,
    transactions,
    worst_first,
)

HOUR, DAY = 3_600_000, 86_400_000
TOPIC = TopicSeen(name="t", partitions=4, replicas=3, in_sync=3, leaderless=0, configs={"min.insync.replicas": "2"})
TASK = TaskSeen(stage="profiling", partition=3, records=100, bytes=1_000_000, seconds=0.5, written_ms=1_000_000)
NOW = 1_005_000


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    """Level and first words of each."""
    return [(finding.level, " ".join(finding.what.split()[:4])) for finding in findings]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"leaderless": 1}, [("wrong", "has 1 partitions without")]),
        ({"in_sync": 1}, [("wrong", "has 1 in-sync copies")]),
        ({"in_sync": 2}, [("warning", "has 2 in-sync copies")]),
        ({"configs": {}}, [("warning", "min.insync.replicas is 1: what")]),
        ({"configs": {"min.insync.replicas": "3"}}, [("warning", "min.insync.replicas is 3, as")]),
        ({"replicas": 1, "in_sync": 1, "configs": {}}, [("warning", "1 topics have one")]),
    ],
)
def test_copies_and_what_must_acknowledge(changes: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert said(replication([replace(TOPIC, **changes)], brokers=3)) == expected  # type: ignore[arg-type]


def test_one_copy_on_one_broker_is_as_good_as_it_gets() -> None:
    (finding,) = replication([replace(TOPIC, replicas=1, in_sync=1, configs={})], brokers=1)
    assert (finding.level, finding.todo) == ("fine", "")


@pytest.mark.parametrize(
    ("profiles", "inputs", "expected"),
    [
        ({}, {}, [("fine", "inputs and profiles outlive")]),
        ({"retention.ms": str(HOUR)}, {}, [("wrong", "keeps 1 h, but")]),
        ({"retention.ms": str(4 * HOUR)}, {}, [("warning", "keeps 4 h: after")]),
        ({"retention.ms": str(7 * DAY)}, {"retention.ms": str(2 * HOUR)}, [("warning", "keeps 2 h: what")]),
        ({}, {"cleanup.policy": "compact"}, [("warning", "is compacted: of events")]),
        ({"retention.bytes": "1000"}, {}, [("warning", "keeps at most 1,000")]),
    ],
)
def test_what_must_outlive_holds_and_outages(
    profiles: dict[str, str], inputs: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    """An hour's pane and an hour's hold need two hours of `profiles`, and a day more for an outage."""
    layout = Layout(model="m", from_ms=0, reference="r", pane_ms=HOUR, hold_ms=HOUR, lateness_ms=1_000)
    topics = {"p": replace(TOPIC, name="p", configs=profiles), "i": replace(TOPIC, name="i", configs=inputs)}
    assert said(retention(topics, Control(models={"m": (layout,)}), inputs=["i"], profiles="p")) == expected


def test_a_topic_that_refuses_a_workers_batch_is_wrong() -> None:
    assert said(sizes([replace(TOPIC, configs={"max.message.bytes": "100000"}), TOPIC])) == [
        ("wrong", "max.message.bytes is 100,000: too")
    ]


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (-90_000, "warning", "is 1 min 30 s behind"),
        (400_000, "wrong", "is 6 min 40 s"),
        (30, "fine", "is 30 ms ahead of"),
    ],
)
def test_a_clock_that_is_off(ahead: int, level: str, words: str) -> None:
    assert said([clock(ahead)])[0][0] == level
    assert clock(ahead).what.startswith(words)


@pytest.mark.parametrize(
    ("seen", "workers", "expected"),
    [
        ([replace(TASK, lag={"p": 7})], 0, [("wrong", "has no worker; 7")]),
        ([], 0, [("wrong", "has no worker, and")]),
        ([replace(TASK, written_ms=NOW - 31_000)], 2, [("wrong", "has written nothing for")]),
        ([replace(TASK, behind_ms=61_000, lag={"p": 5})], 2, [("warning", "is 1 min 1")]),
        ([TASK], 2, [("fine", "2 workers, 1 tasks,")]),
    ],
)
def test_tasks_that_nobody_does_or_that_hang(
    seen: list[TaskSeen], workers: int, expected: list[tuple[str, str]]
) -> None:
    assert said(tasks(seen, members={"profiling": workers}, now=NOW)) == expected


def test_a_restore_is_estimated_from_the_share_that_was_read() -> None:
    """A tenth of a changelog in half a second is 5 s for all; a second one, read whole, adds its own."""
    (finding,) = restores([replace(TASK, share=0.1), replace(TASK, partition=1)])
    assert finding.level == "warning"
    assert finding.what.startswith("11.0 MB in 1,100 records of 2 changelogs: about 5.5 s")


def test_state_that_cannot_be_read_is_wrong() -> None:
    assert said(restores([replace(TASK, fault="FormatError: newer")]))[0] == (
        "wrong",
        "cannot be restored: FormatError:",
    )


def test_an_open_transaction_is_named() -> None:
    assert said(transactions({"profiles/1": 3}, seconds=2.0)) == [("warning", "a transaction has been")]
    assert said(transactions({}, seconds=2.0)) == [("fine", "none hangs (2 s")]


def test_a_model_without_its_whole_reference_is_wrong() -> None:
    assert said(in_force(Control())) == [("wrong", "no model is in")]
    layout = Layout(model="m", from_ms=0, reference="r")
    assert said(in_force(Control(models={"m": (layout,)}))) == [("wrong", "reference r is not")]


def test_the_worst_comes_first() -> None:
    findings = [clock(1), clock(None), clock(400_000), clock(2_000)]
    assert [finding.level for finding in worst_first(findings)] == ["wrong", "warning", "unknown", "fine"]
