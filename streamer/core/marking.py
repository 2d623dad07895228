"""What people say of incidents afterwards: false or true; and how much of the stated budget is spent.

Why: the budget is a promise about what nobody can see, changes that are none. The only witnesses are the people who
were paged. What they mark false within the last `budget_ms` of event time is the spent part; an incident that nobody
marked counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas.alerts import Mark
from schemas.layouts import Layout


class Spent(NamedTuple):
    """Incidents marked false, beside how many the budget allows, in the last `budget_ms` of event time."""

    marked: int
    stated: float
    budget_ms: int


def spent(layout: Layout, marks: Mapping[str, Mark], *, at: int) -> Spent:
    """How much of a model's budget is spent at event time `at` (ms), by the marks of all models.

    >>> mark = Mark(incident="i", model="credit", word="false", by="ada", at=0, opened_at=5)
    >>> spent(Layout(model="credit", from_ms=0, reference="r", budget_ms=10), {"i": mark}, at=14).marked
    1
    >>> spent(Layout(model="credit", from_ms=0, reference="r", budget_ms=10), {"i": mark}, at=15).marked
    0
    """
    marked = sum(
        mark.model == layout.model and mark.word == "false" and at - layout.budget_ms < mark.opened_at <= at
        for mark in marks.values()
    )
    return Spent(marked, layout.false_alarms, layout.budget_ms)


def unheard(heard: Mapping[str, int], marks: Mapping[str, Mark], *, model: str) -> list[Mark]:
    """Marks of a model that have not been audited: new ones, and those that were changed. heard: incident → `at`."""
    found = [mark for mark in marks.values() if mark.model == model and heard.get(mark.incident) != mark.at]
    return sorted(found, key=lambda mark: (mark.at, mark.incident))
