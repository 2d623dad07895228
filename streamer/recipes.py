"""Seeded streams by recipe: what a story's reference and its events are made of. Pure; the same seed, the same rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, model_validator

from streamer.config import Section
from streamer.config_fields import Duration, Number

Ints: TypeAlias = npt.NDArray[np.int64]
Column: TypeAlias = npt.NDArray[Any]

DAY_MS = 86_400_000
Share: TypeAlias = Annotated[Number, Field(ge=0, le=1)]


class Panes(Section):
    """A stretch of panes, both ends in it; `last` None: to the end.

    >>> Panes.of("3..5"), Panes.of(7), Panes.of("4..")
    (Panes(first=3, last=5), Panes(first=7, last=7), Panes(first=4, last=None))
    """

    first: int
    last: int | None

    @classmethod
    def of(cls, text: object) -> Panes:
        """`3..5`, `4..` or `7`."""
        if isinstance(text, int) and not isinstance(text, bool):
            return cls(first=text, last=text)
        match = re.fullmatch(r"(\d+)\.\.(\d*)", text) if isinstance(text, str) else None
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError("must be panes such as 3..5, 4.. or 7")
        return cls(first=int(match[1]), last=int(match[2]) if match[2] else None)

    def mask(self, pane: Ints) -> npt.NDArray[np.bool_]:
        """Which of some pane numbers are in it."""
        return (pane >= self.first) & (pane <= (self.last if self.last is not None else np.iinfo(np.int64).max))


class Recipe(Section):
    """How one feature is drawn. daily: amplitude, in its sd, of a sine over the day, highest at noon UTC.

    weekend: added on Saturdays and Sundays, UTC, in sd. ar: rows resemble their neighbours, with this correlation.
    missing: share of nothing.
    """

    normal: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    lognormal: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    uniform: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    levels: dict[str, Number] | None = None
    daily: Number = 0.0
    weekend: Number = 0.0
    ar: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    missing: Share = 0.0

    @model_validator(mode="after")
    def _one(self) -> Recipe:
        if sum(way is not None for way in (self.normal, self.lognormal, self.uniform, self.levels)) != 1:
            raise ValueError("needs one of normal, lognormal, uniform, levels")
        return self


class Change(Section):
    """What is different in some panes: of some features, in one segment or version only, or of the traffic.

    shift: added, in the feature's sd. scale: its spread times this. missing, unseen: shares. gone: the key is absent.
    traffic: rows times this. late: this share comes `by` later. repeat: this share comes twice.
    """

    panes: Annotated[Panes, BeforeValidator(Panes.of)]
    feature: str | None = None
    segment: dict[str, str] = Field(default={})
    version: str | None = None
    shift: Number = 0.0
    scale: Number = 1.0
    missing: Share = 0.0
    unseen: dict[str, Share] = Field(default={})
    gone: bool = False
    traffic: Annotated[Number, Field(ge=0)] = 1.0
    late: Share = 0.0
    by: Duration = 0
    repeat: Share = 0.0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Rows in the order of their event time. gone: features whose key is absent, by row."""

    ts: Ints
    columns: dict[str, Column]
    segments: dict[str, Column]
    version: Column | None
    gone: dict[str, npt.NDArray[np.bool_]]

    def __len__(self) -> int:
        return int(self.ts.size)


