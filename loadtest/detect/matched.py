"""The matched comparison: one alarm per 1e4 and 1e5 events in which nothing changes, as in the literature.

Thresholds come from `thresholds.json`; here they are verified on other seeds, and the delays are measured. Panes of 32
for ours, single events for the others. Before each change come `WARM_UP` events in which nothing changed. The peers run
beside ours, in their own process: `peer_rows` asks first and is read last.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.detect import match, scores
from loadtest.detect.charts import CHARTS, Adaptive, Charted
from loadtest.detect.peers import PeerError, Peers
from loadtest.detect.rows import Row, bar, row_of
from loadtest.detect.run_length import Rate, delays, delays_of, rate
from loadtest.peers.contestants import PEERS, Peer

Floats: TypeAlias = npt.NDArray[np.float64]

#: Events before the change, by ARL0; events after it in which it must be found.
WARM_UP = {10_000: 1_024, 100_000: 5_024}
HORIZON = 20_000
#: The ARL0 at which ours also runs with the limit that theory gives.
THEORY = 100_000
#: A threshold is verified when the attained ARL0 is within this of the wanted one, or its interval holds that.
WITHIN = 0.15
#: Mean delays at 1e5 events, one-sided, panes of 32.
BARS = {
    "bernoulli .1->.15": 515.0, "bernoulli .1->.2": 190.0, "normal mean .25": 330.0, "normal sd 1.5": 105.0,
    "calibration a=.4": 515.0, "calibration a=-.4 b=.7": 1050.0,
}  # fmt: skip
#: Scores drift, what they mean does not: labels until half of the runs have alarmed.
QUIET_LABELS = 20_000.0
#: Kinds of streams.
KINDS = ("bernoulli", "normal", "calibration")
#: Replicates of the delays and of the nulls.
_RUNS, _NULL = 10, 20
#: In `--quick` a peer takes at most about this many ms of events for a null, and for a change.
_QUICK_MS = 3_000.0


def chart_rows(kind: str, *, arls: tuple[int, ...], quick: bool, seed: int) -> Iterator[tuple[Row, list[Row]]]:
    """Rows of ours and of the oracle on streams of one kind, each with its bars."""
    known = match.read()
    rates: dict[str, Rate] = {}
    for arl in arls:
        for change in match.MATCHED:
            for chart in CHARTS:
                if change.kind != kind or kind not in chart.kinds or (quick and chart.name in QUICK_LACKS):
                    continue
                if not chart.ours and change.name == "scores alone":
                    continue
                place = known.get(match.key(chart.name, change), {}).get(str(arl), {})
                yield _chart_row(change, arl, chart=chart, place=place, rates=rates, quick=quick, seed=seed)
                if chart.theory and arl == THEORY:
                    yield _theory_row(change, arl, chart, rates=rates, quick=quick, seed=seed), []
            if change.kind == kind == "bernoulli" and arl == THEORY:
                yield _grid_row(change, arl, rates=rates, quick=quick, seed=seed), []


#: What `--quick` leaves out: the same chart is there one-sided or without a reference.
QUICK_LACKS = ("tripline category two-sided", "tripline adaptive two-sided")


def _chart_row(
    change: match.AnyChange,
    arl: int,
    *,
    chart: Charted,
    place: dict[str, Any],
    rates: dict[str, Rate],
    quick: bool,
    seed: int,
) -> tuple[Row, list[Row]]:
    name, ours = chart.name, chart.ours
    if "knob" not in place:
        return _absent(name, ours, change, arl, place.get("why", "no threshold in thresholds.json")), []
    limit = place["knob"]
    seen = f"{match.key(name, change)} {arl}"
    if seen not in rates:
        replicates, lengths = (64, 2) if quick else (128, 6)
        panes = match.panes_of(change, replicates, count=lengths * arl // match.PANE, replicate=_NULL, seed=seed)
        rates[seen] = rate(chart.make(change, replicates), panes, limit=limit)
    found = _delays(change, arl, chart, limit=limit, quick=quick, seed=seed)
    setting = f"limit {limit:g} panes, panes of 32, tolerance 0, κ = 1"
    if not ours:
        setting = f"exp(CUSUM) >= {limit:g}, panes of 32, knows before and after"
    elif "adaptive" in name:
        setting = f"exp(d) >= {limit:g}, panes of 32"
    row = _row(name, ours, change, arl, found=rates[seen], setting=setting) | found
    if ours:
        row["ns_per_event"] = round(_cost_of(chart, change), 1)
    bars = []
    if chart.judged and arl == 100_000 and change.name in BARS:
        mean = found["mean_delay"]
        says = f"{found['missed']:.0%} missed, {found['early']:.0%} early"
        name = f"matched, {change.name}: mean delay in events at one alarm per 1e5"
        bars.append(bar(name, mean, BARS[change.name], measured=says, met=not found["missed"]))
    if chart.judged and arl == 100_000 and change.name == "scores alone":
        says = f"{1 - found['missed']:.0%} of runs alarmed within {HORIZON:,} labels, by chance 18 %"
        name = "matched, scores drift and calibration does not: share of runs that alarm within 20,000 labels"
        bars.append(bar(name, 1 - found["missed"], 0.5, measured=says))
    return row, bars


def _theory_row(
    change: match.AnyChange, arl: int, chart: Charted, *, rates: dict[str, Rate], quick: bool, seed: int
) -> Row:
    """Ours with the limit that theory gives for the budget, untouched: A in panes."""
    limit = arl / match.PANE
    seen = f"theory {match.key(chart.name, change)}"
    if seen not in rates:
        rates[seen] = _untouched(change, arl, chart, limit=limit, quick=quick, seed=seed)
    setting = f"limit A = {limit:g} panes, untouched"
    row = _row(f"{chart.name}, theory", True, change, arl, found=rates[seen], setting=setting)
    return row | _delays(change, arl, chart, limit=limit, quick=quick, seed=seed)


def _grid_row(change: match.AnyChange, arl: int, *, rates: dict[str, Rate], quick: bool, seed: int) -> Row:
    """The adaptive chart with the limits of its committed grid for that budget, untouched."""
    budget = arl / match.PANE

    def make(of: Any, replicates: int) -> Adaptive:
        return Adaptive(of, replicates, two_sided=False, untouched=budget)

    chart = Charted("tripline adaptive one-sided, as committed", ("bernoulli",), make)
    if chart.name not in rates:
        rates[chart.name] = _untouched(change, arl, chart, limit=1.0, quick=quick, seed=seed)
    setting = f"A = {budget:g} panes by the grid, untouched"
    row = _row(chart.name, True, change, arl, found=rates[chart.name], setting=setting)
    return row | _delays(change, arl, chart, limit=1.0, quick=quick, seed=seed)


def _untouched(
    change: match.AnyChange, arl: int, chart: Charted, *, limit: float, quick: bool, seed: int
) -> Rate:
    replicates, lengths = (64, 2) if quick else (128, 4)
    panes = match.panes_of(change, replicates, count=lengths * arl // match.PANE, replicate=_NULL + 1, seed=seed)
    return rate(chart.make(change, replicates), panes, limit=limit)


def _delays(change: match.AnyChange, arl: int, chart: Charted, *, limit: float, quick: bool, seed: int) -> Row:
    replicates = 400 if quick else 2000
    before = match.panes_of(change, replicates, count=WARM_UP[arl] // match.PANE, replicate=_RUNS, seed=seed)
    after = match.panes_of(change, replicates, count=HORIZON // match.PANE, replicate=_RUNS, seed=seed, changed=True)
    return delays(chart.make(change, replicates), before=before, after=after, limit=limit).row()


class PeerRows:
    """Rows of the others: all jobs are queued when it is made, and read when it is asked."""

    def __init__(
        self, peers: Peers, *, arls: tuple[int, ...], quick: bool, seed: int, kinds: tuple[str, ...] = KINDS
    ) -> None:
        self._peers, self._quick, self._seed = peers, quick, seed
        self._known = match.read()
        self._files: dict[tuple[str, ...], str] = {}
        self._rates: dict[str, Future[dict[str, Any]]] = {}
        self._asked = [
            (self._ask(peer, null, change, arl), peer, null, change, arl)
            for arl in arls
            for change in match.MATCHED
            for null, of, _ in match.NULLS
            for peer in PEERS
            if of.kind == change.kind in kinds and _same_null(null, change) and _fits(peer, change)
        ]  # fmt: skip

    def rows(self) -> Iterator[tuple[Row, list[Row]]]:
        """One row per detector and change; `n/a (why)` where there is no threshold, or no peers."""
        for asked, peer, null, change, arl in self._asked:
            name = peer.name if change.kind != "calibration" else f"{peer.name} on the {null}"
            if isinstance(asked, str):
                yield _absent(name, False, change, arl, asked), []
                continue
            knob, jobs, note = asked
            try:
                rates, found, cost = (job.result() for job in jobs)
            except PeerError as error:
                yield _absent(name, False, change, arl, str(error)), []
                continue
            setting = note or (f"{peer.knob}={knob:g}" if peer.knob else f"n/a ({peer.why})")
            row = _row(name, False, change, arl, found=Rate(rates["alarms"], rates["events"]), setting=setting)
            row |= delays_of(found["first"], found["early"]).row()
            yield row | {"ns_per_event": round(cost["ns"], 1)}, []

    def _ask(self, peer: Peer, null: str, change: match.AnyChange, arl: int) -> Any:
        """Why not, or the knob, its jobs (rate, delays, cost), and what must be said of it.

        Who cannot be matched runs as its package ships it, unless that takes too long.
        """
        place = self._known.get(f"{peer.name} | {null}", {}).get(str(arl), {})
        why, knob, note = place.get("why") or peer.why or "not in thresholds.json", place.get("knob", 0.0), ""
        if peer.knob and "knob" not in place:
            if peer.default is None or peer.slow > 10 or arl < max(WARM_UP):
                return why
            knob, note = peer.default, f"n/a ({why}); here as it is shipped, {peer.knob}={peer.default:g}"
        if not peer.knob and peer.slow > 100:
            return peer.why
        if self._peers.why:
            return self._peers.why
        knob = float(knob)
        # Few alarms say little about the rate, but `match` has settled it with 170; the slow ones get fewer.
        alarms = min(60, max(6, int(_QUICK_MS * 1e3 / peer.slow / arl))) if self._quick else 60
        events = 2 * alarms * arl if peer.knob else 200_000
        seen = f"{peer.name} | {null} {arl}"
        if seen not in self._rates:
            file = self._null(null)
            wanted = alarms if peer.knob else events
            self._rates[seen] = self._peers.submit(
                "rate", peer=peer.name, knob=knob, values=file, alarms=wanted, events=events
            )
        before, after = self._runs(null, change, arl)
        found = self._peers.submit("delays", peer=peer.name, knob=knob, before=before, after=after)
        return knob, (self._rates[seen], found, self._cost(peer, knob, null)), note

    def _null(self, null: str) -> str:
        """One file for all who watch that null."""
        size = 40 if self._quick else 120
        if ("null", null) not in self._files:
            _, change, transform = next(one for one in match.NULLS if one[0] == null)
            rng = match.generator(change, _NULL, seed=self._seed)
            values = transform(change.draw(rng, (size * 100_000,), changed=False))
            self._files["null", null] = self._peers.file(_stored(values, change))
        return self._files["null", null]

    def _runs(self, null: str, change: match.AnyChange, arl: int) -> tuple[str, str]:
        name = (null, change.name, str(arl))
        if (*name, "before") not in self._files:
            rng = match.generator(change, _RUNS + 1, seed=self._seed)
            runs = 25 if self._quick else 200
            transform = next(one[2] for one in match.NULLS if one[0] == null)
            for part, size in (("before", WARM_UP[arl]), ("after", HORIZON)):
                values = transform(change.draw(rng, (runs, size), changed=part == "after"))
                self._files[*name, part] = self._peers.file(_stored(values, change))
        return self._files[*name, "before"], self._files[*name, "after"]

    def _cost(self, peer: Peer, knob: float, null: str) -> Future[dict[str, Any]]:
        name = f"cost {peer.name} {null}"
        if name not in self._rates:
            _, change, transform = next(one for one in match.NULLS if one[0] == null)
            size = 500 if peer.slow > 100 else 20_000
            values = transform(change.draw(match.generator(change, 80_000), (size,), changed=False))
            self._rates[name] = self._peers.submit(
                "cost", peer=peer.name, knob=knob, values=self._peers.file(_stored(values, change))
            )
        return self._rates[name]


def _cost_of(chart: Charted, change: match.AnyChange, *, replicates: int = 256) -> float:
    """The ns of CPU per event of one of `replicates` monitors that share ticks, panes of 32, counting included."""
    made, times = chart.make(change, replicates), []
    values = change.draw(match.generator(change, 80_000), (replicates, match.PANE), changed=False)
    for _ in range(20):
        start = time.process_time_ns()
        made.step(values)
        times.append(time.process_time_ns() - start)
    return float(np.quantile(times, 0.25)) / values.size


def _stored(values: Floats, change: match.AnyChange) -> npt.NDArray[Any]:
    return values.astype(np.uint8 if change.kind == "bernoulli" else np.float32)


def _same_null(null: str, change: match.AnyChange) -> bool:
    return (null in ("brier", "residual")) == isinstance(change, scores.ScoreChange)


def _fits(peer: Peer, change: match.AnyChange) -> bool:
    return change.kind in peer.kinds or (change.kind == "calibration" and peer.name in match.ON_SCORES)


def _row(name: str, ours: bool, change: match.AnyChange, arl: int, *, found: Rate, setting: str) -> Row:
    settled = verified(found, arl) or "untouched" in setting or setting.startswith("n/a")
    return row_of(
        name,
        change.name,
        ours=ours,
        arl0=arl,
        rate=found,
        setting=setting if settled else f"{setting} (not verified)",
    )


def verified(found: Rate, arl: float) -> bool:
    """Whether a run agrees with one alarm per `arl` events: within 15 %, or its 95 % interval holds it.

    >>> verified(Rate(170, 17_000_000), 1e5), verified(Rate(400, 17_000_000), 1e5)
    (True, False)
    """
    if found.arl is not None and abs(found.arl / arl - 1) <= WITHIN:
        return True
    low, high = found.interval
    return (low or 0.0) <= arl <= (high or np.inf)


def _absent(name: str, ours: bool, change: match.AnyChange, arl: int, why: str) -> Row:
    return row_of(name, change.name, ours=ours, arl0=arl, setting=f"n/a ({why})")
