"""Every file of tests/scenarios goes as it says; `tripline story FILE` prints its timeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streamer.stories import load_story, run_story

STORIES = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_the_story_goes_as_it_says(path: Path) -> None:
    assert run_story(load_story(path)).failures == []


def test_a_line_that_means_nothing_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "story.yaml"
    path.write_text("story: s\nfeatures: {a: {normal: [0, 1]}}\nmodel: {}\nexpect:\n  - quiet\n  - all is well\n")
    with pytest.raises(ConfigurationError, match=r"story\.yaml:6: expect\[1\]: is no line that is known"):
        load_story(path)


def test_a_story_that_goes_otherwise_says_how(tmp_path: Path) -> None:
    path = tmp_path / "story.yaml"
    path.write_text(
        "story: s\nrows: 10\npanes: 3\nfeatures: {a: {normal: [0, 1]}}\nmodel: {}\n"
        "expect: ['events: 31', 'alert firing at pane 1', quiet]\n"
    )
    expected = ["events: 31: there are 30", "alert firing at pane 1: there was none"]
    assert run_story(load_story(path)).failures == expected
