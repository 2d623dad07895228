"""From the counts of a feature by block of time to what is kept of it (DETECTION 2): the order of the steps.

Cleaning leaves accidents out; the cleaned counts give the directions; day × hour sums give the profile; residuals about
the profile fitted *without their own day* give the design effect. A segment's profile and design effect shrink to its
model's by one rule: the model's season is the shape that its own deviates from, the model's V_h counts as 8 blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.design_effect import block_moments, step_proof_variance
from detectors.directions import Directions, directions, met_once, with_unmet
from detectors.feature_references import HOURS, FeatureReference
from detectors.packed import fixed
from detectors.seasonality import DAY, HOUR, circle, fit_profile, fit_without_each_day, local_ms
from detectors.unlike_days import unlike_days

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Spans: TypeAlias = tuple[tuple[int, int], ...]

#: A cleaning pane: at least this long and with this many rows on average, as the rule speaks of panes with 20.
_CLEANING_MS, _CLEANING_ROWS, _LEAST_ROWS = 300_000, 40.0, 20
_CHUNK = 1 << 16
#: Sessions and bursts are over by then; a longer time would take what is merely rare for what comes once.
_AT_ONE_TIME = 6 * HOUR


@dataclass(frozen=True, eq=False)
class Calendar:
    """Where B consecutive blocks of `base_ms`, the first of number `first`, stand in the local week.

    day: (B,) place among the D local days; local_days (D,): days since 1970; weekdays: (D,); hour: (B,) of the day;
    before, after, later: (B,) hours of the week and the weight of the later one (`seasonality.circle`), at the middle
    of the block.
    """

    base_ms: int
    first: int
    day: Ints
    local_days: Ints
    weekdays: Ints
    hour: Ints
    before: Ints
    after: Ints
    later: Floats

    @property
    def blocks(self) -> int:
        """B."""
        return int(self.day.size)


class Learned(NamedTuple):
    """A feature of a view, how far the means of the reference's halves lie apart (None when they agree), the levels
    that the whole reference met but once, and the days that are unlike the others, in words.
    """

    feature: FeatureReference
    drifted: str | None
    once: npt.NDArray[np.bool_]
    unlike: list[str]


def calendar(*, base_ms: int, first: int, blocks: int, timezone: str) -> Calendar:
    """Calendar of blocks in a time zone.

    >>> found = calendar(base_ms=HOUR, first=0, blocks=48, timezone="UTC")
    >>> found.weekdays, int(found.hour[25])
    (array([3, 4]), 1)
    """
    middles = (first + np.arange(blocks, dtype=np.int64)) * base_ms + base_ms // 2
    local = local_ms(middles, timezone=timezone)
    days, day = np.unique(local // DAY, return_inverse=True)
    before, after, later = circle(local)
    return Calendar(base_ms, first, day, days, (days + 3) % 7, local % DAY // HOUR, before, after, later)


def learn(
    spec: FeatureSpec,
    blocks: npt.NDArray[Any],
    times: Calendar,
    *,
    spans: Spans = (),
    model: FeatureReference | None,
    once: npt.NDArray[np.bool_] | None = None,
) -> Learned:
    """What is kept of one feature in one view.

    blocks: (B, width) counts by base block. spans: [from, to) in ms to leave out beside what cleaning finds. model: the
    whole model's, when this is another view.
    """
    spans = merged((*spans, *outages(spec, blocks, times)))
    kept = np.ones(times.blocks, dtype=np.bool_)
    for begin, end in spans:
        kept[max(0, begin // times.base_ms - times.first) : max(0, -(-end // times.base_ms) - times.first)] = False
    counts = blocks[kept].sum(axis=0, dtype=np.int64) if not kept.all() else blocks.sum(axis=0, dtype=np.int64)
    if once is None:
        once = met_once(spec, counts if model is None else model.counts) | met_at_one_time(spec, blocks, times, kept)
    along = directions(spec, counts, once)
    sums, rows = direction_sums(blocks, with_unmet(along, once), kept)
    by_day, rows_by_day = day_sums(sums, rows, times)
    prior = None if model is None else _shape_of(model, along)
    profile = fit_profile(by_day, rows_by_day, times.weekdays, prior)
    without = fit_without_each_day(by_day, rows_by_day, times.weekdays, prior)
    residuals_about(sums, rows, without, times)
    scales = block_moments(sums, rows, None if model is None else _v_of(model, along, times.base_ms))
    feature = FeatureReference(
        counts=counts,
        directions=along,
        profile=fixed(profile),
        scales_ms=scales.lengths * times.base_ms,
        v=fixed(scales.v),
        m3=fixed(scales.m3),
        n_bar=fixed(scales.n_bar),
        excluded=spans,
    )
    if model is not None:
        return Learned(feature, None, once, [])
    unlike = unlike_days(along, sums, rows, day=times.day, dates=times.local_days)
    return Learned(feature, drifted(along, sums, rows), once, unlike)


def met_at_one_time(
    spec: FeatureSpec, blocks: npt.NDArray[Any], times: Calendar, kept: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Levels that were met within six hours and never again; (width,) bool, none of a numeric feature.

    As `met_once`, where rows come in clusters: a session of ten rows meets its level ten times. Of 1,200 sessions with
    long-tailed levels the reference knew all of its own rows and 86 % of those to come, and `unseen` alarmed nine times
    a month.
    """
    found = np.zeros(spec.width, dtype=np.bool_)
    if spec.kind != "categorical" or not kept.any():
        return found
    here, group = blocks[kept], (times.first + np.flatnonzero(kept)) * times.base_ms // _AT_ONE_TIME
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    met = np.add.reduceat(here, starts, axis=0, dtype=np.int64) > 0
    found[: spec.value_bins] = (met.sum(axis=0) == 1)[: spec.value_bins]
    return found


