"""Drawn applicants as the table that a data team would have: what `reference build` reads in demo and benchmarks."""

from __future__ import annotations

from pathlib import Path

from streamer.generating import CATEGORICAL, DAY_MS, NUMERIC, Applicants

#: `--map` and `--features` of the table.
MAP = "ts=applied_at,id=application,version=model_version,score=probability_of_default"
FEATURES = ",".join((*NUMERIC, *CATEGORICAL))
DAYS = 14


def write_history(file: Path, applicants: Applicants, *, end: int, days: int = DAYS) -> int:
    """The applicants' last `days` before `end` (ms) as a Parquet table; returns its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    drawn = applicants.between(end - days * DAY_MS, end)
    columns = {
        "applied_at": pa.array(drawn.ts, type=pa.timestamp("ms", tz="UTC")),
        "application": pa.array(drawn.ids),
        "model_version": pa.array(drawn.version.tolist()),
        "country": pa.array(drawn.country.tolist()),
        **{name: pa.array(values, from_pandas=True) for name, values in drawn.numeric.items()},
        **{name: pa.array(values.tolist()) for name, values in drawn.categorical.items()},
        "probability_of_default": pa.array(drawn.score),
    }
    pq.write_table(pa.table(columns), file)
    return len(drawn)
