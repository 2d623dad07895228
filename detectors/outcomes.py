"""What is counted of predictions whose outcome is known: one flat vector of int64 per cell and outcome pane.

Everything adds under `+`, and a row's sign may be −1, so that a correction takes the old outcome out and puts the new
one in. Scores stand in bins as fine as the calibration chart's own (every .25 logit, and the reference's quantiles),
so performance, calibration and both charts are read from the same counts. Sums are fixed point.

Why one table for all kinds of model: a section that a kind does not have is empty, and nothing else differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.class_calibration import add_one_vs_rest, add_predicted, section_size
from detectors.outcome_specs import OutcomeSpec, class_codes, label_codes, outcome_spec, spec_of
from detectors.profiles import BUCKETS, bucket_of

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

__all__ = [
    "JoinedRows",
    "OutcomeSpec",
    "OutcomeTable",
    "class_codes",
    "expected_rows",
    "kept_score",
    "label_codes",
    "labels_by_score",
    "losses_of",
    "outcome_spec",
    "spec_of",
    "tabulate_outcomes",
]

#: Σp, Σp² and Σpy are integers of 2**-30; losses and a regression's moments of 2**-20, its higher ones of 2**-10.
SCORE_BITS, LOSS_BITS, FOURTH_BITS = 30, 20, 10
#: More classes than this share one distribution of delays; more than the second have no table who-was-taken-for-whom.
MOST_DELAYS, MOST_CONFUSED = 8, 16
#: A regression's errors and values beyond so many scales (some sd of the predictions) are clipped, and counted.
CLIP = 64.0
#: An error of so many scales, or more, is a whole loss to the chart.
LARGEST_ERROR = 4.0
#: The ranks of a multiclass prediction that are looked at.
RANKS = 5
#: Columns of the score bins.
N, Y, P, PP, PY = range(5)


#: The largest score that is kept: scores are kept as float32.
LARGEST_SCORE = float(np.finfo(np.float32).max)


def kept_score(score: Floats) -> Floats:
    """Scores (n,) as they are kept until their outcomes come: rounded to float32, at most `LARGEST_SCORE` in size.

    >>> kept_score(np.array([0.1, -1e300, np.nan])).tolist()
    [0.10000000149011612, -3.4028234663852886e+38, nan]
    """
    kept: Floats = np.clip(score, -LARGEST_SCORE, LARGEST_SCORE).astype(np.float32).astype(np.float64)
    return kept


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinedRows:
    """Predictions with their outcomes; arrays (n,).

    score: see `kept_score`, NaN none. label: code of the predicted class, −1 none, len(classes) one that is not among
    them (see `label_codes`). value: a regression's prediction, NaN none. outcome: code of the true class, −1 none;
    truth: a regression's outcome, NaN none. delay_ms: outcome less prediction time. sign: 1, or −1 to take a row out
    again, as it went in. ranks (n, 5): codes of the most probable classes, −1 where there is none. shares (n, classes):
    the probability of each class, rows of NaN where they are not known, the same when a row is taken out again.
    """

    score: Floats
    label: Ints
    value: Floats
    outcome: Ints
    truth: Floats
    delay_ms: Ints
    sign: Ints
    ranks: Ints | None = None
    shares: Floats | None = None

    def __len__(self) -> int:
        return int(self.sign.size)

    def take(self, index: Ints) -> JoinedRows:
        """The rows at `index`."""
        return JoinedRows(
            score=self.score[index],
            label=self.label[index],
            value=self.value[index],
            outcome=self.outcome[index],
            truth=self.truth[index],
            delay_ms=self.delay_ms[index],
            sign=self.sign[index],
            ranks=None if self.ranks is None else self.ranks[index],
            shares=None if self.shares is None else self.shares[index],
        )

    @classmethod
    def of(
        cls,
        *,
        score: Floats | None = None,
        label: Ints | None = None,
        value: Floats | None = None,
        outcome: Ints | None = None,
        truth: Floats | None = None,
        delay_ms: Ints | None = None,
        ranks: Ints | None = None,
        shares: Floats | None = None,
    ) -> JoinedRows:
        """Rows of the columns that there are.

        >>> len(JoinedRows.of(score=np.array([0.1, 0.8]), outcome=np.array([0, 1])))
        2
        """
        n = next(len(one) for one in (outcome, truth) if one is not None)
        none, nothing = np.full(n, -1, np.int64), np.full(n, np.nan)
        return cls(
            score=nothing if score is None else kept_score(score),
            label=none if label is None else label,
            value=nothing if value is None else value,
            outcome=none if outcome is None else outcome,
            truth=nothing if truth is None else truth,
            delay_ms=np.zeros(n, np.int64) if delay_ms is None else delay_ms,
            sign=np.ones(n, np.int64),
            ranks=ranks,
            shares=shares,
        )


@dataclass(frozen=True)
class OutcomeTable:
    """Where things stand in the vector.

    n: predictions with an outcome (index 0); expected: predictions that came by themselves and could get one (index 1),
    see `detectors.performance.expected_of`. delay: 64 logarithmic buckets per class (one set for all beyond 8 classes).
    margins (classes, 3): of rows with a predicted label, right,
    predicted, actual. outside: labels that are no class. confusion (predicted, actual): up to 16 classes. top (2): rows
    with ranks, those with the truth in the first five. bins (bins, 5): n, Σy, Σp, Σp², Σpy by score; y is 1 for the
    positive class, or, of more than two classes, for a right label. losses (2, 2): Σ and Σ² of log loss, of Brier.
    errors (13): of a regression, see `tabulate_outcomes`. by_label, by_class: calibration by class, of more than two,
    see `detectors.class_calibration`.

    >>> table = OutcomeTable(OutcomeSpec(kind="binary", classes=("0", "1"), edges=(0.5,)))
    >>> table.width, table.bins
    (155, slice(141, 151, None))
    """

    spec: OutcomeSpec
    n: int = field(default=0, init=False)
    expected: int = field(default=1, init=False)

    @cached_property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.spec.classes)

    @cached_property
    def delays(self) -> int:
        """How many distributions of delays there are."""
        return self.classes if 0 < self.classes <= MOST_DELAYS else 1

    @cached_property
    def _places(self) -> dict[str, slice]:
        classes, scored = self.classes, self.spec.kind != "regression"
        confused = classes * classes if classes <= MOST_CONFUSED else 0
        by_class = section_size(classes) if self.spec.kind == "multiclass" and self.spec.probability else 0
        sizes = {
            "delay": self.delays * BUCKETS,
            "margins": 3 * classes,
            "outside": 1 if classes else 0,
            "confusion": confused,
            "top": 2 if self.spec.kind == "multiclass" else 0,
            "bins": 5 * (len(self.spec.edges) + 1) if scored else 0,
            "losses": 4 if scored else 0,
            "errors": 0 if scored else 13,
            "by_label": by_class,
            "by_class": by_class,
        }
        ends = np.cumsum([2, *sizes.values()]).tolist()
        return {name: slice(*span) for name, span in zip(sizes, pairwise(ends), strict=True)}

    @property
    def delay(self) -> slice:
        """Delays by class."""
        return self._places["delay"]

    @property
    def margins(self) -> slice:
        """Right, predicted and actual of each class."""
        return self._places["margins"]

    @property
    def outside(self) -> slice:
        """Predicted labels that are no class; they are wrong."""
        return self._places["outside"]

    @property
    def confusion(self) -> slice:
        """Predicted class by actual class."""
        return self._places["confusion"]

    @property
    def top(self) -> slice:
        """Rows with ranks, and with the truth among the first five."""
        return self._places["top"]

    @property
    def bins(self) -> slice:
        """Score bins."""
        return self._places["bins"]

    @property
    def losses(self) -> slice:
        """Σ and Σ² of log loss and of Brier's."""
        return self._places["losses"]

    @property
    def errors(self) -> slice:
        """Sums of a regression."""
        return self._places["errors"]

    @property
    def by_label(self) -> slice:
        """Calibration by predicted class."""
        return self._places["by_label"]

    @property
    def by_class(self) -> slice:
        """Calibration of each class against the rest."""
        return self._places["by_class"]

    @cached_property
    def width(self) -> int:
        """Length of the vector."""
        return int(self.by_class.stop)

    def holds(self, width: int) -> bool:
        """True for the width of a vector of this table, or of one that was counted before it had `by_label`."""
        return width in (self.width, self.errors.stop)

    @cached_property
    def edges(self) -> Floats:
        """Edges of the score bins."""
        return np.array(self.spec.edges, dtype=np.float64)


