"""The week of a stream: local hours, and the mean of each direction by hour of the week, learned by empirical Bayes.

A profile is (168, k): hour of the week, Monday 00:00 local first, at the hours' centres; between them it is linear on
the circle. What the reference does not show shrinks to zero, so there is no switch to set: a stream without a season
gets a flat profile.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

HOUR, DAY = 3_600_000, 86_400_000
WEEK_HOURS = 168
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The epoch was a Thursday.
_EPOCH_HOUR = 3 * 24
# All zones since 1980 change their offset at a quarter of an hour.
_QUARTER = 900_000


def local_ms(ts: Ints, *, timezone: str) -> Ints:
    """Wall-clock time of a zone, in ms as if it were UTC; (n,) from (n,) ms. `ConfigurationError` for an unknown zone.

    >>> summer = np.array([1_751_328_000_000])  # 2025-07-01 00:00 UTC
    >>> (local_ms(summer, timezone="Europe/Paris") - summer) // HOUR
    array([2])
    """
    ts = np.asarray(ts, dtype=np.int64)
    days, place = np.unique(ts // DAY, return_inverse=True)
    at_start = np.array([_offset(timezone, int(day) * DAY) for day in days], dtype=np.int64)
    at_end = np.array([_offset(timezone, int(day + 1) * DAY) for day in days], dtype=np.int64)
    offsets = at_start[place]
    changing = np.flatnonzero((at_start != at_end)[place])
    if changing.size:
        quarters, place = np.unique(ts[changing] // _QUARTER, return_inverse=True)
        exact = np.array([_offset(timezone, int(quarter) * _QUARTER) for quarter in quarters], dtype=np.int64)
        offsets[changing] = exact[place]
    return ts + offsets


def reference_local_ms(ts: Ints, *, timezone: str, reference_timezone: str, middle: int) -> Ints:
    """Local time on the clock that a reference was built by, for a stream whose layout names `timezone`.

    With the same zone: that zone's local time. With another: the daily cycle stands where it stood at the reference's
    `middle` (ms), and moves with the daylight saving of `timezone`.

    >>> july = np.array([1_751_328_000_000])
    >>> january = 1_735_689_600_000
    >>> moved = reference_local_ms(july, timezone="Europe/Paris", reference_timezone="UTC", middle=january)
    >>> (moved - july) // HOUR
    array([1])
    """
    if timezone == reference_timezone:
        return local_ms(ts, timezone=timezone)
    middles = np.array([middle], dtype=np.int64)
    standing = local_ms(middles, timezone=reference_timezone) - local_ms(middles, timezone=timezone)
    return local_ms(ts, timezone=timezone) + standing


def hour_of_week(local: Ints) -> Ints:
    """Hour of the week, 0 = Monday 00:00 to 01:00, of local times in ms.

    >>> hour_of_week(np.array([0, 4 * DAY]))  # a Thursday, a Monday
    array([72,  0])
    """
    return (local // HOUR + _EPOCH_HOUR) % WEEK_HOURS


def circle(local: Ints) -> tuple[Ints, Ints, Floats]:
    """Hours whose centres lie before and after each local time, and the weight of the later one.

    >>> before, after, weight = circle(np.array([4 * DAY]))  # Monday 00:00: half way from Sunday 23:30 to 00:30
    >>> int(before[0]), int(after[0]), float(weight[0])
    (167, 0, 0.5)
    """
    since = local - HOUR // 2
    before = hour_of_week(since)
    return before, (before + 1) % WEEK_HOURS, (since % HOUR) / HOUR


def mu_at(profile: Floats, local: Ints) -> Floats:
    """Mean of each direction at local times; (n, k) from a profile (168, k) and (n,) ms.

    >>> profile = np.arange(168.0)[:, None]
    >>> mu_at(profile, np.array([4 * DAY + HOUR, 4 * DAY + HOUR + HOUR // 2])).ravel()
    array([0.5, 1. ])
    """
    before, after, weight = circle(local)
    found: Floats = profile[before] * (1.0 - weight)[:, None] + profile[after] * weight[:, None]
    return found


def pane_weights(local_start: int, pane_ms: int) -> Floats:
    """Weights (168,) by which a profile gives the mean over one pane: `pane_weights(…) @ profile`.

    Panes of up to an hour take their middle; longer ones the mean over their quarters of an hour, at most a week's.

    >>> pane_weights(4 * DAY, HOUR).nonzero()[0], pane_weights(4 * DAY, 24 * HOUR).sum().round(9)
    (array([0]), np.float64(1.0))
    """
    parts = 1 if pane_ms <= HOUR else min(-(-pane_ms // _QUARTER), 4 * WEEK_HOURS)
    middles = local_start + (2 * np.arange(parts, dtype=np.int64) + 1) * pane_ms // (2 * parts)
    before, after, weight = circle(middles)
    weights = np.bincount(before, 1.0 - weight, WEEK_HOURS) + np.bincount(after, weight, WEEK_HOURS)
    spread: Floats = weights / parts
    return spread


def fit_profile(sums: Floats, counts: Floats, weekdays: Ints, prior: Floats | None = None) -> Floats:
    """Profile (168, k) from sums of S (D, 24, k) and rows (D, 24) by local day and hour; weekdays (D,), Monday 0.

    Three layers, each shrunk by what the days say of its own noise: hour of the day, day of the week, the 168 cells
    (the last two only with all seven days and at least ten). Under two days it is flat. prior: (168, k) shape that the
    profile shrinks to in place of a flat one, up to a constant (a segment's is that of its model).

    >>> rng = np.random.default_rng(0)
    >>> n = np.full((14, 24), 1000.0)
    >>> true = 0.5 * np.sin(2 * np.pi * np.arange(24) / 24)
    >>> s = (n * true + rng.normal(0, np.sqrt(n)))[..., None]
    >>> profile = fit_profile(s, n, np.arange(14) % 7)
    >>> bool(np.abs(profile[:, 0] - np.tile(true, 7)).max() < 0.04)
    True
    """
    k = sums.shape[2]
    total = counts.sum()
    if total == 0.0:
        return np.zeros((WEEK_HOURS, k))
    if prior is not None:
        by_day = prior.reshape(7, 24, k)
        sums = sums - counts[:, :, None] * by_day[weekdays]
    days = int((counts.sum(axis=1) > 0).sum())
    profile = np.zeros((7, 24, k)) + sums.sum(axis=(0, 1)) / total
    if days >= 2:
        hours = np.broadcast_to(np.arange(24), counts.shape)
        hourly = _shrunk(sums.reshape(-1, k), counts.ravel(), hours.ravel(), 24)
        profile += hourly[_nearest_filled(counts.sum(axis=0) > 0)]
    if days >= 10 and np.unique(weekdays[counts.sum(axis=1) > 0]).size == 7:
        left = sums - counts[:, :, None] * profile[weekdays]
        daily = _shrunk(left.sum(axis=1), counts.sum(axis=1), weekdays, 7)
        profile += daily[:, None, :]
        left -= counts[:, :, None] * daily[weekdays][:, None, :]
        cells = (weekdays[:, None] * 24 + np.arange(24)).ravel()
        profile += _shrunk(left.reshape(-1, k), counts.ravel(), cells, WEEK_HOURS).reshape(7, 24, k)
    if prior is not None:
        profile += by_day
    by_hour: Floats = profile.reshape(WEEK_HOURS, k)
    return by_hour


def _shrunk(sums: Floats, counts: Floats, group: Ints, groups: int) -> Floats:
    """Deviation of each group's mean from the grand mean, shrunk; (groups, k), 0 for an empty group.

    sums (u, k) and counts (u,) of units (day-hours, days) that belong to `group` (u,). v, the noise of a group's mean,
    is the variance between the units of a group, pooled over groups, over the units a group has.
    """
    seen = counts > 0
    sums, counts, group = sums[seen], counts[seen], group[seen]
    units = np.bincount(group, minlength=groups).astype(np.float64)
    filled = units > 0
    freedom = float((units[filled] - 1).sum())
    if freedom <= 0:
        return np.zeros((groups, sums.shape[1]))
    x = sums / counts[:, None]
    mean = _grouped(x, group, groups) / np.maximum(units, 1)[:, None]
    v = ((x - mean[group]) ** 2).sum(axis=0) / freedom / units[filled].mean()
    rows = np.bincount(group, counts, groups)
    deviation = _grouped(sums, group, groups) / np.where(filled, rows, 1.0)[:, None] - sums.sum(axis=0) / rows.sum()
    deviation[~filled] = 0.0
    tau2 = np.maximum(0.0, (deviation[filled] ** 2).mean(axis=0) - v)
    spread = tau2 + v
    factor: Floats = np.divide(tau2, spread, out=np.zeros_like(tau2), where=spread > 0)
    shrunk: Floats = deviation * factor
    return shrunk


def _grouped(values: Floats, group: Ints, groups: int) -> Floats:
    return np.stack([np.bincount(group, column, groups) for column in values.T], axis=1)


def _nearest_filled(filled: npt.NDArray[np.bool_]) -> Ints:
    """For each hour of the day, the nearest hour with events on the circle (the earlier of two)."""
    hours = np.flatnonzero(filled)
    apart = np.abs(np.arange(24)[:, None] - hours)
    nearest: Ints = hours[np.minimum(apart, 24 - apart).argmin(axis=1)]
    return nearest


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigurationError(f"unknown time zone {name!r}", path="timezone") from error


@lru_cache(maxsize=1 << 16)
def _offset(timezone: str, ts: int) -> int:
    moment = (_EPOCH + timedelta(milliseconds=ts)).astimezone(_zone(timezone)).utcoffset()
    assert moment is not None
    return int(moment.total_seconds()) * 1000
