"""Predictions as the join sees them: what they said, by the outcome tables of their layout; and outcomes on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcomes import class_codes, kept_score, label_codes
from detectors.probabilities import ranks_of, share_of_two, shares_of, widened
from streamer.core.columns import Said
from streamer.core.pending import NONE
from streamer.core.plans import Plan

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


class Predicted(NamedTuple):
    """Predictions, (n,). place: of the layout in `JoinCells.plans`. append: s. The rest as in `Rows`, and of echoes
    shares, as in `JoinedRows`: of what waits they are not kept.
    """

    place: Ints
    ts: Ints
    append: Ints
    cell: Ints
    score: Floats
    label: Ints
    value: Floats
    ranks: Ints | None
    shares: Floats | None = None

    def take(self, at: Ints | Bools) -> Predicted:
        """Some of them."""
        return Predicted(
            place=self.place[at],
            ts=self.ts[at],
            append=self.append[at],
            cell=self.cell[at],
            score=self.score[at],
            label=self.label[at],
            value=self.value[at],
            ranks=None if self.ranks is None else self.ranks[at],
            shares=None if self.shares is None else self.shares[at],
        )

    def echoing(self, echo: Predicted | None) -> Predicted:
        """These rows, as they were kept, with the shares of their echoes; an echo that says otherwise has none.

        So what a correction takes out is what the first echo has put in.
        """
        if echo is None or echo.shares is None or self.ranks is None or echo.ranks is None:
            return self
        same = (echo.score == self.score) & (echo.label == self.label) & (echo.ranks == self.ranks).all(axis=1)
        return self._replace(shares=np.where(same[:, None], echo.shares, np.nan))


class Own(NamedTuple):
    """Outcomes that came with their predictions, (n,): −1 where none did. ts: ms."""

    code: Ints
    truth: Floats
    ts: Ints

    @classmethod
    def of(cls, plan: Plan, said: Said, ts: Ints) -> Own:
        """Those of predictions of one layout at `ts`; one beyond the horizon is none."""
        table = plan.outcomes
        code, truth = np.full(ts.size, NONE, dtype=np.int64), np.full(ts.size, np.nan)
        if said.outcome is None or table is None:
            return cls(code, truth, ts)
        at = ts if said.outcome_ts is None else said.outcome_ts
        if table.spec.kind == "regression":
            truth = said.outcome.number
            code = np.where(np.isnan(truth), NONE, 0)
        else:
            code = class_codes(table.spec, said.outcome.text)
        beyond = at > ts + plan.layout.horizon_ms
        return cls(np.where(beyond, NONE, code), truth, at)

    def take(self, at: Bools) -> Own:
        """Some of them."""
        return Own(self.code[at], self.truth[at], self.ts[at])

    @classmethod
    def concatenated(cls, parts: Sequence[Own], order: Ints) -> Own:
        """Those of several layouts, in `order`."""
        return cls(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def predicted_of(
    plan: Plan, place: int, said: Said, *, ts: Ints, append: Ints, cell: Ints, echo: bool = False
) -> Predicted:
    """What predictions of one layout said, as its outcomes are counted. echo: the probability of every class too."""
    assert plan.outcomes is not None
    spec = plan.outcomes.spec
    score, label = said.score, np.full(ts.size, NONE, dtype=np.int64)
    ranks, every = None, None
    if spec.kind != "regression":
        label = label_codes(spec, said.label)
    if said.proba is not None and spec.kind == "binary":
        # The layout may name another positive than the reference went by.
        share = share_of_two(said.proba, spec.classes[1])
        score = np.where(said.scored | np.isnan(share), score, share)
    if said.proba is not None and spec.kind == "multiclass":
        ranks = ranks_of(said.proba, {text: code for code, text in enumerate(spec.classes)})
        every = shares_of(said.proba, spec.classes) if echo and spec.probability else None
    return Predicted(
        place=np.full(ts.size, place, dtype=np.int64),
        ts=ts,
        append=append,
        cell=cell,
        score=kept_score(score),
        label=label,
        value=said.value if spec.kind == "regression" else np.full(ts.size, np.nan),
        ranks=ranks,
        shares=every,
    )


def concatenated(parts: Sequence[Predicted]) -> Predicted:
    """Predictions of several layouts."""
    if len(parts) == 1:
        return parts[0]
    ranks = None
    if any(part.ranks is not None for part in parts):
        ranks = np.concatenate(
            [np.full((part.ts.size, 5), NONE, np.int64) if part.ranks is None else part.ranks for part in parts]
        )
    wide = max((part.shares.shape[1] for part in parts if part.shares is not None), default=0)
    shares = [
        np.full((part.ts.size, wide), np.nan) if part.shares is None else widened(part.shares, wide) for part in parts
    ]
    return Predicted(
        place=np.concatenate([part.place for part in parts]),
        ts=np.concatenate([part.ts for part in parts]),
        append=np.concatenate([part.append for part in parts]),
        cell=np.concatenate([part.cell for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        ranks=ranks,
        shares=np.concatenate(shares) if wide else None,
    )
