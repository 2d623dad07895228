"""Public streams whose labels turn around every 20,000 rows, and a logistic model that was frozen before (tornado)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, special

from detectors.building import ReferenceBuilder
from detectors.rows import Rows
from schemas.layouts import Layout
from streamer.backtesting import run
from streamer.tables import Part, Reading, Table

DATA = Path(__file__).parents[2] / "shared" / "data"
ROW_MS, PANE = 90_000, 30
#: The model learns from the first rows, the reference is the next ten days.
TRAIN, LEARNED, TURN = 5_000, 15_000, 20_000


def scored(file: Path) -> tuple[Any, Any]:
    """Scores of a frozen logistic regression on simple terms of the features, and the labels."""
    columns: dict[str, Any] = {}
    for part in Table(file, Reading(), timeless=True).parts():
        for name, values in part.rows.columns.items():
            columns.setdefault(name, []).append(values)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    label = (whole.pop("class") == "p").astype(np.int64)
    terms = []
    for values in whole.values():
        numeric = values.dtype.kind == "f"
        terms += [values, np.sin(values), values**2] if numeric else [(values == "true").astype(float)]
    x = np.stack(terms, axis=1)
    x = (x - x[:TRAIN].mean(axis=0)) / x[:TRAIN].std(axis=0)
    x = np.concatenate([np.ones((x.shape[0], 1)), x], axis=1)

    def cost(beta: Any) -> float:
        line = x[:TRAIN] @ beta
        return float(np.mean(np.logaddexp(0, line) - label[:TRAIN] * line) + 1e-4 * beta @ beta)

    return special.expit(x @ optimize.minimize(cost, np.zeros(x.shape[1])).x), label


@pytest.mark.parametrize("name", ["sine1", "mixed"])
def test_labels_that_turn_around_are_found_within_300_events(name: str) -> None:
    """None before row 20,000, one within 300 rows of it, of error and calibration, over soon after row 40,000."""
    file = DATA / f"tornado_{name}_w_50_n_0.1_101.arff.gz"
    if not file.exists():
        pytest.skip(f"{file.name} is not there: it stands beside the repository, in shared/data")
    score, label = scored(file)
    pane_ms = PANE * ROW_MS
    start = 1_735_516_800_000 // pane_ms * pane_ms
    ts = start + np.arange(label.size, dtype=np.int64) * ROW_MS
    rows = Rows(ts=ts, columns={"score": score, "outcome": label.astype(float)})
    builder = ReferenceBuilder("m")
    builder.survey(rows.take(slice(TRAIN, LEARNED)))
    builder.count(rows.take(slice(TRAIN, LEARNED)))
    reference = builder.finish()
    layout = Layout(
        model="m",
        from_ms=0,
        reference=reference.id,
        pane_ms=pane_ms,
        monitored=("score",),
        outcome_pane_ms=pane_ms,
        horizon_ms=pane_ms,
    )
    live = slice(LEARNED, 2 * TURN + 2_000)
    found = run([Part(LEARNED, rows.take(live), None)], layout=layout, reference=reference).plain()
    (incident,) = found["incidents"]
    print(f"\n{name}: found {incident['opened_row'] - TURN} rows after, resolved {incident['resolved_row'] - 2 * TURN}")
    assert TURN < incident["opened_row"] <= TURN + 300
    assert {evidence["feature"] for evidence in incident["evidence"]} == {"error", "calibration"}
    assert 2 * TURN < incident["resolved_row"] <= 2 * TURN + 1_500
    assert len(found["performance"]) == pytest.approx((2 * TURN + 2_000 - LEARNED) / PANE, abs=2)
