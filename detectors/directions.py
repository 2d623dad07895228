"""What a feature is tested in: functions on its columns with mean 0 and variance 1 under the reference (DETECTION 2).

Why not the bins themselves: thirty-two bets on bins see a shift of the mean late; the four shape directions see it as
one movement, and are named as a person would name it. Variance 1 is that of the model (`p`, `q`), never the empirical
one, which dependence inflates: dependence is the business of `detectors/design_effect.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

#: Tables are multiples of 2**-STEP_BITS, so that their products with counts are exact in float64 in any order.
STEP_BITS = 20
#: Shares below it are tested as if they were it: below, a tolerance in sd would be finer than a hundredth of a point.
FLOOR = 0.01
LARGEST_LEVELS, LEVEL_GROUPS = 16, 8

SHAPE = ("location", "scale", "skew", "tails")
_SHAPE_WEIGHTS = (2.0, 1.0, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Directions:
    """k directions of a feature with `width` columns; `S = counts @ phi`.

    names: words for evidence (`location`, `missing`, `level FR`, `levels 3 of 8`, …).
    kinds: `shape` (the four polynomials), `range` (below, above), `rare` (missing, unseen, non_finite), `level`.
    phi: (width, k) float64, rounded down to multiples of 2**-20.
    q: (k,) share of the kind or level under the model, floored; nan for shape directions.
    upward_only: (k,) bool; only a rise is tested, the share being below the floor. weights: (k,) prior weights.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    phi: Floats
    q: Floats
    upward_only: npt.NDArray[np.bool_]
    weights: Floats

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Place of a direction by name; -1 when it is not there."""
        return self.names.index(name) if name in self.names else -1


def round_down(values: Floats) -> Floats:
    """Largest multiples of 2**-20 that do not exceed the values.

    >>> round_down(np.array([0.3, -0.3])) * 2**20
    array([ 314572., -314573.])
    """
    return np.ldexp(np.floor(np.ldexp(values, STEP_BITS)), -STEP_BITS)


def directions(spec: FeatureSpec, counts: Ints, once: npt.NDArray[np.bool_] | None = None) -> Directions:
    """Directions of one feature, from its (cleaned) reference counts.

    counts: (width,) of `spec.columns`. A column without counts is no obstacle: an outer empty bin takes the z of the
    nearest bin with counts, and a feature of one bin has no shape directions. once: (width,) bool, `met_once`; their
    rows count into the share of `unseen`, too.

    >>> spec = FeatureSpec(name="x", kind="numeric", edges=(0.0, 1.0, 2.0))
    >>> found = directions(spec, np.array([250, 250, 250, 250, 0, 0, 0, 0]))
    >>> found.names
    ('location', 'scale', 'skew', 'below', 'above', 'missing', 'non_finite')
    >>> found.phi[:, 0].round(3)
    array([-1.363, -0.378,  0.378,  1.363, -1.363,  1.363,  0.   ,  0.   ])
    """
    counts = np.asarray(counts, dtype=np.int64)
    if counts.shape != (spec.width,):
        raise ValueError(f"{spec.name}: counts of shape {counts.shape} for {spec.width} columns")
    parts = _shapes(spec, counts) if spec.kind == "numeric" else _levels(spec, counts)
    parts += _rare_kinds(spec, counts, 0 if once is None else int(counts[once].sum()))
    names, kinds, phi, q, upward, weights = zip(*parts, strict=True)
    return Directions(
        names=names,
        kinds=kinds,
        phi=round_down(np.stack(phi, axis=1)),
        q=np.array(q, dtype=np.float64),
        upward_only=np.array(upward, dtype=np.bool_),
        weights=np.array(weights, dtype=np.float64),
    )


def met_once(spec: FeatureSpec, counts: Ints) -> npt.NDArray[np.bool_]:
    """Levels that a reference met in one row only; (width,) bool, none of a numeric feature.

    Each was unseen to the rest of the reference. So their share is how often rows to come bring a level that the whole
    reference has not met (Good 1953, "The population frequencies of species"): 700 rows of 200 equal levels have not
    met six of them, and 3 % of tomorrow's rows are `unseen` with nothing changed.

    >>> met_once(FeatureSpec(name="c", kind="categorical", levels=("a", "b")), np.array([5, 1, 1, 0]))
    array([False,  True, False, False])
    """
    once: npt.NDArray[np.bool_] = np.asarray(counts) == 1
    once[0 if spec.kind == "numeric" else spec.value_bins :] = False
    return once


def with_unmet(along: Directions, once: npt.NDArray[np.bool_]) -> Directions:
    """The directions by which a reference learns: rows of levels that were met once are `unseen`, too."""
    at = along.index("unseen")
    if at < 0 or not once.any():
        return along
    phi = along.phi.copy()
    phi[once, at] = phi[:, at].max()
    return replace(along, phi=phi)


def normal_scores(counts: Ints) -> Floats:
    """Normal score of each value bin, `Φ⁻¹(cumsum(p) − p/2)`; (bins,) from counts (bins,). Empty without counts: 0.

    >>> normal_scores(np.array([1, 2, 1])).round(2)
    array([-1.15,  0.  ,  1.15])
    """
    total = int(counts.sum())
    if total == 0:
        return np.zeros(counts.size)
    filled = np.flatnonzero(counts)
    # Outer bins that a view never saw take the nearest one's z, as `below` and `above` do.
    inside = np.clip(np.arange(counts.size), filled[0], filled[-1])
    middle = (np.cumsum(counts) - counts / 2)[inside] / total
    standard = NormalDist()
    return np.array([standard.inv_cdf(float(share)) for share in middle])


_Part: TypeAlias = tuple[str, str, Floats, float, bool, float]


def _shapes(spec: FeatureSpec, counts: Ints) -> list[_Part]:
    bins = spec.value_bins
    inside = counts[:bins]
    total = int(inside.sum())
    if total == 0:
        return []
    p = inside / total
    z = normal_scores(inside)
    # Rows that score 0 in these directions: missing and non-finite.
    present = 1.0 - float(counts[bins + 2 :].sum()) / float(counts.sum())
    basis = [np.ones(bins)]
    parts: list[_Part] = []
    for power, (name, weight) in enumerate(zip(SHAPE, _SHAPE_WEIGHTS, strict=True), start=1):
        raw = z**power
        residual = raw
        for _ in range(2):  # twice: the second pass removes what rounding left
            for direction in basis:
                residual = residual - float(np.sum(p * residual * direction)) * direction
        variance = float(np.sum(p * residual**2))
        if variance < 1e-6 or variance < 1e-3 * float(np.sum(p * raw**2)):
            continue
        unit = residual / np.sqrt(variance)
        basis.append(unit)
        column = np.zeros(spec.width)
        column[:bins] = unit
        column[bins], column[bins + 1] = unit[0], unit[-1]
        parts.append((name, "shape", column / np.sqrt(present), float("nan"), False, weight))
    return parts


def _rare_kinds(spec: FeatureSpec, counts: Ints, unmet: int) -> list[_Part]:
    names = spec.columns[spec.value_bins :]
    if spec.kind == "numeric" and counts[: spec.value_bins].sum() == 0:
        # Nothing was ever seen: there is no range to be outside of.
        names = ("missing", "non_finite")
    kind = {"below": "range", "above": "range"}
    at = {name: spec.value_bins + i for i, name in enumerate(spec.columns[spec.value_bins :])}
    extra = {"unseen": unmet}
    return [_indicator(name, kind.get(name, "rare"), [at[name]], counts, extra.get(name, 0)) for name in names]


def _levels(spec: FeatureSpec, counts: Ints) -> list[_Part]:
    order = sorted(range(spec.value_bins), key=lambda i: (-int(counts[i]), spec.levels[i]))
    parts = [_indicator(f"level {spec.levels[i]}", "level", [i], counts) for i in order[:LARGEST_LEVELS]]
    rest = order[LARGEST_LEVELS:]
    if len(rest) <= LEVEL_GROUPS:
        return parts + [_indicator(f"level {spec.levels[i]}", "level", [i], counts) for i in rest]
    groups: list[list[int]] = [[] for _ in range(LEVEL_GROUPS)]
    shares = [0] * LEVEL_GROUPS
    # Seeded: levels of one size are dealt by hash, not by name, so that neighbours in the alphabet part.
    for i in sorted(rest, key=lambda i: (-int(counts[i]), _seeded(spec.name, spec.levels[i]))):
        least = min(range(LEVEL_GROUPS), key=lambda g: (shares[g], len(groups[g])))
        groups[least].append(i)
        shares[least] += int(counts[i])
    return parts + [
        _indicator(f"levels {g + 1} of {LEVEL_GROUPS}", "level", sorted(group), counts)
        for g, group in enumerate(groups)
    ]


def _indicator(name: str, kind: str, columns: list[int], counts: Ints, unmet: int = 0) -> _Part:
    share = (float(counts[columns].sum()) + 0.5) / (float(counts.sum()) + 1.0)
    expected = share + unmet / (float(counts.sum()) + 1.0)
    # Floored on both sides: a share of .999 is a rare absence. In 2**-40: the file keeps it exactly.
    q = float(np.ldexp(np.rint(np.ldexp(min(max(expected, FLOOR), 1.0 - FLOOR), 40)), -40))
    deviation = np.sqrt(q * (1.0 - q))
    phi = np.full(counts.size, -q / deviation)
    phi[columns] = (1.0 - q) / deviation
    return name, kind, phi, q, share < FLOOR, 1.0


def _seeded(feature: str, level: str) -> bytes:
    return hashlib.blake2b(f"{feature}\0{level}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
