"""The reference as a file: the same back, and any damage refused with its place."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from detectors.building import ReferenceBuilder
from detectors.references import Reference, dumps, identified, loads, words
from detectors.rows import NO_TIME, Rows
from schemas.errors import ReferenceFileError
from schemas.layouts import View

DAY = 86_400_000


def rows_of(days: int = 14, a_day: int = 400) -> Rows:
    rng = np.random.default_rng(11)
    n = days * a_day
    ts = np.arange(n) * (DAY // a_day)
    hour = ts % DAY / DAY
    return Rows(
        ts=ts,
        columns={
            "amount": np.where(rng.random(n) < 0.03, np.nan, rng.lognormal(0, 1, n)),
            "country": np.array(["DE", "FR", None], dtype=object)[rng.choice(3, n, p=[0.6, 0.3, 0.1])],
            "score": 1 / (1 + np.exp(-rng.normal(np.sin(2 * np.pi * hour), 1, n))),
            "outcome": (rng.random(n) < 0.2) * 1.0,
        },
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    builder = ReferenceBuilder("credit", timezone="Europe/Paris")
    builder.survey(rows_of())
    builder.count(rows_of())
    return builder.finish()


def test_what_is_loaded_is_what_was_built(reference: Reference) -> None:
    loaded = loads(dumps(reference))
    assert dumps(loaded) == dumps(reference)
    assert (loaded.id, loaded.specs, loaded.findings) == (reference.id, reference.specs, reference.findings)
    built, found = reference.views[View()].features["amount"], loaded.views[View()].features["amount"]
    arrays = [field.name for field in fields(built) if isinstance(getattr(built, field.name), np.ndarray)]
    assert arrays == ["counts", "profile", "scales_ms", "v", "m3", "n_bar"]
    assert all(np.array_equal(getattr(built, name), getattr(found, name)) for name in arrays)
    assert np.array_equal(built.directions.phi, found.directions.phi)
    assert np.array_equal(built.directions.q, found.directions.q, equal_nan=True)
    assert built.directions.names == found.directions.names
    assert loaded.outcomes is not None
    assert reference.outcomes is not None
    assert np.array_equal(loaded.outcomes.positives, reference.outcomes.positives)


def test_the_id_is_that_of_the_content(reference: Reference) -> None:
    assert len(reference.id) == 16
    assert identified(reference).id == reference.id
    assert identified(replace(reference, model="other")).id != reference.id


def test_a_cut_file_is_refused(reference: Reference) -> None:
    raw = dumps(reference)
    with pytest.raises(ReferenceFileError, match="not a whole JSON document"):
        loads(raw[: len(raw) // 2])
    with pytest.raises(ReferenceFileError, match="not a whole JSON document"):
        loads(b"")


@pytest.mark.parametrize("raw", [b"[]", b"3", b'{"model": "x"}', b"null"])
def test_another_document_is_refused(raw: bytes) -> None:
    with pytest.raises(ReferenceFileError, match="not a Tripline reference"):
        loads(raw)


def test_a_changed_value_is_refused_by_its_hash(reference: Reference) -> None:
    document = json.loads(dumps(reference))
    document["n"] += 1
    with pytest.raises(ReferenceFileError, match=r"^id: .*changed or damaged"):
        loads(json.dumps(document).encode())


def test_a_newer_format_is_refused(reference: Reference) -> None:
    document = json.loads(dumps(reference)) | {"tripline_reference": 6}
    with pytest.raises(ReferenceFileError, match="format 6; this Tripline reads up to 5"):
        loads(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("n",), "many", r"\$\.n"),
        (("surprise",), 1, "surprise"),
        (("gaps", "shape"), [7], "gaps: shape"),
        (("views", 0, "features", "amount", "counts", "data"), "!!", r"views\[0\].features.amount.counts"),
        (("views", 0, "features", "amount", "counts", "data"), "AAAA", r"views\[0\].features.amount.counts"),
        (("views", 0, "features", "amount", "kinds"), [], r"views\[0\].features.amount.kinds"),
        (("views", 0, "features"), {}, r"views\[0\].features: .*amount"),
        (("views", 0, "features", "amount", "v", "shape"), [1, 1], r"views\[0\].features.amount.v: shape"),
    ],
)
def test_a_wrong_part_is_refused_with_its_place(
    reference: Reference, path: tuple[str | int, ...], value: object, place: str
) -> None:
    """Even when somebody computed the hash anew."""
    import detectors.references as module

    document = json.loads(dumps(reference))
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    content = {name: part for name, part in document.items() if name not in ("id", "tripline_reference")}
    document["id"] = module._hash(content)
    with pytest.raises(ReferenceFileError, match=place):
        loads(json.dumps(document).encode())


def test_words_say_what_was_learned(reference: Reference) -> None:
    lines = words(reference)
    assert lines[0].startswith("credit: 5,600 rows from 1970-01-01 00:00 to 1970-01-14 23:56 (14.0 days, Europe/Paris)")
    assert lines[1].startswith("amount: numeric, 0.0")
    assert "3.1% missing" in lines[1] or "2.9% missing" in lines[1] or "3.0% missing" in lines[1]
    assert "country: categorical, 2 levels, the smallest 'FR' (3" in lines[2]
    assert "score: numeric" in lines[3]
    assert "sd in location, highest" in lines[3]
    assert "counts as" in lines[3]
    assert "tolerance widened (sd)" in lines[3]


def bag(n: int) -> Reference:
    table = Rows(ts=np.full(n, NO_TIME), columns={"x": np.random.default_rng(1).normal(size=n)})
    builder = ReferenceBuilder("m", "features")
    builder.survey(table)
    builder.count(table)
    return builder.finish()


def test_the_words_say_what_the_size_of_a_bag_of_rows_costs() -> None:
    """Fewer than 500 rows are silent, fewer than 5,000 widen the tolerance, and nothing is said of more."""
    few, some, many = (words(bag(n))[1] for n in (300, 2_000, 6_000))
    assert "silent, worth under 500 rows: location, scale" in few
    assert "tolerance widened (sd): location 0.16, scale 0.16" in some
    assert "silent" not in many + some
    assert "widened" not in many
