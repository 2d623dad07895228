"""The matched comparison: every detector at the same false-alarm rate on independent rows, as in the literature.

Thresholds come from `thresholds.json`; here they are verified on other seeds, and the delays are measured. Panes of 32
for ours, single events for the others. Before each change come `WARM_UP` events in which nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.detect import match
from loadtest.detect.charts import CHARTS, Charted
from loadtest.detect.cost import our_cost, peer_cost
from loadtest.detect.peers import PEERS, Peer, delays_to, rate_of
from loadtest.detect.run_length import NO_DELAYS, Rate, delays, rate
from loadtest.detect.streams import CHANGES, Change, seeded

Floats: TypeAlias = npt.NDArray[np.float64]

#: Events before the change, by ARL0; events after it in which it must be found.
WARM_UP = {10_000: 1_024, 100_000: 5_024}
HORIZON = 20_000
#: A threshold is verified when the attained ARL0 is within this of the wanted one, or its interval holds that.
WITHIN = 0.15
#: Mean delays at 1e5 events, one-sided, panes of 32.
BARS = {
    "bernoulli .1->.15": 515.0, "bernoulli .1->.2": 190.0, "normal mean .25": 330.0, "normal sd 1.5": 105.0,
}  # fmt: skip
_RUNS, _NULL = 10, 20


def rows(*, arls: tuple[int, ...], quick: bool, seed: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Rows, each with its bars."""
    known = match.read()
    rates: dict[str, Rate] = {}
    for arl in arls:
        for change in CHANGES:
            charts = [chart for chart in CHARTS if change.kind in chart.kinds]
            for chart in charts:
                place = known.get(match.key(chart.name, change), {}).get(str(arl), {})
                yield _chart_row(change, arl, chart=chart, place=place, rates=rates, quick=quick, seed=seed)
            if arl == max(arls):
                yield _theory_row(change, arl, charts[1], rates=rates, quick=quick, seed=seed), []
            for peer in PEERS:
                if change.kind in peer.kinds:
                    place = known.get(match.key(peer.name, change), {}).get(str(arl), {})
                    yield _peer_row(change, arl, peer=peer, place=place, rates=rates, quick=quick, seed=seed), []


