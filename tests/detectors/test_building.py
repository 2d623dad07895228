"""Building: the same reference however the rows are cut, and an answer to every odd table."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.building import ReferenceBuilder
from detectors.counting import base_block
from detectors.design_effect import deff_at
from detectors.references import Reference, dumps, loads, words
from detectors.rows import NO_TIME, Rows
from detectors.seasonality import DAY, HOUR
from schemas.errors import ConfigurationError
from schemas.layouts import View

START = 1_735_689_600_000  # 2025-01-01, a Wednesday
INSECTS = Path(__file__).parents[3] / "shared" / "data" / "insects_gradual_balanced.csv.gz"


def build(rows: Rows, sizes: Sequence[int] = (), **options: Any) -> Reference:
    builder = ReferenceBuilder("m", **{"kind": "features", **options})
    for piece in cut(rows, sizes):
        builder.survey(piece)
    for piece in cut(rows, sizes[::-1]):
        builder.count(piece)
    return builder.finish()


def cut(rows: Rows, sizes: Sequence[int]) -> Iterator[Rows]:
    ends = [0, *np.minimum(np.cumsum(sizes, dtype=int), len(rows)).tolist(), len(rows)]
    return (rows.take(slice(begin, end)) for begin, end in pairwise(ends))


def stream(days: int = 14, every: int = 300_000, seed: int = 0, **columns: Any) -> Rows:
    ts = START + np.arange(days * DAY // every) * every
    rng = np.random.default_rng(seed)
    return Rows(
        ts=ts, columns={"x": rng.normal(size=ts.size), **{name: make(ts, rng) for name, make in columns.items()}}
    )


def kinds(reference: Reference) -> set[tuple[str, str]]:
    return {(finding.kind, finding.feature) for finding in reference.findings}


@pytest.mark.parametrize("sizes", [(1,), (7, 1000, 3), (100_000,), (4031, 1)])
def test_chunks_of_any_size_give_the_same_reference(sizes: tuple[int, ...]) -> None:
    rows = stream(word=lambda ts, rng: np.array(["a", "b", None], dtype=object)[rng.integers(0, 3, ts.size)])
    assert build(rows, sizes).id == build(rows).id


def test_rows_out_of_order_give_the_same_counts_and_scales() -> None:
    rows = stream()
    mixed = rows.take(np.random.default_rng(1).permutation(len(rows)))
    ordered, shuffled = build(rows), build(mixed)
    assert ordered.id == shuffled.id


def test_independent_rows_are_worth_what_they_are() -> None:
    feature = build(stream(days=28)).views[View()].features["x"]
    assert feature.n == 28 * 288
    assert deff_at(feature.scales_ms, feature.v, 300_000)[0] < 1.7
    assert np.abs(feature.profile[:, 0]).max() < 0.1


def test_a_daily_season_goes_into_the_profile_and_not_into_the_design_effect() -> None:
    def sine(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.sin(2 * np.pi * (ts % DAY) / DAY) + rng.normal(size=ts.size)

    feature = build(stream(days=28, every=60_000, y=sine)).views[View()].features["y"]
    # In units of the whole column's deviation, √1.5.
    assert 0.7 < feature.profile[6, 0] < 0.9
    assert -0.9 < feature.profile[18, 0] < -0.7
    assert deff_at(feature.scales_ms, feature.v, 300_000)[0] < 2.5


def test_the_profile_stands_in_the_time_zone_of_the_reference() -> None:
    def office(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (ts % DAY // HOUR == 12) * 3.0 + rng.normal(size=ts.size)

    rows = stream(every=60_000, y=office)
    utc = build(rows).views[View()].features["y"].profile[:24, 0]
    tokyo = build(rows, timezone="Asia/Tokyo").views[View()].features["y"].profile[:24, 0]
    assert (int(utc.argmax()), int(tokyo.argmax())) == (12, 21)


def test_an_outage_at_night_is_left_out_whole() -> None:
    """Where a pane has too few rows to say so by itself, those beside it do."""
    ts = START + np.arange(14 * DAY // 10_000) * 10_000
    rng = np.random.default_rng(9)
    ts = ts[rng.random(ts.size) < np.where(ts // HOUR % 24 < 6, 0.18, 1.0)]
    x = rng.normal(size=ts.size)
    begin, end = START + 5 * DAY + HOUR, START + 5 * DAY + 5 * HOUR
    gone = (ts >= begin) & (ts < end)
    x[gone] = np.nan
    reference = build(Rows(ts=ts, columns={"x": x}))
    feature = reference.views[View()].features["x"]
    [(first, last)] = feature.excluded
    assert abs(first - begin) < HOUR / 4
    assert abs(last - end) < HOUR / 4
    missing = feature.counts[reference.specs[0].columns.index("missing")]
    assert missing <= 0.05 * gone.sum()


def test_an_outage_is_left_out_and_a_habit_stays() -> None:
    def outage(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        at = ts - START
        return np.where((at >= 4 * DAY) & (at < 4 * DAY + 3 * HOUR), np.nan, rng.normal(size=ts.size))

    def habit(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(ts % DAY < 2 * HOUR, np.nan, rng.normal(size=ts.size))

    reference = build(stream(every=60_000, y=outage, z=habit))
    features = reference.views[View()].features
    (span,) = features["y"].excluded
    assert START + 4 * DAY - HOUR <= span[0] <= START + 4 * DAY
    assert START + 4 * DAY + 3 * HOUR <= span[1] <= START + 4 * DAY + 4 * HOUR
    missing = reference.specs[1].columns.index("missing")
    assert features["y"].counts[missing] == 0
    assert features["z"].excluded == ()
    assert features["z"].counts[missing] == 14 * 120
    assert ("outage", "y") in kinds(reference)


def test_a_day_that_is_unlike_the_others_is_named() -> None:
    """A holiday hides changes for good; weekends, a stream like itself, and what happens every few days do not."""

    def holiday(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        day = (ts - START) // DAY
        return rng.normal(size=ts.size) + 0.9 * ((day + 2) % 7 >= 5) + 0.9 * (day == 12)

    def often(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=ts.size) + 0.9 * np.isin((ts - START) // DAY, [1, 7, 11, 15, 20, 24])

    reference = build(stream(days=28, every=120_000, y=holiday, z=often))
    found = {finding.feature: finding.words for finding in reference.findings if finding.kind == "unlike_days"}
    assert list(found) == ["y"]
    assert "2025-01-13 (location +0." in found["y"]
    without = build(stream(days=28, every=120_000, y=holiday), exclude=[(START + 12 * DAY, START + 13 * DAY)])
    assert kinds(without) == {("excluded", "")}


def test_what_a_person_excludes_is_not_counted() -> None:
    rows = stream()
    span = (START + 2 * DAY, START + 3 * DAY)
    reference = build(rows, exclude=[span])
    assert reference.n == len(rows) - 288
    assert reference.excluded == (span,)
    assert reference.gaps.max() == 300_000
    assert ("excluded", "") in kinds(reference)


def test_segments_with_a_thousand_rows_a_day_have_a_reference_of_their_own() -> None:
    rows = stream(every=30_000)
    rng = np.random.default_rng(2)
    country = np.array(["FR", "DE", "LU"], dtype=object)[rng.choice(3, len(rows), p=[0.5, 0.45, 0.05])]
    version = np.array(["1"] * len(rows), dtype=object)
    shifted = {"x": np.asarray(rows.columns["x"]) + (country == "FR")}
    reference = build(
        Rows(ts=rows.ts, columns=shifted, version=version, segments={"country": country}), segments=["country"]
    )
    assert list(reference.views) == [View(), View("country", "FR"), View("country", "DE")]
    french = reference.views[View("country", "FR")]
    assert french.n == french.features["x"].n == int((country == "FR").sum())
    total = reference.views[View()].features["x"].counts
    # Its own shares: half of all rows, but two thirds of the top bin.
    assert french.features["x"].counts[31] / total[31] > 0.6
    assert np.abs(french.features["x"].directions.phi.T @ french.features["x"].counts / french.n)[0] < 1e-4
    assert sum(line.startswith("segments: country; rows are counted by their values") for line in words(reference)) == 1


def test_every_odd_column_is_a_finding_and_none_an_exception() -> None:
    n = 14 * 288
    rows = stream(
        constant=lambda ts, _: np.zeros(ts.size),
        absent=lambda ts, _: np.full(ts.size, np.nan),
        empty=lambda ts, _: np.array([None] * ts.size, dtype=object),
        two=lambda ts, rng: rng.integers(0, 2, ts.size) * 1.0,
        row=lambda ts, _: np.arange(ts.size) * 1.0,
        uuid=lambda ts, _: np.array([f"u{i}" for i in range(ts.size)], dtype=object),
        infinite=lambda ts, _: np.full(ts.size, np.inf),
        flag=lambda ts, rng: rng.random(ts.size) < 0.5,
    )
    reference = build(rows, features=[*rows.columns, "ghost"])
    assert kinds(reference) >= {
        ("constant", "constant"),
        ("all_missing", "absent"),
        ("all_missing", "empty"),
        ("id_like", "row"),
        ("id_like", "uuid"),
        ("all_missing", "infinite"),
        ("absent", "ghost"),
    }
    features = reference.views[View()].features
    assert {name: feature.n for name, feature in features.items()} == dict.fromkeys(rows.columns, n)
    assert features["two"].directions.names[0] == "location"
    assert all(np.isfinite(feature.v).all() for feature in features.values())
    assert loads(dumps(reference)).id == reference.id
    assert len(words(reference)) > len(rows.columns)


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_a_table_of_hardly_any_rows_is_provisional(n: int) -> None:
    reference = build(stream().take(slice(0, n)))
    assert reference.n == n
    assert reference.provisional
    assert ("few_rows", "") in kinds(reference)
    assert loads(dumps(reference)).id == reference.id


def test_why_a_reference_is_provisional_is_said() -> None:
    rows = stream()
    assert build(rows).provisional == ""
    assert build(stream(days=7, every=HOUR)).provisional == ""
    assert build(rows.take(rows.ts < START + 3 * DAY)).provisional.startswith("3.0 days")
    weekday = (rows.ts // DAY + 3) % 7 < 5
    assert build(rows.take(weekday)).provisional.startswith("no weekend")


@pytest.mark.parametrize(("days", "weekend", "said"), [(7, 0.5, 1), (8, 0.5, 1), (14, 0.5, 0), (7, 0.0, 0)])
def test_a_weekend_that_one_week_cannot_tell_from_a_wander_is_said(days: int, weekend: float, said: int) -> None:
    """.5 sd that came on `null real` were found after 51 panes with 14 days of reference, after 890 with 7."""
    rows = stream(days, every=60_000)
    shifted = np.asarray(rows.columns["x"], dtype=float) + weekend * (rows.ts // DAY % 7 >= 5)
    found = words(build(Rows(ts=rows.ts, columns={"x": shifted})))
    assert sum("weekend" in line for line in found) == said


def test_a_bag_of_rows_gives_bins_and_means_only() -> None:
    rows = stream()
    bag = build(Rows(ts=np.full(len(rows), NO_TIME), columns=rows.columns))
    feature = bag.views[View()].features["x"]
    assert bag.provisional.startswith("no times")
    assert (bag.start, bag.end, feature.scales_ms.size, bag.gaps.max()) == (0, 0, 0, 0)
    timed = build(rows)
    assert bag.specs == timed.specs
    assert feature.counts.tolist() == timed.views[View()].features["x"].counts.tolist()


@pytest.mark.parametrize("timed", [True, False])
def test_levels_that_a_small_reference_has_not_met_are_expected(timed: bool) -> None:
    """700 rows of 200 equal levels leave six unmet: 3 % of the rows to come are unseen, .3 sd if it were a change."""
    shifts = []
    for seed in range(20):
        rows = stream(every=1_728_000, seed=seed, word=lambda ts, rng: level_of(rng.integers(0, 200, ts.size)))
        ts = rows.ts if timed else np.full(len(rows), NO_TIME)
        feature = build(Rows(ts=ts, columns=rows.columns)).views[View()].features["word"]
        spec = next(spec for spec in build(rows).specs if spec.name == "word")
        to_come = level_of(np.random.default_rng(1000 + seed).integers(0, 200, 20_000))
        share = np.mean([word not in spec.levels for word in to_come])
        along = feature.directions
        at, mean = along.index("unseen"), feature.profile.mean(axis=0)
        q = along.q[at]
        shifts.append((share - q) / np.sqrt(q * (1 - q)) - mean[at])
        assert along.upward_only[at]
    assert len(rows) == 700
    assert abs(np.mean(shifts)) < 0.05


def level_of(numbers: Any) -> Any:
    return np.array([f"L{number:03}" for number in numbers], dtype=object)


def test_rows_without_a_time_are_left_out_of_a_timed_table() -> None:
    rows = stream()
    ts = rows.ts.copy()
    ts[:10] = NO_TIME
    reference = build(Rows(ts=ts, columns=rows.columns))
    assert reference.n == len(rows) - 10
    assert ("no_time", "") in kinds(reference)


def test_halves_that_differ_are_named_with_both_means() -> None:
    def step(ts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (ts > START + 7 * DAY) * 0.5 + rng.normal(size=ts.size)

    reference = build(stream(every=60_000, y=step))
    assert kinds(reference) == {("not_stationary", "y")}
    (finding,) = reference.findings
    assert "location is -0.2" in finding.words
    assert "and +0.2" in finding.words


def test_the_longest_gap_is_kept_by_the_hour_of_the_week() -> None:
    rows = stream(every=60_000)
    night = (rows.ts % DAY >= 2 * HOUR) | (rows.ts % DAY == 0)
    gaps = build(rows.take(night)).gaps
    assert gaps[[0, 1]].tolist() == [2 * HOUR] * 2
    assert gaps[12] == 60_000


def test_outputs_stand_last_and_scores_meet_their_outcomes() -> None:
    rows = stream(
        score=lambda ts, rng: rng.random(ts.size),
        label=lambda ts, rng: rng.integers(0, 2, ts.size),
        outcome=lambda ts, rng: np.where(rng.random(ts.size) < 0.5, np.nan, rng.random(ts.size) < 0.3),
    )
    reordered = {name: rows.columns[name] for name in ("score", "outcome", "label", "x")}
    reference = build(Rows(ts=rows.ts, columns=reordered), kind="predictions")
    assert [(spec.name, spec.kind) for spec in reference.specs] == [
        ("x", "numeric"),
        ("score", "numeric"),
        ("label", "categorical"),
    ]
    assert reference.outcomes is not None
    known = np.isfinite(np.asarray(rows.columns["outcome"]))
    assert int(reference.outcomes.n.sum()) == int(known.sum())
    assert float(reference.outcomes.positives.sum()) == float(np.nansum(rows.columns["outcome"]))


def test_chosen_features_stand_in_the_order_of_the_choice() -> None:
    rows = stream(a=lambda ts, rng: rng.normal(size=ts.size), b=lambda ts, rng: rng.normal(size=ts.size))
    assert [spec.name for spec in build(rows, features=["b", "x"]).specs] == ["b", "x"]


def test_an_unknown_zone_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigurationError, match="Nowhere"):
        ReferenceBuilder("m", timezone="Nowhere/Else")


def test_the_base_block_holds_a_row_and_the_table_its_bound() -> None:
    assert base_block(rows=10**6, first=0, last=14 * DAY, most=1 << 18) == 10_000
    assert base_block(rows=14, first=0, last=14 * DAY, most=1 << 18) >= DAY
    assert base_block(rows=10**9, first=0, last=400 * DAY, most=1000) == 40_960_000


@pytest.mark.skipif(not INSECTS.exists(), reason="the insects table is not here")
def test_the_insects_table_gives_a_reference() -> None:
    with gzip.open(INSECTS, "rt") as lines:
        values = np.array([row[:33] for _, row in zip(range(8064), csv.reader(lines), strict=False)], dtype=np.float64)
    ts = START + np.arange(8064) * 151_000
    reference = build(Rows(ts=ts, columns={f"f{i}": values[:, i] for i in range(33)}), (5000,))
    assert (reference.n, len(reference.specs), reference.provisional) == (8064, 33, "")
    assert reference.views[View()].features["f0"].scales_ms[0] == 160_000
    assert all(spec.value_bins == 32 for spec in reference.specs)


def test_levels_of_sessions_that_were_met_at_one_time_are_expected_to_have_successors() -> None:
    """Ten rows of a session share a level with a long tail: one row in seven of the days to come is of a new level."""

    def sessions(seed: int, days: int) -> Rows:
        rng = np.random.default_rng(seed)
        level = np.repeat(np.minimum(rng.zipf(1.3, days * 40), 10**6), 10)
        return Rows(
            ts=np.arange(level.size) * (DAY // 400) + (seed - 1) * 14 * DAY,
            columns={"c": np.array([f"z{one}" for one in level], dtype=object)},
        )

    off = []
    for seed in range(1, 9, 2):
        reference = build(sessions(seed, 14))
        along, known = reference.views[View()].features["c"].directions, set(reference.specs[0].levels)
        truth = np.mean([one not in known for one in sessions(seed + 1, 14).columns["c"].tolist()])
        assert truth > 0.1
        off.append(along.q[along.index("unseen")] - truth)
    assert abs(np.mean(off)) < 0.03
