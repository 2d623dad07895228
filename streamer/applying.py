"""A configuration and its references become layouts, and layouts that differ from those in force come into force.

Why: workers never read the file while they count. What changes a result travels on `control` as a layout with an event
time from which it holds, far enough ahead that every worker learns of it in time; so a replay counts as the run did.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from detectors.references import Reference, dumps, loads
from schemas.control import Cluster, InputMapping
from schemas.errors import ConfigurationError, ReferenceFileError
from schemas.events import FUTURE_MS
from schemas.layouts import (
    LAYOUT_FORMAT,
    LISTS_FORMAT,
    Layout,
    Limits,
    RetrainPolicy,
    Series,
    Watch,
)
from schemas.profiles import DISTRIBUTION, Delta, Progress
from streamer import config as configuration
from streamer import spans
from streamer.config import ConfigurationErrors, Loaded
from streamer.config_conditions import Group, Line, condition_of, lasting
from streamer.config_limits import too_large
from streamer.core.control import Control, publish_cluster, publish_layout, publish_mapping, publish_reference
from streamer.core.mappings import input_mapping
from streamer.core.records import Output
from streamer.formats.mapping import TopicMapping
from streamer.model_layouts import expectations_of, kind_of, misfits, outcomes_of, views_of

INPUTS = ("predictions", "features", "outcomes")
#: So many segment columns are crossed into cells; each further one is a table of its own.
CROSSED = 2
#: How far ahead of a model's time a new layout begins, at least: this, and two panes.
AHEAD_MS = 120_000
#: How long it may take until every worker knows of a layout; event time goes on meanwhile.
LEARNED_MS = 10_000
#: From so much of the log's end it is taken how fast event time goes.
PACE_MS = 30_000
#: Statistics that every report has.
ALWAYS = ("psi", "jensen_shannon", "ks")


@dataclass(frozen=True, kw_only=True)
class Remapping:
    """How one input is to be read from an append time on. before: as it is now; None where nothing was ever read."""

    mapping: InputMapping
    before: InputMapping | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One layout that is to come into force. before: the last one that is there; None for a new model."""

    layout: Layout
    before: Layout | None
    differences: tuple[str, ...]


def load_references(loaded: Loaded) -> dict[str, Reference]:
    """The reference of each model, from the files that the configuration names; every unusable one is reported."""
    references, faults = {}, []
    for name, model in loaded.config.models.items():
        path = loaded.path_of(model.reference)
        place = ("models", name, "reference")
        try:
            references[name] = loads(path.read_bytes())
        except OSError as error:
            faults.append(loaded.fault(*place, message=f"cannot be read: {path}: {error.strerror}"))
        except ReferenceFileError as error:
            faults.append(loaded.fault(*place, message=f"{path}: {error}"))
    if faults:
        raise ConfigurationErrors(faults)
    return references


def targets(loaded: Loaded, references: Mapping[str, Reference]) -> dict[str, Layout]:
    """The layout that the file asks for, per model, as if it held from 0 on; every misfit with a reference raises."""
    faults = list(too_large(loaded, references))
    layouts = {}
    for name, model in loaded.config.models.items():
        reference = references[name]
        faults += misfits(loaded, name, model, reference)
        layouts[name] = layout_of(
            name, model, reference, limits=loaded.config.limits, conditions=loaded.config.conditions
        )
    if faults:
        raise ConfigurationErrors(faults)
    return layouts