def tabulate_outcomes(table: OutcomeTable, rows: JoinedRows, group: Ints, groups: int) -> Ints:
    """Tables of `groups` cells, (groups, width); group (n,) says which cell a row belongs to.

    A prediction without a label is given that of a score of at least ½, where the score is a probability; one outside
    [0, 1] is then none, and such a prediction stands in n alone. Predictions without an outcome are counted by
    `expected_rows`. errors: n, clipped, then with e the error and u the truth from the centre, in scales: Σe, Σ|e|,
    Σe², Σu, Σu² in 2**-20, Σe⁴, Σu³, Σu⁴, Σe²u, Σe²u² in 2**-10, and the chart's loss, Σ min(|e|/4, 1), in 2**-20.

    >>> table = OutcomeTable(OutcomeSpec(kind="binary", classes=("0", "1"), edges=(0.5,)))
    >>> rows = JoinedRows.of(score=np.array([0.25, 0.75, 0.75]), outcome=np.array([0, 1, 0]))
    >>> found = tabulate_outcomes(table, rows, np.zeros(3, np.int64), 1)[0]
    >>> found[table.n], found[table.bins].reshape(2, 5)[:, :2].tolist(), found[table.margins].reshape(2, 3).tolist()
    (np.int64(3), [[1, 0], [2, 1]], [[1, 1, 2], [1, 2, 1]])
    """
    spec, sign = table.spec, rows.sign
    counts = np.zeros((groups, table.width), dtype=np.int64)
    flat, at = counts.reshape(-1), group * table.width
    np.add.at(flat, at + table.n, sign)
    of_class = np.maximum(rows.outcome, 0) if table.delays > 1 else 0
    bucket = of_class * BUCKETS + bucket_of(rows.delay_ms.astype(np.float64))
    np.add.at(flat, at + table.delay.start + bucket, sign)
    if spec.kind == "regression":
        _tabulate_errors(table, rows, flat, at)
    else:
        _tabulate_classes(table, rows, flat, at)
    return counts


