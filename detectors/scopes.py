"""A scope is one model: all its monitors, their shared budget and their one open incident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.references import Reference
from detectors.results import STATUSES, Absorbed, Alarm, Cleared, ScopeResult
from schemas.layouts import Layout, View

Ints: TypeAlias = npt.NDArray[np.int64]

__all__ = ["STATUSES", "Absorbed", "Alarm", "Cleared", "Scope", "ScopeResult", "ScopeState", "build_scope"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScopeState:
    """State of a scope; a value, never changed in place."""

    open: bool
    opened_at: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Scope:
    """Frozen tables of a model under one layout. features: monitored ones, then others that a rule names."""

    layout: Layout
    reference: Reference
    views: tuple[View, ...]
    features: tuple[str, ...]
    monitored: tuple[str, ...]
    notes: tuple[tuple[str, ...], ...]  # (views, monitored): what to know about a monitor, "" for nothing

    def start(self) -> ScopeState:
        """State before the first pane."""
        raise NotImplementedError


def build_scope(reference: Reference, layout: Layout) -> Scope:
    """Tables of a layout; cache the result, it costs milliseconds."""
    raise NotImplementedError


def update(
    scope: Scope, state: ScopeState, *, start: int, counts: Ints, extremes: Ints | None = None
) -> tuple[ScopeState, ScopeResult]:
    """Take in one closed pane.

    start: ms. counts: (views, table width) int64, in the order of `scope.views`. extremes: (views, numeric features, 2)
    least and largest fixed-point values of the pane (see `Delta.extremes`), for `expect: range`; without them a range
    is judged by the bins alone.
    """
    raise NotImplementedError


def skip_empty(scope: Scope, state: ScopeState, *, start: int, panes: int) -> tuple[ScopeState, ScopeResult]:
    """Take in `panes` panes without events from `start` on, in closed form; equals `update` with zeros for each."""
    raise NotImplementedError


def quiet_panes(scope: Scope, state: ScopeState, *, start: int, panes: int) -> int:
    """How many of the next `panes` empty panes change nothing: the one after them raises an alarm (silence, rows)."""
    raise NotImplementedError


def save_state(state: ScopeState) -> dict[str, bytes]:
    """Blocks of at most 256 monitors, keys "scope", "0", "1", …; equal states give equal bytes."""
    raise NotImplementedError


def load_state(scope: Scope, blocks: dict[str, bytes]) -> ScopeState:
    """State from all its blocks, to the bit; `FormatError` when of a newer format, damaged or of another layout."""
    raise NotImplementedError