def layout_of(
    name: str,
    model: configuration.Model,
    reference: Reference,
    *,
    limits: configuration.LimitsSection | None = None,
    conditions: Mapping[str, Line | Group] | None = None,
    from_ms: int = 0,
) -> Layout:
    """How `model` is counted and judged against `reference`, from event time `from_ms` on. conditions: by name."""
    named = conditions or {}
    bounds = (limits or configuration.LimitsSection()).model_dump()
    window = bounds.pop("duplicates_window")
    # The others bound the file and the worker; they change no result.
    bounds = {name: bounds[name] for name in Limits.__struct_fields__}
    views = views_of(model, reference, most=bounds["tested_views"])
    monitored = tuple(
        spec.name
        for spec in reference.specs
        if not any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in model.ignore)
    )
    cut = reference.batches if model.batch_gap else None
    lists = model.features.lists
    return Layout(
        model=name,
        format=LISTS_FORMAT if lists.given else LAYOUT_FORMAT,
        features=lists,
        from_ms=from_ms,
        reference=reference.id,
        kind=kind_of(model, reference),
        pane_ms=model.pane,
        batch_gap_ms=model.batch_gap or 0,
        lateness_ms=model.lateness,
        idle_after_ms=model.idle_after,
        hold_ms=model.hold,
        timezone=model.timezone or reference.timezone,
        segments=tuple(model.segments[:CROSSED]),
        marginals=tuple(model.segments[CROSSED:]),
        views=views,
        monitored=monitored,
        monitors=max(1, len(views) * len(monitored)),
        tolerance=model.tolerance,
        strict=model.strict,
        compare_days=model.compare.days,
        compare_lag=model.compare.lag,
        calendar=dict(sorted(model.calendar.items())),
        weights=dict(sorted(model.weights.items())),
        false_alarms=model.false_alarms.false_alarms,
        # In batches: as many slots as batches come in that time.
        budget_ms=model.false_alarms.budget_ms
        * (1 if cut is None else model.pane)
        // (1 if cut is None else cut.spacing_ms),
        page_provisional=model.page_provisional,
        clear_for=model.clear_for,
        cooldown_panes=model.cooldown,
        expect=expectations_of(model.expect),
        policies=tuple(
            RetrainPolicy(
                name=policy.name,
                for_ms=lasting(policy.when),
                condition=condition_of(policy.when, named),
                cooldown_ms=policy.cooldown,
                mode=policy.mode,
                approval_expires_ms=policy.approval_expires,
            )
            for policy in model.retrain
        ),
        owner=model.owner,
        runbook=model.runbook,
        links=dict(model.links),
        severity=model.severity,
        statistics=tuple(dict.fromkeys(name for name in model.statistics if name not in ALWAYS)),
        watch=tuple(
            Watch(feature=one.feature, statistic=one.statistic, above=one.above)
            for one in model.watch
            if one.above is not None
        ),
        series=tuple(
            Series(feature=one.feature, statistic=one.statistic, detector=one.detector)
            for one in model.watch
            if one.detector is not None
        ),
        page_when=None if model.page_when is None else condition_of(model.page_when, named),
        max_alert_age_ms=model.max_alert_age,
        duplicates_window=window,
        limits=Limits(**bounds),
        **outcomes_of(model, reference),
    )


def refuse_batches(loaded: Loaded) -> None:
    """Only a table has batches: `ConfigurationErrors` where a stream is to be cut into them."""
    faults = [
        loaded.fault(
            "models", name, "pane",
            message="batch is for tables (`tripline backtest`): a stream's panes have one length, for instance 1d",
        )
        for name, model in loaded.config.models.items()
        if model.batch_gap is not None
    ]  # fmt: skip
    if faults:
        raise ConfigurationErrors(faults)


def plan(
    wanted: Mapping[str, Layout],
    control: Control,
    *,
    profiles: int,
    rates: Mapping[str, float],
    times: Mapping[str, int],
    since: int | None = None,
) -> list[Change]:
    """Layouts that differ from the last ones in `control`, each with its `from_ms` and its `profiles` partition.

    profiles: partitions of the topic. rates: events a day per model. times: how far event time of a model has come.
    since: event time asked for; rounded up to a pane of both layouts, and refused when it is not ahead.
    """
    placed = {name: layouts[-1].partition for name, layouts in control.models.items()}
    load = [0.0] * profiles
    for name, partition in placed.items():
        load[partition % profiles] += rates.get(name, 1.0)
    changes = []
    # The busiest first: greedy placement is then within a third of the best.
    for name in sorted(wanted, key=lambda name: (-rates.get(name, 1.0), name)):
        layouts = control.models.get(name, ())
        if not layouts:
            partition = min(range(profiles), key=lambda p: (load[p], p))
            load[partition] += rates.get(name, 1.0)
            layout = msgspec.structs.replace(wanted[name], partition=partition)
            changes.append(Change(layout=layout, before=None, differences=()))
            continue
        last = layouts[-1]
        target = msgspec.structs.replace(wanted[name], partition=last.partition)
        differences = differing(last, target)
        if differences:
            from_ms = _from(last, target, time=times.get(name, 0), since=since)
            layout = msgspec.structs.replace(target, from_ms=from_ms)
            changes.append(Change(layout=layout, before=last, differences=differences))
    return sorted(changes, key=lambda change: change.layout.model)


