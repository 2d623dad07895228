"""How outcomes of a model are read: its classes, which of them is positive, and where its score bins lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import FeatureSpec
from detectors.charts.calibration_map import GRID, MOST, expit
from detectors.references import Reference
from schemas.errors import ConfigurationError
from schemas.layouts import Layout, View

Ints: TypeAlias = npt.NDArray[np.int64]

#: More classes than this are not counted.
MOST_CLASSES = 100
#: Bins beyond the grid: so wide, and so far, in logit.
TAIL, FARTHEST = 0.5, 20.0
_PAIRS = (("0", "1"), ("false", "true"), ("no", "yes"), ("negative", "positive"))
_NEGATIVE, _POSITIVE = frozenset(pair[0] for pair in _PAIRS), frozenset(pair[1] for pair in _PAIRS)


@dataclass(frozen=True, kw_only=True)
class OutcomeSpec:
    """How outcomes of a model are read and counted.

    classes: of two, (negative, positive); a code is an index into them. edges: of the score, bins (a, b]. probability:
    the score is one (calibration and proper losses mean something); otherwise it only ranks. centre, scale: of a
    regression's values, by which its fixed-point sums are taken.
    """

    kind: Literal["binary", "multiclass", "regression"]
    classes: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    probability: bool = True
    centre: float = 0.0
    scale: float = 1.0


def outcome_spec(reference: Reference, layout: Layout) -> OutcomeSpec | None:
    """How outcomes of a layout's model are counted; None when the reference knows no output to compare them with.

    A reference whose labels have more than 100 levels is such a one. `ConfigurationError` when `layout.positive` is
    none of the two classes, or another than the reference was built with.
    """
    labels = reference.labels
    place = f"models.{layout.model}.outcomes"
    bins = _known_bins(reference)
    if labels is None or len(labels.classes) != 2:
        classes = () if labels is None else labels.classes
        return spec_of(reference.specs, classes, positive=layout.positive, place=place, bins=bins)
    if layout.positive and layout.positive != labels.classes[1]:
        raise ConfigurationError(
            f"positive: {layout.positive!r}, but the reference was built with {labels.classes[1]!r} of "
            f"{sorted(labels.classes)}: build it again with this configuration",
            path=place,
        )
    return spec_of(reference.specs, labels.classes, positive=labels.classes[1], place=place, bins=bins)


def spec_of(
    specs: Sequence[FeatureSpec],
    classes: Sequence[str],
    *,
    positive: str,
    place: str = "outcomes",
    bins: int | None = None,
) -> OutcomeSpec | None:
    """How outcomes of a model with these features are counted. classes: those that outcomes had, if any are known.

    bins: how many of the score a reference's own map has, where it has one.

    >>> spec = spec_of([FeatureSpec(name="label", kind="categorical", levels=("ham", "spam"))], (), positive="spam")
    >>> spec.kind, spec.classes
    ('binary', ('ham', 'spam'))
    """
    known = {spec.name: spec for spec in specs}
    score, label, value = (known.get(name) for name in ("score", "label", "value"))
    levels = _alike({*(label.levels if label is not None else ()), *classes})
    if score is None and label is None:
        if value is None:
            return None
        centre, scale = _regression_scale(value)
        return OutcomeSpec(kind="regression", centre=centre, scale=scale)
    if len(levels) > MOST_CLASSES:
        return None
    probability = score is None or (score.low >= 0.0 and score.high <= 1.0)
    edges = _edges(score) if probability else _ranking_edges(score)
    if bins is not None and probability and len(edges) + 1 != bins:
        edges = _edges(score, tails=False)  # a reference from before bins went beyond the grid
    if len(levels) > 2:
        return OutcomeSpec(kind="multiclass", classes=levels, edges=edges, probability=probability)
    two = _two(levels, positive=positive, place=place)
    return OutcomeSpec(kind="binary", classes=two, edges=edges, probability=probability)


def class_codes(spec: OutcomeSpec, texts: Sequence[str | None]) -> Ints:
    """Codes of outcomes as texts (`level_text`); −1 for what is none of the classes, and for None.

    Where the two classes are words for no and yes, their likes are taken too.

    >>> class_codes(OutcomeSpec(kind="binary", classes=("0", "1")), ["1", "yes", "False", "maybe", None])
    array([ 1,  1,  0, -1, -1])
    """
    codes = _codes(spec)
    of = {text: codes.get(text, codes.get(text.lower(), -1)) if text is not None else -1 for text in set(texts)}
    return np.fromiter(map(of.__getitem__, texts), dtype=np.int64, count=len(texts))


def label_codes(spec: OutcomeSpec, texts: Sequence[str | None]) -> Ints:
    """Codes of predicted labels: −1 for None, len(classes) for one that is no class (it is counted as wrong).

    >>> label_codes(OutcomeSpec(kind="multiclass", classes=("a", "b", "c")), ["b", "z", None])
    array([ 1,  3, -1])
    """
    missing = np.fromiter((text is None for text in texts), dtype=np.bool_, count=len(texts))
    codes = class_codes(spec, texts)
    return np.where((codes < 0) & ~missing, len(spec.classes), codes)


def _alike(levels: set[str]) -> tuple[str, ...]:
    """Levels in order; words for no and yes beside each other, as `0` with `true`, are two classes and not four."""
    if len(levels) > 2 and all(level.lower() in _NEGATIVE | _POSITIVE for level in levels):
        return next(pair for pair in _PAIRS if levels & set(pair))
    return tuple(sorted(levels))


def _two(levels: tuple[str, ...], *, positive: str, place: str) -> tuple[str, str]:
    """(negative, positive) of at most two known classes; what is not known is guessed from words for yes and no."""
    if len(levels) < 2:
        known = levels[0] if levels else (positive or "1")
        pair = next((pair for pair in _PAIRS if known.lower() in pair), None)
        if pair is None:  # one class with a name: the other is "0"
            levels = ("0", known)
            positive = positive or known
        else:
            other = pair[1] if known.lower() == pair[0] else pair[0]
            levels = (known, other if known == known.lower() else other.capitalize())
    ordered = sorted(levels)
    if positive and positive not in ordered:
        raise ConfigurationError(f"positive: {positive!r} is none of the classes {ordered}", path=place)
    chosen = positive or next((level for level in ordered if level.lower() in _POSITIVE), ordered[-1])
    return ordered[0] if chosen == ordered[1] else ordered[1], chosen


def _codes(spec: OutcomeSpec) -> dict[str, int]:
    codes = {text: code for code, text in enumerate(spec.classes)}
    if spec.kind == "binary" and all(text.lower() in _NEGATIVE | _POSITIVE for text in spec.classes):
        # Which of the two is positive was decided before: (`1`, `0`) stays so, and `no` is then what `0` is.
        for code, text in enumerate(spec.classes):
            for like in _NEGATIVE if text.lower() in _NEGATIVE else _POSITIVE:
                codes.setdefault(like, code)
    return codes


def _known_bins(reference: Reference) -> int | None:
    known = None if reference.labels is None else reference.labels.views[View()].calibration
    return None if known is None else int(known.map.rows.size)


def _edges(score: FeatureSpec | None, *, tails: bool = True) -> tuple[float, ...]:
    """Edges of a probability: every .25 logit from −8 to 8, the reference's quantiles, and every half of a logit beyond
    where its scores are there: at a rate of 1 in 10,000 nearly all are.
    """
    grid = np.arange(-MOST, MOST + GRID / 2, GRID)
    quantiles = np.array(score.edges if score is not None else ())
    inside = quantiles[(quantiles > 0.0) & (quantiles < 1.0)]
    if tails and inside.size:
        least, most = float(np.log(inside[0])), float(-np.log1p(-inside[-1]))
        below, above = np.arange(-MOST, max(least, -FARTHEST), -TAIL), np.arange(MOST, min(most, FARTHEST) + 2, TAIL)
        grid = np.concatenate((grid, below, above if most > MOST else grid[:0]))
    return tuple(np.unique(np.concatenate((expit(grid), inside))).tolist())


def _ranking_edges(score: FeatureSpec | None) -> tuple[float, ...]:
    """Edges of a score that only ranks: the reference's quantiles, and three more between two of them."""
    if score is None:
        return ()
    corners = np.array([score.low, *score.edges, score.high])
    between = [np.linspace(a, b, 4, endpoint=False) for a, b in pairwise(corners.tolist())]
    return tuple(np.unique(np.concatenate([*between, [score.high]])).tolist())


def _regression_scale(value: FeatureSpec) -> tuple[float, float]:
    """Centre and scale of predictions, from the reference's quantiles; the scale is a power of two."""
    edges = np.array(value.edges) if value.edges else np.array([value.low, value.high])
    low, middle, high = (float(edges[int(share * (edges.size - 1))]) for share in (0.16, 0.5, 0.84))
    spread = (high - low) / 2.0 or (value.high - value.low) or abs(middle) or 1.0
    return middle, float(np.ldexp(1.0, round(float(np.log2(spread)))))
