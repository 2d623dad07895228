"""The configuration: the sample loads as written; a wrong file says all that is wrong, with lines."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.errors import ConfigurationError
from streamer.config import Config, ConfigurationErrors, Secret, json_schema, load, load_text
from streamer.config_conditions import lasting

ROOT = Path(__file__).parents[1]
SAMPLE = """\
kafka: {bootstrap_servers: "127.0.0.1:9092"}
alertmanager: {urls: ["http://127.0.0.1:9093"]}
models:
  credit:
    reference: references/credit.json
    pane: 1m
    lateness: 30s
    timezone: Europe/Paris
    segments: [country]
    false_alarms: 1 per 30d        # for the whole model: every feature, segment and detector together
    tolerance: 0.1                 # reference standard deviations that do not matter
    owner: team-lending
    runbook: https://runbooks.example/credit
    retrain: {when: drift for 30m, cooldown: 24h, mode: auto}
"""


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigurationErrors) as caught:
        load_text(text, file="tripline.yaml")
    return str(caught.value).splitlines()


def model(text: str) -> str:
    return f"models:\n  m:\n    reference: r.json\n    {text}\n"


def test_the_sample_of_the_documentation_loads_as_written() -> None:
    credit = load_text(SAMPLE).config.models["credit"]
    policy = credit.retrain[0]
    assert (credit.pane, credit.lateness, credit.segments) == (60_000, 30_000, ["country"])
    assert credit.false_alarms == (1.0, 30 * 86_400_000)
    assert (policy.name, lasting(policy.when), policy.cooldown) == ("default", 1_800_000, 86_400_000)
    assert policy.mode == "auto"


def test_every_error_is_found_at_once_with_its_line() -> None:
    assert errors_of(
        "kafka:\n  bootstrap_servers: [nope]\n  tsl: {}\nmodels:\n  m:\n    reference: 5\n    pane: 60\n"
        "    tolernace: 0.1\n    retrain: {when: drift, mode: automatic}\n"
    ) == [
        "tripline.yaml:2: kafka.bootstrap_servers[0]: must be host:port, got 'nope'",
        "tripline.yaml:3: kafka.tsl: is not a key that is known here, did you mean `tls`?",
        "tripline.yaml:6: models.m.reference: must be text, got 5",
        "tripline.yaml:7: models.m.pane: needs a unit, for instance 60s or 60m, got 60",
        "tripline.yaml:8: models.m.tolernace: is not a key that is known here, did you mean `tolerance`?",
        "tripline.yaml:9: models.m.retrain.mode: must be auto, approve or dry_run, got 'automatic'",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tolerance: -1", "4: models.m.tolerance: must be at least 0, got -1"),
        ("tolerance: high", "4: models.m.tolerance: must be a number, got 'high'"),
        ("timezone: Europe/Pris", "4: models.m.timezone: must be an IANA time zone such as Europe/Paris"),
        ("segments: [a, b, c, d, e, f, g]", "4: models.m.segments: must have at most 6 entries, got 7"),
        ("false_alarms: once", "4: models.m.false_alarms: must be a budget such as `1 per 30d`, got 'once'"),
        ("false_alarms: 0 per 30d", "4: models.m.false_alarms: must allow more than 0 alarms"),
        ("pane: 10ms", "4: models.m.pane: must be at least 1s, got '10ms'"),
        ("batch_gap: 6h", "2: models.m: batch_gap goes with `pane: batch`"),
        ("pane: batch\n    outcomes: {}", "2: models.m: pane: batch has no clock for outcomes"),
        ("compare: trailing 1d", "4: models.m.compare: must be reference, yesterday, last week, or trailing 2d to"),
        ("compare: tomorrow", "4: models.m.compare: must be reference, yesterday, last week, or trailing 2d to"),
        ("calendar: {2025-2-1: sunday}", "4: models.m.calendar.2025-2-1: must be a date such as 2025-12-25"),
        ("calendar: {2025-02-01: son}", "4: models.m.calendar.2025-02-01: must be monday, tuesday,"),
        ("weights: {age: 0}", "4: models.m.weights.age: must be more than 0, got 0"),
        ("strict: yes", "4: models.m.strict: must be true or false, got 'yes'"),
        ("lateness: 5 minutes", "4: models.m.lateness: must be a duration such as 30s, 5m, 2h or 7d"),
        ("retrain: {when: drift fr 5m}", "4: models.m.retrain.when: must be KIND [FEATURE] [in COLUMN=VALUE]"),
        ("retrain: [{name: a}, {name: a}]", "2: models.m: retrain policies need different names, got a, a"),
        ("expect: {age: {rnge: [0, 1]}}", "4: models.m.expect.age.rnge: is not a key that is known here"),
        ("expect: {age: {range: [3, 1]}}", "4: models.m.expect.age: range must be [low, high], low at most high"),
        ("max_alert_age: 3", "4: models.m.max_alert_age: needs a unit, for instance 3s or 3m, got 3"),
        ("segments: [a, a]", "2: models.m: a is named twice in segments"),
        ("segments: [a, b, version]", "2: models.m: version is no segment: what is counted by segment is counted by"),
        ("outcomes: {horizon: 30m}", "4: models.m.outcomes: horizon must be at least the outcome pane (1h), got 30m"),
        ("outcomes: {pane: 7m}", "4: models.m.outcomes: pane must be a multiple of the model's pane (5m), got 7m"),
        ("outcomes: {pane: 1m}", "4: models.m.outcomes: pane must be a multiple of the model's pane (5m), got 1m"),
        ("outcomes: {horizon: 2h, maturity: 1d}", "4: models.m.outcomes: maturity must be at most the horizon (2h)"),
        ("outcomes: {horizn: 2h}", "4: models.m.outcomes.horizn: is not a key that is known here, did you mean"),
        ("outcomes: 7d", "4: models.m.outcomes: must be a mapping, got '7d'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(text: str, expected: str) -> None:
    [found] = errors_of(model(text))
    assert found.startswith("tripline.yaml:" + expected)


@pytest.mark.parametrize(
    ("text", "horizon", "positive"),
    [
        ("outcomes: {}", 7 * 86_400_000, None),
        ("outcomes:", 7 * 86_400_000, None),
        ("outcomes: {horizon: 2d, positive: 1}", 2 * 86_400_000, "1"),
        ("outcomes: {positive: true}", 7 * 86_400_000, "true"),
    ],
)
def test_outcomes_are_joined_where_their_section_stands(text: str, horizon: int, positive: str | None) -> None:
    outcomes = load_text(model(text)).config.models["m"].outcomes
    assert outcomes is not None
    assert (outcomes.horizon, outcomes.positive, outcomes.maturity) == (horizon, positive, None)


def test_outcomes_are_not_joined_without_their_section() -> None:
    assert [load_text(model(text)).config.models["m"].outcomes for text in ("", "outcomes: off")] == [None, None]


def test_a_key_that_is_written_twice_is_an_error() -> None:
    assert errors_of(model("pane: 1m\n    pane: 5m")) == [
        "tripline.yaml:5: models.m.pane: is written twice, first on line 4"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must be a mapping with `models:` in it"),
        ("models: {}", "models: must have at least 1 entry, got 0"),
        ("models: [", "is not YAML"),
        ("models: !!python/object:os.system x", "is not YAML: the type os.system is not allowed"),
        ("a: &a [*a]", "is not YAML: is too large or too deep"),
        ("models: {'a|b': {reference: x}}", "models.a|b: must be 1 to 128 characters without `|`"),
    ],
)
def test_a_file_of_another_kind_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tripline\.yaml:1") as caught:
        load_text(text, file="tripline.yaml")
    assert expected in str(caught.value)


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigurationError, match="too large or too deep"):
        load_text("\n".join(lines))


def test_norway_and_off_and_dates_are_text() -> None:
    config = load_text("max_alert_age: off\nstart: 2025-01-31\n" + model("links: {NO: no}")).config
    assert (
        config.max_alert_age,
        config.start,
        dict(config.models["m"].links),
    ) == (None, 1_738_281_600_000, {"NO": "no"})


def test_max_alert_age_at_the_top_holds_for_models_without_their_own() -> None:
    models = load_text("max_alert_age: off\nmodels: {a: {reference: r}, b: {reference: r, max_alert_age: 1h}}").config
    assert {name: m.max_alert_age for name, m in models.models.items()} == {"a": None, "b": 3_600_000}


def test_a_secret_in_the_file_is_refused_and_never_shown() -> None:
    [found] = errors_of("kafka:\n  bootstrap_servers: h:1\n  sasl: {username: u, password: hunter2}\n" + model(""))
    assert found.startswith("tripline.yaml:3: kafka.sasl.password: must be {env: NAME} or {file: PATH}")
    assert "hunter2" not in found


def test_a_secret_comes_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    assert Secret(env="NAME").read({"NAME": "x"}) == "x"
    assert Secret(file=str(tmp_path / "password")).read({}) == "s3cret"
    with pytest.raises(ConfigurationError, match="the environment has no NAME"):
        Secret(env="NAME").read({})


def test_a_mapping_is_checked_by_the_decoder_that_uses_it() -> None:
    [found] = errors_of("mapping:\n  predictions: {fields: {id: a}}\n" + model(""))
    assert found == "tripline.yaml:2: mapping.predictions: fields: ts must be mapped"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("{ts: at, id: n, score: s}", "mapping: outcomes: score is nothing that an outcome says"),
        ("{ts: at, label: y}", "mapping: outcomes: id must be mapped"),
    ],
)
def test_a_mapping_of_outcomes_names_what_outcomes_have(fields: str, expected: str) -> None:
    [found] = errors_of(f"mapping:\n  outcomes: {{fields: {fields}}}\n" + model(""))
    assert expected in found


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tripline\.yaml: cannot be read: No such file"):
        load(tmp_path / "tripline.yaml")


def test_paths_are_relative_to_the_file() -> None:
    assert Path("conf/references/a.json") == load_text(SAMPLE, file="conf/tripline.yaml").path_of("references/a.json")


def test_the_schema_for_editors_takes_the_sample_and_refuses_a_misspelt_key() -> None:
    check = jsonschema.Draft202012Validator(json_schema())
    assert list(check.iter_errors(yaml.safe_load(SAMPLE))) == []
    assert list(check.iter_errors(yaml.safe_load(SAMPLE.replace("tolerance", "tolernace")))) != []


def test_the_schema_in_deploy_is_the_one_of_the_code() -> None:
    """Make it again: `tripline check --print-schema > deploy/tripline.schema.json`."""
    assert json_schema() == json.loads((ROOT / "deploy" / "tripline.schema.json").read_text())


def test_the_commented_sample_in_deploy_loads() -> None:
    assert isinstance(load(ROOT / "deploy" / "tripline.yaml").config, Config)