def times_heard(said: Iterable[tuple[int, Delta | Progress]], models: Iterable[str], *, now: int) -> dict[str, int]:
    """How far each model's event time may have come by the time that workers learn of a layout.

    said: what sources wrote of late, with append times; now: the log's, ms. Ahead of a model's maximum its watermark is
    by no more than the time since its last events, as silence moves it; and a history that is caught up with goes
    faster than the clock. Of a model without late events that time is not known: it is taken to stand where the clock
    stands, and the five minutes that a producer may be ahead of it. Later than the truth is safe, earlier is not.

    >>> times_heard([(1_000, Progress(0, 0, 1, 0, 1, 1, True, {"m": 7}))], ["m"], now=1_000)
    {'m': 301000}
    """
    maxima: dict[str, int] = {}
    first: dict[str, tuple[int, int]] = {}
    last: dict[str, tuple[int, int]] = {}
    begin = now - PACE_MS
    for at, one in said:
        now = max(now, at)
        if isinstance(one, Delta) and one.kind == DISTRIBUTION:
            maxima[one.model] = max(one.max_ts, maxima.get(one.model, one.max_ts))
            last[one.model] = at, maxima[one.model]
            if at >= begin:
                first.setdefault(one.model, (at, one.max_ts))
        elif isinstance(one, Progress):
            maxima |= {model: max(ts, maxima.get(model, ts)) for model, ts in one.maxima.items()}
    times = dict.fromkeys(models, now + FUTURE_MS)
    for model, (until, reached) in last.items():
        since, ts = first.get(model, (until, reached))
        pace = max(1.0, (reached - ts) / max(until - since, 1_000))
        times[model] = maxima[model] + now - until + int(pace * LEARNED_MS)
    return times


def begin_anew(model: str, control: Control, *, times: Mapping[str, int], word: str) -> Change:
    """The layout in force once more, a pane ahead, with a word on why: what was learned until then is forgotten.

    times: how far event time of a model has come. word: whose, and why.
    """
    last = control.models[model][-1]
    from_ms = _from(last, last, time=times.get(model, 0), since=None)
    layout = msgspec.structs.replace(last, from_ms=from_ms, reset=word)
    return Change(layout=layout, before=last, differences=("reset",))


def differing(before: Layout, after: Layout) -> tuple[str, ...]:
    """Names of what differs in two layouts, where it stands and when it begins aside."""
    aside = {"from_ms", "partition", "format", "reset"}
    names = (name for name in Layout.__struct_fields__ if name not in aside)
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def remappings(
    wanted: Mapping[str, TopicMapping], control: Control, *, now: int, since: int | None = None
) -> list[Remapping]:
    """Inputs that the file reads by another mapping than the last one in `control`.

    now: append time of the log's ends, ms. What is in use changes two minutes ahead, or at `since` when that is later;
    an input of which no model is in force is read so from its beginning.
    """
    found = []
    for name in INPUTS:
        last = (*control.mappings.get(name, ()),)[-1:]
        before = last[0] if last else input_mapping(name, None)
        asked = input_mapping(name, wanted.get(name))
        if msgspec.structs.replace(before, from_ms=0) == asked:
            continue
        used = bool(last) or any(_reads(layout, name) for layouts in control.models.values() for layout in layouts)
        earliest = max(now + AHEAD_MS, before.from_ms + 1, since or 0) if used else 0
        mapping = msgspec.structs.replace(asked, from_ms=earliest)
        found.append(Remapping(mapping=mapping, before=before if used else None))
    return found


