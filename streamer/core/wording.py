"""What an incident says to a person: one sentence, and a table of its evidence. Pure text, times in UTC."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import msgspec

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
    "missing": "{feature} is missing",
    "range": "{feature} is {direction}",
    "required": "{feature}, which is required, is missing",
    "levels": "{feature} has levels outside its closed list",
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
    """Size with its interval: a change in `sd`, a share as it is now, a count of rows, or a length of time.

    >>> amount(Evidence(feature="age", detector="distribution", direction="location up", size=0.42,
    ...                 size_low=0.31, size_high=0.53))
    '0.42 sd (0.31 to 0.53)'
    >>> amount(Evidence(feature="age", detector="distribution", direction="missing up", size=0.034, unit="share"))
    '3.4 %'
    >>> amount(Evidence(feature="", detector="silence", direction="silence", size=1_260_000, unit="ms"))
    '21 min'
    """
    size, low, high = evidence.size, evidence.size_low, evidence.size_high
    if size is None:
        return ""
    if evidence.unit == "ms":
        return f"{size / 60_000:.0f} min" if size < 7_200_000 else f"{size / 3_600_000:.1f} h"
    if evidence.unit == "share":
        text, ends = f"{100 * size:.1f} %", (None if low is None or high is None else (100 * low, 100 * high))
        return text if ends is None else f"{text} ({ends[0]:.1f} to {ends[1]:.1f})"
    if evidence.unit != "sd":
        return f"{size:.0f} {evidence.unit}"
    text = f"{abs(size):.2f} sd"
    if low is None or high is None:
        return text
    low, high = (low, high) if size >= 0 else (-high, -low)
    return f"{text} ({low:.2f} to {high:.2f})"


def moved(evidence: Evidence) -> str:
    """What moved and by how much, or to what share, as half a sentence.

    >>> moved(Evidence(feature="country", detector="distribution", direction="level FR up", size=0.17, unit="share",
    ...                view=View("version", "3"), note="share 0.12 in the reference"))
    'the share of FR in country rose to 17.0 %, share 0.12 in the reference (version=3)'
    >>> moved(Evidence(feature="age", detector="missing", direction="missing up", size=0.62, unit="share"))
    'age is missing in 62.0 % of the events'
    """
    size = amount(evidence)
    if evidence.detector in _RULES:
        text = _RULES[evidence.detector].format(feature=evidence.feature, direction=_outside(evidence.direction))
        joined = {"share": f" in {size} of the events", "ms": f" for {size}"}.get(evidence.unit, f": {size}")
        text += joined if size else ""
    else:
        text = _what(evidence)
        text += f" {'to' if evidence.unit == 'share' else 'by'} {size}" if size else ""
        if evidence.unit == "share" and evidence.note:
            text += f", {evidence.note}"
    if evidence.raw_size is not None and evidence.unit == "sd":
        text += f", {abs(evidence.raw_size):.4g} in its own unit"
    return text if evidence.view == View() else f"{text} ({evidence.view})"


def gone_on(evidence: Evidence) -> str:
    """How the change has gone on since its first alarm, as the end of a sentence; nothing where it just stands.

    >>> gone_on(Evidence(feature="age", detector="distribution", direction="location up", shape="ramp", size_now=1.1))
    '; it has grown since, to 1.10 sd'
    """
    if evidence.shape == "block":
        return "; it seems to pass"
    if evidence.shape != "ramp":
        return ""
    now = msgspec.structs.replace(evidence, size=evidence.size_now, size_low=None, size_high=None)
    return f"; it has grown since, to {amount(now)}"


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
    text += gone_on(first)
    return f"{text}; {incident.open_alerts} alerts open" if incident.open_alerts > 1 else text


def table(evidence: Sequence[Evidence], *, rows: int = ROWS) -> str:
    """Ranked evidence as lines of text, the strongest first; columns are aligned for a fixed-width font."""
    if not evidence:
        return ""
    lines = [("", "feature", "view", "change", "size", "since", "n", "")]
    for rank, one in enumerate(evidence[:rows], 1):
        since = minute(one.onset) if one.onset is not None else ""
        what = one.direction if one.detector == "distribution" else f"{one.direction} (rule: {one.detector})"
        feature = one.feature or "events"
        lines.append((str(rank), feature, str(one.view), what, amount(one), since, str(one.n), one.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if len(evidence) > rows:
        text.append(f"and {len(evidence) - rows} more")
    return "\n".join(text)


def _what(evidence: Evidence) -> str:
    kind, _, sign = evidence.direction.rpartition(" ")
    rose = sign != "down"
    if kind.startswith("level "):
        return f"the share of {kind.removeprefix('level ')} in {evidence.feature} {'rose' if rose else 'fell'}"
    if kind.startswith("levels "):
        group = kind.removeprefix("levels ")
        return f"the share of a group of levels ({group}) of {evidence.feature} {'rose' if rose else 'fell'}"
    if kind in _MOVED:
        return _MOVED[kind][0 if rose else 1].format(feature=evidence.feature)
    return f"{evidence.feature}: {evidence.direction}"


def _outside(direction: str) -> str:
    """Which way a range is left: by the default rule (`below up`) or by `expect` (`outside the range`)."""
    kind = direction.removesuffix(" up")
    return {"below": "below the reference", "above": "above the reference", "unseen": "of an unseen level"}.get(
        kind, kind
    )
