"""Public streams: Electricity, tornado, INSECTS, and river's generators, with models that are fitted once and frozen.

The data are not part of the project: rows that need them say `n/a` where `../shared/data` is not beside the checkout.
What is found is given against what is published: label reversals in tornado, the temperature in INSECTS; Electricity
before row 17,760 has no published change, so there every alarm counts against the detector.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.charts import adaptive, losses
from loadtest.detect import match, scoped
from loadtest.detect.peers import PeerError, Peers
from loadtest.detect.rows import Row, bar, row_of
from loadtest.detect.run_length import Rate, delays_of
from loadtest.detect.streams import START_MS
from loadtest.peers.contestants import PEERS

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

DATA = Path(__file__).parents[3] / "shared" / "data"
#: Panes of labels, and the budget in panes: 30 days of five minutes.
PANE, PANE_MS, BUDGET = 32, 300_000, 8640.0
#: Rows that the frozen model is fitted on, and to which the reference of its errors extends.
FITTED, REFERENCE = 5_000, 15_000
#: A reversal must be found within so many rows, and nothing in as many before it as `QUIET`.
WITHIN, QUIET = 300, 2_000
REVERSALS = (20_000, 40_000, 60_000, 80_000)
#: Electricity: rows a day, of the reference, and before the market widened.
A_DAY, ELECTRICITY_REFERENCE, WIDENED = 48, 14 * 48, 17_760
_SYNTHETIC = (
    ("river SEA 0->3", "SEA", {"variant": 0, "noise": 0.1}, {"variant": 3, "noise": 0.1}),
    ("river Sine 0->1", "Sine", {"classification_function": 0}, {"classification_function": 1}),
    ("river Agrawal 0->3", "Agrawal", {"classification_function": 0}, {"classification_function": 3}),
    ("river Mixed 0->1", "Mixed", {"classification_function": 0}, {"classification_function": 1}),
    ("river STAGGER 0->1", "STAGGER", {"classification_function": 0}, {"classification_function": 1}),
)


class PublicRows:
    """Rows of public streams; the peers' jobs are queued when it is made."""

    def __init__(self, peers: Peers, *, quick: bool, seed: int) -> None:
        self._peers, self._seed = peers, seed
        self._tornado = {name: errors_of(name) for name in ("sine1", "mixed") if (DATA / _tornado(name)).exists()}
        self._label = electricity()[1][:WIDENED] if (DATA / _ELECTRICITY).exists() else None
        self._asked: list[tuple[str, str, str, Any]] = []
        self._synthetic: list[tuple[str, list[tuple[Any, Any]]]] = []
        for name, errors in self._tornado.items():
            self._ask(f"tornado {name}", errors)
        if self._label is not None:
            self._ask("electricity label", self._label)
        for stream, generator, before, after in _SYNTHETIC[: 2 if quick else None]:
            jobs = [self._generated(generator, before, after, replicate=r) for r in range(2 if quick else 10)]
            self._synthetic.append((stream, jobs))

    def rows(self) -> Iterator[tuple[Row, list[Row]]]:
        """Ours, then the others."""
        for name in ("sine1", "mixed"):
            if name in self._tornado:
                yield from _tornado_rows(f"tornado {name}", self._tornado[name])
            else:
                yield _absent(f"tornado {name}")
        yield from electricity_rows() if self._label is not None else [_absent("electricity")]
        yield from insects_rows() if (DATA / _INSECTS).exists() else [_absent("insects")]
        for stream, jobs in self._synthetic:
            yield from self._synthetic_rows(stream, jobs)
        for peer, stream, setting, asked in self._asked:
            try:
                at = np.array(asked.result()["at"])
            except PeerError as error:
                yield row_of(peer, stream, ours=False, arl0=None, setting=f"n/a ({error})"), []
                continue
            if stream == "electricity label":
                row = row_of(peer, stream, ours=False, arl0=1e5, rate=Rate(at.size, WIDENED), setting=setting)
            else:
                row = row_of(peer, stream, ours=False, arl0=1e5, setting=setting)
                row |= _reversals(at, both=peer in _TWO_SIDED)
            yield row, []

    def _ask(self, stream: str, values: Ints) -> None:
        if self._peers.why:
            self._asked.append(("river, frouros", stream, "", _none(self._peers.why)))
            return
        file = self._peers.file(values.astype(np.uint8))
        for name, knob, setting in _matched():
            job = self._peers.submit("alarms", peer=name, knob=knob, values=file)
            self._asked.append((name, stream, setting, job))

    def _generated(self, generator: str, before: dict[str, Any], after: dict[str, Any], *, replicate: int) -> Any:
        """Jobs of one replicate: rows before and after, each in its file."""
        seeds = np.random.SeedSequence([300 + len(self._synthetic), replicate], spawn_key=(self._seed,))
        first, second = (int(one) for one in seeds.generate_state(2) >> 1)
        jobs = []
        for given, rows, number in ((before, 20_000, first), (after, 5_000, second)):
            file = self._peers.file()
            job = self._peers.submit(
                "synthetic", name=generator, given={**given, "seed": number}, rows=rows, values=file
            )
            jobs.append((job, file))
        return jobs

    def _synthetic_rows(self, stream: str, jobs: list[Any]) -> Iterator[tuple[Row, list[Row]]]:
        found: dict[str, list[tuple[int | None, bool]]] = {}
        shares: list[tuple[float, float]] = []
        for parts in jobs:
            try:
                for job, _ in parts:
                    job.result()
            except PeerError as error:
                yield row_of("tripline adaptive", stream, arl0=None, setting=f"n/a ({error})"), []
                return
            data = np.concatenate([np.load(file) for _, file in parts])
            errors = frozen_errors(data[:, :-1], data[:, -1])
            shares.append((float(errors[FITTED:20_000].mean()), float(errors[20_000:].mean())))
            for name, at in (("tripline adaptive", adaptive_alarms(errors)), ("tripline errors", loss_alarms(errors))):
                found.setdefault(name, []).append(_first(at, 20_000))
            file = self._peers.file(errors.astype(np.uint8))
            for name, knob, _ in _matched():
                at = np.array(self._peers.submit("alarms", peer=name, knob=knob, values=file).result()["at"])
                found.setdefault(name, []).append(_first(at, 20_000))
        before, after = (float(np.mean(part)) for part in zip(*shares, strict=True))
        for name, runs in found.items():
            ours = name.startswith("tripline")
            setting = f"frozen model, errors {before:.2f} -> {after:.2f}; early: in the {QUIET:,} rows before"
            row = row_of(name, stream, ours=ours, arl0=BUDGET * PANE if ours else 1e5, setting=setting)
            yield row | delays_of([delay for delay, _ in runs], sum(early for _, early in runs)).row(), []