def learn_timeless(spec: FeatureSpec, counts: Ints) -> FeatureReference:
    """What a bag of rows gives: bins and means; no scale, a flat profile at each direction's mean."""
    once = met_once(spec, counts)
    along = directions(spec, counts, once)
    n = max(1, int(counts.sum()))
    empty = np.zeros((0, len(along)))
    return FeatureReference(
        counts=counts,
        directions=along,
        profile=fixed(np.tile(counts @ with_unmet(along, once).phi / n, (HOURS, 1))),
        scales_ms=np.zeros(0, dtype=np.int64),
        v=empty,
        m3=empty,
        n_bar=np.zeros(0),
    )


def outages(spec: FeatureSpec, blocks: npt.NDArray[Any], times: Calendar) -> Spans:
    """[from, to) in ms in which missing, unseen or non-finite values were an accident: on few days, far above habit.

    >>> spec = FeatureSpec(name="c", kind="categorical", levels=("a",))
    >>> blocks = np.tile([50, 0, 0], (24 * 14, 1))
    >>> blocks[30] = [0, 0, 50]
    >>> outages(spec, blocks, calendar(base_ms=HOUR, first=0, blocks=24 * 14, timezone="UTC"))
    ((108000000, 111600000),)
    """
    rows = blocks.sum(axis=1, dtype=np.int64)
    days = np.unique(times.day[rows > 0]).size
    mean = float(rows.sum()) / max(1, times.blocks)
    width = 1
    while width * times.base_ms < DAY and (width * times.base_ms < _CLEANING_MS or width * mean < _CLEANING_ROWS):
        width *= 2
    panes = (times.first + np.arange(times.blocks)) // width
    starts = np.flatnonzero(np.diff(panes, prepend=panes[0] - 1))
    n = np.add.reduceat(rows, starts)
    big = n >= _LEAST_ROWS
    if not big.any():
        return ()
    found: list[tuple[int, int]] = []
    for name in ("missing", "unseen", "non_finite"):
        if name not in spec.columns[spec.value_bins :]:
            continue
        column = spec.value_bins + spec.columns[spec.value_bins :].index(name)
        share = np.add.reduceat(blocks[:, column].astype(np.int64), starts) / np.maximum(n, 1)
        limit = max(0.2, 5.0 * float(np.median(share[big])))
        bad = _with_small(big & (share > limit), small=~big & (n > 0) & (share > max(0.5, limit)), n=n)
        middles = np.minimum(starts[bad] + width // 2, times.blocks - 1)
        # An outage is an accident; what happens on more days is the stream's habit and stays.
        if bad.size and np.unique(times.day[middles]).size <= max(1.0, days / 7):
            length = width * times.base_ms
            found += [(int(pane) * length, (int(pane) + 1) * length) for pane in panes[starts[bad]]]
    return merged(tuple(found))


def _with_small(bad: npt.NDArray[np.bool_], *, small: npt.NDArray[np.bool_], n: Ints) -> Ints:
    """Bad panes, and runs of `small` ones that touch one, or have rows enough together; empty panes end no run.

    At night, with 15 rows a pane, half of an outage stayed: it paged in the replay, and the next one was found late.

    >>> n = np.array([9, 0, 50, 9, 50, 9, 50, 9, 0, 9, 9])
    >>> bad = np.arange(11) == 2
    >>> small = np.isin(np.arange(11), [0, 3, 5, 7, 9, 10])
    >>> _with_small(bad, small=small, n=n)
    array([ 0,  2,  3,  7,  9, 10])
    """
    member = bad | small | (n == 0)
    run = np.cumsum(np.diff(member, prepend=False))  # odd inside a run
    enough = np.bincount(run, weights=bad * _LEAST_ROWS + small * n) >= _LEAST_ROWS
    return np.flatnonzero(bad | (small & enough[run]))


def merged(spans: Spans) -> Spans:
    """Spans in order, those that touch joined.

    >>> merged(((5, 7), (0, 2), (2, 3)))
    ((0, 3), (5, 7))
    """
    out: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return tuple(out)


def drifted(along: Directions, residuals: Floats, rows: Floats, tolerance: float = 0.1) -> str | None:
    """In words, the direction whose mean differs most between the halves, by more than the tolerance and 3 se."""
    half = rows.size // 2
    first, second = float(rows[:half].sum()), float(rows[half:].sum())
    if first == 0.0 or second == 0.0:
        return None
    worst, words = 0.0, None
    for j, name in enumerate(along.names):
        if along.kinds[j] == "range":
            continue
        mean1, mean2 = float(residuals[:half, j].sum()) / first, float(residuals[half:, j].sum()) / second
        apart = abs(mean1 - mean2)
        if apart <= max(worst, tolerance):
            continue
        deff = max(1.0, float(step_proof_variance(residuals[:, j : j + 1], rows).max()))
        if apart > tolerance + 3.0 * np.sqrt(deff * (1.0 / first + 1.0 / second)):
            worst, words = apart, f"{name} is {mean1:+.2f} sd in the first half and {mean2:+.2f} sd in the second"
    return words


def direction_sums(blocks: npt.NDArray[Any], along: Directions, kept: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """S (B, k) and rows (B,) by block, 0 where left out; in pieces, as the counts are a part of a large table."""
    sums, rows = np.empty((kept.size, len(along))), np.empty(kept.size)
    for at in range(0, kept.size, _CHUNK):
        piece = blocks[at : at + _CHUNK].astype(np.float64) * kept[at : at + _CHUNK, None]
        sums[at : at + _CHUNK] = piece @ along.phi
        rows[at : at + _CHUNK] = piece.sum(axis=1)
    return sums, rows


def day_sums(sums: Floats, rows: Floats, times: Calendar) -> tuple[Floats, Floats]:
    """S (D, 24, k) and rows (D, 24) by local day and hour, from those by block."""
    days = times.weekdays.size
    cell = times.day * 24 + times.hour
    by_day = np.stack([np.bincount(cell, column, days * 24).astype(np.float64) for column in sums.T], axis=-1)
    rows_by_day = np.bincount(cell, rows, days * 24).astype(np.float64)
    return by_day.reshape(days, 24, -1), rows_by_day.reshape(days, 24)


def residuals_about(sums: Floats, rows: Floats, without: Floats, times: Calendar) -> None:
    """Turn S (B, k) into S − n·μ in place, μ the profile (D, 168, k) that was fitted without the block's own day."""
    for j in range(sums.shape[1]):
        early, late = without[times.day, times.before, j], without[times.day, times.after, j]
        sums[:, j] -= rows * (early * (1.0 - times.later) + late * times.later)


def _shape_of(model: FeatureReference, along: Directions) -> Floats:
    """The model's season along the view's directions, by name; 0 where the model has no such direction."""
    at = [model.directions.index(name) for name in along.names]
    season = model.profile - model.profile.mean(axis=0)
    return np.stack([season[:, j] if j >= 0 else np.zeros(HOURS) for j in at], axis=1)


def _v_of(model: FeatureReference, along: Directions, base_ms: int) -> dict[int, Floats]:
    """The model's V at the view's block lengths, nan where the model has no such direction."""
    at = [model.directions.index(name) for name in along.names]
    return {
        int(scale) // base_ms: np.array([v[j] if j >= 0 else np.nan for j in at])
        for scale, v in zip(model.scales_ms, model.v, strict=True)
        if scale >= base_ms
    }
