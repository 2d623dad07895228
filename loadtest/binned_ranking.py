"""How far AUC and average precision of the bins are from those of the raw rows? `python -m loadtest.binned_ranking`.

Every shape of scores that we could think of: spread, narrow, rare, a few different values, all in one bin, rates of
1 in 10,000, rounded, saturated; with the reference's own bins, and with those of a reference of other scores.
Of the first kind AUC must be within .002 where there are 20,000 rows and 100 of each class, average precision within
.005 where there are 1,000 of each, and elsewhere within that or a fifth (two fifths) of the interval's half width; of
the second kind the interval must hold the figure of the raw rows in 99 of 100 samples. The exit code says whether all
this is so.

With `--rows 50 200 1000 20000 1000000`: see the README.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import performance
from detectors.charts.calibration_map import expit
from detectors.outcomes import JoinedRows, OutcomeTable, tabulate_outcomes
from loadtest.interval_coverage import spec_of

Floats: TypeAlias = npt.NDArray[np.float64]
Rng: TypeAlias = np.random.Generator

#: Rows and rows of the rarer class from which the figures are promised by themselves; what is promised.
ENOUGH, OF_EACH = 20_000, {"roc_auc": 100, "average_precision": 1_000}
WITHIN = {"roc_auc": 0.002, "average_precision": 0.005}
OF_HALF = {"roc_auc": 0.2, "average_precision": 0.4}
HELD = 0.99
REFERENCE = 20_000


class Shape(NamedTuple):
    """Scores, `draw(rng, n)`, and the chance of a positive that they stand for."""

    draw: Callable[[Rng, int], Floats]
    chance: Callable[[Floats], Floats] = lambda p: p


class Found(NamedTuple):
    """One figure of one sample. few: rows of the rarer class."""

    metric: str
    shape: str
    own: bool
    n: int
    few: int
    error: float
    half: float
    held: bool


def _logit(p: Floats) -> Floats:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return np.log(p) - np.log1p(-p)


def _tilted(slope: float, shift: float) -> Callable[[Floats], Floats]:
    return lambda p: expit(slope * _logit(p) + shift)


def _sharp(p: Floats) -> Floats:
    x = _logit(p)
    return expit(3.0 * (x - np.median(x)) / (x.std() + 1e-9))


def _beta(a: float, b: float) -> Callable[[Rng, int], Floats]:
    return lambda rng, n: rng.beta(a, b, n)


def _atoms(count: int, low: float, high: float) -> Callable[[Rng, int], Floats]:
    return lambda rng, n: rng.choice(np.linspace(low, high, count), n)


def _normal(mean: float, sd: float) -> Callable[[Rng, int], Floats]:
    """Normal in logit."""
    return lambda rng, n: expit(rng.normal(mean, sd, n))


_BETAS = ((0.6, 5), (2, 5), (0.3, 8), (500, 500), (0.2, 0.2), (0.05, 0.05), (1, 1), (50, 2), (0.02, 200))
_ATOMS = ((2, 0.1, 0.9), (3, 0.2, 0.8), (5, 0.01, 0.99), (8, 0.05, 0.6), (50, 0.01, 0.99), (2, 0.51, 0.55),
          (3, 0.505, 0.55), (4, 0.501, 0.56))  # fmt: skip
SHAPES: dict[str, Shape] = {
    **{f"beta {a} {b}": Shape(_beta(a, b)) for a, b in _BETAS},
    **{f"beta {a} {b}, steep": Shape(_beta(a, b), _tilted(2.0, -0.5)) for a, b in _BETAS},
    **{f"{k} values {a} to {b}": Shape(_atoms(k, a, b)) for k, a, b in _ATOMS},
    **{f"{k} values {a} to {b}, steep": Shape(_atoms(k, a, b), _sharp) for k, a, b in _ATOMS},
    "two digits": Shape(lambda rng, n: np.round(rng.beta(2, 5, n), 2)),
    "one digit": Shape(lambda rng, n: np.round(rng.beta(2, 5, n), 1)),
    "all the same": Shape(lambda rng, n: np.full(n, 0.37)),
    "one bin": Shape(lambda rng, n: rng.uniform(0.5, 0.5621, n), lambda p: expit(100 * (p - 0.53))),
    "one bin, told apart": Shape(lambda rng, n: rng.uniform(0.5, 0.5621, n), lambda p: (p > 0.531) * 1.0),
    "one bin, rare": Shape(lambda rng, n: rng.uniform(0.5, 0.5621, n), lambda p: expit(100 * (p - 0.56) - 5)),
    "one bin, normal": Shape(
        lambda rng, n: np.clip(rng.normal(0.53, 0.005, n), 0.501, 0.562), lambda p: expit(300 * (p - 0.53))
    ),
    "one bin, at both ends": Shape(
        lambda rng, n: np.where(rng.random(n) < 0.5, 0.5005, 0.5615) + rng.normal(0, 1e-4, n),
        lambda p: np.where(p > 0.53, 0.7, 0.3),
    ),
    "1 in 10,000, normal": Shape(_normal(-12, 2)),
    "1 in 10,000, steep": Shape(_normal(-11, 1.2), lambda p: expit(2 * (_logit(p) + 11) - 10.5)),
    "1 in 10,000, exponential": Shape(lambda rng, n: np.minimum(rng.exponential(1e-4, n), 1.0)),
    "1 in 10,000, gamma": Shape(lambda rng, n: np.minimum(rng.gamma(0.3, 3e-4, n), 1.0)),
    "1 in 1,000": Shape(_normal(-7, 1)),
    "9,999 in 10,000": Shape(lambda rng, n: 1.0 - expit(rng.normal(-11, 1.5, n))),
    "zeros and ones": Shape(lambda rng, n: (rng.random(n) < 0.3) * 1.0, lambda p: 0.1 + 0.8 * p),
    "saturated": Shape(_normal(0, 15), _tilted(0.2, 0.0)),
    "many zeros": Shape(
        lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.beta(2, 5, n)), lambda p: 0.01 + 0.9 * p
    ),
}


def measured(name: str, *, rows: Sequence[int], runs: int, seed: int) -> Iterator[Found]:
    """Figures of samples of one shape, `runs` of each size up to 20,000 and one of each beyond."""
    rng, shape = np.random.default_rng([seed, list(SHAPES).index(name)]), SHAPES[name]
    for own in (True, False):
        known = shape.draw(rng, REFERENCE) if own else rng.beta(2, 5, REFERENCE)
        table = OutcomeTable(spec_of(score=_single(known)))
        for n in [size for size in rows for _ in range(runs if size <= ENOUGH else 1)]:
            score = _single(shape.draw(rng, n))
            y = rng.binomial(1, np.clip(shape.chance(score), 0.0, 1.0)).astype(np.int64)
            few = int(min(y.sum(), n - y.sum()))
            if few:
                raw = {"roc_auc": _auc(score, y), "average_precision": _average_precision(score, y)}
                counts = tabulate_outcomes(
                    table, JoinedRows.of(score=score, outcome=y), np.zeros(n, dtype=np.int64), 1
                )[0]
                for one in performance.measure(table, counts):
                    if one.name in raw:
                        assert one.value is not None
                        assert one.low is not None
                        assert one.high is not None
                        truth, held = raw[one.name], one.low <= raw[one.name] <= one.high
                        yield Found(one.name, name, own, n, few, one.value - truth, (one.high - one.low) / 2, held)


def broken(found: Sequence[Found]) -> list[Found]:
    """Figures with the reference's own bins that are further off than they may be."""
    return [one for one in found if one.own and abs(one.error) > _bar(one)]