def _reads(layout: Layout, name: str) -> bool:
    return layout.kind == name or (name == "outcomes" and layout.horizon_ms > 0)


def records(changes: Sequence[Change], references: Mapping[str, Reference], control: Control) -> list[Output]:
    """Records for `control`: references that are not there yet, then the layouts that use them."""
    outputs: list[Output] = []
    sent: set[str] = set()
    for change in changes:
        reference = references[change.layout.model]
        if control.reference(reference.id) is None and reference.id not in sent:
            outputs += publish_reference(reference.id, dumps(reference))
            sent.add(reference.id)
    return [*outputs, *(publish_layout(change.layout) for change in changes)]


def control_of(
    wanted: Mapping[str, Layout],
    references: Mapping[str, Reference],
    *,
    sources: int = 1,
    profiles: int = 1,
    mappings: Mapping[str, TopicMapping] | None = None,
) -> Control:
    """A control in which layouts and mappings are in force from the beginning: for `backtest`, stories and tests."""
    changes = plan(wanted, Control(), profiles=profiles, rates={}, times={})
    first = publish_cluster(Cluster(sources=sources, profiles=profiles))
    control = Control()
    how = [publish_mapping(one.mapping) for one in remappings(mappings or {}, Control(), now=0)]
    for offset, output in enumerate([first, *how, *records(changes, references, control)]):
        control = control.apply(output.key, output.value, offset=offset)
    return control


def rate_of(reference: Reference) -> float:
    """Events a day in the reference; all of them when it has no times."""
    return reference.n / reference.days if reference.days >= 1 else float(reference.n)


def in_words(change: Change | Remapping) -> str:
    """One line for a person."""
    if isinstance(change, Remapping):
        return _mapping_in_words(change)
    layout = change.layout
    tested = f"{len(layout.monitored)} features × {len(layout.views)} views"
    if change.before is None:
        return f"{layout.model}: new, from the beginning: {tested}, reference {layout.reference}, layout {layout.id}"
    return (
        f"{layout.model}: from {spans.rfc3339(layout.from_ms)}: {', '.join(change.differences)} changed; {tested}, "
        f"reference {layout.reference}, layout {layout.id}"
    )


def differing_in_words(change: Change | Remapping) -> str:
    """One line for a person who has not asked from when on it would hold."""
    if isinstance(change, Remapping) or change.before is None:
        return in_words(change)
    return f"{change.layout.model}: {', '.join(change.differences)} differ{'s' * (len(change.differences) == 1)}"


def _mapping_in_words(change: Remapping) -> str:
    mapping = change.mapping
    how = "as events of Tripline's own" if mapping.native else f"by a mapping of {', '.join(sorted(mapping.fields))}"
    if change.before is None:
        return f"input {mapping.input}: read {how}, from the beginning"
    return f"input {mapping.input}: what is appended from {spans.rfc3339(mapping.from_ms)} on is read {how}"


def _from(last: Layout, target: Layout, *, time: int, since: int | None) -> int:
    # An outcome pane belongs to one layout.
    outcome_panes = [one.outcome_pane_ms for one in (last, target) if one.horizon_ms]
    step = math.lcm(last.pane_ms, target.pane_ms, *outcome_panes)
    earliest = max(time + max(AHEAD_MS, 2 * last.pane_ms, 2 * target.pane_ms), last.from_ms + 1)
    if since is not None:
        if since < earliest:
            raise ConfigurationError(
                f"--from {spans.rfc3339(since)}: {target.model} has come to {spans.rfc3339(time)}; the earliest is "
                f"{spans.rfc3339(-(-earliest // step) * step)}, two panes and two minutes ahead"
            )
        earliest = since
    return -(-earliest // step) * step
