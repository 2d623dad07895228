"""Pieces of a run, kept as they are done: a full run takes long, and one that broke off need not begin anew."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from loadtest.detect.rows import Row

#: (group, what, events a pane or per alarm, monitors).
Task: TypeAlias = tuple[str, str, int, int]
Judged: TypeAlias = tuple[Row, list[Row]]


@dataclass(frozen=True)
class Pieces:
    """Rows by task in a folder, of one seed and length; without a folder nothing is kept.

    A folder serves one commit: a piece says what was run, not with what.
    """

    folder: Path | None
    quick: bool
    seed: int

    def __contains__(self, task: Task) -> bool:
        """Whether it is there already."""
        file = self._file(task)
        return file is not None and file.is_file()

    def done(self, task: Task, work: Callable[[], Iterable[Judged]]) -> list[Judged]:
        """Rows of a task with their bars: those of its file, else of `work`, which are then written."""
        found = self._kept(self._file(task), lambda: {"rows": list(work())})
        return [(row, bars) for row, bars in found["rows"]]

    @property
    def costed(self) -> bool:
        """Whether the costs are there already."""
        return self.folder is not None and self._costs().is_file()

    def costs(self, work: Callable[[], tuple[list[Row], list[Row]]]) -> tuple[list[Row], list[Row]]:
        """Costs and their bars: those of their file, else of `work`, which are then written."""
        file = None if self.folder is None else self._costs()
        found = self._kept(file, lambda: dict(zip(("cost", "bars"), work(), strict=True)))
        return found["cost"], found["bars"]

    def taken(self) -> dict[str, float]:
        """How many pieces of this seed and length the folder holds, and the seconds that they took."""
        if self.folder is None:
            return {}
        files = sorted(self.folder.glob(f"{self._name()}-*.json"))
        spent = [json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in files]
        return {"pieces": len(files), "seconds": round(sum(spent), 1)}

    def _kept(self, file: Path | None, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if file is None:
            return work()
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        started = time.monotonic()
        found = work()
        text = json.dumps({"seconds": round(time.monotonic() - started, 1), **found}, indent=1)
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".half")
        half.write_text(text + "\n", encoding="utf-8")
        half.replace(file)
        return found

    def _costs(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self._name()}-cost.json"

    def _file(self, task: Task) -> Path | None:
        if self.folder is None:
            return None
        words = re.sub(r"[^a-z0-9.]+", "-", " ".join(str(part) for part in task).lower())
        return self.folder / f"{self._name()}-{words}.json"

    def _name(self) -> str:
        return f"{'quick' if self.quick else 'full'}-{self.seed}"
