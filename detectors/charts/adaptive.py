"""Losses in [0, 1] without a reference, or with a small one: DETECTION 3 (b), ADWIN's question on panes of counts.

An exponential histogram keeps the past in O(log panes) buckets. At each pane the chart looks at every cut into an
older and a newer part and takes the largest d with

    |mean₁ − mean₂| = √(2·d·v/m) + 2·d/(3·m),    1/m = 1/n₁ + 1/n₂,    v = p(1 − p), pooled,

Bernstein's bound read backwards. The limit of d for a budget of A panes is simulated, not proved: see
`adaptive_limits` and the script that made it. A reference, if there is one, is the oldest bucket and never merges.

Why every monitor has the same buckets: they follow the panes, not the counts, so that a restart is a zero and all
monitors are one array. Prefer `losses` where there is a reference: its budget is a theorem, and it knows dependence.

Bifet, Gavaldà 2007, "Learning from time-changing data with adaptive windowing".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import adaptive_limits
from detectors.charts.losses import UNIT
from detectors.charts.mixture import checked_shares
from detectors.charts.saved import Framed, array_of, decoded, encoded
from schemas.errors import ConfigurationError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

STATE_FORMAT = 1
#: Buckets of one length; one more, and the two oldest become one of twice the length.
BUCKETS = 5
_LN_A = np.log(np.array(adaptive_limits.BUDGETS))
_LN_X = np.log(np.array(adaptive_limits.INFORMATION))
_LIMITS = {False: np.array(adaptive_limits.ONE_SIDED), True: np.array(adaptive_limits.TWO_SIDED)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Adaptive:
    """What a layout fixes for M monitors. ln_budget (M,): log of A over the monitor's share, in panes.

    reference_n, reference_sums (M,): the oldest bucket, labels and losses in units; 0 without one. two_sided: a fall
    counts as much as a rise, and both pay for it. deff (M,): labels that count as one.
    """

    ln_budget: Floats
    reference_n: Ints
    reference_sums: Ints
    deff: Floats
    two_sided: bool

    def start(self) -> History:
        """A history of nothing."""
        none = np.zeros((0, self.ln_budget.size), np.int64)
        return History(spans=(), n=none, sums=none, seen=np.zeros(self.ln_budget.size, np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class History:
    """State: a value. spans: panes per bucket, oldest first; n, sums (buckets, M) labels and losses in units;
    seen (M,): panes with labels since the monitor began anew.
    """

    spans: tuple[int, ...]
    n: Ints
    sums: Ints
    seen: Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptiveTick:
    """What one pane said: value (2, M) the largest d by side, worse and better as in `losses`; limit (M,);
    since (2, M) the pane in which the newer part of that cut begins, from 1; older, newer (2, M): the means beside it.

    Two-sided, either side alarms at the limit; one-sided, only "worse".
    """

    value: Floats
    limit: Floats
    since: Ints
    older: Floats
    newer: Floats


def build_adaptive(
    monitors: int,
    *,
    budget: float,
    share: Floats | None = None,
    two_sided: bool = False,
    reference: tuple[Ints, Ints] | None = None,
    deff: Floats | None = None,
) -> Adaptive:
    """Plan. budget: A in panes; share (M,): of it, by default equal. reference: labels and losses in units, (M,) each.

    deff (M,), at least 1: divides the labels; the limits are simulated for independent ones.

    >>> from detectors.charts.losses import WORSE
    >>> plan = build_adaptive(1, budget=3000.0)
    >>> history, values = plan.start(), []
    >>> for pane in range(1, 121):
    ...     errors = np.array([(3 if pane <= 100 else 9) * UNIT])
    ...     history, said = tick(plan, history, n=np.array([32]), sums=errors)
    ...     values.append(bool(said.value[WORSE, 0] >= said.limit[0]))
    >>> values.index(True) + 1, int(said.since[WORSE, 0]), said.older[WORSE].round(3), said.newer[WORSE].round(3)
    (102, 101, array([0.094]), array([0.281]))
    """
    shares = checked_shares(share, monitors=monitors, budget=budget)
    none = np.zeros(monitors, np.int64)
    n, sums = (none, none) if reference is None else reference
    if n.shape != (monitors,) or sums.shape != n.shape or not ((sums >= 0) & (sums <= n * UNIT)).all():
        raise ConfigurationError(f"reference: must be {monitors} counts and their losses in units, got {n}, {sums}")
    dependence = np.ones(monitors) if deff is None else np.asarray(deff, dtype=np.float64)
    if dependence.shape != (monitors,) or not (dependence >= 1.0).all():
        raise ConfigurationError(f"deff: must be {monitors} numbers >= 1, got {dependence.tolist()}")
    return Adaptive(
        ln_budget=np.log(budget / shares), reference_n=n, reference_sums=sums, deff=dependence, two_sided=two_sided
    )


def tick(plan: Adaptive, history: History, *, n: Ints, sums: Ints) -> tuple[History, AdaptiveTick]:
    """Take in one pane: n (M,) labels, sums (M,) of their losses in units of 2**-20."""
    history = _append(history, n, sums)
    return history, look(plan, history)


def look(plan: Adaptive, history: History) -> AdaptiveTick:
    """The largest d over all cuts of a history, and the limit for its rate. Pure: nothing is remembered."""
    deff = plan.deff
    n = np.cumsum(np.concatenate((plan.reference_n[None], history.n)), axis=0)  # (cuts + 1, M)
    sums = np.cumsum(np.concatenate((plan.reference_sums[None], history.sums)), axis=0)
    whole, total = n[-1] / deff, sums[-1] / UNIT / deff
    p = np.divide(total, whole, out=np.zeros(whole.shape), where=whole > 0)
    n1, n2 = n[:-1] / deff, (n[-1] - n[:-1]) / deff
    cut = (n1 > 0) & (n2 > 0)
    mean1 = np.divide(sums[:-1] / UNIT / deff, n1, out=np.zeros(n1.shape), where=cut)
    mean2 = np.divide((sums[-1] - sums[:-1]) / UNIT / deff, n2, out=np.zeros(n1.shape), where=cut)
    d = bernstein(np.abs(mean2 - mean1), variance=p * (1.0 - p), m=n1 * n2 / np.maximum(whole, 1e-300))
    sided = np.stack([np.where(mean2 > mean1, d, 0.0), np.where(mean2 < mean1, d, 0.0)])  # (2, cuts, M)
    best = sided.argmax(axis=1)[:, None]
    starts = np.concatenate(([0], np.cumsum(np.array(history.spans, dtype=np.int64))))[:-1] + 1
    ours = history.n.sum(axis=0) / deff
    rate = (total + 0.5) / (whole + 1.0)
    x = ours / np.maximum(history.seen, 1) * rate * (1.0 - rate)
    return AdaptiveTick(
        value=np.take_along_axis(sided, best, axis=1)[:, 0],
        limit=limits(plan.ln_budget, x, two_sided=plan.two_sided),
        since=starts[best[:, 0]],
        older=np.take_along_axis(mean1[None], best, axis=1)[:, 0],
        newer=np.take_along_axis(mean2[None], best, axis=1)[:, 0],
    )


def bernstein(gap: Floats, *, variance: Floats, m: Floats) -> Floats:
    """The d that solves `gap = √(2·d·variance/m) + 2·d/(3·m)`; 0 where the gap is or one part is empty (m = 0).

    >>> d = bernstein(np.array([0.1]), variance=np.array([0.09]), m=np.array([200.0]))
    >>> d.round(3), np.sqrt(2 * d * 0.09 / 200) + 2 * d / 600
    (array([6.701]), array([0.1]))
    """
    inverse = np.divide(1.0, m, out=np.zeros(np.broadcast_shapes(m.shape, gap.shape)), where=m > 0)
    slope, curve = 2.0 * variance * inverse, 8.0 / 3.0 * gap * inverse
    below = np.sqrt(slope) + np.sqrt(slope + curve)
    root = np.divide(2.0 * gap, below, out=np.zeros(below.shape), where=(below > 0) & (gap > 0))
    return np.asarray(root * root)


def limits(ln_budget: Floats, x: Floats, *, two_sided: bool) -> Floats:
    """Limit of d (M,) at ln A and x = n·p(1 − p) of a pane: the committed grid, bilinear in (ln A, ln x).

    Beyond the grid's budgets its outermost slope goes on; beyond its x the outermost column holds.
    """
    table = _LIMITS[two_sided]
    row = np.clip(np.searchsorted(_LN_A, ln_budget) - 1, 0, _LN_A.size - 2)
    down = (ln_budget - _LN_A[row]) / (_LN_A[row + 1] - _LN_A[row])
    ln_x = np.clip(np.log(np.maximum(x, 1e-300)), _LN_X[0], _LN_X[-1])
    column = np.clip(np.searchsorted(_LN_X, ln_x) - 1, 0, _LN_X.size - 2)
    right = (ln_x - _LN_X[column]) / (_LN_X[column + 1] - _LN_X[column])
    low = table[row, column] * (1.0 - right) + table[row, column + 1] * right
    high = table[row + 1, column] * (1.0 - right) + table[row + 1, column + 1] * right
    return np.asarray(low + (high - low) * down)


def reset(history: History, again: Bools) -> History:
    """A history in which the monitors in `again` (M,) begin anew, as after an alarm; a reference stays."""
    return History(
        spans=history.spans,
        n=np.where(again, 0, history.n),
        sums=np.where(again, 0, history.sums),
        seen=np.where(again, 0, history.seen),
    )


def save(history: History) -> bytes:
    """Bytes of a state; equal states give equal bytes."""
    arrays = (history.n, history.sums, history.seen)
    return encoded(_Saved(STATE_FORMAT, history.spans, *(one.astype("<i8").tobytes() for one in arrays)))


def load(plan: Adaptive, raw: bytes) -> History:
    """State from its bytes; `FormatError` when damaged, newer, or of another number of monitors.

    >>> plan = build_adaptive(2, budget=100.0)
    >>> load(plan, save(plan.start())).spans
    ()
    """
    saved = decoded(raw, _Saved, newest=STATE_FORMAT, what=_WHAT)
    monitors = plan.ln_budget.size
    shape, what = (len(saved.spans), monitors), f"{_WHAT} of {monitors} monitors"
    return History(
        spans=saved.spans,
        n=array_of(saved.n, "<i8", shape, what=what),
        sums=array_of(saved.sums, "<i8", shape, what=what),
        seen=array_of(saved.seen, "<i8", (monitors,), what=what),
    )


def _append(history: History, n: Ints, sums: Ints) -> History:
    """One pane more, and buckets merged where there are more than `BUCKETS` of one length."""
    spans = [*history.spans, 1]
    n, sums = np.concatenate((history.n, n[None])), np.concatenate((history.sums, sums[None]))
    span = 1
    while spans.count(span) > BUCKETS:
        at = spans.index(span)
        spans[at : at + 2] = [2 * span]
        n, sums = _merged(n, at), _merged(sums, at)
        span *= 2
    return History(spans=tuple(spans), n=n, sums=sums, seen=history.seen + (n[-1] > 0))


def _merged(buckets: Ints, at: int) -> Ints:
    return np.concatenate((buckets[:at], buckets[at : at + 1] + buckets[at + 1 : at + 2], buckets[at + 2 :]))


class _Saved(Framed, array_like=True):
    spans: tuple[int, ...]
    n: bytes
    sums: bytes
    seen: bytes


_WHAT = "an adaptive chart"
