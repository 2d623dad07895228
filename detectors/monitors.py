"""What a reference and a layout say about each monitor, made ready: learned numbers, notes, who may page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.charts.bets import FOUR, WANDERS, Bets, Learned
from detectors.charts.tempered import temper
from detectors.design_effect import Scales, added_skew_at, deff_at, n_bar_at, tempering, wander_at
from detectors.directions import FLOOR
from detectors.references import FeatureReference, Reference
from detectors.rules import LEAST_EVENTS, REFERENCE_SHARE, ShareRules, clusters_needed
from detectors.visible import visible_change
from detectors.week import Own
from schemas.layouts import Layout, View

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

DAY_MS = 86_400_000
#: A row that weighs so many sd is so rare that a cluster of such rows is a jump of the sum.
HEAVY = 5.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Monitors:
    """All monitors (M,) of a layout, views outermost. counts: the reference's counts by column of each.

    rules: the default hard rules; notes: what a reader must know of each, "" for nothing; typical_n, typical_panes
    (V,): events and non-empty panes of a day of the reference, 0 where unknown.
    """

    learned: tuple[Learned, ...]
    specs: tuple[FeatureSpec, ...]
    counts: tuple[Ints, ...]
    rules: ShareRules
    notes: tuple[str, ...]
    typical_n: Floats
    typical_panes: Floats


def learn(reference: Reference, layout: Layout, taught: Own | None = None) -> Monitors:
    """Monitors of a layout, from its reference, and from the stream's own first week where there is one.

    A view without a reference of its own: a version takes the model's and says so; a segment's charts are silent,
    for another segment is no yardstick.
    """
    width, places = reference.table.width, reference.table.features
    learned: list[Learned] = []
    specs: list[FeatureSpec] = []
    counts: list[Ints] = []
    notes: list[str] = []
    deffs: list[dict[str, float]] = []
    directions = 0
    for row, view in enumerate(layout.views):
        own = reference.views.get(view)
        of_view = own or reference.views[View()]
        for name in layout.monitored:
            spec = next(spec for spec in reference.specs if spec.name == name)
            feature = of_view.features[name]
            one, deff = _learned(feature, layout, first=row * width + places[name].start)
            borrowed = own is None and bool(view.column)
            if borrowed and view.column != "version":
                one = replace(one, n=0.0)
            if taught is not None:
                one = taught.applied(one, monitor=len(learned), first=directions)
                deff = dict(zip(one.names, one.temper.tolist(), strict=True))
            learned.append(one)
            directions += len(one.names)
            specs.append(spec)
            counts.append(feature.counts)
            deffs.append(deff)
            provisional = "" if taught is not None else reference.provisional
            notes.append(_note(one, provisional=provisional, layout=layout, borrowed=borrowed))
    rows = [(reference.views.get(view) or reference.views[View()]).n for view in layout.views]
    shown = [row if view in reference.views else 0 for row, view in zip(rows, layout.views, strict=True)]
    a_day = np.array(shown, dtype=float) / max(reference.days, 1e-9) if reference.days > 0 else np.zeros(len(rows))
    per_day = max(DAY_MS, layout.pane_ms)
    a_day *= per_day / DAY_MS
    return Monitors(
        learned=tuple(learned),
        specs=tuple(specs),
        counts=tuple(counts),
        rules=_share_rules(
            learned,
            specs,
            counts,
            deffs,
            layout=layout,
            zero=len(layout.views) * width,
            derived=frozenset(() if reference.derived is None else reference.derived.names),
        ),
        notes=tuple(notes),
        typical_n=a_day,
        typical_panes=np.minimum(per_day / layout.pane_ms, np.maximum(a_day, 1.0)),
    )


def compared_with(days: int, lag: int) -> str:
    """What a layout's means are compared with, in words.

    >>> compared_with(1, 0), compared_with(7, 1)
    ('compared with yesterday', 'compared with the mean of 7 days up to 2 days ago')
    """
    if days == 1 and lag in (0, 6):
        return "compared with yesterday" if lag == 0 else "compared with the same day last week"
    return f"compared with the mean of {days} days up to {lag + 1} day{'s' * (lag > 0)} ago"


def main_directions(bets: Bets, learned: tuple[Learned, ...]) -> tuple[Ints, Ints]:
    """Each monitor's main direction (M,), flat, −1 when it has none, and its upward bets (M, 3), −1 where none.

    Location of a number, the most frequent level of a category, else the first direction.
    """
    main = np.full(len(learned), -1, dtype=np.int64)
    upward = np.full((len(learned), 3), -1, dtype=np.int64)
    for m, one in enumerate(learned):
        if not one.names:
            continue
        main[m] = bets.direction_start[m] + (one.names.index("location") if "location" in one.names else 0)
        run = np.arange(bets.bet_start[m], bets.bet_start[m + 1])
        found = run[(bets.bet_direction[run] == main[m]) & (bets.sign[run] > 0)]
        upward[m, : found.size] = found
    return main, upward


def visible_today(
    bets: Bets, *, main: Ints, upward: Ints, limit: Floats, n_day: Floats, panes: Floats
) -> tuple[Floats, Floats]:
    """Smallest visible change of each monitor (M,) on a day of n_day events in `panes` non-empty panes, see `visible`.

    nan where a monitor has no bets on its main direction or the day is unknown.
    """
    if upward.shape[0] == 0:
        return np.zeros(0), np.zeros(0)
    if bets.size == 0:
        return np.full(upward.shape[0], np.nan), np.zeros(upward.shape[0])
    live = (upward >= 0) & (n_day > 0)[:, None]
    at = np.where(live, upward, 0)
    typical = (n_day / np.maximum(panes, 1.0))[:, None]
    share = np.maximum(typical / bets.n_bar[at], 1.0)
    deff = 1.0 + bets.excess[at] * share
    divisor = bets.divisor[at]
    kappa = np.maximum((deff + np.sqrt(deff**2 + 4.0 * divisor * bets.third[at])) / (2.0 * divisor), 1.0)
    return visible_change(
        fraction=bets.fraction[at],
        weight=np.where(live, bets.weight[at], 0.0),
        cap=bets.cap[at],
        kappa=kappa,
        entering=np.minimum(bets.entry[at] * typical / kappa, 1.0),
        tolerance=bets.tolerance[at[:, 0]],
        deff=bets.deff[np.maximum(main, 0)],
        limit=limit,
        n_day=n_day,
        panes=panes,
    )


def season_of_a_shift(names: Sequence[str], profile: Floats) -> Floats:
    """How far each direction's season leaves its profile once all values have shifted by one sd and stay there.

    profile: (168, directions). A stream that is compared with its own last days follows the means alone. But a shift by
    δ moves the k-th shape direction by (μ + δ)^k/√k!, which has a season where μ has one: of a feature that swings by
    .5 sd a day and had risen by .8 the spread seemed to grow every night and to shrink every day, 23 alarms in 24 days.

    >>> week = np.tile(np.repeat([0.5, -0.5], 12), 7)
    >>> season_of_a_shift(["location", "scale", "missing"], np.stack([week, 0 * week, 0 * week], axis=1)).round(2)
    array([0.  , 0.71, 0.  ])
    """
    found = np.zeros(len(names))
    if "location" not in names:
        return found
    swing = profile[:, list(names).index("location")]
    for power, name in enumerate(FOUR[1:], start=2):
        if name in names:
            moved = ((swing + 1.0) ** power - swing**power) / math.sqrt(math.factorial(power))
            found[list(names).index(name)] = np.abs(moved - moved.mean()).max()
    return found


def _learned(feature: FeatureReference, layout: Layout, *, first: int) -> tuple[Learned, dict[str, float]]:
    along = feature.directions
    deff = deff_at(feature.scales_ms, feature.v, layout.pane_ms)
    temper = tempering(along, deff)
    wander = wander_at(feature.scales_ms, feature.v, feature.n_bar)
    if layout.compare_days:
        wander = np.maximum(wander, season_of_a_shift(along.names, feature.profile) / WANDERS)
    one = Learned(
        first=first,
        names=along.names,
        kinds=along.kinds,
        phi=along.phi,
        q=along.q,
        upward=along.upward_only,
        weights=along.weights,
        profile=feature.profile,
        n=float(feature.n),
        deff=deff,
        temper=temper,
        n_bar=np.full(len(along.names), n_bar_at(feature.scales_ms, feature.n_bar, layout.pane_ms)),
        wander=wander,
        skew=_skew(feature, layout.pane_ms),
    )
    return one, dict(zip(along.names, temper.tolist(), strict=True))


def _skew(feature: FeatureReference, pane_ms: int) -> Floats:
    """Third moment (k,) that dependence adds where one row weighs much, as one of a rare kind does; elsewhere 0."""
    along, counts = feature.directions, feature.counts.astype(np.float64)
    if not feature.scales_ms.size or not feature.n:
        return np.zeros(len(along))
    mean = counts @ along.phi / feature.n
    alone = counts @ (along.phi - mean) ** 3 / feature.n
    scales = Scales(feature.scales_ms, feature.v, feature.m3, feature.n_bar)
    found = added_skew_at(scales, pane_ms, n=float(feature.n), alone=alone)
    return np.where(np.abs(along.phi).max(axis=0) >= HEAVY, found, 0.0)


def _note(one: Learned, *, provisional: str, layout: Layout, borrowed: bool) -> str:
    parts = []
    if provisional:
        parts.append(f"provisional reference: {provisional}")
    if layout.compare_days:
        parts.append(compared_with(layout.compare_days, layout.compare_lag))
    if one.n == 0:
        parts.append("no reference of its own: silent" if borrowed else "no reference rows: silent")
    elif borrowed:
        parts.append("compared with the whole model's reference")
    silent = [name for name, quiet in zip(one.names, one.silent, strict=True) if quiet]
    if silent and one.n:
        kept = "all directions" if len(silent) == len(one.names) else ", ".join(silent[:4])
        kept += f" and {len(silent) - 4} more" if 4 < len(silent) < len(one.names) else ""
        parts.append(f"too few effective reference rows, silent: {kept}")
    wide = one.widened & ~one.silent & (one.tolerance(layout.tolerance) > layout.tolerance)
    if wide.any():
        most = float(one.tolerance(layout.tolerance)[wide].max())
        parts.append(f"tolerance widened to {most:.2g} sd by the size of the reference ({int(one.n)} rows)")
    return "; ".join(parts)


def _share_rules(
    learned: list[Learned],
    specs: list[FeatureSpec],
    counts: list[Ints],
    deffs: list[dict[str, float]],
    *,
    layout: Layout,
    zero: int,
    derived: frozenset[str],
) -> ShareRules:
    size, features = len(learned), len(layout.monitored)
    parts = np.full((2, 2, size), zero, dtype=np.int64)  # (column, rule, monitor)
    need, judged = np.full((2, size), LEAST_EVENTS), np.zeros((2, size), dtype=bool)
    for m, (one, spec, found, deff) in enumerate(zip(learned, specs, counts, deffs, strict=True)):
        place = {name: i for i, name in enumerate(spec.columns) if i >= spec.value_bins}
        total = max(int(found.sum()), 1)
        pairs = (("missing", "non_finite"), ("below", "above") if spec.kind == "numeric" else ("unseen",))
        for rule, names in enumerate(pairs):
            here = [place[name] for name in names if name in place]
            parts[: len(here), rule, m] = [one.first + i for i in here]
            clustered = max([deff.get(name, 1.0) for name in names])
            seen = rare = int(found[here].sum())
            if names == ("unseen",):
                # Levels that came once are as many as are still to come (Good, Turing), and in clusters.
                rare += int((found[: spec.value_bins] == 1).sum())
                # Where a session repeats its level: what the direction expects, which is at least its floor.
                expected = float(one.q[one.names.index("unseen")]) if "unseen" in one.names else 0.0
                rare = max(rare, int(expected * total) if expected > FLOOR else 0)
                of_levels = [deff[name] for name, kind in zip(one.names, one.kinds, strict=True) if kind == "level"]
                clustered = max(clustered, float(np.median(of_levels)) if of_levels else 1.0)
            # Eight more than were seen: a range of thirty rows leaves out what is not rare.
            share = (seen / clustered + 8.0) / (total / clustered + 8.0)
            need[rule, m] = max(LEAST_EVENTS, clusters_needed(share) * clustered)
            enough = min(total, one.n) >= LEAST_EVENTS * clustered
            # What is derived is missing, or far out, with what it is made of: one dead column is one finding.
            judged[rule, m] = rare <= REFERENCE_SHARE * total and enough and spec.name not in derived
    return ShareRules(parts=parts, need=need, judged=judged, model=np.arange(size) % max(features, 1))


__all__ = ["Monitors", "learn", "main_directions", "temper", "visible_today"]
