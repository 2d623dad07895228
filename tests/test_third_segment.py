"""A third segment column from the file to the verdict: configuration, layout, reference, backtest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from streamer.applying import control_of, layout_of, plan
from streamer.commands import main
from streamer.config import load_text
from tests.histories import HOUR, START, reference, write_reference

FILE = """
models:
  m:
    reference: reference.json
    pane: 1h
    segments: [country, plan, device, browser]
"""
DAYS, A_DAY = 9, 4_000


def write_table(path: Path, *, days: int, start: int, seed: int, shift: float = 0.0) -> None:
    """Rows at an even pace; `income` of one device of two is moved by `shift` sd from the second day on."""
    rng = np.random.default_rng(seed)
    n = days * A_DAY
    ts = start + np.arange(n) * (24 * HOUR // A_DAY)
    device = rng.choice(["ios", "tv"], n)
    moved = (device == "tv") & (ts >= start + 24 * HOUR)
    columns = {
        "ts": ts,
        "income": (rng.standard_normal(n) + shift * moved).round(4),
        "age": rng.integers(18, 80, n),
        "country": rng.choice(["FR", "DE"], n),
        "plan": rng.choice(["gold", "free"], n),
        "device": device,
        "browser": rng.choice(["b1", "b2", "b3"], n),
    }
    lines = [",".join(map(str, row)) for row in zip(*(column.tolist() for column in columns.values()), strict=True)]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")


def tripline(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tripline", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_first_two_columns_are_crossed_and_the_others_have_tables_of_their_own() -> None:
    layout = layout_of("m", load_text(FILE).config.models["m"], reference())
    assert (layout.segments, layout.marginals) == (("country", "plan"), ("device", "browser"))


def test_a_third_column_is_a_new_layout_from_two_panes_on() -> None:
    two = FILE.replace(", device, browser", "")
    before, after = (layout_of("m", load_text(text).config.models["m"], reference()) for text in (two, FILE))
    control = control_of({"m": before}, {"m": reference()})
    [change] = plan({"m": after}, control, profiles=1, rates={}, times={"m": START})
    assert change.differences == ("marginals",)
    assert change.layout.from_ms == START + 2 * HOUR


def test_a_drift_in_one_value_of_a_third_column_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference and backtest by the commands; half of the rows move by 0.6 sd, and their own view says so."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "history.csv", days=DAYS, start=START - DAYS * 24 * HOUR, seed=1)
    write_table(tmp_path / "now.csv", days=3, start=START, seed=2, shift=0.6)
    (tmp_path / "tripline.yaml").write_text(FILE)
    columns = "country,plan,device,browser"
    assert tripline(monkeypatch, "reference", "build", "history.csv", "--model", "m", "--segments", columns,
                    "--features", "income,age", "-o", "reference.json") == 0  # fmt: skip
    assert tripline(monkeypatch, "check") == 0
    capsys.readouterr()
    assert tripline(monkeypatch, "backtest", "now.csv", "--model", "m", "--features", "income,age", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    [incident] = found["incidents"]
    named = {(evidence.get("view", ""), evidence["feature"]) for evidence in incident["evidence"]}
    assert incident["opened_at"].startswith("2025-01-07T0")
    assert {feature for _, feature in named} == {"income"}
    assert "device=tv" in str(incident["evidence"])
    assert "device=ios" not in str(incident["evidence"])
    explain = ("explain", "now.csv", "--model", "m", "--feature", "income", "--at", "2025-01-07T03:00:00Z")
    assert tripline(monkeypatch, *explain, "--view", "device=tv") == 0
    assert "device=tv" in capsys.readouterr().out


def test_a_sample_counts_each_event_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of marginal tables are not events: three lines are three events."""
    monkeypatch.chdir(tmp_path)
    write_reference(tmp_path)
    (tmp_path / "tripline.yaml").write_text(FILE)
    event = {"feature_set": "m", "ts": START, "features": {"age": 30}, "segment": {"device": "tv"}}
    (tmp_path / "sample.jsonl").write_text("\n".join([json.dumps(event)] * 3))
    tripline(monkeypatch, "check", "--sample", "sample.jsonl")
    assert "country is in the reference, but in none of the 3 events" in capsys.readouterr().out
