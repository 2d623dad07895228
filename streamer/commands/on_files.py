"""Commands that need nothing but files: what each takes.

What it does stands in a module of its own, imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.options import (
    DEFAULT,
    Categorical,
    Config,
    Every,
    Features,
    Header,
    Json,
    JsonFile,
    Map,
    RowRange,
    Segments,
    Start,
)

app = typer.Typer()
reference_app = typer.Typer(no_args_is_help=True, help="Learn what is normal, from a table or a topic.")
schema_app = typer.Typer(no_args_is_help=True, help="Wire types as JSON Schema and AsyncAPI.")
#: By name, on the command line.
GROUPS = {"reference": reference_app, "schema": schema_app}


@app.command("check")
def on_check(
    *,
    config: Config = DEFAULT,
    sample: Annotated[Path | None, typer.Option(metavar="FILE", help="Events, one JSON a line, to try.")] = None,
    broker: Annotated[bool, typer.Option(help="Also ask the broker, when it answers.")] = True,
    print_schema: Annotated[bool, typer.Option("--print-schema", help="JSON Schema of the file, for editors.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="As it is understood; without secrets.")] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration: every error with its line, and what will surprise."""
    from streamer.commands.check import check as command
    from streamer.commands.check import print_schema as schema_command

    if print_schema:
        schema_command()
        return
    if print_config:
        from streamer.commands.check import print_config as config_command

        config_command(config)
        return
    raise typer.Exit(command(config, sample=sample, broker=broker, as_json=as_json))


@app.command("backtest")
def on_backtest(
    data: Annotated[Path, typer.Argument(help="Parquet, CSV, ARFF or JSON Lines; also .gz.")],
    *,
    model: Annotated[str, typer.Option(help="Name in the configuration.")],
    config: Config = DEFAULT,
    reference_file: Annotated[Path | None, typer.Option("--reference", help="In place of the configured.")] = None,
    map: Map = "", features: Features = "", rows: RowRange = "", every: Every = "", start: Start = "",
    header: Header = None, json: JsonFile = None,
) -> None:  # fmt: skip
    """History through the same core as the stream: which incidents would there have been?"""
    from streamer.commands.backtest import backtest as command

    command(
        data, config, model=model, reference=reference_file, map=map, features=features, rows=rows, every=every,
        start=start, header=header, json=json,
    )  # fmt: skip


@app.command("explain")
def on_explain(
    data: Annotated[Path | None, typer.Argument(help="Parquet, CSV, ARFF or JSON Lines; also .gz.")] = None,
    *,
    model: Annotated[str, typer.Option(help="Name in the configuration.")],
    feature: Annotated[str, typer.Option(help="Whose verdict; of the stream, the strongest otherwise.")] = "",
    at: Annotated[str, typer.Option("--at", "--window", metavar="TIME", help="In the pane that is explained.")],
    view: Annotated[str, typer.Option(metavar="COLUMN=VALUE", help="A segment or version; the whole model.")] = "",
    config: Config = DEFAULT,
    reference_file: Annotated[Path | None, typer.Option("--reference", help="In place of the configured.")] = None,
    map: Map = "", rows: RowRange = "", every: Every = "", start: Start = "", header: Header = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The arithmetic of one verdict, bet by bet: of a backtest of DATA, or, without, of what a worker has said."""
    if data is None:
        from streamer.commands.explain_stream import explain_stream

        explain_stream(config, model=model, feature=feature, window=at, view=view, as_json=as_json)
        return
    if not feature:
        raise typer.BadParameter("is needed with a table", param_hint="--feature")
    from streamer.commands.explain import explain as command

    command(
        data, config, model=model, feature=feature, at=at, view=view, reference=reference_file, map=map, rows=rows,
        every=every, start=start, header=header, as_json=as_json,
    )  # fmt: skip


@app.command("story")
def on_story(
    file: Annotated[Path, typer.Argument(help="A scenario, as in tests/scenarios.")],
    as_json: Json = False,
) -> None:
    """One scenario as a timeline; exit 1 when it does not go as it says."""
    from streamer.commands.story import story as command

    raise typer.Exit(command(file, as_json=as_json))


@reference_app.command("build")
def reference_build(
    *,
    model: Annotated[str, typer.Option(help="Name of the model or feature set.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the reference goes.")],
    data: Annotated[Path | None, typer.Argument(help="Parquet, CSV, ARFF or JSON Lines; also .gz.")] = None,
    map: Map = "", features: Features = "", segments: Segments = "", categorical: Categorical = "",
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Whose hours and days the model lives by.")] = "UTC",
    rows: RowRange = "", every: Every = "", start: Start = "", header: Header = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="FROM..TO", help="Times to leave out.")] = None,
    from_topic: Annotated[bool, typer.Option("--from-topic", help="Read the input topic, not a table.")] = False,
    last: Annotated[str, typer.Option(metavar="DURATION", help="How much of the topic.")] = "14d",
    pane: Annotated[str, typer.Option(metavar="DURATION", help="Pane of the replay through its own monitors.")] = "5m",
    tolerance: Annotated[float, typer.Option(min=0.0, max=5.0, help="Tolerance of that replay.")] = 0.1,
    false_alarms: Annotated[str, typer.Option(metavar="BUDGET", help="Budget of that replay.")] = "1 per 30d",
    strict: Annotated[bool, typer.Option("--strict", help="That replay is strict.")] = False,
    positive: Annotated[str, typer.Option(metavar="CLASS", help="The positive of two classes of `outcome`.")] = "",
    maturity: Annotated[str, typer.Option(metavar="DURATION", help="Leave out outcomes that came later.")] = "",
    batch_gap: Annotated[str, typer.Option(metavar="DURATION", help="Cut into batches this far apart.")] = "",
    derived: Annotated[str, typer.Option(metavar="NAMES", help="Watch how these numbers go together; or all.")] = "",
    config: Config = DEFAULT, as_json: Json = False,
) -> None:  # fmt: skip
    """Learn a reference from history; says in words what it learned, what it would have paged, what looks wrong."""
    from streamer.commands.reference import build as command

    command(
        data, model=model, output=output, map=map, features=features, segments=segments, categorical=categorical,
        timezone=timezone, rows=rows, every=every, start=start, header=header, exclude=exclude or [],
        from_topic=from_topic, last=last, batch_gap=batch_gap, pane=pane, tolerance=tolerance,
        false_alarms=false_alarms, strict=strict, positive=positive, maturity=maturity, derived=derived, config=config,
        as_json=as_json,
    )  # fmt: skip


@reference_app.command("show")
def reference_show(file: Path, as_json: Json = False) -> None:
    """Say again what a reference learned."""
    from streamer.commands.reference import show as command

    command(file, as_json=as_json)


@schema_app.command("export")
def schema_export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder.")] = Path("schemas"),
    as_json: Json = False,
) -> None:
    """Write JSON Schemas and the AsyncAPI document of everything that travels."""
    from streamer.commands.schema import command

    command(out, as_json=as_json)
