"""A story: a reference by recipe, a stream by recipe and seed, and lines that say what must happen.

It runs through both cores as the stream does: events as JSON, decoded, counted, judged; only the broker is a list.
Pane 0 is the first of the stream; an alert is said to fire, or resolve, at the pane whose close said so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from detectors.building import ReferenceBuilder
from detectors.references import Reference
from detectors.rows import Rows
from schemas.alerts import Incident, Mark
from schemas.layouts import Layout
from schemas.triggers import Approval, RetrainTrigger
from schemas.verdicts import WindowReport
from streamer import spans
from streamer.applying import control_of, layout_of
from streamer.complaints import complaints
from streamer.config import ConfigurationErrors, Model, Section
from streamer.config_fields import Instant, Int
from streamer.core.control import publish_approval, publish_mark
from streamer.core.records import PlainRecord
from streamer.documents import read
from streamer.recipes import Change, Drawn, Recipe, chosen_rows, draw
from streamer.replaying import Replay
from streamer.story_lines import failure, is_known

#: Events of one batch; a pause in them of more than this share of a pane lets the source say that it is caught up.
BATCH = 500
PAUSE = 0.5
#: From an event to its append, ms.
DELAY_MS = 40


def _line(value: object) -> object:
    """`- pane 3: drift` is a mapping to YAML, and a line to people."""
    if isinstance(value, dict) and len(value) == 1:
        [(key, rest)] = value.items()
        return f"{key}: {rest}"
    return value


class Word(Section):
    """A person's word when a pane has closed: on the first pending trigger, or on the last incident."""

    pane: Int
    decision: Literal["approve", "reject", "mark false", "mark true"]


