"""What the charts of calibration by class are fed, and what they compare with: each class of several against the rest.

Their rows are those that carry every class's probability: outcomes that echo their prediction, and the rows of tables.
The bins are wide, for a table of a hundred classes stands in every cell, so a chart is told what the mean score of each
bin was, and takes the frequency that the map has there, or leaves the bin out (`CalibrationMap.within`): a shift of the
scores alone, with their meaning kept, must not look like a change of it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts.calibration import CalibrationReference, learn_calibration
from detectors.charts.calibration_map import learn_map
from detectors.class_calibration import BITS, WIDTH, class_edges
from detectors.outcomes import OutcomeTable

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Information that a class needs for a chart: its tolerance in logit is then .4 at most.
LEAST_INFORMATION = 100.0


def class_labels(table: OutcomeTable, counts: Ints) -> tuple[Ints, Floats]:
    """Of counts (…, width): rows of outcome 0 and 1 by class and bin (…, classes, bins, 2), and Σp (…, classes, bins).

    >>> from detectors.outcomes import JoinedRows, OutcomeSpec, tabulate_outcomes
    >>> table = OutcomeTable(OutcomeSpec(kind="multiclass", classes=("a", "b", "c")))
    >>> rows = JoinedRows.of(
    ...     score=np.array([0.5]), label=np.array([0]), outcome=np.array([2]), shares=np.array([[0.5, 0.25, 0.25]])
    ... )
    >>> labels, scores = class_labels(table, tabulate_outcomes(table, rows, np.zeros(1, np.int64), 1)[0])
    >>> labels.sum(axis=1).tolist(), scores.sum(axis=1).tolist()
    ([[1, 0], [1, 0], [0, 1]], [0.5, 0.25, 0.25])
    """
    sums = counts[..., table.by_class].reshape(*counts.shape[:-1], table.classes, -1, WIDTH)
    labels = np.stack([sums[..., 0] - sums[..., 1], sums[..., 1]], axis=-1)
    return labels, np.ldexp(sums[..., 2].astype(np.float64), -BITS)


def learn_classes(
    table: OutcomeTable, labels: Ints, scores: Floats, local: Ints | None, *, block_ms: int
) -> dict[str, CalibrationReference]:
    """References of the classes that have labels enough, by name, in the order of the classes.

    labels (blocks, classes, bins, 2) and scores (blocks, classes, bins), as in `class_labels`; local: start of each
    block in ms, None for a bag of rows.
    """
    p = class_edges(table.classes)
    edges, found = np.log(p) - np.log1p(-p), {}
    for code, name in enumerate(table.spec.classes):
        mine, sums = labels[:, code], scores[:, code]
        rows = mine.sum(axis=(0, 2)).astype(np.float64)
        mean = np.divide(sums.sum(axis=0), rows, out=np.full(rows.shape, 0.5), where=rows > 0)
        mean = np.clip(mean, 1e-12, 1.0 - 1e-12)
        logits = rows * (np.log(mean) - np.log1p(-mean))
        known = learn_map(edges, mine.sum(axis=0), logits)
        if float((known.rows * known.weight).sum()) < LEAST_INFORMATION:
            continue
        found[name] = (
            CalibrationReference.plain(known)
            if local is None
            else learn_calibration(edges, mine, logits, local, pane_ms=block_ms, scores=sums)
        )
    return found
