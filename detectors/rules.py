"""Hard rules and silence: no statistics, at once, outside budget and cap, also for a provisional model (DETECTION 6).

By default, per feature and view: the share of `missing` (with non-finite), and of `range` (below and above, or unseen
levels), is at least .5 over at least 20 events where the reference has at most .1: chance 7e-6 at 20, 1e-12 at 50.
Events that come in clusters repeat one value, so the count needed is `max(20, k·deff)`, k so large that a half of k
clusters is bad with chance 5e-6 at most: 3 where the reference has next to none, 13 at 5 %. (With 3 throughout, 5 %
missing in bursts of 50 to 200 rows gave 100 false incidents a budget at M = 30; so none in three.) A pane that holds so
many is judged alone; smaller ones are added up until they do, then judged and begun anew.
A reference that does not hold `20·deff` rows, or whose levels are mostly new ones, is no yardstick for these rules:
every id is unseen, and two rows have no range. Nor is the model for a segment that it has no reference of.

What a person wrote in `expect` is taken at its word, on the whole model: `missing_below: x`, a missing share of x or
more over at least 20 events; `required`, one missing value; `levels: closed`, one unseen level; `range`, one value
outside, judged by the pane's extremes where they are given and by the bins wholly outside otherwise;
`rows_at_least`, a pane with fewer events, an empty one too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from schemas.layouts import Expectation

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

LEAST_EVENTS = 20.0
LEAST_CLUSTERS, MOST_CLUSTERS = 3, 101
#: Chance that a rule may find a half of independent clusters bad where nothing changed.
CHANCE = 5e-6
REFERENCE_SHARE = 0.1
MISSING, RANGE = 0, 1
NAMES = ("missing", "range")
#: Silences that a stream of the reference's kind may show in thirty days.
_CHANCE_PER_BUDGET = 0.05
DAY_MS = 86_400_000
#: A gap as long as this is a habit of the stream.
_NIGHT_MS = 6 * 3_600_000


@dataclass(frozen=True, eq=False, kw_only=True)
class ShareRules:
    """The two default rules of all monitors (M,).

    parts (2, 2, M): two columns in the flat counts whose sum is judged, by rule; the last entry of the flat counts (a
    zero) where there is none. need, judged (2, M): events needed, and whether the reference allows to judge. model
    (M,): the same feature's monitor in the whole-model view.
    """

    parts: Ints
    need: Floats
    judged: Bools
    model: Ints


class Shares(NamedTuple):
    """One pane under the default rules: rules violated (2, M), on which of how many events; rules violated by the pane
    alone; and the events and bad ones that are not judged yet, carried on (2, 2, M).
    """

    violated: Bools
    bad_now: Bools
    found: Ints
    events: Ints
    carried: Ints


def clusters_needed(share: float) -> int:
    """The fewest independent clusters, an odd number, of which a half is bad with chance `CHANCE` at most.

    share: of bad ones in the reference.

    >>> [clusters_needed(share) for share in (0.0, 0.001, 0.01, 0.05, 0.1)]
    [3, 3, 7, 13, 19]
    """
    for clusters in range(LEAST_CLUSTERS, MOST_CLUSTERS, 2):
        tail = range((clusters + 1) // 2, clusters + 1)
        if sum(math.comb(clusters, bad) * share**bad * (1 - share) ** (clusters - bad) for bad in tail) <= CHANCE:
            return clusters
    return MOST_CLUSTERS


def judge_shares(rules: ShareRules, carried: Ints, *, flat: Ints, n: Ints) -> Shares:
    """Judge one pane. flat: counts that end with a zero; n: (M,) events; carried: (2, 2, M) from the pane before.

    A segment's rule counts only while the whole model's is met: one dead column is one finding.
    """
    bad = flat[rules.parts[0]] + flat[rules.parts[1]]  # (2, M)
    alone = n >= rules.need
    events, found = np.where(alone, n, carried[0] + n), np.where(alone, bad, carried[1] + bad)
    full = events >= rules.need
    # A share of at least a half, in integers.
    violated = full & (2 * found >= events) & rules.judged
    bad_now = (2 * bad >= n) & rules.judged & (n > 0)
    if violated.any():
        segments = rules.model != np.arange(rules.model.size)
        violated &= ~((violated | bad_now)[:, rules.model] & segments)
    left = ~full
    return Shares(violated, bad_now, found, events, np.array((events * left, found * left)))


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One expectation made ready. feature: index into `Scope.features`, −1 the model; columns: of the flat counts.

    numeric: place among the numeric features, for extremes; low, high: fixed point; outside: columns wholly outside.
    """

    rule: str
    feature: int
    columns: slice = field(default_factory=lambda: slice(0, 0))
    missing: tuple[int, ...] = ()
    limit: float = 0.0
    numeric: int = -1
    low: float = -math.inf
    high: float = math.inf
    outside: tuple[int, ...] = ()


