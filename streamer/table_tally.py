"""What a reading of a table met beside good rows: lines that are none, rows of other models, words among numbers.

Nothing of it stops a reading, and nothing is lost silently: each kind has its count and the place of the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Met:
    """How often something was met, and where first: row (from 0) or line (from 1), and what stood there."""

    count: int = 0
    place: int = 0
    value: str = ""

    def add(self, count: int, *, place: int, value: str) -> None:
        """Count some more; the place is kept of the first."""
        if count and not self.count:
            self.place, self.value = place, value
        self.count += count


@dataclass
class Tally:
    """Counts of one reading; rows are numbered among the lines that could be read.

    lines: that could not be read at all. others: rows of other models. untimed: rows whose time is empty or cannot be
    read. words: by column, texts among numbers; nested: objects and lists among texts. lists: columns that
    held one; items: names of their entries.

    >>> tally = Tally()
    >>> tally.word("age", 3, row=17, value="N.N.")
    >>> tally.others += 1200
    >>> tally.notes()
    ["age: 3 texts among its numbers, the first in row 17: 'N.N.'", '1,200 rows of other models left out']
    """

    lines: Met = field(default_factory=Met)
    others: int = 0
    untimed: Met = field(default_factory=Met)
    words: dict[str, Met] = field(default_factory=dict)
    nested: dict[str, Met] = field(default_factory=dict)
    lists: dict[str, None] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)

    def word(self, column: str, count: int, *, row: int, value: str) -> None:
        """Count texts in a column of numbers."""
        if count:
            self.words.setdefault(column, Met()).add(count, place=row, value=value)

    @property
    def left_out(self) -> dict[str, int]:
        """Lines and rows that no reader got, by what they were; nothing of what there was none."""
        found = {"unreadable_lines": self.lines.count, "rows_of_other_models": self.others}
        return {what: count for what, count in found.items() if count}

    def notes(self, *, words: bool = True) -> list[str]:
        """Sentences for people, none where all was well. words: also about texts among numbers."""
        found = []
        if self.lines.count:
            found.append(
                f"{_many(self.lines.count, 'line')} that cannot be read left out, the first is line "
                f"{self.lines.place:,}: {self.lines.value}"
            )
        for column, met in self.words.items() if words else ():
            found.append(
                f"{column}: {_many(met.count, 'text')} among its numbers, the first in row {met.place:,}: {met.value!r}"
            )
        for column, met in self.nested.items():
            found.append(
                f"{column}: {_many(met.count, 'object or list')} among its values, missing, the first in row "
                f"{met.place:,}: {met.value!r}"
            )
        if self.untimed.count:
            found.append(
                f"{_many(self.untimed.count, 'row')} without a time dropped, the first is row "
                f"{self.untimed.place:,}: {self.untimed.value or 'nothing'}"
            )
        if self.others:
            found.append(f"{_many(self.others, 'row')} of other models left out")
        return found


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
