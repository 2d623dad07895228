"""Whether scores still mean what they meant: DETECTION 4, bets that are logistic changes of a learned map.

H0: `y ~ Bernoulli(g(p))`. Alternatives: `logit q = m + a + b(logit g − m)` for the (a, b) of `BETS`, b about the
middle m so that a slope is not taken for a shift. Per bin `d = logit q − logit g`, of which `c = clip(d, ±ε)` is
tolerated, and with δ = d − c, `logit g* = logit g + c`, over a pane with n rows in the bin, y₁ of them ones,

    L = Σ_bins y₁·δ − n·log1p(g*(e^δ − 1)),        E exp L <= 1 when every bin has moved by at most ε.

Tempered per bet by the larger of two design effects, of Σ(y − g) and of the bet's own Σ δ(y − g). Fed at maturity: an
outcome pane once, when its labels are in. Tables are multiples of 2**-20, so sums over bins are exact in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import mixture
from detectors.charts.bets import GRAIN
from detectors.charts.calibration_map import CalibrationMap, expit, learn_map
from detectors.charts.mixture import Mixture
from detectors.design_effect import block_moments
from detectors.seasonality import HOUR, fit_profile, fit_without_each_day, hour_of_week, mu_at
from schemas.errors import ConfigurationError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: (a, b): shifts up and down, flatter and steeper, and both: a slope that turned about another point than m.
#: The last two are beyond DETECTION 4, at half a weight: with them logit q = 1.6·logit p is found a fifth sooner, and
#: (−.4, .7), which no bet is close to, 2 % later.
BETS = (
    *((0.15, 1.0), (-0.15, 1.0), (0.35, 1.0), (-0.35, 1.0), (0.8, 1.0), (-0.8, 1.0)),
    *((0.0, 0.5), (0.0, 0.75), (0.0, 1.35), (0.0, 1.8), (0.35, 0.75), (-0.35, 0.75)),
    *((0.35, 1.35), (-0.35, 1.35)),
)
WEIGHTS = np.array([1.0] * 12 + [0.5] * 2)
TOLERANCE = 0.1
#: A repaired slope is at least this: a map that turns the scores around is not a repair.
LEAST_SLOPE = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationReference:
    """A map and how dependent its labels are. deff (1 + bets,): of Σ(y − g), then of each bet, at least 1; n_bar:
    Σn²/Σn per pane; profile (168,): shift of the logit by hour of the week.
    """

    map: CalibrationMap
    deff: Floats
    n_bar: float
    profile: Floats

    @classmethod
    def plain(cls, learned: CalibrationMap) -> CalibrationReference:
        """Of independent labels without a season."""
        return cls(map=learned, deff=np.ones(1 + len(BETS)), n_bar=1.0, profile=np.zeros(168))

    @property
    def tolerance(self) -> float:
        """ε = max(.1, 4/√(information)) in logit, the information that of N labels over deff."""
        information = float((self.map.rows * self.map.weight).sum()) / float(self.deff[0])
        return max(TOLERANCE, 4.0 / math.sqrt(information)) if information > 0.0 else 2.0 * TOLERANCE + 4.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """What a layout and references fix: tables of T maps, T = M, or 1 when all monitors share one map.

    logit, weight, x (T, bins): of the map, its information per row, and the logit from its middle, the last two 0 in
    bins that are not judged. delta, moved (T, bins, bets): δ and c. by_row, by_one (T, bins, columns): what a row and a
    one of a bin are worth, at a flat profile. fraction, deff, slack (bets, T): λ, the larger
    design effect, 1 + ε/λ. active (bets, T): weights of the bets that move anything, 1 in
    the mean. limit, cap, n_bar (M,); epsilon (T,).
    """

    budget: float
    limit: Floats
    cap: Floats
    maps: tuple[CalibrationMap, ...]
    logit: Floats
    weight: Floats
    x: Floats
    delta: Floats
    moved: Floats
    by_row: Floats
    by_one: Floats
    fraction: Floats
    deff: Floats
    shared_deff: Floats  # (T,)
    n_bar: Floats
    slack: Floats
    active: Floats
    epsilon: Floats

    @property
    def monitors(self) -> int:
        """How many monitors there are."""
        return int(self.limit.size)

    def start(self) -> Mixture:
        """Charts that have seen nothing."""
        return Mixture.start((len(BETS), self.monitors), sums=6)


@dataclass(frozen=True, kw_only=True)
class CalibrationFinding:
    """What became of the scores, in words and numbers, as the strongest bet has it.

    words: "shifted up" (outcomes are more frequent than the map says) or "shifted down", "over-confident" (scores too
    extreme) or "under-confident". a, b: the change estimated since the onset; z_a, z_b: in standard errors. since: pane
    number of the onset; n: labels from there. repaired: the map that follows, for `CalibrationMap.at`.
    """

    words: tuple[str, ...]
    bet: tuple[float, float]
    a: float
    b: float
    z_a: float
    z_b: float
    since: int
    n: float
    repaired: CalibrationMap


def learn_calibration(
    edges: Floats, counts: Ints, logits: Floats, local: Ints, *, pane_ms: int, scores: Floats | None = None
) -> CalibrationReference:
    """Reference from time-ordered panes: counts (P, bins, 2) of labels 0 and 1; logits (bins,), sums of logit p over
    all panes; local (P,), start of each pane in ms. Panes without labels are there too.

    Base blocks are the panes; κ takes the largest V over all their dyadic scales. scores (P, bins): Σp, where bins are
    so wide that the chart is told how scores move within them (`CalibrationMap.within`).
    """
    learned = learn_map(edges, counts.sum(axis=0), logits)
    rows, ones = counts.sum(axis=2).astype(np.float64), counts[:, :, 1].astype(np.float64)
    within, judged = (np.zeros(1), learned.kept) if scores is None else learned.within(rows, scores)
    rows, ones = rows * (judged & learned.kept), ones * (judged & learned.kept)
    total = rows.sum(axis=1)
    plain = CalibrationReference.plain(learned)
    if not total.any():
        return plain
    days, day = np.unique(local // (24 * HOUR), return_inverse=True)
    hour, g = hour_of_week(local) % 24, expit(learned.logit + within)  # (bins,), or (P, bins)
    sums, information = np.zeros((days.size, 24)), np.zeros((days.size, 24))
    np.add.at(sums, (day, hour), (ones - rows * g).sum(axis=1))
    np.add.at(information, (day, hour), (rows * learned.weight).sum(axis=1))
    weekdays = hour_of_week(days * 24 * HOUR) // 24
    profile = fit_profile(sums[..., None], information, weekdays)[:, 0]
    without = fit_without_each_day(sums[..., None], information, weekdays)
    shift = np.zeros(local.size)
    for i in range(days.size):
        shift[day == i] = mu_at(without[i], local[day == i] + pane_ms // 2)[:, 0]
    g = expit(learned.logit + within + shift[:, None])  # (P, bins)
    residual, weight = ones - rows * g, rows * g * (1.0 - g)
    level = block_moments(residual.sum(axis=1, keepdims=True), weight.sum(axis=1))
    n_bar = float((total * total).sum() / total.sum())
    deff = np.ones(1 + len(BETS))
    deff[0] = max(1.0, float(level.v.max()))
    delta, _ = _changes(learned, replace(plain, deff=deff).tolerance)
    for k in range(len(BETS)):
        if delta[:, k].any():
            squares = (weight * delta[:, k] ** 2).sum(axis=1)
            own = block_moments((residual * delta[:, k]).sum(axis=1)[:, None], squares)
            deff[1 + k] = max(1.0, float(own.v.max()))
    return CalibrationReference(map=learned, deff=deff, n_bar=max(n_bar, 1.0), profile=profile)


def build_calibration(
    references: Sequence[CalibrationReference],
    *,
    budget: float,
    share: Floats | None = None,
    struck: int = 1,
    tolerance: float | None = None,
    strict: bool = False,
    tempered: bool = True,
    capped: bool = True,
) -> Calibration:
    """Plan for one monitor per reference; the same reference many times is kept once. budget: A in panes.

    share, struck, strict, tempered, capped: as in `build_losses`. tolerance: ε in logit, in place of the learned one.
    """
    shares = mixture.checked_shares(share, monitors=len(references), budget=budget)
    if not references:
        raise ConfigurationError("calibration: needs at least one reference")
    if tolerance is not None and not tolerance >= 0.0:
        raise ConfigurationError(f"tolerance: must be >= 0, got {tolerance}")
    alike = all(one is references[0] for one in references)
    kept = references[:1] if alike else references
    width = max(one.map.rows.size for one in kept)
    epsilon = np.array([one.tolerance if tolerance is None else tolerance for one in kept])
    changes = [_changes(one.map, float(e)) for one, e in zip(kept, epsilon, strict=True)]
    delta, moved = (np.stack([_wide(pair[part], width) for pair in changes]) for part in (0, 1))
    weight = np.stack([_wide(one.map.weight, width) for one in kept])
    rows = np.stack([_wide(one.map.rows, width) for one in kept]) * weight
    squares = (rows[:, :, None] * delta**2).sum(axis=1)
    spread = np.divide(squares, rows.sum(axis=1)[:, None], out=np.zeros(squares.shape), where=squares > 0)
    fraction = np.sqrt(spread).T
    deff = np.stack([np.maximum(one.deff[0], one.deff[1:]) if tempered else np.ones(len(BETS)) for one in kept], axis=1)
    slack = 1.0 + np.divide(epsilon, fraction, out=np.zeros(fraction.shape), where=fraction > 0)
    weights = WEIGHTS[:, None] * (fraction > 0)
    logit = np.stack([_wide(one.map.logit, width) for one in kept])
    x = np.stack([_grains(_wide((one.map.logit - one.map.middle) * one.map.kept, width)) for one in kept])
    return Calibration(
        budget=budget,
        limit=budget / shares,
        cap=mixture.cap_of(budget=budget if capped else 0.0, share=shares, struck=struck, bets=len(BETS)),
        maps=tuple(one.map for one in kept),
        logit=logit,
        weight=weight,
        x=x,
        delta=delta,
        moved=moved,
        by_row=_by_row(logit, x, weight > 0, delta=delta, moved=moved),
        by_one=np.concatenate((weight[:, :, None] > 0, x[:, :, None], delta), axis=2),
        fraction=fraction,
        deff=deff,
        shared_deff=np.array([one.deff[0] if tempered else 1.0 for one in kept]),
        n_bar=np.array([one.n_bar for one in references]),
        slack=np.ones(slack.shape) if strict else slack,
        active=weights * len(BETS) / np.maximum(weights.sum(axis=0), 0.5),
        epsilon=epsilon,
    )


def temper(plan: Calibration, n: Floats) -> Floats:
    """κ (bets, M) for panes of n (M,) labels, as in `tempered`."""
    growth = np.maximum(n / plan.n_bar, 1.0)
    return np.asarray(np.maximum((1.0 + (plan.deff - 1.0) * growth) / plan.slack, 1.0))


def tick(
    plan: Calibration, charts: Mixture, *, counts: Ints, shift: Floats | None = None, pane: int
) -> tuple[Mixture, Floats]:
    """Take in one pane; the charts, and the evidence (M,) in panes, to compare with `plan.limit`.

    counts (M, bins, 2) of labels 0 and 1, zeros beyond a map's own bins. shift (M,), or (M, bins): the profile over the
    pane, and what moved within bins, in logit, by default 0. pane: its number, from 1. A pane without judged labels
    changes nothing.
    """
    rows = plan.by_row
    if shift is not None:
        moved = shift if shift.ndim > 1 else shift[:, None]
        rows = _by_row(plan.logit + moved, plan.x, plan.weight > 0, delta=plan.delta, moved=plan.moved)
    zeros, ones = counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64)
    row_sums = np.matmul((zeros + ones)[:, None], rows)[:, 0].T  # (6 + bets, M)
    one_sums = np.matmul(ones[:, None], plan.by_one)[:, 0].T  # (2 + bets, M)
    n, information = row_sums[0], row_sums[3]
    said = np.stack([one_sums[0] - row_sums[1], one_sums[1] - row_sums[2], *row_sums[3:6], n])
    kappa = temper(plan, n)
    entering = mixture.entry(
        budget=plan.budget, fraction=plan.fraction, tolerance=plan.epsilon, n=information, kappa=kappa
    )
    step = np.minimum((one_sums[2:] - row_sums[6:]) / kappa, plan.cap)
    charts = mixture.advance(charts, step=step, entering=entering, said=said[:, None], pane=pane)
    return charts, mixture.average(charts.r * plan.active)


def reset(charts: Mixture, again: Bools) -> Mixture:
    """Charts of which the monitors in `again` (M,) begin anew, as after an alarm."""
    return mixture.reset(charts, again)


def finding(plan: Calibration, charts: Mixture, *, monitor: int) -> CalibrationFinding:
    """What the strongest bet of a monitor has found; read it before `reset`."""
    bet = int(np.argmax(charts.r[:, monitor]))
    a, b = BETS[bet]
    table = monitor if len(plan.maps) > 1 else 0
    u_a, u_b, i_aa, i_ab, i_bb, n = charts.sums[:, bet, monitor].tolist()
    deff = float(plan.shared_deff[table])
    # One step of Newton, short of large changes (1.6 for a slope of 1.8); a tiny ridge where only one bin has spoken.
    matrix = np.array([[i_aa, i_ab], [i_ab, i_bb]]) + 1e-9 * np.eye(2)
    found = np.linalg.solve(matrix, np.array([u_a, u_b]))
    shift, slope = float(found[0]), max(1.0 + float(found[1]), LEAST_SLOPE)
    words = ("shifted up",) * (a > 0) + ("shifted down",) * (a < 0)
    words += ("over-confident",) * (b < 1) + ("under-confident",) * (b > 1)
    return CalibrationFinding(
        words=words,
        bet=(a, b),
        a=shift,
        b=slope,
        z_a=u_a / math.sqrt(deff * i_aa) if i_aa > 0 else 0.0,
        z_b=u_b / math.sqrt(deff * i_bb) if i_bb > 0 else 0.0,
        since=int(charts.since[bet, monitor]),
        n=n,
        repaired=repaired(plan.maps[table], a=shift, b=slope),
    )


def repaired(learned: CalibrationMap, *, a: float, b: float) -> CalibrationMap:
    """The map after a change: logit m + a + b(logit g − m).

    >>> edges = np.array([-1.0, 1.0])
    >>> known = learn_map(edges, np.array([[900, 100], [500, 500], [100, 900]]), np.array([-2197.0, 0.0, 2197.0]))
    >>> repaired(known, a=0.5, b=1.0).at(np.array([0.1, 0.5])).round(2)
    array([0.15, 0.62])
    """
    return replace(learned, logit=learned.middle + a + b * (learned.logit - learned.middle))


def _changes(learned: CalibrationMap, epsilon: float) -> tuple[Floats, Floats]:
    """δ and c by bin and bet, (bins, bets) each; δ in multiples of 2**-20 and 0 where a bin is not judged."""
    turned = (learned.logit - learned.middle)[:, None]
    a, b = np.array(BETS).T
    d = a + (b - 1.0) * turned
    c = np.clip(d, -epsilon, epsilon)
    return _grains((d - c) * learned.kept[:, None]), c


def _by_row(logit: Floats, x: Floats, judged: Bools, *, delta: Floats, moved: Floats) -> Floats:
    """What one row of a bin adds, (…, bins, 6 + bets): 1, g, x·g, w, x·w, x²·w and what each bet pays, rounded up."""
    g = expit(logit)
    w = g * (1.0 - g)
    pay = np.ceil(np.log1p(expit(logit[:, :, None] + moved) * np.expm1(delta)) / GRAIN) * GRAIN
    sums = np.stack([np.ones(g.shape), g, x * g, w, x * w, x * x * w], axis=2)
    return np.concatenate((_grains(sums), pay), axis=2) * judged[:, :, None]


def _grains(values: Floats) -> Floats:
    return np.asarray(np.round(values / GRAIN) * GRAIN)


def _wide(values: Floats, width: int) -> Floats:
    return np.concatenate((values, np.zeros((width - values.shape[0], *values.shape[1:]))))
