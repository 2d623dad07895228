"""The command line as people and scripts use it: what it prints, and how it ends. Nothing here needs a broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from detectors.building import ReferenceBuilder
from detectors.references import dumps, identified
from detectors.shadow import Shadow, ShadowFeature
from schemas.errors import ConfigurationError
from streamer.commands import main
from streamer.commands.demo import demo
from tests.histories import HOUR, START, reference, rows, write_csv, write_reference

FILE = "models:\n  m:\n    reference: reference.json\n    pane: 1h\n    retrain: {when: drift}\n"
#: What `--help` must not wait for.
SLOW = {"numpy", "pyarrow", "pydantic", "rich", "aiokafka", "faust", "yaml", "msgspec", "confluent_kafka", "river"}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def tripline(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in a folder that has a reference and a configuration."""
    write_reference(tmp_path)
    (tmp_path / "tripline.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tripline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


def test_help_names_every_command_and_imports_nothing_slow() -> None:
    script = f"import sys, streamer.commands; print(sorted({SLOW!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        ["--help"], ["run"], ["apply"], ["check"], ["backtest"], ["story"], ["reference", "build"],
        ["reference", "show"], ["alerts", "tail"], ["triggers", "tail"], ["triggers", "approve"],
        ["triggers", "reject"], ["bench", "throughput"], ["schema", "export"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_says_what_it_takes(tripline: Run, command: list[str]) -> None:
    ran = tripline(*command, *([] if command == ["--help"] else ["--help"]))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: tripline {' '.join(command)}".replace(" --help", ""))


def test_a_command_that_is_not_there_ends_with_two(tripline: Run) -> None:
    ran = tripline("chek")
    assert ran.code == 2
    assert "Did you mean 'check'" in ran.err


def test_a_table_that_is_not_quite_right_is_read_and_what_was_odd_is_said(tripline: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "history.csv", rows(9 * 24, start=START, seed=4))
    head, first, *lines = path.read_text().splitlines()
    owners = ["n" if i % 10 == 0 else "m" for i in range(len(lines))]
    body = [f"{line},{owner}" for line, owner in zip(lines, owners, strict=True)]
    odd = [f"{START},error,FR,m", "4070908800000,41,FR,m", "7", ",41,FR,m"]
    path.write_text("\n".join([f"{head},who", f"{first},m", *body[:5000], *odd, *body[5000:]]))
    options = ("history.csv", "--model", "m", "--map", "model=who")
    built = tripline("reference", "build", *options, "-o", "r.json")
    others = owners.count("n")
    assert built.code == 0
    assert "finding: age: 1 text among its numbers, counted as missing, the first in row" in built.out
    assert "finding: 1 row lies far from all others in time" in built.out
    assert "table: 1 line that cannot be read left out, the first is line 5,005" in built.out
    assert f"table: {others:,} rows of other models left out" in built.out
    ran = tripline("backtest", *options, "--json", "-")
    found = json.loads(ran.out)
    assert {reason: n for reason, n in found["dropped"].items() if n} == {"schema": 1, "future": 1, "late": 1}
    assert found["left_out"] == {"unreadable_lines": 1, "rows_of_other_models": others}
    assert "note: 1 row without a time dropped" in ran.err


def test_times_before_1980_are_no_times(tripline: Run, tmp_path: Path) -> None:
    """Excel counts days: 45,355 of them were half a day of 1970, and a reference was learned of it."""
    days = "".join(f"{45355 + i / 1440},{i % 7}\n" for i in range(2000))
    (tmp_path / "days.csv").write_text("ts,a\n" + days)
    refused = tripline("reference", "build", "days.csv", "--model", "m", "-o", "r.json")
    assert (refused.code, refused.err) == (
        2,
        "tripline: days.csv: row 0: its time would be before 1980; times are RFC 3339, or numbers of s, ms, µs or ns "
        "since 1970\n",
    )
    sound = "".join(f"{START // 1000 + 600 * i},{i % 7}\n" for i in range(2000))
    (tmp_path / "few.csv").write_text("ts,a\n" + sound + "7,1\n8,1\n")
    built = tripline("reference", "build", "few.csv", "--model", "m", "-o", "r.json")
    assert built.out.startswith("m: 2,000 rows from 2025-01-06 00:00")
    assert "finding: 2 rows without a time are left out" in built.out


def test_a_reference_is_built_said_and_shown_again(tripline: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", rows(9 * 24, start=START, seed=4))
    built = tripline("reference", "build", "history.csv", "--model", "m", "-o", "new/r.json")
    shown = tripline("reference", "show", "new/r.json")
    assert (built.code, shown.code) == (0, 0)
    assert built.out.startswith("m: 8,640 rows from 2025-01-06 00:00")
    assert shown.out == built.out.replace(" → new/r.json", "")
    plain = json.loads(tripline("reference", "show", "new/r.json", "--json").out)
    assert (plain["n"], plain["kind"], [feature["name"] for feature in plain["features"]]) == (
        8640, "features", ["age", "country"],
    )  # fmt: skip


def test_a_reference_is_replayed_through_its_own_monitors(tripline: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", rows(9 * 24, start=START, seed=4))
    settings = ["--pane", "1h", "--tolerance", "0.2", "--false-alarms", "2 per 30d", "--strict"]
    built = tripline("reference", "build", "history.csv", "--model", "m", "-o", "r.json", *settings)
    assert (
        "replayed through its own monitors (pane 1 h, tolerance 0.2, strict, 2 per 30 d): 0 false incidents in 9.0 days"
        in built.out
    )
    shadow = json.loads(tripline("reference", "show", "r.json", "--json").out)["shadow"]
    assert (shadow["pane_ms"], shadow["strict"], shadow["incidents"]) == (3_600_000, True, 0)


def test_check_says_what_the_replay_of_the_reference_broke(tripline: Run, tmp_path: Path) -> None:
    shadow = Shadow(
        pane_ms=300_000, tolerance=0.1, strict=False, false_alarms=1.0, budget_ms=30 * 86_400_000, monitors=2,
        span_ms=14 * 86_400_000, incidents=3, features=(ShadowFeature(feature="age", alarms=3, dates=("2025-01-02",)),),
        cures=("`strict: true` would keep the budget",),
    )  # fmt: skip
    (tmp_path / "reference.json").write_bytes(dumps(identified(replace(reference(), shadow=shadow))))
    said = tripline("check").out
    assert "models.m.false_alarms: warning: replayed through its own monitors (pane 5 min" in said
    assert "age: 3 alarms, 6.4 per budget (2025-01-02); `strict: true` would keep the budget" in said
    assert "(that was at pane 5m, here 1h: build it anew" in said


def test_the_same_table_gives_the_same_reference_whatever_its_form(tripline: Run, tmp_path: Path) -> None:
    table = rows(9 * 24, start=START, seed=4)
    write_csv(tmp_path / "timed.csv", table)
    write_csv(tmp_path / "bare.csv", table, times=False)
    stamped = ["--every", "90s", "--start", "2025-01-06"]
    one = tripline("reference", "build", "timed.csv", "--model", "m", "-o", "1.json", "--json")
    other = tripline("reference", "build", "bare.csv", *stamped, "--model", "m", "-o", "2.json", "--json")
    assert json.loads(one.out)["reference"] == json.loads(other.out)["reference"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["reference", "build", "x", "--model", "m", "-o", "x", "--pane", "5"], "tripline: --pane '5': "),
        (["reference", "build", "x", "--model", "m", "-o", "x", "--false-alarms", "1"], "--false-alarms '1': "),
        (["reference", "show", "nope.json"], "tripline: nope.json: No such file or directory"),
        (["reference", "show", "tripline.yaml"], "tripline: tripline.yaml: reference: not a whole JSON document"),
        (["reference", "build", "--model", "m", "-o", "x"], "tripline: reference build takes a table or --from-topic"),
        (["reference", "build", "nope.csv", "--model", "m", "-o", "x"], "tripline: nope.csv: No such file"),
        (["backtest", "nope.csv", "--model", "m"], "tripline: nope.csv: No such file"),
        (["backtest", "nope.csv", "--model", "n"], "tripline.yaml:1: models: has no 'n'"),
        (["backtest", "x.csv", "--model", "m", "-c", "no.yaml"], "tripline: no.yaml: cannot be read: No such file"),
        (["backtest", "x.csv", "--model", "m", "--reference", "no.json"], "tripline: --reference: no.json: No such"),
        (["apply"], "tripline: tripline.yaml:1: kafka: is missing: this command needs a broker"),
        (["apply", "--from", "soon"], "tripline: --from 'soon': must be a time"),
        (["alerts", "tail"], "tripline: tripline.yaml:1: kafka: is missing"),
        (["story", "tripline.yaml"], "tripline.yaml:1: expect: is missing"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_two(tripline: Run, arguments: list[str], expected: str) -> None:
    ran = tripline(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[0].removeprefix("tripline: ").startswith(expected.removeprefix("tripline: "))
    assert "Traceback" not in ran.err


def test_check_prints_all_errors_and_ends_with_two(tripline: Run, tmp_path: Path) -> None:
    (tmp_path / "tripline.yaml").write_text(FILE + "    tolernace: 1\n    lateness: 3\n")
    ran = tripline("check")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "tripline.yaml:6: models.m.tolernace: is not a key that is known here, did you mean `tolerance`?",
        "tripline.yaml:7: models.m.lateness: needs a unit, for instance 3s or 3m, got 3",
    ]


def test_check_warns_and_ends_with_zero(tripline: Run, tmp_path: Path) -> None:
    write_reference(tmp_path, days=3)
    (tmp_path / "tripline.yaml").write_text(FILE.replace("1h", "5m").replace("  m:", "  n:") + "    segments: [land]\n")
    plain = json.loads(tripline("check", "--json").out)
    assert plain["errors"] == []
    found = {(warning["path"], warning["message"].split(":")[0].split(",")[0]) for warning in plain["warnings"]}
    assert {
        ("models.n.reference", "provisional"),
        ("models.n.reference", "was learned for 'm'"),
        ("models.n.segments", "land is not in the reference"),
        ("models.n.pane", "5m holds 3.33 events on average"),
    } <= found


def test_check_says_which_hard_rules_the_reference_itself_breaks(tripline: Run, tmp_path: Path) -> None:
    """They stand outside the budget: a row in twenty without a value pages `required` in every pane."""
    history = rows(14 * 24, start=START - 14 * 24 * HOUR, seed=1)
    history.columns["age"][::20] = np.nan
    builder = ReferenceBuilder("m", "features")
    builder.survey(history)
    builder.count(history)
    (tmp_path / "reference.json").write_bytes(dumps(builder.finish()))
    rules = "{required: true, range: [0, 60], missing_below: 0.15}"
    (tmp_path / "tripline.yaml").write_text(FILE + f"    expect: {{age: {rules}}}\n")
    out = tripline("check").out
    assert "models.m.expect.age.required: warning: is missing in 5.0 % of the reference" in out
    assert "models.m.expect.age.range: warning: the reference goes from -" in out
    assert "by chance it pages" in out
    (tmp_path / "tripline.yaml").write_text(FILE + "    expect: {age: {range: [-100, 200], missing_below: 0.5}}\n")
    assert "expect.age" not in tripline("check").out


def test_check_says_that_a_calendar_without_weekdays_changes_nothing(tripline: Run, tmp_path: Path) -> None:
    write_reference(tmp_path, days=8)
    (tmp_path / "tripline.yaml").write_text(FILE + "    calendar: {2025-12-25: sunday}\n")
    assert "models.m.calendar.2025-12-25: warning: the reference knows no weekdays" in tripline("check").out


def test_check_says_what_a_day_would_not_show(tripline: Run, tmp_path: Path) -> None:
    (tmp_path / "tripline.yaml").write_text(FILE + "    tolerance: 0.02\n")
    ran = tripline("check")
    assert ran.code == 0
    assert "models.m.false_alarms: warning: under this budget a change of 0.04 sd (twice the tolerance)" in ran.out


def test_check_tries_a_sample(tripline: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(
        '{"feature_set":"m","ts":1736121600000,"features":{"age":41,"country":"FR"}}\n'
        '{"feature_set":"m","ts":1736121600,"features":{"age":41}}\n'
        '{"feature_set":"other","ts":1736121600000,"features":{}}\n'
        '{"feature_set":"m","ts":1736121600000,"features":{"agee":41}}\n'
    )
    ran = tripline("check", "--sample", "events.jsonl")
    assert ran.code == 0
    assert "events.jsonl:2: m: warning: would be dropped: schema" in ran.out
    assert "events.jsonl:3: " in ran.out
    assert "agee is in 1 event, but not in the reference" in ran.out
    assert "is in the reference, but in none" not in ran.out


def test_check_names_the_features_that_no_event_of_a_sample_carries(tripline: Run, tmp_path: Path) -> None:
    event = '{"feature_set":"m","ts":1736121600000,"features":{"age":%s}}\n'
    (tmp_path / "events.jsonl").write_text(event % 41 + event % '"old"')
    ran = tripline("check", "--sample", "events.jsonl", "--json")
    messages = [warning["message"] for warning in json.loads(ran.out)["warnings"] if warning["path"] == "m"]
    assert messages == [
        "age has a value of a wrong type in 1 event",
        "country is in the reference, but in none of the 2 events that would count",
    ]


def test_check_says_in_json_that_a_reference_was_learned_for_another_model(tripline: Run, tmp_path: Path) -> None:
    (tmp_path / "tripline.yaml").write_text(FILE.replace("  m:", "  n:"))
    ran = tripline("check", "--json")
    found = {(warning["path"], warning["message"]) for warning in json.loads(ran.out)["warnings"]}
    assert ("models.n.reference", "was learned for 'm'") in found
    assert ran.code == 0


def test_check_counts_the_empty_lines_of_a_sample(tripline: Run, tmp_path: Path) -> None:
    good = '{"feature_set":"m","ts":1736121600000,"features":{"age":41,"country":"FR"}}\n'
    (tmp_path / "events.jsonl").write_text(good + "\n\n" + '{"feature_set":"m","ts":1,"features":{}}\n' + good)
    ran = tripline("check", "--sample", "events.jsonl")
    assert (ran.code, "events.jsonl:4: m: warning: would be dropped: schema" in ran.out) == (0, True)
    assert "events.jsonl:0" not in ran.out


def test_check_refuses_a_sample_of_which_nothing_would_count(tripline: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("{oops\n{}\n")
    ran = tripline("check", "--sample", "events.jsonl")
    assert ran.code == 2
    assert "events.jsonl: no event of 2 would count: 1 decode" in ran.err


def test_backtest_prints_a_timeline_and_writes_json(tripline: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", rows(60, start=START, seed=2, shift=1.0, since=24))
    ran = tripline("backtest", "history.csv", "--model", "m", "--json", "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert ran.code == 0
    assert "m: 2,400 rows, 60 panes of 1h" in ran.out
    assert "age rose by" in ran.out
    assert ran.out.rstrip().endswith("1 incident open at the end")
    assert json.loads(tripline("backtest", "history.csv", "--model", "m", "--json", "-").out) == found


def test_backtest_takes_rows_features_and_a_mapping(tripline: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "history.csv", rows(60, start=START, seed=2, shift=1.0, since=24))
    path.write_text(path.read_text().replace("ts,", "at,", 1))
    ran = tripline("backtest", "history.csv", "--model", "m", "--map", "ts=at", "--rows", ":900", "--features", "age")
    assert ran.code == 0
    assert "m: 900 rows" in ran.out


def test_a_story_that_goes_otherwise_ends_with_one(tripline: Run, tmp_path: Path) -> None:
    text = "story: s\nrows: 10\npanes: 3\nfeatures: {a: {normal: [0, 1]}}\nmodel: {}\nexpect: [quiet]\n"
    (tmp_path / "good.yaml").write_text(text)
    (tmp_path / "bad.yaml").write_text(text.replace("[quiet]", "['events: 31']"))
    assert tripline("story", "good.yaml").code == 0
    bad = tripline("story", "bad.yaml")
    assert (bad.code, bad.out.rstrip().splitlines()[-1]) == (1, "✗ events: 31: there are 30")
    assert json.loads(tripline("story", "bad.yaml", "--json").out)["passed"] is False


def test_a_file_that_cannot_be_written_is_one_line_and_exit_two(tripline: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "new.csv", rows(24, start=START, seed=4))
    (tmp_path / "file").write_text("")
    for arguments in (
        ["reference", "build", "new.csv", "--model", "m", "-o", "file/reference.json"],
        ["reference", "build", "new.csv", "--model", "m", "-o", "."],
        ["backtest", "new.csv", "--model", "m", "--json", "file/found.json"],
        ["schema", "export", "--out", "file"],
    ):
        ran = tripline(*arguments)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "cannot be written" in ran.err


def test_what_features_leaves_out_of_a_backtest_is_not_missing(tripline: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", rows(60, start=START, seed=2))
    ran = tripline("backtest", "history.csv", "--model", "m", "--features", "age")
    assert (ran.code, ran.err) == (0, "")
    assert "no incident" in ran.out


def batched(folder: Path, name: str, batches: range, *, shift_from: int = 1000) -> None:
    """A table of weekly batches of 500 rows, `age` moved by half an sd from batch `shift_from` on."""
    rng = np.random.default_rng(batches.start)
    lines = ["ts,age"]
    for batch in batches:
        begin = START + batch * 7 * 86_400_000 + int(rng.integers(0, 5 * 3_600_000))
        ages = rng.normal(41 + 6 * (batch >= shift_from), 12, 500)
        lines += [f"{begin + i * 1000},{age:.2f}" for i, age in enumerate(ages.tolist())]
    (folder / name).write_text("\n".join(lines) + "\n")


BATCHED = "models:\n  m:\n    reference: r.json\n    pane: batch\n    false_alarms: 1 per 365d\n"


def test_a_table_of_weekly_batches_is_learned_and_backtested_by_batch(tripline: Run, tmp_path: Path) -> None:
    batched(tmp_path, "history.csv", range(20))
    batched(tmp_path, "new.csv", range(20, 35), shift_from=30)
    (tmp_path / "tripline.yaml").write_text(BATCHED)
    built = tripline("reference", "build", "history.csv", "--model", "m", "--batch-gap", "6h", "-o", "r.json")
    assert "in 20 batches, one every 7.0 days" in built.out
    ran = tripline("backtest", "new.csv", "--model", "m", "--json", "-")
    plain = json.loads(ran.out)
    assert plain["panes"] == 15
    [incident] = plain["incidents"]
    # Batch 30 of the series is the tenth of this table: its last row is 5,499; the next batch lets it close.
    assert (incident["opened_row"], incident["evidence"][0]["feature"]) == (5_500, "age")
    assert incident["opened_at"].startswith("2025-08-04T")
    assert "15 batches" in tripline("backtest", "new.csv", "--model", "m").out


def test_batches_are_refused_where_they_cannot_be(tripline: Run, tmp_path: Path) -> None:
    batched(tmp_path, "history.csv", range(10))
    tripline("reference", "build", "history.csv", "--model", "m", "--batch-gap", "6h", "-o", "r.json")
    kafka = "kafka: {bootstrap_servers: '127.0.0.1:1'}\n"
    (tmp_path / "tripline.yaml").write_text(kafka + BATCHED)
    assert "batch is for tables (`tripline backtest`)" in tripline("apply").err
    (tmp_path / "tripline.yaml").write_text(BATCHED)
    at = ["--feature", "age", "--at", "2025-02-01"]
    assert "explain knows panes of time, not batches" in tripline("explain", "history.csv", "--model", "m", *at).err
    (tmp_path / "tripline.yaml").write_text(BATCHED.replace("pane: batch", "pane: 1d"))
    assert "was cut into batches: `pane: batch` goes with it" in tripline("check").err
    (tmp_path / "tripline.yaml").write_text(BATCHED + "    batch_gap: 2h\n")
    assert "models.m.batch_gap: is 6h in the reference, which must be cut alike" in tripline("check").err
    (tmp_path / "tripline.yaml").write_text(BATCHED.replace("r.json", "reference.json"))
    assert "models.m.pane: the reference was not cut into batches" in tripline("check").err


def test_a_bench_without_a_broker_says_so(tripline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.commands.bench_topics.SECONDS", 0.5)
    ran = tripline("bench", "throughput", "--bootstrap", "127.0.0.1:1")
    assert ran.code == 70
    assert "127.0.0.1:1: no topic" in ran.err


def test_a_demo_for_an_address_that_is_none_says_so_and_shows_no_file_of_its_own() -> None:
    with pytest.raises(ConfigurationError) as raised:
        demo(alertmanager="ftp://x")
    assert str(raised.value) == "--alertmanager 'ftp://x': must be an http:// or https:// address"
