"""The watermark table: who holds it, who lets it go, and that no worker's clock moves it."""

from __future__ import annotations

import pytest

from streamer.core.ranges import Source
from streamer.core.watermarks import Clock, advance, heard, saw

LATENESS, IDLE_AFTER, SECOND = 30_000, 10_000, 1_000
NOON = 1_735_689_600_000


def source(*, spoke_at: int = NOON, caught_up: bool = True) -> Source:
    return Source(begin=0, end=1, part=0, parts=1, seq=1, spoke_at=spoke_at, caught_up=caught_up)


def clock(*maxima: int | None, last_delta: tuple[int | None, ...] = ()) -> Clock:
    """Two sources' maxima, in seconds after noon; the append times of their last deltas likewise."""
    made = Clock(first_seen=NOON)
    for number, ts in enumerate(maxima):
        if ts is not None:
            saw(made, source=number, max_ts=NOON + ts * SECOND)
    for number, ts in enumerate(last_delta):
        if ts is not None:
            made.last_delta[number] = NOON + ts * SECOND
    return made


def watermark(made: Clock, *sources: Source | None, now: int = 0, expected: int = 2) -> int | None:
    """The watermark in seconds after noon, once it has moved at `now` seconds after noon."""
    known = {number: one for number, one in enumerate(sources) if one is not None}
    advance(made, known, expected=expected, lateness_ms=LATENESS, idle_after_ms=IDLE_AFTER, now=NOON + now * SECOND)
    return None if made.watermark is None else (made.watermark - NOON) // SECOND


@pytest.mark.parametrize(
    ("made", "sources", "now", "expected"),
    [
        (clock(100, 90, last_delta=(0, 0)), (source(), source()), 0, 60),
        (clock(100, None, last_delta=(0,)), (source(), source()), 5, None),
        (clock(100, None, last_delta=(11,)), (source(spoke_at=NOON + 11 * SECOND), source(spoke_at=NOON + 11 * SECOND)),
         11, 70),
        (clock(100, 90, last_delta=(11, 0)), (source(spoke_at=NOON + 11 * SECOND), source(spoke_at=NOON + 11 * SECOND)),
         11, 70),
        (clock(100, 90, last_delta=(11, 0)),
         (source(spoke_at=NOON + 11 * SECOND), source(spoke_at=NOON + 11 * SECOND, caught_up=False)), 11, 60),
        (clock(100, 90, last_delta=(11, 0)), (source(spoke_at=NOON + 11 * SECOND), source(spoke_at=NOON)), 11, 60),
        (clock(100, None, last_delta=(0,)), (source(), None), 600, None),
        (clock(100, 90, last_delta=(0, 0)), (source(spoke_at=NOON + 11 * SECOND), source(spoke_at=NOON + 11 * SECOND)),
         11, 70),
    ],
    ids=[
        "both speak: the least",
        "one has not had the model yet, and is given time",
        "one never had the model and says caught up: idle",
        "one had no delta for longer than idle_after: idle",
        "the same, but it is not caught up: it holds",
        "the same, but it has said nothing since: it holds",
        "one never spoke: it holds for ever",
        "all idle: the largest of all, which the last one to go idle leaves",
    ],
)  # fmt: skip
def test_who_holds_the_watermark(
    made: Clock, sources: tuple[Source | None, ...], now: int, expected: int | None
) -> None:
    assert expected == watermark(made, *sources, now=now)


def test_when_all_are_idle_it_advances_by_append_time_never_to_it() -> None:
    """A year-old history: its watermark moves on by the seconds that pass, not to the present."""
    made = clock(-31_536_000, last_delta=(0,))
    at = [watermark(made, source(spoke_at=NOON + s * SECOND), now=s, expected=1) for s in (11, 21, 51)]
    assert at == [-31_536_030, -31_536_020, -31_535_990]


def test_it_never_goes_back() -> None:
    """A source that was idle wakes with older events: they are late, the watermark stays."""
    made = clock(100, 50, last_delta=(11, 0))
    awake = source(spoke_at=NOON + 11 * SECOND)
    assert watermark(made, awake, awake, now=11) == 70
    saw(made, source=1, max_ts=NOON + 60 * SECOND)
    heard(made, source=1, append_ts=NOON + 12 * SECOND)
    assert watermark(made, awake, awake, now=12) == 70


def test_quiet_time_is_counted_anew_after_events() -> None:
    made = clock(100, last_delta=(0,))
    quiet = source(spoke_at=NOON + 11 * SECOND)
    assert watermark(made, quiet, now=11, expected=1) == 70
    saw(made, source=0, max_ts=NOON + 103 * SECOND)
    heard(made, source=0, append_ts=NOON + 12 * SECOND)
    assert watermark(made, quiet, now=12, expected=1) == 73
    assert made.quiet_since is None


def test_a_maximum_that_goes_back_is_not_believed() -> None:
    made = clock(100, last_delta=(0,))
    saw(made, source=0, max_ts=NOON)
    heard(made, source=0, append_ts=NOON)
    assert watermark(made, source(), expected=1) == 70
