"""What waits for outcomes, before anything runs: rate × horizon × bytes, and whether a task may keep it."""

from __future__ import annotations

import pytest

from streamer.pending_estimate import pending_estimate, too_many
from tests.core.test_maturing import DAY, HOUR, N, layout, reference


def test_rows_are_the_rate_times_as_long_as_an_outcome_may_come() -> None:
    """20 predictions in ten minutes, 7 days and an hour: 20,280 rows of 40 bytes."""
    found = pending_estimate({"m": layout(horizon_ms=7 * DAY, hold_ms=HOUR)}, {"m": reference()})
    assert found is not None
    assert found.rows == pytest.approx(169 * 6 * N, rel=0.01)
    assert found.bytes == 40 * found.rows
    assert found.words == "m 2,880 a day × 7d1h"


def test_nothing_waits_where_nothing_is_joined() -> None:
    assert pending_estimate({"m": layout(horizon_ms=0)}, {"m": reference()}) is None


def test_what_a_task_cannot_keep_is_refused_with_the_sum() -> None:
    """`check` makes an error of this; more partitions, more tasks, fewer rows in each."""
    found = pending_estimate({"m": layout(horizon_ms=7 * DAY, hold_ms=HOUR)}, {"m": reference()})
    assert found is not None
    refused = too_many(found, limit=15_000, partitions=1)
    assert refused.startswith("is too little: 20,2")
    assert "in each of 1 partitions; at 40 bytes each that takes 1 MB" in refused
    assert too_many(found, limit=15_000, partitions=2) == ""
