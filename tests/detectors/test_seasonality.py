"""Seasons: what is there is learned, what is not there shrinks to zero; clocks are those of people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.seasonality import (
    DAY,
    HOUR,
    fit_profile,
    fit_without_each_day,
    hour_of_week,
    local_ms,
    mu_at,
    pane_weights,
    reference_local_ms,
)
from schemas.errors import ConfigurationError

WINTER = 1_735_689_600_000  # 2025-01-01 00:00 UTC
SINE = 0.5 * np.sin(2 * np.pi * np.arange(24) / 24)


def stream(days: int, true: np.ndarray, *, n: float = 600.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Sums and rows of independent rows of mean `true` (days, 24)."""
    rng = np.random.default_rng(seed)
    rows = np.full((days, 24), n)
    sums = rows * true + rng.normal(0, np.sqrt(n), (days, 24))
    return sums[:, :, None], rows, np.arange(days) % 7


def test_a_daily_sine_is_recovered() -> None:
    profile = fit_profile(*stream(14, np.tile(SINE, (14, 1))))
    assert np.abs(profile[:, 0] - np.tile(SINE, 7)).max() < 0.04


def test_a_weekend_is_recovered() -> None:
    true = np.zeros((28, 24))
    true[np.arange(28) % 7 >= 5] = 0.4
    profile = fit_profile(*stream(28, true))
    assert np.abs(profile[:, 0] - np.repeat([0, 0, 0, 0, 0, 0.4, 0.4], 24)).max() < 0.05


@pytest.mark.parametrize("business_hours", [False, True])
def test_a_weekend_that_swings_otherwise_is_recovered_from_two_weeks_of_few_rows(business_hours: bool) -> None:
    """30 rows an hour: 168 cells of two hours each are lost in noise; its quarters of a day are not."""
    true = np.zeros((14, 24))
    true[np.arange(14) % 7 >= 5] = 0.6 * SINE
    sums, rows, weekdays = stream(14, true, n=30.0)
    if business_hours:
        rows[:, 18:], sums[:, 18:] = 0.0, 0.0
    error = (fit_profile(sums, rows, weekdays)[:, 0] - true[:7].ravel()).reshape(7, 24)[:, :18]
    assert np.abs(error[:5]).max() < 0.12
    assert np.sqrt((error[5:] ** 2).mean()) < 0.12
    assert np.sqrt((true[5:7, :18] ** 2).mean()) > 0.2


def test_a_weekend_like_all_days_gets_no_swing_of_its_own() -> None:
    """Two hundred features of independent rows: the profile is what hour, day and cell make of it, in all but a few."""
    rng = np.random.default_rng(4)
    rows = np.full((14, 24), 50.0)
    sums = rows[:, :, None] * np.tile(SINE, (14, 1))[:, :, None] + rng.normal(0, np.sqrt(50), (14, 24, 200))
    by_day = fit_profile(sums, rows, np.arange(14) % 7).reshape(7, 24, 200)
    within = by_day - by_day.mean(axis=1, keepdims=True)
    assert (np.abs(within[6] - within[0]).max(axis=0) < 1e-9).mean() > 0.95


def test_one_hour_of_the_week_is_recovered_by_its_cell() -> None:
    true = np.zeros((56, 24))
    true[1::7, 9] = 1.5
    profile = fit_profile(*stream(56, true))[:, 0]
    assert profile[24 + 9] > 1.0
    assert abs(profile[9]) < 0.35


def test_no_season_gives_a_nearly_flat_profile() -> None:
    profile = fit_profile(*stream(14, np.zeros((14, 24))))
    assert np.abs(profile).max() < 0.02


def test_under_two_days_it_is_flat_and_under_ten_it_knows_no_weekdays() -> None:
    one = fit_profile(*stream(1, SINE[None]))
    assert np.ptp(one) == 0.0
    true = np.tile(SINE, (9, 1))
    true[2] += 2.0
    nine = fit_profile(*stream(9, true)).reshape(7, 24)
    assert np.allclose(nine, nine[0])


