"""What a reference's own replay through its monitors attained: the promise, tried on the past that we have.

Every alarm of that replay is false, as nothing changed: each day is judged by a profile and a design effect that were
learned without it. So the count beside the budget tells a user before the first page whether the method's assumptions
hold for this stream, and what would mend it. `shadowing` computes it.
"""

from __future__ import annotations

import math

import msgspec

#: More alarms than this chance allows under the budget are no luck.
LUCK = 0.1
_DAY_MS = 86_400_000


class ShadowFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that alarmed. alarms: of its chart, those within an incident too; dates: local days, at most 8."""

    feature: str
    alarms: int
    dates: tuple[str, ...] = ()


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """One replay. pane_ms … budget_ms: under which settings; monitors: M, shared by all views that may be tested.

    span_ms: event time that was replayed; incidents: how many were opened; rules: pages of default hard rules, which
    stand outside the budget. features: those that alarmed, most first. cures: in words, what was tried and helps.
    """

    pane_ms: int
    tolerance: float
    strict: bool
    false_alarms: float
    budget_ms: int
    monitors: int
    span_ms: int
    incidents: int
    rules: int = 0
    features: tuple[ShadowFeature, ...] = ()
    cures: tuple[str, ...] = ()

    @property
    def allowed(self) -> float:
        """False incidents that the budget allows in the replayed time.

        >>> replayed = {"monitors": 9, "span_ms": 14 * _DAY_MS, "incidents": 3}
        >>> settings = {"pane_ms": 300_000, "tolerance": 0.1, "strict": False, "budget_ms": 30 * _DAY_MS}
        >>> found = Shadow(false_alarms=1.0, **settings, **replayed)
        >>> round(found.allowed, 2), round(found.attained, 2), found.breaks
        (0.47, 6.43, True)
        """
        return self.false_alarms * self.span_ms / self.budget_ms

    @property
    def attained(self) -> float:
        """Incidents per budget period: to be compared with `false_alarms`."""
        return self.incidents * self.budget_ms / max(1, self.span_ms)

    @property
    def breaks(self) -> bool:
        """More incidents than chance explains when the budget is kept (Poisson, one sided, 10 %)."""
        return self.incidents > 0 and _at_least(self.incidents, self.allowed) < LUCK


def words_of(shadow: Shadow) -> list[str]:
    r"""For a person: what was replayed, what it attained, which features, and what to do.

    >>> found = Shadow(pane_ms=300_000, tolerance=0.1, strict=False, false_alarms=1.0, budget_ms=30 * _DAY_MS,
    ...     monitors=9, span_ms=14 * _DAY_MS, incidents=0)
    >>> print(*words_of(found), sep="\n")
    replayed through its own monitors (pane 5 min, tolerance 0.1, 1 per 30 d): 0 false incidents in 14.0 days
    """
    settings = f"pane {span(shadow.pane_ms)}, tolerance {shadow.tolerance:g}, "
    settings += f"{'strict, ' if shadow.strict else ''}{shadow.false_alarms:g} per {span(shadow.budget_ms)}"
    counted = f"{shadow.incidents} false incident{'s' * (shadow.incidents != 1)} in {shadow.span_ms / _DAY_MS:.1f} days"
    lines = [f"replayed through its own monitors ({settings}): {counted}"]
    if shadow.incidents:
        verdict = "more than the budget allows" if shadow.breaks else "within what chance allows"
        lines[0] += f", {shadow.attained:.2g} per budget: {verdict}"
    lines += [in_words(found, shadow) for found in shadow.features]
    if shadow.rules:
        lines.append(f"  hard rules would have paged {shadow.rules} times in it")
    if shadow.breaks:
        lines += [f"  {cure}" for cure in shadow.cures]
    return lines


def in_words(found: ShadowFeature, shadow: Shadow) -> str:
    """A line on one feature."""
    dates = ", ".join(found.dates[:4]) + (" …" if len(found.dates) > 4 else "")
    return (
        f"  {found.feature}: {found.alarms} alarm{'s' * (found.alarms != 1)}, "
        f"{found.alarms * shadow.budget_ms / max(1, shadow.span_ms):.2g} per budget ({dates})"
    )


def span(ms: int) -> str:
    """A length of time for a person.

    >>> span(300_000), span(7_200_000), span(1_500)
    ('5 min', '2 h', '1.5 s')
    """
    for unit, name in ((_DAY_MS, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= unit and ms % unit == 0:
            return f"{ms // unit} {name}"
    return f"{ms / 1000:g} s"


def _at_least(count: int, mean: float) -> float:
    """P(Poisson(mean) >= count)."""
    return 1.0 - sum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(count))
