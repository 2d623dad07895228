"""Seeded applicants of a credit-scoring model: what `tripline demo`, the benchmarks and the tests are fed with.

Why: an even stream of normal draws hides what makes monitoring hard. These applicants come by day and not by night,
through other channels at noon than at midnight, a fifth of them use no credit line at all, incomes are lognormal,
fields are missing. All of it follows from the seed and the event time, so any stretch can be drawn again alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import orjson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.object_]

HOUR_MS, DAY_MS = 3_600_000, 86_400_000

NUMERIC = ("age", "income", "debt_ratio", "utilisation", "employment_years", "amount", "open_accounts")
CATEGORICAL = ("purpose", "channel", "home")
COUNTRIES = ("FR", "DE", "ES", "IT", "NL")
PURPOSES = ("car", "home improvement", "consolidation", "education", "medical", "wedding", "other")
CHANNELS = ("web", "app", "branch", "broker")
HOMES = ("rent", "own", "mortgage", "family")

_COUNTRY_SHARES = (0.34, 0.27, 0.17, 0.14, 0.08)
_PURPOSE_SHARES = (0.31, 0.19, 0.24, 0.08, 0.06, 0.04, 0.08)
_HOME_SHARES = (0.41, 0.17, 0.35, 0.07)
_MISSING = {"income": 0.022, "debt_ratio": 0.018, "employment_years": 0.026}
_DECIMALS = {"income": 2, "amount": 2}


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A change of the applicants from event time `start` to `end` (ms), in the terms of who applies.

    income: added to the log of income. utilisation: added to the logit of credit-line use. brokers: share of applicants
    moved to the channel `broker`. missing_employment: share of employment years that get lost on top.
    ramp_ms: the change grows linearly over that time; 0 is a step.
    """

    start: int
    end: int
    income: float = 0.0
    utilisation: float = 0.0
    brokers: float = 0.0
    missing_employment: float = 0.0
    ramp_ms: int = 0

    def weight(self, ts: Ints) -> Floats:
        """How much of the change is there at each time: 0 outside, 1 after the ramp.

        >>> Shift(start=100, end=200, ramp_ms=50).weight(np.array([0, 125, 150, 199, 200]))
        array([0. , 0.5, 1. , 1. , 0. ])
        """
        inside = (ts >= self.start) & (ts < self.end)
        grown = np.minimum((ts - self.start) / self.ramp_ms, 1.0) if self.ramp_ms else np.ones(ts.shape)
        return np.where(inside, grown, 0.0)