@pytest.mark.parametrize("days", [1, 2, 3, 9, 10, 11, 15, 80])
@pytest.mark.parametrize("with_prior", [False, True])
def test_without_each_day_is_the_fit_to_the_others(days: int, with_prior: bool) -> None:
    rng = np.random.default_rng(days)
    rows = rng.poisson(3.0, (days, 24)) * (rng.random((days, 1)) < 0.9) * (np.arange(24) > 3) * 1.0
    sums = (rows[:, :, None] * rng.normal(0.3, 1.0, (days, 24, 2))) + (np.arange(days) % 7 == 2)[:, None, None] * rows[
        :, :, None
    ]
    weekdays = (np.arange(days) + 5) % 7
    prior = rng.normal(size=(168, 2)) if with_prior else None
    found = fit_without_each_day(sums, rows, weekdays, prior)
    expected = [
        fit_profile(*(np.delete(part, day, axis=0) for part in (sums, rows, weekdays)), prior)
        if np.delete(rows, day, axis=0).any()
        else fit_profile(sums, rows, weekdays, prior)
        for day in range(days)
    ]
    assert np.allclose(found, expected, atol=1e-9)


def test_an_hour_without_events_takes_the_nearest_with() -> None:
    sums, rows, weekdays = stream(14, np.tile(SINE, (14, 1)))
    rows[:, 0:5] = 0
    sums[:, 0:5] = 0
    profile = fit_profile(sums, rows, weekdays).reshape(7, 24)
    assert np.allclose(profile[:, 0] - profile[:, 23], 0, atol=0.02)
    assert np.allclose(profile[:, 4] - profile[:, 5], 0, atol=0.02)


def test_a_segment_with_few_rows_takes_the_shape_of_its_model() -> None:
    prior = np.tile(SINE, 7)[:, None]
    thin = fit_profile(*stream(14, np.tile(SINE, (14, 1)) + 0.3, n=3.0), prior)
    assert np.abs(thin[:, 0] - 0.3 - prior[:, 0]).max() < 0.15
    flat = fit_profile(*stream(14, np.zeros((14, 24))), prior)
    assert np.abs(flat).max() < 0.1


def test_without_events_the_profile_is_zero() -> None:
    assert not fit_profile(np.zeros((3, 24, 2)), np.zeros((3, 24)), np.arange(3)).any()


@settings(max_examples=60, deadline=None)
@given(hours=st.integers(10 * 365 * 24, 60 * 365 * 24), zone=st.sampled_from(["Europe/Paris", "Asia/Kathmandu"]))
def test_local_time_is_that_of_zoneinfo(hours: int, zone: str) -> None:
    ts = hours * HOUR + np.arange(0, 3 * DAY, 17 * 60_000)
    moments = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(t)) for t in ts]
    offsets = [moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in moments]
    expected = [offset // timedelta(milliseconds=1) for offset in offsets if offset is not None]
    assert (local_ms(ts, timezone=zone) - ts).tolist() == expected


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
def test_local_time_is_right_through_a_year_of_changes(zone: str) -> None:
    ts = WINTER + np.arange(0, 366 * DAY, HOUR // 2)
    exact = [datetime.fromtimestamp(t / 1000, tz=ZoneInfo(zone)).utcoffset() for t in ts.tolist()]
    expected = [offset // timedelta(milliseconds=1) for offset in exact if offset is not None]
    assert (local_ms(ts, timezone=zone) - ts).tolist() == expected


def test_another_zone_keeps_the_cycle_where_the_reference_had_it() -> None:
    winter, summer = np.array([WINTER]), np.array([WINTER + 181 * DAY])
    same = {"timezone": "Europe/Paris", "reference_timezone": "UTC", "middle": WINTER}
    assert reference_local_ms(winter, **same).tolist() == winter.tolist()
    assert (reference_local_ms(summer, **same) - summer).tolist() == [HOUR]


def test_an_unknown_zone_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="Mars/Olympus"):
        local_ms(np.zeros(1, dtype=np.int64), timezone="Mars/Olympus")


def test_interpolation_meets_the_centres_and_is_a_circle() -> None:
    profile = np.random.default_rng(5).normal(size=(168, 3))
    centres = 4 * DAY + np.arange(168) * HOUR + HOUR // 2
    assert np.allclose(mu_at(profile, centres), profile)
    assert np.allclose(mu_at(profile, centres[:1] - HOUR // 2), (profile[:1] + profile[-1:]) / 2)
    assert hour_of_week(centres).tolist() == list(range(168))


def test_the_weights_of_a_short_pane_are_those_of_its_middle_and_of_a_week_the_mean() -> None:
    profile = np.random.default_rng(6).normal(size=(168, 2))
    start = 4 * DAY + 7 * HOUR + 300_000
    assert np.allclose(pane_weights(start, 600_000) @ profile, mu_at(profile, np.array([start + 300_000]))[0])
    assert np.allclose(pane_weights(start, 7 * DAY) @ profile, profile.mean(axis=0))
