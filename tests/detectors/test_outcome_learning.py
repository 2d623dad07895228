"""What a reference learns of outcomes: losses, calibration, delays; in the file and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special

from detectors.building import ReferenceBuilder
from detectors.outcome_references import ViewOutcomes
from detectors.references import Reference, dumps, loads
from detectors.rows import Rows
from schemas.errors import ReferenceFileError
from schemas.layouts import View

HOUR = 3_600_000
START = 4 * 24 * HOUR  # a Monday
ROWS = 30_000


def history(seed: int = 0, *, days: int = 14) -> Rows:
    """Scores with a daily cycle in the error rate; positives labelled after 2 hours, negatives after 12."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(START, START + days * 24 * HOUR, ROWS))
    score = rng.beta(2, 5, ROWS)
    cycle = 0.4 * np.sin(2 * np.pi * ts / (24 * HOUR))
    outcome = rng.binomial(1, special.expit(special.logit(score) + cycle))
    late = rng.exponential(np.where(outcome == 1, 2, 12) * HOUR)
    country = np.where(rng.random(ROWS) < 0.5, "FR", "DE").astype(object)
    return Rows(
        ts=ts,
        columns={"score": score, "outcome": outcome.astype(float), "outcome_ts": ts + late},
        segments={"country": country},
    )


def built(rows: Rows, *, chunks: int = 1, maturity_ms: int = 0, positive: str = "") -> Reference:
    builder = ReferenceBuilder("m", "predictions", segments=["country"], maturity_ms=maturity_ms, positive=positive)
    pieces = [rows.take(slice(i * len(rows) // chunks, (i + 1) * len(rows) // chunks)) for i in range(chunks)]
    for piece in pieces:
        builder.survey(piece)
    for piece in pieces:
        builder.count(piece)
    return builder.finish()


def whole(reference: Reference) -> ViewOutcomes:
    assert reference.labels is not None
    return reference.labels.views[View()]


def test_losses_and_calibration_are_learned_by_view() -> None:
    """Rate, season and map of the model and of its segments; labels of independent rows have deff near 1."""
    rows = history()
    reference = built(rows)
    labels = reference.labels
    assert labels is not None
    assert labels.classes == ("0", "1")
    assert set(labels.views) == {View(), View("country", "DE"), View("country", "FR")}
    losses = whole(reference).losses_at(HOUR)
    calibration = whole(reference).calibration_at(HOUR)
    assert losses is not None
    assert calibration is not None
    wrong = (rows.columns["score"] >= 0.5) != rows.columns["outcome"]
    assert losses.rate == pytest.approx(wrong.mean(), abs=1e-6)
    assert losses.n == ROWS
    assert losses.deff < 2
    assert losses.n_bar == pytest.approx(ROWS / 14 / 24, rel=0.1)
    assert calibration.map.at(np.array([0.1, 0.3, 0.5])) == pytest.approx([0.1, 0.3, 0.5], abs=0.03)
    assert calibration.profile[6] > 0.15 > -0.15 > calibration.profile[18]


def test_delays_give_the_maturity() -> None:
    """Maturity covers 99 % of the slowest class's labels, to the bucket; the median is by class."""
    labels = built(history()).labels
    assert labels is not None
    slowest = 12 * HOUR * np.log(100)
    assert slowest <= labels.maturity_ms <= 1.5 * slowest
    assert labels.delays["0"] > 4 * labels.delays["1"]


def test_labels_later_than_the_maturity_are_left_out() -> None:
    """The reference is counted by the rule of the charts: what was there by maturity."""
    rows = history()
    labels = built(rows, maturity_ms=6 * HOUR).labels
    assert labels is not None
    assert labels.n == int((np.floor(rows.columns["outcome_ts"] - rows.ts) <= 6 * HOUR).sum())
    assert labels.counted_ms == 6 * HOUR


def test_a_file_gives_back_what_was_learned_and_chunks_do_not_matter() -> None:
    """Equal bytes and id for one chunk and for seven; loaded equals built."""
    reference = built(history())
    raw = dumps(reference)
    assert json.loads(raw)["tripline_reference"] == 2
    assert raw == dumps(built(history(), chunks=7))
    read = loads(raw)
    assert read.id == reference.id
    assert dumps(read) == raw
    ours, theirs = whole(reference), whole(read)
    assert ours.calibration is not None
    assert theirs.calibration is not None
    assert np.array_equal(ours.calibration.map.logit, theirs.calibration.map.logit)
    assert np.array_equal(ours.calibration.deff, theirs.calibration.deff)
    assert ours.losses is not None
    assert theirs.losses is not None
    assert ours.losses.m3 == theirs.losses.m3


def test_a_reference_without_outcomes_keeps_its_format_and_id() -> None:
    """Nothing new is in the file where there are no outcomes: ids of old references stay."""
    rows = history()
    bare = Rows(ts=rows.ts, columns={"score": rows.columns["score"]}, segments=rows.segments)
    reference = built(bare)
    assert reference.labels is None
    assert "labels" not in json.loads(dumps(reference))


def test_regression_and_words_are_counted_too() -> None:
    """A regression's loss is min(|e|/4 scales, 1); `yes` and `no` are classes; a damaged part names its place."""
    rng = np.random.default_rng(3)
    truth = rng.normal(100, 20, 5000)
    ts = START + np.arange(5000) * 120_000
    reference = built(Rows(ts=ts, columns={"value": truth + rng.normal(0, 10, 5000), "outcome": truth}))
    losses = whole(reference).losses
    assert losses is not None
    assert 0.03 < losses.rate < 0.25
    assert whole(reference).calibration is None
    words = np.where(rng.random(5000) < 0.3, "yes", "no").astype(object)
    spoken = built(Rows(ts=ts, columns={"score": rng.random(5000), "outcome": words}), positive="no")
    assert spoken.labels is not None
    assert spoken.labels.classes == ("yes", "no")


def test_a_damaged_part_is_refused_with_its_place() -> None:
    """The id is checked first; a file whose arrays do not fit says which."""
    from detectors.references import _hash  # the id of a document that was edited on purpose

    document = json.loads(dumps(built(history())))
    document["labels"]["views"][0]["losses"]["profile"]["shape"] = [3]
    version = document.pop("tripline_reference")
    del document["id"]
    raw = json.dumps({"tripline_reference": version, "id": _hash(document), **document}).encode()
    with pytest.raises(ReferenceFileError, match=r"labels\.views\[0\]\.losses\.profile"):
        loads(raw)


@pytest.mark.parametrize(
    ("label", "findings"),
    [
        ("fraud", ["outcome: no outcome ('0', '1') is one of the labels ('fraud'): every row counts as wrong"]),
        ("1", []),
    ],
)
def test_labels_that_no_outcome_ever_is_are_a_finding(label: str, findings: list[str]) -> None:
    rows = history()
    labels = np.full(len(rows), label, dtype=object)
    found = built(Rows(ts=rows.ts, columns={**rows.columns, "label": labels}, segments=rows.segments)).findings
    assert [one.words for one in found if one.kind == "outcomes"] == findings
