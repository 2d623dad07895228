"""Default verdicts of Evidently and NannyML on batches: one JSON job per line in, one JSON answer per line out.

    {"do": "versions"}                                                -> {"evidently": "0.7.23", ...}
    {"do": "evidently", "reference": [FILE], "batches": [FILE], "levels": [0, 5]}
                                                                      -> {"columns": [[bool]], "set": [bool]}
    {"do": "nannyml", ...the same...}                                 -> {"columns": [[bool]], "missing": [[bool]]}

Files are numpy arrays (rows, columns), one per nightly batch; levels: of a column's category, 0 for numbers. Evidently
compares each batch with all of the reference by its preset; NannyML's chunks are the nights, in order of time.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from answering import answer_all

warnings.simplefilter("ignore")


def frame(files: list[str], levels: list[int], *, first_night: int | None = None) -> pd.DataFrame:
    """One table of all batches; categories are texts. first_night: with a column of times, an hour from 02:00 each."""
    parts = [np.load(file) for file in files]
    values = np.concatenate(parts)
    columns: dict[str, Any] = {}
    for i, count in enumerate(levels):
        texts = np.array([f"level {code}" for code in range(count)], dtype=object)
        columns[f"c{i}"] = texts[values[:, i].astype(np.int64)] if count else values[:, i]
    if first_night is not None:
        nights = [
            pd.Timestamp("2025-01-06 02:00")
            + pd.to_timedelta(first_night + night, unit="D")
            + pd.to_timedelta(np.arange(len(part)) * (3_600_000 // max(1, len(part))), unit="ms")
            for night, part in enumerate(parts)
        ]
        columns["ts"] = nights[0].append(nights[1:]) if len(nights) > 1 else nights[0]
    return pd.DataFrame(columns)


def evidently(reference: list[str], batches: list[str], levels: list[int]) -> dict[str, Any]:
    """`DataDriftPreset()` as it comes: drift by column, and of the data set."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [f"c{i}" for i in range(len(levels))]
    kinds = DataDefinition(
        numerical_columns=[name for name, count in zip(names, levels, strict=True) if not count],
        categorical_columns=[name for name, count in zip(names, levels, strict=True) if count],
    )
    known = Dataset.from_pandas(frame(reference, levels), data_definition=kinds)
    columns: list[list[bool]] = []
    sets: list[bool] = []
    for file in batches:
        now = Dataset.from_pandas(frame([file], levels), data_definition=kinds)
        # Its own tests say drift or not, by the method and the threshold that it chose.
        tests = Report([DataDriftPreset()], include_tests=True).run(now, known).dict()["tests"]
        failed = {_of(test): "FAIL" in str(test["status"]).upper() for test in tests}
        columns.append([failed[name] for name in names])
        sets.append(failed[""])
    return {"columns": columns, "set": sets}


def _of(test: dict[str, Any]) -> str:
    """Column that a test is about; "" for the data set."""
    return str(test["metric_config"]["params"].get("column", ""))


def nannyml(reference: list[str], batches: list[str], levels: list[int]) -> dict[str, Any]:
    """`UnivariateDriftCalculator` and `MissingValuesCalculator` as they come, chunks by day."""
    import nannyml as nml

    names = [f"c{i}" for i in range(len(levels))]
    known = frame(reference, levels, first_night=0)
    now = frame(batches, levels, first_night=len(reference))
    drift = nml.UnivariateDriftCalculator(
        column_names=names,
        treat_as_categorical=[name for name, count in zip(names, levels, strict=True) if count],
        timestamp_column_name="ts",
        chunk_period="D",
    )
    lacks = nml.MissingValuesCalculator(column_names=names, timestamp_column_name="ts", chunk_period="D")
    found = {}
    for what, one in (("columns", drift), ("missing", lacks)):
        one.fit(known)
        table = one.calculate(now).filter(period="analysis").to_df()
        alerts = [table.loc[:, [at for at in table.columns if at[0] == name and at[-1] == "alert"]] for name in names]
        found[what] = np.stack([alert.to_numpy(dtype=bool).any(axis=1) for alert in alerts], axis=1).tolist()
    return found


def versions() -> dict[str, Any]:
    """What is installed here."""
    return {name: version(name) for name in ("evidently", "nannyml", "pandas")}


JOBS = {"evidently": evidently, "nannyml": nannyml, "versions": versions}

if __name__ == "__main__":
    answer_all(JOBS)
