"""Error rates and any other loss in [0, 1] against a rate that was learned: DETECTION 3 (a).

A bet on "the mean loss has risen past p⁺ = p0 + tol" multiplies its capital by `(q/p⁺)^y·((1−q)/(1−p⁺))^(1−y)` per
event. With `q = σ(logit p⁺ + η)` that is, over a pane of n events with losses of sum S,

    L = S·η − n·log1p(p⁺(e^η − 1))

and `E exp L <= 1` for every loss in [0, 1] whose mean is at most p⁺ (the factor is convex in y, so 0 and 1 are the
worst case). "Better" is the same chart of 1 − loss: the two sides stand on the first axis, `WORSE` pages, `BETTER` is a
note. κ and the cap as in `tempered`; errors are skewed, so κ has a term in the third moment.

S is counted in units of 2**-20, integers: pane counts add in any split to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import mixture
from detectors.charts.mixture import Mixture
from detectors.design_effect import block_moments
from detectors.jeffreys import jeffreys_quantile
from detectors.seasonality import HOUR, fit_profile, fit_without_each_day, hour_of_week, mu_at
from schemas.errors import ConfigurationError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Sums of losses are integers in this unit.
UNIT = 1 << 20
#: How far, in logit, the alternatives lie above p⁺: small ones for small changes, large ones for fast ones.
STEPS = np.array([0.25, 0.6, 1.3])
WORSE, BETTER = 0, 1
#: The rate's own uncertainty is in the tolerance up to this quantile (four standard errors).
QUANTILE = 1 - 3e-5
LEAST_TOLERANCE, RELATIVE_TOLERANCE = 0.01, 0.2
#: Blocks that a third moment needs: the few longest ones show nothing but noise, cubed.
LEAST_BLOCKS = 30.0
#: A variance of 0 would make every change infinite in sd.
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class LossReference:
    """What a reference says about one loss.

    n: labels; total: sum of their losses. deff: variance of block sums per label, over p0(1 − p0), at least 1. m3:
    third moment of block sums per label, in sd³, beyond that of independent labels, upwards and downwards (both >= 0).
    n_bar: Σn²/Σn per pane. profile (168,): rate by hour of the week.
    """

    n: float
    total: float
    deff: float = 1.0
    m3: tuple[float, float] = (0.0, 0.0)
    n_bar: float = 1.0
    profile: Floats

    @classmethod
    def plain(cls, n: float, total: float) -> LossReference:
        """Of independent labels without a season.

        >>> LossReference.plain(2000, 200).rate
        0.1
        """
        if not 0.0 <= total <= n:
            raise ConfigurationError(f"reference of a loss in [0, 1]: {total} in {n} labels")
        return cls(n=n, total=total, profile=np.full(168, total / n if n else 0.5))

    @property
    def rate(self) -> float:
        """p0, ½ when there is no label."""
        return self.total / self.n if self.n else 0.5

    def tolerance(self, side: int = WORSE, *, least: float = LEAST_TOLERANCE) -> float:
        """How far the rate may move on a side before it counts: tol = max(.01, .2·min(p0, 1 − p0), J − p0).

        J is the Jeffreys quantile of the rate with labels and errors over deff, so a small or dependent reference sees
        less; at most half the way to 1 (0). least: in place of .01, 0 switches the first two terms off too.

        >>> few, many = LossReference.plain(200, 20), LossReference.plain(20_000, 2_000)
        >>> round(few.tolerance(), 3), round(many.tolerance(), 3), round(many.tolerance(BETTER), 3)
        (0.106, 0.02, 0.02)
        """
        rate, total = (self.rate, self.total) if side == WORSE else (1.0 - self.rate, self.n - self.total)
        upper = jeffreys_quantile(total / self.deff, self.n / self.deff, at=QUANTILE)
        relative = RELATIVE_TOLERANCE * min(rate, 1.0 - rate) if least > 0.0 else 0.0
        return min(max(least, relative, upper - rate), (1.0 - rate) / 2.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Losses:
    """What a layout and references fix for M monitors; sides first: (2, M), bets (2, bets, M).

    tolerance: added to μ. fraction, epsilon: λ and ε in sd; slack: 1 + ε/λ, 1 when strict. third: M₃.
    limit (M,): A over the monitor's share, in panes.
    """

    budget: float
    limit: Floats
    rate: Floats  # (M,)
    deff: Floats  # (M,)
    n_bar: Floats  # (M,)
    tolerance: Floats
    fraction: Floats
    epsilon: Floats
    slack: Floats  # (2, bets, M)
    third: Floats  # (2, M)
    cap: Floats  # (M,)

    @property
    def monitors(self) -> int:
        """How many monitors there are."""
        return int(self.rate.size)

    def start(self) -> Mixture:
        """Charts that have seen nothing."""
        return Mixture.start((2, STEPS.size, self.monitors), sums=2)


@dataclass(frozen=True, eq=False, kw_only=True)
class LossTick:
    """What one pane said: value (2, M) evidence in panes, to compare with `Losses.limit`; shift (M,) S − n·μ."""

    value: Floats
    shift: Floats


@dataclass(frozen=True, kw_only=True)
class LossFinding:
    """Where and how large: since, the pane number of the onset; n labels from there; the change of the rate and its
    90 % interval, which holds over all onsets at once.
    """

    side: int
    since: int
    n: float
    size: float
    low: float
    high: float


def in_units(losses: Floats) -> Ints:
    """Losses in [0, 1] as integers of 2**-20; what lies outside is clipped, NaN is not a loss.

    >>> in_units(np.array([0.0, 0.25, 1.0])).tolist()
    [0, 262144, 1048576]
    """
    return np.rint(np.clip(losses, 0.0, 1.0) * UNIT).astype(np.int64)


def learn_losses(sums: Ints, counts: Ints, local: Ints, *, pane_ms: int) -> LossReference:
    """Reference of one loss from time-ordered panes: sums (P,) in units, counts (P,) labels, local (P,) start in ms.

    Panes are of `pane_ms` each, those without labels included, so that blocks are stretches of time.

    >>> rng = np.random.default_rng(0)
    >>> start = 4 * 86_400_000 + 300_000 * np.arange(4032)
    >>> rate = 0.1 + 0.05 * np.sin(2 * np.pi * start / 86_400_000)
    >>> found = learn_losses(rng.binomial(50, rate) * UNIT, np.full(4032, 50), start, pane_ms=300_000)
    >>> bool(found.deff < 2.0), np.round(found.profile[[6, 18]], 2)
    (True, array([0.15, 0.05]))
    """
    n, total = float(counts.sum()), float(sums.sum()) / UNIT
    if n == 0.0:
        return LossReference.plain(0.0, 0.0)
    rate = (total + 0.5) / (n + 1.0)
    losses, rows = sums / UNIT, counts.astype(np.float64)
    days, day = np.unique(local // (24 * HOUR), return_inverse=True)
    hour = hour_of_week(local) % 24
    by_hour = np.zeros((days.size, 24)), np.zeros((days.size, 24))
    np.add.at(by_hour[0], (day, hour), losses)
    np.add.at(by_hour[1], (day, hour), rows)
    weekdays = hour_of_week(days * 24 * HOUR) // 24
    profile = fit_profile(by_hour[0][..., None], by_hour[1], weekdays)
    without = fit_without_each_day(by_hour[0][..., None], by_hour[1], weekdays)
    middle = local + pane_ms // 2
    mu = np.concatenate([mu_at(without[i], middle[day == i])[:, 0] for i in range(days.size)])
    order = np.argsort(day, kind="stable")
    expected = np.empty(local.size)
    expected[order] = mu
    residuals = (losses - rows * expected)[:, None] / math.sqrt(rate * (1.0 - rate))
    scales = block_moments(residuals, rows)
    # The error of a third moment of normal block sums; what does not exceed it is not skew.
    blocks = local.size / scales.lengths
    noise = np.sqrt(15.0 / blocks * np.maximum(scales.n_bar, 1.0)) * scales.v[:, 0] ** 1.5
    own = (1.0 - 2.0 * rate) / math.sqrt(rate * (1.0 - rate))
    up, down = (np.where(blocks >= LEAST_BLOCKS, sign * (scales.m3[:, 0] - own) - noise, 0.0) for sign in (1.0, -1.0))
    return LossReference(
        n=n,
        total=total,
        deff=max(1.0, float(scales.v.max())),
        m3=(max(float(up.max()), 0.0), max(float(down.max()), 0.0)),
        n_bar=max(1.0, float(scales.n_bar[0])),
        profile=np.clip(profile[:, 0], 0.0, 1.0),
    )


def build_losses(
    references: Sequence[LossReference],
    *,
    budget: float,
    share: Floats | None = None,
    struck: int = 1,
    tolerance: Floats | None = None,
    strict: bool = False,
    tempered: bool = True,
    capped: bool = True,
) -> Losses:
    """Plan for one monitor per reference. budget: A in panes; share (M,): of it, by default equal.

    struck: monitors that one label is counted in (see `build_bets`). tolerance (2, M), worse and better, in place of
    the learned one, at least 0. strict: silence is guaranteed up to the whole tolerance, not half of it. tempered,
    capped: False for independent labels, as theory has it, and for batches.

    >>> plan = build_losses([LossReference.plain(20_000, 2_000)], budget=8640.0)
    >>> charts, said = tick(plan, plan.start(), n=np.array([50]), sums=np.array([15 * UNIT]), pane=1)
    >>> said.value.ravel().round(2).tolist(), plan.limit.tolist()
    ([22.38, 0.02], [8640.0])
    """
    shares = mixture.checked_shares(share, monitors=len(references), budget=budget)
    rate = np.array([one.rate for one in references])
    rates = np.stack([rate, 1.0 - rate])
    if tolerance is None:
        tolerance = np.array([[one.tolerance(side) for one in references] for side in (WORSE, BETTER)])
    if tolerance.shape != rates.shape or not (tolerance >= 0.0).all():
        raise ConfigurationError(f"tolerance: must be (2, {rate.size}) and >= 0, got {tolerance.tolist()}")
    tol = np.minimum(tolerance, (1.0 - rates) / 2.0)
    p = rates + tol
    spread = np.maximum(p * (1.0 - p), _LEAST_VARIANCE)
    odds = np.expm1(STEPS)[:, None]
    fraction = np.sqrt(spread)[:, None] * odds / (1.0 + p[:, None] * odds)
    epsilon = tol / np.sqrt(spread)
    return Losses(
        budget=budget,
        limit=budget / shares,
        rate=rate,
        deff=np.array([one.deff if tempered else 1.0 for one in references]),
        n_bar=np.array([max(one.n_bar, 1.0) for one in references]),
        tolerance=tol,
        fraction=fraction,
        epsilon=epsilon,
        slack=np.ones(fraction.shape) if strict else 1.0 + epsilon[:, None] / fraction,
        third=np.array([one.m3 if tempered else (0.0, 0.0) for one in references]).reshape(-1, 2).T,
        cap=mixture.cap_of(budget=budget if capped else 0.0, share=shares, struck=struck, bets=STEPS.size),
    )


def temper(plan: Losses, n: Floats) -> Floats:
    """κ (2, bets, M) for panes of n (M,) labels: the root of `κ(1 + ε/λ) = deff + M₃·λ/(3κ)`, at least 1.

    A shock common to a pane does not average out with n: deff − 1 grows with n/n̄ beyond 1, M₃ with its square. M₃ is
    what is beyond independent labels: the skew of one label the likelihood ratio knows already.

    >>> flat = np.full(168, 0.1)
    >>> dependent = LossReference(n=20_000, total=2_000, deff=4.0, m3=(40.0, 0.0), n_bar=50.0, profile=flat)
    >>> temper(build_losses([dependent], budget=8640.0), np.array([50.0]))[WORSE].round(2).ravel()
    array([2.63, 3.86, 5.2 ])
    """
    growth = np.maximum(n / plan.n_bar, 1.0)
    deff = 1.0 + (plan.deff - 1.0) * growth
    skew = (plan.third * growth * growth)[:, None] * plan.fraction / 3.0
    return np.asarray(np.maximum((deff + np.sqrt(deff * deff + 4.0 * plan.slack * skew)) / (2.0 * plan.slack), 1.0))


def tick(
    plan: Losses, charts: Mixture, *, n: Ints, sums: Ints, mu: Floats | None = None, pane: int
) -> tuple[Mixture, LossTick]:
    """Take in one pane. n (M,) labels; sums (M,) of losses in units; mu (M,) the profile's rate over the pane, by
    default the reference's rate; pane: its number, from 1. A monitor without labels keeps its state to the bit.
    """
    mu = plan.rate if mu is None else np.clip(mu, 0.0, 1.0)
    rows, total = n.astype(np.float64), sums / UNIT
    rates, loss = np.stack([mu, 1.0 - mu]), np.stack([total, rows - total])  # (2, M)
    p = np.minimum(rates + plan.tolerance, (1.0 + rates) / 2.0)[:, None]
    kappa = temper(plan, rows)
    step = loss[:, None] * STEPS[:, None] - rows * np.log1p(p * np.expm1(STEPS)[:, None])  # (2, bets, M)
    entering = mixture.entry(
        budget=plan.budget, fraction=plan.fraction, tolerance=plan.epsilon[:, None], n=rows, kappa=kappa
    )
    shift = total - rows * mu
    charts = mixture.advance(
        charts,
        step=np.minimum(step / kappa, plan.cap),
        entering=entering,
        said=np.stack([shift, rows])[:, None, None],
        pane=pane,
    )
    return charts, LossTick(value=mixture.average(charts.r), shift=shift)


def reset(charts: Mixture, again: Bools) -> Mixture:
    """Charts of which the sides and monitors in `again` (2, M) begin anew, as after an alarm."""
    return mixture.reset(charts, again[:, None])


def finding(plan: Losses, charts: Mixture, *, side: int, monitor: int, pane: int) -> LossFinding:
    """Onset and size as the side's strongest bet has them after pane number `pane`; read it before `reset`.

    The interval is of time-uniform width: `± √(2·deff·ŝ(1 − ŝ)/n·log(2(k + 2)/.1))`, k panes since the onset.
    """
    bet = int(np.argmax(charts.r[side, :, monitor]))
    since = int(charts.since[side, bet, monitor])
    shift, n = charts.sums[:, side, bet, monitor].tolist()
    if n <= 0.0:
        return LossFinding(side=side, since=since, n=0.0, size=0.0, low=-1.0, high=1.0)
    size = shift / n
    share = min(max(float(plan.rate[monitor]) + size, 0.5 / (n + 1.0)), (n + 0.5) / (n + 1.0))
    panes = pane - since + 1
    width = math.sqrt(2.0 * float(plan.deff[monitor]) * share * (1.0 - share) / n * math.log(2.0 * (panes + 2.0) / 0.1))
    return LossFinding(side=side, since=since, n=n, size=size, low=size - width, high=size + width)
