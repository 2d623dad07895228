"""The frozen profile that we compare with: what was learned, as a value, as a file, and in words.

A reference is a JSON document: plain fields beside arrays of fixed-point integers (base64 of zlib of little-endian
int64). Its id is a content hash; `loads` checks it, so that a file that was cut, edited or mixed up is refused with the
place instead of being believed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.batches import Batches
from detectors.bins import FeatureSpec
from detectors.derived import MATRIX_BITS, SCORE_BITS, Derivation
from detectors.directions import STEP_BITS
from detectors.feature_references import HOURS, FeatureDocument, FeatureReference
from detectors.feature_references import content as feature_content
from detectors.feature_references import loaded as feature_loaded
from detectors.outcome_references import OutcomeDocument, OutcomeReference
from detectors.outcome_references import content as outcome_content
from detectors.outcome_references import loaded as outcome_loaded
from detectors.packed import pack, unpack, unpack_ints
from detectors.profiles import Table
from detectors.served import SERVED
from detectors.shadow import Shadow
from detectors.words import words
from schemas.errors import ReferenceFileError
from schemas.layouts import View

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

__all__ = [
    "FeatureReference",
    "Finding",
    "OutcomeTable",
    "Reference",
    "ViewReference",
    "dumps",
    "identified",
    "loads",
    "words",
]

#: The newest format that is read. A file says the oldest that holds what is in it, so that nothing new costs nothing.
REFERENCE_FORMAT = 5
#: Optional parts of the document, absent where there is nothing, by the format that brought them.
_PARTS = {"shadow": 2, "labels": 2, "batches": 2, "served": 3, "derived": 3, "silences": 5}
#: Calibration by class, within `labels`.
_BY_CLASS = 4


class Finding(msgspec.Struct, frozen=True):
    """Something a person should know before trusting the reference. feature "" is the table as a whole.

    kind: `constant`, `all_missing`, `id_like`, `times`, `many_levels`, `few_rows`, `not_stationary`, `outage`,
    `unlike_days`, `excluded`, `absent`, `no_time`, `mixed_types`, `views_left_out`, `short` (why it is provisional).
    """

    kind: str
    feature: str
    words: str


@dataclass(frozen=True, eq=False, kw_only=True)
class ViewReference:
    """One view's own counts, directions, profile and design effect, on the edges and levels of the whole model."""

    n: int
    features: dict[str, FeatureReference]


@dataclass(frozen=True, eq=False, kw_only=True)
class OutcomeTable:
    """Scores and outcomes of the reference: (columns of `score`,) n with an outcome, and the sum of the outcomes."""

    n: Ints
    positives: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """Everything that is learned before a model is watched.

    start, end: [start, end) of its rows in ms, both 0 for a bag of rows. n: rows, all of them. days: length in days.
    segments: columns that views may name. views: the model (`View()`) and all that had rows enough.
    gaps: (168,) longest time without a row that touches the hour of the week, ms. silences: (168,) silence that chance
    brings once in 20 budgets, ms, or (0,) where the gaps say enough. provisional: why it may not page by
    itself, "" when it may. excluded: [from, to) that a person left out. shadow: what its own replay attained.
    batches: how it was cut, when a pane is a batch; start and end are then on the batches' own clock.
    labels: losses and calibration of the reference's outcomes, when it had any.
    served: which of `specs` say how a prediction was served (`detectors.served`), and are no features of events.
    derived: how those of `specs` are made that are derived from others, the last of them.
    """

    model: str
    specs: tuple[FeatureSpec, ...]
    views: dict[View, ViewReference]
    kind: str = "predictions"
    timezone: str = "UTC"
    start: int = 0
    end: int = 0
    n: int = 0
    segments: tuple[str, ...] = ()
    gaps: Ints = field(default_factory=lambda: np.zeros(HOURS, dtype=np.int64))
    silences: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    findings: tuple[Finding, ...] = ()
    provisional: str = ""
    excluded: tuple[tuple[int, int], ...] = ()
    outcomes: OutcomeTable | None = None
    shadow: Shadow | None = None
    batches: Batches | None = None
    labels: OutcomeReference | None = None
    served: tuple[str, ...] = ()
    derived: Derivation | None = None
    id: str = ""

    @cached_property
    def table(self) -> Table:
        """Where the features stand in a pane's vector."""
        return Table(self.specs)

    @property
    def days(self) -> float:
        """Length of the time range in days; 0 for a bag of rows."""
        return (self.end - self.start) / 86_400_000

    @property
    def middle(self) -> int:
        """Middle of the time range, ms: where its time zone's offset is taken when a layout names another zone."""
        return (self.start + self.end) // 2

    def spec(self, feature: str) -> FeatureSpec | None:
        """Spec of a feature by name."""
        return next((spec for spec in self.specs if spec.name == feature), None)


