"""Models of several classes end to end: one class's probability turns false, in a stream of echoes and in a table."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special
from typer.testing import CliRunner

from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.rows import Rows
from schemas.layouts import Layout
from streamer.applying import control_of
from streamer.commands import app
from streamer.core.records import PlainRecord
from streamer.replaying import Replay

HOUR, DAY = 3_600_000, 86_400_000
#: A Monday; the reference is the two weeks before.
BEGIN = 1_735_516_800_000
NAMES = ("bird", "cat", "dog")
RATE = 120  # rows an hour


def drawn(begin: int, days: int, *, seed: int, tilt: float = 0.0) -> tuple[Any, Any, Any]:
    """Times, probabilities, and classes that came true: a dog less often than it should by `tilt` in logit."""
    rng, n = np.random.default_rng(seed), days * 24 * RATE
    ts = np.sort(rng.integers(begin, begin + days * DAY, n))
    share = np.round(special.softmax(rng.normal(0, 1.5, (n, 3)), axis=1), 4)
    true = special.softmax(np.log(share + 1e-9) - np.array([0.0, 0.0, tilt]), axis=1)
    return ts, share, (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def mappings(share: Any) -> list[dict[str, float]]:
    return [dict(zip(NAMES, row, strict=True)) for row in share.tolist()]


@cache
def reference() -> Reference:
    ts, share, outcome = drawn(BEGIN - 14 * DAY, 14, seed=1)
    names = np.array(NAMES, dtype=object)
    rows = Rows(
        ts=ts,
        columns={"score": share.max(axis=1), "label": names[share.argmax(axis=1)], "outcome": names[outcome]},
        proba=np.array(mappings(share), dtype=object),
    )
    builder = ReferenceBuilder("m")
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def told(*, tilt: float, days: int) -> Replay:
    """Predictions, and of each an outcome with the prediction in it."""
    layout = Layout(
        model="m", from_ms=0, reference=reference().id, pane_ms=HOUR, monitored=("score",), horizon_ms=DAY,
        maturity_ms=2 * HOUR, max_alert_age_ms=None,
    )  # fmt: skip
    replay = Replay(control_of({"m": layout}, {"m": reference()}))
    ts, share, outcome = drawn(BEGIN, days, seed=2, tilt=tilt)
    offset = 0
    for at in range(BEGIN, BEGIN + days * DAY, HOUR):
        here = np.flatnonzero((ts >= at) & (ts < at + HOUR)).tolist()
        for name in ("predictions", "outcomes"):
            records = []
            for i in here:
                when, proba = int(ts[i]), dict(zip(NAMES, share[i].tolist(), strict=True))
                said = {"id": f"p{i}", "model": "m", "ts": when, "proba": proba}
                echo = {**said, "label": NAMES[outcome[i]], "prediction": said}
                del echo["proba"]
                value = json.dumps(said if name == "predictions" else echo).encode()
                records.append(PlainRecord(name, 0, offset + len(records), when, b"p", value))
            replay.records(name, records)
        offset += 100_000
        replay.tick("predictions", append_ts=at + HOUR)
    return replay


def test_echoes_show_the_class_that_lies() -> None:
    """The chart of all scores together says nothing: what dogs lose cats and birds win."""
    incidents = told(tilt=1.0, days=4).said.incidents
    found = {one.feature: one.direction for one in incidents[-1].evidence}
    assert "shifted down" in found["calibration of dog"]


def test_echoes_of_a_model_as_it_was_page_nobody() -> None:
    replay = told(tilt=0.0, days=6)
    assert replay.said.incidents == []
    last = [report for _, report in sorted(replay.said.matured.items())][-1]
    assert [one.feature for one in last.verdicts] == ["error", "calibration", *(f"calibration of {n}" for n in NAMES)]
    assert (last.n, last.coverage) == (last.expected, 1.0)
    assert {(one.of, one.kind) for one in last.views[0].classes} >= {(name, "one_vs_rest") for name in NAMES}


def write(path: Path, begin: int, days: int, *, seed: int, tilt: float = 0.0) -> None:
    ts, share, outcome = drawn(begin, days, seed=seed, tilt=tilt)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["ts", "proba", "outcome"])
        lines.writerows(
            (when, json.dumps(one), NAMES[which])
            for when, one, which in zip(ts.tolist(), mappings(share), outcome.tolist(), strict=True)
        )


def test_a_csv_with_probabilities_as_json_is_learned_and_backtested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From two files to the sentence that on-call reads; top-5 and every class are in the JSON."""
    monkeypatch.chdir(tmp_path)
    write(Path("train.csv"), BEGIN - 14 * DAY, 14, seed=1)
    write(Path("live.csv"), BEGIN, 4, seed=3, tilt=1.0)
    Path("tripline.yaml").write_text("models: {m: {reference: m.json, pane: 1h}}\n")
    built = CliRunner().invoke(app, ["reference", "build", "train.csv", "--model", "m", "-o", "m.json"])
    assert "3 of 3 classes have a chart of their own" in built.output
    said = CliRunner().invoke(app, ["backtest", "live.csv", "--model", "m"])
    assert "dog is rarer than its probability says" in said.output
    plain = json.loads(CliRunner().invoke(app, ["backtest", "live.csv", "--model", "m", "--json", "-"]).stdout)
    pane = plain["performance"][0]
    assert {(one["of"], one["kind"]) for one in pane["classes"]} >= {(name, "one_vs_rest") for name in NAMES}
    assert "top_5" in {one["name"] for one in pane["metrics"]}
