"""Rows that carry a probability per class, in columns or as JSON: their score and label, as the stream takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.core.columns import from_proba
from streamer.core.outputs import ROUNDING
from streamer.table_columns import Column
from streamer.table_tally import Tally

_decoder = msgspec.json.Decoder(dict[str, float])


def looks_like_objects(texts: Column) -> bool:
    """Whether a column of texts holds JSON objects: most of those that are something do. The others are refused later.

    >>> looks_like_objects(np.array(['{"a": 1.0}', None], dtype=object)), looks_like_objects(np.array(["0.2"]))
    (True, False)
    """
    there = [str(text).lstrip().startswith("{") for text in texts.tolist() if text is not None]
    return 2 * sum(there) > len(there)


def parsed(texts: Column, name: str, *, first: int, tally: Tally) -> tuple[Column, dict[str, Column]]:
    """Texts of JSON objects: as mappings (n,), a text that is none as it stands; and by class, NaN where not named.

    first: the row of the first of them. What is no object of numbers is counted in `tally`, and refused by the stages.

    >>> rows, by_class = parsed(np.array(['{"no": 0.7, "yes": 0.3}', "{"]), "proba", first=0, tally=Tally())
    >>> rows.tolist(), by_class["yes"]
    ([{'no': 0.7, 'yes': 0.3}, '{'], array([0.3, nan]))
    """
    rows = np.full(len(texts), None, dtype=object)
    by_class: dict[str, Column] = {}
    for at, text in enumerate(texts.tolist()):
        if text is None:
            continue
        try:
            rows[at] = _decoder.decode(str(text))
        except msgspec.DecodeError:
            rows[at] = str(text)
            tally.word(name, 1, row=first + at, value=str(text)[:64])
            continue
        for class_name, share in rows[at].items():
            if class_name not in by_class:
                by_class[class_name] = np.full(len(texts), np.nan)
            by_class[class_name][at] = share
    return rows, by_class


def mappings_of(shares: Mapping[str, Column]) -> Column:
    """Columns by class as mappings (n,), None where a row names none, or has something that is no number.

    >>> mappings_of({"no": np.array([0.7, np.nan]), "yes": np.array([0.3, np.nan])}).tolist()
    [{'no': 0.7, 'yes': 0.3}, None]
    """
    odd: dict[int, Any] = {}
    names = sorted(shares)
    columns = [_numbers(shares[name], odd).tolist() for name in names]
    found = np.full(len(columns[0]), None, dtype=object)
    for at, row in enumerate(zip(*columns, strict=True)):
        if at not in odd:
            named = {name: share for name, share in zip(names, row, strict=True) if not math.isnan(share)}
            found[at] = named or None
    return found


def without_unfit(shares: Mapping[str, Column], name: str, *, first: int, tally: Tally) -> dict[str, Column]:
    """Probabilities without those of rows that the stream refuses, which are counted: outside [0, 1], or no sum of 1.

    >>> kept = without_unfit({"a": np.array([0.4, 1.5]), "b": np.array([0.6, -0.5])}, "proba", first=0, tally=Tally())
    >>> kept["a"], kept["b"]
    (array([0.4, nan]), array([0.6, nan]))
    """
    odd: dict[int, Any] = {}
    numbers = np.stack([_numbers(column, odd) for column in shares.values()])  # (classes, n)
    there = ~np.isnan(numbers)
    outside = (there & ~((numbers >= 0.0) & (numbers <= 1.0))).any(axis=0)
    unfit = there.any(axis=0) & (outside | (np.abs(np.nansum(numbers, axis=0) - 1.0) > ROUNDING))
    if not unfit.any():
        return dict(shares)
    row = int(np.argmax(unfit))
    named = {key: share for key, share in zip(shares, numbers[:, row].tolist(), strict=True) if not math.isnan(share)}
    tally.word(name, int(unfit.sum()), row=first + row, value=str(named)[:64])
    return {key: np.where(unfit, np.nan, column) for key, column in zip(shares, numbers, strict=True)}


def without_own(proba: Column, score: Column | None) -> Column:
    """Mappings without those of two classes where the row has a score of its own, which comes first.

    >>> two = np.array([{"no": 0.7, "yes": 0.3}, {"no": 0.7, "yes": 0.3}])
    >>> without_own(two, np.array([0.9, np.nan])).tolist()
    [None, {'no': 0.7, 'yes': 0.3}]
    """
    if score is None:
        return proba
    pairs = zip(proba.tolist(), score.tolist(), strict=True)
    own = [isinstance(one, dict) and len(one) == 2 and not _nothing(said) for one, said in pairs]
    kept = proba.copy()
    kept[np.array(own, dtype=bool)] = None
    return kept


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
