"""Days that are not what their date says: a holiday that goes like a Sunday, a day on which nothing is judged.

The season of a reference knows weekdays, not feasts. A person names the date, in the model's zone, and the day takes
another weekday's profile, or is off: charts stand still and nothing pages. Between the profile's hours the mean is
linear as ever, so a Sunday in the middle of the week begins like a Sunday, from a Saturday's last hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.seasonality import DAY
from schemas.errors import ConfigurationError

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
OFF = -1
_OFF_WORD = "off"
_EPOCH = date(1970, 1, 1).toordinal()
#: The epoch was a Thursday.
_EPOCH_WEEKDAY = 3


class OddDays:
    """Odd days of a calendar of dates (`2025-12-25`) and weekdays (`sunday`) or `off`.

    `ConfigurationError` for anything else.

    >>> odd = OddDays({"2025-12-25": "sunday", "2025-12-26": "off"})
    >>> christmas = (date(2025, 12, 25).toordinal() - date(1970, 1, 1).toordinal()) * DAY
    >>> (odd.moved(np.array([christmas, christmas + 2 * DAY])) - christmas) // DAY  # a Thursday goes like a Sunday
    array([3, 2])
    >>> odd.off(np.array([christmas, christmas + DAY]))
    array([False,  True])
    """

    def __init__(self, calendar: Mapping[str, str]) -> None:
        self.words = dict(calendar)
        self.days = dict(sorted((_day(text), _weekday(text, word)) for text, word in calendar.items()))
        self._known = np.array(list(self.days), dtype=np.int64)
        self._goes_like = np.array(list(self.days.values()), dtype=np.int64)

    def __bool__(self) -> bool:
        return bool(self.days)

    def near(self, begin: int, end: int) -> bool:
        """An odd day lies in the local times [begin, end), ms."""
        first, last = np.searchsorted(self._known, [begin // DAY, -(-end // DAY)])
        return bool(first < last)

    def off(self, local: Ints) -> Bools:
        """Which local times, ms, are of days on which nothing is judged."""
        return np.asarray(self._at(local) == OFF)

    def moved(self, local: Ints, *, clock: int = 0) -> Ints:
        """Local times moved by whole days to the weekday that their date goes like; days off stay.

        clock: what the result's clock is ahead of that of the dates, ms.
        """
        weekday = self._at(local)
        day = local // DAY
        away = np.where(weekday >= 0, weekday - (day + _EPOCH_WEEKDAY) % 7, 0)
        found: Ints = local + clock + away * DAY
        return found

    def in_words(self, begin: int, end: int) -> list[str]:
        """What a reader of a pane of local times [begin, end) must know.

        >>> OddDays({"1970-01-02": "sunday"}).in_words(0, 2 * DAY)
        ['1970-01-02 goes like a sunday']
        """
        dates = {_day(text): text for text in self.words}
        here = [day for day in self.days if begin // DAY <= day < -(-end // DAY)]
        return [
            f"{dates[day]} is off: shown, not judged"
            if self.days[day] == OFF
            else f"{dates[day]} goes like a {WEEKDAYS[self.days[day]]}"
            for day in here
        ]

    def _at(self, local: Ints) -> Ints:
        """Weekday that each time's date goes like, `OFF`, or −2 for an ordinary day."""
        day = local // DAY
        place = np.minimum(np.searchsorted(self._known, day), max(0, self._known.size - 1))
        if not self._known.size:
            return np.full(local.shape, -2, dtype=np.int64)
        return np.where(self._known[place] == day, self._goes_like[place], -2)


def _day(text: str) -> int:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise ConfigurationError(f"must be a date such as 2025-12-25, got {text!r}", path="calendar")
    return found.toordinal() - _EPOCH


def _weekday(text: str, word: str) -> int:
    if word == _OFF_WORD:
        return OFF
    if word not in WEEKDAYS:
        raise ConfigurationError(f"must be a weekday (monday … sunday) or off, got {word!r}", path=f"calendar.{text}")
    return WEEKDAYS.index(word)
