"""The command line: what each command takes. What it does stands in a module of its own, imported when it runs.

Exit codes: 0 done, 1 done and the answer is no, 2 a wrong option, configuration, reference or table, 65–77 as
`schemas.errors` says, 70 also for what nobody expected, 130 interrupted.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from schemas.errors import TriplineError


class _Commands(TyperGroup):
    """Lets `main` see a broken pipe: typer ends with 1 at one, without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is asked for."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _PipeBroken from error
        return found


class _PipeBroken(Exception):
    pass


def _reader_gone() -> bool:
    """Whether whoever read our output has gone: a broken pipe may be any other connection."""
    ends = select.poll()
    ends.register(sys.stdout.fileno(), 0)
    return any(what & select.POLLERR for _, what in ends.poll(0))


app = typer.Typer(
    name="tripline",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich costs 0.15 s to import: too much for --help
    help="Watches the prediction streams of machine-learning models and says when they drift.",
    epilog="A first look: tripline demo",
)
topics_app = typer.Typer(no_args_is_help=True, help="Make or check the topics on Kafka.")
reference_app = typer.Typer(no_args_is_help=True, help="Learn what is normal, from a table or a topic.")
alerts_app = typer.Typer(no_args_is_help=True, help="Follow alerts; say which were false.")
triggers_app = typer.Typer(no_args_is_help=True, help="Follow retrain triggers; approve or reject them.")
dlq_app = typer.Typer(no_args_is_help=True, help="Records that were not counted: see them, write them again.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure this machine.")
schema_app = typer.Typer(no_args_is_help=True, help="Wire types as JSON Schema and AsyncAPI.")
for name, group in (
    ("topics", topics_app), ("reference", reference_app), ("alerts", alerts_app), ("triggers", triggers_app),
    ("dlq", dlq_app),
    ("bench", bench_app), ("schema", schema_app),
):  # fmt: skip
    app.add_typer(group, name=name)

Config = Annotated[Path, typer.Option("-c", "--config", help="The configuration.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here; - prints it.")]
Map = Annotated[str, typer.Option("--map", metavar="FIELD=COLUMN,…", help="ts=timestamp,id=identifier,score=p …")]
Features = Annotated[str, typer.Option(metavar="A,B", help="Columns: names, globs, c0..c32. Default: all others.")]
Segments = Annotated[str, typer.Option(metavar="A,B", help="Segment columns; the first two are crossed into cells.")]
Categorical = Annotated[str, typer.Option(metavar="A,B", help="Columns whose numbers are names.")]
RowRange = Annotated[str, typer.Option("--rows", metavar="A:B", help="Rows from A on and before B, from 0.")]
Every = Annotated[str, typer.Option(metavar="DURATION", help="Time between rows, for a table without times.")]
Start = Annotated[str, typer.Option(metavar="TIME", help="Time of the file's row 0, with --every.")]
Header = Annotated[bool | None, typer.Option("--header/--no-header", help="Whether a CSV has a header.")]
Since = Annotated[str, typer.Option(metavar="TIME", help="latest, earliest, or a time.")]
Once = Annotated[bool, typer.Option("--once", help="To the end as it is now, and no further.")]
Trigger = Annotated[str, typer.Argument(help="Its id.")]
By = Annotated[str, typer.Option(help="Whose word it is; this login otherwise.")]
DropReason = Annotated[str, typer.Option("--reason", metavar="REASON", help="Only these: late, schema, …")]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Only this one.")]
Bootstrap = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A broker; one is started otherwise.")]
DEFAULT = Path("tripline.yaml")
_UNEXPECTED = 70


def main() -> None:
    """Run the command line; errors are one line on stderr and an exit code."""
    try:
        app(prog_name="tripline")
    except TriplineError as error:
        print(f"tripline: {error}" if "\n" not in str(error) else str(error), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except _PipeBroken as broken:
        if _reader_gone():
            # `| head`: not an error, and nothing can be said any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        _say_unexpected(broken.__cause__ or broken)
    except SystemExit:
        raise
    except BaseException as error:
        _say_unexpected(error)


def _say_unexpected(error: BaseException) -> NoReturn:
    """End with 70. Never with 1, which is an answer: whoever runs us must not take a fault of ours for one."""
    traceback.print_exception(error)
    print(f"tripline: unexpected: {type(error).__name__}: {error}; this is a fault of ours", file=sys.stderr)
    sys.exit(_UNEXPECTED)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("tripline"))
        raise typer.Exit


