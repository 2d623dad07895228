"""A benchmark that broke off goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.detect import report
from loadtest.detect.pieces import Pieces
from loadtest.detect.rows import bar, row_of

TASK = ("honesty", "null ar .9", 50, 1)
FOUND = [(row_of("tripline", "null ar .9", arl0=None, setting=""), [bar("one", 0.25, 0.3)])]


def test_a_piece_is_done_once(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path / "kept", quick=True, seed=3)
    assert TASK not in pieces
    assert pieces.done(TASK, lambda: FOUND) == FOUND
    assert TASK in pieces
    assert pieces.done(TASK, list) == FOUND
    assert pieces.taken()["pieces"] == 1


def test_another_seed_or_length_is_another_piece(tmp_path: Path) -> None:
    Pieces(tmp_path, quick=True, seed=3).done(TASK, lambda: FOUND)
    assert TASK not in Pieces(tmp_path, quick=True, seed=4)
    assert TASK not in Pieces(tmp_path, quick=False, seed=3)
    assert TASK not in Pieces(None, quick=True, seed=3)


def test_a_piece_that_broke_off_leaves_nothing(tmp_path: Path) -> None:
    def breaks() -> list[object]:
        raise KeyboardInterrupt

    pieces = Pieces(tmp_path, quick=True, seed=3)
    with pytest.raises(KeyboardInterrupt):
        pieces.done(TASK, breaks)  # type: ignore[arg-type]
    assert TASK not in pieces


def test_no_two_tasks_share_a_file(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, quick=False, seed=0)
    wanted = [*report.tasks(report.GROUPS, quick=False), *report.peer_tasks(report.GROUPS, quick=False)]
    for task in wanted:
        pieces.done(task, list)
    assert pieces.taken()["pieces"] == len(wanted)


def test_the_benchmark_takes_what_is_kept(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, quick=True, seed=3)
    for task in report.tasks(["honesty"], quick=True):
        pieces.done(task, lambda: FOUND)
    found = report.bench(quick=True, seed=3, only=["honesty"], keep=tmp_path, jobs=1, say=lambda _: None)
    assert [row["stream"] for row in found["rows"]] == ["null ar .9"] * 6
    assert found["kept"]["pieces"] == 6


def test_a_run_so_far_names_what_lacks(tmp_path: Path) -> None:
    Pieces(tmp_path, quick=True, seed=3).done(TASK, lambda: FOUND)
    found = report.collected(tmp_path, seed=3, quick=True)
    assert [row["stream"] for row in found["rows"]] == ["null ar .9"]
    assert len(found["bars"]) == 1
    assert "delay null iid 50 1" in found["lacking"]
    assert "honesty null ar .9 50 1" not in found["lacking"]


def test_costs_are_a_piece_too(tmp_path: Path) -> None:
    """They are measured once, and a run so far has them, or says that they lack."""
    assert "cost" in report.collected(tmp_path, seed=3, quick=True)["lacking"]
    found = ([{"what": "a tick", "ns_per_bet": 24.0}], [bar("a tick: ns", 24.0, 25.0)])
    pieces = Pieces(tmp_path, quick=True, seed=3)
    assert pieces.costs(lambda: found) == found
    assert pieces.costs(lambda: ([], [])) == found
    so_far = report.collected(tmp_path, seed=3, quick=True)
    assert (so_far["cost"], so_far["bars"]) == found
    assert "cost" not in so_far["lacking"]
    assert Pieces(None, quick=True, seed=3).costs(lambda: found) == found