def expected_rows(table: OutcomeTable, counts: Ints) -> Ints:
    """Tables (groups, width) that say nothing but how many predictions could get an outcome: counts (groups,)."""
    found = np.zeros((counts.size, table.width), dtype=np.int64)
    found[:, table.expected] = counts
    return found


def losses_of(table: OutcomeTable, counts: Ints) -> tuple[Ints, Ints]:
    """What the chart of losses is fed: rows, and the sum of their losses in units of 2**-20; counts (…, width).

    A wrong label is a loss of 1; of a regression `min(|e|/4, 1)`. No rows where a score only ranks and has no label.
    """
    if table.spec.kind == "regression":
        return counts[..., table.errors][..., 0], counts[..., table.errors][..., 12]
    margins = counts[..., table.margins].reshape(*counts.shape[:-1], -1, 3)
    n = margins[..., 2].sum(axis=-1)
    return n, (n - margins[..., 0].sum(axis=-1)) << LOSS_BITS


def labels_by_score(table: OutcomeTable, counts: Ints) -> Ints:
    """What the chart of calibration is fed: (…, bins, 2) rows of outcome 0 and 1 by score; counts (…, width)."""
    bins = counts[..., table.bins].reshape(*counts.shape[:-1], -1, 5)
    return np.stack([bins[..., N] - bins[..., Y], bins[..., Y]], axis=-1)


