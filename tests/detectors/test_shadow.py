"""The shadow chart: a reference's own replay is silent where nothing happened, and names what breaks the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from detectors.building import ReferenceBuilder
from detectors.references import Reference, dumps, identified, loads, words
from detectors.rows import Rows
from detectors.shadow import Shadow, words_of
from schemas.errors import ReferenceFileError
from schemas.layouts import Layout

START, DAY, PANE, EVENTS = 1_735_689_600_000, 86_400_000, 1_800_000, 300
Shift = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def built(
    shift: Shift, *, days: int = 14, missing: float = 0.0, events: int = EVENTS
) -> tuple[ReferenceBuilder, Reference]:
    rng = np.random.default_rng(3)
    n = days * DAY // PANE * events
    ts = START + np.arange(n) * PANE // events
    day = (ts - START) / DAY
    x = rng.normal(size=n) + shift(day)
    x[(np.abs(day - 5.5) < missing)] = np.nan
    rows = Rows(ts=ts, columns={"x": x, "y": rng.normal(size=n)})
    builder = ReferenceBuilder("m", "features")
    builder.survey(rows)
    builder.count(rows)
    return builder, builder.finish()


def layout(reference: Reference, **settings: object) -> Layout:
    given = {"pane_ms": PANE, "monitored": ("x", "y"), "monitors": 2, **settings}
    return Layout(model="m", from_ms=0, reference=reference.id, **given)  # type: ignore[arg-type]


def blips(day: npt.NDArray[np.float64], *at: float, height: float = 0.5) -> npt.NDArray[np.float64]:
    shifted: npt.NDArray[np.float64] = height * np.any([np.abs(day - middle) < 0.06 for middle in at], axis=0)
    return shifted


@lru_cache(maxsize=1)
def broken() -> Reference:
    builder, reference = built(lambda day: blips(day, 2.3, 6.5, 11.3))
    return builder.shadow(reference, layout(reference))


def shadow_of(builder: ReferenceBuilder, reference: Reference, **settings: object) -> Shadow:
    found = builder.shadow(reference, layout(reference, **settings)).shadow
    assert found is not None
    return found


def test_a_quiet_reference_attains_nothing() -> None:
    found = shadow_of(*built(np.zeros_like))
    assert (found.incidents, found.rules, found.features, found.cures, found.breaks) == (0, 0, (), (), False)
    assert (found.span_ms, found.monitors) == (14 * DAY, 2)


def test_blips_break_the_budget_and_the_feature_and_days_are_named() -> None:
    found = broken().shadow
    assert found is not None
    assert found.breaks
    assert [one.feature for one in found.features] == ["x"]
    assert set(found.features[0].dates) <= {"2025-01-03", "2025-01-07", "2025-01-12"}
    assert found.attained == found.incidents * 30 / 14


def test_what_is_said_to_mend_it_mends_it() -> None:
    found = broken().shadow
    assert found is not None
    [tolerance] = [cure for cure in found.cures if cure.startswith("`tolerance")]
    wider = float(tolerance.split()[1].rstrip("`"))
    builder, reference = built(lambda day: blips(day, 2.3, 6.5, 11.3))
    assert not shadow_of(builder, reference, tolerance=wider).breaks


def test_one_odd_day_is_a_matter_of_the_calendar() -> None:
    found = shadow_of(*built(lambda day: blips(day, 6.2, 6.7)))
    assert found.breaks
    assert found.cures[0].startswith("all on 2025-01-07: ")


def test_an_outage_that_cleaning_left_out_is_not_replayed() -> None:
    builder, reference = built(np.zeros_like, missing=0.1)
    assert [finding.kind for finding in reference.findings] == ["outage"]
    assert shadow_of(builder, reference).rules == 0


def test_a_pane_is_at_least_the_base_block() -> None:
    assert shadow_of(*built(np.zeros_like, days=7, events=6), pane_ms=1_000).pane_ms == 320_000


def test_the_budget_of_segments_is_half() -> None:
    builder, reference = built(np.zeros_like, days=7)
    assert shadow_of(builder, reference, segments=("country",), monitors=6).monitors == 6


def test_a_bag_of_rows_has_nothing_to_replay() -> None:
    rows = Rows(ts=np.full(2000, -1), columns={"x": np.arange(2000) % 50 * 1.0})
    builder = ReferenceBuilder("m", "features")
    builder.survey(rows)
    builder.count(rows)
    reference = builder.finish()
    assert builder.shadow(reference, layout(reference, monitored=("x",), monitors=1)) is reference


def test_it_is_said_and_kept_in_the_file() -> None:
    reference = broken()
    assert reference.shadow is not None
    assert loads(dumps(reference)).shadow == reference.shadow
    assert loads(dumps(reference)).id == reference.id
    assert words_of(reference.shadow)[0] in words(reference)
    assert "x: " in "".join(words(reference))


def test_a_reference_without_it_is_of_the_first_format_and_keeps_its_id() -> None:
    """A file that uses nothing new is the file that an older Tripline wrote, and reads."""
    small = identified(Reference(model="m", specs=(), views={}))
    assert small.id == "f97c85d44ea9ddd9"
    assert b'"tripline_reference": 1' in dumps(small)
    assert b'"tripline_reference": 2' in dumps(broken())


def test_a_damaged_shadow_is_refused_with_its_place() -> None:
    shadow = broken().shadow
    assert shadow is not None
    wrong = identified(replace(broken(), shadow=msgspec.structs.replace(shadow, incidents="many")))
    with pytest.raises(ReferenceFileError, match=r"\$\.shadow\.incidents"):
        loads(dumps(wrong))