def frozen_errors(x: Floats, y: Floats, *, fitted: int = FITTED) -> Ints:
    """Errors of a logistic model that is fitted to the first rows and never again. x: (rows, features), y: 0 or 1."""
    scale = x[:fitted].std(axis=0)
    z = np.concatenate([np.ones((len(x), 1)), (x - x[:fitted].mean(axis=0)) / np.where(scale > 0, scale, 1.0)], axis=1)
    head, beta = z[:fitted], np.zeros(z.shape[1])
    for _ in range(25):
        p = 0.5 * (1.0 + np.tanh(0.5 * np.clip(head @ beta, -30, 30)))
        curve = (head.T * (p * (1 - p))) @ head + 1e-3 * np.eye(beta.size)
        beta = beta + np.linalg.solve(curve, head.T @ (y[:fitted] - p) - 1e-3 * beta)
    return ((z @ beta > 0) != (y > 0.5)).astype(np.int64)


def errors_of(name: str) -> Ints:
    """Errors of a frozen model on a tornado stream."""
    words = {"False": 0.0, "True": 1.0, "p": 1.0, "n": 0.0}
    with gzip.open(DATA / _tornado(name), "rt") as lines:
        parts = [line.strip().split(",") for line in lines if line.strip() and not line.startswith("@")]
    data = np.array([[words[one] if one in words else float(one) for one in row] for row in parts])
    return frozen_errors(data[:, :-1], data[:, -1])


