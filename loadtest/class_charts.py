"""Charts of calibration by class: false alarms in 30 days, and delays? `python -m loadtest.class_charts [--classes 3]`.

Each world has two weeks of reference of its own, a hundred rows an hour whose outcomes echo the probability of every
class, and is then watched for the 30 days of the budget. In the quiet ones what a probability means does not change,
whatever else does: other classes become likely, probabilities sharper or flatter, of a model that was right and of one
that never was, with shocks common to an hour and with a daily cycle that the reference has, too. Printed are the alarms
of charts of classes (a bar of .3 a budget), and in the others the hours to the first alarm.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import outcome_scopes
from detectors.building import ReferenceBuilder
from detectors.outcome_scopes import OutcomeScope
from detectors.outcomes import JoinedRows, expected_rows, tabulate_outcomes
from detectors.references import Reference
from detectors.rows import Rows
from schemas.layouts import Layout

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

HOUR, DAY = 3_600_000, 86_400_000
START = 4 * DAY
AN_HOUR, BUDGET, REFERENCE_DAYS = 100, 720, 14
MOST = 0.3


@dataclass(frozen=True)
class World:
    """Logits of the classes are normal with sd `sharp`, the last class's mean higher by `loc`; what comes true has them
    times `slope`, the last class's less `tilt`. noise: share of rows whose class is anything at all. shock: sd of what
    an hour adds to each class; cycle: height of a day's.
    """

    sharp: float = 1.5
    loc: float = 0.0
    slope: float = 1.0
    tilt: float = 0.0
    noise: float = 0.0
    shock: float = 0.0
    cycle: float = 0.0

    def draw(self, rng: np.random.Generator, hours: int, classes: int) -> tuple[Floats, Ints]:
        """Probabilities (hours × 100, classes) and the codes of what came true."""
        n = hours * AN_HOUR
        share = _softmax(rng.normal(0.0, self.sharp, (n, classes)) + np.linspace(0.0, self.loc, classes))
        of_hour = rng.normal(0.0, self.shock, (hours, classes))
        of_hour[:, 0] += self.cycle * np.sin(2 * np.pi * np.arange(hours) / 24)
        of_hour[:, -1] -= self.tilt
        true = _softmax(np.log(share) * self.slope + np.repeat(of_hour, AN_HOUR, axis=0))
        true = (1.0 - self.noise) * true + self.noise / classes
        return share, (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


#: Before, and then.
QUIET: dict[str, tuple[World, World]] = {
    "nothing changed": (World(), World()),
    "other classes likely": (World(), World(loc=2.0)),
    "sharper": (World(), World(sharp=3.0)),
    "flatter": (World(), World(sharp=0.7)),
    # A slope would not do: what a probability means then depends on the other ones of its row.
    "never right": (World(noise=0.2), World(noise=0.2)),
    "never right, other classes likely": (World(noise=0.2), World(noise=0.2, loc=2.0)),
    "never right, sharper": (World(noise=0.2), World(noise=0.2, sharp=3.0)),
    "never right, flatter": (World(noise=0.2), World(noise=0.2, sharp=0.7)),
    "shocks of an hour": (World(shock=0.3), World(shock=0.3)),
    "a daily cycle": (World(cycle=0.4), World(cycle=0.4)),
}
CHANGED: dict[str, tuple[World, World]] = {
    "the last class rarer by .4": (World(), World(tilt=0.4)),
    "the last class rarer by .8": (World(), World(tilt=0.8)),
    "all over-confident, slope .6": (World(), World(slope=0.6)),
}


def scope_of(world: World, classes: int, *, seed: int) -> OutcomeScope:
    """Charts of a reference of two weeks."""
    reference = _reference(world, classes, seed=seed)
    layout = Layout(
        model="m", from_ms=0, reference=reference.id, monitored=("score", "label"), monitors=2,
        horizon_ms=7 * DAY, maturity_ms=DAY,
    )  # fmt: skip
    found = outcome_scopes.build_outcome_scope(reference, layout)
    assert found is not None
    return found


def alarms(scope: OutcomeScope, world: World, *, hours: int, seed: int) -> list[tuple[int, str]]:
    """(hour, name) of every alarm of a chart of classes."""
    classes = len(scope.table.spec.classes)
    share, outcome = world.draw(np.random.default_rng([seed, 1]), hours, classes)
    state, found = scope.start(), []
    for hour in range(hours):
        here = slice(hour * AN_HOUR, (hour + 1) * AN_HOUR)
        rows = JoinedRows.of(
            score=share[here].max(axis=1), label=share[here].argmax(axis=1), outcome=outcome[here], shares=share[here]
        )
        counts = tabulate_outcomes(scope.table, rows, np.zeros(AN_HOUR, dtype=np.int64), 1)
        counts += expected_rows(scope.table, np.array([AN_HOUR]))
        start = START + (REFERENCE_DAYS * 24 + hour) * HOUR
        state, said = outcome_scopes.update(scope, state, start=start, local=start, counts=counts)
        found += [(hour, one.evidence.feature) for one in said.alarms if " of " in one.evidence.feature]
    return found


def _reference(world: World, classes: int, *, seed: int) -> Reference:
    hours = REFERENCE_DAYS * 24
    share, outcome = world.draw(np.random.default_rng([seed, 0]), hours, classes)
    names = [f"c{i:02d}" for i in range(classes)]
    said = np.array([dict(zip(names, row, strict=True)) for row in share.tolist()], dtype=object)
    labels: Any = np.array(names, dtype=object)
    rows = Rows(
        ts=START + np.arange(len(share)) * (hours * HOUR // len(share)),
        columns={"score": share.max(axis=1), "label": labels[share.argmax(axis=1)], "outcome": labels[outcome]},
        proba=said,
    )
    builder = ReferenceBuilder("m")
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def main() -> None:
    """Measure and print; the exit code says whether every quiet world keeps the bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--budgets", type=int, default=10)
    parser.add_argument("--seed", type=int, default=8)
    options = parser.parse_args()
    loud = False
    for name, (before, after) in QUIET.items():
        count = 0
        for run in range(options.budgets):
            scope = scope_of(before, options.classes, seed=options.seed + run)
            count += len(alarms(scope, after, hours=BUDGET, seed=options.seed + run))
        loud |= count > MOST * options.budgets
        print(f"{name}: {count} false alarms in {options.budgets} budgets", flush=True)
    for name, (before, after) in CHANGED.items():
        delays = []
        for run in range(options.budgets):
            scope = scope_of(before, options.classes, seed=options.seed + run)
            found = alarms(scope, after, hours=BUDGET // 4, seed=options.seed + run)
            delays.append(found[0][0] + 1 if found else BUDGET)
        print(f"{name}: {statistics.median(delays):.0f} hours of {AN_HOUR} rows (median of {len(delays)})", flush=True)
    sys.exit(int(loud))


if __name__ == "__main__":
    main()