def _bar(one: Found) -> float:
    """What is promised of a figure of one sample."""
    within = WITHIN[one.metric]
    return within if one.n >= ENOUGH and one.few >= OF_EACH[one.metric] else max(within, OF_HALF[one.metric] * one.half)


def held(found: Sequence[Found], metric: str) -> float:
    """Share of intervals with another reference's bins that hold the figure of the raw rows; 1 without any."""
    return float(np.mean([one.held for one in found if not one.own and one.metric == metric] or [True]))


def _single(scores: Floats) -> Floats:
    """As they are kept."""
    return scores.astype(np.float32).astype(np.float64)


def _auc(score: Floats, y: npt.NDArray[np.int64]) -> float:
    """Share of pairs that stand in the right order, ties by half."""
    values, place = np.unique(score, return_inverse=True)
    ones = np.bincount(place, y, values.size)
    zeros = np.bincount(place, 1 - y, values.size)
    below = np.cumsum(zeros) - zeros / 2
    return float((ones * below).sum() / (ones.sum() * zeros.sum()))


def _average_precision(score: Floats, y: npt.NDArray[np.int64]) -> float:
    """Σ (R_k − R_{k−1})·P_k over the distinct thresholds, highest first."""
    values, place = np.unique(-score, return_inverse=True)
    ones, all_of = np.bincount(place, y, values.size), np.bincount(place, minlength=values.size)
    return float((ones * np.cumsum(ones) / np.cumsum(all_of)).sum() / ones.sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[50, 200, 1_000, 20_000])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=8)
    options = parser.parse_args()
    found: list[Found] = []
    for name in SHAPES:
        found += measured(name, rows=options.rows, runs=options.runs, seed=options.seed)
    bad: list[Any] = broken(found)
    for metric, within in WITHIN.items():
        mine = [one for one in found if one.own and one.metric == metric]
        large = [one for one in mine if one.n >= ENOUGH and one.few >= OF_EACH[metric]]
        small = [one for one in mine if one.n < ENOUGH or one.few < OF_EACH[metric]]
        worst = max(large, key=lambda one: abs(one.error))
        of_half = np.array([abs(one.error) / one.half for one in small if abs(one.error) > within] or [0.0])
        print(
            f"{metric}: {len(large):,} samples of at least {ENOUGH:,} rows, {OF_EACH[metric]:,} of each class: at most "
            f"{abs(worst.error):.5f} off ({worst.shape}); {len(small):,} others: at most {of_half.max():.2f} half "
            f"widths of the interval where more than {within} off; other bins: the interval holds the raw figure in "
            f"{100 * held(found, metric):.1f} %"
        )
        bad += [] if held(found, metric) >= HELD else [metric]
    for one in bad[:20]:
        print(f"  beyond: {one}")
    sys.exit(int(bool(bad)))


if __name__ == "__main__":
    main()
