"""Calibration of each class of a multiclass model, from counts: is the probability of a class its frequency?

Two questions, two tables of the same shape. `predicted`: among rows for which the model said a class, is the
probability that it gave the frequency of its being right? Every row with a label answers that, joined by id or not.
`one_vs_rest`: over all rows, is the probability of a class the frequency of the class? That needs every class's
probability, which is too much to keep for rows that wait; an outcome that echoes its prediction brings them along.
(A correction is an echo too, and brings along what has to be taken out.)

Gupta, Ramdas 2022, "Top-label calibration and multiclass-to-binary reductions".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.calibration_map import expit
from detectors.statistics import calibration_error as calibrated
from detectors.statistics.intervals import wilson
from schemas.verdicts import ClassCalibration, Metric

if TYPE_CHECKING:
    from detectors.outcomes import OutcomeTable

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Columns of a bin: n, Σy, Σp; Σp is in units of 2**-30.
WIDTH, BITS = 3, 30
#: Up to so many classes the bins are a logit wide, beyond two: a table of a hundred classes is kept for every cell.
FINE_UP_TO = 16
_FINE, _COARSE = np.arange(-6.0, 7.0), np.arange(-5.0, 6.0, 2.0)


def class_edges(classes: int) -> Floats:
    """Edges of the bins (a, b] of a probability, for a model of so many classes.

    >>> class_edges(3).size, class_edges(100).round(2).tolist()
    (13, [0.01, 0.05, 0.27, 0.73, 0.95, 0.99])
    """
    return expit(_FINE if classes <= FINE_UP_TO else _COARSE)


def section_size(classes: int) -> int:
    """Columns of one such table."""
    return classes * (class_edges(classes).size + 1) * WIDTH


def add_predicted(
    table: OutcomeTable, flat: Ints, at: Ints, *, score: Floats, label: Ints, right: Ints, sign: Ints
) -> None:
    """Count rows by the class that was said; label (n,) codes of classes, right (n,) 0 or 1, at (n,) their tables."""
    _add(table.by_label.start, table.classes, flat, at, of=label, p=score, y=right, sign=sign)


def add_one_vs_rest(table: OutcomeTable, flat: Ints, at: Ints, *, shares: Floats, outcome: Ints, sign: Ints) -> None:
    """Count rows once for every class; shares (n, classes or more) probabilities, rows of NaN have none."""
    here = np.flatnonzero(~np.isnan(shares[:, 0]) & (outcome >= 0))
    if not here.size:
        return
    k = table.classes
    of = np.tile(np.arange(k), here.size)
    y = (of == np.repeat(outcome[here], k)).astype(np.int64)
    p = shares[here, :k].ravel()
    _add(table.by_class.start, k, flat, np.repeat(at[here], k), of=of, p=p, y=y, sign=np.repeat(sign[here], k))


def class_calibration(table: OutcomeTable, counts: Ints) -> list[ClassCalibration]:
    """Calibration of the classes that have rows, `predicted` first, each in the order of the classes; counts (width,).

    >>> from detectors.outcomes import JoinedRows, OutcomeSpec, OutcomeTable, tabulate_outcomes
    >>> table = OutcomeTable(OutcomeSpec(kind="multiclass", classes=("a", "b", "c")))
    >>> rows = JoinedRows.of(score=np.array([0.8, 0.8, 0.6]), label=np.array([0, 0, 2]), outcome=np.array([0, 1, 2]))
    >>> counts = tabulate_outcomes(table, rows, np.zeros(3, np.int64), 1)[0]
    >>> [(one.of, one.kind, one.n, one.score, one.frequency.value) for one in class_calibration(table, counts)]
    [('a', 'predicted', 2, 0.800000012, 0.5), ('c', 'predicted', 1, 0.600000024, 1.0)]
    """
    kinds: tuple[tuple[Literal["predicted", "one_vs_rest"], slice], ...] = (
        ("predicted", table.by_label),
        ("one_vs_rest", table.by_class),
    )
    found = []
    for kind, place in kinds:
        if place.stop == place.start:
            continue
        sums = counts[place].reshape(table.classes, -1, WIDTH).astype(np.float64)
        sums[..., 2] = np.ldexp(sums[..., 2], -BITS)
        for name, of_class in zip(table.spec.classes, sums, strict=True):
            if of_class[:, 0].sum() > 0:
                found.append(_calibration(name, kind, of_class))
    return found


def _add(start: int, classes: int, flat: Ints, at: Ints, *, of: Ints, p: Floats, y: Ints, sign: Ints) -> None:
    edges = class_edges(classes)
    place = at + start + WIDTH * (of * (edges.size + 1) + np.searchsorted(edges, p, side="left"))
    fixed = np.rint(np.ldexp(np.clip(p, 0.0, 1.0), BITS)).astype(np.int64)
    for i, term in enumerate((sign, sign * y, sign * fixed)):
        np.add.at(flat, place + i, term)


def _calibration(name: str, kind: Literal["predicted", "one_vs_rest"], sums: Floats) -> ClassCalibration:
    sums = sums[sums[:, 0] > 0]
    n, y, p = sums.T
    # Σp² of a bin is not kept: within a logit or two p hardly varies, and the noise is at most a little overstated.
    error = calibrated.calibration_error(np.column_stack([sums, p * p / n]))
    slope, intercept = calibrated.line(sums)
    total, hits = int(n.sum()), float(y.sum())
    return ClassCalibration(
        of=name,
        kind=kind,
        n=total,
        score=_nine(float(p.sum()) / total) or 0.0,
        frequency=_metric("frequency", total, hits / total, *wilson(hits, total), "wilson"),
        ece=_nine(error.raw) or 0.0,
        ece_noise=_nine(error.noise) or 0.0,
        slope=_metric("slope", total, *slope, "wald"),
        intercept=_metric("intercept", total, *intercept, "wald"),
    )


def _metric(name: str, n: int, value: float, low: float, high: float, interval: str) -> Metric:  # noqa: PLR0917 - a row of a table
    return Metric(name=name, n=n, value=_nine(value), low=_nine(low), high=_nine(high), interval=interval)


def _nine(value: float) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None
