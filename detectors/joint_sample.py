"""The same rows of several columns: what a connection is learned from. Bounded memory, whatever the chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Hashes: TypeAlias = npt.NDArray[np.uint64]

#: Rows that are kept; columns beyond so many are not, and are counted in `seen`.
ROWS, COLUMNS = 65_536, 256


class JointSample:
    """Numeric columns of the rows with the smallest hashes. wanted: names, None for every numeric column.

    >>> sample = JointSample(None)
    >>> sample.add({"x": np.arange(4.0), "c": np.array(list("abcd"), dtype=object)}, np.arange(4, dtype=np.uint64))
    >>> sample.of(["x"]).tolist()
    [[0.0], [1.0], [2.0], [3.0]]
    """

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._hashes: Hashes = np.zeros(0, dtype=np.uint64)
        self._columns: dict[str, Floats] = {}
        self._threshold = np.uint64(2**64 - 1)

    def add(self, columns: Mapping[str, npt.NDArray[Any]], hashes: Hashes) -> None:
        """Take in some rows with their hashes."""
        kept = hashes <= self._threshold
        for name, column in columns.items():
            known = name in self._columns or len(self._columns) < COLUMNS
            if column.dtype.kind in "fiu" and (self._wanted is None or name in self._wanted) and known:
                self._columns.setdefault(name, np.full(self._hashes.size, np.nan))
        more = int(kept.sum())
        for name, before in self._columns.items():
            found = columns.get(name)
            new = np.full(more, np.nan)
            if found is not None and found.dtype.kind in "fiu":
                new = found[kept].astype(np.float64)
            self._columns[name] = np.concatenate([before, new])
        self._hashes = np.concatenate([self._hashes, hashes[kept]])
        if self._hashes.size > ROWS + ROWS // 4:
            self._shrink()

    def of(self, names: Sequence[str]) -> Floats:
        """Rows of these columns, (n, len(names)), in the order of their hashes."""
        self._shrink()
        order = np.argsort(self._hashes, kind="stable")
        nothing = np.full(self._hashes.size, np.nan)
        return np.column_stack([self._columns.get(name, nothing)[order] for name in names])

    def _shrink(self) -> None:
        if self._hashes.size > ROWS:
            kept = np.argpartition(self._hashes, ROWS - 1)[:ROWS]
            self._hashes = self._hashes[kept]
            self._columns = {name: column[kept] for name, column in self._columns.items()}
            self._threshold = self._hashes.max()
