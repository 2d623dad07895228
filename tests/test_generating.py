"""The seeded applicants: the same seed draws the same, any stretch alone, and they look like a day's applicants."""

import json

import numpy as np

from streamer.generating import CATEGORICAL, DAY_MS, HOUR_MS, NUMERIC, Applicants, Shift

MONDAY = 1_740_960_000_000  # 2025-03-03


def test_a_stretch_drawn_alone_equals_its_part_of_a_longer_one() -> None:
    applicants = Applicants(seed=3)
    whole = applicants.between(MONDAY, MONDAY + 3 * HOUR_MS).events()
    last = applicants.between(MONDAY + 2 * HOUR_MS, MONDAY + 3 * HOUR_MS).events()
    assert whole[-len(last) :] == last


def test_another_seed_draws_others() -> None:
    drawn = [Applicants(seed=seed).between(MONDAY, MONDAY + HOUR_MS).events()[0] for seed in (1, 2)]
    assert drawn[0] != drawn[1]


def test_noon_brings_several_times_the_applications_of_the_night() -> None:
    day = Applicants(seed=3).between(MONDAY, MONDAY + DAY_MS)
    by_hour = np.bincount(day.ts % DAY_MS // HOUR_MS, minlength=24)
    assert by_hour[14:16].sum() > 3 * by_hour[2:4].sum()


def test_events_carry_what_was_drawn_with_missing_values_as_null() -> None:
    drawn = Applicants(seed=3).between(MONDAY, MONDAY + DAY_MS)
    events = [json.loads(raw) for raw in drawn.events()]
    missing = [event["features"]["income"] is None for event in events]
    assert set(events[0]["features"]) == {*NUMERIC, *CATEGORICAL}
    assert missing == np.isnan(drawn.numeric["income"]).tolist()
    assert 0.01 < np.mean(missing) < 0.04
    assert [event["score"] for event in events] == drawn.score.tolist()


def test_many_people_use_no_credit_line_at_all() -> None:
    drawn = Applicants(seed=3).between(MONDAY, MONDAY + DAY_MS)
    assert 0.15 < np.mean(drawn.numeric["utilisation"] == 0) < 0.25


def test_a_shift_moves_what_it_names_while_it_lasts() -> None:
    noon = MONDAY + 12 * HOUR_MS
    shift = Shift(start=noon, end=MONDAY + DAY_MS, income=-0.4, utilisation=0.9, brokers=0.2, missing_employment=0.1)
    drawn = Applicants(seed=3, per_day=50_000, shifts=(shift,)).between(MONDAY, MONDAY + DAY_MS)
    before, after = drawn.ts < noon, drawn.ts >= noon
    still = Applicants(seed=3, per_day=50_000).between(MONDAY, noon)
    assert [raw[:38] for raw in still.events()] == [raw[:38] for raw in drawn.events()[: len(still)]]
    logs = np.log(drawn.numeric["income"])
    assert np.nanmean(logs[after]) < np.nanmean(logs[before]) - 0.3
    assert np.mean(drawn.categorical["channel"][after] == "broker") > 0.2
    assert np.mean(np.isnan(drawn.numeric["employment_years"][after])) > 0.1
    assert np.mean(drawn.score[after]) > np.mean(drawn.score[before]) + 0.05


def test_several_models_and_versions_share_the_stream_evenly() -> None:
    drawn = Applicants(seed=3, models=("a", "b"), versions=("1", "2")).at(np.arange(20_000), part=1)
    assert abs(np.mean(drawn.model == "a") - 0.5) < 0.02
    assert abs(np.mean(drawn.version == "2") - 0.5) < 0.02
    assert len(set(drawn.ids)) == 20_000