def adaptive_alarms(errors: Ints, *, pane: int = PANE) -> Ints:
    """Rows by which the chart without a reference alarmed, either way; it begins anew after each."""
    plan = adaptive.build_adaptive(1, budget=BUDGET, two_sided=True)
    history, rows, at = plan.start(), np.array([pane]), []
    for number, found in enumerate(_by_pane(errors, pane)):
        history, said = adaptive.tick(plan, history, n=rows, sums=np.array([found * losses.UNIT]))
        if said.value.max() >= said.limit[0]:
            at.append((number + 1) * pane)
            history = adaptive.reset(history, np.array([True]))
    return np.array(at, dtype=np.int64)


def loss_alarms(errors: Ints, *, first: int = FITTED, last: int = REFERENCE, pane: int = PANE) -> Ints:
    """Rows by which the chart with a reference said "worse": errors of rows `first` to `last` are the reference."""
    panes = _by_pane(errors, pane)
    low, high = first // pane, last // pane
    local = START_MS + PANE_MS * np.arange(high - low)
    known = losses.learn_losses(panes[low:high] * losses.UNIT, np.full(high - low, pane), local, pane_ms=PANE_MS)
    plan = losses.build_losses([known], budget=BUDGET)
    charts, rows, at = plan.start(), np.array([pane]), []
    for number in range(high, panes.size):
        charts, said = losses.tick(
            plan, charts, n=rows, sums=panes[number : number + 1] * losses.UNIT, pane=number - high + 1
        )
        over = said.value >= plan.limit
        if over[losses.WORSE, 0]:
            at.append((number + 1) * pane)
        if over.any():
            charts = losses.reset(charts, over)
    return np.array(at, dtype=np.int64)


def electricity() -> tuple[Floats, Ints]:
    """Price and demand (rows, 2), and the label, by half hour."""
    with gzip.open(DATA / _ELECTRICITY, "rt") as lines:
        next(lines)
        data = np.array([[float(one) for one in line.split(",")] for line in lines if line.strip()])
    return data[:, 1:3], data[:, -1].astype(np.int64)


