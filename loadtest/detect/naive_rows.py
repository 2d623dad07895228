"""Tables of a user who does nothing special: independent rows, many kinds of columns, nightly batches of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

#: Batches of the reference, one a night; every tool gets the same rows.
REFERENCE_BATCHES = 14
#: What happens to the first column: (name, added sd, factor of the sd, share missing).
CHANGES: tuple[tuple[str, float, float, float], ...] = (
    (".25 sd", 0.25, 1.0, 0.0),
    (".5 sd", 0.5, 1.0, 0.0),
    ("sd x 1.5", 0.0, 1.5, 0.0),
    ("5 % missing", 0.0, 1.0, 0.05),
)
#: Kinds of columns, repeated as often as there are columns: an int is a category of so many levels.
KINDS: tuple[str | int, ...] = ("normal", 2, "lognormal", 5, "normal", 20, "poisson", 50, "uniform", 200)


@dataclass(frozen=True)
class Data:
    """A data set: n rows a batch, `kinds` by column, drawn anew for each (replicate, batch).

    >>> Data(n=3, features=4).kinds
    ('normal', 2, 'lognormal', 5)
    """

    n: int
    features: int
    seed: int = 0
    replicate: int = 0

    @property
    def kinds(self) -> tuple[str | int, ...]:
        """By column."""
        return tuple(KINDS[i % len(KINDS)] for i in range(self.features))

    def batch(self, number: int, change: int = -1) -> Floats:
        """Rows (n, features) of one night: numbers, and codes of levels. change: index into `CHANGES`, -1 for none."""
        key = [self.n, self.features, self.replicate, number, change + 1]
        rng = np.random.default_rng(np.random.SeedSequence([600, *key], spawn_key=(self.seed,)))
        rows = np.stack([_drawn(rng, kind, self.n) for kind in self.kinds], axis=1)
        if change >= 0:
            _, added, factor, missing = CHANGES[change]
            rows[:, 0] = rows[:, 0] * factor + added
            rows[rng.random(self.n) < missing, 0] = np.nan
        return rows

    def reference(self) -> list[Floats]:
        """Its batches."""
        return [self.batch(number) for number in range(REFERENCE_BATCHES)]


def names_of(features: int) -> tuple[str, ...]:
    """Names of columns."""
    return tuple(f"c{i}" for i in range(features))


def _drawn(rng: np.random.Generator, kind: str | int, n: int) -> Floats:
    if isinstance(kind, int):
        # The k-th level is as frequent as 1/(k + 3): a few large ones, and a long tail.
        shares = 1.0 / (np.arange(kind) + 3.0)
        cuts = np.cumsum(shares / shares.sum())[:-1]
        return np.searchsorted(cuts, rng.random(n), side="right").astype(np.float64)
    if kind == "lognormal":
        return rng.lognormal(size=n)
    if kind == "poisson":
        return rng.poisson(3.0, n).astype(np.float64)
    return rng.random(n) if kind == "uniform" else rng.normal(size=n)
