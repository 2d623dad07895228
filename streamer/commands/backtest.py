"""`tripline backtest`: read a table, run it through the cores, print the timeline or write it as JSON."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from detectors.references import Reference, loads
from schemas.alerts import AlertState, Incident
from schemas.errors import ReferenceFileError
from schemas.layouts import Layout
from streamer import spans
from streamer.applying import targets
from streamer.backtesting import Backtest, kinds_of, run, with_outcomes
from streamer.commands.performance_table import tell_performance
from streamer.commands.progress import with_progress
from streamer.commands.written import folder_for, write
from streamer.complaints import nearest
from streamer.config import ConfigurationErrors, Loaded, Model, load
from streamer.core.wording import moved
from streamer.tables import OUTPUTS, Reading, Table, reading_of

#: Members of an incident that the timeline names; `--json` has all.
SHOWN = 8


def backtest(
    data: Path,
    config: Path,
    *,
    model: str,
    reference: Path | None = None,
    map: str = "",
    features: str = "",
    rows: str = "",
    every: str = "",
    start: str = "",
    header: bool | None = None,
    json: Path | None = None,
) -> None:
    """Run `data` as history of `model`; print, or write JSON to `json` (`-`: print JSON)."""
    loaded = _only(load(config), model)
    configured = loaded.config.models[model]
    learned = _reference(loaded, model, reference)
    layout = targets(loaded, {model: learned})[model]
    reading = reading_of(
        reading_from(configured), map=map, features=features, rows=rows, every=every, start=start, header=header
    )
    if json is not None and str(json) != "-":
        folder_for(json)
    table, layout = opened(data, layout, learned, reading)
    _note(table, [name for name in known_of(learned) if not reading.features or name in layout.monitored])
    found = run(with_progress(table.parts(), what=model, total=table.total), layout=layout, reference=learned)
    found = replace(found, left_out=table.tally.left_out)
    for note in [*table.file.notes, *table.tally.notes()]:
        print(f"note: {note}", file=sys.stderr)
    if learned.provisional and not layout.page_provisional:
        print(f"note: the reference is provisional, and only hard rules page: {learned.provisional}", file=sys.stderr)
    text = jsonlib.dumps(found.plain(), indent=2, ensure_ascii=False)
    if json is not None and str(json) == "-":
        print(text)
        return
    if json is not None:
        write(json, text + "\n")
    tell(found, pane=layout.pane_ms)
    tell_performance(found.performance)


def opened(data: Path, layout: Layout, learned: Reference, reading: Reading) -> tuple[Table, Layout]:
    """The table, and the layout that its rows are counted under: with outcomes where it has them."""
    table = Table(
        data, reading, kinds=kinds_of(learned), ids=True, lenient=True, known=known_of(learned), model=layout.model,
        outcomes=not layout.batch_gap_ms, lists=layout.features,
    )  # fmt: skip
    layout = with_outcomes(layout, learned, table)
    if reading.features:
        # Who selects wants to watch the selection: the rest is not missing.
        layout = _watching(layout, [*table.features, *OUTPUTS, *table.served])
    return table, layout


def known_of(learned: Reference) -> list[str]:
    """Features that a table may have: not those that are made of its others."""
    return [spec.name for spec in learned.specs if spec.name not in derived_of(learned)]


def derived_of(learned: Reference) -> tuple[str, ...]:
    """Features that no table has: they are made of its others."""
    return () if learned.derived is None else learned.derived.names


def reading_from(model: Model) -> Reading:
    """How the configuration says that this model's tables are read."""
    return Reading(
        mapping=dict(model.table.mapping),
        features=tuple(model.table.features),
        segments=tuple(model.segments),
        every=model.table.every,
        start=model.table.start,
        header=model.table.header,
    )


