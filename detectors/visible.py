"""The smallest change that a day like this one would show: what `ok` and `undecided` are worth (DETECTION 2).

With g the growth of a bet's log evidence per pane under a change δ, an alarm within a day needs `b` more than the r
restarts of the day give, and what R rested at before it: `δ = ε + λ/2 + b·κ/(λ n_day)`, solved by iteration for each λ,
least over λ, plus `1.28·√(deff/n_day)` so that nine changes of ten are seen. Where dependence makes the panes enter
with `a < 1` (see `tempered`), a restart is worth a of one: b grows by −log a. Within 20 % of simulation, 25 % under
clusters.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

POWER_90 = 1.28
ROUNDS = 20


def visible_change(
    *,
    fraction: Floats,
    weight: Floats,
    cap: Floats,
    kappa: Floats,
    entering: Floats | None = None,
    tolerance: Floats,
    deff: Floats,
    limit: Floats,
    n_day: Floats,
    panes: Floats,
) -> tuple[Floats, Floats]:
    """Smallest visible change in sd, nan when none is within a day, and then the panes it takes at least (else 0).

    fraction, weight, cap, kappa: (M, bets) of the upward bets of one direction, weight 0 where there is none; kappa at
    the typical pane of `n_day/panes` events, and so is entering, its a; 1 when None. tolerance, deff, limit, n_day,
    panes: (M,); limit is A/v, panes the non-empty ones of a day.

    >>> one = np.ones((1, 1))
    >>> found, _ = visible_change(fraction=.15 * one, weight=.05 * one, cap=4.1 * one, kappa=one,
    ...     tolerance=one[0] * .1, deff=one[0], limit=one[0] * 8640, n_day=one[0] * 14_400, panes=one[0] * 288)
    >>> found.round(2)
    array([0.19])
    """
    n_day, panes = np.maximum(n_day, 1.0)[:, None], np.maximum(panes, 1.0)[:, None]
    epsilon = tolerance[:, None]
    live = weight > 0
    log_limit = np.log(limit)[:, None] - np.log(np.where(live, weight, 1.0))
    log_entering = np.zeros_like(kappa) if entering is None else np.log(np.maximum(entering, 1e-300))
    # What R rests at before the change, in units of a.
    rest = 1.0 / -np.expm1(-n_day / panes / kappa * (fraction * epsilon + fraction**2 / 2))
    delta = epsilon + fraction
    needed = np.zeros_like(delta)
    for _ in range(ROUNDS):
        growth = n_day / panes / kappa * (fraction * (delta - epsilon) - fraction**2 / 2)
        with np.errstate(over="ignore", divide="ignore"):
            restarts = np.where(growth <= 0, panes, np.minimum(panes, 1.0 / -np.expm1(-growth)))
        needed = np.maximum(0.0, log_limit - log_entering - np.log(restarts + rest))
        delta = epsilon + fraction / 2 + needed * kappa / (fraction * n_day)
    within = live & (panes * cap >= needed)
    best = np.min(np.where(within, delta, np.inf), axis=1, initial=np.inf)
    at_least = np.min(np.where(live, np.ceil(needed / np.where(live, cap, 1.0)), np.inf), axis=1, initial=np.inf)
    found = np.isfinite(best)
    change = np.where(found, best + POWER_90 * np.sqrt(deff / n_day[:, 0]), np.nan)
    return change, np.where(found | ~np.isfinite(at_least), 0.0, at_least)