def _chart_row(
    change: Change,
    arl: int,
    *,
    chart: Charted,
    place: dict[str, Any],
    rates: dict[str, Rate],
    quick: bool,
    seed: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    name, ours = chart.name, chart.ours
    if "knob" not in place:
        return _absent(name, ours, change, arl, place.get("why", "no threshold in thresholds.json")), []
    limit = place["knob"]
    seen = f"{match.key(name, change)} {arl}"
    if seen not in rates:
        replicates, lengths = (32, 4) if quick else (128, 6)
        panes = match.panes_of(change, replicates, count=lengths * arl // match.PANE, replicate=_NULL, seed=seed)
        rates[seen] = rate(chart.make(change, replicates), panes, limit=limit)
    found = _delays(change, arl, chart, limit=limit, quick=quick, seed=seed)
    setting = f"limit {limit:g} panes, panes of 32, tolerance 0, κ = 1"
    if not ours:
        setting = f"exp(CUSUM) >= {limit:g}, panes of 32, knows before and after"
    row = _row(name, ours, change, arl, found=rates[seen], setting=setting) | found
    if ours:
        row["ns_per_event"] = round(our_cost(chart, change), 1)
    bars = []
    if ours and chart.one_sided and arl == 100_000 and change.name in BARS:
        mean = found["mean_delay"]
        met = mean is not None and mean <= BARS[change.name] and not found["missed"]
        says = f"{found['missed']:.0%} missed, {found['early']:.0%} early"
        bars.append({"bar": f"matched, {change.name}: mean delay in events at one alarm per 1e5", "value": mean,
                     "limit": BARS[change.name], "met": met, "measured": says})  # fmt: skip
    return row, bars


def _theory_row(
    change: Change, arl: int, chart: Charted, *, rates: dict[str, Rate], quick: bool, seed: int
) -> dict[str, Any]:
    """Ours with the limit that theory gives for the budget, untouched: A in panes."""
    limit = arl / match.PANE
    seen = f"theory {match.key(chart.name, change)}"
    if seen not in rates:
        replicates, lengths = (32, 2) if quick else (128, 4)
        panes = match.panes_of(change, replicates, count=lengths * arl // match.PANE, replicate=_NULL + 1, seed=seed)
        rates[seen] = rate(chart.make(change, replicates), panes, limit=limit)
    setting = f"limit A = {limit:g} panes, untouched"
    row = _row(f"{chart.name}, theory", True, change, arl, found=rates[seen], setting=setting)
    return row | _delays(change, arl, chart, limit=limit, quick=quick, seed=seed)


def _peer_row(
    change: Change, arl: int, *, peer: Peer, place: dict[str, Any], rates: dict[str, Rate], quick: bool, seed: int
) -> dict[str, Any]:
    if peer.knob and "knob" not in place:
        return _absent(peer.name, False, change, arl, place.get("why") or peer.why or "not in thresholds.json")
    knob = float(place.get("knob", 0.0))
    seen = f"{match.key(peer.name, change)} {arl}"
    make = partial(peer.make, knob)
    if seen not in rates:
        alarms = 20 if quick else 60
        events = 200_000 if not peer.knob else 2 * alarms * arl
        chunks = _chunks(change, seed=seed)
        rates[seen] = rate_of(make, chunks, alarms=alarms if peer.knob else events, events=events)
    rng = seeded(change.name, _RUNS + 1, seed=seed)
    runs = 25 if quick else 200

    def draws() -> Iterator[tuple[Floats, Floats]]:
        for _ in range(runs):
            before = change.draw(rng, (WARM_UP[arl],), changed=False)
            yield before, change.draw(rng, (HORIZON,), changed=True)

    setting = f"{peer.knob}={knob:g}" if peer.knob else f"n/a ({peer.why})"
    row = _row(peer.name, False, change, arl, found=rates[seen], setting=setting) | delays_to(make, draws()).row()
    return row | {"ns_per_event": round(peer_cost(peer.name, change, knob=knob), 1)}


def _delays(change: Change, arl: int, chart: Charted, *, limit: float, quick: bool, seed: int) -> dict[str, Any]:
    replicates = 400 if quick else 2000
    before = match.panes_of(change, replicates, count=WARM_UP[arl] // match.PANE, replicate=_RUNS, seed=seed)
    after = match.panes_of(change, replicates, count=HORIZON // match.PANE, replicate=_RUNS, seed=seed, changed=True)
    return delays(chart.make(change, replicates), before=before, after=after, limit=limit).row()


def _chunks(change: Change, *, seed: int) -> Iterator[Floats]:
    rng = seeded(change.name, _NULL, seed=seed)
    while True:
        yield change.draw(rng, (10_000,), changed=False)


def _row(name: str, ours: bool, change: Change, arl: int, *, found: Rate, setting: str) -> dict[str, Any]:
    reached = verified(found, arl)
    return {
        "detector": name,
        "ours": ours,
        "stream": change.name,
        "monitors": 1,
        "arl0": arl,
        "attained_arl0": None if found.arl is None else round(found.arl, 1),
        "interval": found.interval,
        "setting": setting if reached or "theory" in name or setting.startswith("n/a") else f"{setting} (not verified)",
        **NO_DELAYS,
        "ns_per_event": None,
    }


def verified(found: Rate, arl: float) -> bool:
    """Whether a run agrees with one alarm per `arl` events: within 15 %, or its 95 % interval holds it.

    >>> verified(Rate(170, 17_000_000), 1e5), verified(Rate(400, 17_000_000), 1e5)
    (True, False)
    """
    if found.arl is not None and abs(found.arl / arl - 1) <= WITHIN:
        return True
    low, high = found.interval
    return (low or 0.0) <= arl <= (high or np.inf)


def _absent(name: str, ours: bool, change: Change, arl: int, why: str) -> dict[str, Any]:
    return {
        "detector": name,
        "ours": ours,
        "stream": change.name,
        "monitors": 1,
        "arl0": arl,
        "attained_arl0": None,
        "interval": None,
        "setting": f"n/a ({why})",
        **NO_DELAYS,
        "ns_per_event": None,
    }