@app.callback()
def tripline(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Watches the prediction streams of machine-learning models and says when they drift."""


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


@app.command("demo")
def on_demo(
    *,
    alertmanager: Annotated[str | None, typer.Option(metavar="URL", help="Also send to this one.")] = None,
    seed: Annotated[int, typer.Option(help="Of the applicants.")] = 1,
    as_json: Json = False,
) -> None:
    """A model drifts, is told, and comes back, in under 90 seconds; needs no server."""
    from streamer.commands.demo import demo as command

    raise typer.Exit(command(alertmanager=alertmanager, seed=seed, as_json=as_json))


@app.command("run")
def on_run(
    *,
    config: Config = DEFAULT,
    slot: Annotated[str | None, typer.Option(metavar="NAME", help="Of this worker among those that run.")] = None,
    accept_gap: Annotated[bool, typer.Option("--accept-gap", help="Go on where retention took unread input.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run a worker; start more of them to scale, each with a slot of its own."""
    from streamer.commands.run import run as command

    raise typer.Exit(command(config, slot=slot, accept_gap=accept_gap, verbose=verbose))


@app.command("reset")
def on_reset(
    model: Annotated[str, typer.Argument(help="Its name.")],
    *,
    config: Config = DEFAULT,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    by: By = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Let a model begin anew while its workers run; says what is lost, and asks."""
    from streamer.commands.reset import reset as command

    raise typer.Exit(command(config, model, reason=reason, by=by, yes=yes, as_json=as_json))


@app.command("doctor")
def on_doctor(*, config: Config = DEFAULT, as_json: Json = False) -> None:
    """What is wrong, or will be, with what runs: topics, workers, lag, state, clocks, Alertmanagers; exit 1 if so."""
    from streamer.commands.doctor import doctor as command

    raise typer.Exit(command(config, as_json=as_json))


@topics_app.command("create")
def on_topics_create(
    *,
    config: Config = DEFAULT,
    partitions: Annotated[int | None, typer.Option(metavar="N", help="Of inputs that are made. Default: 4.")] = None,
    replication: Annotated[int, typer.Option(metavar="N", help="Copies; -1: as the broker's default says.")] = -1,
    as_json: Json = False,
) -> None:
    """Make the topics that are not there."""
    from streamer.commands.topics import topics_create as command

    command(config, sources=partitions, replication=replication, as_json=as_json)


@topics_app.command("check")
def on_topics_check(*, config: Config = DEFAULT, as_json: Json = False) -> None:
    """Say what is wrong with the topics, and what will surprise; exit 1 when a worker would not start."""
    from streamer.commands.topics import topics_check as command

    raise typer.Exit(command(config, as_json=as_json))


@app.command("apply")
def on_apply(
    *,
    config: Config = DEFAULT,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="Event time from which it holds.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Say what would change, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Put the configuration and its references in force, without a restart."""
    from streamer.commands.apply import apply as command

    command(config, since=since, dry_run=dry_run, as_json=as_json)


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


@alerts_app.command("tail")
def alerts_tail(
    *,
    config: Config = DEFAULT,
    since: Since = "latest",
    once: Once = False,
    model: Annotated[str, typer.Option(help="Only this one.")] = "",
    as_json: Json = False,
) -> None:
    """Print incidents and alerts as they fire and resolve."""
    from streamer.commands.alerts import tail
    from streamer.commands.connecting import settings_of, since_of

    tail(settings_of(config), since=since_of(since), once=once, model=model, as_json=as_json)


@alerts_app.command("mark")
def alerts_mark(
    incident: Annotated[str, typer.Argument(metavar="ID", help="Of an incident, or of an alert in it.")],
    word: Annotated[Literal["false", "true"], typer.Argument(help="false: nothing had changed.")],
    *,
    config: Config = DEFAULT,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    by: By = "",
    as_json: Json = False,
) -> None:
    """Say that an incident was false, or true; what was false is spent of the model's budget."""
    from streamer.commands.alerts import mark_and_say
    from streamer.commands.connecting import settings_of

    mark_and_say(settings_of(config), incident, word, reason=reason, by=by, as_json=as_json)


@triggers_app.command("tail")
def triggers_tail(
    *,
    config: Config = DEFAULT,
    since: Since = "latest",
    once: Once = False,
    model: Annotated[str, typer.Option(help="Only this one.")] = "",
    execute: Annotated[str, typer.Option("--exec", metavar="COMMAND", help="Run for each approved one.")] = "",
    group: Annotated[str, typer.Option(help="Who runs: each group sees each trigger.")] = "",
    as_json: Json = False,
) -> None:
    """Print retrain triggers, or run a command for each; the command reads the trigger as JSON on stdin."""
    from streamer.commands.connecting import settings_of, since_of
    from streamer.commands.triggers import tail

    tail(
        settings_of(config), since=since_of(since), once=once, model=model, execute=execute, group=group,
        as_json=as_json,
    )  # fmt: skip


@triggers_app.command("approve")
def triggers_approve(trigger: Trigger, *, config: Config = DEFAULT, by: By = "", as_json: Json = False) -> None:
    """Let a pending trigger go out."""
    from streamer.commands.connecting import settings_of
    from streamer.commands.triggers import decide_and_say

    decide_and_say(settings_of(config), trigger, "approve", by=by, as_json=as_json)


@triggers_app.command("reject")
def triggers_reject(trigger: Trigger, *, config: Config = DEFAULT, by: By = "", as_json: Json = False) -> None:
    """Refuse a pending trigger."""
    from streamer.commands.connecting import settings_of
    from streamer.commands.triggers import decide_and_say

    decide_and_say(settings_of(config), trigger, "reject", by=by, as_json=as_json)


@dlq_app.command("show")
def dlq_show(
    *,
    config: Config = DEFAULT,
    reason: DropReason = "",
    model: Model = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="earliest, a time, or 24h (ago).")] = "earliest",
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="The last N; 0: all.")] = 20,
    payload: Annotated[bool, typer.Option("--payload", help="Also the records, where they still are.")] = False,
    as_json: Json = False,
) -> None:
    """Print dead letters, and how many there are by reason."""
    from streamer.commands.dlq import show

    show(config, reason=reason, model=model, since=since, limit=limit, payload=payload, as_json=as_json)


