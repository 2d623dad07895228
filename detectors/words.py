"""What a reference learned, said to a person: one line per feature, findings after them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from detectors.batches import BATCH_MS
from detectors.bins import FeatureSpec
from detectors.charts.bets import WANDERS
from detectors.design_effect import deff_at, n_bar_at, wander_at
from detectors.shadow import words_of
from schemas.layouts import View

if TYPE_CHECKING:
    from detectors.outcome_references import OutcomeReference
    from detectors.references import FeatureReference, Reference

#: Under the first a direction is silent, under the second its tolerance is widened (DETECTION 2).
SILENT_BELOW, WIDENED_BELOW = 500.0, 5000.0
TOLERANCE = 0.1
#: Days from which on a reference knows a day of the week from a mean that wanders.
_KNOWS_DAYS = 10.0
_SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)
_PANES = ((300_000, "5 min"), (3_600_000, "1 h"))
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def words(reference: Reference) -> list[str]:
    """Plain words: the range, each feature's kind, season, dependence and what may page, then findings.

    >>> from detectors.references import Reference
    >>> words(Reference(model="credit", specs=(), views={}))
    ['credit: 0 rows without times, 0 features, 0 views']
    """
    span = "without times"
    if reference.batches is not None:
        cut = reference.batches
        span = f"from {_utc(cut.start)} to {_utc(cut.end)} in {cut.count} batches, one every {days_of(cut.spacing_ms)}"
    elif reference.end > reference.start:
        span = (
            f"from {_utc(reference.start)} to {_utc(reference.end)} ({reference.days:.1f} days, {reference.timezone})"
        )
    lines = [
        f"{reference.model}: {reference.n:,} rows {span}, {len(reference.specs)} features, {len(reference.views)} views"
    ]
    whole = reference.views.get(View())
    if whole is not None:
        lines += [f"{spec.name}: {describe(spec, whole.features[spec.name])}" for spec in reference.specs]
    if reference.derived is not None:
        made_of = ", ".join(spec.name for spec in reference.derived.inputs)
        lines.append(f"mahalanobis and residual(…) are made of {made_of}: they show when these lose their connection")
    others = [f"{view} ({of_view.n:,} rows)" for view, of_view in sorted(reference.views.items()) if view != View()]
    if others:
        lines.append("views with a reference of their own: " + ", ".join(others))
    if reference.segments:
        lines.append(
            f"segments: {', '.join(reference.segments)}; rows are counted by their values, each compared with itself; "
            "they are no features: a change of their mix is not tested"
        )
    if reference.labels is not None:
        lines.append(outcome_words(reference.labels))
        lines += _doubts(reference, reference.labels)
    lines += _one_week(reference)
    lines += [f"finding: {finding.words}" for finding in reference.findings if finding.kind != "short"]
    if reference.shadow is not None:
        lines += words_of(reference.shadow)
    if reference.provisional:
        lines.append(f"provisional (shown, silent): {reference.provisional}")
    return lines


def _one_week(reference: Reference) -> list[str]:
    """Days that differ in the only week there is: habit or wander, nobody can tell, and so they widen the tolerance."""
    whole = reference.views.get(View())
    if whole is None or reference.batches is not None or reference.provisional or reference.days >= _KNOWS_DAYS - 0.5:
        return []
    blurred = [
        name
        for name, feature in whole.features.items()
        if feature.scales_ms.size
        and (WANDERS * wander_at(feature.scales_ms, feature.v, feature.n_bar) > 2.0 * TOLERANCE).any()
    ]
    if not blurred:
        return []
    named = ", ".join(blurred[:4]) + (f" and {len(blurred) - 4} more" if len(blurred) > 4 else "")
    return [
        f"finding: {named}: the days differ, and {reference.days:.0f} of them do not tell a weekend from a mean that "
        "wanders, so only large changes page; ten days know the days of the week, best fourteen"
    ]


def outcome_words(labels: OutcomeReference) -> str:
    """What was learned of outcomes: how often it is wrong, how scores come true, how late labels are."""
    whole, parts = labels.views[View()], [f"outcomes: {labels.n:,} rows"]
    if len(labels.classes) == 2:
        parts.append(f"the positive class is {labels.classes[1]!r}")
    if whole.losses is not None:
        parts.append(
            f"{whole.losses.rate:.1%} wrong (a label counts as 1/{whole.losses.deff:.1f}), worse by "
            f"{whole.losses.tolerance():.1%} or more is looked for"
        )
    if whole.calibration is not None:
        pairs = zip(_SCORES, whole.calibration.map.at(np.array(_SCORES)).tolist(), strict=True)
        parts.append("of the score " + ", ".join(f"{score:g} {q:.0%} came true" for score, q in pairs))
    parts.append(
        f"99 % of the labels had come after {labels.maturity_ms / 3_600_000:.1f} h"
        if labels.maturity_ms
        else "no times of labels: maturity is not learned"
    )
    if whole.classes:
        parts.append(f"{len(whole.classes)} of {len(labels.classes)} classes have a chart of their own")
    if len(labels.views) > 1:
        parts.append(f"{len(labels.views) - 1} views with labels enough of their own")
    return "; ".join(parts)


def _doubts(reference: Reference, labels: OutcomeReference) -> list[str]:
    """What people get wrong with outcomes, where the numbers look like it."""
    whole, score, found = labels.views[View()], reference.spec("score"), []
    if len(labels.classes) == 2 and whole.losses is not None and whole.losses.rate > 0.5:
        other, positive = labels.classes
        found.append(
            f"finding: more than half are wrong: if the score or label is the chance of {other!r}, not of "
            f"{positive!r}, build it anew with --positive {other}"
        )
    if score is not None and whole.calibration is None and not (score.low >= 0.0 and score.high <= 1.0):
        found.append(
            f"finding: the score goes from {score.low:g} to {score.high:g}, so it is no probability: it ranks (AUC), "
            "without log loss, Brier and calibration"
        )
    return found


def describe(spec: FeatureSpec, feature: FeatureReference) -> str:
    """One feature in words."""
    parts = [_kind(spec, feature)]
    if feature.n and len(feature.directions):
        parts.append(_season(feature))
    if feature.scales_ms.size and len(feature.directions):
        parts += _dependence(feature)
    if len(feature.directions):
        parts += _small(feature)
    return "; ".join(parts)


def _kind(spec: FeatureSpec, feature: FeatureReference) -> str:
    missing = float(feature.counts[spec.columns.index("missing", spec.value_bins)]) / max(1, feature.n)
    absent = f", {missing:.1%} missing" if missing else ""
    if spec.kind == "numeric":
        return f"numeric, {spec.low:g} to {spec.high:g} in {spec.value_bins} bins{absent}"
    counts = feature.counts[: spec.value_bins]
    if not counts.size or not feature.n:
        return f"categorical, no level kept{absent}"
    share = float(counts.min()) / feature.n
    smallest = spec.levels[int(counts.argmin())]
    return f"categorical, {spec.value_bins} levels, the smallest {smallest!r} ({share:.2%}){absent}"


def _season(feature: FeatureReference) -> str:
    swing = np.ptp(feature.profile, axis=0)
    at = 0 if feature.directions.kinds[0] == "shape" else int(swing.argmax())
    if swing[at] < 0.005:
        return "no season"
    hour = int(feature.profile[:, at].argmax())
    top = f"{_DAYS[hour // 24]} {hour % 24:02d}h"
    return f"season of {swing[at]:.2f} sd in {feature.directions.names[at]}, highest {top}"


def _dependence(feature: FeatureReference) -> list[str]:
    at = 0
    parts = []
    batch = feature.scales_ms[0] == BATCH_MS
    for pane_ms, name in ((BATCH_MS, "one batch"),) if batch else _PANES:
        deff = float(deff_at(feature.scales_ms, feature.v, pane_ms)[at])
        rows = n_bar_at(feature.scales_ms, feature.n_bar, pane_ms)
        worth = rows / deff
        count = f"{worth:,.0f} independent ones" if worth >= 1.5 else "one independent event"
        parts.append(f"a pane of {name} with {rows:,.0f} events counts as {count}")
    return parts


def _small(feature: FeatureReference) -> list[str]:
    """What its size costs a small reference; rows without times are taken as independent until the stream tells."""
    parts = []
    rows_worth = feature.n / deff_at(feature.scales_ms, feature.v, _PANES[0][0])
    silent = [name for name, n in zip(feature.directions.names, rows_worth, strict=True) if n < SILENT_BELOW]
    widened = [
        f"{name} {np.sqrt(50.0 / n):.2f}"
        for name, n in zip(feature.directions.names, rows_worth, strict=True)
        if SILENT_BELOW <= n < 50.0 / TOLERANCE**2
    ]
    if silent:
        parts.append("silent, worth under 500 rows: " + ", ".join(silent))
    if widened:
        parts.append("tolerance widened (sd): " + ", ".join(widened))
    return parts


def days_of(ms: int) -> str:
    """A length of time in days or hours.

    >>> days_of(7 * 86_400_000), days_of(21_600_000)
    ('7.0 days', '6.0 hours')
    """
    return f"{ms / 86_400_000:.1f} days" if ms >= 86_400_000 else f"{ms / 3_600_000:.1f} hours"


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
