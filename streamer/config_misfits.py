"""What a model's conditions and limits say that its reference contradicts, each fault at its place in the file."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from detectors.catalogue import STATISTICS
from detectors.outcome_frames import names_of
from detectors.references import Reference
from detectors.reported import metrics_of, words
from detectors.served import SERVED
from schemas.errors import ConfigurationError
from schemas.layouts import Condition, Layout, View
from streamer.complaints import nearest
from streamer.config import Loaded
from streamer.config_conditions import Group, Line, Place, condition_of, leaves
from streamer.core.conditions import needs_drift
from streamer.core.plans import CATEGORICAL_OUTPUTS, NUMERIC_OUTPUTS, denied_of, outcome_table

#: What an event says beside its features.
_NO_FEATURES = frozenset((*NUMERIC_OUTPUTS, *CATEGORICAL_OUTPUTS, "proba", *SERVED))


def unmet(loaded: Loaded, name: str, reference: Reference, *, views: Sequence[View]) -> list[ConfigurationError]:
    """Conditions that can never hold, or that ask for a retraining because of broken data."""
    faults: list[ConfigurationError] = []
    model = loaded.config.models[name]
    named, document = loaded.config.conditions, loaded.document
    features = [spec.name for spec in reference.specs]
    if model.outcomes is not None:
        features += [*names_of(reference), *(limit.metric for limit in model.outcomes.watch)]
    places: list[tuple[Place, Line | Group]] = []
    for i, policy in enumerate(model.retrain):
        place: Place = ("models", name, "retrain", i, "when")
        places.append((place, policy.when))
        if not needs_drift(condition_of(policy.when, named)):
            message = "may hold without a drift: broken data is no reason to retrain"
            faults.append(document.fault(document.known(place), message))
    if model.page_when is not None:
        places.append((("models", name, "page_when"), model.page_when))
    for place, expression in places:
        for inner, one in leaves(expression):
            where = document.known((*place, *inner))
            for leaf in _lines_of(one, named):
                if leaf.feature and not fnmatch.filter(features, leaf.feature):
                    message = f"no feature is {leaf.feature!r}{nearest(leaf.feature, features)}"
                    faults.append(document.fault(where, message))
                if leaf.view is not None and leaf.view not in views:
                    tested = ", ".join(map(str, sorted(views)))
                    faults.append(document.fault(where, f"{leaf.view} is not tested; {tested} are"))
    return faults


def undeniable(loaded: Loaded, name: str, reference: Reference) -> list[ConfigurationError]:
    """Lists of features that the reference contradicts: it holds what is denied, or what is named is no feature."""
    section = loaded.config.models[name].features
    asked = Layout(model=name, from_ms=0, reference=reference.id, features=section.lists)
    faults = [
        loaded.document.fault(
            loaded.document.known(("models", name, "features", "deny", i)),
            f"{pattern} is an output of the model, not one of its features: `ignore` leaves it untested",
        )
        for i, pattern in enumerate(section.deny or ())
        if reference.kind == "predictions" and pattern in _NO_FEATURES
    ]
    denied = denied_of(reference, asked)
    if denied:
        message = f"the reference was learned with {_few(denied)}: build it anew, `tripline reference build … -c FILE`"
        faults.append(loaded.fault("models", name, "features", message=message))
    return faults


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def unwatchable(loaded: Loaded, name: str, reference: Reference) -> list[ConfigurationError]:
    """Limits on statistics that the reference does not know, or that do not fit."""
    faults: list[ConfigurationError] = []
    seen: set[tuple[str, str, str]] = set()
    model = loaded.config.models[name]
    features = [spec.name for spec in reference.specs]
    for i, limit in enumerate(model.watch):
        spec, where = reference.spec(limit.feature), ("models", name, "watch", i)
        if spec is None:
            message = "is not in the reference" + nearest(limit.feature, features)
            faults.append(loaded.fault(*where, "feature", message=message))
        elif STATISTICS[limit.statistic].ordered and spec.kind != "numeric":
            faults.append(loaded.fault(*where, "statistic", message="is for numbers; the feature is categorical"))
        key = (limit.feature, limit.statistic, "" if limit.detector is None else limit.detector.name)
        if key in seen:
            how = "limited" if limit.detector is None else f"watched by {limit.detector.name}"
            faults.append(loaded.fault(*where, message=f"{limit.statistic} of {limit.feature} is {how} twice"))
        seen.add(key)
    return faults


def unreported(loaded: Loaded, name: str, layout: Layout, reference: Reference) -> list[ConfigurationError]:
    """Limits on numbers that no report will have, or that are there twice."""
    try:
        table = outcome_table(reference, layout) if layout.reported else None
    except ConfigurationError:
        table = None  # said already
    if table is None:
        return []
    faults: list[ConfigurationError] = []
    metrics, seen = metrics_of(table.spec), set[str]()
    for i, limit in enumerate(layout.reported):
        where = ("models", name, "outcomes", "watch", i)
        if limit.metric not in metrics:
            message = f"is in no report of this {table.spec.kind} model{nearest(limit.metric, [*metrics])}"
            faults.append(loaded.fault(*where, "metric", message=f"{message}; there are {', '.join(metrics)}"))
        if limit.view not in layout.views:
            tested = ", ".join(map(str, sorted(layout.views)))
            faults.append(loaded.fault(*where, "view", message=f"{limit.view} is not tested; {tested} are"))
        if words(limit) in seen:
            faults.append(loaded.fault(*where, message=f"{words(limit)} stands twice"))
        seen.add(words(limit))
    return faults


def _lines_of(one: Line, named: Mapping[str, Line | Group]) -> list[Condition]:
    """Leaves behind one line: its own, or all of the condition that it names."""
    if one.leaf is not None:
        return [one.leaf]
    return [leaf for _, inner in leaves(named[one.name]) for leaf in _lines_of(inner, named)]
