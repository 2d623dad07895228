"""What every part of the benchmark answers with: rows with the keys of DETECTION 7, and bars."""

from __future__ import annotations

from typing import Any, TypeAlias

from loadtest.detect.run_length import NO_DELAYS, Rate

Row: TypeAlias = dict[str, Any]


def row_of(
    detector: str,
    stream: str,
    *,
    ours: bool = True,
    monitors: int = 1,
    arl0: float | None,
    rate: Rate | None = None,
    setting: str,
    ns_per_event: float | None = None,
) -> Row:
    """A row without delays. arl0, and the rate that was attained, in events per false alarm.

    >>> row_of("never", "null iid", ours=False, arl0=1e5, rate=Rate(2, 300_000), setting="")["attained_arl0"]
    150000.0
    """
    return {
        "detector": detector,
        "ours": ours,
        "stream": stream,
        "monitors": monitors,
        "arl0": arl0,
        "attained_arl0": None if rate is None or rate.arl is None else round(rate.arl, 1),
        "interval": None if rate is None else rate.interval,
        "setting": setting,
        **NO_DELAYS,
        "ns_per_event": ns_per_event,
    }


def bar(
    name: str, value: float | None, limit: float, *, measured: str = "", met: bool = True, least: bool = False
) -> Row:
    """A bar of DETECTION 7: met when the value is at most the limit, or at least with `least`; never without a value.

    >>> bar("delay", 7.0, 8)["met"], bar("share", 0.4, 0.5, least=True)["met"], bar("nothing", None, 1)["met"]
    (True, False, False)
    """
    reached = value is not None and met and (value >= limit if least else value <= limit)
    return {"bar": name, "value": value, "limit": limit, "least": least, "met": bool(reached), "measured": measured}
