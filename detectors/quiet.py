"""Silences that chance brings where rows are few: by how many rows the hours of a silence should have had.

The longest gap of a fortnight is a poor guide to a stream of three rows an hour, fewer at night: it is one number by
hour, and half of the time the next month has a longer one. How many rows an hour has is known far better.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

HOUR, WEEK_HOURS = 3_600_000, 168
#: Hours of a budget, and silences that it may bring by chance.
_BUDGET_HOURS, CHANCE = 720.0, 0.05
#: Longest gaps that say how far rows come in clusters, without the very longest, which may be an outage.
_GAPS = slice(2, 20)
_WEEKS = 4


def chance_silences(rows: Floats, hours: Floats, *, begins: Floats, ends: Floats) -> Ints:
    """Silence, in ms, that chance brings once in 20 budgets, by the hour of the week in which it ends; (168,).

    rows, hours: (168,) rows in the reference by hour of the week, and how often it had that hour. begins, ends: gaps
    between rows, in hours since a Monday 00:00, both local.

    The hours of working days are alike, and those of weekends. Rows that come at random are absent with chance e^−Λ
    where Λ should have come; in clusters of D rows, with e^−Λ/D. D is what the reference's own longest gaps say.

    >>> rng = np.random.default_rng(0)
    >>> rows = np.sort(rng.uniform(0, 336, 1000))
    >>> counts = np.bincount(rows.astype(int) % 168, minlength=168) * 1.0
    >>> found = chance_silences(counts, np.full(168, 2.0), begins=rows[:-1], ends=rows[1:])
    >>> (np.median(found) / HOUR).round(1)
    np.float64(4.2)
    """
    if not rows.any():
        return np.zeros(WEEK_HOURS, dtype=np.int64)
    rate, surely = _rates(rows, hours)
    total = float((rate * _BUDGET_HOURS / WEEK_HOURS).sum())
    cluster = _cluster(_expected(rate, ends) - _expected(rate, begins), rows=float(rows.sum()))
    needed = cluster * np.log(max(total / cluster / CHANCE, np.e))
    # Back from the start of each hour, over as many weeks as it takes.
    back = np.concatenate([[0.0], np.cumsum(np.tile(surely[::-1], _WEEKS + 1))])
    found = np.empty(WEEK_HOURS)
    for hour in range(WEEK_HOURS):
        first = WEEK_HOURS - hour
        found[hour] = np.interp(back[first] + needed, back, np.arange(back.size)) - first
    silences: Ints = np.minimum(found * HOUR, _WEEKS * WEEK_HOURS * HOUR).astype(np.int64)
    return silences


def _rates(rows: Floats, hours: Floats) -> tuple[Floats, Floats]:
    """Rows an hour by hour of the week, (168,), over three hours of all such days; and what it is at the least."""
    rate, surely = np.zeros((7, 24)), np.zeros((7, 24))
    for days in (slice(0, 5), slice(5, 7)):
        own = rows.reshape(7, 24)[days].sum(axis=0)
        seen = hours.reshape(7, 24)[days].sum(axis=0)
        around = own + np.roll(own, 1) + np.roll(own, -1)
        wide = np.maximum(seen + np.roll(seen, 1) + np.roll(seen, -1), 1.0)
        rate[days] = around / wide
        # One standard error less; and where an hour is quieter than its neighbours, not more than it may be itself.
        alone = (own + 2.0 * np.sqrt(own + 1.0)) / np.maximum(seen, 1.0)
        surely[days] = np.minimum((around - np.sqrt(around)) / wide, alone)
    return rate.ravel(), np.maximum(surely, 0.0).ravel()


def _expected(rate: Floats, at: Floats) -> Floats:
    """Rows expected from Monday 00:00 on until each time in hours."""
    running = np.concatenate([[0.0], np.cumsum(rate)])
    return np.asarray(at // WEEK_HOURS * running[-1] + np.interp(at % WEEK_HOURS, np.arange(running.size), running))


def _cluster(gaps: Floats, *, rows: float) -> float:
    """Rows that come as one, at least 1, from gaps in expected rows: the k-th longest of N is near D·ln(N/(D·k))."""
    longest = np.sort(gaps)[::-1][_GAPS]
    if longest.size == 0:
        return 1.0
    order = np.arange(_GAPS.start, _GAPS.start + longest.size) + 0.5
    cluster = np.ones(longest.size)
    for _ in range(20):
        cluster = np.maximum(1.0, longest / np.maximum(np.log(rows / cluster / order), 1.0))
    return float(np.median(cluster))
