"""What happened in a window, for people: counts of cells, figures of every tested view, verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.profiles import bucket_quantile
from detectors.results import STATUSES, Look, ScopeResult
from schemas.alerts import Evidence
from schemas.envelopes import nine
from schemas.verdicts import CellCount, FeatureReport, MarginalCount, Verdict, ViewReport, WindowReport
from streamer.core.cells import FOLDED
from streamer.core.figures import Figures
from streamer.core.forms import Form
from streamer.core.incidents import Episode
from streamer.core.merging import Extras
from streamer.core.tallies import Tally, merged

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
#: One row of a matrix per view; None where a revision has no verdict.
Verdicts: TypeAlias = list[list[Verdict | None]]

#: Names of odd levels and features that a report shows at most.
FINDINGS_SHOWN = 10
#: Costs are counted in millionths.
_MILLIONTH = 1e-6


def window_report(
    form: Form,
    *,
    start: int,
    end: int,
    revision: int,
    on_time: Tally,
    late: Tally,
    extras: Extras,
    views: tuple[Ints, Ints] | None = None,
    result: ScopeResult | None = None,
    episode: Episode | None = None,
    marked: int = 0,
) -> WindowReport:
    """The report on `[start, end)` ms; late events are in its figures, not in its verdicts.

    views: counts and extremes of the events on time by view, when they are known already. result: what the charts
    said at the close; a revision has none, as charts never go back. episode: the incident that is open after it.
    marked: incidents marked false within the budget's time.
    """
    all_events = merged(on_time, late)
    if views is None or late.slots:
        views = form.views_of(all_events)
    counts, extremes = views
    total = counts[0]
    return WindowReport(
        model=form.layout.model,
        layout=form.id,
        reference=form.reference.id,
        start=start,
        end=end,
        revision=revision,
        n=int(total[0]),
        late_n=int(late.counts[:, 0].sum()) if late.slots else 0,
        cells=_cells(all_events),
        marginals=_marginals(all_events.marginals),
        views=_views(form, counts, extremes, result, episode),
        quantiles=_quantiles(form, total),
        rates=_rates(form, total),
        costs=_costs(form, total),
        provisional=bool(form.reference.provisional if result is None else result.provisional),
        findings=[*(() if result is None else result.learned), *form.scope.odd_words(start, end), *_findings(extras)],
        false_alarms_spent=marked,
        false_alarms_stated=form.layout.false_alarms,
    )


def _views(
    form: Form, counts: Ints, extremes: Ints, result: ScopeResult | None, episode: Episode | None
) -> list[ViewReport]:
    yardstick = form.yardstick
    figures = yardstick.figures(counts, extremes) if counts[0, 0] else None
    further = yardstick.more(counts)
    verdicts = _verdicts(form, result, episode)
    found = []
    for row, view in enumerate(yardstick.views):
        n = int(counts[row, 0])
        if figures is None or n == 0:
            features = [
                FeatureReport(feature=name, n=0, missing=0.0, verdict=verdict)
                for name, verdict in zip(yardstick.names, verdicts[row], strict=True)
            ]
        else:
            noise = yardstick.noise(row, n)
            features = _features(yardstick.names, figures, noise[:3], row, verdicts[row])
            if yardstick.further:
                features = _with_further(yardstick.further, features, further[:, row], noise[3:])
        found.append(ViewReport(view=view, n=n, features=features))
    return found


def _features(
    names: Sequence[str], figures: Figures, noise: Floats, row: int, verdicts: Sequence[Verdict | None]
) -> list[FeatureReport]:
    columns = (names, *(figure[row].tolist() for figure in figures), *noise.tolist(), verdicts)
    return [
        FeatureReport(
            feature=name,
            n=n,
            missing=nine(missing) or 0.0,
            mean=nine(mean),
            least=nine(least),
            largest=nine(largest),
            psi=nine(psi_),
            psi_noise=nine(psi_noise_),
            jensen_shannon=nine(js),
            jensen_shannon_noise=nine(js_noise),
            ks=nine(ks_),
            ks_noise=nine(ks_noise_),
            verdict=verdict,
        )
        for (
            name, n, missing, mean, least, largest, psi_, js, ks_, psi_noise_, js_noise, ks_noise_, verdict
        ) in zip(*columns, strict=True)
    ]  # fmt: skip


def _with_further(
    names: Sequence[str], features: list[FeatureReport], values: Floats, noise: Floats
) -> list[FeatureReport]:
    """Reports with further statistics. values, noise: (statistics, features), nan where one does not fit."""
    found = []
    for at, feature in enumerate(features):
        pairs = zip(names, values[:, at].tolist(), noise[:, at].tolist(), strict=True)
        said = {name: (nine(value) or 0.0, nine(noisy) or 0.0) for name, value, noisy in pairs if not math.isnan(value)}
        found.append(msgspec.structs.replace(feature, statistics=said))
    return found


def _verdicts(form: Form, result: ScopeResult | None, episode: Episode | None) -> Verdicts:
    features = len(form.scope.monitored)
    if result is None:
        return [[None] * features for _ in form.scope.views]
    known = _evidence(episode)
    looks = {(look.view, look.feature): look for look in result.looks}
    return [
        [
            _verdict(form, result, (view, feature), known.get((view, feature), _NONE), looks.get((view, feature)))
            for feature in range(features)
        ]
        for view in range(len(form.scope.views))
    ]


_NONE = Evidence(feature="", detector="", direction="")


def _evidence(episode: Episode | None) -> dict[tuple[int, int], Evidence]:
    """Evidence by monitor of what fires; a chart's before a rule's, for it has onset, size and interval."""
    found: dict[tuple[int, int], Evidence] = {}
    for member in () if episode is None else episode.members:
        if member.firing and (member.drift or member.monitor not in found):
            found[member.monitor] = member.evidence
    return found


def _verdict(form: Form, result: ScopeResult, at: tuple[int, int], evidence: Evidence, look: Look | None) -> Verdict:
    visible, panes = float(result.visible_change[at]), int(result.visible_panes[at])
    note = result.notes[at[0] * len(form.scope.monitored) + at[1]]
    if math.isnan(visible) and panes > 0:
        hidden = f"no change would show within a day; at least {panes} panes"
        note = f"{note}; {hidden}" if note else hidden
    return Verdict(
        status=STATUSES[result.status[at]],
        value=nine(float(result.value[at])) or 0.0,
        limit=nine(float(result.limit[at])) or 0.0,
        n=int(result.n[at]),
        effective_n=nine(float(result.effective_n[at])) or 0.0,
        reference=form.reference.id,
        direction=evidence.direction,
        onset=evidence.onset,
        size=evidence.size,
        size_low=evidence.size_low,
        size_high=evidence.size_high,
        unit=evidence.unit,
        visible_change=nine(visible),
        note=note,
        shape=evidence.shape if look is None else look.shape,
        size_now=nine(evidence.size_now if look is None else look.size_now),
    )


def _cells(tally: Tally) -> list[CellCount]:
    events = tally.counts[:, 0].tolist()
    return [
        CellCount(version=version, segment=segment, n=n)
        for (version, segment), n in sorted(zip(tally.slots, events, strict=True))
    ]


def _marginals(tally: Tally | None) -> list[MarginalCount]:
    if tally is None:
        return []
    events = tally.counts[:, 0].tolist()
    return [
        MarginalCount(column=column, version=version, value=value, n=n)
        for (version, (column, value)), n in sorted(
            zip(tally.slots, events, strict=True), key=lambda row: (row[0][1], row[0][0])
        )
    ]


def _quantiles(form: Form, total: Ints) -> dict[str, float]:
    table = form.reference.table
    found = {
        f"{name}_p{percent}": _quantile(total[place], percent, unit)
        for name, place, unit in (
            ("delay_ms", table.delay, 1.0),
            ("latency_ms", table.latency, 1.0),
            ("cost", table.cost_sizes, _MILLIONTH),
        )
        for percent in (50, 90, 99)
    }
    return {name: value for name, value in found.items() if value is not None}


def _quantile(counts: Ints, percent: int, unit: float) -> float | None:
    found = bucket_quantile(counts, percent / 100)
    return None if found is None else nine(found * unit)


def _costs(form: Form, total: Ints) -> dict[str, float]:
    events, millionths = total[form.reference.table.cost].tolist()
    if not events:
        return {}
    whole = millionths * _MILLIONTH
    return {"n": float(events), "sum": nine(whole) or 0.0, "mean": nine(whole / events) or 0.0}


def _rates(form: Form, total: Ints) -> dict[str, float]:
    table, n = form.reference.table, int(total[0])
    if n == 0:
        return {}
    well, errors = total[table.status].tolist()
    unknown, wrong = total[table.schema].tolist()
    rates = {"unknown_feature": unknown / n, "wrong_type": wrong / n}
    if well + errors:
        rates["error"] = errors / (well + errors)
    return {name: nine(rate) or 0.0 for name, rate in sorted(rates.items())}


def _findings(extras: Extras) -> list[str]:
    strongest = sorted(extras.sorted(), key=lambda named: (named[0] != FOLDED, -named[3], *named[:3]))[:FINDINGS_SHOWN]
    return [
        f"{kind.replace('_', ' ')}: {' '.join(part for part in (feature, name) if part)} ({count})"
        for kind, feature, name, count in strongest
    ]