class Story(Section):
    """A scenario file. model: an entry of the configuration, without its reference."""

    story: str
    why: str = ""
    seed: Int = 1
    start: Instant = spans.instant("2025-01-06")
    days: Int = Field(default=14, description="Length of the reference, which ends where the stream starts.")
    rows: Annotated[Int, Field(ge=1)] = Field(default=60, description="Events a pane.")
    panes: Annotated[Int, Field(ge=1)] = 30
    features: dict[str, Recipe] = Field(min_length=1)
    outputs: dict[Literal["score", "value", "label"], Recipe] = Field(default={})
    segments: dict[str, dict[str, float]] = Field(default={})
    versions: dict[str, float] = Field(default={})
    reference_changes: list[Change] = Field(default=[])
    changes: list[Change] = Field(default=[])
    words: list[Word] = Field(default=[])
    model: Model
    expect: list[Annotated[str, BeforeValidator(_line)]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _with_reference(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(model := data.get("model", {}), dict):
            segments = list(data.get("segments") or {})
            return {**data, "model": {"reference": "-", "pane": "1h", "segments": segments, **model}}
        return data

    @property
    def kind(self) -> Literal["predictions", "features"]:
        """What its events are."""
        return "predictions" if self.outputs else "features"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What happened. failures: lines that did not come true, with what did."""

    story: Story
    reference: Reference
    layout: Layout
    windows: list[WindowReport]
    incidents: list[Incident]
    triggers: list[RetrainTrigger]
    dropped: dict[str, int]
    applied: int
    failures: list[str]

    def pane(self, end: int) -> int:
        """Number of the pane that ends at `end`."""
        return (end - self.story.start) // self.layout.pane_ms - 1


def load_story(path: Path) -> Story:
    """A scenario file; `ConfigurationErrors` with every error in it."""
    document = read(path)
    try:
        story = Story.model_validate(document.data)
    except ValidationError as error:
        raise ConfigurationErrors([*document.faults, *complaints(error, document, Story)]) from None
    faults = list(document.faults)
    for i, line in enumerate(story.expect):
        if not is_known(line):
            faults.append(document.fault(("expect", i), f"is no line that is known, got {line!r}"))
    if faults:
        raise ConfigurationErrors(faults)
    return story


def run_story(story: Story) -> Told:
    """Learn the reference, run the stream, look at every line."""
    reference = learn(story)
    layout = layout_of("story", story.model, reference)
    replay = Replay(control_of({"story": layout}, {"story": reference}), windows=True)
    words = sorted(story.words, key=lambda word: word.pane)
    last, number = story.start, 0
    for arrival, group in _batches(story, layout):
        # A silence: the source says now and then that it has nothing, as a live one does every second.
        while arrival - last > PAUSE * layout.pane_ms:
            last += int(PAUSE * layout.pane_ms)
            replay.tick(story.kind, append_ts=last)
        records = [PlainRecord(story.kind, 0, number + i, at, None, raw) for i, (at, raw) in enumerate(group)]
        number += len(records)
        replay.records(story.kind, records)
        last = records[-1].timestamp
        while words and story.start + (words[0].pane + 1) * layout.pane_ms <= last:
            _say(replay, words.pop(0), last)
    end = story.start + story.panes * layout.pane_ms
    while end - last > PAUSE * layout.pane_ms:
        last += int(PAUSE * layout.pane_ms)
        replay.tick(story.kind, append_ts=last)
    replay.flush("story", story.kind)
    told = Told(
        story=story,
        reference=reference,
        layout=layout,
        windows=replay.said.windows,
        incidents=replay.said.incidents,
        triggers=list({trigger.id: trigger for trigger in replay.said.triggers}.values()),
        dropped=replay.dropped,
        applied=replay.applied,
        failures=[],
    )
    return replace(told, failures=[f"{line}: {wrong}" for line in story.expect if (wrong := failure(line, told))])


def learn(story: Story) -> Reference:
    """The reference of a story, from the days before its start."""
    pane = story.model.pane
    panes = story.days * spans.UNITS["d"] // pane
    drawn = _drawn(
        story, start=story.start - panes * pane, panes=panes, seed=story.seed + 1, changes=story.reference_changes
    )
    rows = Rows(ts=drawn.ts, columns=drawn.columns, version=drawn.version, segments=drawn.segments)
    zone = story.model.timezone or "UTC"
    builder = ReferenceBuilder("story", story.kind, timezone=zone, segments=tuple(story.segments))
    builder.survey(rows)
    builder.count(rows)
    return builder.finish()


def _drawn(story: Story, *, start: int, panes: int, seed: int, changes: list[Change]) -> Drawn:
    recipes: dict[str, Recipe] = {**story.features}
    recipes.update(story.outputs.items())
    return draw(
        recipes,
        segments=story.segments,
        versions=story.versions,
        start=start,
        pane_ms=story.model.pane,
        panes=panes,
        rows=story.rows,
        seed=seed,
        changes=changes,
    )


def _batches(story: Story, layout: Layout) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Events in the order of their arrival, up to a pause or BATCH: (arrival of the first, [(append time, JSON)])."""
    drawn = _drawn(story, start=story.start, panes=story.panes, seed=story.seed, changes=story.changes)
    pane = (drawn.ts - story.start) // layout.pane_ms
    arrival = drawn.ts + DELAY_MS
    order, again = np.arange(len(drawn)), []
    for change in story.changes:
        if change.late:
            late = chosen_rows(change, pane, story.seed, change.late)
            arrival = np.where(late, arrival + change.by, arrival)
        if change.repeat:
            again.append(np.flatnonzero(chosen_rows(change, pane, story.seed + 1, change.repeat)))
    rows = np.concatenate([order, *again])
    # A repeat arrives a second after the event that it repeats.
    times = np.concatenate([arrival, *(arrival[index] + 1000 for index in again)])
    sequence = np.argsort(times, kind="stable")
    group: list[tuple[int, bytes]] = []
    for i in sequence.tolist():
        at = int(times[i])
        if group and (len(group) == BATCH or at - group[-1][0] > PAUSE * layout.pane_ms):
            yield group[0][0], group
            group = []
        group.append((at, _event(story, drawn, int(rows[i]))))
    if group:
        yield group[0][0], group


def _event(story: Story, drawn: Drawn, row: int) -> bytes:
    features = {
        name: _json(drawn.columns[name][row])
        for name in story.features
        if not (name in drawn.gone and drawn.gone[name][row])
    }
    event: dict[str, Any] = {"ts": int(drawn.ts[row]), "features": features}
    event |= {"id": f"e{row}", "model": "story"} if story.kind == "predictions" else {"feature_set": "story"}
    event |= {name: _json(drawn.columns[name][row]) for name in story.outputs}
    if drawn.version is not None:
        event["version"] = drawn.version[row]
    if drawn.segments:
        event["segment"] = {name: values[row] for name, values in drawn.segments.items()}
    return msgspec.json.encode(event)


def _json(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value


def _say(replay: Replay, word: Word, at: int) -> None:
    if word.decision in ("mark false", "mark true"):
        for incident in replay.said.incidents[-1:]:
            mark = Mark(
                incident=incident.id,
                model=incident.model,
                word="false" if word.decision == "mark false" else "true",
                by="story",
                at=at,
                opened_at=incident.opened_at,
            )
            replay.learn(publish_mark(mark))
        return
    pending = [trigger for trigger in replay.said.triggers if trigger.state == "pending"]
    if pending:
        decision: Literal["approve", "reject"] = "approve" if word.decision == "approve" else "reject"
        approval = Approval(trigger=pending[0].id, decision=decision, by="story", at=at)
        replay.learn(publish_approval(approval))
