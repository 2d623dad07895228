"""What a configuration will surprise its owner with: warnings, each at its line, from the references alone.

Errors stop a start; a warning does not. Nothing here reads a stream or asks a broker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from detectors import series
from detectors.charts.rivers import alarms_a_month
from detectors.references import Reference
from detectors.reported import firing_share as share_past
from detectors.reported import words
from detectors.scopes import build_scope
from detectors.shadow import words_of
from detectors.watching import firing_share
from schemas.errors import ConfigurationError
from schemas.layouts import FeatureLists, Layout, View
from streamer import spans
from streamer.applying import rate_of
from streamer.complaints import nearest
from streamer.config import Loaded
from streamer.core.plans import outcome_table
from streamer.core.wording import number, percent, span

#: Fewer events than this in a pane: the share of a broken column is not known (DETECTION 6), and charts learn slowly.
FEW_EVENTS = 20
#: A change of this many tolerances should show within a day.
VISIBLE = 2.0
#: Labels of a pane that a limit on a reported number is tried on, at most.
MOST_SIMULATED = 2_000
_DAY_MS = 86_400_000


def warnings_of(
    loaded: Loaded, layouts: Mapping[str, Layout], references: Mapping[str, Reference]
) -> Iterator[ConfigurationError]:
    """Every warning, model by model, as an error value with its place; raise none of them."""
    for name, layout in layouts.items():
        reference = references[name]
        yield from _of_reference(loaded, name, layout, reference)
        yield from _of_lists(loaded, name, reference)
        yield from _of_shadow(loaded, name, layout, reference)
        yield from _of_calendar(loaded, name, layout, reference)
        yield from _of_batches(loaded, name, layout)
        yield from _of_panes(loaded, name, layout, reference)
        yield from _of_expect(loaded, name, layout, reference)
        yield from _of_budget(loaded, name, layout, reference)
        yield from _of_watch(loaded, name, layout, reference)
        yield from _of_reported(loaded, name, layout, reference)
        yield from _of_rivers(loaded, name, layout, reference)


def _of_reference(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    place = ("models", name)
    if reference.provisional:
        says = "pages all the same, and says so" if layout.page_provisional else "is shown, and silent"
        yield loaded.fault(*place, "reference", message=f"provisional: {reference.provisional}; the model {says}")
    if reference.model != name:
        yield loaded.fault(*place, "reference", message=f"was learned for {reference.model!r}")
    if layout.timezone != reference.timezone:
        yield loaded.fault(
            *place, "timezone", message=f"is {layout.timezone}, but the reference was learned in {reference.timezone}"
        )
    for column in (*layout.segments, *layout.marginals):
        if column not in reference.segments:
            yield loaded.fault(
                *place, "segments", message=f"{column} is not in the reference: its values are shown, not tested"
            )
    if reference.findings:
        kinds = sorted({finding.kind for finding in reference.findings if finding.kind != "short"})
        if kinds:
            yield loaded.fault(
                *place, "reference", message=f"has findings ({', '.join(kinds)}); `tripline reference show` says them"
            )


def _of_lists(loaded: Loaded, name: str, reference: Reference) -> Iterator[ConfigurationError]:
    """Features that may be read, and that the reference does not have: misspelt, or new since."""
    features = [spec.name for spec in reference.specs]
    for i, pattern in enumerate(loaded.config.models[name].features.allow or ()):
        if not any(map(FeatureLists(allow=(pattern,)).permits, features)):
            where = loaded.document.known(("models", name, "features", "allow", i))
            message = f"no feature of the reference is {pattern!r}{nearest(pattern, features)}"
            yield loaded.document.fault(where, message)


def _of_shadow(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    """What the reference's own replay attained, where it breaks the budget."""
    shadow = reference.shadow
    if shadow is None or not shadow.breaks:
        return
    others = [
        f"{what} {theirs}, here {ours}"
        for what, theirs, ours in (
            ("pane", spans.words(shadow.pane_ms), spans.words(layout.pane_ms)),
            ("tolerance", f"{shadow.tolerance:g}", f"{layout.tolerance:g}"),
            ("strict", str(shadow.strict).lower(), str(layout.strict).lower()),
        )
        if theirs != ours
    ]
    settings = f" (that was at {'; '.join(others)}: build it anew with these to see)" if others else ""
    said = "; ".join(line.strip() for line in words_of(shadow))
    yield loaded.fault("models", name, "false_alarms", message=said + settings)