def tell(found: Backtest, *, pane: int) -> None:
    """Print the timeline."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{escape(found.model)}[/]: {found.rows:,} rows, {_panes(found, pane)}, reference {found.reference}"
    )
    events: list[tuple[int, str]] = []
    for incident in found.incidents:
        events.append((incident.opened_at, "\n".join(_opened(incident))))
        if incident.state == AlertState.RESOLVED and incident.resolved_at is not None:
            events.append((incident.resolved_at, f"[green]resolved[/]  incident {incident.id}"))
    events += [(at, f"[cyan]learned[/]   {escape(words)}") for at, words in found.lessons]
    for trigger in found.triggers:
        events.append(
            (trigger.window_end, f"[yellow]trigger[/]   {escape(trigger.policy)}, {trigger.state}, {trigger.id}")
        )
    for at, text in sorted(events, key=lambda event: event[0]):
        console.print(f"{spans.rfc3339(found.end(at))}  row {found.crossings.row(at):>8,}  {text}")
    if not found.incidents:
        console.print("no incident")
    still = sum(incident.state != AlertState.RESOLVED for incident in found.incidents)
    if still:
        console.print(f"{still} incident{'s' * (still > 1)} open at the end")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items() if count)
    if dropped:
        console.print(f"dropped: {dropped}")
    if found.strange_outcomes:
        strange = list(found.strange_outcomes.items())
        named = ", ".join(f"{word!r} ({n:,})" for word, n in strange[:3]) + (", …" if len(strange) > 3 else "")
        total = sum(found.strange_outcomes.values())
        console.print(f"{total:,} outcomes are nothing that the reference knows and count as none: {escape(named)}")
    if found.late_outcomes:
        console.print(f"{found.late_outcomes:,} outcomes came after the horizon and count as none")


def _panes(found: Backtest, pane: int) -> str:
    return f"{found.panes:,} batches" if found.clock is not None else f"{found.panes:,} panes of {spans.words(pane)}"


def _watching(layout: Layout, names: list[str]) -> Layout:
    """The layout with these features alone tested."""
    monitored = tuple(name for name in layout.monitored if name in names)
    return msgspec.structs.replace(layout, monitored=monitored, monitors=max(1, len(layout.views) * len(monitored)))


def _note(table: Table, known: list[str]) -> None:
    """Say on stderr where table and reference differ: what is absent counts as missing in every row."""
    absent = [name for name in known if name not in (*table.features, *table.outputs, *table.served)]
    for names, what in (
        (table.denied, "denied by `features`, not read"),
        (table.left_out, "not in the reference, left out"),
        (absent, "not in the table, missing"),
    ):
        if names:
            print(f"note: {what}: {', '.join(names)}", file=sys.stderr)


def _opened(incident: Incident) -> list[str]:
    from rich.markup import escape

    version = f", version {escape(incident.version)}" if incident.version else ""
    count = len(incident.evidence)
    lines = [f"[red]firing[/]    incident {incident.id}{version}: {count} of its features, the strongest first"]
    # Levels and features may be called anything, "[/]" too.
    lines += [f"{'':34}{escape(moved(evidence))}" for evidence in incident.evidence[:SHOWN]]
    if count > SHOWN:
        lines.append(f"{'':34}and {count - SHOWN} more")
    return lines


def _only(loaded: Loaded, model: str) -> Loaded:
    """The configuration with this model alone: what is wrong with others is not asked."""
    models = loaded.config.models
    if model not in models:
        raise ConfigurationErrors([loaded.fault("models", message=f"has no {model!r}" + nearest(model, list(models)))])
    return Loaded(loaded.config.model_copy(update={"models": {model: models[model]}}), loaded.document)


def _reference(loaded: Loaded, model: str, file: Path | None) -> Reference:
    path = file or loaded.path_of(loaded.config.models[model].reference)
    try:
        return loads(path.read_bytes())
    except (OSError, ReferenceFileError) as error:
        says = f"{path}: {error.strerror if isinstance(error, OSError) else error}"
        if file is not None:
            raise ReferenceFileError(f"--reference: {says}") from error
        raise ConfigurationErrors([loaded.fault("models", model, "reference", message=says)]) from error
