"""Lists of features in the configuration, and the commands: what is denied is in no file, and in no word of theirs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from detectors.references import loads
from streamer.applying import load_references, targets
from streamer.commands import main
from streamer.config import ConfigurationErrors, load, load_text
from tests.histories import START, rows, write_reference

SECRET = "s3cret"
FILE = "models:\n  m:\n    reference: reference.json\n    pane: 1h\n    features: {deny: [ssn, 'e*mail']}\n"


class Ran(NamedTuple):
    code: int
    said: str


Run = Callable[..., Ran]


@pytest.fixture
def tripline(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in a folder with a reference, a configuration that denies, and a table with what is denied."""
    write_reference(tmp_path)
    (tmp_path / "tripline.yaml").write_text(FILE)
    table = rows(60, start=START, seed=2, shift=1.0, since=24)
    columns = zip(table.ts.tolist(), table.columns["age"].tolist(), table.columns["country"].tolist(), strict=True)
    lines = [f"{ts},{age},{country},{SECRET}-{ts},{SECRET}@{ts}" for ts, age, country in columns]
    (tmp_path / "history.csv").write_text("\n".join(["ts,age,country,ssn,e-mail", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tripline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out + said.err)

    return run


def errors_of(text: str, folder: Path) -> str:
    loaded = load_text(text, file=str(folder / "tripline.yaml"))
    with pytest.raises(ConfigurationErrors) as raised:
        targets(loaded, load_references(loaded))
    return str(raised.value)


def test_a_reference_is_built_without_what_the_configuration_denies(tripline: Run, tmp_path: Path) -> None:
    ran = tripline("reference", "build", "history.csv", "--model", "m", "-o", "new.json")
    assert ran.code == 0
    assert [spec.name for spec in loads((tmp_path / "new.json").read_bytes()).specs] == ["age", "country"]
    assert "table: denied by tripline.yaml, not read: ssn, e-mail" in ran.said
    assert SECRET not in ran.said
    open_to_all = tripline("reference", "build", "history.csv", "--model", "another", "-o", "other.json")
    assert open_to_all.code == 0
    assert "ssn" in [spec.name for spec in loads((tmp_path / "other.json").read_bytes()).specs]


def test_a_broken_configuration_ends_a_build_before_anything_is_learned(tripline: Run, tmp_path: Path) -> None:
    """What it denies would be learned; without any configuration a reference can be built."""
    (tmp_path / "tripline.yaml").write_text(FILE.replace("deny", "dney"))
    ran = tripline("reference", "build", "history.csv", "--model", "m", "-o", "new.json")
    assert (ran.code, (tmp_path / "new.json").exists()) == (2, False)
    assert "features.dney: is not a key that is known here, did you mean `deny`?" in ran.said
    (tmp_path / "tripline.yaml").unlink()
    assert tripline("reference", "build", "history.csv", "--model", "m", "-o", "new.json").code == 0
    named = tripline("reference", "build", "history.csv", "--model", "m", "-o", "new.json", "-c", "lost.yaml")
    assert named.code == 2


def test_a_segment_that_is_denied_is_not_learned_by(tripline: Run) -> None:
    ran = tripline("reference", "build", "history.csv", "--model", "m", "-o", "new.json", "--segments", "ssn")
    assert ran.code == 2
    assert "segment ssn: is denied by `features` of the configuration" in ran.said


@pytest.mark.parametrize("more", [[], ["--features", "*"], ["--features", "age,ssn"]])
def test_backtest_does_not_read_what_is_denied(tripline: Run, tmp_path: Path, more: list[str]) -> None:
    ran = tripline("backtest", "history.csv", "--model", "m", "--json", "found.json", *more)
    assert ran.code == 0
    assert "note: denied by `features`, not read: ssn" in ran.said
    assert "age rose by" in ran.said
    assert SECRET not in ran.said + (tmp_path / "found.json").read_text()


def test_explain_does_not_read_what_is_denied(tripline: Run) -> None:
    at = "2025-01-07T06:00:00Z"
    ran = tripline("explain", "history.csv", "--model", "m", "--feature", "age", "--at", at)
    assert ran.code == 0
    assert SECRET not in ran.said
    assert tripline("explain", "history.csv", "--model", "m", "--feature", "ssn", "--at", at).code == 2


def test_check_says_of_a_sample_how_much_is_denied_and_not_what(tripline: Run, tmp_path: Path) -> None:
    features = {"age": 41, "country": "FR", "ssn": SECRET, "e-mail": SECRET}
    events = [{"feature_set": "m", "ts": START, "features": features}] * 3
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    ran = tripline("check", "--sample", "events.jsonl")
    assert ran.code == 0
    assert "6 values of features that are denied: they are not read" in ran.said
    assert SECRET not in ran.said
    assert "not in the reference" not in ran.said


def test_the_lists_travel_in_the_layout(tmp_path: Path) -> None:
    write_reference(tmp_path)
    (tmp_path / "tripline.yaml").write_text(FILE.replace("{deny", "{allow: ['*', age, age], deny"))
    loaded = load(tmp_path / "tripline.yaml")
    layout = targets(loaded, load_references(loaded))["m"]
    assert (layout.features.allow, layout.features.deny, layout.format) == (("*", "age"), ("e*mail", "ssn"), 2)
    (tmp_path / "tripline.yaml").write_text(FILE.replace("    features: {deny: [ssn, 'e*mail']}\n", ""))
    plain = load(tmp_path / "tripline.yaml")
    assert targets(plain, load_references(plain))["m"].format == 1


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ("{deny: [age]}", "features: the reference was learned with age: build it anew"),
        ("{allow: country}", "features: the reference was learned with age: build it anew"),
        ("{deny: '*'}", "features: the reference was learned with age, country: build it anew"),
    ],
)
def test_a_reference_that_knows_what_is_denied_is_refused(tmp_path: Path, lists: str, said: str) -> None:
    write_reference(tmp_path)
    text = FILE.replace("{deny: [ssn, 'e*mail']}", lists)
    message = errors_of(text, tmp_path)
    assert message.startswith(f"{tmp_path / 'tripline.yaml'}:5: models.m.{said}")


def test_an_output_is_no_feature_that_could_be_denied(tmp_path: Path) -> None:
    write_reference(tmp_path, kind="predictions")
    message = errors_of(FILE.replace("[ssn, 'e*mail']", "[ssn, score]"), tmp_path)
    assert "models.m.features.deny[1]: score is an output of the model, not one of its features" in message


def test_an_allowed_name_that_the_reference_does_not_know_is_a_warning(tripline: Run, tmp_path: Path) -> None:
    (tmp_path / "tripline.yaml").write_text(FILE.replace("{deny", "{allow: [age, country, agee], deny"))
    ran = tripline("check")
    assert ran.code == 0
    assert "models.m.features.allow[2]: warning: no feature of the reference is 'agee', did you mean `age`?" in ran.said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE + "    segments: [ssn]\n", "ssn is a segment, and denied by features: its values would be counted"),
        (FILE.replace("{deny: [ssn, 'e*mail']}", "{allow: []}"), "features.allow: must have at least 1"),
        ("dead_letter_payload: true\n" + FILE, "dead_letter_payload keeps bad records whole, with what m denies"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigurationErrors) as raised:
        load_text(text)
    assert said in str(raised.value)
