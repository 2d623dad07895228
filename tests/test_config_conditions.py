"""Conditions as people write them: what a line means, and what is said where one is wrong."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from schemas.errors import ConfigurationError
from schemas.layouts import Condition, View
from streamer.config import json_schema, load_text
from streamer.config_conditions import condition_of, lasting, line

AGE, INCOME = Condition(feature="age"), Condition(feature="income")
GONE = Condition(kind="missing", feature="country")


def when(text: str, *, top: str = "") -> tuple[Condition, int]:
    config = load_text(f"{top}models:\n  m:\n    reference: r.json\n    retrain: {{when: {text}}}\n").config
    policy = config.models["m"].retrain[0]
    return condition_of(policy.when, config.conditions), lasting(policy.when)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("drift", (Condition(), 0)),
        ("drift for 30m", (Condition(), 1_800_000)),
        ("trend for 2h", (Condition(kind="trend"), 7_200_000)),
        (
            "ramp income in country=FR for 1m",
            (Condition(kind="ramp", feature="income", view=View("country", "FR")), 60_000),
        ),
        ("step in model", (Condition(kind="step", view=View()), 0)),
        ("'drift \"annual income\"'", (Condition(feature="annual income"), 0)),
        ("{all: [drift income, {any: [drift age, missing country]}], for: 30m}",
         (Condition(of=(INCOME, Condition(of=(AGE, GONE), least=1)), least=2), 1_800_000)),
        ("{at_least: 2, of: [drift income, drift age, missing country]}",
         (Condition(of=(INCOME, AGE, GONE), least=2), 0)),
    ],
)  # fmt: skip
def test_what_a_condition_means(text: str, expected: tuple[Condition, int]) -> None:
    assert when(text) == expected


def test_a_policy_without_a_condition_waits_for_drift() -> None:
    config = load_text("models:\n  m:\n    reference: r.json\n    retrain: {mode: dry_run}\n").config
    policy = config.models["m"].retrain[0]
    assert (condition_of(policy.when, {}), lasting(policy.when)) == (Condition(), 0)


def test_a_name_stands_for_its_condition_wherever_it_is_used() -> None:
    top = "conditions:\n  inputs: {any: [drift age, broken]}\n  broken: missing country\n"
    found = when("{all: [inputs, drift income]}", top=top)
    assert found == (Condition(of=(Condition(of=(AGE, GONE), least=1), INCOME), least=2), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("retrain: {when: {all: [drift, drift age for 5m]}}", "4: models.m.retrain.when.all[1]: `for DURATION`"),
        ("retrain: {when: {all: [drift], any: [drift]}}", "4: models.m.retrain.when: must have exactly one of all"),
        ("retrain: {when: {for: 5m}}", "4: models.m.retrain.when: must have exactly one of all, any, at_least and of"),
        ("retrain: {when: {al: [drift]}}", "4: models.m.retrain.when.al: is not a key that is known here"),
        ("retrain: {when: {any: []}}", "4: models.m.retrain.when.any: must have at least 1 entry"),
        ("retrain: {when: {at_least: 2}}", "4: models.m.retrain.when: at_least and of belong together"),
        ("retrain: {when: {at_least: 3, of: [drift, rule]}}", "4: models.m.retrain.when: at_least 3 of 2 can"),
        ("retrain: {when: {any: [{all: [5]}]}}", "4: models.m.retrain.when.any[0].all[0]: must be a condition such as"),
        ("retrain: {when: drft}", "4: models.m.retrain.when: is no condition that is known, did you mean `drift`?"),
        ("retrain: {when: drift age debt}", "4: models.m.retrain.when: must be KIND [FEATURE] [in COLUMN=VALUE]"),
        ("retrain: {when: drift for ages}", "4: models.m.retrain.when: must be a duration such as 30s"),
        ("page_when: silence age", "4: models.m.page_when: must be silence"),
        ("page_when: drift in FR", "4: models.m.page_when: a view is `model`"),
        ("page_when: {any: [drift], for: 5m}", "4: models.m.page_when.for: is not a key that is known here"),
        ("page_when: {any: [nobody]}", "4: models.m.page_when.any[0]: is no condition that is known"),
    ],
)  # fmt: skip
def test_a_wrong_condition_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(f"models:\n  m:\n    reference: r.json\n    {text}\n", file="tripline.yaml")
    assert str(caught.value).splitlines()[0].startswith("tripline.yaml:" + expected)


def test_names_that_mean_something_else_and_names_that_stand_for_themselves_are_errors() -> None:
    text = "conditions:\n  drift: rule\n  a: {any: [b]}\n  b: {all: [a, drift]}\nmodels: {m: {reference: r.json}}\n"
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, file="t.yaml")
    assert [one.partition(", and none of")[0] for one in str(caught.value).splitlines()] == [
        "t.yaml:2: conditions.drift: must be one word of letters, digits and _",
        "t.yaml:3: conditions.a.any[0]: b stands for itself",
        "t.yaml:4: conditions.b.all[0]: a stands for itself",
    ]


def test_an_editor_knows_conditions() -> None:
    schema = json.loads(json.dumps(json_schema()))
    model = {"reference": "r.json", "retrain": {"when": {"all": ["drift age", {"any": ["rule"]}], "for": "30m"}}}
    jsonschema.validate({"models": {"m": model}}, schema)
    wrong = {"reference": "r.json", "page_when": yaml.safe_load("{al: [drift]}")}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": {"m": wrong}}, schema)


def test_a_line_is_read_once() -> None:
    assert line(line("trend income")) == line("trend income")
