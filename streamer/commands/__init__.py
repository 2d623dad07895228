"""The command line: what each command takes. What it does stands in a module of its own, imported when it runs.

Exit codes: 0 done, 1 done and the answer is no, 2 a wrong option, configuration, reference or table, 65–77 as
`schemas.errors` says, 70 also for what nobody expected, 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands import on_broker, on_files
from streamer.commands.ending import Commands, ended
from streamer.commands.options import Bootstrap, Json, JsonFile

app = typer.Typer(
    name="tripline",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich costs 0.15 s to import: too much for --help
    help="Watches the prediction streams of machine-learning models and says when they drift.",
    epilog="A first look: tripline demo",
)
bench_app = typer.Typer(no_args_is_help=True, help="Measure this machine.")
app.add_typer(on_files.app)
app.add_typer(on_broker.app)
for name, group in {**on_broker.GROUPS, **on_files.GROUPS, "bench": bench_app}.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line; errors are one line on stderr and an exit code."""
    ended(app)


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
