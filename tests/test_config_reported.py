"""Limits on reported numbers in the configuration: what fits, what does not, and how often one fires for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.references import dumps
from schemas.errors import ConfigurationError
from schemas.layouts import Layout, ReportLimit
from streamer.applying import load_references, targets
from streamer.checking import warnings_of
from streamer.config import Loaded, load
from tests.core.test_maturing import reference


def loaded(folder: Path, watch: str) -> Loaded:
    (folder / "m.json").write_bytes(dumps(reference()))
    file = folder / "tripline.yaml"
    file.write_text(f"models:\n  m:\n    reference: m.json\n    pane: 10m\n    outcomes: {{watch: [{watch}]}}\n")
    return load(file)


def layout_of(folder: Path, watch: str) -> Layout:
    found = loaded(folder, watch)
    return targets(found, load_references(found))["m"]


def test_limits_are_part_of_the_layout(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, "{metric: accuracy, below: 0.8}, {metric: ece, above: 0.1, rows: 500, coverage: 0.5}")
    assert layout.reported == (
        ReportLimit(metric="accuracy", below=0.8),
        ReportLimit(metric="ece", above=0.1, least=500, coverage=0.5),
    )


@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        ("{metric: accuracyy, below: 1}", "metric: is in no report of this binary model, did you mean `accuracy`?"),
        ("{metric: rmse, above: 1}", "metric: is in no report of this binary model"),
        ("{metric: accuracy}", "must have exactly one of above, below"),
        ("{metric: accuracy, above: 1, below: 0}", "must have exactly one of above, below"),
        ("{metric: accuracy, below: 1, view: FR}", "a view is `model`, `version=…` or COLUMN=VALUE, got FR"),
        ("{metric: accuracy, below: 1, view: country=FR}", "view: country=FR is not tested; model are"),
        ("{metric: accuracy, below: 1}, {metric: accuracy, below: 1}", "accuracy below 1 stands twice"),
    ],
)
def test_what_does_not_fit_is_an_error_at_its_place(tmp_path: Path, watch: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        layout_of(tmp_path, watch)
    assert "models.m.outcomes.watch[" in str(caught.value)
    assert expected in str(caught.value)


def test_check_says_how_often_a_limit_fires_with_nothing_changed(tmp_path: Path) -> None:
    """120 labels a pane: a limit near the model's own accuracy is passed often, a far one next to never."""
    near, far = "{metric: accuracy, below: 0.74}", "{metric: accuracy, below: 0.4}"
    found = loaded(tmp_path, f"{near}, {far}, {{metric: mcc, below: 0, rows: 200}}")
    references = load_references(found)
    said = {one.path: one.message for one in warnings_of(found, targets(found, references), references)}
    often, never, few = (said[f"models.m.outcomes.watch[{i}]"] for i in range(3))
    assert "accuracy below 0.74 with nothing changed in " in often
    assert "reports in 30 d; no budget covers it" in often
    assert "next to never" in never
    assert "a pane has 120 labels on average, of 200 that the limit asks for: it is hardly ever judged" in few