def electricity_rows(*, days: Sequence[int] = (14, 90)) -> Iterator[tuple[Row, list[Row]]]:
    """Price, demand and label as features of one model, hourly panes, until row 17,760: every incident is false."""
    values, label = electricity()
    columns = {"price": values[:, 0], "demand": values[:, 1], "label": np.array([str(one) for one in label], object)}
    ts = START_MS + 1_800_000 * np.arange(label.size)
    for reference_days in days:
        n = reference_days * A_DAY
        known = scoped.reference_of(ts[:n], {name: column[:n] for name, column in columns.items()})
        for name in columns:
            scope = scoped.scope_of(known, monitored=(name,), pane_ms=3_600_000)
            rest = {key: column[n:WIDENED] for key, column in columns.items()}
            counts = scoped.counts_of(scope, ts[n:WIDENED], rest, start=int(ts[n]), panes=(WIDENED - n) // 2)
            opened = sum(result.opened for result in scoped.verdicts(scope, counts, start=int(ts[n])))
            budgets = (WIDENED - n) / A_DAY / 30
            setting = (f"as shipped, {reference_days}-day reference of {n:,} rows, {opened} incidents in {budgets:.1f} "
                       f"budgets; {scope.notes[0] or 'every direction judged'}")  # fmt: skip
            rate = Rate(opened, WIDENED - n)
            row = row_of("tripline", f"electricity {name}", arl0=30 * A_DAY, rate=rate, setting=setting)
            says = f"{opened} incidents in {budgets:.1f} budgets"
            text = f"electricity {name}, {reference_days}-day reference: incidents per budget before row 17,760"
            yield row, [bar(text, round(opened / budgets, 3), 1.0, measured=says)]


def insects_rows() -> Iterator[tuple[Row, list[Row]]]:
    """33 features, a row every 151 s, panes of two hours: incidents after a reference of 8,064 rows."""
    rows = np.genfromtxt(DATA / _INSECTS, delimiter=",", usecols=range(33))
    ts = START_MS + 151_000 * np.arange(len(rows))
    names = [f"c{i}" for i in range(33)]
    known = scoped.reference_of(ts[:8_064], {name: rows[:8_064, i] for i, name in enumerate(names)})
    scope = scoped.scope_of(known, monitored=tuple(names), pane_ms=7_200_000)
    start = int(ts[8_064]) // 7_200_000 * 7_200_000
    counts = scoped.counts_of(
        scope,
        ts[8_064:],
        {name: rows[8_064:, i] for i, name in enumerate(names)},
        start=start,
        panes=int((ts[-1] - start) // 7_200_000) + 1,
    )
    ends = [result.end for result in scoped.verdicts(scope, counts, start=start) if result.opened]
    opened = [int((end - START_MS) // 151_000) for end in ends]
    rows_said = ", ".join(f"{one:,}" for one in opened) or "none"
    setting = f"as shipped, 14-day reference; incidents opened by row {rows_said}"
    yield row_of("tripline", "insects gradual (centred at row 14,028)", monitors=33, arl0=None, setting=setting), []


def _tornado_rows(stream: str, errors: Ints) -> Iterator[tuple[Row, list[Row]]]:
    for name, at, both in (
        ("tripline adaptive", adaptive_alarms(errors), True),
        ("tripline errors", loss_alarms(errors), False),
    ):
        setting = "every reversal" if both else "the rises; a fall is the end of its incident"
        row = row_of(name, stream, arl0=BUDGET * PANE, setting=f"panes of {PANE}, frozen model, {setting}")
        row |= _reversals(at, both=both)
        found = [_first(at, place) for place in _places(both)]
        delays = [delay for delay, _ in found if delay is not None]
        worst = float(max(delays)) if len(delays) == len(found) else None
        early = sum(one for _, one in found)
        text = f"{stream}, {name.removeprefix('tripline ')}: rows to find a reversal, the slowest"
        says = f"{len(delays)} of {len(found)} found, {early} with an alarm in the {QUIET:,} rows before"
        yield row, [bar(text, worst, WITHIN, measured=says, met=early == 0)]


def _reversals(at: Ints, *, both: bool) -> Row:
    found = [_first(at, place) for place in _places(both)]
    return delays_of([delay for delay, _ in found], sum(early for _, early in found)).row()


def _places(both: bool) -> tuple[int, ...]:
    return REVERSALS if both else REVERSALS[::2]


def _first(at: Ints, place: int) -> tuple[int | None, bool]:
    """Rows from a change to the first alarm within as many as are quiet before, and whether one came in those."""
    after = at[(at > place) & (at <= place + QUIET)]
    return (int(after[0]) - place if after.size else None), bool(((at > place - QUIET) & (at <= place)).any())


def _by_pane(errors: Ints, pane: int) -> Ints:
    return np.asarray(errors[: errors.size // pane * pane].reshape(-1, pane).sum(axis=1))


#: The others alarm on a rise only.
_TWO_SIDED = ("river ADWIN",)


def _matched() -> list[tuple[str, float, str]]:
    """Detectors of errors with a knob for one alarm per 1e5 events, else as they are shipped: name, knob, setting."""
    known, found = match.read(), []
    for peer in PEERS:
        if "bernoulli" in peer.kinds and peer.knob and peer.slow < 10:
            place = known.get(f"{peer.name} | bernoulli .1", {}).get("100000", {})
            knob = place.get("knob", peer.default)
            says = "matched at 1e5" if "knob" in place else "as it is shipped"
            found.append((peer.name, float(knob), f"{peer.knob}={knob:g}, {says}"))
    return found


def _none(why: str) -> Future[dict[str, Any]]:
    failed: Future[dict[str, Any]] = Future()
    failed.set_exception(PeerError(why))
    return failed


def _absent(stream: str) -> tuple[Row, list[Row]]:
    why = f"no {DATA.parent.name}/{DATA.name} beside the checkout"
    return row_of("tripline", stream, arl0=None, setting=f"n/a ({why})"), []


_ELECTRICITY, _INSECTS = "electricity.csv.gz", "insects_gradual_balanced.csv.gz"


def _tornado(name: str) -> str:
    return f"tornado_{name}_w_50_n_0.1_101.arff.gz"
