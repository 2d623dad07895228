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


@pytest.mark.parametrize("timed", ["", ",outcome_ts=seen"])
@pytest.mark.parametrize("chart", ["error", "calibration"])
def test_explain_has_the_arithmetic_of_a_chart_of_outcomes(tripline: Run, chart: str, timed: str) -> None:
    """The verdict that the backtest has, and every bet of it by hand."""
    tripline("reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", MAP + timed)
    panes = performance(tripline("backtest", "live.csv", "--model", "m", "--map", MAP + timed, "--json", "-")[1])
    for pane in panes[12], panes[50]:
        said = next(one for one in pane["verdicts"] if one["feature"] == chart)
        where = ("explain", "live.csv", "--model", "m", "--map", MAP + timed, "--feature", chart, "--at", pane["start"])
        code, out, err = tripline(*where, "--json")
        assert code == 0, err
        one = json.loads(out)
        assert one["value"] == pytest.approx(said["verdict"]["value"], rel=1e-8)
        assert one["n"] == said["verdict"]["n"]
        assert one["limit"] == pytest.approx(one["budget"] if one["inside"] else one["budget"] / one["prior"])
        assert one["value"] == pytest.approx(np.mean([bet["weight"] * bet["after"] for bet in one["bets"]]))
        for k, bet in enumerate(one["bets"]):
            if chart == "error":
                p = min(one["mean"] + one["tolerance"], (1 + one["mean"]) / 2)
                gain = one["total"] * bet["step"] - one["n"] * np.log1p(p * np.expm1(bet["step"]))
            else:
                moved = [special.expit(special.logit(b["expected"]) + b["tolerated"][k]) for b in one["bins"]]
                gain = sum(
                    b["ones"] * b["delta"][k] - b["n"] * np.log1p(g * np.expm1(b["delta"][k]))
                    for b, g in zip(one["bins"], moved, strict=True)
                )
            assert bet["log_gain"] == pytest.approx(gain, abs=1e-3)
            assert bet["evidence"] == pytest.approx(min(bet["log_gain"] / bet["kappa"], bet["cap"]))
            assert bet["after"] == pytest.approx((bet["before"] + bet["entered"]) * np.exp(bet["evidence"]), rel=1e-3)
        assert f"m, {chart} (model), predictions from {pane['start']}" in tripline(*where)[1]


def test_explain_says_why_there_is_nothing_to_explain(tripline: Run) -> None:
    """A pane whose labels are not mature, and a table without outcomes."""
    tripline("reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", MAP + ",outcome_ts=seen")
    timed = ("--map", MAP + ",outcome_ts=seen")
    where = ("explain", "live.csv", "--model", "m", "--feature", "error", "--at", "2025-01-02T23:00Z")
    code, _, err = tripline(*where, *timed)
    assert (code, "or ends before they are mature" in err) == (2, True)
    Path("tripline.yaml").write_text(FILE.replace("outcome: y, ", ""))
    code, _, err = tripline(*where)
    assert (code, "the table has no outcomes" in err) == (2, True)


def test_explain_has_the_budget_of_the_backtest(tripline: Run) -> None:
    """Charts of outcomes have a part of it, so the features' limit is not that of a table without."""
    tripline("reference", "build", "train.csv", "--model", "m", "-o", "m.json", "--map", MAP)
    where = ("explain", "live.csv", "--model", "m", "--feature", "score", "--at", "2024-12-30T08:00Z", "--json")
    # 1,440 panes a month; `score` and `seen` have a third of it, two charts of outcomes, of weight two, the rest.
    assert json.loads(tripline(*where)[1])["budget"] == pytest.approx(1440 * 3)


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


