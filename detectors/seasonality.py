"""The week of a stream: local hours, and the mean of each direction by hour of the week, learned by empirical Bayes.

A profile is (168, k): hour of the week, Monday 00:00 local first, at the hours' centres; between them it is linear on
the circle. What the reference does not show shrinks to zero, so there is no switch to set: a stream without a season
gets a flat profile.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias
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
#: The first Monday 00:00, in hours since the epoch.
MONDAY_HOUR = 4 * 24
# All zones since 1980 change their offset at a quarter of an hour.
_QUARTER = 900_000
_DAYS_AT_ONCE = 64
# Two weeks that wander alike look like a habit of the week once in a few hundred features (F(6, 7) = 13 was met), and
# a profile that took the one for the other alarms for months. A true weekend stands out much further.
_WEEKLY_DOUBT = 2.0
# Noise looks like a swing of the weekend's own once in a thousand features. A swing near half of the usual tolerance is
# silent as it is, and every correction brings noise of its own.
_STANDS_OUT = (5.0, 0.075)
_SATURDAY = 5


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
    return weights_at(pane_middles(local_start, pane_ms))


def pane_middles(local_start: int, pane_ms: int) -> Ints:
    """Middles of the parts that a pane's mean is taken over: itself up to an hour, else its quarters of an hour."""
    parts = 1 if pane_ms <= HOUR else min(-(-pane_ms // _QUARTER), 4 * WEEK_HOURS)
    middles: Ints = local_start + (2 * np.arange(parts, dtype=np.int64) + 1) * pane_ms // (2 * parts)
    return middles


def weights_at(local: Ints) -> Floats:
    """Weights (168,) by which a profile gives its mean over local times."""
    before, after, weight = circle(local)
    weights = np.bincount(before, 1.0 - weight, WEEK_HOURS) + np.bincount(after, weight, WEEK_HOURS)
    spread: Floats = weights / local.size
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
    whole: Floats = _fit(sums, counts, weekdays, prior, np.zeros(1, dtype=np.int64), leave=False)[0]
    return whole


def fit_without_each_day(sums: Floats, counts: Floats, weekdays: Ints, prior: Floats | None = None) -> Floats:
    """`fit_profile` once without each of the D days; (D, 168, k). Where that leaves nothing: with all of them.

    >>> rng = np.random.default_rng(0)
    >>> n, s = np.full((14, 24), 9.0), rng.normal(0, 3, (14, 24, 1))
    >>> without = fit_without_each_day(s, n, np.arange(14) % 7)
    >>> rest = np.delete(s, 5, axis=0), np.delete(n, 5, axis=0), np.delete(np.arange(14) % 7, 5)
    >>> np.allclose(without[5], fit_profile(*rest))
    True
    """
    days = weekdays.size
    found = [
        _fit(sums, counts, weekdays, prior, np.arange(at, min(at + _DAYS_AT_ONCE, days)), leave=True)
        for at in range(0, days, _DAYS_AT_ONCE)
    ]
    return np.concatenate(found)


class _Groups(NamedTuple):
    """Sums over the units (day-hours, days) of G groups, for J fits: S (J, G, k), rows and units (J, G), Σx, Σx²."""

    sums: Floats
    rows: Floats
    units: Floats
    x: Floats
    x2: Floats


def _fit(sums: Floats, counts: Floats, weekdays: Ints, prior: Floats | None, out: Ints, *, leave: bool) -> Floats:
    """Profiles (J, 168, k), each without the day `out` (J,) when `leave`. All sums less those of the day left out."""
    k, j = sums.shape[2], out.size
    if not counts.any():
        return np.zeros((j, WEEK_HOURS, k))
    if prior is not None:
        sums = sums - counts[:, :, None] * prior.reshape(7, 24, k)[weekdays]
    day_rows = counts.sum(axis=1)
    # A day whose absence leaves nothing stays in.
    gone = (day_rows[out] > 0) & (day_rows.sum() > day_rows[out]) & leave
    x = np.divide(sums, counts[:, :, None], out=np.zeros_like(sums), where=counts[:, :, None] > 0)
    less = gone[:, None]

    def without(whole: Floats) -> Floats:
        """Sum over days of (D, 24, …), less the day left out; (J, 24, …)."""
        own: Floats = whole.sum(axis=0) - whole[out] * less.reshape(j, *[1] * (whole.ndim - 1))
        return own

    hourly = _Groups(
        without(sums), without(counts), without((counts > 0).astype(np.float64)), without(x), without(x * x)
    )
    rows = hourly.rows.sum(axis=1)[:, None]
    profile = np.zeros((j, 7, 24, k)) + (hourly.sums.sum(axis=1) / rows)[:, None, None]
    days = (day_rows > 0).sum() - gone
    seasonal = (days >= 2)[:, None, None]
    nearest = np.stack([_nearest_filled(filled) for filled in hourly.rows > 0])
    by_hour = np.take_along_axis(_shrunk(hourly), nearest[:, :, None], axis=1) * seasonal
    profile += by_hour[:, None]
    present = np.zeros((7, weekdays.size))
    present[weekdays, np.arange(weekdays.size)] = day_rows > 0
    own_weekday = np.zeros((j, 7))
    own_weekday[np.arange(j), weekdays[out]] = gone
    weekly = (days >= 10) & ((present.sum(axis=1) - own_weekday) > 0).all(axis=1)
    if weekly.any():
        profile += _week(sums, counts, weekdays, out, gone, profile[:, 0], x) * weekly[:, None, None, None]
    by_week: Floats = profile.reshape(j, WEEK_HOURS, k)
    return by_week if prior is None else by_week + prior


def _week(  # noqa: PLR0917 - the inside of `_fit`
    sums: Floats, counts: Floats, weekdays: Ints, out: Ints, gone: npt.NDArray[np.bool_], daily: Floats, x: Floats
) -> Floats:
    """Day of the week and 168 cells beside the daily profile (J, 24, k): deviations (J, 7, 24, k)."""
    j, k = out.size, sums.shape[2]
    own = np.arange(j)
    one_hot = np.zeros((7, weekdays.size))
    one_hot[weekdays, np.arange(weekdays.size)] = 1.0
    mine = np.zeros((j, 7))
    mine[own, weekdays[out]] = gone

    def by_weekday(values: Floats, left: Floats) -> Floats:
        """Sums over the days of each weekday, less the day left out: (J or 1, D, m) and (J, m) to (J, 7, m)."""
        found: Floats = one_hot @ values - mine[:, :, None] * left[:, None, :]
        return found

    rows = counts.sum(axis=1)  # (D,)
    seen = (rows > 0) * 1.0
    left_over = sums.sum(axis=1) - np.tensordot(daily, counts, axes=(1, 1)).transpose(0, 2, 1)  # (J, D, k)
    y = left_over / np.where(rows > 0, rows, 1.0)[:, None]
    per_day = _Groups(
        by_weekday(left_over, left_over[own, out]),
        by_weekday(rows[None, :, None], rows[out, None])[:, :, 0],
        by_weekday(seen[None, :, None], seen[out, None])[:, :, 0],
        by_weekday(y, y[own, out]),
        by_weekday(y * y, (y * y)[own, out]),
    )
    of_day = _shrunk(per_day, doubt=_WEEKLY_DOUBT)  # (J, 7, k)

    def by_cell(values: Floats) -> Floats:
        """(D, 24, m) to (J, 168, m)."""
        flat = values.reshape(weekdays.size, -1)
        return by_weekday(flat[None], flat[out]).reshape(j, WEEK_HOURS, -1)

    cell_rows, cell_sums = by_cell(counts)[:, :, 0], by_cell(sums)
    explained = daily[:, None] + of_day[:, :, None]
    own_swing = _weekend_swing(
        (cell_sums - cell_rows[:, :, None] * explained.reshape(j, WEEK_HOURS, k)).reshape(j, 7, 4, 6, k).sum(axis=3),
        cell_rows.reshape(j, 7, 4, 6).sum(axis=3),
        _quarters(sums, counts, by_weekday, out),
    )
    found = of_day[:, :, None] + own_swing
    explained = (explained + own_swing).reshape(j, WEEK_HOURS, k)
    units = by_cell((counts > 0).astype(np.float64))[:, :, 0]
    # The variance within a cell does not know what is subtracted from all of it.
    cells = _Groups(cell_sums - cell_rows[:, :, None] * explained, cell_rows, units, by_cell(x), by_cell(x * x))
    return found + _shrunk(cells, doubt=_WEEKLY_DOUBT).reshape(j, 7, 24, k)


def _quarters(sums: Floats, counts: Floats, by_weekday: Callable[[Floats, Floats], Floats], out: Ints) -> Floats:
    """Of the quarters of days: how many there are, Σx and Σx² of their means, by weekday. (3, J, 7, 4, k)."""
    days, k = counts.shape[0], sums.shape[2]
    rows = counts.reshape(days, 4, 6).sum(axis=2)[:, :, None]
    x = sums.reshape(days, 4, 6, k).sum(axis=2) / np.where(rows > 0, rows, 1.0)
    there = np.broadcast_to(rows > 0, x.shape) * 1.0
    parts = [part.reshape(days, -1) for part in (there, x, x * x)]
    return np.stack([by_weekday(part[None], part[out]).reshape(out.size, 7, 4, k) for part in parts])


def _weekend_swing(left: Floats, rows: Floats, quarters: Floats) -> Floats:
    """What the days of a weekend do otherwise than working days beside being higher or lower, (J, 7, 24, k).

    left (J, 7, 4, k), rows (J, 7, 4): sums that hour and day leave unexplained, by weekday and quarter of the day;
    quarters: see `_quarters`. Where the swing of the mean differs on a weekend, so does the season of the spread; 168
    cells of two weeks cannot tell it from noise, and when traffic grew tenfold it alarmed .8 times a budget.
    """
    j, k = left.shape[0], left.shape[3]

    def by_kind(values: Floats) -> Floats:
        """(J, 7, 4, …) to (J, 8, …): working days, weekends."""
        kinds = [values[:, :_SATURDAY].sum(axis=1), values[:, _SATURDAY:].sum(axis=1)]
        return np.concatenate(kinds, axis=1)

    there, x, x2 = (by_kind(part) for part in quarters)
    found = _shrunk(_Groups(by_kind(left), by_kind(rows), there[:, :, 0], x, x2), stands_out=_STANDS_OUT)
    at_hours = np.einsum("hq,jdqk->jdhk", _HOURS_OF_QUARTERS, found.reshape(j, 2, 4, k))
    return np.repeat(at_hours, [_SATURDAY, 7 - _SATURDAY], axis=1)


def _hours_of_quarters() -> Floats:
    """(24, 4): values at the hours, linear on the circle, that have given means over the quarters of a day."""
    centres = 6.0 * np.arange(-1, 6) + 2.5
    linear = np.stack([np.interp(np.arange(24), centres, np.eye(4)[q][np.arange(-1, 6) % 4]) for q in range(4)], axis=1)
    hours: Floats = linear @ np.linalg.inv(linear.reshape(4, 6, 4).mean(axis=1))
    return hours


def _shrunk(found: _Groups, *, doubt: float = 1.0, stands_out: tuple[float, float] = (1.0, 0.0)) -> Floats:
    """Deviation of each group's mean from the grand mean, shrunk; (J, G, k), 0 for an empty group.

    v, the noise of a group's mean, is the variance between the units of a group, pooled over groups, over the units
    that a group has. The factor is τ²/(τ² + v), with τ² what the means vary more than that. doubt: v counts so often.
    stands_out: 0 where the means do not vary by so many times v, and by so much in sd.
    """
    filled = found.units > 0
    units = np.where(filled, found.units, 1.0)[:, :, None]
    freedom = np.maximum(found.units - 1.0, 0.0).sum(axis=1)
    within = np.maximum(0.0, found.x2 - found.x**2 / units).sum(axis=1)  # (J, k)
    groups = np.maximum(filled.sum(axis=1), 1)[:, None]
    each = found.units.sum(axis=1)[:, None] / groups
    v = doubt * within / np.maximum(freedom, 1.0)[:, None] / np.maximum(each, 1.0)
    grand = found.sums.sum(axis=1) / np.maximum(found.rows.sum(axis=1), 1.0)[:, None]
    rows = np.where(filled, found.rows, 1.0)[:, :, None]
    deviation = (found.sums / rows - grand[:, None]) * filled[:, :, None]
    varies = (deviation**2).sum(axis=1) / groups
    least, least_sd = stands_out
    tau2 = np.maximum(0.0, varies - v) * ((varies > least * v) & (varies - v > least_sd**2))
    spread = tau2 + v
    known = (spread > 0) & (freedom > 0)[:, None]
    factor: Floats = np.divide(tau2, spread, out=np.zeros_like(tau2), where=known)
    shrunk: Floats = deviation * factor[:, None]
    return shrunk


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


_HOURS_OF_QUARTERS = _hours_of_quarters()