def _of_calendar(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    moved = [date for date, word in layout.calendar.items() if word != "off"]
    features = [of_view.features[f] for of_view in reference.views.values() for f in layout.monitored]
    weeks = [one.profile.reshape(7, 24, -1) for one in features]
    if moved and not any(np.ptp(week, axis=0).any() for week in weeks):
        yield loaded.fault(
            "models", name, "calendar", moved[0],
            message="the reference knows no weekdays (ten days are needed): every day goes like every other",
        )  # fmt: skip


def _of_batches(loaded: Loaded, name: str, layout: Layout) -> Iterator[ConfigurationError]:
    if layout.batch_gap_ms and loaded.config.kafka is not None:
        yield loaded.fault(
            "models", name, "pane", message="batch is for `tripline backtest`: `apply` and `run` refuse it"
        )


def _of_panes(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    if reference.days == 0:
        return
    a_pane = rate_of(reference) * layout.pane_ms / _DAY_MS
    if a_pane < FEW_EVENTS:
        enough = int(np.ceil(layout.pane_ms * FEW_EVENTS / max(a_pane, 1e-9)))
        longer = next((span for span in _PANES if span >= enough), _PANES[-1])
        yield loaded.fault(
            "models", name, "pane",
            message=f"{spans.words(layout.pane_ms)} holds {a_pane:.3g} events on average, too few for a share to be "
            f"known; {spans.words(longer)} would hold {a_pane * longer / layout.pane_ms:.3g}",
        )  # fmt: skip


def _of_expect(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    """Hard rules that the reference itself breaks: they stand outside the budget, and would page on quiet days."""
    whole = reference.views.get(View())
    for rule in layout.expect if whole is not None else ():
        spec = reference.spec(rule.feature)
        if spec is None or whole is None:
            continue
        place, counts = ("models", name, "expect", rule.feature), whole.features[spec.name].counts
        missing = float(counts[spec.columns.index("missing", spec.value_bins)]) / max(1, int(counts.sum()))
        if rule.required and missing:
            says = f"is missing in {percent(missing)} of the reference: each pane with such a row pages"
            yield loaded.fault(*place, "required", message=says)
        if rule.missing_below is not None and reference.days > 0:
            a_day = rate_of(reference)
            n = max(FEW_EVENTS, round(a_day * layout.pane_ms / _DAY_MS))
            pages = 30 * a_day / n * _at_least(rule.missing_below, n, missing)
            if pages >= layout.false_alarms * 30 * _DAY_MS / layout.budget_ms:
                says = f"{percent(missing)} of the reference lack it: by chance it pages {number(pages)} times a month"
                yield loaded.fault(*place, "missing_below", message=says)
        low, high = rule.range or (None, None)
        outside = (low is not None and spec.low < low) or (high is not None and spec.high > high)
        if spec.kind == "numeric" and whole.features[spec.name].n and outside:
            says = f"the reference goes from {spec.low:g} to {spec.high:g}: each pane with a value outside pages"
            yield loaded.fault(*place, "range", message=says)


def _at_least(share: float, n: int, p: float) -> float:
    """Chance that of n events, each with chance p, a share of at least `share` is.

    >>> round(_at_least(0.2, 20, 0.06), 3), _at_least(0.5, 20, 0.0)
    (0.029, 0.0)
    """
    if p <= 0.0 or p >= 1.0:
        return float(p >= 1.0)
    counts = np.arange(math.ceil(share * n), n + 1)
    ways = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counts.tolist()]
    return float(np.exp(np.array(ways) + counts * math.log(p) + (n - counts) * math.log1p(-p)).sum())


def _of_budget(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    try:
        scope = build_scope(reference, layout)
    except ConfigurationError as error:
        yield loaded.fault("models", name, message=error.message)
        return
    of_model = len(layout.monitored)
    visible = scope.start().visible[:of_model]
    paging = scope.paging[:of_model]
    hidden = paging & ~(visible <= VISIBLE * layout.tolerance)
    if hidden.any():
        worst = int(np.argmax(np.where(hidden, np.nan_to_num(visible, nan=np.inf), -1.0)))
        least = "no change at all" if np.isnan(visible[worst]) else f"only {visible[worst]:.2g} sd or more"
        yield loaded.fault(
            "models", name, "false_alarms",
            message=f"under this budget a change of {VISIBLE * layout.tolerance:g} sd (twice the tolerance) would not "
            f"show within a {'batch' if layout.batch_gap_ms else 'day'} in {int(hidden.sum())} of {of_model} features; "
            f"of {layout.monitored[worst]} {least}",
        )  # fmt: skip
    silent = int((~paging).sum())
    if silent and not reference.provisional:
        yield loaded.fault(
            "models", name, "reference",
            message=f"is too small for {silent} of {of_model} features: they are shown, and silent",
        )  # fmt: skip


def _of_watch(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    """How often each limit on a statistic would be passed with nothing changed, at the typical size of a pane."""
    if not (layout.watch or layout.series) or reference.days == 0:
        return
    a_pane = rate_of(reference) * layout.pane_ms / _DAY_MS
    if a_pane < FEW_EVENTS:
        return  # said already: panes are too small to be judged
    scope = build_scope(reference, layout)
    deffs = dict(zip(layout.monitored, scope.main_deff, strict=False))
    asked = loaded.config.models[name].watch
    limits = [i for i, one in enumerate(asked) if one.detector is None]
    for i, one, limit in zip(limits, layout.watch, scope.watched, strict=True):
        worth = a_pane / max(float(deffs.get(one.feature, 1.0)), 1.0)
        share = firing_share(limit.statistic, reference=limit.reference, above=limit.above, n=worth)
        a_budget = share * layout.budget_ms / layout.pane_ms
        chance = f"about {a_budget:.3g} panes in {span(layout.budget_ms)}" if share > 0 else "next to never"
        yield loaded.fault(
            "models", name, "watch", i,
            message=f"{limit.statistic} of {one.feature} is above {limit.above:g} with nothing changed in "
            f"{100 * share:.3g} % of panes of {a_pane:.3g} events (worth {worth:.3g}): {chance}; no budget covers it",
        )  # fmt: skip
    detected = [i for i, one in enumerate(asked) if one.detector is not None]
    for i, told, ready in zip(detected, layout.series, scope.series, strict=True):
        worth = a_pane / max(float(deffs.get(told.feature, 1.0)), 1.0)
        often = series.alarms_a_month(told, ready, n=worth, panes=round(layout.budget_ms / layout.pane_ms))
        yield loaded.fault(
            "models", name, "watch", i,
            message=f"{told.detector.name} on {told.statistic} of {told.feature} alarms {_often(often)} in "
            f"{span(layout.budget_ms)} with nothing changed, in panes of {a_pane:.3g} events (worth {worth:.3g}): "
            "it is noted, no budget covers it",
        )  # fmt: skip


def _of_reported(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    """How often each limit on a reported number would be passed with nothing changed, where the reference says."""
    table = outcome_table(reference, layout) if layout.reported and reference.days else None
    labels = reference.labels
    if table is None or labels is None:
        return
    rate = rate_of(reference) * layout.outcome_pane_ms / _DAY_MS * labels.n / max(reference.n, 1)
    for i, limit in enumerate(layout.reported):
        learned, view = labels.views.get(limit.view), reference.views.get(limit.view)
        if learned is None or view is None:
            continue
        a_pane = rate * view.n / max(reference.n, 1)
        place = ("models", name, "outcomes", "watch", i)
        if a_pane < limit.least:
            text = f"a pane has {a_pane:.3g} labels on average, of {limit.least} that the limit asks for"
            yield loaded.fault(*place, message=f"{text}: it is hardly ever judged")
            continue
        worth = a_pane / (1.0 if learned.losses is None else learned.losses.deff)
        share = share_past(limit, reference=reference, table=table, n=max(1, round(min(worth, MOST_SIMULATED))))
        if share is None:
            continue
        a_budget = share * layout.budget_ms / layout.outcome_pane_ms
        chance = f"about {a_budget:.3g} reports in {span(layout.budget_ms)}" if share > 0 else "next to never"
        yield loaded.fault(
            *place,
            message=f"{words(limit)} with nothing changed in {100 * share:.3g} % of reports on {a_pane:.3g} labels "
            f"(worth {worth:.3g}): {chance}; no budget covers it",
        )


def _of_rivers(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> Iterator[ConfigurationError]:
    """How often each of river's detectors would be noted with nothing changed, at the reference's rate of errors."""
    labels = reference.labels
    losses = None if labels is None or not reference.days else labels.views[View()].losses
    if losses is None or labels is None:
        return
    a_pane = round(rate_of(reference) * layout.outcome_pane_ms / _DAY_MS * labels.n / max(reference.n, 1))
    panes = round(layout.budget_ms / layout.outcome_pane_ms)
    for i, other in enumerate(layout.also if a_pane else ()):
        often = alarms_a_month(other, rate=losses.rate, labels=a_pane, panes=panes)
        yield loaded.fault(
            "models", name, "outcomes", "also", i,
            message=f"{other.name} alarms {_often(often)} in {span(layout.budget_ms)} with nothing changed, on "
            f"independent labels, {a_pane:,} a pane and {losses.rate:.1%} wrong: it is noted, no budget covers it",
        )  # fmt: skip


def _often(times: float) -> str:
    return f"about {times:.2g} times" if times else "hardly ever"


_PANES = tuple(
    minutes * 60_000 for minutes in (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440, 2880, 10080)
)
