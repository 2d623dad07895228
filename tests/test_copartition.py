"""Where outcomes and predictions lie: by which hash, and who is at fault where they cannot meet."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from aiokafka.partitioner import murmur2 as java
from hypothesis import given
from hypothesis import strategies as st

from streamer.copartition import Sampled, Spread, misplaced, murmur2, spread_of

KEYS = [b"id-%d" % i for i in range(100)]


def sample(place: Callable[[bytes], int], *, unkeyed: int = 0) -> list[Sampled]:
    return [Sampled(key, place(key)) for key in KEYS] + [Sampled(None, 0)] * unkeyed


def by_java(key: bytes) -> int:
    return int((java(key) & 0x7FFFFFFF) % 8)


def by_librdkafka(key: bytes) -> int:
    return zlib.crc32(key) % 8


def spread(topic: str, place: Callable[[bytes], int], *, unkeyed: int = 0) -> Spread:
    return spread_of(topic, 8, sample(place, unkeyed=unkeyed))


@given(st.binary(max_size=40))
def test_murmur2_is_that_of_the_clients(key: bytes) -> None:
    assert murmur2(key) == java(key) & 0xFFFFFFFF


def test_producers_of_one_hash_are_left_alone() -> None:
    assert misplaced(spread("p", by_java), spread("o", by_java)) == []
    assert misplaced(spread("p", by_librdkafka), spread("o", by_librdkafka)) == []


@pytest.mark.parametrize(
    ("predictions", "outcomes", "expected"),
    [
        (by_java, by_librdkafka, "o is hashed by CRC32, p by murmur2"),
        (by_librdkafka, by_java, "p is hashed by CRC32, o by murmur2"),
        (by_java, lambda key: len(key) % 8, "o: its keys do not lie where murmur2 or CRC32 would put them"),
    ],
)
def test_the_topic_whose_hash_differs_is_named(
    predictions: Callable[[bytes], int], outcomes: Callable[[bytes], int], expected: str
) -> None:
    [words] = misplaced(spread("p", predictions), spread("o", outcomes))
    assert words.startswith(expected)


def test_records_without_keys_are_named() -> None:
    [words] = misplaced(spread("p", by_java), spread("o", by_java, unkeyed=100))
    assert words.startswith("50 % of the records of o have no key")


def test_partitions_of_two_numbers_are_named() -> None:
    [words] = misplaced(spread_of("p", 4, sample(by_java)), spread("o", by_java))
    assert words.startswith("p has 4 partitions, o 8")


def test_a_few_keys_say_nothing() -> None:
    few = spread_of("o", 8, sample(by_librdkafka)[:10])
    assert (few.hash, misplaced(spread("p", by_java), few)) == ("", [])
