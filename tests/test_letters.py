"""Dead letters for people: sums, what may be replayed, and that what was replayed never may again."""

from __future__ import annotations

from schemas.events import DeadLetter, DropReason
from streamer.letters import Pile, Sums, Wanted, as_line, place_of, replayed, runs, summary, warnings


def letter(offset: int, *, reason: DropReason = DropReason.LATE, at: int = 0, **more: object) -> DeadLetter:
    return DeadLetter(reason=reason, topic="p", partition=0, offset=offset, append_ts=at, **more)  # type: ignore[arg-type]


def piled(*letters: DeadLetter, wanted: Wanted | None = None) -> Pile:
    pile = Pile(wanted or Wanted())
    for one in letters:
        pile.take(one)
    return pile


def test_sums_by_reason_hold_suppressed_and_replayed_ones_apart() -> None:
    first, second = letter(1, at=10), letter(2, at=5)
    pile = piled(
        first, second, letter(3, at=30, kind="suppressed", count=40), replayed(first, at=99),
        letter(4, reason=DropReason.SCHEMA, at=7),
    )  # fmt: skip
    assert pile.sums == {
        "late": Sums(letters=2, suppressed=40, replayed=1, first=5, last=30),
        "schema": Sums(letters=1, first=7, last=7),
    }


def test_what_was_replayed_is_not_open_whichever_letter_comes_first() -> None:
    first, second = letter(1, at=10), letter(2, at=5)
    for letters in ([first, second, replayed(first, at=99)], [replayed(first, at=99), second, first]):
        assert [place_of(one).offset for one in piled(*letters).open()] == [2]


def test_suppressed_letters_are_never_open_and_the_oldest_come_first() -> None:
    pile = piled(letter(9, at=9), letter(1, at=1, kind="suppressed", count=3), letter(4, at=4))
    assert [place_of(one).offset for one in pile.open()] == [4, 9]


def test_only_what_is_wanted_is_taken() -> None:
    pile = piled(letter(1, model="a"), letter(2, model="b"), wanted=Wanted(model="b"))
    assert [place_of(one).offset for one in pile.open()] == [2]
    assert pile.sums["late"].letters == 1


def test_the_newest_are_shown() -> None:
    pile = piled(*(letter(i, at=i) for i in range(5)))
    assert [place_of(one).offset for one in pile.newest(2)] == [3, 4]
    assert len(pile.newest(0)) == 5


def test_a_letter_in_a_line() -> None:
    line = as_line(letter(3, at=1_735_689_600_000, kind="suppressed", count=4_000))
    assert line == "2025-01-01T00:00:00Z  late               4,000 further ones of its batch, from p/0 at 3 on"
    assert as_line(letter(3), again=True).endswith("(replayed)")


def test_a_replay_that_would_be_dropped_again_is_said_before() -> None:
    found = [letter(1), letter(2), letter(3, reason=DropReason.UNKNOWN_MODEL)]
    assert warnings(found) == ["2 of late: each will be dropped again unless `hold` has grown"]


def test_the_most_frequent_reason_stands_first() -> None:
    table = summary({"late": Sums(letters=1), "schema": Sums(letters=1, suppressed=3)})
    assert [line.split()[0] for line in table] == ["reason", "schema", "late"]


def test_offsets_far_apart_are_read_apart() -> None:
    assert runs([1, 2, 300, 301]) == [(1, 3), (300, 302)]
    assert runs([1, 150], gap=200) == [(1, 151)]
