"""What an incident says to a person: one sentence, and a table of its evidence. Pure text, times in UTC."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from schemas.alerts import AlertState, Evidence, Incident
from schemas.layouts import View

#: Rows of a table; an annotation should fit on a phone.
ROWS = 20

_MOVED = {
    "location": ("{feature} rose", "{feature} fell"),
    "scale": ("the spread of {feature} grew", "the spread of {feature} shrank"),
    "skew": ("the skew of {feature} rose", "the skew of {feature} fell"),
    "tails": ("the tails of {feature} grew", "the tails of {feature} shrank"),
    "missing": ("missing values of {feature} rose", "missing values of {feature} fell"),
    "unseen": ("unseen levels of {feature} rose", "unseen levels of {feature} fell"),
    "below": ("values of {feature} below the reference rose", "values of {feature} below the reference fell"),
    "above": ("values of {feature} above the reference rose", "values of {feature} above the reference fell"),
    "non_finite": ("non-finite values of {feature} rose", "non-finite values of {feature} fell"),
}
_RULES = {
    "missing": "{feature} is mostly missing",
    "range": "{feature} is mostly out of its range",
    "required": "{feature} is gone from the events",
    "levels": "{feature} has levels that its closed list lacks",
    "rows": "too few events",
    "silence": "no events",
}


def minute(ms: int) -> str:
    """Time as people read it.

    >>> minute(1_735_689_600_123)
    '2025-01-01 00:00 UTC'
    """
    return f"{datetime.datetime.fromtimestamp(ms // 1000, tz=datetime.UTC):%Y-%m-%d %H:%M} UTC"


def amount(evidence: Evidence) -> str:
    """Size of a change with its interval; empty where there is none (a hard rule).

    Shares are in percentage points, `sd` are standard deviations of the reference.

    >>> amount(Evidence(feature="age", detector="distribution", direction="location up", size=0.42,
    ...                 size_low=0.31, size_high=0.53))
    '0.42 sd (0.31 to 0.53)'
    >>> amount(Evidence(feature="age", detector="missing", direction="missing up", size=0.034, unit="share"))
    '3.4 points'
    """
    if evidence.size is None:
        return ""
    if evidence.unit == "share":
        words, scale, digits = "points", 100.0, 1
    else:
        words, scale, digits = evidence.unit, 1.0, 2 if evidence.unit == "sd" else 0
    text = f"{abs(evidence.size) * scale:.{digits}f} {words}"
    if evidence.size_low is None or evidence.size_high is None:
        return text
    ends = [evidence.size_low * scale, evidence.size_high * scale]
    low, high = ends if evidence.size >= 0 else (-ends[1], -ends[0])
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def moved(evidence: Evidence) -> str:
    """What moved and by how much, as half a sentence.

    >>> moved(Evidence(feature="country", detector="distribution", direction="level FR up", size=0.05, unit="share",
    ...                view=View("version", "3")))
    'the share of FR in country rose by 5.0 points (version=3)'
    """
    size = amount(evidence)
    text = _what(evidence) + (f" by {size}" if size else "")
    if evidence.raw_size is not None and evidence.unit == "sd":
        text += f", {abs(evidence.raw_size):.4g} in its own unit"
    return text if evidence.view == View() else f"{text} ({evidence.view})"


def summary(incident: Incident) -> str:
    """One sentence: what moved, by how much, since when, and how much else.

    >>> age = Evidence(feature="age", detector="distribution", direction="location up", size=0.42, onset=0)
    >>> summary(Incident(id="i", model="credit", version="3", state=AlertState.FIRING, severity="page", opened_at=0,
    ...                  updated_at=0, sequence=0, evidence=[age], open_alerts=3))
    'credit, version 3: age rose by 0.42 sd since 1970-01-01 00:00 UTC; 3 alerts open'
    """
    name = f"{incident.model}, version {incident.version}" if incident.version else incident.model
    if not incident.evidence:
        return f"{name}: incident since {minute(incident.opened_at)}"
    first = incident.evidence[0]
    since = first.onset if first.onset is not None else incident.opened_at
    text = f"{name}: {moved(first)} since {minute(since)}"
    if incident.state is AlertState.RESOLVED and incident.resolved_at is not None:
        return f"{text}; resolved at {minute(incident.resolved_at)}"
    return f"{text}; {incident.open_alerts} alerts open" if incident.open_alerts > 1 else text


def table(evidence: Sequence[Evidence], *, rows: int = ROWS) -> str:
    """Ranked evidence as lines of text, the strongest first; columns are aligned for a fixed-width font."""
    if not evidence:
        return ""
    lines = [("", "feature", "view", "change", "size", "since", "n")]
    for rank, one in enumerate(evidence[:rows], 1):
        since = minute(one.onset) if one.onset is not None else ""
        what = one.direction if one.detector == "distribution" else f"{one.detector} {one.direction}".strip()
        lines.append((str(rank), one.feature or "events", str(one.view), what, amount(one), since, str(one.n)))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if len(evidence) > rows:
        text.append(f"and {len(evidence) - rows} more")
    return "\n".join(text)


def _what(evidence: Evidence) -> str:
    if evidence.detector in _RULES:
        words = _RULES[evidence.detector].format(feature=evidence.feature)
        return f"{words}: {evidence.note}" if evidence.note else words
    kind, _, sign = evidence.direction.rpartition(" ")
    rose = sign != "down"
    if kind.startswith("level "):
        return f"the share of {kind.removeprefix('level ')} in {evidence.feature} {'rose' if rose else 'fell'}"
    if kind in _MOVED:
        return _MOVED[kind][0 if rose else 1].format(feature=evidence.feature)
    return f"{evidence.feature}: {evidence.direction}"
