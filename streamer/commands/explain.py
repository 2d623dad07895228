"""`tripline explain`: the arithmetic of one verdict, for a person who doubts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson

from schemas.errors import ConfigurationError
from schemas.layouts import View
from streamer import spans
from streamer.applying import targets
from streamer.backtesting import kinds_of
from streamer.commands.backtest import _only, _reference, derived_of, reading_from
from streamer.config import load
from streamer.explaining import Bet, Explanation
from streamer.explaining import explain as explained
from streamer.tables import Table, reading_of

#: Bets that are shown, the strongest first.
SHOWN = 12


def explain(
    data: Path,
    config: Path,
    *,
    model: str,
    feature: str,
    at: str,
    view: str = "",
    reference: Path | None = None,
    map: str = "",
    rows: str = "",
    every: str = "",
    start: str = "",
    header: bool | None = None,
    as_json: bool = False,
) -> None:
    """Run `data` as history of `model` up to the pane that holds `at`; print how the verdict on `feature` came."""
    try:
        moment = spans.instant(at)
    except ValueError as error:
        raise ConfigurationError(f"--at {at}: {error}") from error
    loaded = _only(load(config), model)
    learned = _reference(loaded, model, reference)
    layout = targets(loaded, {model: learned})[model]
    if layout.batch_gap_ms:
        raise ConfigurationError("explain knows panes of time, not batches", path=f"models.{model}.pane")
    reading = reading_of(
        reading_from(loaded.config.models[model]), map=map, rows=rows, every=every, start=start, header=header
    )
    known = [spec.name for spec in learned.specs if spec.name not in derived_of(learned)]
    table = Table(
        data, reading, kinds=kinds_of(learned), ids=True, lenient=True, known=known, model=model, lists=layout.features
    )
    column, _, value = view.partition("=")
    found = explained(
        table.parts(), layout=layout, reference=learned, feature=feature, at=moment, view=View(column, value)
    )
    if as_json:
        print(orjson.dumps(msgspec.to_builtins(found), option=orjson.OPT_INDENT_2).decode())
        return
    print("\n".join(lines(found)))


def lines(found: Explanation) -> list[str]:
    """The explanation as text."""
    out = [
        f"{found.model}, {found.feature} ({found.view}), {found.start} to {found.end}: {found.status}"
        + (f", alarm: {found.alarm}" if found.alarm else ""),
        f"events             {found.n:,}, worth {found.effective_n:,.1f} independent ones "
        f"(design effect {found.design_effect:.2f})",
        f"reference          {found.reference}, {found.reference_n:,} rows",
        "",
        f"{'bet':24}{'λ':>6}{'w':>8}{'μ':>8}{'ε':>7}{'S − nμ':>10}{'L':>9}{'κ':>7}{'L/κ':>8}{'a':>6}"
        f"{'R before':>12}{'R after':>12}{'w·R':>11}",
    ]
    strongest = sorted(found.bets, key=lambda bet: -bet.share)
    out += [_line(bet) for bet in strongest[:SHOWN]]
    if rest := strongest[SHOWN:]:
        out.append(f"and {len(rest)} more bets, w·R together {sum(bet.share for bet in rest):.4g}")
    out += ["(* L/κ is cut at the cap; R after = (R before + a) · exp(L/κ))", ""]
    share = f"A = {found.budget:,.0f} panes, of which this monitor has {found.prior:.3g}"
    out.append(f"evidence Σ w·R     {found.value:,.4g} panes, before this pane {found.value_before:,.4g}")
    out.append(f"limit              {found.limit:,.6g} alone ({share})")
    others = ", ".join(f"{name} {part:.2g}" for name, part in found.others.items()) or "none has any"
    out.append(
        f"shared             place {found.place} of {found.monitors} configured monitors, {found.members} in the open "
        f"incident: with those before it, it would alarm from {found.listed_limit:,.6g}"
    )
    out.append(f"others             {others}  (v·w·R as a part of A)")
    if found.visible_change is not None:
        out.append(f"visible in a day   a change of {found.visible_change:.3g} sd, nine times of ten")
    elif found.visible_panes:
        out.append(f"visible in a day   nothing; at least {found.visible_panes:.0f} panes")
    if found.shape:
        out.append(f"since the alarm    a {found.shape}; over the last panes {found.size_now:.3g}")
    if found.note:
        out.append(f"note               {found.note}")
    return out


def _line(bet: Bet) -> str:
    cut = "*" if bet.cap is not None and bet.evidence >= bet.cap else " "
    return (
        f"{bet.direction + (' up' if bet.up else ' down'):24}{bet.fraction:>6.3f}{bet.weight:>8.4f}{bet.mean:>8.3f}"
        f"{bet.tolerance:>7.3f}{bet.moved:>10.2f}{bet.log_gain:>9.3f}{bet.kappa:>7.2f}{bet.evidence:>7.3f}{cut}"
        f"{bet.entered:>6.2f}{bet.before:>12.4g}{bet.after:>12.4g}{bet.share:>11.4g}"
    )
