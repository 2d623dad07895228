"""Do the 95 % intervals of reports hold the truth? `python -m loadtest.interval_coverage [--rows 400] [--runs 4000]`.

With `--corners`, in place of one population of each kind many: rates from 1 in 1,000 to all but those, scores that
hardly differ and scores that are nearly sure, tables of classes without an error, errors of heavy tails; samples of 20,
50, 200 and 1,000 rows. Printed are the metrics that are covered in less than 92 % of samples, of those that nearly all
samples have (what only samples with a positive have is another question).

Samples are drawn from a population of a million rows, whose own figures are the truth; printed is the share of samples
whose interval holds it, by metric. What is within 92 to 98 % passes; the exit code says whether all do. With 2,000
samples of 400 rows: 92.2 % (the parts of Brier's score) to 97.5 % (its uncertainty).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import performance
from detectors.bins import FeatureSpec
from detectors.charts.calibration_map import expit, logit_of
from detectors.outcomes import JoinedRows, OutcomeSpec, OutcomeTable, outcome_spec, tabulate_outcomes
from detectors.references import Reference
from detectors.survey import quantile_edges
from schemas.layouts import Layout
from schemas.verdicts import Metric

#: What an interval must cover, as a share of the samples.
LEAST, MOST = 0.92, 0.98
POPULATION = 1_000_000

Measure: TypeAlias = Callable[[npt.NDArray[np.int64] | slice], list[Metric]]


def binary(rng: np.random.Generator) -> Measure:
    """Scores ~ Beta(2, 3), over-confident and shifted: every metric of two classes, and the calibration line."""
    score = rng.beta(2, 3, POPULATION)
    truth = rng.binomial(1, expit(0.3 + 0.8 * logit_of(score)))
    table = OutcomeTable(spec_of(score=score[:20_000]))

    def measure(take: npt.NDArray[np.int64] | slice) -> list[Metric]:
        counts = _counted(table, JoinedRows.of(score=score[take], outcome=truth[take]))
        line = performance.calibration(table, counts)
        assert line is not None
        return [*performance.measure(table, counts), line.slope, line.intercept]

    return measure


def regression(rng: np.random.Generator) -> Measure:
    """Errors that grow with the value."""
    truth = rng.normal(0, 2, POPULATION)
    value = truth * 0.8 + rng.normal(0.1, 1 + 0.2 * np.abs(truth))
    table = OutcomeTable(spec_of(value=value[:20_000]))
    return lambda take: performance.measure(table, _counted(table, JoinedRows.of(value=value[take], truth=truth[take])))


def multiclass(rng: np.random.Generator) -> Measure:
    """Five classes, 40 to 5 % of the rows each; of single classes their recall."""
    truth = rng.choice(5, POPULATION, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    label = np.where(rng.random(POPULATION) < 0.7, truth, rng.integers(0, 5, POPULATION)).astype(np.int64)
    table = OutcomeTable(spec_of(labels=tuple("abcde")))
    return lambda take: performance.measure(
        table, _counted(table, JoinedRows.of(label=label[take], outcome=truth[take]))
    )


def rated(rate: float, sharp: float) -> Callable[[np.random.Generator], Measure]:
    """Scores normal in logit, sd `sharp` about a rate; a little too extreme and too low."""

    def binary_of(rng: np.random.Generator) -> Measure:
        x = rng.normal(math.log(rate / (1.0 - rate)), sharp, POPULATION)
        score, truth = expit(x).astype(np.float32).astype(np.float64), rng.binomial(1, expit(0.2 + 0.9 * x))
        table = OutcomeTable(spec_of(score=score[:20_000]))

        def measure(take: npt.NDArray[np.int64] | slice) -> list[Metric]:
            counts = _counted(table, JoinedRows.of(score=score[take], outcome=truth[take]))
            line = performance.calibration(table, counts)
            assert line is not None
            return [*performance.measure(table, counts), line.slope, line.intercept, line.ece_debiased]

        return measure

    return binary_of


def shared(accuracy: float, shares: Sequence[float]) -> Callable[[np.random.Generator], Measure]:
    """Classes of these shares, said rightly so often, else anyhow."""

    def classes_of(rng: np.random.Generator) -> Measure:
        k = len(shares)
        truth = rng.choice(k, POPULATION, p=shares)
        label = np.where(rng.random(POPULATION) < accuracy, truth, rng.integers(0, k, POPULATION)).astype(np.int64)
        table = OutcomeTable(spec_of(labels=tuple("abcde"[:k])))
        return lambda take: performance.measure(
            table, _counted(table, JoinedRows.of(label=label[take], outcome=truth[take]))
        )

    return classes_of


def erring(draw: Callable[[np.random.Generator, int], npt.NDArray[np.float64]]) -> Callable[..., Measure]:
    """Predictions of a regression, four fifths of the truth and an error."""

    def values_of(rng: np.random.Generator) -> Measure:
        truth = rng.normal(0, 2, POPULATION)
        value = 0.8 * truth + draw(rng, POPULATION)
        table = OutcomeTable(spec_of(value=value[:20_000]))
        return lambda take: performance.measure(
            table, _counted(table, JoinedRows.of(value=value[take], truth=truth[take]))
        )

    return values_of


CORNERS: dict[str, Callable[[np.random.Generator], Measure]] = {
    **{f"rate {r:g}, sd {s:g}": rated(r, s) for r in (0.001, 0.01, 0.1, 0.5, 0.97, 0.999) for s in (0.5, 2.0, 6.0)},
    **{
        f"right {a:g}, {len(p)} classes, the first {p[0]:g}": shared(a, p)
        for a in (0.3, 0.7, 0.95, 0.995, 1.0)
        for p in ((0.4, 0.3, 0.15, 0.1, 0.05), (0.34, 0.33, 0.33), (0.9, 0.09, 0.01))
    },
    "errors normal": erring(lambda rng, n: rng.normal(0.1, 1, n)),
    "errors lognormal": erring(lambda rng, n: rng.lognormal(0, 1, n) - 1.6),
    "errors mostly 0": erring(lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.normal(0, 3, n))),
}
#: A metric is judged where so many samples have it.
NEARLY_ALWAYS = 0.95

KINDS: dict[str, Callable[[np.random.Generator], Measure]] = {
    "binary": binary,
    "multiclass": multiclass,
    "regression": regression,
}


def coverage(kind: str, *, rows: int, runs: int, seed: int = 8) -> dict[str, float]:
    """Share of `runs` samples of `rows` rows whose interval holds the truth, by metric."""
    rng = np.random.default_rng(seed)
    measure = (KINDS | CORNERS)[kind](rng)
    truths = {_name(one): one.value for one in measure(slice(None)) if one.value is not None}
    inside, seen = dict.fromkeys(truths, 0), dict.fromkeys(truths, 0)
    for _ in range(runs):
        for one in measure(rng.integers(0, POPULATION, rows)):
            if one.value is not None and _name(one) in truths:
                seen[_name(one)] += 1
                inside[_name(one)] += _holds(one, truths[_name(one)])
    return {name: inside[name] / seen[name] for name in truths if seen[name] > NEARLY_ALWAYS * runs}


def words(kind: str, covered: dict[str, float], *, rows: int, runs: int) -> str:
    """A table of it."""
    lines = [f"{kind}: {runs:,} samples of {rows:,} rows"]
    for name, share in covered.items():
        lines.append(f"  {name:24}{100 * share:6.1f} %{'' if LEAST <= share <= MOST else '  <---'}")
    return "\n".join(lines)


def _holds(one: Metric, truth: float) -> bool:
    low = -np.inf if one.low is None else one.low
    return bool(low <= truth <= (np.inf if one.high is None else one.high))


def _name(one: Metric) -> str:
    return f"{one.name} {one.of}".rstrip()


def _counted(table: OutcomeTable, rows: JoinedRows) -> npt.NDArray[np.int64]:
    return tabulate_outcomes(table, rows, np.zeros(len(rows), np.int64), 1)[0]


def spec_of(*, labels: tuple[str, ...] = (), **numbers: npt.NDArray[np.float64]) -> OutcomeSpec:
    """How outcomes are counted by a reference with these labels and columns."""
    specs: list[Any] = []
    for name, column in numbers.items():
        low, high = float(column.min()), float(column.max())
        edges = quantile_edges(np.sort(column), high=high)
        specs.append(FeatureSpec(name=name, kind="numeric", edges=edges, low=low, high=high))
    if labels:
        specs.append(FeatureSpec(name="label", kind="categorical", levels=labels))
    reference = Reference(model="m", specs=tuple(specs), views={})
    found = outcome_spec(reference, Layout(model="m", from_ms=0, reference="r"))
    assert found is not None
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--runs", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--corners", action="store_true")
    options = parser.parse_args()
    if options.corners:
        for kind in CORNERS:
            for rows in (20, 50, 200, 1_000):
                covered = coverage(kind, rows=rows, runs=min(options.runs, 400), seed=options.seed)
                short = ", ".join(f"{name} {100 * share:.0f} %" for name, share in covered.items() if share < LEAST)
                print(f"{kind}, {rows:,} rows: {short or f'all {len(covered)} metrics'}", flush=True)
        return
    bad = False
    for kind in KINDS:
        covered = coverage(kind, rows=options.rows, runs=options.runs, seed=options.seed)
        print(words(kind, covered, rows=options.rows, runs=options.runs), flush=True)
        bad = bad or any(not LEAST <= share <= MOST for share in covered.values())
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
