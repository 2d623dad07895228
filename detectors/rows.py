"""Rows as read from a table or a topic, before binning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Objects: TypeAlias = npt.NDArray[np.object_]

#: Time of a row that has none; a table in which no row has one is a bag of rows.
NO_TIME = -1


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows, column by column.

    ts: (n,) event time in ms, `NO_TIME` where there is none.
    columns: (n,) each. float64: numeric, NaN is missing, ±inf is non-finite. object: categorical, `str` or None.
    Integer and bool arrays are taken too; bools are the levels `false` and `true`.
    version: (n,) object, or None when the rows carry no version. segments: (n,) object of `str` or None, by column.
    proba: (n,) object, what a row says of the probability of each class, None where it says nothing; or None.
    Its score and label are among the columns.

    >>> rows = Rows(ts=np.array([0, 1, 2]), columns={"age": np.array([30.0, 41.0, np.nan])})
    >>> len(rows), rows.take(slice(1, 2)).columns["age"]
    (3, array([41.]))
    """

    ts: Ints
    columns: Mapping[str, npt.NDArray[Any]]
    version: Objects | None = None
    segments: Mapping[str, Objects] = field(default_factory=dict)
    proba: Objects | None = None

    def __len__(self) -> int:
        return int(self.ts.size)

    def take(self, index: slice | npt.NDArray[Any]) -> Rows:
        """The rows at `index`: a slice, positions or a mask."""
        return Rows(
            ts=self.ts[index],
            columns={name: column[index] for name, column in self.columns.items()},
            version=None if self.version is None else self.version[index],
            segments={name: column[index] for name, column in self.segments.items()},
            proba=None if self.proba is None else self.proba[index],
        )


def level_text(value: object) -> str | None:
    """The level that a raw value stands for; None is missing.

    >>> [level_text(x) for x in ("FR", 7, 7.0, 7.5, True, None)]
    ['FR', '7', '7', '7.5', 'true', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)


def as_levels(column: npt.NDArray[Any]) -> list[str | None]:
    """A column as levels: objects one by one, numbers and bools by their different values.

    >>> as_levels(np.array([1.0, np.nan, 2.5])), as_levels(np.array([True, False]))
    (['1', None, '2.5'], ['true', 'false'])
    """
    if column.dtype.kind == "O":
        values: list[Any] = column.tolist()
        return [value if value is None or type(value) is str else level_text(value) for value in values]
    different, place = np.unique(column, return_inverse=True)
    texts = [level_text(value) for value in different.tolist()]
    return [texts[i] for i in place.tolist()]
