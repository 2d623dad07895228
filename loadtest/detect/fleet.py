"""Our monitors over many replicates at once: each replicate is a monitor of one flat `Bets`, with its own columns.

It is the product's arithmetic, `tempered.tick`, not a copy; only what a scope adds (incidents, hard rules) is left out,
so every alarm counts and charts begin anew after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import budget as shared
from detectors import seasonality
from detectors.bins import Binner, FeatureSpec
from detectors.building import ReferenceBuilder
from detectors.charts import tempered
from detectors.charts.bets import Bets, Learned, build_bets
from detectors.directions import directions
from detectors.monitors import learn
from detectors.rows import Rows
from loadtest.detect.streams import PANE_MS, START_MS
from schemas.layouts import Layout

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

WEEK_PANES = 7 * 86_400_000 // PANE_MS
#: Rows of the reference that is taken as known in the matched comparison; its range ends where theirs would.
KNOWN_ROWS = 10_000_000
_RANGE = 5.2


def known_normal() -> tuple[FeatureSpec, Ints]:
    """Bins and counts of a standard normal feature that is known as well as ten million rows show it."""
    standard = NormalDist()
    edges = tuple(standard.inv_cdf(k / 32) for k in range(1, 32))
    spec = FeatureSpec(name="x", kind="numeric", edges=edges, low=-_RANGE, high=_RANGE)
    return spec, np.array([KNOWN_ROWS // 32] * 32 + [0] * 4)


def known_levels(share: float) -> tuple[FeatureSpec, Ints]:
    """Two levels, the second with the given share."""
    spec = FeatureSpec(name="x", kind="categorical", levels=("0", "1"))
    ones = round(share * KNOWN_ROWS)
    return spec, np.array([KNOWN_ROWS - ones, ones, 0, 0])


def untempered(spec: FeatureSpec, counts: Ints, *, replicates: int, upward: bool = False) -> Bets:
    """Bets of the setting of the literature: independent rows, a known reference, tolerance 0, κ = 1, a = 1, no cap.

    upward: one-sided, only bets on a rise (of a category: of its last level).
    """
    found = directions(spec, counts)
    k = len(found)
    one = Learned(
        first=0,
        names=found.names,
        kinds=found.kinds,
        phi=found.phi,
        q=found.q,
        upward=np.ones(k, dtype=bool) if upward else found.upward_only,
        weights=found.weights,
        profile=np.tile(counts @ found.phi / counts.sum(), (seasonality.WEEK_HOURS, 1)),
        n=1e30,
        deff=np.ones(k),
        temper=np.ones(k),
        n_bar=np.ones(k),
    )
    if upward and spec.kind == "categorical":
        kept = found.index(f"level {spec.levels[-1]}")
        one = _only(one, [kept])
    fleet = [replace(one, first=r * spec.width) for r in range(replicates)]
    bets = build_bets(fleet, tolerance=0.0, strict=True, budget=1.0, prior=np.ones(replicates), struck=1)
    # At tolerance 0 the entry a would be 0: it is there to bound what rests, and nothing rests below 0.
    return replace(bets, entry=np.full(bets.size, 1e30))


def _only(one: Learned, kept: list[int]) -> Learned:
    return replace(
        one,
        names=tuple(one.names[j] for j in kept),
        kinds=tuple(one.kinds[j] for j in kept),
        **{name: getattr(one, name)[kept] for name in ("q", "upward", "weights", "deff", "temper", "n_bar")},
        phi=one.phi[:, kept],
        profile=one.profile[:, kept],
    )


@dataclass(frozen=True, eq=False)
class Counter:
    """Counts of many replicates at once: one pane of values each. (replicates, n) -> flat counts with a last zero."""

    spec: FeatureSpec
    replicates: int

    def flat(self, values: Floats) -> Ints:
        """Flat counts (replicates × width + 1,)."""
        if self.spec.kind == "numeric":
            inner = np.searchsorted(np.array(self.spec.edges), values, side="left")
            inner[values < self.spec.low] = self.spec.value_bins
            inner[values > self.spec.high] = self.spec.value_bins + 1
        else:
            inner = values.astype(np.int64)
        at = inner + np.arange(self.replicates)[:, None] * self.spec.width
        return np.bincount(at.ravel(), minlength=self.replicates * self.spec.width + 1).astype(np.int64)


def flat_profile(bets: Bets) -> Floats:
    """μ of a profile without a season, in multiples of 2**-20. (D,)."""
    return np.asarray(np.rint(np.ldexp(bets.profile[0], 20)) * 2.0**-20)


def binned(
    values: Floats, rows: Ints, *, learning: int, levels: bool
) -> tuple[Learned, npt.NDArray[np.int32]]:
    """Learn a reference from the first `learning` panes as `reference build` does, and count every pane under it.

    values in order of time, rows by pane (panes,), spread evenly over it. Returns what was learned, for five-minute
    panes, and counts (panes, width) of all panes.
    """
    pane = np.repeat(np.arange(rows.size), rows)
    first = np.concatenate([[0], np.cumsum(rows)])
    within = np.arange(values.size) - first[pane]
    ts = START_MS + pane * PANE_MS + within * PANE_MS // np.maximum(rows[pane], 1)
    taken = int(first[learning])
    column: npt.NDArray[np.object_] | Floats = values[:taken]
    if levels:
        column = np.array(["abcde"[int(code)] for code in values[:taken]], dtype=object)
    builder = ReferenceBuilder("m", "features")
    table = Rows(ts=ts[:taken], columns={"x": column})
    builder.survey(table)
    builder.count(table)
    reference = builder.finish()
    layout = Layout(model="m", from_ms=0, reference=reference.id, monitored=("x",), pane_ms=PANE_MS)
    (learned,) = learn(reference, layout).learned
    (spec,) = reference.specs
    if levels:
        place = np.array([spec.levels.index(level) for level in sorted(spec.levels)])
        codes = place[values.astype(np.int64)]
    else:
        codes = Binner((spec,)).codes(values[:, None])[:, 0].astype(np.int64)
    counts = np.bincount(pane * spec.width + codes, minlength=rows.size * spec.width)
    return replace(learned, first=0), counts.reshape(rows.size, spec.width).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Model:
    """Replicates of models with `features` monitors each, under one budget per replicate."""

    bets: Bets
    features: int
    budget: float
    prior: Floats

    @classmethod
    def of(cls, learned: Sequence[Learned], *, features: int, budget: float, strict: bool = False) -> Model:
        """Of the learned monitors, replicates outermost; each must know where its columns begin."""
        prior = np.full(len(learned), 1.0 / features)
        bets = build_bets(learned, tolerance=0.1, strict=strict, budget=budget, prior=prior, struck=features)
        return cls(bets, features, budget, prior[:features])

    def play(self, counts: npt.NDArray[np.int32], *, first_pane: int, until_first: bool = False) -> list[list[int]]:
        """Panes (numbers from 0) in which a replicate alarmed, for each replicate.

        counts: (panes, monitors × width) of all of them; first_pane: number of the first since a Monday 00:00.
        until_first: stop when all have alarmed.
        """
        bets, replicates = self.bets, self.bets.monitors // self.features
        charts = tempered.Charts.start(bets.size)
        found: list[list[int]] = [[] for _ in range(replicates)]
        zero = np.zeros(1, np.int64)
        mus = self._week()
        for number, pane in enumerate(counts):
            mu = mus[(first_pane + number) % WEEK_PANES]
            flat = np.concatenate((pane, zero), dtype=np.int64)
            charts, tick = tempered.tick(bets, charts, flat=flat, mu=mu, pane=number + 1)
            value = tick.value.reshape(replicates, self.features)
            near = np.flatnonzero((value * self.prior).sum(axis=1) >= self.budget * (1 - 1e-9))
            for r in near.tolist():
                listed, _ = shared.alarms(value[r], prior=self.prior, budget=self.budget)
                if listed.size:
                    found[r].append(number)
                    charts = tempered.reset(bets, charts, listed + r * self.features, pane=number + 1)
            if until_first and all(found):
                break
        return found

    def _week(self) -> Floats:
        """μ for each pane of the week. (panes, D)."""
        weights = np.stack([seasonality.pane_weights(_MONDAY + i * PANE_MS, PANE_MS) for i in range(WEEK_PANES)])
        return np.asarray(np.rint(np.ldexp(weights @ self.bets.profile, 20)) * 2.0**-20)


#: A Monday on the local clock of a profile.
_MONDAY = 4 * 86_400_000
