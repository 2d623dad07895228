"""What stage 1 makes of `Control`: for each layout the tables that it is counted into, for each input its decoder.

Why: everything that does not depend on a record is worked out once per change of the control topic, not per batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.bins import Binner, FeatureSpec
from detectors.derived import Derivation
from detectors.outcomes import OutcomeTable, outcome_spec
from detectors.profiles import Table
from detectors.references import Reference
from schemas.errors import ReferenceFileError
from schemas.layouts import Layout, Limits
from streamer.core.control import Control
from streamer.core.identities import identities, salt
from streamer.formats.shapes import DENIED, STRANGERS, Kind, Sketch, Wire

Ints: TypeAlias = npt.NDArray[np.int64]

#: Outputs of a prediction that a reference may know, as features of that name.
NUMERIC_OUTPUTS, CATEGORICAL_OUTPUTS = ("score", "value"), ("label",)
_WORDS = frozenset({"true", "false"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How rows of one layout are counted. outcomes: how theirs are; None where they are not joined.

    served: features that say how a prediction was served, `detectors.served`. derivation: how those are made that are
    derived from others.
    """

    layout: Layout
    id: str
    table: Table
    binner: Binner
    outcomes: OutcomeTable | None = None
    served: frozenset[str] = frozenset()
    derivation: Derivation | None = None

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Names of the numeric features, in order."""
        return tuple(spec.name for spec in self.table.numeric)

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """Names of the categorical features, in order."""
        return tuple(spec.name for spec in self.table.categorical)

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Features that are outputs of the prediction, not entries of `features`."""
        names = (*NUMERIC_OUTPUTS, *CATEGORICAL_OUTPUTS) if self.layout.kind == "predictions" else ()
        return frozenset(names) & {spec.name for spec in self.table.specs} | self.served | self.derived

    @cached_property
    def derived(self) -> frozenset[str]:
        """Features that are made of others."""
        return frozenset(() if self.derivation is None else self.derivation.names)

    @cached_property
    def derived_places(self) -> tuple[Ints, Ints]:
        """Places among the numeric features: of what derived ones are made of, and of these."""
        assert self.derivation is not None
        place = {name: at for at, name in enumerate(self.numeric)}
        inputs = [place[spec.name] for spec in self.derivation.inputs]
        return np.array(inputs), np.array([place[name] for name in self.derivation.names])


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPlan:
    """The layouts of one model of one kind, ascending. waiting: from_ms of layouts whose reference is not here yet."""

    model: str
    plans: tuple[Plan, ...]
    waiting: tuple[int, ...]
    sketch: Sketch
    salt: int = field(init=False)
    from_ms: Ints = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "salt", salt(self.model))
        object.__setattr__(self, "from_ms", np.array([p.layout.from_ms for p in self.plans], dtype=np.int64))

    @property
    def window(self) -> int:
        """How many identities back an event may repeat another."""
        return max((plan.layout.duplicates_window for plan in self.plans), default=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plans:
    """All plans of a `Control`, by kind of input and model."""

    control: Control
    models: dict[Kind, dict[str, ModelPlan]]

    @classmethod
    def of(cls, control: Control) -> Plans:
        """Work out the plans of `control`."""
        models: dict[Kind, dict[str, ModelPlan]] = {"predictions": {}, "features": {}}
        for model, layouts in control.models.items():
            for kind, of_kind in models.items():
                chosen = [layout for layout in layouts if layout.kind == kind]
                if chosen:
                    of_kind[model] = _model_plan(model, chosen, control)
        return cls(control=control, models=models)

    def serve(self, control: Control) -> bool:
        """True when `control` says nothing that these plans do not know."""
        here = self.control
        return (
            control.models is here.models
            and control.references is here.references
            and control.mappings is here.mappings
        )

    @cached_property
    def denying(self) -> bool:
        """Some model has features that may not be read: no record may be kept whole."""
        return any(layout.features.given for layouts in self.control.models.values() for layout in layouts)

    @cached_property
    def layout_ids(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """(id, from_ms) of every layout whose reference is here, by model."""
        found: dict[str, tuple[tuple[str, int], ...]] = {}
        for of_kind in self.models.values():
            for model, plan in of_kind.items():
                found[model] = (*found.get(model, ()), *((p.id, p.layout.from_ms) for p in plan.plans))
        return found

    @cached_property
    def partitions(self) -> dict[str, frozenset[int]]:
        """Partitions of `profiles` that carry a model."""
        return {
            model: frozenset(layout.partition for layout in layouts) for model, layouts in self.control.models.items()
        }

    @cached_property
    def profiles(self) -> int:
        """How many partitions `profiles` has; as many as are named where the cluster is not described."""
        if self.control.cluster is not None:
            return self.control.cluster.profiles
        return max((max(partitions) + 1 for partitions in self.partitions.values()), default=1)

    @cached_property
    def joined(self) -> dict[str, tuple[OutcomeTable, ...]]:
        """Tables of outcomes of the models that have any, in the order of the names."""
        found = {
            model: tuple(one.outcomes for one in plan.plans if one.outcomes is not None)
            for model, plan in sorted(self.models["predictions"].items())
        }
        return {model: tables for model, tables in found.items() if tables}

    def join_keys(self, ids: Sequence[str | None]) -> npt.NDArray[np.uint64] | None:
        """What ids are joined by, (n,), whatever the model; None where nothing is joined."""
        if not self.joined:
            return None
        cut = self.string_length + 1
        return identities([(text or "")[:cut] for text in ids], np.zeros(len(ids), dtype=np.uint64))[0]

    @cached_property
    def pending_rows(self) -> int:
        """How many predictions of a task may wait for outcomes."""
        return max((limits.pending_rows for limits in self._limits), default=0)

    @cached_property
    def string_length(self) -> int:
        """Length of an id that may be looked up at all."""
        return max((limits.string_length for limits in self._limits), default=256)

    @cached_property
    def window(self) -> int:
        """The longest window of identities of any model."""
        return max((plan.window for plan in self.models["predictions"].values()), default=0)

    @cached_property
    def event_bytes(self) -> int:
        """Size of a value that may be decoded at all."""
        return max((limits.event_bytes for limits in self._limits), default=1_000_000)

    @cached_property
    def nesting(self) -> int:
        """Depth of a value that may be decoded at all."""
        return max((limits.nesting for limits in self._limits), default=32)

    @property
    def _limits(self) -> list[Limits]:
        return [layout.limits for layouts in self.control.models.values() for layout in layouts]

    def sketches(self, kind: Kind) -> dict[str, Sketch]:
        """What the decoder of an input must know, by model."""
        return {model: plan.sketch for model, plan in self.models[kind].items()}


def _model_plan(model: str, layouts: list[Layout], control: Control) -> ModelPlan:
    plans, waiting = [], []
    for layout in layouts:
        reference = control.reference(layout.reference)
        if reference is None:
            waiting.append(layout.from_ms)
            continue
        if denied := denied_of(reference, layout):
            raise ReferenceFileError(
                f"model {model}: layout {layout.id} denies {', '.join(denied)}, which it or its reference would count"
            )
        table, binner = _tables(reference.specs)
        outcomes = outcome_table(reference, layout)
        plans.append(
            Plan(
                layout=layout,
                id=layout.id,
                table=table,
                binner=binner,
                outcomes=outcomes,
                served=frozenset(reference.served if layout.kind == "predictions" else ()),
                derivation=reference.derived,
            )
        )
    return ModelPlan(model=model, plans=tuple(plans), waiting=tuple(waiting), sketch=_sketch(plans, layouts))


def denied_of(reference: Reference, layout: Layout) -> tuple[str, ...]:
    """What a layout denies though its reference or its segments count it; outputs, and what is made of others, do not.

    A worker stops at such a layout: it is `tripline apply` that refuses to publish one.
    """
    if not layout.features.given:
        return ()
    aside = set(() if reference.derived is None else reference.derived.names)
    if reference.kind == "predictions":
        aside |= {*NUMERIC_OUTPUTS, *CATEGORICAL_OUTPUTS, *reference.served}
    names = [spec.name for spec in reference.specs if spec.name not in aside]
    counted = dict.fromkeys((*names, *layout.segments, *layout.marginals))
    return tuple(name for name in counted if not layout.features.permits(name))


def outcome_table(reference: Reference, layout: Layout) -> OutcomeTable | None:
    """How outcomes of a layout's predictions are counted; None where they are not joined."""
    if layout.horizon_ms <= 0 or layout.kind != "predictions":
        return None
    spec = outcome_spec(reference, layout)
    return None if spec is None else OutcomeTable(spec)


@lru_cache(maxsize=1024)
def _tables(specs: tuple[FeatureSpec, ...]) -> tuple[Table, Binner]:
    """One table and binner for all tasks of a worker that count by the same reference."""
    return Table(specs), Binner(specs)


def _sketch(plans: list[Plan], layouts: list[Layout]) -> Sketch:
    features: dict[str, Wire] = {}
    # The newest layout's order first: it is the one of the events to come.
    for plan in reversed(plans):
        for spec in plan.table.specs:
            if spec.name not in plan.outputs:
                wire = _wire(spec)
                features[spec.name] = wire if features.get(spec.name, wire) == wire else "scalar"
    segments = dict.fromkeys(name for layout in layouts for name in (*layout.segments, *layout.marginals))
    return Sketch(
        features=features,
        segments=tuple(segments),
        string_length=max(layout.limits.string_length for layout in layouts),
        event_bytes=max(layout.limits.event_bytes for layout in layouts),
        strangers=DENIED if any(layout.features.given for layout in layouts) else STRANGERS,
    )


def _wire(spec: FeatureSpec) -> Wire:
    if spec.kind == "numeric":
        return "number"
    return "text" if spec.levels and not any(map(_may_be_unquoted, spec.levels)) else "scalar"


def _may_be_unquoted(level: str) -> bool:
    """True for a level that may come as a JSON number or boolean."""
    if level in _WORDS:
        return True
    try:
        float(level)
    except ValueError:
        return False
    return True


def missing_reference(model: str, plans: Mapping[str, ModelPlan]) -> ReferenceFileError:
    """The error for rows of a layout whose reference is not in the control topic: its publisher did not finish."""
    waiting = ", ".join(str(from_ms) for from_ms in plans[model].waiting)
    return ReferenceFileError(
        f"model {model}: the reference of its layout from {waiting} is not whole in the control topic; "
        "run `tripline apply` again"
    )
