"""The identities that a task has seen last, and which of new ones repeat them.

Why: a producer that retries without idempotence writes an event twice. An event repeats one that came at most `window`
distinct events before it, counted over the task: the same answer whatever the batches.

A ring of identities with chained hashing over it, in three arrays: 2.5 MB per 100,000 identities, where a dict takes
14, and 0.1 µs per event. It is persisted as chunks, one changelog record per batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.errors import FormatError, ProtocolBroken

Ints: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

#: Identities per changelog record, at most; and up to how many the last record is written anew with further ones.
CHUNK, EXTENDED = 2_048, 512
KEY = b"ids|"
_PIECE = 4_096
_NONE = -1
_MODULUS = 1 << 64


class Chunk(msgspec.Struct, array_like=True):
    """A changelog record of identities: those numbered `start`, `start + 1`, …; 8 bytes each, little endian."""

    start: int
    words: bytes


class _Kept(NamedTuple):
    start: int
    stop: int
    total: int


class Recent:
    """Identities by number, in the order in which they came.

    >>> recent = Recent(window=2)
    >>> two = np.full(3, 2)
    >>> recent.take(np.array([5, 6, 5], dtype=np.uint64), two).tolist(), recent.next
    ([False, False, True], 2)
    >>> recent.take(np.array([7, 8, 5], dtype=np.uint64), two).tolist()  # 5 came more than two before
    [False, False, False]
    """

    def __init__(self, window: int, *, start: int = 0) -> None:
        self.next = start
        self._chunks: dict[int, _Kept] = {}
        self._last = _NONE
        self._allot(window)

    @property
    def first(self) -> int:
        """Number of the oldest identity that the changelog holds."""
        return min((kept.start for kept in self._chunks.values()), default=self.next)

    @property
    def digest(self) -> int:
        """Sum of the identities that the changelog holds, modulo 2**64."""
        return sum(kept.total for kept in self._chunks.values()) % _MODULUS

    def grow(self, window: int) -> None:
        """Look back at least `window` identities from now on."""
        if window <= self.window:
            return
        start = max(0, self.next - self._ring.size, self.first)
        kept = self._between(start, self.next)
        self._allot(window)
        self.next = start
        self._insert(kept)

    def take(self, words: Words, windows: Ints) -> npt.NDArray[np.bool_]:
        """Which of `words`, in order, repeat one at most `windows` back; the others are taken in.

        words, windows: (n,). Returns (n,) bool.
        """
        repeated = np.zeros(words.size, dtype=bool)
        for at in range(0, words.size, _PIECE):
            piece = slice(at, at + _PIECE)
            repeated[piece] = self._take(words[piece], windows[piece])
        return repeated

    def changes(self, since: int) -> list[tuple[bytes, bytes]]:
        """Changelog pairs with the identities numbered `since` and later; forgets those that nobody asks for."""
        pairs = []
        since = max(since, self.next - self.window)
        while since < self.next:
            start, stop = since, min(self.next, since + CHUNK)
            last = self._chunks.get(self._last)
            if last is not None and last.stop == since and stop - last.start <= EXTENDED:
                start = last.start
            else:
                self._last = next(slot for slot in range(len(self._chunks) + 1) if slot not in self._chunks)
            words = self._between(start, stop)
            self._chunks[self._last] = _Kept(start, stop, int(words.sum(dtype=np.uint64)))
            pairs.append((KEY + b"%d" % self._last, msgspec.msgpack.encode(Chunk(start, words.tobytes()))))
            since = stop
        limit = self.next - self.window
        self._chunks = {slot: kept for slot, kept in self._chunks.items() if kept.stop > limit}
        return pairs

    @classmethod
    def restore(cls, pairs: Iterable[tuple[bytes, bytes]], *, window: int, first: int, following: int) -> Recent:
        """Identities `first` up to `following` from the changelog's pairs; `ProtocolBroken` when some are not there."""
        recent = cls(window, start=first)
        recent._allot(window, room=following - first)
        chunks = []
        for key, raw in pairs:
            try:
                chunk = msgspec.msgpack.decode(raw, type=Chunk)
                words = np.frombuffer(chunk.words, dtype="<u8").astype(np.uint64)
                chunks.append((chunk.start, int(key.removeprefix(KEY)), words))
            except ValueError as error:
                raise FormatError(f"changelog record {key!r}: {error}") from error
        for start, slot, words in sorted(chunks, key=lambda chunk: chunk[:2]):
            if start < first or start != recent.next:
                continue  # from before the window, not yet overwritten
            recent._chunks[slot] = _Kept(start, start + words.size, int(words.sum(dtype=np.uint64)))
            recent._last = slot
            recent._insert(words)
        if recent.next != following:
            raise ProtocolBroken(f"changelog: identities up to {following - 1} are wanted, found {recent.next - 1}")
        return recent

    def _allot(self, window: int, *, room: int = 0) -> None:
        self.window = window
        # Room beyond the window for a chunk that straddles its end, and for the piece in hand.
        self._ring = np.zeros(max(window, room) + CHUNK + 2 * _PIECE, dtype=np.uint64)
        self._back = np.zeros(self._ring.size, dtype=np.int32)  # how far the one before it in its chain is; 0: none
        slots = 1 << max(12, window.bit_length())
        self._mask = np.uint64(slots - 1)
        self._heads = np.zeros(slots, dtype=np.int64)  # number + 1 of the latest in the chain; 0: none

    def _take(self, words: Words, windows: Ints) -> npt.NDArray[np.bool_]:
        slots = (words & self._mask).astype(np.int64)
        latest = self._find(words, slots)
        suspects = latest >= 0
        shared = self._shared(slots)
        if shared.size:
            suspects[shared] = True
        repeated = np.zeros(words.size, dtype=bool)
        if suspects.any():
            self._judge(np.flatnonzero(suspects), words, windows, latest, repeated)
        self._insert(words[~repeated] if repeated.any() else words)
        return repeated

    def _judge(
        self, suspects: Ints, words: Words, windows: Ints, latest: Ints, repeated: npt.NDArray[np.bool_]
    ) -> None:
        """Decide in order: whether a suspect repeats another depends on how many before it do."""
        seen: dict[int, int] = {}
        repeats = 0
        columns = (words[suspects], windows[suspects], latest[suspects])
        for at, word, window, found in zip(suspects.tolist(), *(column.tolist() for column in columns), strict=True):
            number = self.next + at - repeats
            before = seen.get(word, found)
            if before >= 0 and before >= number - window:
                repeated[at] = True
                repeats += 1
            else:
                seen[word] = number

    def _shared(self, slots: Ints) -> Ints:
        """Places of those whose slot another one of them has, too; few, unless they are equal."""
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        equal = np.flatnonzero(ordered[1:] == ordered[:-1])
        return np.union1d(order[equal], order[equal + 1]) if equal.size else equal

    def _find(self, words: Words, slots: Ints) -> Ints:
        """Number of the latest equal identity in the ring, or -1; (n,)."""
        latest = np.full(words.size, _NONE, dtype=np.int64)
        oldest = max(0, self.next - self._ring.size)
        places = np.arange(words.size)
        numbers = self._heads[slots] - 1
        while True:
            live = numbers >= oldest
            places, numbers = places[live], numbers[live]
            if not places.size:
                return latest
            here = numbers % self._ring.size
            same = self._ring[here] == words[places]
            latest[places[same]] = numbers[same]
            back = self._back[here]
            more = ~same & (back > 0)
            places, numbers = places[more], numbers[more] - back[more]

    def _insert(self, words: Words) -> None:
        for at in range(0, words.size, _PIECE):
            self._insert_piece(words[at : at + _PIECE])

    def _insert_piece(self, words: Words) -> None:
        numbers = np.arange(self.next, self.next + words.size)
        here = numbers % self._ring.size
        slots = (words & self._mask).astype(np.int64)
        before = self._heads[slots] - 1
        shared = self._shared(slots)
        if shared.size:  # of those that share a slot, each leads to the one before it
            last: dict[int, int] = {}
            for at, slot in zip(shared.tolist(), slots[shared].tolist(), strict=True):
                before[at] = last.get(slot, before[at])
                last[slot] = self.next + at
        back = numbers - before
        self._ring[here] = words
        self._back[here] = np.where((before >= 0) & (back <= self._ring.size), back, 0)
        self._heads[slots] = numbers + 1
        if shared.size:
            self._heads[list(last)] = np.fromiter(last.values(), dtype=np.int64) + 1
        self.next += words.size

    def _between(self, start: int, stop: int) -> Words:
        return self._ring[np.arange(start, stop) % self._ring.size]
