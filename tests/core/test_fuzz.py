"""No record gets out of stage 1 as an exception, and none gets lost: the CI-sized run of loadtest/fuzz.py."""

from __future__ import annotations

import pytest

from loadtest.fuzz import run


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_fifty_thousand_hostile_records_are_all_accounted_for(seed: int) -> None:
    """Consumed = applied + waiting + dropped after every batch; every kind of bad record is among them."""
    found = run(50_000, seed=seed)
    drops = found.state.drops
    assert found.state.consumed == 50_000
    assert min(drops[reason] for reason in ("decode", "schema", "unknown_model", "non_finite", "late", "duplicate")) > 0
    assert found.state.applied > 5_000
