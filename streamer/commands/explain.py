"""`tripline explain`: the arithmetic of one verdict, for a person who doubts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson

from detectors.outcome_frames import names_of
from schemas.errors import ConfigurationError
from schemas.layouts import View
from streamer import spans
from streamer.applying import targets
from streamer.commands.backtest import _only, _reference, opened, reading_from
from streamer.commands.explain_outcomes import outcome_lines
from streamer.config import load
from streamer.explaining import Along, Bet, Explanation
from streamer.explaining import explain as explained
from streamer.explaining_outcomes import OutcomeExplanation
from streamer.explaining_outcomes import explain as of_outcomes
from streamer.tables import reading_of

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
    table, layout = opened(data, layout, learned, reading)
    column, _, value = view.partition("=")
    found: Explanation | OutcomeExplanation
    if feature not in layout.monitored and feature in names_of(learned):
        found = of_outcomes(
            table.parts(), layout=layout, reference=learned, feature=feature, at=moment, view=View(column, value)
        )
        text = outcome_lines(found)
    else:
        found = explained(
            table.parts(), layout=layout, reference=learned, feature=feature, at=moment, view=View(column, value)
        )
        text = lines(found)
    if as_json:
        print(orjson.dumps(msgspec.to_builtins(found), option=orjson.OPT_INDENT_2).decode())
        return
    print("\n".join(text))


def lines(found: Explanation) -> list[str]:
    """The explanation as text: every number follows from the others by the formulas that stand beside it."""
    out = [
        f"{found.model}, {found.feature} ({found.view}), {found.start} to {found.end}: {found.status}"
        + (f", alarm: {found.alarm}" if found.alarm else ""),
        *(f"hard rule          {words}" for words in found.rules),
        f"events             n = {found.n:,}, worth {found.effective_n:,.5g} independent ones (design effect "
        f"{found.design_effect:.5g}{f' of {found.main}' if found.main else ''})",
        f"reference          {found.reference}, {found.reference_n:,} rows",
    ]
    strongest = sorted(found.bets, key=lambda bet: -bet.share)
    shown = strongest[:SHOWN]
    along = [one for one in found.directions if any(bet.direction == one.name for bet in shown)]
    if shown:
        out += ["", *_counted(found, along), "", *_directions(along), "", *_bets(found, shown)]
    if rest := strongest[SHOWN:]:
        out.append(f"and {len(rest)} more bets, w·R together {sum(bet.share for bet in rest):.5g} (all: --json)")
    if shown:
        out += _formulas(found)
    out.append(f"evidence Σ w·R     {found.value:,.6g} panes, before this pane {found.value_before:,.6g}")
    out += _limits(found)
    others = ", ".join(f"{name} {part:.2g}" for name, part in found.others.items()) or "none has any"
    out.append(f"others             {others}  (v·w·R as a part of A)")
    day = f"on a day of {found.day_n:,.0f} events in {found.day_panes:,.0f} panes"
    if found.visible_change is not None:
        out.append(f"visible in a day   a change of {found.visible_change:.3g} sd, nine times of ten, {day}")
    elif found.visible_panes:
        out.append(f"visible in a day   nothing, {day}; at least {found.visible_panes:.0f} panes")
    if found.shape:
        out.append(f"since the alarm    a {found.shape}; over the last panes {found.size_now:.3g}")
    if found.note:
        out.append(f"note               {found.note}")
    return out


def _counted(found: Explanation, along: list[Along]) -> list[str]:
    """The columns with what a row of each is worth; of indicators alone it is said with the direction."""
    shapes = [one.name for one in found.directions if one.shape]
    wanted = [shapes.index(one.name) for one in along if one.shape]
    if not wanted:
        return [f"{'':24}{'events c':>10}{'φ of each':>11}{'φ of others':>13}"] + [
            f"{one.name:24}{one.inside:>10,}{one.high:>11.5f}{one.low:>13.5f}" for one in along
        ]
    width = max(24, *(len(column.name) + 2 for column in found.columns))
    head = f"{'from, to (included)':{width}}{'reference':>11}{'events c':>10}"
    out = [head + "".join(f"{'φ ' + shapes[k]:>12}" for k in wanted)]
    for column in found.columns:
        phi = "".join(f"{column.phi[k]:>12.5f}" for k in wanted)
        out.append(f"{column.name:{width}}{column.reference:>11,}{column.n:>10,}{phi}")
    rare = [one for one in along if not one.shape]
    out += [f"{one.name}: φ is {one.high:.5f} for {one.inside:,} events, {one.low:.5f} for the others" for one in rare]
    return out


def _directions(along: list[Along]) -> list[str]:
    return [f"{'direction':24}{'S = Σ c·φ':>12}{'μ':>10}{'S − n·μ':>12}{'deff':>10}{'n̄':>10}"] + [
        f"{one.name:24}{one.total:>12.4f}{one.mean:>10.5f}{one.moved:>12.4f}{one.design_effect:>10.5g}"
        f"{one.usual_n:>10.5g}"
        for one in along
    ]


def _bets(found: Explanation, shown: list[Bet]) -> list[str]:
    names = ("λ", "w", "ε", "L", "κ", "L/κ", "cap", "a", "R before", "R after", "w·R")
    return [f"{'bet':24}" + "".join(f"{name:>11}" for name in names)] + [
        f"{bet.direction + (' up' if bet.up else ' down'):24}"
        + "".join(
            "          –" if number is None else f"{number:>11.5g}"
            for number in (
                bet.fraction, bet.weight, bet.tolerance, bet.log_gain, bet.kappa, bet.log_gain / bet.kappa, bet.cap,
                bet.entered, bet.before, bet.after, bet.share,
            )
        )
        for bet in shown
    ]  # fmt: skip


def _formulas(found: Explanation) -> list[str]:
    kappa = "κ = max(1, 1 + (deff − 1)·max(1, n/n̄))" if found.strict else (
        "κ = max(1, (1 + (deff − 1)·max(1, n/n̄)) / (1 + ε/λ))"
    )  # fmt: skip
    doubt = f" · {found.doubt:.5g} (the mean is an estimate)" if found.doubt != 1.0 else ""
    return [
        "L = Σ c·ln(1 + s·λ·φ) − n·ln(1 + λ·(s·μ + ε)), s = 1 up, −1 down, the first logarithm rounded down, the "
        "second up, to 2⁻²⁰",
        f"{kappa}{doubt};  a = min(1, A·λ·ε·n/(10·κ));  R after = (R before + a)·exp(min(L/κ, cap))",
        "",
    ]


def _limits(found: Explanation) -> list[str]:
    """What the evidence is compared with: the budget, and how it is shared."""
    share = f"A = {found.budget:,.8g} panes, of which this monitor has v = {found.prior:.6g}"
    if found.inside:
        return [f"limit              {found.limit:,.8g}: it is in the open incident, and alarms again from A on"]
    out = [f"limit              {found.limit:,.8g} alone, A/v ({share})"]
    if found.alarm_limit is not None:
        k = round(found.budget / (found.prior * found.alarm_limit))
        out.append(
            f"alarm              it had to reach {found.alarm_limit:,.8g}, A/(k·v), where k = {k} pass together or have"
        )
    out.append(
        f"shared             place {found.place} of {found.monitors} configured monitors, {found.members} in the open "
        f"incident: with those before it, it would alarm from {found.listed_limit:,.8g} on, "
        f"A/(({found.members} + {found.place})·v)"
    )
    return out
