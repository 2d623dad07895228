"""The command that measures charts of classes measures what it says."""

from __future__ import annotations

from loadtest.class_charts import CHANGED, QUIET, alarms, scope_of


def test_a_budget_of_shocks_is_quiet_and_a_rarer_class_is_found() -> None:
    before, after = QUIET["shocks of an hour"]
    assert alarms(scope_of(before, 3, seed=1), after, hours=720, seed=1) == []
    before, after = CHANGED["the last class rarer by .8"]
    hour, name = alarms(scope_of(before, 3, seed=1), after, hours=100, seed=1)[0]
    assert (hour < 50, name) == (True, "calibration of c02")