class Violation(NamedTuple):
    """What an expectation found in a pane: the share at fault (or the rows), of n events."""

    size: float
    n: int
    low: bool = False


def judge(
    rule: Expected, carried: tuple[int, int], *, flat: Ints, n: int, extremes: Ints | None
) -> tuple[Violation | None, tuple[int, int]]:
    """Judge one pane of the whole model. n: its events; extremes: (numeric, 2). carried: events and bad ones so far.

    Returns the violation, if any, and what is carried on.
    """
    if rule.rule == "rows":
        return (Violation(float(n), n, low=True) if n < rule.limit else None), (0, 0)
    events = int(flat[rule.columns].sum())
    if rule.rule == "missing":
        bad = int(flat[list(rule.missing)].sum())
        events, bad = carried[0] + events, carried[1] + bad
        if events < LEAST_EVENTS:
            return None, (events, bad)
        return (Violation(bad / events, events) if bad >= rule.limit * events else None), (0, 0)
    bad = int(flat[list(rule.missing or rule.outside)].sum()) if rule.missing or rule.outside else 0
    low = False
    if rule.rule == "range" and extremes is not None and rule.numeric >= 0 and events:
        least, largest = int(extremes[rule.numeric, 0]), int(extremes[rule.numeric, 1])
        low = least <= largest and least < rule.low
        if least <= largest and (low or largest > rule.high):
            bad = max(bad, 1)
    return (Violation(bad / events, events, low=low) if bad else None), (0, 0)


def expectations(
    found: Sequence[Expectation], *, specs: Sequence[FeatureSpec], slices: dict[str, slice], features: Sequence[str]
) -> tuple[Expected, ...]:
    """Rules out of a layout's `expect`. Features that the reference lacks are left out: `check` refuses them."""
    numeric = {spec.name: i for i, spec in enumerate(s for s in specs if s.kind == "numeric")}
    by_name = {spec.name: spec for spec in specs}
    rules: list[Expected] = []
    for expectation in found:
        if expectation.rows_at_least is not None and not expectation.feature:
            rules.append(Expected(rule="rows", feature=-1, limit=float(expectation.rows_at_least)))
        spec = by_name.get(expectation.feature)
        if spec is None:
            continue
        columns = slices[spec.name]
        place = {name: columns.start + i for i, name in enumerate(spec.columns) if i >= spec.value_bins}
        at, missing = features.index(spec.name), place["missing"]
        if expectation.missing_below is not None:
            limit = expectation.missing_below
            rules.append(Expected(rule="missing", feature=at, columns=columns, missing=(missing,), limit=limit))
        if expectation.required:
            rules.append(Expected(rule="required", feature=at, columns=columns, missing=(missing,)))
        if expectation.levels_closed and spec.kind == "categorical":
            rules.append(Expected(rule="levels", feature=at, columns=columns, missing=(place["unseen"],)))
        if expectation.range is not None and spec.kind == "numeric":
            rules.append(_range(spec, expectation.range, at=at, columns=columns, numeric=numeric[spec.name]))
    return tuple(rules)


