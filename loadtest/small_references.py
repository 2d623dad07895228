"""Does the theory limit hold its budget with few labels in the reference? `python -m loadtest.small_references`.

For references of 2,000, 5,000 and 20,000 labels: charts of errors and of calibration as shipped, each with a reference
of its own drawn from the truth, over one false-alarm budget of panes of 50 labels in which nothing changes. Printed are
the alarms per budget with their 95 % Poisson interval; the promise is at most 1, the exit code says whether it is kept.

400 budgets a row: errors at most .003 (upper end .014); calibration .010 to .043 (upper end .068), the most with 2,000
labels of which 5 % are positive.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.charts import calibration, losses
from detectors.charts.calibration_map import calibration_edges, expit, learn_map, logit_of
from detectors.charts.losses import UNIT, WORSE, LossReference
from loadtest.detect.run_length import poisson

SIZES = (2_000, 5_000, 20_000)
RATES = (0.03, 0.1, 0.29)
#: A month of panes of an hour, and labels in each.
BUDGET, LABELS = 720, 50
SHAPES = ((2.0, 5.0), (1.0, 20.0))


class Held(NamedTuple):
    """Alarms of `budgets` charts, one budget each."""

    detector: str
    labels: int
    stream: str
    alarms: int
    budgets: int

    @property
    def rate(self) -> tuple[float, float, float]:
        """Alarms per budget with the ends of its interval."""
        low, high = poisson(self.alarms)
        return self.alarms / self.budgets, low / self.budgets, high / self.budgets


def errors(labels: int, rate: float, *, budgets: int, seed: int) -> Held:
    """Errors at a constant rate."""
    rng = np.random.default_rng([seed, labels, int(1000 * rate)])
    known = [LossReference.plain(labels, int(total)) for total in rng.binomial(labels, rate, budgets)]
    plan = losses.build_losses(known, budget=float(BUDGET), share=np.ones(budgets))
    charts, alarms = plan.start(), 0
    for pane in range(1, 1 + BUDGET):
        sums = rng.binomial(LABELS, rate, budgets) * UNIT
        charts, said = losses.tick(plan, charts, n=np.full(budgets, LABELS), sums=sums, pane=pane)
        over = said.value[WORSE] >= plan.limit
        alarms += int(over.sum())
        charts = losses.reset(charts, np.stack([over, over]))
    return Held("error", labels, f"rate {rate:g}", alarms, budgets)


def scores(labels: int, shape: tuple[float, float], *, budgets: int, seed: int) -> Held:
    """Scores that mean what they say, p ~ Beta(shape)."""
    rng = np.random.default_rng([seed, labels, int(shape[1])])
    edges = calibration_edges(rng.beta(*shape, 100_000))
    width = edges.size + 1

    def drawn(rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        p = rng.beta(*shape, rows)
        x = logit_of(p)
        place = np.searchsorted(edges, x, side="left")
        y = (rng.random(rows) < expit(x)).astype(np.int64)
        counts = np.bincount(2 * place + y, minlength=2 * width).reshape(width, 2)
        return counts, np.bincount(place, x, width)

    known = [calibration.CalibrationReference.plain(learn_map(edges, *drawn(labels))) for _ in range(budgets)]
    plan = calibration.build_calibration(known, budget=float(BUDGET), share=np.ones(budgets))
    charts, alarms = plan.start(), 0
    for pane in range(1, 1 + BUDGET):
        x = logit_of(rng.beta(*shape, budgets * LABELS))
        y = (rng.random(x.size) < expit(x)).astype(np.int64)
        cell = np.repeat(np.arange(budgets), LABELS) * width + np.searchsorted(edges, x, side="left")
        counts = np.bincount(2 * cell + y, minlength=2 * budgets * width).reshape(budgets, width, 2)
        charts, value = calibration.tick(plan, charts, counts=counts, pane=pane)
        over = value >= plan.limit
        alarms += int(over.sum())
        charts = calibration.reset(charts, over)
    return Held("calibration", labels, f"Beta{shape}", alarms, budgets)


def line(held: Held) -> str:
    """One row of the table."""
    rate, low, high = held.rate
    says = "" if high <= 1.0 else "  <---"
    return (
        f"{held.detector:12} {held.labels:>7,} labels  {held.stream:16} {held.alarms:>4} in {held.budgets} budgets: "
        f"{rate:.3f} ({low:.3f} to {high:.3f}){says}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--budgets", type=int, default=400)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    worst = 0.0
    for size in SIZES:
        rows = [errors(size, rate, budgets=options.budgets, seed=options.seed) for rate in RATES]
        rows += [scores(size, shape, budgets=options.budgets, seed=options.seed) for shape in SHAPES]
        for held in rows:
            print(line(held), flush=True)
            worst = max(worst, held.rate[2])
    sys.exit(int(worst > 1.0))


if __name__ == "__main__":
    main()
