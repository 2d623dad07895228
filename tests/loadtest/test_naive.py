"""The naive user's table: what is drawn, what our verdict on a batch is, and what the others are asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loadtest.detect import naive, naive_rows, naive_table
from loadtest.detect.naive_rows import CHANGES, KINDS, Data
from loadtest.detect.peers import Peers


def test_a_batch_is_drawn_again_to_the_bit_and_another_night_is_another() -> None:
    data = Data(n=40, features=10)
    assert data.batch(3).tobytes() == data.batch(3).tobytes()
    assert data.batch(3).tobytes() != data.batch(4).tobytes()
    assert data.batch(3).tobytes() != Data(n=40, features=10, seed=1).batch(3).tobytes()


def test_columns_are_of_their_kinds() -> None:
    rows = Data(n=20_000, features=10).batch(0)
    assert [len(np.unique(rows[:, i])) for i, kind in enumerate(KINDS) if isinstance(kind, int)] == [2, 5, 20, 50, 200]
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("place", range(len(CHANGES)), ids=lambda place: CHANGES[place][0])
def test_a_change_is_of_the_first_column_only(place: int) -> None:
    rows = Data(n=20_000, features=10).batch(0, place)
    _, added, factor, missing = CHANGES[place]
    first = rows[:, 0]
    assert np.nanmean(first) == pytest.approx(added, abs=0.04)
    assert np.nanstd(first) == pytest.approx(factor, abs=0.03)
    assert np.isnan(first).mean() == pytest.approx(missing, abs=0.01)
    assert np.isfinite(rows[:, 1:]).all()


def test_our_verdict_is_silent_without_a_change_and_finds_half_a_deviation() -> None:
    counted = naive.Counted()
    naive.ours(Data(n=1_000, features=10, seed=7), counted, power=True)
    assert (counted.sets, counted.flagged, counted.any_column) == (4, 0, 0)
    assert counted.found[".5 sd"] == counted.found["5 % missing"] == 1
    assert counted.within[".25 sd"] == 1


def test_thirty_batches_on_end_keep_their_budget() -> None:
    """Four budgets; one false alarm in each is promised at most."""
    assert naive.budget_row(200, runs=4, seed=7)["alarms"] <= 4


def test_a_small_table_says_that_it_does_not_know() -> None:
    """At 50 rows a night some columns are undecided; at 1,000 none is."""
    shares = []
    for n in (50, 1_000):
        counted = naive.Counted()
        naive.ours(Data(n=n, features=10, seed=7), counted, power=False)
        shares.append(counted.undecided)
    assert shares[0] > 0
    assert shares[1] == 0


def test_without_an_environment_the_others_are_not_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table says why, and a case that is kept is not done again."""
    monkeypatch.setattr(naive, "QUICK", (naive.Case(60, 5, 1, 1, power=False),))
    monkeypatch.setattr(naive, "open_peers", lambda *_, **__: Peers(None, "no network"))
    found = naive.run(quick=True, seed=3, say=lambda _: None, keep=tmp_path)
    text = naive_table.markdown(found)
    assert "| n/a (no network) |" in text
    assert "Nothing changed: Tripline flags 0 of 4 data sets" in text
    kept = tmp_path / "naive-3-60x5.json"
    lines = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps([line | {"sets": 77} for line in lines]), encoding="utf-8")
    assert naive.run(quick=True, seed=3, say=lambda _: None, keep=tmp_path)["lines"][0]["sets"] == 77


def test_the_table_has_a_row_for_every_tool_and_change() -> None:
    data, lines = Data(n=60, features=5), []
    for tool in naive.TOOLS:
        one = naive.Counted()
        one.null(data, [False, True, False, False, False], flagged=False)
        for change in naive_rows.CHANGES:
            one.change(change[0], found=True, within=True if tool == "tripline" else None)
        lines.append({"n": 60, "features": 5, "tool": tool, "why": "", **vars(one)})
    found = {
        "lines": lines, "budgets": [{"n": 60, "runs": 2, "alarms": 1, "said": {"5 levels: unseen up": 1}}],
        "quick": True, "seed": 0,
        "versions": {"evidently": "1"}, "why": "", "cores": 2, "seconds": 1.0,
    }  # fmt: skip
    text = naive_table.markdown(found)
    assert "Evidently flags 1 of 1 with a column" in text
    assert "| 60 | 5 | Tripline | 1 | 100% (100%) | 100% (100%) | 100% (100%) | 100% (100%) |" in text
    assert "| 60 | 2 | 1 | 0.50 | 5 levels: unseen up (1) |" in text
