"""A calendar of odd days: which profile a pane takes, in the model's zone, over daylight saving, and what off means."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from panes_of_counts import DAY, PANE, T0, counts, layout, play, quiet, rows
from panes_of_counts import reference as flat

from detectors.odd_days import OddDays
from detectors.references import Reference, identified
from detectors.results import OK, UNDECIDED, Alarm
from detectors.scopes import Scope, build_scope, load_state, quiet_panes, save_state, skip_empty, update
from schemas.errors import ConfigurationError
from schemas.layouts import Expectation, View

HOUR = 3_600_000


@lru_cache(maxsize=4)
def stepped(zone: str = "UTC") -> Reference:
    """A profile whose value is the hour of the week: what a pane's mean is says which hour it took."""
    of = flat()
    whole = of.views[View()]
    features = {
        name: replace(one, profile=np.tile(np.arange(168.0)[:, None] / 256, (1, one.profile.shape[1])))
        for name, one in whole.features.items()
    }
    return identified(replace(of, timezone=zone, views={View(): replace(whole, features=features)}))


def scope(zone: str = "UTC", *, of: str | None = None, pane: int = HOUR, **calendar: str) -> Scope:
    reference = stepped(of or zone)
    named = {date.removeprefix("on_").replace("_", "-"): word for date, word in calendar.items()}
    return build_scope(reference, layout(reference, timezone=zone, pane_ms=pane, calendar=named))


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def hour(found: Scope, start: int) -> float:
    """The hour of the week whose mean a pane takes."""
    return float(found.mu(start)[0]) * 256


def test_a_date_takes_the_profile_of_its_weekday_and_others_keep_theirs() -> None:
    odd = scope(on_2025_12_25="sunday")  # a Thursday
    assert hour(odd, at("2025-12-25T10:00")) == 6 * 24 + 10
    assert hour(odd, at("2025-12-24T23:00")) == 2 * 24 + 23
    assert hour(odd, at("2025-12-26T00:00")) == 4 * 24


def test_the_date_is_that_of_the_zone() -> None:
    paris, utc = scope("Europe/Paris", on_2025_07_14="sunday"), scope(on_2025_07_14="sunday")
    late = at("2025-07-13T22:00")  # midnight of the 14th in Paris, a Monday
    assert (hour(paris, late), hour(utc, late)) == (6 * 24, 6 * 24 + 22)
    assert hour(paris, late - HOUR) == 6 * 24 + 23
    assert hour(paris, at("2025-07-14T22:00")) == 24


def test_a_day_of_twentythree_hours_goes_like_another_to_its_last_hour() -> None:
    """2025-03-30, a Sunday, ends at 22:00 UTC in Paris and has no 02:00."""
    odd = scope("Europe/Paris", on_2025_03_30="tuesday")
    taken = [hour(odd, at("2025-03-30T00:00", "Europe/Paris") + i * HOUR) for i in range(24)]
    assert taken == [24, 25, *range(27, 48), 0]


def test_a_day_of_twentyfive_hours_has_its_hour_twice() -> None:
    odd = scope("Europe/Paris", on_2025_10_26="tuesday")
    taken = [hour(odd, at("2025-10-26T00:00", "Europe/Paris") + i * HOUR) for i in range(26)]
    assert taken == [24, 25, 26, 26, *range(27, 48), 0]


def test_a_layout_of_another_zone_than_the_reference_keeps_its_own_dates() -> None:
    """The reference's clock stands where it stood; the date is the layout's."""
    odd = scope("Asia/Tokyo", of="UTC", on_2025_12_25="sunday")
    midnight = at("2025-12-25T00:00", "Asia/Tokyo")
    plain = scope("Asia/Tokyo", of="UTC")
    # Wednesday 15:00 on the reference's clock, three days on: Saturday 15:00.
    assert (hour(plain, midnight), hour(odd, midnight)) == (2 * 24 + 15, 5 * 24 + 15)
    assert hour(odd, midnight - HOUR) == hour(plain, midnight - HOUR)


