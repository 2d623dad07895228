"""What predictions say that cannot be: probabilities that are none, and outcomes on the record that fit no class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcomes import OutcomeTable, class_codes
from schemas.events import EARLIEST_MS, FUTURE_MS, DropReason
from streamer.core.admission import Unfit
from streamer.core.columns import Column, as_text, truth_of
from streamer.core.timestamps import LATEST_MS, milliseconds

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: On one record there is one clock; outcomes that come by themselves may be a little sooner by theirs.
SOONER = "outcome_ts: is before the prediction's ts"
#: Probabilities are written with few digits, and there may be a hundred of them.
ROUNDING = 0.02


def unfit_outputs(
    columns: Mapping[str, Column], append: Ints, model: Ints, tables: Sequence[Sequence[OutcomeTable]]
) -> list[Unfit]:
    """Predictions whose `proba` or `outcome` is refused. tables: those of each code of `model`, (n,)."""
    proba, found = columns["proba"], list[Unfit]()
    if proba.count(None) < len(proba):
        found = [Unfit(rows, DropReason.SCHEMA, words) for rows, words in unfit_shares(proba)]
    outcome = columns.get("outcome")
    if outcome is not None and outcome.count(None) < len(outcome):
        found += _unfit_outcomes(columns, outcome, append, model, tables)
    return found


def unfit_shares(proba: Sequence[Any]) -> list[tuple[Ints, str]]:
    """Rows whose probabilities are none, and why.

    >>> for rows, words in unfit_shares([{"a": 1.5, "b": -0.5}, {"a": 0.5, "b": 0.3}, None, "much"]):
    ...     print(rows, words)
    [3] proba: expected an object of numbers
    [0] proba: outside [0, 1]
    [1] proba: does not sum to 1
    """
    there = [(at, shares) for at, shares in enumerate(proba) if shares]
    odd = [at for at, shares in there if not isinstance(shares, Mapping)]
    known = [(at, shares) for at, shares in there if isinstance(shares, Mapping)]
    outside = [at for at, shares in known if not _are_shares(shares)]
    sums = [at for at, shares in known if abs(math.fsum(shares.values()) - 1.0) > ROUNDING]
    named = ((odd, "expected an object of numbers"), (outside, "outside [0, 1]"), (sums, "does not sum to 1"))
    return [(np.array(rows, dtype=np.int64), f"proba: {words}") for rows, words in named if rows]


def misfits(tables: Sequence[OutcomeTable], column: Sequence[Any]) -> Bools:
    """Which outcomes, each there, none of these tables can count."""
    fits = np.zeros(len(column), dtype=bool)
    for table in tables:
        if table.spec.kind == "regression":
            fits |= ~np.isnan(truth_of(column).number)
        else:
            fits |= class_codes(table.spec, as_text(column)) >= 0
    return ~fits


def _are_shares(shares: Mapping[str, float]) -> bool:
    return all(0.0 <= share <= 1.0 for share in shares.values())


def _unfit_outcomes(
    columns: Mapping[str, Column], outcome: Column, append: Ints, model: Ints, tables: Sequence[Sequence[OutcomeTable]]
) -> list[Unfit]:
    found = []
    there = np.flatnonzero([one is not None for one in outcome])
    for code in np.unique(model[there]).tolist():
        mine = there[model[there] == code]
        if tables[code]:
            wrong = mine[misfits(tables[code], [outcome[at] for at in mine.tolist()])]
            if wrong.size:
                found.append(Unfit(wrong, DropReason.SCHEMA, "outcome: is none of the classes"))
    timed = there[[columns["outcome_ts"][at] is not None for at in there.tolist()]]
    if timed.size:
        ts = milliseconds([columns["outcome_ts"][at] for at in timed.tolist()])
        unsound = (ts < EARLIEST_MS) | (ts > LATEST_MS)
        ahead = ~unsound & (ts > append[timed] + FUTURE_MS) & (append[timed] >= 0)
        sooner = ~unsound & (ts < milliseconds([columns["ts"][at] for at in timed.tolist()]))
        if unsound.any():
            found.append(Unfit(timed[unsound], DropReason.SCHEMA, "outcome_ts: is no time after 1980"))
        if ahead.any():
            found.append(Unfit(timed[ahead], DropReason.FUTURE, "outcome_ts"))
        if sooner.any():
            found.append(Unfit(timed[sooner], DropReason.SCHEMA, SOONER))
    return found