def _tabulate_classes(table: OutcomeTable, rows: JoinedRows, flat: Ints, at: Ints) -> None:
    spec, classes = table.spec, table.classes
    scored = np.isfinite(rows.score)
    if spec.probability:  # what is none cannot be calibrated; that it came shows in the score's own chart
        scored &= (rows.score >= 0.0) & (rows.score <= 1.0)
    label = rows.label
    if spec.kind == "binary" and spec.probability:
        label = np.where((label < 0) & scored, (rows.score >= 0.5).astype(np.int64), label)
    here = np.flatnonzero((label >= 0) & (rows.outcome >= 0))
    said, true, sign, place = label[here], rows.outcome[here], rows.sign[here], at[here]
    inside = said < classes
    margins = place + table.margins.start
    np.add.at(flat, (margins + 3 * said)[said == true], sign[said == true])
    np.add.at(flat, (margins + 3 * said + 1)[inside], sign[inside])
    np.add.at(flat, margins + 3 * true + 2, sign)
    np.add.at(flat, (place + table.outside.start)[~inside], sign[~inside])
    if table.confusion.start < table.confusion.stop:
        np.add.at(flat, (place + table.confusion.start + classes * said + true)[inside], sign[inside])
    if rows.ranks is not None and table.top.start < table.top.stop:
        ranked = np.flatnonzero((rows.ranks[:, 0] >= 0) & (rows.outcome >= 0))
        hit = (rows.ranks[ranked] == rows.outcome[ranked, None]).any(axis=1)
        np.add.at(flat, at[ranked] + table.top.start, rows.sign[ranked])
        np.add.at(flat, (at[ranked] + table.top.start + 1)[hit], rows.sign[ranked][hit])
    y = rows.outcome if spec.kind == "binary" else (label == rows.outcome).astype(np.int64)
    known = np.flatnonzero(scored & (rows.outcome >= 0) & ((label >= 0) | (spec.kind == "binary")))
    _tabulate_scores(table, rows.score[known], y[known], rows.sign[known], flat=flat, at=at[known])
    if table.by_label.start == table.by_label.stop:
        return
    named = known[label[known] < classes]
    add_predicted(
        table, flat, at[named], score=rows.score[named], label=label[named], right=y[named], sign=rows.sign[named]
    )
    if rows.shares is not None:
        add_one_vs_rest(table, flat, at, shares=rows.shares, outcome=rows.outcome, sign=rows.sign)


def _tabulate_scores(table: OutcomeTable, score: Floats, y: Ints, sign: Ints, *, flat: Ints, at: Ints) -> None:
    place = at + table.bins.start + 5 * np.searchsorted(table.edges, score, side="left")
    np.add.at(flat, place + N, sign)
    np.add.at(flat, place + Y, sign * y)
    if not table.spec.probability:
        return
    p = score
    np.add.at(flat, place + P, sign * _fixed(p, SCORE_BITS))
    np.add.at(flat, place + PP, sign * _fixed(p * p, SCORE_BITS))
    np.add.at(flat, place + PY, sign * y * _fixed(p, SCORE_BITS))
    # A sure score that is wrong costs 36 nats, as elsewhere: the least number that 1 − p can hold.
    least = np.finfo(np.float64).eps
    right = np.clip(np.where(y == 1, p, 1.0 - p), least, 1.0)
    for i, loss in enumerate((-np.log(right), (p - y) ** 2)):
        np.add.at(flat, at + table.losses.start + 2 * i, sign * _fixed(loss, LOSS_BITS))
        np.add.at(flat, at + table.losses.start + 2 * i + 1, sign * _fixed(loss * loss, LOSS_BITS))


def _tabulate_errors(table: OutcomeTable, rows: JoinedRows, flat: Ints, at: Ints) -> None:
    spec = table.spec
    here = np.flatnonzero(np.isfinite(rows.value) & np.isfinite(rows.truth))
    sign, place = rows.sign[here], at[here] + table.errors.start
    raw = (rows.value[here] - rows.truth[here]) / spec.scale, (rows.truth[here] - spec.centre) / spec.scale
    e, u = (np.clip(one, -CLIP, CLIP) for one in raw)
    clipped = ((np.abs(raw[0]) > CLIP) | (np.abs(raw[1]) > CLIP)).astype(np.int64)
    np.add.at(flat, place, sign)
    np.add.at(flat, place + 1, sign * clipped)
    e2, u2 = e * e, u * u
    for i, term in enumerate((e, np.abs(e), e2, u, u2)):
        np.add.at(flat, place + 2 + i, sign * _fixed(term, LOSS_BITS))
    for i, term in enumerate((e2 * e2, u2 * u, u2 * u2, e2 * u, e2 * u2)):
        np.add.at(flat, place + 7 + i, sign * _fixed(term, FOURTH_BITS))
    np.add.at(flat, place + 12, sign * _fixed(np.minimum(np.abs(e) / LARGEST_ERROR, 1.0), LOSS_BITS))


def _fixed(values: Floats, bits: int) -> Ints:
    return np.rint(np.ldexp(values, bits)).astype(np.int64)
