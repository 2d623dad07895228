"""Small tables and references for the tests of commands: seeded, fast, and known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from detectors.building import ReferenceBuilder
from detectors.references import Reference, dumps
from detectors.rows import Rows

START = 1_736_121_600_000  # Monday 2025-01-06 00:00 UTC
HOUR = 3_600_000
EVERY = 90_000


def rows(hours: int, *, start: int, seed: int, shift: float = 0.0, since: int = 0) -> Rows:
    """One row every 90 s: `age` (shifted by `shift` sd from hour `since` on) and `country`, half FR, half DE."""
    rng = np.random.default_rng(seed)
    n = hours * HOUR // EVERY
    ts = start + np.arange(n, dtype=np.int64) * EVERY
    age = 41 + 12 * (rng.standard_normal(n) + shift * (ts >= start + since * HOUR))
    country = np.where(rng.random(n) < 0.5, "FR", "DE").astype(object)
    return Rows(ts=ts, columns={"age": age.round(2), "country": country})


@cache
def reference(*, days: int = 14, model: str = "m", kind: str = "features") -> Reference:
    """Learned from the days before `START`."""
    history = rows(days * 24, start=START - days * 24 * HOUR, seed=1)
    builder = ReferenceBuilder(model, kind)
    builder.survey(history)
    builder.count(history)
    return builder.finish()


def write_reference(folder: Path, **changes: object) -> Reference:
    """`reference.json` in the folder."""
    found = reference(**changes)  # type: ignore[arg-type]
    (folder / "reference.json").write_bytes(dumps(found))
    return found


def write_csv(path: Path, table: Rows, *, times: bool = True) -> Path:
    """The rows as CSV."""
    head = "ts,age,country\n" if times else "age,country\n"
    lines = zip(table.ts.tolist(), table.columns["age"].tolist(), table.columns["country"].tolist(), strict=True)
    path.write_text(head + "".join((f"{ts}," if times else "") + f"{age},{country}\n" for ts, age, country in lines))
    return path