def silence_limits(gaps: Ints, *, days: float, rows: int) -> Floats:
    """Longest silence that is still normal, by hour of the week; (168,) ms, inf where nothing is known.

    gaps: (168,) longest time without a row that touches the hour. Twice the longest gap; where an hour saw few rows,
    its longest gap says little, so then the silence that a stream of this rate shows once in 20 budgets: a longest gap
    G of a mean gap g over a time T is near `g·(ln(T/g) + .58)`, which gives g. Rows that come in clusters have longer
    gaps than their rate has: how the longest gaps scatter from hour to hour says by how much (`_clustered`).

    >>> silence_limits(np.full(168, 60_000), days=14, rows=1_000_000)[0] / 60_000
    np.float64(2.0)
    >>> (silence_limits(np.full(168, 2_400_000), days=14, rows=2016)[0] / 2_400_000).round(1)
    np.float64(2.8)
    """
    if days <= 0 or rows <= 1:
        return np.full(gaps.size, np.inf)
    # Three hours around, in every week of the reference.
    longest = np.maximum(np.maximum(np.roll(gaps, 1), np.roll(gaps, -1)), gaps).astype(float)
    seen = 3.0 * 3_600_000 * max(1.0, days / 7.0)
    overall = days * DAY_MS / rows
    here = np.maximum(longest, 1.0) / 4.0
    for _ in range(20):
        here = np.maximum(longest, 1.0) / (np.log(np.maximum(seen / here, 2.0)) + 0.58)
    # A gap as long as what was seen around it is a habit (a night, a weekend), not chance.
    mean_gap = np.where(longest < seen / 3.0, np.maximum(here, overall), overall)
    once = mean_gap * np.log(np.maximum(30 * DAY_MS / mean_gap / _CHANCE_PER_BUDGET, 2.0))
    return np.asarray(np.maximum(np.maximum(2.0 * gaps, once), _clustered(gaps, weeks=max(1.0, days / 7.0))))


def _clustered(gaps: Ints, *, weeks: float) -> Floats:
    """The silence seen once in 20 budgets, by the longest gaps of three hours on all working days, or on weekends.

    (168,) ms; gaps of a night are a habit and do not enter, nor does a day whose gap is twice what the others would
    call a silence: an outage. Two days tell little of how gaps scatter: a weekend has at least that of working days.
    (2,500 rows a day in clusters of 20: 10.7 false silences in 30 days by their rate, .3 so.)
    """
    around = np.stack([np.roll(gaps, 1), gaps, np.roll(gaps, -1)]).reshape(3, 7, 24).astype(float)
    windows = np.log(30.0 * 24.0 / weeks / _CHANCE_PER_BUDGET) - 0.58
    limit, least = np.zeros((7, 24)), np.zeros(24)
    for days in (slice(0, 5), slice(5, 7)):
        seen = around[:, days]
        chance = seen < _NIGHT_MS
        worst = np.argmax(np.where(chance, seen, 0.0).max(axis=0), axis=0)
        others = chance & (np.arange(seen.shape[1])[:, None] != worst)
        mean, tail = _longest(seen, others)
        silence = mean + np.maximum(tail, least) * windows
        outage = np.where(chance, seen, 0.0).max(axis=(0, 1)) > 2.0 * silence
        mean, tail = _longest(seen, np.where(outage & others.any(axis=(0, 1)), others, chance))
        least = np.maximum(tail, least)
        limit[days] = np.where(chance.any(axis=(0, 1)), mean + least * windows, 0.0)
    return limit.reshape(-1)


def _longest(gaps: Floats, among: Bools) -> tuple[Floats, Floats]:
    """Mean of longest gaps (3, days, 24) by hour, and by how much their tail falls by e: they scatter as Gumbel's law
    says, by 1.28 of it.
    """
    many = np.maximum(among.sum(axis=(0, 1)), 1)
    mean = np.sum(gaps * among, axis=(0, 1)) / many
    return mean, np.sqrt(6.0 * np.sum((gaps - mean) ** 2 * among, axis=(0, 1)) / many) / np.pi


def _range(
    spec: FeatureSpec, bounds: tuple[float | None, float | None], *, at: int, columns: slice, numeric: int
) -> Expected:
    low = -math.inf if bounds[0] is None else bounds[0]
    high = math.inf if bounds[1] is None else bounds[1]
    uppers, lowers = (*spec.edges, spec.high), (spec.low, *spec.edges)
    outside = [i for i in range(spec.value_bins) if uppers[i] < low or lowers[i] >= high > -math.inf]
    outside += [spec.value_bins] if low >= spec.low else []
    outside += [spec.value_bins + 1] if high <= spec.high else []
    scale = 2.0**spec.scale_bits
    return Expected(
        rule="range",
        feature=at,
        columns=columns,
        numeric=numeric,
        outside=tuple(columns.start + i for i in outside),
        low=math.floor(low * scale) if math.isfinite(low) else low,
        high=math.ceil(high * scale) if math.isfinite(high) else high,
    )
