"""The ring of pending predictions: found by their ids whatever came and went, small, and the same when built again."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.pending import Pending, Rows


def rows(keys: list[int], **columns: Any) -> Rows:
    n = len(keys)
    at = np.arange(n, dtype=np.int64)
    made = {
        "key": np.array(keys, dtype=np.uint64),
        "ts": at + 1_735_689_600_000,
        "append": at + 1_735_689_600,
        "score": np.linspace(0.0, 1.0, n),
        "label": at % 3 - 1,
        "cell": at,
    }
    return Rows(**{**made, **columns})


def found(pending: Pending, keys: list[int]) -> list[list[int]]:
    """Numbers of the rows of each key, the newest first."""
    result: list[list[int]] = [[] for _ in keys]
    for at, numbers in pending.find(np.array(keys, dtype=np.uint64)):
        for place, number in zip(at.tolist(), numbers.tolist(), strict=True):
            result[place].append(number)
    return result


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 40).map(lambda i: i * 4096), max_size=30), min_size=1, max_size=12),
    kept=st.integers(1, 60),
)
def test_rows_are_found_by_key_newest_first_until_they_leave(batches: list[list[int]], kept: int) -> None:
    """Keys that share a slot of the index, batches of any size, rows that leave: as a list would have it."""
    pending, truth = Pending(10_000), list[int]()
    for batch in batches:
        pending.append(rows(batch))
        truth += batch
        pending.forget(max(0, len(truth) - kept))
    keys = sorted({*truth, 7})
    live = range(pending.first, pending.next)
    assert found(pending, keys) == [[n for n in reversed(live) if truth[n] == key] for key in keys]


def test_a_ring_that_has_grown_and_gone_round_holds_what_it_should() -> None:
    pending = Pending(50_000)
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 1 << 63, 120_000, dtype=np.uint64)
    for at in range(0, keys.size, 3_000):
        part = rows(keys[at : at + 3_000].tolist())
        pending.append(part._replace(ts=part.ts + at))
        pending.forget(pending.next - 20_000)
    wanted = np.arange(pending.first, pending.next)
    assert found(pending, keys[wanted].tolist()) == [[int(number)] for number in wanted]
    assert pending.ts(wanted).tolist() == (wanted + 1_735_689_600_000).tolist()
    assert pending.label(wanted).tolist() == (wanted % 3_000 % 3 - 1).tolist()


def test_a_row_of_a_binary_model_takes_at_most_forty_bytes() -> None:
    """At any size, the index and the room for growth included."""
    pending, most = Pending(1_000_000), 0.0
    keys = np.random.default_rng(2).integers(0, 1 << 63, 600_000, dtype=np.uint64)
    for at in range(0, keys.size, 10_000):
        pending.append(rows(keys[at : at + 10_000].tolist()))
        if len(pending) >= 300_000:
            most = max(most, pending.nbytes / len(pending))
    assert most <= 40.0


def test_ranks_take_eight_more_at_most() -> None:
    n = 100_000
    binary, ranked = Pending(n), Pending(n)
    keys = list(range(n))
    binary.append(rows(keys))
    ranked.append(rows(keys, ranks=np.zeros((n, 5), dtype=np.int64)))
    assert (ranked.nbytes - binary.nbytes) / n <= 8.0


def test_beyond_the_limit_rows_are_not_taken_in() -> None:
    pending = Pending(5)
    assert [pending.append(rows([1, 2, 3])) for _ in range(3)] == [3, 2, 0]
    pending.forget(2)
    assert pending.append(rows([8, 9, 10])) == 2


def test_the_digest_is_that_of_the_rows_and_their_outcomes_whatever_the_way_there() -> None:
    long, short = Pending(100), Pending(100, first=2)
    long.append(rows([5, 6, 7, 8]))
    for outcome in (0, 1):
        long.settle(np.array([1, 3]), np.full(2, outcome), np.array([4, 9]), None)
    long.forget(2)
    short.append(rows([5, 6, 7, 8]).take(slice(2, None)))
    assert long.digest != short.digest
    short.settle(np.array([3]), np.array([1]), np.array([9]), np.array([np.nan]))
    assert long.digest == short.digest


def test_what_was_settled_is_read_back() -> None:
    pending = Pending(100)
    pending.append(rows([5, 6, 7], value=np.array([1.5, np.nan, 2.5])))
    pending.settle(np.array([2, 0]), np.zeros(2, dtype=np.int64), np.array([3, 200]), np.array([7.0, 8.0]))
    numbers = np.arange(3)
    assert pending.outcome(numbers).tolist() == [0, -1, 0]
    assert pending.delay(numbers).tolist() == [200, 0, 3]
    assert pending.value(numbers)[[0, 2]].tolist() == [1.5, 2.5]
    assert pending.truth(numbers)[[0, 2]].tolist() == [8.0, 7.0]


def test_cells_of_live_rows_can_be_renamed() -> None:
    pending = Pending(100)
    pending.append(rows([5, 6, 7]))
    pending.recode(np.array([2, 1, 0]))
    assert pending.cell(np.arange(3)).tolist() == [2, 1, 0]