def odd(folder: Path, name: str, columns: dict[str, Any], *, start: int, days: int) -> None:
    """A table of 60 rows an hour: what a function of (rng, n) gives, by column."""
    rng = np.random.default_rng(start // DAY)
    n = days * 1440
    made = {"timestamp": np.sort(rng.integers(start, start + days * DAY, n))}
    for key, draw in columns.items():
        made[key] = draw(rng, n, made)
    with (folder / name).open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(made)
        lines.writerows(zip(*made.values(), strict=True))


def build_and_backtest(tripline: Run, train: dict[str, Any], live: dict[str, Any]) -> tuple[str, str, Any]:
    """Words of the reference, words of the backtest, and its panes."""
    folder = Path()
    odd(folder, "a.csv", train, start=START - 14 * DAY, days=14)
    odd(folder, "b.csv", live, start=START, days=3)
    Path("tripline.yaml").write_text("models: {m: {reference: m.json, pane: 30m}}\n")
    code, built, said = tripline("reference", "build", "a.csv", "--model", "m", "-o", "m.json", "--map", "ts=timestamp")
    assert code == 0, said
    code, told, said = tripline("backtest", "b.csv", "--model", "m", "--map", "ts=timestamp")
    assert code == 0, said
    _, out, _ = tripline("backtest", "b.csv", "--model", "m", "--map", "ts=timestamp", "--json", "-")
    return built, told, performance(out)


def chance(rng: Any, n: int, _: Any) -> Any:
    return rng.beta(2, 5, n).round(5)


def test_words_as_classes_and_outcomes_that_lack(tripline: Run) -> None:
    """Classes are words, a tenth of the outcomes is empty: coverage says so, and a doubtful positive class is named."""

    def outcome(rng: Any, n: int, made: Any) -> Any:
        word = np.where(rng.random(n) < made["score"], "fraud", "legit").astype(object)
        word[rng.random(n) < 0.1] = ""
        return word

    columns = {"score": chance, "outcome": outcome}
    built, _, panes = build_and_backtest(tripline, columns, columns)
    assert "the positive class is 'legit'" in built
    assert "not of 'legit', build it anew with --positive fraud" in built
    assert 0.85 < np.mean([pane["coverage"] for pane in panes]) < 0.95
    tripline(
        "reference", "build", "a.csv", "--model", "m", "-o", "m.json", "--map", "ts=timestamp", "--positive", "fraud"
    )
    Path("tripline.yaml").write_text("models: {m: {reference: m.json, pane: 30m, outcomes: {positive: fraud}}}\n")
    _, out, _ = tripline("backtest", "b.csv", "--model", "m", "--map", "ts=timestamp", "--json", "-")
    found = [one["value"] for pane in performance(out) for one in pane["metrics"] if one["name"] == "roc_auc"]
    assert np.mean(found) > 0.6


def test_booleans_as_outcomes_and_labels(tripline: Run) -> None:
    """`True` and `False`, as pandas writes them: true is the positive class."""
    columns = {
        "score": chance,
        "label": lambda rng, n, made: made["score"] > 0.3,
        "outcome": lambda rng, n, made: rng.random(n) < made["score"],
    }
    built, told, _ = build_and_backtest(tripline, columns, columns)
    assert "the positive class is 'true'" in built
    assert "accuracy" in told


def test_a_regression_s_errors_are_in_its_own_unit(tripline: Run) -> None:
    """MAE, RMSE, bias and R² by pane; the incident says from what to what."""

    def truth(spread: float) -> Any:
        return lambda rng, n, made: (made["value"] + rng.normal(0, spread, n)).round(2)

    value = {"value": lambda rng, n, made: rng.gamma(2, 400, n).round(2)}
    _, told, panes = build_and_backtest(tripline, {**value, "outcome": truth(100)}, {**value, "outcome": truth(300)})
    assert "the mean error rose from 80" in told
    assert {one["name"] for one in panes[0]["metrics"]} == {"mae", "rmse", "bias", "r2"}


def test_outcomes_after_the_horizon_are_counted_as_such(tripline: Run) -> None:
    """They were nothing without a word, and of a regression "nothing that the reference knows"."""
    columns = {
        "value": lambda rng, n, made: rng.gamma(2, 400, n).round(2),
        "outcome": lambda rng, n, made: (made["value"] + rng.normal(0, 100, n)).round(2),
        "outcome_ts": lambda rng, n, made: made["timestamp"] + np.where(np.arange(n) % 100 == 7, 8 * DAY, 60_000),
    }
    _, told, panes = build_and_backtest(tripline, columns, columns)
    lacking = sum(pane["expected"] - pane["n"] for pane in panes)
    assert lacking == 44
    assert "44 outcomes came after the horizon and count as none" in told
    assert "nothing that the reference knows" not in told


def test_several_classes_as_words(tripline: Run) -> None:
    """Top-1 and macro F1 by pane, each class in the JSON."""

    def right(share: float) -> Any:
        return lambda rng, n, made: np.where(
            rng.random(n) < share, made["label"], rng.choice(["cat", "dog", "bird"], n)
        )

    label = {"label": lambda rng, n, made: rng.choice(["cat", "dog", "bird"], n, p=[0.5, 0.3, 0.2])}
    _, told, panes = build_and_backtest(tripline, {**label, "outcome": right(0.8)}, {**label, "outcome": right(0.4)})
    assert "top 1" in told
    assert "the error rate rose from 13" in told
    assert {one["of"] for one in panes[0]["metrics"] if one["name"] == "recall"} == {"cat", "dog", "bird"}


def test_outcomes_of_a_class_that_the_reference_lacks_are_named(tripline: Run) -> None:
    """They count as labels that lack, and the backtest says which words and how many."""

    def outcome(*names: str) -> Any:
        return lambda rng, n, made: rng.choice(names, n)

    label = {"label": outcome("cat", "dog")}
    _, told, panes = build_and_backtest(
        tripline, {**label, "outcome": outcome("cat", "dog")}, {**label, "outcome": outcome("cat", "dog", "wolf")}
    )
    lacking = sum(pane["expected"] - pane["n"] for pane in panes)
    assert f"{lacking:,} outcomes are nothing that the reference knows and count as none: 'wolf' ({lacking:,})" in told


def test_scores_that_are_no_probabilities_rank(tripline: Run) -> None:
    """Margins of a machine: an AUC, no calibration, and the reference says why."""
    columns = {
        "score": lambda rng, n, made: rng.normal(0, 2, n).round(4),
        "outcome": lambda rng, n, made: (rng.random(n) < special.expit(made["score"])).astype(int),
    }
    built, _, panes = build_and_backtest(tripline, columns, columns)
    assert "so it is no probability: it ranks (AUC)" in built
    assert {one["name"] for one in panes[0]["metrics"]} == {"roc_auc", "average_precision"}
    assert panes[0]["calibration"] is None


def test_levels_may_be_called_anything(tripline: Run) -> None:
    """`[/]` closes a style where a console reads styles: the backtest ended with an exception."""

    def word(share: float) -> Any:
        return lambda rng, n, made: np.where(rng.random(n) < share, "[/]", "[red]b")

    columns = {"score": chance, "outcome": lambda rng, n, made: (rng.random(n) < made["score"]).astype(int)}
    _, told, _ = build_and_backtest(tripline, {**columns, "word": word(0.3)}, {**columns, "word": word(0.8)})
    assert any(moved in told for moved in ("the share of [/] in word rose", "the share of [red]b in word fell"))


def test_that_nothing_may_page_is_said(tripline: Run) -> None:
    """Of a reference of two days, `no incident` says more than is known; of rows without times, what is learned."""
    value = {"x": lambda rng, n, made: rng.normal(0, 1, n).round(3)}
    odd(Path(), "short.csv", value, start=START - 2 * DAY, days=2)
    odd(Path(), "live.csv", {"x": lambda rng, n, made: rng.normal(2, 1, n).round(3)}, start=START, days=8)
    Path("tripline.yaml").write_text("models: {m: {reference: m.json, pane: 30m}}\n")
    tripline("reference", "build", "short.csv", "--model", "m", "-o", "m.json", "--map", "ts=timestamp")
    _, told, said = tripline("backtest", "live.csv", "--model", "m", "--map", "ts=timestamp")
    assert "no incident" in told
    assert "note: the reference is provisional, and only hard rules page: 2.0 days" in said
    values = [line.partition(",")[2] for line in Path("short.csv").read_text().splitlines()]
    Path("bag.csv").write_text("\n".join(values))
    tripline("reference", "build", "bag.csv", "--model", "m", "-o", "m.json")
    _, told, _ = tripline("backtest", "live.csv", "--model", "m", "--map", "ts=timestamp")
    assert "learned   learned from the stream's own first week: " in told