def identified(reference: Reference) -> Reference:
    """The reference with its content hash as its id: 16 hex digits of BLAKE2b."""
    return replace(reference, id=_hash(_content(reference)))


def dumps(reference: Reference) -> bytes:
    """The file. Equal content gives equal bytes.

    >>> small = identified(Reference(model="m", specs=(), views={}))
    >>> loads(dumps(small)).id == small.id
    True
    """
    content = _content(reference)
    oldest = max([1, *(_PARTS[part] for part in _PARTS if part in content)])
    if any("classes" in view for view in content.get("labels", {}).get("views", ())):
        oldest = max(oldest, _BY_CLASS)
    return msgspec.json.format(
        msgspec.json.encode({"tripline_reference": oldest, "id": _hash(content), **content}, order="sorted"),
        indent=1,
    )


def loads(raw: bytes) -> Reference:
    """A reference from its file; `ReferenceFileError` with the place when it is damaged or of a newer format."""
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReferenceFileError(f"reference: not a whole JSON document ({len(raw)} bytes): {error}") from error
    if not isinstance(document, dict) or "tripline_reference" not in document:
        raise ReferenceFileError("reference: not a Tripline reference (no `tripline_reference` in it)")
    version = document.pop("tripline_reference")
    if not isinstance(version, int) or version > REFERENCE_FORMAT or version < 1:
        raise ReferenceFileError(
            f"tripline_reference: format {version!r}; this Tripline reads up to {REFERENCE_FORMAT}"
        )
    found = document.pop("id", None)
    expected = _hash(document)
    if found != expected:
        raise ReferenceFileError(f"id: the file says {found!r}, its content is {expected!r}: changed or damaged")
    return _reference(document, expected)


def _hash(content: dict[str, Any]) -> str:
    return hashlib.blake2b(msgspec.json.encode(content, order="sorted"), digest_size=8).hexdigest()


def _content(reference: Reference) -> dict[str, Any]:
    outcomes = reference.outcomes
    parts = {} if reference.shadow is None else {"shadow": msgspec.to_builtins(reference.shadow)}
    if reference.batches is not None:
        parts["batches"] = msgspec.to_builtins(reference.batches)
    if reference.labels is not None:
        parts["labels"] = outcome_content(reference.labels, pack)
    if reference.silences.size:
        parts["silences"] = pack(reference.silences)
    if reference.served:
        parts["served"] = list(reference.served)
    if reference.derived is not None:
        parts["derived"] = {
            "inputs": [spec.name for spec in reference.derived.inputs],
            "scores": pack(reference.derived.scores, SCORE_BITS),
            "precision": pack(reference.derived.precision, MATRIX_BITS),
        }
    return {
        **parts,
        "model": reference.model,
        "kind": reference.kind,
        "timezone": reference.timezone,
        "start": reference.start,
        "end": reference.end,
        "n": reference.n,
        "segments": list(reference.segments),
        "excluded": [list(span) for span in reference.excluded],
        "provisional": reference.provisional,
        "findings": msgspec.to_builtins(reference.findings),
        "gaps": pack(reference.gaps),
        "specs": [msgspec.to_builtins(spec) for spec in reference.specs],
        "outcomes": None
        if outcomes is None
        else {"n": pack(outcomes.n), "positives": pack(outcomes.positives, STEP_BITS)},
        "views": [
            {
                "column": view.column,
                "value": view.value,
                "n": of_view.n,
                "features": {name: feature_content(feature) for name, feature in of_view.features.items()},
            }
            for view, of_view in sorted(reference.views.items())
        ],
    }


