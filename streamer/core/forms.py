"""A layout made ready for use: its reference, its scope, and where its views find their cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.outcome_scopes import OutcomeScope, build_outcome_scope
from detectors.profiles import NO_LARGEST, NO_LEAST
from detectors.references import Reference
from detectors.scopes import Scope, build_scope
from schemas.errors import ReferenceFileError
from schemas.layouts import Layout, View
from streamer.core.control import Control
from streamer.core.figures import Yardstick
from streamer.core.tallies import Slot, Tally

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """A column of cells or of a marginal table: how many values it may have in a pane, and those that views name.

    The latter always fit.
    """

    limit: int
    named: frozenset[str]


@dataclass(frozen=True, eq=False)
class Form:
    """What the monitor agent needs of a layout, computed once.

    columns: of cells, the version first, then the segments. marginals: each further column, by name.
    """

    layout: Layout
    id: str
    reference: Reference
    columns: tuple[Column, ...]
    marginals: Mapping[str, Column]
    width: int
    numeric: int

    @cached_property
    def scope(self) -> Scope:
        """The charts of a layout: made at its first close, not when a task comes back (.5 ms of CPU per monitor)."""
        return build_scope(self.reference, self.layout)

    @property
    def built(self) -> bool:
        """The charts are there: the next close costs no more than any."""
        return "scope" in self.__dict__

    @cached_property
    def yardstick(self) -> Yardstick:
        """The reference as reports need it."""
        return Yardstick(
            self.reference, views=self.scope.views, names=self.scope.monitored, further=self.layout.statistics
        )

    @cached_property
    def outcomes(self) -> OutcomeScope | None:
        """Charts of outcomes; None where they are not watched."""
        return build_outcome_scope(self.reference, self.layout)

    @property
    def monitors(self) -> int:
        """Monitors that one pane's close updates: the unit of its cost."""
        return max(1, len(self.layout.views) * len(self.layout.monitored))

    def rows_of(self, view: View, slots: Sequence[Slot]) -> list[int] | slice:
        """Which slots a view sums; of the tally's marginals where its column is one."""
        if not view.column:
            return slice(None)
        if view.column in self.marginals:
            return [row for row, (_, found) in enumerate(slots) if found == (view.column, view.value)]
        if view.column == "version":
            return [row for row, (version, _) in enumerate(slots) if version == view.value]
        if view.column not in self.layout.segments:
            return []
        at = self.layout.segments.index(view.column)
        return [row for row, (_, segment) in enumerate(slots) if segment[at] == view.value]

    def tally(self) -> Tally:
        """An empty table of the layout's cells and marginals."""
        return Tally(width=self.width, numeric=self.numeric, marginals=bool(self.marginals))

    def views_of(self, tally: Tally) -> tuple[Ints, Ints]:
        """Sums of cells by view, of a marginal table's rows where it is that column's.

        Counts (views, width), extremes (views, numeric features, 2).
        """
        views = self.scope.views
        further = tally.marginals or Tally(width=self.width, numeric=self.numeric)
        keys, further_keys = list(tally.slots), list(further.slots)
        counts = np.zeros((len(views), self.width), dtype=np.int64)
        extremes = np.empty((len(views), self.numeric, 2), dtype=np.int64)
        extremes[..., 0], extremes[..., 1] = NO_LEAST, NO_LARGEST
        for at, view in enumerate(views):
            table, names = (further, further_keys) if view.column in self.marginals else (tally, keys)
            rows = self.rows_of(view, names)
            if not names or rows == []:
                continue
            table.counts[rows].sum(axis=0, out=counts[at])
            table.least[rows].min(axis=0, out=extremes[at, :, 0])
            table.largest[rows].max(axis=0, out=extremes[at, :, 1])
        return counts, extremes


class Forms:
    """Forms of all layouts in force or to come, by model. Made anew when `control` changes; forms are kept."""

    def __init__(self, control: Control, older: Forms | None = None) -> None:
        self.control = control
        self._forms: dict[str, Form] = {} if older is None else older._forms
        self._ids = {
            name: [(layout.from_ms, layout.id, layout) for layout in layouts]
            for name, layouts in control.models.items()
        }
        current = {layout_id for layouts in self._ids.values() for _, layout_id, _ in layouts}
        self._forms = {layout_id: form for layout_id, form in self._forms.items() if layout_id in current}

    def serves(self, control: Control) -> bool:
        """No layout or reference has changed since."""
        return control.models is self.control.models and control.references is self.control.references

    def ids(self, model: str) -> list[tuple[int, str]]:
        """`from_ms` and id of every layout of a model, ascending."""
        return [(from_ms, layout_id) for from_ms, layout_id, _ in self._ids.get(model, ())]

    def knows(self, model: str, layout_id: str) -> bool:
        """Control has the layout, and its reference is whole."""
        found = next((layout for _, known, layout in self._ids.get(model, ()) if known == layout_id), None)
        return found is not None and self.control.reference(found.reference) is not None

    def at(self, model: str, ts: int, *, known: Collection[str] | None = None) -> Form | None:
        """Form of the layout that a pane starting at `ts` is counted under; of those `known`, where some are named."""
        found = None
        for from_ms, layout_id, layout in self._ids.get(model, ()):
            if from_ms > ts:
                break
            if known is None or layout_id in known:
                found = layout_id, layout
        return None if found is None else self._form(*found)

    def by_id(self, model: str, layout_id: str) -> Form | None:
        """Form of a layout of `model`; None when control does not have it (any more)."""
        for _, known, layout in self._ids.get(model, ()):
            if known == layout_id:
                return self._form(known, layout)
        return None

    def next_from(self, model: str, ts: int) -> int | None:
        """`from_ms` of the first layout that begins after `ts`."""
        return next((from_ms for from_ms, _, _ in self._ids.get(model, ()) if from_ms > ts), None)

    def _form(self, layout_id: str, layout: Layout) -> Form:
        form = self._forms.get(layout_id)
        if form is None:
            form = self._forms[layout_id] = form_of(layout, self.control)
        return form


def form_of(layout: Layout, control: Control) -> Form:
    """The layout with its reference; `ReferenceFileError` while the reference is not whole."""
    reference = control.reference(layout.reference)
    if reference is None:
        raise ReferenceFileError(f"layout {layout.id} of {layout.model}: reference {layout.reference} is not here yet")
    limits = layout.limits

    def column(name: str, limit: int) -> Column:
        return Column(limit, frozenset(view.value for view in layout.views if view.column == name))

    return Form(
        layout=layout,
        id=layout.id,
        reference=reference,
        columns=(
            column("version", limits.versions),
            *(column(name, limits.segment_values) for name in layout.segments),
        ),
        marginals={name: column(name, limits.segment_values) for name in layout.marginals},
        width=reference.table.width,
        numeric=len(reference.table.numeric),
    )
