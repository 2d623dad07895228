"""Limits on descriptive statistics, as a user asks for them: `{feature: age, statistic: psi, above: 0.2}`.

They are rules, outside the false-alarm budget: a limit on a statistic knows nothing of n, season or dependence. How
often one is passed when nothing changed is said before (`firing_share`); whoever wants a promise takes the chart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.catalogue import STATISTICS
from detectors.references import Reference
from schemas.errors import ConfigurationError
from schemas.layouts import View, Watch

Ints: TypeAlias = npt.NDArray[np.int64]

#: Panes with fewer events are not judged, as by the default rules.
LEAST_EVENTS = 20
#: Draws that a firing share is counted over.
DRAWS = 4_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Watched:
    """One limit. feature: index into the scope's features; columns: its bins in a view's counts; reference: theirs."""

    feature: int
    statistic: str
    above: float
    columns: Ints
    reference: Ints


def watched(watches: Iterable[Watch], *, reference: Reference, features: Sequence[str]) -> tuple[Watched, ...]:
    """Limits of a layout on the whole model; `ConfigurationError` when a statistic needs an order that levels lack."""
    found = []
    for one in watches:
        spec = next(spec for spec in reference.specs if spec.name == one.feature)
        start, bins = reference.table.features[one.feature].start, spec.value_bins
        ordered = STATISTICS[one.statistic].ordered
        if ordered and spec.kind != "numeric":
            raise ConfigurationError(f"{one.statistic} is for numbers; {one.feature} is categorical")
        places = np.array([bins, *range(bins), bins + 1] if ordered else range(spec.width), dtype=np.int64)
        found.append(
            Watched(
                feature=features.index(one.feature),
                statistic=one.statistic,
                above=one.above,
                columns=start + places,
                reference=reference.views[View()].features[one.feature].counts[places],
            )
        )
    return tuple(found)


def judge(one: Watched, row: Ints) -> tuple[float, int] | None:
    """Value and n of a statistic in a pane of the whole model, row (width,); None with too few events to say."""
    counts = row[one.columns]
    n = int(counts.sum())
    return None if n < LEAST_EVENTS else (float(STATISTICS[one.statistic].value(one.reference, counts)), n)


def firing_share(statistic: str, *, reference: Ints, above: float, n: float, seed: int = 0) -> float:
    """Share of panes of n independent events that pass a limit although nothing changed, over 4,000 seeded draws.

    n: what a typical pane is worth: its events over the design effect. Both sides vary: the reference is one draw too.

    >>> firing_share("psi", reference=np.full(34, 1_000), above=0.2, n=50)
    0.99675
    >>> firing_share("psi", reference=np.full(34, 1_000), above=0.2, n=500)
    0.0
    """
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(reference + 0.5, size=DRAWS)
    counts = rng.multinomial(max(1, round(n)), shares)
    return float(np.mean(STATISTICS[statistic].value(reference, counts) > above))
