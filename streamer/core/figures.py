"""Descriptive figures of panes beside the reference, and what chance alone gives.

Why the noise: a PSI means nothing without what chance gives at that n, so every distance comes with it. The noise is a
smooth function of n that is dear to compute: it is kept at n = √2ᵏ and read off in between, within one percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.catalogue import STATISTICS, Statistic
from detectors.references import Reference
from detectors.statistics.jensen_shannon import jensen_shannon, jensen_shannon_noise
from detectors.statistics.ks import ks, ks_noise
from detectors.statistics.psi import psi, psi_noise
from schemas.layouts import View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


#: Noise is computed at every n below this, and at n = √2ᵏ from there on.
EXACT_BELOW = 64


class Figures(NamedTuple):
    """Descriptive figures of the tested views, (views, monitored features) each; nan where there is none."""

    n: Ints
    missing: Floats
    mean: Floats
    least: Floats
    largest: Floats
    psi: Floats
    jensen_shannon: Floats
    ks: Floats


@dataclass(frozen=True, eq=False)
class _Alike:
    """Monitored features whose tables have the same shape: one numpy expression for all of them.

    at: their places among the monitored. columns: (features, width) into a view's counts. missing, non_finite: columns
    within, the latter −1 for categories. ordered: (width,) places of the ordered bins, lowest first; empty for
    categories. reference: (views, features, width).
    """

    at: Ints
    columns: Ints
    missing: int
    non_finite: int
    ordered: Ints
    reference: Ints
    sums: Ints
    numeric: Ints
    scale: Floats


class Yardstick:
    """The reference as reports need it: made once per layout.

    views, names: what is tested. further: statistics of the catalogue beside PSI, Jensen–Shannon and KS.
    """

    def __init__(
        self, reference: Reference, *, views: tuple[View, ...], names: tuple[str, ...], further: tuple[str, ...] = ()
    ) -> None:
        self.views, self.names, self.further = views, names, further
        specs = {spec.name: spec for spec in reference.specs}
        shapes: dict[tuple[str, int], list[int]] = {}
        for at, name in enumerate(names):
            shapes.setdefault((specs[name].kind, specs[name].width), []).append(at)
        self._groups = [
            _alike(reference, views, group, [specs[names[at]] for at in group]) for group in shapes.values()
        ]
        self._noise: dict[tuple[int, int], Floats] = {}

    def figures(self, counts: Ints, extremes: Ints) -> Figures:
        """Figures of all tested views. counts: (views, width); extremes: (views, numeric features, 2), fixed point."""
        shape = (len(self.views), len(self.names))
        found = Figures(np.zeros(shape, dtype=np.int64), *(np.full(shape, np.nan) for _ in range(7)))
        for group in self._groups:
            here = counts[:, group.columns]  # (views, features, width)
            n = here.sum(axis=2)
            found.n[:, group.at] = n
            some = np.maximum(n, 1)
            found.missing[:, group.at] = here[:, :, group.missing] / some
            found.psi[:, group.at] = psi(group.reference, here)
            found.jensen_shannon[:, group.at] = jensen_shannon(group.reference, here)
            if group.ordered.size:
                found.ks[:, group.at] = ks(group.reference[..., group.ordered], here[..., group.ordered])
                valued = n - here[:, :, group.missing] - here[:, :, group.non_finite]
                real = valued > 0
                # In this order: a sum of values near the largest float is none itself.
                mean = counts[:, group.sums] / np.maximum(valued, 1) / group.scale
                found.mean[:, group.at] = np.where(real, mean, np.nan)
                found.least[:, group.at] = np.where(real, extremes[:, group.numeric, 0] / group.scale, np.nan)
                found.largest[:, group.at] = np.where(real, extremes[:, group.numeric, 1] / group.scale, np.nan)
        return found

    def more(self, counts: Ints) -> Floats:
        """The further statistics of all tested views: (statistics, views, monitored features), nan where none fits."""
        found = np.full((len(self.further), len(self.views), len(self.names)), np.nan)
        for group in self._groups:
            here = counts[:, group.columns]
            for at, (statistic, places) in enumerate(self._fitting(group)):
                if places is not None:
                    found[at][:, group.at] = statistic.value(group.reference[..., places], here[..., places])
        return found

    def _fitting(self, group: _Alike) -> list[tuple[Statistic, Ints | None]]:
        """The further statistics, each with the bins that it takes; None where it needs an order that there is not."""
        every = np.arange(group.columns.shape[1])
        ordered = group.ordered if group.ordered.size else None
        return [(one, ordered if one.ordered else every) for one in (STATISTICS[name] for name in self.further)]

    def noise(self, view: int, n: int) -> Floats:
        """What psi, Jensen–Shannon, ks and the further ones give over n events when nothing changed.

        (3 + statistics, monitored features).
        """
        if n < EXACT_BELOW:
            return self._at(view, n)
        place = 2.0 * math.log2(n)
        below = math.floor(place)
        part = place - below
        lower, upper = (np.log(self._at(view, round(2.0 ** (node / 2)))) for node in (below, below + 1))
        return np.exp((1.0 - part) * lower + part * upper)

    def _at(self, view: int, n: int) -> Floats:
        known = self._noise.get((view, n))
        if known is None:
            known = np.full((3 + len(self.further), len(self.names)), np.nan)
            for group in self._groups:
                reference = group.reference[view]
                known[0, group.at] = psi_noise(reference, n)
                known[1, group.at] = jensen_shannon_noise(reference, n)
                if group.ordered.size:
                    known[2, group.at] = ks_noise(reference[:, group.ordered], n)
                for at, (statistic, places) in enumerate(self._fitting(group), start=3):
                    if places is not None:
                        known[at, group.at] = statistic.noise(reference[:, places], n)
            known = self._noise[view, n] = np.maximum(known, 1e-12)
        return known


def _alike(reference: Reference, views: tuple[View, ...], group: Sequence[int], specs: Sequence[FeatureSpec]) -> _Alike:
    table = reference.table
    width, bins, numeric = specs[0].width, specs[0].value_bins, specs[0].kind == "numeric"
    places = {spec.name: at for at, spec in enumerate(table.numeric)}
    whole = reference.views[View()]
    of_views = [reference.views.get(view, whole) for view in views]
    numbers = np.array([places[spec.name] for spec in specs] if numeric else [], dtype=np.int64)
    return _Alike(
        at=np.array(group, dtype=np.int64),
        columns=np.array([table.features[spec.name].start for spec in specs])[:, None] + np.arange(width),
        missing=bins + 2 if numeric else bins + 1,
        non_finite=bins + 3 if numeric else -1,
        ordered=np.array([bins, *range(bins), bins + 1] if numeric else [], dtype=np.int64),
        reference=np.array([[of_view.features[spec.name].counts for spec in specs] for of_view in of_views]),
        sums=table.sums.start + numbers,
        numeric=numbers,
        scale=np.array([2.0**spec.scale_bits for spec in specs] if numeric else []),
    )
