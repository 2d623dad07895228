"""Performance and calibration of a backtest by outcome pane, as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.verdicts import CalibrationReport, Metric, OutcomeReport
from streamer import spans

#: Rows that are shown at most; of more panes every second, third, … is. `--json` has all.
SHOWN = 40
#: What is shown of each kind of model, and under which heading.
COLUMNS = {
    "accuracy": "accuracy",
    "roc_auc": "AUC",
    "average_precision": "AP",
    "f1": "F1",
    "log_loss": "log loss",
    "brier": "Brier",
    "top_1": "top 1",
    "top_5": "top 5",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "bias": "bias",
    "r2": "R²",
}


def tell_performance(reports: Sequence[OutcomeReport]) -> None:
    """Print the table; nothing without outcomes."""
    if not reports:
        return
    from rich.console import Console
    from rich.table import Table

    step = -(-len(reports) // SHOWN)
    shown = reports[::step]
    metrics = [{one.name: one for one in report.views[0].metrics if not one.of} for report in shown]
    names = [name for name in COLUMNS if any(name in found for found in metrics)]
    calibrated = any(report.views[0].calibration is not None for report in shown)
    panes = f"{len(reports):,} outcome panes of {spans.words(reports[0].end - reports[0].start)}"
    title = panes if step == 1 else f"{panes}, one in {step} shown (--json has all)"
    table = Table(title=f"performance by time of the prediction: {title}", title_justify="left", box=None)
    for heading in ("from", "n", "covered", *(COLUMNS[name] for name in names)):
        table.add_column(heading, justify="left" if heading == "from" else "right")
    for heading in ("ECE (noise)", "slope") if calibrated else ():
        table.add_column(heading, justify="right")
    for report, found in zip(shown, metrics, strict=True):
        covered = "" if report.coverage is None else f"{report.coverage:.0%}{' early' if report.early else ''}"
        table.add_row(
            spans.rfc3339(report.start),
            f"{report.n:,}",
            covered,
            *(figure(found, name) for name in names),
            *(_calibration(report.views[0].calibration) if calibrated else ()),
        )
    Console(highlight=False, soft_wrap=True, width=60 + 26 * len(names) + 40).print(table)
    print("in brackets: 95 % intervals, of independent rows; ECE's noise is what perfect scores would show")
    said = {finding for report in reports for finding in report.findings if not report.early}
    for finding in sorted(said)[:5]:
        print(f"note: {finding}")


def figure(found: Mapping[str, Metric], name: str) -> str:
    """A metric with its interval, or a dash.

    >>> figure({"brier": Metric(name="brier", n=9, value=0.1234, low=0.1, high=0.15, interval="normal")}, "brier")
    '0.123 (0.100–0.150)'
    """
    metric = found.get(name)
    if metric is None or metric.value is None:
        return "–"
    low = "" if metric.low is None else _short(metric.low)
    high = "" if metric.high is None else _short(metric.high)
    return f"{_short(metric.value)} ({low}–{high})"


def _calibration(found: CalibrationReport | None) -> tuple[str, str]:
    if found is None:
        return "–", "–"
    return f"{found.ece:.3f} ({found.ece_noise:.3f})", figure({"slope": found.slope}, "slope")


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
