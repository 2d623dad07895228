"""Features that are made of several others: a row's Mahalanobis distance, and what each feature has beyond the others.

Why: when features lose their connection while each keeps its own distribution, no test of single features can see it.
Both are numbers of a row, so that bins, season, design effect, tolerance and the budget are what they are for any other
feature (DETECTION 5): normal scores z of the row by the reference's bins (bounded; a missing value is 0, the mean), the
reference's correlation Σ, shrunk .05 to the identity; `mahalanobis` is zᵀΣ⁻¹z, `residual(x)` is (Σ⁻¹z)ₓ/√(Σ⁻¹)ₓₓ, in sd
of x given the others, so that it names the feature. A row without x has no residual of x, a row without any of them no
distance.

Why rounded: scores are multiples of 2⁻¹⁰, Σ⁻¹ and Σ⁻¹z of 2⁻¹⁶, so that all products and partial sums are exact, and a
row has the same bits in any batch and with any library of linear algebra.

Median delays in panes, 20 features: all correlations .5 → .2: distance 2, residuals 7, single features never; one
feature decoupled: residuals 3; a mean shift of .5 sd: residuals 3, features 4.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner, FeatureSpec
from detectors.directions import normal_scores

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

DISTANCE = "mahalanobis"
#: Fewer inputs have no connection, more are dear and tell little: a subgroup of them is a person's choice.
LEAST_INPUTS, MOST_INPUTS = 2, 20
SHRINKAGE = 0.05
SCORE_BITS, MATRIX_BITS = 10, 16
#: Scores are bounded, in sd: one wild value must not be the whole distance.
BOUND = 8.0


def residual(feature: str) -> str:
    """Name of what a feature has beyond the others.

    >>> residual("age")
    'residual(age)'
    """
    return f"residual({feature})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Derivation:
    """How derived features are made. inputs: specs of d numeric features; scores (d, w): normal score by column of the
    spec, padded with 0; precision (d, d): Σ⁻¹. Both rounded, see above.
    """

    inputs: tuple[FeatureSpec, ...]
    scores: Floats
    precision: Floats

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the derived features, in order: the distance, then the residuals."""
        return (DISTANCE, *(residual(spec.name) for spec in self.inputs))

    @cached_property
    def binner(self) -> Binner:
        """Columns of the inputs."""
        return Binner(self.inputs)

    @cached_property
    def _absent(self) -> Ints:
        """Column of a missing value, by input; that of a non-finite one is the next."""
        return np.array([spec.value_bins + 2 for spec in self.inputs], dtype=np.int64).reshape(-1, 1)

    def values(self, inputs: Floats) -> Floats:
        """Derived features of rows; (d, n) raw values in the order of `inputs`, C-contiguous -> (1 + d, n).

        >>> x = FeatureSpec(name="x", kind="numeric", edges=(0.0,), low=-9.0, high=9.0)
        >>> y = FeatureSpec(name="y", kind="numeric", edges=(0.0,), low=-9.0, high=9.0)
        >>> scores = np.array([[-1.0, 1.0, -1.0, 1.0, 0.0, 0.0]] * 2)
        >>> both = Derivation(inputs=(x, y), scores=scores, precision=np.array([[2.0, -1.0], [-1.0, 2.0]]))
        >>> both.values(np.array([[1.0, 1.0, np.nan], [1.0, -1.0, -1.0]])).round(2).tolist()
        [[2.0, 6.0, 2.0], [0.71, 2.12, nan], [0.71, -2.12, -1.41]]
        """
        columns = self.binner.codes_by_feature(inputs)  # (d, n)
        width = self.scores.shape[1]
        z = self.scores.take(columns + np.arange(len(self.inputs), dtype=np.int32)[:, None] * width)
        beyond = _rounded(self.precision @ z, MATRIX_BITS)  # (d, n), exact
        found = np.empty((1 + len(self.inputs), inputs.shape[1]))
        found[0] = (z * beyond).sum(axis=0)
        found[1:] = beyond / np.sqrt(np.diag(self.precision))[:, None]
        lacking = columns >= self._absent
        if lacking.any():
            found[1:][lacking] = np.nan
            found[0][lacking.all(axis=0)] = np.nan
        return found

    def of_columns(self, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> dict[str, Floats]:
        """Derived features of a table's rows, by name; an input that is not there is missing."""
        inputs = np.full((len(self.inputs), rows), np.nan)
        for i, spec in enumerate(self.inputs):
            column = columns.get(spec.name)
            if column is not None and column.dtype.kind in "fiu":
                inputs[i] = column
        return dict(zip(self.names, self.values(inputs), strict=True))


def learn_derivation(specs: Sequence[FeatureSpec], sample: Floats) -> Derivation:
    """How to derive features from inputs with these specs; sample (n, d): raw values of rows of the reference.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal(4000)
    >>> sample = np.column_stack([x, 0.8 * x + 0.6 * rng.standard_normal(4000)])
    >>> edges = tuple(np.linspace(-2, 2, 9).tolist())
    >>> specs = [FeatureSpec(name=n, kind="numeric", edges=edges, low=-5.0, high=5.0) for n in "xy"]
    >>> learn_derivation(specs, sample).precision.round(1).tolist()
    [[2.2, -1.6], [-1.6, 2.2]]
    """
    specs = tuple(specs)
    columns = Binner(specs).codes_by_feature(np.ascontiguousarray(sample.T, dtype=np.float64))
    scores = np.zeros((len(specs), max(spec.width for spec in specs)))
    for i, spec in enumerate(specs):
        bins = spec.value_bins
        counts = np.bincount(columns[i], minlength=spec.width)
        z = normal_scores(counts[:bins])
        column = np.zeros(spec.width)
        column[:bins], column[bins], column[bins + 1] = z, z[0], z[-1]
        n = counts[: bins + 2].sum()
        mean = (counts * column).sum() / max(n, 1)
        spread = np.sqrt((counts[: bins + 2] * (column[: bins + 2] - mean) ** 2).sum() / max(n, 1))
        if spread > 0:
            column[: bins + 2] = (column[: bins + 2] - mean) / spread
        scores[i, : spec.width] = _rounded(np.clip(column, -BOUND, BOUND), SCORE_BITS)
    z = scores[np.arange(len(specs))[:, None], columns]
    # Of all rows: a missing value is 0, here as in the rows to come.
    products = z @ z.T
    spread = np.sqrt(np.maximum(np.diag(products), 1e-300))
    correlation = products / spread[:, None] / spread
    np.fill_diagonal(correlation, 1.0)
    shrunk = (1.0 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(len(specs))
    precision = np.linalg.inv(shrunk)
    return Derivation(inputs=specs, scores=scores, precision=_rounded((precision + precision.T) / 2.0, MATRIX_BITS))


def _rounded(values: Floats, bits: int) -> Floats:
    found: Floats = np.ldexp(np.rint(np.ldexp(values, bits)), -bits)
    return found + 0.0
