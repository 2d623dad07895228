"""What of a layout follows from a model's section of the file and its reference together, and where they disagree."""

from __future__ import annotations

import fnmatch
from typing import Any, Literal

from detectors.outcomes import outcome_spec
from detectors.references import Reference
from schemas.errors import ConfigurationError
from schemas.layouts import Expectation, Layout, ReportLimit, View
from streamer import config as configuration
from streamer import spans
from streamer.complaints import nearest
from streamer.config import Loaded
from streamer.config_conditions import view_of
from streamer.config_misfits import undeniable, unmet, unreported, unwatchable

_HOUR_MS = 3_600_000

#: Labels of a model that has learned no other delay are judged at most so long after their pane.
MATURITY_MS = 86_400_000


def kind_of(model: configuration.Model, reference: Reference) -> Literal["predictions", "features"]:
    """`predictions` or `features`: as configured, else as the reference was learned."""
    return model.kind or ("predictions" if reference.kind == "predictions" else "features")


def views_of(model: configuration.Model, reference: Reference, *, most: int) -> tuple[View, ...]:
    """What is tested: the model, and each version and segment value that the reference knows by itself.

    At most `most`, those with the most reference rows first.
    """
    columns = {"version", *model.segments}
    own = [view for view in reference.views if view.column in columns]
    own.sort(key=lambda view: (-reference.views[view].n, view))
    return (View(), *sorted(own[: most - 1]))


def outcomes_of(model: configuration.Model, reference: Reference) -> dict[str, Any]:
    """Fields of a layout that say how outcomes are joined; none where the model has no outcomes."""
    outcomes = model.outcomes
    if outcomes is None:
        return {}
    maturity = outcomes.maturity
    if maturity is None and reference.labels is not None and reference.labels.maturity_ms:
        # As the reference's own labels came, to the second.
        maturity = min(-(-reference.labels.maturity_ms // 1000) * 1000, outcomes.horizon)
    return {
        "outcome_pane_ms": outcomes.pane,
        "maturity_ms": min(outcomes.horizon // 7, MATURITY_MS) if maturity is None else maturity,
        "horizon_ms": outcomes.horizon,
        "early_outcome_wait_ms": outcomes.early_outcome_wait,
        "positive": outcomes.positive or "",
        "also": tuple(outcomes.also),
        "reported": tuple(
            ReportLimit(
                metric=one.metric,
                above=one.above,
                below=one.below,
                view=view_of(one.view),
                least=one.rows,
                coverage=one.coverage,
            )
            for one in outcomes.watch
        ),
    }


def expectations_of(expect: configuration.Expectations) -> tuple[Expectation, ...]:
    """Hard rules of a layout, by feature; that on rows last."""
    rules = [
        Expectation(
            feature=feature,
            missing_below=rule.missing_below,
            range=None if rule.range is None else (rule.range[0], rule.range[1]),
            required=rule.required,
            levels_closed=rule.levels == "closed",
        )
        for feature, rule in sorted((expect.__pydantic_extra__ or {}).items())
    ]
    if expect.rows_at_least is not None:
        rules.append(Expectation(feature="", rows_at_least=expect.rows_at_least))
    return tuple(rules)


def _unjoinable(
    loaded: Loaded, name: str, model: configuration.Model, reference: Reference
) -> list[ConfigurationError]:
    """Why outcomes of a model could not be counted."""
    asked = Layout(model=name, from_ms=0, reference=reference.id, **outcomes_of(model, reference))
    try:
        spec = outcome_spec(reference, asked)
    except ConfigurationError as error:
        return [loaded.fault("models", name, "outcomes", "positive", message=error.message.removeprefix("positive: "))]
    if spec is None:
        message = "nothing to compare outcomes with: the reference knows no score, value, or label of up to 100 classes"
        return [loaded.fault("models", name, "outcomes", message=message)]
    return []


def misfits(loaded: Loaded, name: str, model: configuration.Model, reference: Reference) -> list[ConfigurationError]:
    """What the file says of a model that its reference contradicts."""
    faults = []
    place = ("models", name)
    features = [spec.name for spec in reference.specs]
    if not features:
        faults.append(loaded.fault(*place, "reference", message="has no feature that could be watched"))
    for feature, rule in (model.expect.__pydantic_extra__ or {}).items():
        spec = reference.spec(feature)
        where = (*place, "expect", feature)
        if spec is None:
            faults.append(loaded.fault(*where, message="is not in the reference" + nearest(feature, features)))
        elif rule.range is not None and spec.kind != "numeric":
            faults.append(loaded.fault(*where, "range", message="is for numbers; the feature is categorical"))
        elif rule.levels is not None and spec.kind != "categorical":
            faults.append(loaded.fault(*where, "levels", message="is for levels; the feature is numeric"))
    if model.outcomes is not None and kind_of(model, reference) != "predictions":
        faults.append(loaded.fault(*place, "outcomes", message="are for predictions; this is a feature set"))
    elif model.outcomes is not None:
        faults += _unjoinable(loaded, name, model, reference)
    tested = views_of(model, reference, most=loaded.config.limits.tested_views)
    faults += unmet(loaded, name, reference, views=tested)
    faults += unwatchable(loaded, name, reference)
    asked = Layout(model=name, from_ms=0, reference=reference.id, views=tested, **outcomes_of(model, reference))
    faults += unreported(loaded, name, asked, reference)
    faults += undeniable(loaded, name, reference)
    for feature in model.weights:
        if feature not in features:
            faults.append(
                loaded.fault(*place, "weights", feature, message="is not in the reference" + nearest(feature, features))
            )
    for i, pattern in enumerate(model.ignore):
        if not fnmatch.filter(features, pattern):
            faults.append(
                loaded.fault(*place, "ignore", i, message=f"no feature is {pattern!r}" + nearest(pattern, features))
            )
    if features and all(any(fnmatch.fnmatchcase(f, p) for p in model.ignore) for f in features):
        faults.append(loaded.fault(*place, "ignore", message="leaves no feature to be tested"))
    cut = reference.batches
    if (cut is None) != (model.batch_gap is None):
        how = "was not cut into batches" if cut is None else "was cut into batches: `pane: batch` goes with it"
        faults.append(loaded.fault(*place, "pane", message=f"the reference {how} (`reference build --batch-gap`)"))
    elif cut is not None and cut.gap_ms != model.batch_gap:
        gap = spans.words(cut.gap_ms)
        faults.append(loaded.fault(*place, "batch_gap", message=f"is {gap} in the reference, which must be cut alike"))
    between = model.pane if cut is None else cut.spacing_ms
    if model.false_alarms.budget_ms / model.false_alarms.false_alarms < 10 * between:
        least, what = spans.words(-(-10 * between // _HOUR_MS) * _HOUR_MS), "panes" if cut is None else "batches"
        words = f"must be at most one in ten {what} of this model, for instance 1 per {least}"
        faults.append(loaded.fault(*place, "false_alarms", message=words))
    return faults
