"""`tripline backtest` on a table with outcomes: performance and calibration by pane, and the alerts."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from streamer.commands import main

HOUR, DAY, START = 3_600_000, 86_400_000, 1_735_516_800_000
MAP = "ts=at,score=p,outcome=y,id=key"
FILE = """models:
  m:
    reference: m.json
    pane: 30m
    table: {mapping: {ts: at, score: p, outcome: y, id: key}}
"""
Run = Callable[..., tuple[int, str, str]]


def write(path: Path, *, seed: int, start: int, days: int, turn: float | None = None) -> None:
    """100 rows an hour; positives are labelled after some 2 hours, negatives after some 6; from day `turn` on scores
    mean the opposite.
    """
    rng = np.random.default_rng(seed)
    n = days * 2400
    at = np.sort(rng.integers(start, start + days * DAY, n))
    p = rng.beta(2, 5, n)
    steep = np.where((at - start) / DAY >= (days if turn is None else turn), -1.0, 1.0)
    y = rng.binomial(1, special.expit(steep * special.logit(p)))
    seen = at + (rng.exponential(np.where(y == 1, 2.0, 6.0)) * HOUR).astype(np.int64)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["at", "p", "y", "seen", "key"])
        words = [f"k{seed}-{i}" for i in range(n)]
        lines.writerows(zip(at.tolist(), p.round(6).tolist(), y.tolist(), seen.tolist(), words, strict=True))


@pytest.fixture
def tripline(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in a folder with two weeks of history, a turned week, and a configuration."""
    write(tmp_path / "train.csv", seed=1, start=START - 14 * DAY, days=14)
    write(tmp_path / "live.csv", seed=2, start=START, days=4, turn=2.0)
    (tmp_path / "tripline.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tripline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def performance(out: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(out)["performance"]
    return found


def test_performance_and_calibration_by_pane_and_the_alerts(tripline: Run) -> None:
    """The mapping of an outcome is enough: a reference that knows it, a table of panes, an incident of both charts."""
    code, out, _ = tripline("reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", MAP)
    assert code == 0
    assert "outcomes: 33,600 rows; the positive class is '1'" in out
    assert "no times of labels: maturity is not learned" in out
    code, out, _ = tripline("backtest", "live.csv", "--model", "m")
    assert code == 0
    assert "the error rate rose from 2" in out
    assert "performance by time of the prediction: 96 outcome panes of 1h, one in 3 shown" in out
    assert "AUC" in out
    assert "ECE (noise)" in out
    panes = performance(tripline("backtest", "live.csv", "--model", "m", "--json", "-")[1])
    assert [pane["start"] for pane in panes[:2]] == ["2024-12-30T00:00:00Z", "2024-12-30T01:00:00Z"]
    assert sum(pane["n"] for pane in panes) == sum(pane["expected"] for pane in panes) == 9600
    assert {pane["coverage"] for pane in panes} == {1.0}
    metrics = [{one["name"]: one for one in pane["metrics"]} for pane in panes]
    assert np.mean([one["roc_auc"]["value"] for one in metrics[:40]]) > 0.65
    assert np.mean([one["roc_auc"]["value"] for one in metrics[50:]]) < 0.35
    assert all(one["accuracy"]["low"] <= one["accuracy"]["value"] <= one["accuracy"]["high"] for one in metrics)
    assert {one["feature"] for one in panes[0]["verdicts"]} == {"error", "calibration"}
    assert panes[0]["calibration"]["ece"] > 0


def test_times_of_outcomes_make_charts_wait(tripline: Run) -> None:
    """With `outcome_ts` the maturity is learned, panes are taken when their labels had come, the last ones not yet."""
    timed = f"{MAP},outcome_ts=seen"
    _, out, _ = tripline("reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", timed)
    assert "99 % of the labels had come after " in out
    panes = performance(tripline("backtest", "live.csv", "--model", "m", "--map", timed, "--json", "-")[1])
    early = [pane for pane in panes if pane["early"]]
    assert 24 <= len(early) <= 48
    assert early == panes[-len(early) :]
    assert panes[0]["delays"]["0"]["p50"] > panes[0]["delays"]["1"]["p50"]


def test_a_table_without_outcomes_has_no_performance(tripline: Run) -> None:
    """Nothing is printed, nothing is in the JSON, and the whole budget is the features'."""
    tripline("reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", MAP)
    without = "ts=at,score=p,id=key"
    Path("tripline.yaml").write_text(FILE.replace("outcome: y, ", ""))
    code, out, _ = tripline("backtest", "live.csv", "--model", "m", "--map", without, "--json", "-")
    assert code == 0
    assert "performance" not in json.loads(out)


def test_a_class_that_outcomes_never_had_cannot_be_positive(tripline: Run) -> None:
    """`--positive` of an unknown class is one line, with what there is."""
    code, _, err = tripline(
        "reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", MAP, "--positive", "fraud"
    )
    assert code == 2
    assert "'fraud' is none of the classes ['0', '1']" in err
