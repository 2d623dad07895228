"""The probabilities of a prediction's classes, from mappings to arrays: the largest, and that of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
#: Probabilities by class, row by row; None where a row has none.
Shares: TypeAlias = Sequence[Mapping[str, float] | None]

#: How many of the most probable classes are looked at.
RANKS = 5


def ranks_of(proba: Shares, codes: Mapping[str, int]) -> Ints | None:
    """Codes of the five most probable classes of each, (n, 5), −1 where there is none; None without any.

    Among equals the first in the order of the names; a class that is not known counts as the place that it takes.

    >>> ranks_of([{"a": 0.2, "b": 0.7, "z": 0.1}, None], {"a": 0, "b": 1}).tolist()
    [[1, 0, 2, -1, -1], [-1, -1, -1, -1, -1]]
    """
    if not any(proba):
        return None
    found = np.full((len(proba), RANKS), -1, dtype=np.int64)
    for at, one in enumerate(proba):
        if one:
            best = sorted(one, key=lambda name: (-one[name], name))[:RANKS]
            found[at, : len(best)] = [codes.get(name, len(codes)) for name in best]
    return found


def shares_of(proba: Shares, classes: Sequence[str]) -> Floats:
    """Probability of each class, (n, classes); 0 where it is not named, rows of NaN where there is none.

    >>> shares_of([{"a": 0.25, "b": 0.75}, None], ["a", "b", "c"]).tolist()
    [[0.25, 0.75, 0.0], [nan, nan, nan]]
    """
    nothing = [np.nan] * len(classes)
    return np.array([[one.get(name, 0.0) for name in classes] if one else nothing for one in proba], dtype=np.float64)


def share_of_two(proba: Shares, name: str) -> Floats:
    """Probability of one of two classes, (n,); NaN where a row does not name exactly two.

    >>> share_of_two([{"no": 0.75, "yes": 0.25}, {"yes": 1.0}, None], "yes").tolist()
    [0.25, nan, nan]
    """
    found = [one.get(name, np.nan) if one and len(one) == 2 else np.nan for one in proba]
    return np.array(found, dtype=np.float64)


def widened(shares: Floats, columns: int) -> Floats:
    """Shares with further columns of NaN: layouts may have different numbers of classes.

    >>> widened(np.array([[0.5, 0.5]]), 3).tolist()
    [[0.5, 0.5, nan]]
    """
    return np.pad(shares, ((0, 0), (0, columns - shares.shape[1])), constant_values=np.nan)
