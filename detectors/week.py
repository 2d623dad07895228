"""A stream's own first week: what a bag of rows cannot say, season and dependence, learned while nothing pages yet.

A reference without times gives bins and means. For seven days the stream's sums by block are kept; then, at the first
pane with events after them, the profile takes the week's shape about the week's own mean, *anchored at the reference
mean*: a stream that is elsewhere than its reference is drift, and shows as soon as the week is over. The design effect
of location, scale, skew and tails is the step-proof one, as a week in which something happened must not teach that
this is usual; a week whose halves differ by more than the tolerance and three standard errors teaches nothing: "not
stationary while learning", and the next week is tried.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.charts.bets import Bets, Learned
from detectors.design_effect import block_moments, n_bar_at, step_proof_variance, tempering
from detectors.directions import Directions
from detectors.learning import Calendar, calendar, day_sums, drifted, residuals_about
from detectors.seasonality import fit_profile, fit_without_each_day
from schemas.errors import FormatError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

WEEK_MS = 7 * 86_400_000
#: Values that a week keeps at most (32 MB), and a part of it, which is one record of the changelog.
MOST_VALUES, PART_VALUES = 1 << 22, 1 << 15
#: A week with events on fewer days is none.
LEAST_DAYS = 5
PART_KEY, OWN_KEY = "week", "own"
_RECORD = 512 << 10
_GRAIN_BITS = 20


class Part(NamedTuple):
    """Some consecutive blocks: rows (b, M) and Σ(S − nμ) (b, D) about the reference mean, multiples of 2**-20."""

    rows: Ints
    shift: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Week:
    """What has been kept so far; a value. first: start of the first block, ms, -1 before it. length: blocks a part."""

    block_ms: int
    length: int
    first: int = -1
    parts: Mapping[int, Part]

    @classmethod
    def start(cls, bets: Bets, *, pane_ms: int) -> Week:
        """An empty week, in blocks of so many panes that it stays within `MOST_VALUES`."""
        wide, block = bets.monitors + int(bets.direction_monitor.size), pane_ms
        while wide * (WEEK_MS // block + 1) > MOST_VALUES:
            block *= 2
        return cls(block_ms=block, length=max(1, min(64, PART_VALUES // max(1, wide))), parts={})

    def over(self, start: int) -> bool:
        """A pane that starts at `start` is after it."""
        return self.first >= 0 and start >= self.first + WEEK_MS

    def add(self, start: int, *, rows: Ints, shift: Floats) -> Week:
        """The week with one more pane: rows (M,), shift (D,)."""
        first = start // self.block_ms * self.block_ms if self.first < 0 else self.first
        number, at = divmod((start - first) // self.block_ms, self.length)
        part = self.parts.get(number)
        if part is None:
            part = Part(np.zeros((self.length, rows.size), np.int64), np.zeros((self.length, shift.size)))
        else:
            part = Part(part.rows.copy(), part.shift.copy())
        part.rows[at] += rows
        part.shift[at] += shift
        return replace(self, first=first, parts={**self.parts, number: part})

    def whole(self) -> Part:
        """All blocks of the week, empty ones too."""
        blocks = -(-WEEK_MS // self.block_ms)
        some = next(iter(self.parts.values()))
        rows = np.zeros((blocks, some.rows.shape[1]), np.int64)
        shift = np.zeros((blocks, some.shift.shape[1]))
        for number, part in self.parts.items():
            at = number * self.length
            size = min(self.length, blocks - at)
            rows[at : at + size], shift[at : at + size] = part.rows[:size], part.shift[:size]
        return Part(rows, shift)


@dataclass(frozen=True, eq=False, kw_only=True)
class Own:
    """What a week taught: profile (168, D); deff, temper (D,); n_bar (M,); words for a person. raw: its bytes."""

    profile: Floats
    deff: Floats
    temper: Floats
    n_bar: Floats
    words: tuple[str, ...]
    raw: bytes

    def applied(self, one: Learned, *, monitor: int, first: int) -> Learned:
        """A monitor's learned numbers with the week's; first: its first direction."""
        here = slice(first, first + len(one.names))
        return replace(
            one,
            profile=self.profile[:, here],
            deff=self.deff[here],
            temper=self.temper[here],
            n_bar=np.full(len(one.names), self.n_bar[monitor]),
        )


class Lesson(NamedTuple):
    """What a week taught, or None and why not."""

    own: Own | None
    words: tuple[str, ...]


def lesson(
    week: Week, bets: Bets, learned: tuple[Learned, ...], names: tuple[str, ...], *, timezone: str, tolerance: float
) -> Lesson:
    """Learn from a week that is over. learned, names: of all monitors, those of the whole model's view first.

    names (F,): the monitored features; only the whole model's view decides whether the week was stationary.
    """
    rows, shift = week.whole()
    times = calendar(base_ms=week.block_ms, first=week.first // week.block_ms, blocks=rows.shape[0], timezone=timezone)
    days = np.unique(times.day[rows.any(axis=1)]).size
    if days < LEAST_DAYS:
        return Lesson(None, (f"events on {days} days of the first week: too few to learn from",))
    profiles, deffs, tempers, n_bar, words = [], [], [], [], []
    for m, one in enumerate(learned):
        here = slice(int(bets.direction_start[m]), int(bets.direction_start[m + 1]))
        found = _monitor(shift[:, here], rows[:, m].astype(np.float64), one, times, tolerance=tolerance)
        if m < len(names):
            if found.unsteady is not None:
                return Lesson(None, (f"not stationary while learning: {names[m]}, {found.unsteady}",))
            words.append(f"{names[m]}: {found.halves}")
        profiles.append(one.profile + found.shape)
        deffs.append(found.deff)
        tempers.append(tempering(_along(one), found.deff))
        n_bar.append(n_bar_at(found.scales_ms, found.n_bar, week.block_ms))
    profile = np.ldexp(np.rint(np.ldexp(np.concatenate(profiles, axis=1), _GRAIN_BITS)), -_GRAIN_BITS)
    return Lesson(
        own_of(
            profile=profile,
            deff=np.concatenate(deffs),
            temper=np.concatenate(tempers),
            n_bar=np.array(n_bar),
            words=tuple(words),
        ),
        tuple(words),
    )


class _Found(NamedTuple):
    shape: Floats
    deff: Floats
    scales_ms: Ints
    n_bar: Floats
    halves: str
    unsteady: str | None


def _monitor(shift: Floats, rows: Floats, one: Learned, times: Calendar, *, tolerance: float) -> _Found:
    """One monitor's week: shift (B, k), rows (B,)."""
    along = _along(one)
    by_day, rows_by_day = day_sums(shift, rows, times)
    shape = fit_profile(by_day, rows_by_day, times.weekdays)
    shape -= shift.sum(axis=0) / max(1.0, rows.sum())
    later = times.later[:, None]
    steady = shift - rows[:, None] * (shape[times.before] * (1.0 - later) + shape[times.after] * later)
    residuals = shift.copy()
    residuals_about(residuals, rows, fit_without_each_day(by_day, rows_by_day, times.weekdays), times)
    scales = block_moments(residuals, rows)
    kinds = np.array(one.kinds)
    deff = np.maximum(1.0, scales.v.max(axis=0))
    stepless = np.maximum(1.0, step_proof_variance(residuals, rows).max(axis=0))
    deff = np.where(kinds == "shape", stepless, deff)
    return _Found(
        shape, deff, scales.lengths * times.base_ms, scales.n_bar, _halves(one, steady, rows),
        drifted(along, steady, rows, tolerance) if len(one.names) else None,
    )  # fmt: skip


