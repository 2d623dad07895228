"""Nothing lost, nothing twice, nothing stops it: a storm of faults over real parts, and the invariants afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kinds import FAULTS
from tests.faults.running import carry_out, plan
from tests.faults.storm import Storm


def test_a_plan_has_every_kind_before_any_comes_again() -> None:
    """The same seed is the same plan."""
    kinds = len(FAULTS)
    assert plan(3, kinds) == plan(3, kinds)
    assert sorted(name for name, _ in plan(3, kinds)) == sorted(FAULTS)


@pytest.mark.timeout(900)
def test_one_fault_of_each_kind_breaks_no_invariant(version: str, tmp_path: Path) -> None:
    """Two workers, four partitions; `make faults` is the long form."""
    with Storm(tmp_path, version=version) as storm:
        outcome = carry_out(storm, plan(1, len(FAULTS)), seed=1)
    print(outcome.table())
    assert outcome.wrong == []
    assert outcome.windows > 20
