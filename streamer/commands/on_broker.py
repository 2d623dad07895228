"""Commands that need a broker: what each takes.

What it does stands in a module of its own, imported when it runs.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from streamer.commands.options import DEFAULT, By, Config, DropReason, Json, Model, Once, Since, Trigger

app = typer.Typer()
topics_app = typer.Typer(no_args_is_help=True, help="Make or check the topics on Kafka.")
alerts_app = typer.Typer(no_args_is_help=True, help="Follow alerts; say which were false.")
triggers_app = typer.Typer(no_args_is_help=True, help="Follow retrain triggers; approve or reject them.")
dlq_app = typer.Typer(no_args_is_help=True, help="Records that were not counted: see them, write them again.")
#: By name, on the command line.
GROUPS = {"topics": topics_app, "alerts": alerts_app, "triggers": triggers_app, "dlq": dlq_app}


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