def _halves(one: Learned, steady: Floats, rows: Floats) -> str:
    """Means of the first direction, about the reference mean, in both halves of the week."""
    if not one.names:
        return "nothing to compare"
    half = rows.size // 2
    first, second = (
        float(steady[part, 0].sum() / max(1.0, rows[part].sum())) for part in (slice(half), slice(half, None))
    )
    return f"{one.names[0]} {first:+.2f} sd of the reference mean in the first half, {second:+.2f} in the second"


def _along(one: Learned) -> Directions:
    return Directions(one.names, one.kinds, one.phi, one.q, one.upward, one.weights)


class _Saved(msgspec.Struct, array_like=True):
    profile: bytes
    deff: bytes
    temper: bytes
    n_bar: bytes
    words: tuple[str, ...]


class _SavedPart(msgspec.Struct, array_like=True):
    block_ms: int
    length: int
    first: int
    monitors: int
    data: bytes


def own_of(*, profile: Floats, deff: Floats, temper: Floats, n_bar: Floats, words: tuple[str, ...]) -> Own:
    """What was learned, with its bytes."""
    whole = np.rint(np.ldexp(profile, _GRAIN_BITS)).astype("<i8")
    deffs, tempers, rows = (values.astype("<f8").tobytes() for values in (deff, temper, n_bar))
    raw = msgspec.msgpack.encode(_Saved(zlib.compress(whole.tobytes(), 6), deffs, tempers, rows, words))
    return Own(profile=profile, deff=deff, temper=temper, n_bar=n_bar, words=words, raw=raw)