@dataclass(frozen=True)
class Applications:
    """Drawn applications, in the order of their times. All arrays are (n,); NaN and None are missing values."""

    ts: Ints
    ids: list[str]
    model: Words
    version: Words
    country: Words
    numeric: dict[str, Floats]
    categorical: dict[str, Words]
    score: Floats
    latency_ms: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def events(self) -> list[bytes]:
        """Prediction events in our own JSON, one per application."""
        columns = [_nullable(self.numeric[name], whole=name in ("age", "open_accounts")) for name in NUMERIC]
        columns += [self.categorical[name].tolist() for name in CATEGORICAL]
        names = (*NUMERIC, *CATEGORICAL)
        rows = zip(
            self.ids, self.model.tolist(), self.version.tolist(), self.ts.tolist(), self.score.tolist(),
            self.country.tolist(), self.latency_ms.tolist(), zip(*columns, strict=True), strict=True,
        )  # fmt: skip
        return [
            orjson.dumps(
                {
                    "id": identity, "model": model, "version": version, "ts": ts,
                    "features": dict(zip(names, values, strict=True)), "score": score,
                    "segment": {"country": country}, "latency_ms": latency, "status": "ok",
                }
            )
            for identity, model, version, ts, score, country, latency, values in rows
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Applicants:
    """A stream of applicants; equal values draw equal applications.

    per_day: applications a day, on average; by night a quarter of the noon rate. models, versions: each drawn evenly.
    """

    seed: int = 1
    models: tuple[str, ...] = ("credit",)
    versions: tuple[str, ...] = ("7",)
    countries: tuple[str, ...] = COUNTRIES
    per_day: float = 14_400.0
    shifts: tuple[Shift, ...] = field(default=())

    def between(self, start: int, end: int) -> Applications:
        """Applications with `start <= ts < end`, whole hours of event time (ms); Poisson, with the daily cycle.

        >>> day = Applicants(seed=7).between(0, 86_400_000)
        >>> len(day), sorted(day.ts.tolist()) == day.ts.tolist(), len(day.events())
        (14484, True, 14484)
        """
        hours = range(start // HOUR_MS, end // HOUR_MS)
        return _joined([self._hour(hour) for hour in hours])

    def at(self, ts: Ints, *, part: int = 0) -> Applications:
        """One application at each given time; `part` tells draws of one seed apart.

        >>> [x.decode()[:37] for x in Applicants(seed=7).at(np.array([0])).events()]
        ['{"id":"2f5be0eb997c4c4a-0bdb428ef6708']
        """
        return self._draw(np.asarray(ts, dtype=np.int64), np.random.default_rng([self.seed, 1, part]))

    def _hour(self, hour: int) -> Applications:
        rng = np.random.default_rng([self.seed, 0, hour])
        peak = self.per_day / 24 * 1.6
        ts = np.sort(rng.integers(hour * HOUR_MS, (hour + 1) * HOUR_MS, size=rng.poisson(peak)))
        # Thinning keeps the rate smooth within the hour: 0.4 .. 1.6 of the mean rate, least at 3 o'clock.
        kept = rng.random(ts.size) * 1.6 < 1.0 - 0.6 * np.cos(_phase(ts))
        return self._draw(ts[kept], rng)

    def _draw(self, ts: Ints, rng: np.random.Generator) -> Applications:
        n, night = ts.size, 0.5 + 0.5 * np.cos(_phase(ts))  # night: 1 at 3 o'clock, 0 at 15
        weights = [(shift, shift.weight(ts)) for shift in self.shifts]

        def moved(name: str) -> Floats:
            return sum((getattr(shift, name) * weight for shift, weight in weights), np.zeros(n))

        age = np.clip(18 + rng.gamma(4.2, 6.1, n), 18, 95).round()
        income = np.exp(10.35 + 0.48 * rng.standard_normal(n) + 0.006 * (age - 43) - 0.08 * night + moved("income"))
        debt = rng.beta(2.1, 4.6, n) * (1 + 0.1 * night)
        used = _logistic(-0.7 + 1.35 * rng.standard_normal(n) + 0.25 * night + moved("utilisation"))
        used = np.where(rng.random(n) < 0.19, 0.0, used)
        employed = np.round(np.minimum(rng.exponential(6.5, n), np.maximum(age - 17, 0.5)) * 12) / 12  # whole months
        amount = np.round(np.exp(8.9 + 0.62 * rng.standard_normal(n)) / 50) * 50 + 500
        accounts = rng.poisson(4.1, n).astype(np.float64)
        numeric = dict(zip(NUMERIC, (age, income, debt, used, employed, amount, accounts), strict=True))
        lost = {name: rng.random(n) < share for name, share in _MISSING.items()}
        lost["employment_years"] |= rng.random(n) < moved("missing_employment")

        shares = np.stack([0.44 - 0.1 * night, 0.27 + 0.2 * night, 0.21 * (1 - 0.9 * night), 0.08 + 0 * night])
        channel = _chosen(CHANNELS, np.cumsum(shares / shares.sum(axis=0), axis=0), rng)
        channel[rng.random(n) < moved("brokers")] = "broker"
        purpose = _words(PURPOSES, _PURPOSE_SHARES, n, rng)
        home = _words(HOMES, _HOME_SHARES, n, rng)
        home[rng.random(n) < 0.02] = None
        for name, gone in lost.items():
            numeric[name] = np.where(gone, np.nan, numeric[name])
        for name, decimals in _DECIMALS.items():
            numeric[name] = numeric[name].round(decimals)
        country = _words(self.countries, _normal(_COUNTRY_SHARES[: len(self.countries)]), n, rng)
        high, low = rng.integers(0, 1 << 63, n).tolist(), rng.integers(0, 1 << 63, n).tolist()
        return Applications(
            ts=ts,
            ids=[f"{a:016x}-{b:016x}" for a, b in zip(high, low, strict=True)],
            model=_words(self.models, _normal(np.ones(len(self.models))), n, rng),
            version=_words(self.versions, _normal(np.ones(len(self.versions))), n, rng),
            country=country,
            numeric=numeric,
            categorical={"purpose": purpose, "channel": channel, "home": home},
            score=probability_of_default(numeric, purpose),
            latency_ms=np.exp(2.6 + 0.4 * rng.standard_normal(n)),
        )


def probability_of_default(numeric: dict[str, Floats], purpose: Words) -> Floats:
    """Score of the frozen logistic model that the demo watches; a missing value counts as the average one."""
    z = {
        "income": (np.log(numeric["income"]) - 10.31) / 0.5,
        "debt_ratio": (numeric["debt_ratio"] - 0.33) / 0.17,
        "utilisation": (numeric["utilisation"] - 0.33) / 0.27,
        "employment_years": (numeric["employment_years"] - 6.0) / 5.5,
        "age": (numeric["age"] - 43.0) / 12.5,
    }
    weights = {"income": -0.55, "debt_ratio": 0.6, "utilisation": 0.85, "employment_years": -0.35, "age": -0.2}
    risky = (purpose == "consolidation") * 0.4 + (purpose == "medical") * 0.3
    return _logistic(-2.1 + risky + sum(weight * np.nan_to_num(z[name]) for name, weight in weights.items()))


def _phase(ts: Ints) -> Floats:
    """Angle on the day's circle; 0 at three o'clock (UTC) at night."""
    return (ts % DAY_MS - 3 * HOUR_MS).astype(np.float64) * (2 * np.pi / DAY_MS)


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _normal(shares: tuple[float, ...] | Floats) -> Floats:
    return np.asarray(shares, dtype=np.float64) / float(np.sum(shares))


def _words(words: tuple[str, ...], shares: tuple[float, ...] | Floats, n: int, rng: np.random.Generator) -> Words:
    cumulated = np.cumsum(np.asarray(shares))
    index = np.minimum(np.searchsorted(cumulated, rng.random(n), side="right"), len(words) - 1)
    return np.array(words, dtype=object)[index]


def _chosen(words: tuple[str, ...], cumulated: Floats, rng: np.random.Generator) -> Words:
    """One word per row; cumulated: (words, n), each column ends at 1."""
    index = (rng.random(cumulated.shape[1]) >= cumulated[:-1]).sum(axis=0)
    named: Words = np.array(words, dtype=object)[index]
    return named


def _nullable(values: Floats, *, whole: bool) -> list[float | int | None]:
    """Values as JSON has them: whole numbers without a point, missing ones null."""
    missing = np.flatnonzero(np.isnan(values))
    listed: list[float | int | None] = list((np.nan_to_num(values).astype(np.int64) if whole else values).tolist())
    for at in missing.tolist():
        listed[at] = None
    return listed


def _joined(parts: list[Applications]) -> Applications:
    def words(pieces: list[Words]) -> Words:
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=object)

    def floats(pieces: list[Floats]) -> Floats:
        return np.concatenate(pieces) if pieces else np.zeros(0)

    return Applications(
        ts=np.concatenate([part.ts for part in parts]) if parts else np.zeros(0, dtype=np.int64),
        ids=[identity for part in parts for identity in part.ids],
        model=words([part.model for part in parts]),
        version=words([part.version for part in parts]),
        country=words([part.country for part in parts]),
        numeric={name: floats([part.numeric[name] for part in parts]) for name in NUMERIC},
        categorical={name: words([part.categorical[name] for part in parts]) for name in CATEGORICAL},
        score=floats([part.score for part in parts]),
        latency_ms=floats([part.latency_ms for part in parts]),
    )
