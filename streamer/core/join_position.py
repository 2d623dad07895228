"""What the position record says of the join, and its totals for metrics."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

#: What is counted beside the accounts: see `JoinPosition.counts`.
COUNTS = ("matched", "corrected", "duplicate", "unmatched", "echoed", "late", "early", "over_limit")


class JoinPosition(msgspec.Struct, kw_only=True):
    """What the position record says of the join.

    first, next: numbers of the pending rows; digest: of them, their outcomes and the outcomes that wait. first_record,
    next_record: numbers of the changelog's records. waiting: outcomes that wait; next_waiting: number of the next.
    predicted_s, told_s: largest append times, s. seen: largest time of outcomes by model. counts, since the start:
    matched, corrected, duplicate, unmatched; echoed: with their prediction in them; late: matched after maturity;
    early: that waited for their prediction; over_limit: predictions that were not kept.
    """

    first: int
    next: int
    digest: int
    first_record: int
    next_record: int
    waiting: int
    next_waiting: int
    predicted_s: int
    told_s: int
    seen: dict[str, int]
    counts: dict[str, int]


def outcome_counts(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Totals for metrics, by (metric, state): `JoinPosition.counts`.

    >>> outcome_counts({"matched": 7})["outcomes", "matched"], len(outcome_counts({}))
    (7, 8)
    """
    found = {("outcomes", name): counts.get(name, 0) for name in COUNTS if name != "over_limit"}
    return found | {("predictions_not_kept", ""): counts.get("over_limit", 0)}
