"""What an incident says to a person: one sentence, and a table of its evidence. Pure text, times in UTC."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import msgspec

from detectors.catalogue import STATISTICS
from detectors.reported import DETECTOR as REPORTED
from schemas.alerts import AlertState, Evidence, Incident, Reason
from schemas.layouts import View

#: Rows of a table; an annotation should fit on a phone.
ROWS = 20

_MOVED = {
    "location": ("{feature} rose", "{feature} fell"),
    "scale": ("the spread of {feature} grew", "the spread of {feature} shrank"),
    "skew": ("the skew of {feature} rose", "the skew of {feature} fell"),
    "tails": ("the tails of {feature} grew", "the tails of {feature} shrank"),
    "missing": ("missing values of {feature} rose", "missing values of {feature} fell"),
    "unseen": (
        "levels of {feature} that the reference lacks rose",
        "levels of {feature} that the reference lacks fell",
    ),
    "below": ("values of {feature} below the reference's range rose", "values of {feature} below its range fell"),
    "above": ("values of {feature} above the reference's range rose", "values of {feature} above its range fell"),
    "non_finite": ("values of {feature} that are not finite rose", "values of {feature} that are not finite fell"),
}
#: Of the model, and of one class of several.
_CALIBRATED = {
    "shifted up": ("outcomes are more frequent than the scores say", "{of} is more frequent than its probability says"),
    "shifted down": ("outcomes are rarer than the scores say", "{of} is rarer than its probability says"),
    "over-confident": ("scores are over-confident", "the probability of {of} is over-confident"),
    "under-confident": ("scores are under-confident", "the probability of {of} is under-confident"),
}
_RULES = {
    "missing": "{feature} is missing",
    "range": "{feature} is {direction}",
    "required": "{feature}, which is required, is missing",
    "levels": "{feature} has levels outside its closed list",
}
#: Which way a range is left: by the default rule (`below up`) or by `expect` (`outside the range`).
_OUTSIDE = {
    "below up": "below the reference's range",
    "above up": "above the reference's range",
    "unseen up": "of a level that the reference lacks",
    "non_finite up": "not finite",
    "below the range": "below its expected range",
    "outside the range": "outside its expected range",
}
#: Groups of fewer events than this are not shown by name: who knows the place knows the person.
SMALLEST_GROUP = 20
_UNNAMED = f"fewer than {SMALLEST_GROUP} events"
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))


def minute(ms: int) -> str:
    """Time as people read it.

    >>> minute(1_735_689_600_123)
    '2025-01-01 00:00 UTC'
    """
    return f"{datetime.datetime.fromtimestamp(ms // 1000, tz=datetime.UTC):%Y-%m-%d %H:%M} UTC"


def span(ms: float) -> str:
    """A length of time as people say it, in at most two units.

    >>> span(7_200_000), span(1_500_000), span(5_400_000), span(190_000_000), span(999)
    ('2 h', '25 min', '1 h 30 min', '2 d 5 h', '1 s')
    """
    # Rounded to the smaller of the two units first: 59.9 min are an hour.
    place = next((i for i, (_, size) in enumerate(_UNITS) if ms >= size), len(_UNITS) - 1)
    smaller = _UNITS[min(place + 1, len(_UNITS) - 1)][1]
    left, parts = max(1, round(ms / smaller)) * smaller, []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def number(value: float) -> str:
    """A number in the feature's own unit: four digits, thousands parted, no exponent where one can do without.

    >>> number(10690.4), number(0.09336), number(41.25), number(-3.0), number(1.5e-7)
    ('10,690', '0.09336', '41.25', '-3', '1.5e-07')
    """
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def amount(evidence: Evidence) -> str:
    """Size with its interval: a change in `sd`, a share as it is now, a count of rows, or a length of time.

    >>> amount(Evidence(feature="age", detector="distribution", direction="location up", size=0.42,
    ...                 size_low=0.31, size_high=0.53))
    '0.42 sd (0.31 to 0.53)'
    >>> amount(Evidence(feature="age", detector="distribution", direction="missing up", size=0.034, unit="share",
    ...                 size_low=0.03, size_high=0.038))
    '3.4 % (3.0 to 3.8 %)'
    >>> amount(Evidence(feature="", detector="silence", direction="silence", size=1_260_000, unit="ms"))
    '21 min'
    """
    size, low, high = evidence.size, evidence.size_low, evidence.size_high
    if size is None:
        return ""
    if evidence.unit == "ms":
        return span(size)
    if evidence.unit == "share":
        ends = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f} %)"
        return percent(size) + ends
    if evidence.unit not in {"sd", "logit"}:
        return f"{size:,.0f} rows" if evidence.unit == "rows" else f"{size:.3g} {evidence.unit}".rstrip()
    text = f"{abs(size):.2f} {evidence.unit}"
    if low is None or high is None:
        return text
    low, high = (low, high) if size >= 0 else (-high, -low)
    return f"{text} ({low:.2f} to {high:.2f})"


def percent(share: float) -> str:
    """A share; one that is no zero is not printed as one.

    >>> percent(0.05), percent(0.0), percent(0.0002), percent(1.0)
    ('5.0 %', '0.0 %', '0.02 %', '100.0 %')
    """
    return f"{100 * share:.2g} %" if 0.0 < share < 0.0005 else f"{100 * share:.1f} %"


def moved(evidence: Evidence) -> str:
    """What moved, by how much or from what to what, as half a sentence that `since` may follow.

    >>> moved(Evidence(feature="income", detector="distribution", direction="location up", size=0.52, size_low=0.4,
    ...                size_high=0.64, before=9310.4, after=10689.8))
    'income rose by 0.52 sd (0.40 to 0.64), its median from 9,310 to about 10,690'
    >>> moved(Evidence(feature="country", detector="distribution", direction="level FR up", size=0.17, unit="share",
    ...                view=View("version", "3"), before=0.12))
    'the share of FR in country rose from 12.0 % to 17.0 % (version=3)'
    >>> moved(Evidence(feature="age", detector="missing", direction="missing up", size=0.62, unit="share", n=1204))
    'age is missing in 62.0 % of 1,204 events'
    >>> moved(Evidence(feature="error", detector="losses", direction="larger", size=190.0, unit="value", before=62.0,
    ...                size_low=83.0, size_high=298.0))
    'the mean error rose from 62 to 190 (83 to 298)'
    >>> moved(Evidence(feature="calibration of cat", detector="calibration", direction="shifted down"))
    'cat is rarer than its probability says'
    >>> moved(Evidence(feature="", detector="silence", direction="silence", size=7.2e6, unit="ms", before=1.5e6))
    'no event for 2 h, at this hour up to 25 min are normal'
    """
    if evidence.detector in STATISTICS:
        limit = evidence.direction.partition(" above ")[2]
        return f"{evidence.detector.replace('_', ' ')} of {evidence.feature} is {amount(evidence)}, above {limit}"
    text = _reported(evidence) or _rule(evidence) or _drift(evidence)
    # What calibration says is in its note.
    text += f", {evidence.note}" if evidence.note and evidence.detector != "calibration" else ""
    return text if evidence.view == View() else f"{text} ({_view(evidence)})"


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
    return f"; it has grown since, to {f'about {_spread(now)}' if _is_spread(now) else amount(now)}"


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
    words = moved(first)
    # A sentence with a comma in it needs one more.
    text = f"{name}: {words}{',' * (', ' in words)} since {minute(since)}"
    if incident.state is AlertState.RESOLVED and incident.resolved_at is not None:
        over = "withdrawn" if incident.reason is Reason.WITHDRAWN else "resolved"
        return f"{text}; {over} at {minute(incident.resolved_at)}"
    text += gone_on(first)
    return f"{text}; {incident.open_alerts} alerts open" if incident.open_alerts > 1 else text


def table(evidence: Sequence[Evidence], *, rows: int = ROWS) -> str:
    """Ranked evidence as lines of text, the strongest first; columns are aligned for a fixed-width font."""
    if not evidence:
        return ""
    lines = [("", "feature", "view", "change", "size", "since", "n", "")]
    for rank, one in enumerate(evidence[:rows], 1):
        since = minute(one.onset) if one.onset is not None else ""
        chart = one.detector in {"distribution", "losses", "calibration"}
        way = one.direction.rpartition(" ")[2]
        direction = f"{_level(one)} {way}" if _small_level(one) else one.direction
        what = direction if chart else f"{direction} (rule: {one.detector})"
        feature = one.feature or "events"
        lines.append((str(rank), feature, _view(one), what, amount(one), since, f"{one.n:,}", one.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if len(evidence) > rows:
        text.append(f"and {len(evidence) - rows} more")
    return "\n".join(text)


def _reported(evidence: Evidence) -> str:
    """A number of a report that has passed its limit; nothing when it was something else.

    >>> _reported(Evidence(feature="roc_auc", detector="reported", direction="roc_auc below 0.7", size=0.6812, unit="",
    ...                    size_low=0.65, size_high=0.71, n=1204, after=0.93))
    'roc auc was 0.681 (0.65 to 0.71), below 0.7, on 1,204 predictions, 93 % of the labels in'
    """
    if evidence.detector != REPORTED or evidence.size is None:
        return ""
    low, high = evidence.size_low, evidence.size_high
    ends = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    limit = evidence.direction.removeprefix(f"{evidence.feature} ")
    text = f"{evidence.feature.replace('_', ' ')} was {evidence.size:.3g}{ends}, {limit}, on {evidence.n:,} predictions"
    # Rounded down: not all labels are in while one lacks.
    return text if evidence.after is None else f"{text}, {math.floor(100 * evidence.after)} % of the labels in"


def _rule(evidence: Evidence) -> str:
    """What a hard rule found; nothing when it was a chart."""
    size = amount(evidence)
    if evidence.detector == "silence":
        known = evidence.before is not None and evidence.before < float("inf")
        normal = f", at this hour up to {span(evidence.before or 0)} are normal" if known else ""
        return (f"no event for {size}" if size else "no events") + normal
    if evidence.detector == "rows":
        least = f", at least {number(evidence.before)} are expected" if evidence.before is not None else ""
        found = "" if evidence.size is None else f"only {number(evidence.size)} events in a pane"
        return (found or "too few events") + least
    if evidence.detector not in _RULES:
        return ""
    direction = _OUTSIDE.get(evidence.direction, evidence.direction)
    text = _RULES[evidence.detector].format(feature=evidence.feature, direction=direction)
    of = f"{evidence.n:,} events" if evidence.n else "the events"
    return f"{text} in {size} of {of}" if size else text


def _drift(evidence: Evidence) -> str:
    """What a chart found: a share from what to what, a spread in percent, all else in sd."""
    if evidence.detector == "calibration":
        of = evidence.feature.removeprefix("calibration").removeprefix(" of ")
        known = {part: words[bool(of)].replace("{of}", of) for part, words in _CALIBRATED.items()}
        found = [known.get(part, part) for part in evidence.direction.split(", ")]
        return f"{' and '.join(found)}: {evidence.note}" if evidence.note else " and ".join(found)
    if evidence.unit == "value" and evidence.size is not None:
        low, high = evidence.size_low, evidence.size_high
        ends = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
        return f"the mean error rose from {number(evidence.before or 0.0)} to {number(evidence.size)}{ends}"
    kind, _, sign = evidence.direction.rpartition(" ")
    text, size = _what(evidence, kind, rose=sign != "down"), amount(evidence)
    if not size:
        return text
    if evidence.unit == "share":
        return text + (f" from {percent(evidence.before)}" if evidence.before is not None else "") + f" to {size}"
    if _is_spread(evidence):
        return f"{text} by about {_spread(evidence)}"
    text += f" by {size}"
    if evidence.before is not None and evidence.after is not None:
        text += f", its median from {number(evidence.before)} to about {number(evidence.after)}"
    elif evidence.raw_size is not None:
        text += f", {number(abs(evidence.raw_size))} in its own unit"
    return text


def _is_spread(evidence: Evidence) -> bool:
    return evidence.direction.startswith("scale ") and evidence.unit == "sd"


def _spread(evidence: Evidence) -> str:
    """A move of the scale direction, `(z² − 1)/√2`, as percent of the spread: sd² = 1 + √2·move.

    >>> _spread(Evidence(feature="a", detector="distribution", direction="scale up", size=0.3, size_low=0.2,
    ...                  size_high=0.4))
    '19 % (13 to 25 %)'
    """

    def wider(move: float) -> float:
        return abs(100.0 * (math.sqrt(max(0.0, 1.0 + math.sqrt(2.0) * move)) - 1.0))

    text = f"{wider(evidence.size or 0.0):.0f} %"
    if evidence.size_low is None or evidence.size_high is None:
        return text
    ends = sorted((wider(evidence.size_low), wider(evidence.size_high)))
    return f"{text} ({ends[0]:.0f} to {ends[1]:.0f} %)"


def _view(evidence: Evidence) -> str:
    """A view by name, unless it is a group of so few that they might be known."""
    few = 0 < evidence.n < SMALLEST_GROUP and evidence.view.column not in ("", "version")
    return f"{evidence.view.column}: {_UNNAMED}" if few else str(evidence.view)


def _small_level(evidence: Evidence) -> bool:
    """Whether the level that moved is, and was, a group of too few; of a share only that has a size."""
    if not evidence.direction.startswith("level ") or evidence.unit != "share" or not evidence.n:
        return False
    return max(evidence.size or 0.0, evidence.before or 0.0) * evidence.n < SMALLEST_GROUP


def _level(evidence: Evidence) -> str:
    """The level that moved, by name unless it is too small a group."""
    name = evidence.direction.removeprefix("level ").rpartition(" ")[0]
    return f"a level ({_UNNAMED})" if _small_level(evidence) else name


def _what(evidence: Evidence, kind: str, *, rose: bool) -> str:
    verb = "rose" if rose else "fell"
    if kind.startswith("level "):
        return f"the share of {_level(evidence)} in {evidence.feature} {verb}"
    if kind.startswith("levels "):
        return f"the share of a group of levels ({kind.removeprefix('levels ')}) of {evidence.feature} {verb}"
    if evidence.detector == "losses":
        return "the error rate rose"
    if kind in _MOVED:
        return _MOVED[kind][0 if rose else 1].format(feature=evidence.feature)
    return f"{evidence.feature}: {evidence.direction}"