def save(week: Week | None, own: Own | None) -> dict[str, bytes]:
    """Blocks of a state: one per part of the week, and what was learned in pieces of half a megabyte."""
    blocks: dict[str, bytes] = {}
    if own is not None:
        for at in range(0, len(own.raw), _RECORD):
            blocks[f"{OWN_KEY}{at // _RECORD}"] = own.raw[at : at + _RECORD]
    if week is not None:
        for number, part in sorted(week.parts.items()):
            data = zlib.compress(part.rows.astype("<i8").tobytes() + part.shift.astype("<f8").tobytes(), 1)
            saved = _SavedPart(week.block_ms, week.length, week.first, part.rows.shape[1], data)
            blocks[f"{PART_KEY}{number}"] = msgspec.msgpack.encode(saved)
    return blocks


def load_own(blocks: Mapping[str, bytes]) -> Own | None:
    """What was learned, from all blocks of a state; None when nothing was."""
    pieces = [blocks[key] for key in _keys(blocks, OWN_KEY)]
    if not pieces:
        return None
    try:
        saved = msgspec.msgpack.decode(b"".join(pieces), type=_Saved)
        whole = np.frombuffer(zlib.decompress(saved.profile), "<i8").astype(np.float64)
        deff, temper, n_bar = (np.frombuffer(raw, "<f8") for raw in (saved.deff, saved.temper, saved.n_bar))
        profile = np.ldexp(whole.reshape(168, -1), -_GRAIN_BITS)
        if profile.shape[1] != deff.size or deff.size != temper.size:
            raise ValueError(f"{profile.shape[1]} means for {deff.size} directions")
    except (msgspec.MsgspecError, zlib.error, ValueError) as error:
        raise FormatError(f"state of a scope, block `{OWN_KEY}`: {error}") from error
    return own_of(profile=profile, deff=deff, temper=temper, n_bar=n_bar, words=saved.words)


def load_week(fresh: Week, blocks: Mapping[str, bytes]) -> Week:
    """The week so far, from all blocks of a state, in the shape of `fresh`."""
    week = fresh
    for key in _keys(blocks, PART_KEY):
        try:
            saved = msgspec.msgpack.decode(blocks[key], type=_SavedPart)
            raw = zlib.decompress(saved.data)
            cut = saved.length * saved.monitors * 8
            rows = np.frombuffer(raw[:cut], "<i8").astype(np.int64).reshape(saved.length, saved.monitors)
            shift = np.frombuffer(raw[cut:], "<f8").astype(np.float64).reshape(saved.length, -1)
        except (msgspec.MsgspecError, zlib.error, ValueError) as error:
            raise FormatError(f"state of a scope, block `{key}`: {error}") from error
        if (saved.block_ms, saved.length) != (fresh.block_ms, fresh.length):
            raise FormatError(f"state of a scope, block `{key}`: it was written for other panes than this layout's")
        number = int(key.removeprefix(PART_KEY))
        week = replace(week, first=saved.first, parts={**week.parts, number: Part(rows, shift)})
    return week


def _keys(blocks: Mapping[str, bytes], name: str) -> list[str]:
    found = [key for key in blocks if key.startswith(name) and key[len(name) :].isdigit()]
    return sorted(found, key=lambda key: int(key[len(name) :]))
