"""Score and label of rows that carry a probability per class: as the stream takes them from `proba`, in columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.core.columns import from_proba
from streamer.table_columns import Column


def outputs_of(shares: Mapping[str, Column], *, score: Column | None, label: Column | None) -> dict[str, Column]:
    """`score` and `label` (n,) of probabilities by class; a row's own score or label comes first.

    shares: (n,) of each class; NaN where a row does not name the class. A probability that is no number, or not finite,
    becomes the score, which the stages refuse as they refuse it in a record.

    >>> outputs_of({"no": np.array([0.7, 0.2]), "yes": np.array([0.3, 0.8])}, score=None, label=None)
    {'score': array([0.3, 0.8]), 'label': array(['no', 'yes'], dtype=object)}
    """
    classes = sorted(shares)
    rows = len(shares[classes[0]])
    scores: Column = np.full(rows, np.nan) if score is None else score.copy()
    labels: Column = np.full(rows, None, dtype=object) if label is None else label.copy()
    unsaid_score = np.array([_nothing(value) for value in scores.tolist()], dtype=bool)
    unsaid_label = np.array([value is None for value in labels.tolist()], dtype=bool)
    numbers, odd = np.full((rows, len(classes)), np.nan), dict[int, Any]()
    for k, name in enumerate(classes):
        numbers[:, k] = _numbers(shares[name], odd)
    if any(isinstance(value, str) for value in odd.values()):
        scores = scores.astype(object)
    patterns, of = np.unique(~np.isnan(numbers), axis=0, return_inverse=True)
    for number, there in enumerate(patterns):
        at = np.flatnonzero(of.reshape(-1) == number)
        if not there.any():
            continue
        names = [name for name, present in zip(classes, there.tolist(), strict=True) if present]
        some = numbers[np.ix_(at, there)]
        best = some.argmax(axis=1)
        found = some.max(axis=1) if len(names) != 2 else some[:, _positive(names)]
        says_score, says_label = unsaid_score[at], unsaid_label[at]
        scores[at[says_score]] = found[says_score]
        labels[at[says_label]] = np.array([*names, None], dtype=object)[best[says_label]]
    for row, value in odd.items():
        scores[row] = value
    return {"score": scores, "label": labels}


def _positive(names: list[str]) -> int:
    """Which of two classes the score is of."""
    return 0 if from_proba(dict(zip(names, (1.0, 0.0), strict=True)))[0] else 1


def _nothing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _numbers(column: Column, odd: dict[int, Any]) -> npt.NDArray[np.float64]:
    """A class's column as numbers; the rows whose value is none go to `odd`."""
    if column.dtype.kind == "f":
        odd.update((row, column[row]) for row in np.flatnonzero(np.isinf(column)).tolist())
        return column
    numbers = np.full(len(column), np.nan)
    for row, value in enumerate(column.tolist()):
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[row] = value
        elif value is not None:
            odd[row] = str(value)
    return numbers
