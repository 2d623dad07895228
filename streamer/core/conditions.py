"""Whether a condition holds: a pure predicate over what fires in the open incident.

A condition moves no budget. What fires has passed the model's false-alarm budget already (or is a hard rule), so a
condition can only make fewer incidents page and fewer triggers go out.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from schemas.layouts import Condition
from streamer.core.alerting import Member
from streamer.core.incidents import GONE, drifting

#: Kinds that no broken data can meet.
DRIFT_KINDS = frozenset({"drift", "step", "ramp", "trend"})
#: Shapes of a change that meet a kind.
_SHAPES = {"step": ("step",), "ramp": ("ramp",), "trend": ("step", "ramp")}
#: Hard rules, and directions of charts, that meet a kind.
_RULES = {
    "missing": GONE,
    "range": frozenset({"range"}),
    "levels": frozenset({"levels"}),
    "rows": frozenset({"rows"}),
    "silence": frozenset({"silence"}),
}
_DIRECTIONS = {
    "missing": frozenset({"missing up", "non_finite up"}),
    "range": frozenset({"below up", "above up"}),
    "levels": frozenset({"unseen up"}),
}


def holds(condition: Condition, members: Sequence[Member]) -> bool:
    """Whether a condition holds of an incident's members.

    >>> from schemas.alerts import Evidence
    >>> one = Member("a", (0, 0), "1", Evidence(feature="age", detector="distribution", direction="location up"), 0)
    >>> holds(Condition(feature="ag*"), [one]), holds(Condition(kind="trend"), [one])
    (True, False)
    """
    if condition.of:
        return sum(holds(one, members) for one in condition.of) >= condition.least
    return any(_fits(condition, member) for member in _candidates(condition, members))


def needs_drift(condition: Condition) -> bool:
    """True when it cannot hold without a drift: broken data alone never meets it.

    >>> age, gone = Condition(feature="age"), Condition(kind="missing")
    >>> needs_drift(Condition(of=(age, gone), least=2)), needs_drift(Condition(of=(age, gone), least=1))
    (True, False)
    """
    if condition.of:
        return sum(not needs_drift(one) for one in condition.of) < condition.least
    return condition.kind in DRIFT_KINDS


def text(condition: Condition) -> str:
    """A condition as people write it, on one line.

    >>> text(Condition(of=(Condition(feature="age"), Condition(kind="missing", feature="country")), least=2))
    'all of (drift age, missing country)'
    """
    if condition.of:
        inside = ", ".join(text(one) for one in condition.of)
        least, most = condition.least, len(condition.of)
        return f"{'all' if least == most else 'any' if least == 1 else f'at least {least}'} of ({inside})"
    feature = f'"{condition.feature}"' if " " in condition.feature else condition.feature
    view = "" if condition.view is None else f"in {condition.view}"
    return " ".join(filter(None, (condition.kind, feature, view)))


def _candidates(condition: Condition, members: Sequence[Member]) -> list[Member]:
    return drifting(members) if condition.kind in DRIFT_KINDS else [member for member in members if member.firing]


def _fits(condition: Condition, member: Member) -> bool:
    evidence, kind = member.evidence, condition.kind
    if condition.feature and not fnmatch.fnmatchcase(evidence.feature, condition.feature):
        return False
    if condition.view is not None and evidence.view != condition.view:
        return False
    if kind == "drift":
        return True
    if kind in _SHAPES:
        return evidence.shape in _SHAPES[kind]
    if kind == "rule":
        return not member.drift
    return evidence.detector in _RULES[kind] or evidence.direction in _DIRECTIONS.get(kind, frozenset())