@dlq_app.command("replay")
def dlq_replay(
    *,
    config: Config = DEFAULT,
    reason: DropReason = "",
    model: Model = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="earliest, a time, or 24h (ago).")] = "earliest",
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="The oldest N; at most 10,000 at once.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Write the records of dead letters again to their input, each once; exit 1 when some cannot be had any more."""
    from streamer.commands.dlq import replay

    code = replay(
        config, reason=reason, model=model, since=since, limit=limit, dry_run=dry_run, yes=yes, as_json=as_json
    )
    raise typer.Exit(code)


@bench_app.command("throughput")
def bench_throughput(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller run.")] = False,
    outcomes: Annotated[bool, typer.Option("--outcomes", help="Also with an outcome per prediction.")] = False,
    json: JsonFile = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Events per second and core of the whole worker, on a real broker."""
    from streamer.commands.bench import throughput

    throughput(quick=quick, file=json, bootstrap=bootstrap, outcomes=outcomes)


@bench_app.command("latency")
def bench_latency(*, json: JsonFile = None, bootstrap: Bootstrap = None) -> None:
    """From the append of the record that lets a pane close to the POST at Alertmanager."""
    from streamer.commands.bench_latency import latency

    latency(file=json, bootstrap=bootstrap)


@bench_app.command("detect")
def bench_detect(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Under 4 minutes, with fewer streams and runs.")] = False,
    json: JsonFile = None,
    seed: Annotated[int, typer.Option(help="Another set of streams.")] = 0,
    only: Annotated[str, typer.Option(help="Groups, with commas: matched,honesty,labels,delay,stress,…")] = "",
    peers: Annotated[Path | None, typer.Option(help="Environment of the competitors, by default .venv-peers.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes, by default one per core.", min=0)] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder of pieces: a run that broke off goes on.")] = None,
    strict_bars: Annotated[bool, typer.Option("--strict-bars", help="Exit 1 when a bar is missed.")] = False,
) -> None:
    """False alarms, delays and cost of the detectors, beside river's and frouros'; from a checkout."""
    from streamer.commands.bench_detect import detect

    groups = [name.strip() for name in only.split(",") if name.strip()]
    met = detect(quick=quick, file=json, seed=seed, only=groups, peers=peers, jobs=jobs, keep=keep)
    if strict_bars and not met:
        raise typer.Exit(1)