def test_a_pane_of_a_day_takes_what_each_of_its_hours_takes() -> None:
    odd = scope("Europe/Paris", pane=DAY, on_2025_12_25="sunday")
    # 23 hours of Christmas as a Sunday, whose last half hour leans to Monday's 0, then the first of the 26th, a Friday.
    found = hour(odd, at("2025-12-25T00:00"))
    plain = hour(scope("Europe/Paris", pane=DAY), at("2025-12-25T00:00"))
    assert found == pytest.approx(plain + 3 * 24 * 23 / 24 - 168 * (1 / 8 + 3 / 8) / 96)


def test_nothing_is_judged_on_a_day_off() -> None:
    """T0 is 2025-01-15; the 16th is off: a shift of two sd on it says nothing, the 17th begins where the 15th ended."""
    of = flat()
    odd = build_scope(of, layout(of, calendar={"2025-01-16": "off"}))
    shifted = counts(of, rows(4, 288 * 20, shift=2.0), panes=288)
    before, _ = play(odd, quiet(of, 288))
    after, results = play(odd, shifted, state=before, first=288)
    assert {int(status) for result in results for status in result.status.ravel()} == {UNDECIDED}
    assert not any(result.alarms for result in results)
    assert np.array_equal(after.charts.r, before.charts.r)
    assert int(results[0].n[0, 0]) == 20
    _, [later] = play(odd, quiet(of, 1, seed=8), state=after, first=2 * 288)
    assert later.status[0].tolist() == [OK, OK, OK]


def test_silence_is_no_news_on_a_day_off_and_is_counted_from_its_end() -> None:
    of = flat()
    plain, odd = build_scope(of, layout(of)), build_scope(of, layout(of, calendar={"2025-01-16": "off"}))
    before, _ = play(odd, quiet(of, 288))
    start = T0 + DAY
    assert quiet_panes(plain, before, start=start, panes=1000) < 5
    assert quiet_panes(odd, before, start=start, panes=1000) == 288 + quiet_panes(plain, before, start=start, panes=9)


@pytest.mark.parametrize("gap", [1, 100, 288, 291, 400])
def test_many_empty_panes_at_once_equal_one_by_one_over_a_day_off(gap: int) -> None:
    of = flat()
    rule = (Expectation(feature="", rows_at_least=5),)
    odd = build_scope(of, layout(of, calendar={"2025-01-15": "off", "2025-01-16": "sunday"}, expect=rule))
    state, _ = play(odd, quiet(of, 60))
    at_once, said = skip_empty(odd, state, start=T0 + 60 * PANE, panes=gap)
    alarms: list[Alarm] = []
    for i in range(gap):
        none = np.zeros((1, of.table.width), dtype=np.int64)
        state, result = update(odd, state, start=T0 + (60 + i) * PANE, counts=none)
        alarms += result.alarms
    assert save_state(at_once) == save_state(state)
    assert [alarm.feature for alarm in said.alarms] == [alarm.feature for alarm in alarms]
    assert save_state(load_state(odd, save_state(state))) == save_state(state)


def test_a_reader_is_told() -> None:
    odd = scope("Europe/Paris", on_2025_12_25="sunday", on_2025_12_26="off")
    start = at("2025-12-25T22:00")
    assert odd.odd_words(start, start + HOUR) == ["2025-12-25 goes like a sunday"]
    assert odd.odd_words(start + HOUR, start + 2 * HOUR) == ["2025-12-26 is off: shown, not judged"]
    assert odd.odd_words(start + 30 * HOUR, start + 31 * HOUR) == []


@pytest.mark.parametrize(
    ("calendar", "message"),
    [
        ({"2025-2-1": "sunday"}, "must be a date such as 2025-12-25, got '2025-2-1'"),
        ({"2025-02-30": "sunday"}, "must be a date"),
        ({"20250230": "off"}, "must be a date"),
        ({"2025-02-03": "sonntag"}, "must be a weekday .* got 'sonntag'"),
    ],
)
def test_what_is_no_calendar_is_refused(calendar: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OddDays(calendar)
