"""What commands have in common: options of one name mean one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Where the configuration is unless somebody says otherwise.
DEFAULT = Path("tripline.yaml")

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
