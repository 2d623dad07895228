"""The window of identities: who repeats whom, whatever the batches and restarts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import FormatError, ProtocolBroken
from streamer.core.identities import identities, salt
from streamer.core.recent import Chunk, Recent


def by_hand(words: list[int], windows: list[int]) -> list[bool]:
    """True for each word that is among the last `window` that were taken in."""
    taken: list[int] = []
    repeated = []
    for word, window in zip(words, windows, strict=True):
        repeated.append(window > 0 and word in taken[-window:])
        taken.extend([] if repeated[-1] else [word])
    return repeated


def take(recent: Recent, words: list[int], windows: list[int]) -> list[bool]:
    return recent.take(np.array(words, dtype=np.uint64), np.array(windows, dtype=np.int64)).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 3, 20])), max_size=200), st.integers(1, 50))
def test_repeats_are_those_within_the_window_for_batches_of_any_size(made: list[tuple[int, int]], size: int) -> None:
    # Equal low bits: all of them share a chain.
    words, windows = [word << 40 for word, _ in made], [window for _, window in made]
    recent, repeated = Recent(20), list[bool]()
    for at in range(0, len(words), size):
        repeated += take(recent, words[at : at + size], windows[at : at + size])
    assert by_hand(words, windows) == repeated


def test_repeats_are_found_across_the_ends_of_the_ring() -> None:
    rng = np.random.default_rng(5)
    words = rng.integers(0, 30_000, 60_000).tolist()
    recent, pieces = Recent(9_000), [words[at : at + 7_001] for at in range(0, 60_000, 7_001)]
    repeated = [answer for piece in pieces for answer in take(recent, piece, [9_000] * len(piece))]
    last: dict[int, int] = {}
    expected, number = [], 0
    for word in words:
        repeats = word in last and last[word] >= number - 9_000
        expected.append(repeats)
        if not repeats:
            last[word], number = number, number + 1
    assert expected == repeated


@pytest.mark.parametrize("size", [1, 100, 700, 2_500])
def test_restored_from_its_changelog_it_answers_the_same(size: int) -> None:
    """Chunks are overwritten as in a compacted topic; what is written later is the same, too."""
    rng = np.random.default_rng(size)
    words = rng.integers(0, 3_000, 12_000).astype(np.uint64)
    running, changelog = Recent(1_500), dict[bytes, bytes]()
    for at in range(0, 12_000, size)[:1_000]:
        piece = words[at : at + size]
        restored = Recent.restore(changelog.items(), window=1_500, first=running.first, following=running.next)
        since, windows = running.next, np.full(piece.size, 1_500)
        assert running.take(piece, windows).tolist() == restored.take(piece, windows).tolist()
        pairs = running.changes(since)
        assert pairs == restored.changes(since)
        assert (running.digest, running.first, running.next) == (restored.digest, restored.first, restored.next)
        changelog |= dict(pairs)


def test_the_changelog_holds_a_bounded_number_of_chunks() -> None:
    recent, keys = Recent(1_000), set[bytes]()
    for word in range(4_000):
        since = recent.next
        take(recent, [word], [1_000])
        keys |= {key for key, _ in recent.changes(since)}
    assert len(keys) <= 5


def test_growing_keeps_what_was_seen() -> None:
    recent = Recent(10)
    take(recent, list(range(10)), [10] * 10)
    recent.changes(0)
    recent.grow(100_000)
    assert take(recent, list(range(12)), [20] * 12) == [True] * 10 + [False] * 2


def test_a_chunk_that_is_not_there_or_damaged_is_refused() -> None:
    with pytest.raises(ProtocolBroken, match="up to 4 are wanted, found -1"):
        Recent.restore([], window=10, first=0, following=5)
    with pytest.raises(FormatError, match="ids"):
        Recent.restore([(b"ids|0", b"\xc1")], window=10, first=0, following=5)
    with pytest.raises(FormatError, match="ids"):
        Recent.restore([(b"ids|0", msgspec.msgpack.encode(Chunk(0, b"123")))], window=10, first=0, following=5)


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=30))
def test_identities_are_equal_where_ids_are_and_do_not_depend_on_their_neighbours(ids: list[str]) -> None:
    words, lengths = identities(ids, np.full(len(ids), salt("m"), dtype=np.uint64))
    alone = [int(identities([text], np.array([salt("m")], dtype=np.uint64))[0][0]) for text in ids]
    assert words.tolist() == alone
    assert len(set(alone)) == len(set(ids))
    assert lengths.tolist() == [len(text) for text in ids]


def test_an_identity_never_changes() -> None:
    """It is stored: another value would let repeats pass after an upgrade."""
    words, _ = identities(["a1", "ü", ""], np.full(3, salt("credit"), dtype=np.uint64))
    assert [f"{word:016x}" for word in words.tolist()] == [
        "ce34385f67d64623",
        "cdd52aaa68142cb0",
        "8bdfe488745f6839",
    ]