class _ViewDocument(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    value: str
    n: int
    features: dict[str, FeatureDocument]


class _DerivedDocument(msgspec.Struct, forbid_unknown_fields=True):
    inputs: tuple[str, ...]
    scores: dict[str, Any]
    precision: dict[str, Any]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    kind: str
    timezone: str
    start: int
    end: int
    n: int
    segments: tuple[str, ...]
    excluded: tuple[tuple[int, int], ...]
    provisional: str
    findings: tuple[Finding, ...]
    gaps: dict[str, Any]
    specs: tuple[FeatureSpec, ...]
    outcomes: dict[str, dict[str, Any]] | None
    views: list[_ViewDocument]
    shadow: Shadow | None = None
    batches: Batches | None = None
    labels: OutcomeDocument | None = None
    served: tuple[str, ...] = ()
    derived: _DerivedDocument | None = None
    silences: dict[str, Any] | None = None


def _reference(content: dict[str, Any], reference_id: str) -> Reference:
    try:
        document = msgspec.convert(content, _Document)
    except msgspec.ValidationError as error:
        raise ReferenceFileError(f"reference: {error}") from error
    specs = {spec.name: spec for spec in document.specs}
    views: dict[View, ViewReference] = {}
    for i, view in enumerate(document.views):
        features = {}
        for name, feature in view.features.items():
            place = f"views[{i}].features.{name}"
            if name not in specs:
                raise ReferenceFileError(f"{place}: no such feature in `specs`")
            features[name] = feature_loaded(feature, specs[name].width, place)
        if features.keys() != specs.keys():
            raise ReferenceFileError(f"views[{i}].features: {sorted(specs.keys() - features.keys())} are not there")
        ordered = {name: features[name] for name in specs}
        views[View(view.column, view.value)] = ViewReference(n=view.n, features=ordered)
    strange = [name for name in document.served if name not in specs or SERVED.get(name) != specs[name].kind]
    if strange:
        raise ReferenceFileError(f"served: {strange[0]!r} is not in `specs` as what an event may say of its serving")
    outcomes = None
    if document.outcomes is not None:
        width = specs["score"].width if "score" in specs else 0
        outcomes = OutcomeTable(
            n=unpack_ints(document.outcomes.get("n", {}), (width,), "outcomes.n"),
            positives=unpack(document.outcomes.get("positives", {}), (width,), STEP_BITS, "outcomes.positives"),
        )
    return Reference(
        model=document.model,
        kind=document.kind,
        timezone=document.timezone,
        start=document.start,
        end=document.end,
        n=document.n,
        segments=document.segments,
        excluded=document.excluded,
        provisional=document.provisional,
        findings=document.findings,
        gaps=unpack_ints(document.gaps, (HOURS,), "gaps"),
        silences=np.zeros(0, dtype=np.int64)
        if document.silences is None
        else unpack_ints(document.silences, (HOURS,), "silences"),
        specs=document.specs,
        views=views,
        outcomes=outcomes,
        shadow=document.shadow,
        batches=document.batches,
        labels=None if document.labels is None else outcome_loaded(document.labels, unpack),
        served=document.served,
        derived=None if document.derived is None else _derivation(document.derived, specs),
        id=reference_id,
    )


def _derivation(document: _DerivedDocument, specs: dict[str, FeatureSpec]) -> Derivation:
    strange = [name for name in document.inputs if name not in specs or specs[name].kind != "numeric"]
    if strange or not document.inputs:
        raise ReferenceFileError(f"derived.inputs: {strange[:1]} are no numeric features in `specs`")
    inputs, d = tuple(specs[name] for name in document.inputs), len(document.inputs)
    width = max(spec.width for spec in inputs)
    found = Derivation(
        inputs=inputs,
        scores=unpack(document.scores, (d, width), SCORE_BITS, "derived.scores"),
        precision=unpack(document.precision, (d, d), MATRIX_BITS, "derived.precision"),
    )
    if not set(found.names) <= specs.keys() or not (np.diag(found.precision) > 0).all():
        raise ReferenceFileError("derived: not what `specs` are made of")
    return found
