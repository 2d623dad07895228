"""Dead letters for people: which are shown, what they add up to, and which of them may be replayed.

A replayed record leaves a letter of kind `replayed` under the same place, written in the transaction that wrote the
record again: whoever asks a second time finds it, and leaves the record alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.events import DeadLetter
from streamer import spans

#: Kinds of letters: of one record, of further ones without their places, and of one that was written again.
RECORD, SUPPRESSED, REPLAYED = "record", "suppressed", "replayed"

#: What a replay comes to, where the reason still holds; said before anything is written.
_STILL = {
    "decode": "will not parse now either, unless a mapping has changed",
    "duplicate": "will be dropped again while its id is remembered",
    "late": "will be dropped again unless `hold` has grown",
    "non_finite": "will be dropped again: the number is in the record",
}


class Place(NamedTuple):
    """Where the record of a letter lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """`topic/partition at offset`."""
        return f"{self.topic}/{self.partition} at {self.offset}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which letters are meant; "" any."""

    reason: str = ""
    model: str = ""

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant.

        >>> from schemas.events import DropReason
        >>> letter = DeadLetter(reason=DropReason.LATE, topic="p", partition=0, offset=1, model="credit")
        >>> Wanted(reason="late").takes(letter), Wanted(model="other").takes(letter)
        (True, False)
        """
        return self.reason in ("", letter.reason.value) and self.model in ("", letter.model)


@dataclass
class Sums:
    """What letters of one reason add up to. letters: of records of their own; first, last: append times, ms."""

    letters: int = 0
    suppressed: int = 0
    replayed: int = 0
    first: int = 0
    last: int = 0


@dataclass
class Pile:
    """Letters as they are taken in, in any order: sums by reason over all, and those that may be replayed."""

    wanted: Wanted = field(default_factory=Wanted)
    sums: dict[str, Sums] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    replayed: set[Place] = field(default_factory=set)

    def take(self, letter: DeadLetter) -> None:
        """One more letter."""
        if not self.wanted.takes(letter):
            return
        sums = self.sums.setdefault(letter.reason.value, Sums(first=letter.append_ts))
        if letter.kind == REPLAYED:
            self.replayed.add(place_of(letter))
            sums.replayed += 1
            return
        sums.first, sums.last = min(sums.first, letter.append_ts), max(sums.last, letter.append_ts)
        sums.suppressed += letter.count if letter.kind == SUPPRESSED else 0
        sums.letters += letter.kind != SUPPRESSED
        self.letters.append(letter)

    def open(self) -> list[DeadLetter]:
        """Letters of records that were never replayed, the oldest first."""
        kept = [one for one in self.letters if one.kind == RECORD and place_of(one) not in self.replayed]
        return sorted(kept, key=lambda letter: (letter.append_ts, place_of(letter)))

    def newest(self, limit: int) -> list[DeadLetter]:
        """The last `limit` letters, the oldest first; 0: all."""
        ordered = sorted(self.letters, key=lambda letter: (letter.append_ts, place_of(letter)))
        return ordered[-limit:] if limit else ordered


def place_of(letter: DeadLetter) -> Place:
    """Where its record lies."""
    return Place(letter.topic, letter.partition, letter.offset)


def replayed(letter: DeadLetter, *, at: int) -> DeadLetter:
    """The letter that says that a record was written again. It counts for nothing: the drop is in the first one."""
    return DeadLetter(
        kind=REPLAYED,
        count=0,
        reason=letter.reason,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        model=letter.model,
        sha256=letter.sha256,
        append_ts=at,
    )


def as_line(letter: DeadLetter, *, again: bool = False) -> str:
    """One line. again: it was replayed.

    >>> from schemas.events import DropReason
    >>> as_line(DeadLetter(reason=DropReason.LATE, topic="p", partition=0, offset=7, model="credit", size=90,
    ...     sha256="ab" * 32, append_ts=1_735_689_600_123))
    '2025-01-01T00:00:00Z  late               p/0 at 7  90 bytes  sha256 abababababab  credit'
    """
    when = spans.rfc3339(letter.append_ts // 1000 * 1000) if letter.append_ts >= 0 else "?"
    if letter.kind == SUPPRESSED:
        what = f"{letter.count:,} further ones of its batch, from {place_of(letter)} on"
        return f"{when}  {letter.reason.value:<17}  {what}"
    said = [
        f"{place_of(letter)}",
        f"{letter.size:,} bytes",
        f"sha256 {letter.sha256[:12]}",
        letter.model,
        letter.detail,
    ]
    return "  ".join([when, f"{letter.reason.value:<17}", *filter(None, said), *(["(replayed)"] if again else [])])


def summary(sums: Mapping[str, Sums]) -> list[str]:
    """A table by reason, the most first.

    >>> summary({"late": Sums(letters=2, suppressed=40, replayed=1)})[1].split()
    ['late', '2', '40', '1']
    """
    rows = sorted(sums.items(), key=lambda item: (-item[1].letters - item[1].suppressed, item[0]))
    head = f"{'reason':<17}  {'letters':>10}  {'suppressed':>10}  {'replayed':>8}"
    return [head, *(f"{name:<17}  {n.letters:>10,}  {n.suppressed:>10,}  {n.replayed:>8,}" for name, n in rows)]


def warnings(letters: Iterable[DeadLetter]) -> list[str]:
    """What is likely to come of replaying them, by reason."""
    counts = Counter(letter.reason.value for letter in letters)
    return [f"{n:,} of {reason}: each {_STILL[reason]}" for reason, n in sorted(counts.items()) if reason in _STILL]


def runs(offsets: Sequence[int], *, gap: int = 200) -> list[tuple[int, int]]:
    """Offsets as ranges that are read in one go: first, and one past the last.

    >>> runs([5, 6, 90, 4_000])
    [(5, 91), (4000, 4001)]
    """
    found: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if found and offset - found[-1][1] <= gap:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return found
