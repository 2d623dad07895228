"""Conditions and limits against a reference: what can never hold, what asks for nonsense, what will surprise."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.layouts import Condition, Layout, Watch
from streamer.applying import load_references, targets
from streamer.checking import warnings_of
from streamer.config import Loaded, load_text
from tests.histories import write_reference

FILE = "models:\n  m:\n    reference: reference.json\n    pane: 1h\n"


def loaded(folder: Path, more: str, *, top: str = "") -> Loaded:
    write_reference(folder)
    return load_text(FILE + more + top, file=str(folder / "tripline.yaml"))


def layout_of(folder: Path, more: str, *, top: str = "") -> Layout:
    configuration = loaded(folder, more, top=top)
    return targets(configuration, load_references(configuration))["m"]


def test_conditions_are_part_of_the_layout_with_their_names_replaced(tmp_path: Path) -> None:
    layout = layout_of(
        tmp_path,
        "    retrain: {when: {all: [trend age, moved], for: 2h}}\n    page_when: {any: [rule, moved]}\n",
        top="conditions: {moved: drift country}\n",
    )
    moved = Condition(feature="country")
    assert layout.policies[0].condition == Condition(of=(Condition(kind="trend", feature="age"), moved), least=2)
    assert layout.policies[0].for_ms == 7_200_000
    assert layout.page_when == Condition(of=(Condition(kind="rule"), moved), least=1)


def test_limits_and_further_statistics_are_part_of_the_layout(tmp_path: Path) -> None:
    layout = layout_of(
        tmp_path,
        "    statistics: [hellinger, psi, chi2]\n    watch: [{feature: age, statistic: psi, above: 0.2}]\n",
    )
    assert layout.statistics == ("hellinger", "chi2")
    assert layout.watch == (Watch(feature="age", statistic="psi", above=0.2),)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("    retrain: {when: trend agee}\n", "5: models.m.retrain.when: no feature is 'agee', did you mean `age`?"),
        ("    retrain: {when: {all: [drift, drift agee]}}\n", "5: models.m.retrain.when.all[1]: no feature is 'agee'"),
        ("    retrain: {when: missing age}\n", "5: models.m.retrain.when: may hold without a drift: broken data is no"),
        ("    retrain: [{when: {any: [drift, rule]}}]\n", "5: models.m.retrain[0].when: may hold without a drift"),
        ("    page_when: drift age in country=FR\n", "5: models.m.page_when: country=FR is not tested; model are"),
        ("    watch: [{feature: agee, statistic: psi, above: 1}]\n", "5: models.m.watch[0].feature: is not in"),
        ("    watch: [{feature: country, statistic: ks, above: 1}]\n", "5: models.m.watch[0].statistic: is for"),
        ("    watch: [{feature: age, statistic: kss, above: 1}]\n", "5: models.m.watch[0].statistic: must be"),
        ("    watch: [{feature: age, statistic: ks, above: 0}]\n", "5: models.m.watch[0].above: must be more than 0"),
        ("    watch: [{feature: age, detector: river.ADWIN}]\n", "5: models.m.watch[0].statistic: is missing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_at_its_place(tmp_path: Path, more: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        layout_of(tmp_path, more)
    assert any(line.partition("tripline.yaml:")[2].startswith(expected) for line in str(caught.value).splitlines())


def test_a_limit_twice_is_an_error(tmp_path: Path) -> None:
    one = "{feature: age, statistic: psi, above: 1}"
    with pytest.raises(ConfigurationError, match=r"models\.m\.watch\[1\]: psi of age is limited twice"):
        layout_of(tmp_path, f"    watch: [{one}, {one}]\n")


def test_a_name_in_a_condition_is_checked_where_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"models\.m\.page_when\.any\[1\]: no feature is 'agee'"):
        layout_of(tmp_path, "    page_when: {any: [rule, moved]}\n", top="conditions: {moved: drift agee}\n")


def test_check_says_how_often_a_limit_fires_with_nothing_changed(tmp_path: Path) -> None:
    configuration = loaded(
        tmp_path,
        "    watch: [{feature: age, statistic: psi, above: 0.01}, {feature: age, statistic: ks, above: 0.9}]\n",
    )
    references = load_references(configuration)
    found = list(warnings_of(configuration, targets(configuration, references), references))
    texts = {one.path: one.message for one in found if "watch" in one.path}
    assert "psi of age is above 0.01 with nothing changed in 100 % of panes" in texts["models.m.watch[0]"]
    assert "about 720 panes in 30 d; no budget covers it" in texts["models.m.watch[0]"]
    assert "0 % of panes" in texts["models.m.watch[1]"]
