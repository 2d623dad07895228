"""How far the event time of a model has come, and when it may be believed.

Why: panes close once and charts never go back, so a pane may close only when every source is past it, or has *said*
that it has nothing more. A worker's clock never enters: "now" is the append time of the log itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamer.core.ranges import Source


class Clock(msgspec.Struct):
    """Event time of one model at one task.

    first_seen: append time of the model's first delta here. max_ts, last_delta: by source, its running maximum of event
    time, and the append time of its last delta of the model. watermark: None until every source has spoken.
    quiet_since, quiet_from: append time at which the last source went idle, and the watermark there; None while one
    is not idle.
    """

    first_seen: int
    max_ts: dict[int, int] = {}
    last_delta: dict[int, int] = {}
    watermark: int | None = None
    quiet_since: int | None = None
    quiet_from: int = 0


def saw(clock: Clock, *, source: int, max_ts: int) -> None:
    """Take in a source's running maximum."""
    clock.max_ts[source] = max(max_ts, clock.max_ts.get(source, max_ts))


def heard(clock: Clock, *, source: int, append_ts: int) -> None:
    """A source spoke of the model: it is not idle for it."""
    clock.last_delta[source] = append_ts


def advance(
    clock: Clock,
    sources: Mapping[int, Source],
    *,
    expected: int,
    lateness_ms: int,
    idle_after_ms: int,
    now: int,
) -> bool:
    """Move the watermark as far as the sources 0..expected-1 allow; True when it moved. It never goes back.

    It is the least maximum of the sources that are not idle, less `lateness_ms`. A source is idle for the model when
    its last progress says caught up, that was said at most `idle_after_ms` ago, and its last delta of the model is
    older than that. A source that says nothing is not idle: it holds the watermark. When all are idle the watermark
    advances *by* the append time that passes, never *to* it, so that history can be replayed.

    >>> clock = Clock(first_seen=0)
    >>> saw(clock, source=0, max_ts=90_000)
    >>> heard(clock, source=0, append_ts=0)
    >>> here = {0: Source(begin=0, end=1, part=0, parts=1, seq=1, spoke_at=0)}
    >>> advance(clock, here, expected=1, lateness_ms=30_000, idle_after_ms=10_000, now=0), clock.watermark
    (True, 60000)
    """
    least: int | None = None
    for number in range(expected):
        if _idle(clock, sources.get(number), number, idle_after_ms=idle_after_ms, now=now):
            continue
        ts = clock.max_ts.get(number)
        if ts is None:
            clock.quiet_since = None
            return False
        least = ts if least is None else min(least, ts)
    if least is not None:
        clock.quiet_since = None
        return _raise_to(clock, least - lateness_ms)
    if not clock.max_ts:
        return False
    if clock.quiet_since is None:
        # The last one to go idle would have left the watermark at its own maximum: the largest of all.
        _raise_to(clock, max(clock.max_ts.values()) - lateness_ms)
        assert clock.watermark is not None
        clock.quiet_since, clock.quiet_from = now, clock.watermark
        return True
    return _raise_to(clock, clock.quiet_from + now - clock.quiet_since)


def _idle(clock: Clock, source: Source | None, number: int, *, idle_after_ms: int, now: int) -> bool:
    if source is None or not source.caught_up or now - source.spoke_at > idle_after_ms:
        return False
    return now - clock.last_delta.get(number, clock.first_seen) > idle_after_ms


def _raise_to(clock: Clock, watermark: int) -> bool:
    if clock.watermark is not None and watermark <= clock.watermark:
        return False
    clock.watermark = watermark
    return True
