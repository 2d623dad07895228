"""A progress bar for long work: on a terminal only, on stderr, so that a pipe stays clean."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from streamer.tables import Part


def with_progress(parts: Iterable[Part], *, what: str, total: int | None) -> Iterator[Part]:
    """The parts as they come; on a terminal a bar shows how many of `total` rows are done."""
    if not sys.stderr.isatty():
        yield from parts
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        for part in parts:
            yield part
            progress.advance(task, len(part.rows))
