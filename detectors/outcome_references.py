"""What a reference says about outcomes: loss and calibration by view, how late labels come, and its place in the file.

Why design effects are kept for all scales at once (the largest), and only n̄ by scale: labels mature by the hour or the
day, so an outcome pane is hardly ever finer than the blocks, and a larger design effect is only slower, never louder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.charts.calibration import BETS, CalibrationReference
from detectors.charts.calibration_map import CalibrationMap
from detectors.charts.losses import LossReference
from detectors.design_effect import n_bar_at
from schemas.errors import ReferenceFileError
from schemas.layouts import View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
#: `pack(values, bits)` and `unpack(packed, shape, bits, place)` of the reference file.
Pack: TypeAlias = Callable[[npt.NDArray[Any], int], dict[str, Any]]
Unpack: TypeAlias = Callable[[dict[str, Any], tuple[int, ...], int, str], Floats]

_BITS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class ViewOutcomes:
    """One view. losses, calibration: None where the model has no label (no probability), or no outcome came.

    block_ms: of the blocks that they were learned on; n_bars (s,): Σn²/Σn of blocks 1, 2, 4, … times as long.
    classes: calibration of each class against the rest, by name, where rows had every class's probability.
    """

    losses: LossReference | None
    calibration: CalibrationReference | None
    block_ms: int
    n_bars: Floats
    classes: dict[str, CalibrationReference] = field(default_factory=dict)

    def losses_at(self, pane_ms: int) -> LossReference | None:
        """The loss as charts with panes of `pane_ms` compare with it."""
        return None if self.losses is None else replace(self.losses, n_bar=self._n_bar(pane_ms))

    def calibration_at(self, pane_ms: int) -> CalibrationReference | None:
        """The map as charts with panes of `pane_ms` compare with it."""
        return None if self.calibration is None else replace(self.calibration, n_bar=self._n_bar(pane_ms))

    def classes_at(self, pane_ms: int) -> dict[str, CalibrationReference]:
        """The maps of classes, the same."""
        return {name: replace(one, n_bar=self._n_bar(pane_ms)) for name, one in self.classes.items()}

    def _n_bar(self, pane_ms: int) -> float:
        return n_bar_at(self.block_ms << np.arange(self.n_bars.size, dtype=np.int64), self.n_bars, pane_ms)


@dataclass(frozen=True, eq=False, kw_only=True)
class OutcomeReference:
    """Outcomes of a reference. classes: of two, (negative, positive). n: rows with an outcome.

    maturity_ms: the delay by which 99 % of the slowest class's labels had come, 0 where the table has no label times.
    delays: median delay in ms by class. counted_ms: labels later than this were left out, 0: none was.
    """

    classes: tuple[str, ...]
    n: int
    views: dict[View, ViewOutcomes]
    maturity_ms: int = 0
    counted_ms: int = 0
    delays: dict[str, int]


class _LossDocument(msgspec.Struct, forbid_unknown_fields=True):
    n: int
    total: dict[str, Any]
    moments: dict[str, Any]
    profile: dict[str, Any]


class _CalibrationDocument(msgspec.Struct, forbid_unknown_fields=True):
    bins: int
    edges: list[float]
    place: dict[str, Any]
    logit: dict[str, Any]
    rows: dict[str, Any]
    deff: dict[str, Any]
    profile: dict[str, Any]


class _ClassDocument(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    calibration: _CalibrationDocument


class _ViewDocument(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    value: str
    block_ms: int
    scales: int
    n_bars: dict[str, Any]
    losses: _LossDocument | None
    calibration: _CalibrationDocument | None
    classes: list[_ClassDocument] = []


class OutcomeDocument(msgspec.Struct, forbid_unknown_fields=True):
    """How it stands in the reference file."""

    classes: tuple[str, ...]
    n: int
    maturity_ms: int
    counted_ms: int
    delays: dict[str, int]
    views: list[_ViewDocument]


def content(labels: OutcomeReference, pack: Pack) -> dict[str, Any]:
    """As the reference file holds it."""
    return {
        "classes": list(labels.classes),
        "n": labels.n,
        "maturity_ms": labels.maturity_ms,
        "counted_ms": labels.counted_ms,
        "delays": dict(labels.delays),
        "views": [
            {
                "column": view.column,
                "value": view.value,
                "block_ms": of_view.block_ms,
                "scales": int(of_view.n_bars.size),
                "n_bars": pack(of_view.n_bars, _BITS),
                "losses": _loss_content(of_view.losses, pack),
                "calibration": _calibration_content(of_view.calibration, pack),
                # Absent where there is none: the id of a reference is a hash of what is there.
                **({"classes": _class_content(of_view.classes, pack)} if of_view.classes else {}),
            }
            for view, of_view in sorted(labels.views.items())
        ],
    }


def loaded(document: OutcomeDocument, unpack: Unpack) -> OutcomeReference:
    """Inverse of `content`; `ReferenceFileError` with the place when an array does not fit."""
    views = {}
    for i, one in enumerate(document.views):
        place = f"labels.views[{i}]"
        views[View(one.column, one.value)] = ViewOutcomes(
            losses=_loss(one.losses, unpack, f"{place}.losses"),
            calibration=_calibration(one.calibration, unpack, f"{place}.calibration"),
            block_ms=one.block_ms,
            n_bars=unpack(one.n_bars, (one.scales,), _BITS, f"{place}.n_bars"),
            classes=_classes(one.classes, document.classes, unpack, f"{place}.classes"),
        )
    if View() not in views:
        raise ReferenceFileError("labels.views: the whole model is not there")
    return OutcomeReference(
        classes=document.classes,
        n=document.n,
        views=views,
        maturity_ms=document.maturity_ms,
        counted_ms=document.counted_ms,
        delays=document.delays,
    )


def rounded(view: ViewOutcomes) -> ViewOutcomes:
    """As the file keeps it: what is built equals what is loaded."""
    losses, calibration = view.losses, view.calibration
    if losses is not None:
        up, down = (float(_fixed(np.array([x]))[0]) for x in losses.m3)
        losses = replace(
            losses,
            total=float(_fixed(np.array([losses.total]))[0]),
            deff=float(_fixed(np.array([losses.deff]))[0]),
            m3=(up, down),
            profile=_fixed(losses.profile),
        )
    if calibration is not None:
        calibration = _rounded(calibration)
    classes = {name: _rounded(one) for name, one in view.classes.items()}
    return replace(view, losses=losses, calibration=calibration, n_bars=_fixed(view.n_bars), classes=classes)


def _rounded(calibration: CalibrationReference) -> CalibrationReference:
    known = calibration.map
    return replace(
        calibration,
        map=replace(known, place=_fixed(known.place), logit=_fixed(known.logit)),
        deff=_fixed(calibration.deff),
        profile=_fixed(calibration.profile),
    )


def _loss_content(losses: LossReference | None, pack: Pack) -> dict[str, Any] | None:
    if losses is None:
        return None
    return {
        "n": int(losses.n),
        "total": pack(np.array([losses.total]), _BITS),
        "moments": pack(np.array([losses.deff, *losses.m3]), _BITS),
        "profile": pack(losses.profile, _BITS),
    }


def _loss(document: _LossDocument | None, unpack: Unpack, place: str) -> LossReference | None:
    if document is None:
        return None
    deff, up, down = unpack(document.moments, (3,), _BITS, f"{place}.moments").tolist()
    return LossReference(
        n=float(document.n),
        total=float(unpack(document.total, (1,), _BITS, f"{place}.total")[0]),
        deff=deff,
        m3=(up, down),
        profile=unpack(document.profile, (168,), _BITS, f"{place}.profile"),
    )


def _calibration_content(calibration: CalibrationReference | None, pack: Pack) -> dict[str, Any] | None:
    if calibration is None:
        return None
    known = calibration.map
    return {
        "bins": int(known.rows.size),
        "edges": [float(edge) for edge in known.edges],
        "place": pack(known.place, _BITS),
        "logit": pack(known.logit, _BITS),
        "rows": pack(known.rows, 0),
        "deff": pack(calibration.deff, _BITS),
        "profile": pack(calibration.profile, _BITS),
    }


def _class_content(classes: dict[str, CalibrationReference], pack: Pack) -> list[dict[str, Any]]:
    return [{"name": name, "calibration": _calibration_content(one, pack)} for name, one in classes.items()]


def _classes(
    documents: list[_ClassDocument], known: tuple[str, ...], unpack: Unpack, place: str
) -> dict[str, CalibrationReference]:
    found = {}
    for i, one in enumerate(documents):
        if one.name not in known or one.name in found:
            raise ReferenceFileError(f"{place}[{i}].name: {one.name!r} is no class, or there twice")
        calibration = _calibration(one.calibration, unpack, f"{place}[{i}].calibration")
        assert calibration is not None
        found[one.name] = calibration
    return found


def _calibration(document: _CalibrationDocument | None, unpack: Unpack, place: str) -> CalibrationReference | None:
    if document is None:
        return None
    bins = (document.bins,)
    if len(document.edges) + 1 != document.bins:
        raise ReferenceFileError(f"{place}.edges: {len(document.edges)} for {document.bins} bins")
    return CalibrationReference(
        map=CalibrationMap(
            edges=np.array(document.edges, dtype=np.float64),
            place=unpack(document.place, bins, _BITS, f"{place}.place"),
            logit=unpack(document.logit, bins, _BITS, f"{place}.logit"),
            rows=unpack(document.rows, bins, 0, f"{place}.rows"),
        ),
        deff=unpack(document.deff, (1 + len(BETS),), _BITS, f"{place}.deff"),
        n_bar=1.0,
        profile=unpack(document.profile, (168,), _BITS, f"{place}.profile"),
    )


def _fixed(values: Floats) -> Floats:
    found: Floats = np.ldexp(np.rint(np.ldexp(values, _BITS)), -_BITS)
    return found + 0.0