def draw(
    recipes: Mapping[str, Recipe],
    *,
    segments: Mapping[str, Mapping[str, float]],
    versions: Mapping[str, float],
    start: int,
    pane_ms: int,
    panes: int,
    rows: int,
    seed: int,
    changes: Sequence[Change] = (),
) -> Drawn:
    """`rows` events in each of `panes` panes from `start` (ms) on, at random times, with the changes in them."""
    rng = np.random.default_rng([seed, start // pane_ms])
    traffic = np.full(panes, float(rows))
    for change in changes:
        traffic[change.panes.mask(np.arange(panes))] *= change.traffic
    pane = np.repeat(np.arange(panes, dtype=np.int64), np.rint(traffic).astype(np.int64))
    ts = np.sort(start + pane * pane_ms + rng.integers(0, pane_ms, pane.size))
    in_segment = {name: _chosen(shares, ts.size, rng) for name, shares in segments.items()}
    version = _chosen(versions, ts.size, rng) if versions else None
    columns, gone = {}, {}
    for name, recipe in recipes.items():
        touching = [(change, _rows(change, pane, in_segment, version)) for change in changes if change.feature == name]
        columns[name] = _column(recipe, ts, touching, rng)
        absent = [rows_of for change, rows_of in touching if change.gone]
        if absent:
            gone[name] = np.logical_or.reduce(absent)
    return Drawn(ts=ts, columns=columns, segments=in_segment, version=version, gone=gone)


def chosen_rows(change: Change, pane: Ints, seed: int, share: float) -> npt.NDArray[np.bool_]:
    """A share of the rows of a change's panes, by seed: those that come late, or twice."""
    rng = np.random.default_rng([seed, change.panes.first, 77])
    return change.panes.mask(pane) & (rng.random(pane.size) < share)


def _rows(change: Change, pane: Ints, segments: Mapping[str, Column], version: Column | None) -> npt.NDArray[np.bool_]:
    rows = change.panes.mask(pane)
    for name, value in change.segment.items():
        rows &= segments[name] == value
    if change.version is not None and version is not None:
        rows &= version == change.version
    return rows


def _column(
    recipe: Recipe, ts: Ints, changes: Sequence[tuple[Change, npt.NDArray[np.bool_]]], rng: np.random.Generator
) -> Column:
    size = ts.size
    if recipe.levels is not None:
        levels = _chosen(recipe.levels, size, rng)
        for change, rows in changes:
            for level, share in change.unseen.items():
                levels[rows & (rng.random(size) < share)] = level
        levels[_missing(recipe, changes, size, rng)] = None
        return levels
    z = _standard(recipe, size, rng) + recipe.daily * -np.cos(2 * np.pi * (ts % DAY_MS) / DAY_MS)
    z += recipe.weekend * ((ts // DAY_MS + 3) % 7 >= 5)
    for change, rows in changes:
        z = np.where(rows, z * change.scale + change.shift, z)
    values: Column = _scaled(recipe, z)
    values[_missing(recipe, changes, size, rng)] = np.nan
    return values


def _standard(recipe: Recipe, size: int, rng: np.random.Generator) -> Column:
    """Draws of mean 0 and sd 1; of an AR(1) where rows resemble their neighbours."""
    if recipe.uniform is not None:
        return np.asarray((rng.random(size) - 0.5) * np.sqrt(12))
    noise = rng.standard_normal(size)
    if recipe.ar:
        noise[1:] *= np.sqrt(1 - recipe.ar**2)
        for i in range(1, size):
            noise[i] += recipe.ar * noise[i - 1]
    return noise


def _scaled(recipe: Recipe, z: Column) -> Column:
    if recipe.normal is not None:
        mean, sd = recipe.normal
        return np.asarray(mean + sd * z)
    if recipe.lognormal is not None:
        mean, sd = recipe.lognormal
        values: Column = np.exp(mean + sd * z)
        return values
    low, high = recipe.uniform or (0.0, 1.0)
    return np.asarray(low + (high - low) * (z / np.sqrt(12) + 0.5))


def _missing(
    recipe: Recipe, changes: Sequence[tuple[Change, npt.NDArray[np.bool_]]], size: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    u = rng.random(size)
    missing: npt.NDArray[np.bool_] = u < recipe.missing
    for change, rows in changes:
        if change.missing:
            missing |= rows & (u < change.missing)
    return missing


def _chosen(shares: Mapping[str, float], size: int, rng: np.random.Generator) -> Column:
    names = np.array([*shares, None], dtype=object)[:-1]
    weights = np.array(list(shares.values()), dtype=np.float64)
    column: Column = names[rng.choice(len(names), size=size, p=weights / weights.sum())]
    return column
