"""An explanation of a verdict on outcomes as text: errors, or calibration, with the formulas beside the numbers."""

from __future__ import annotations

from streamer.explaining_outcomes import OutcomeBet, OutcomeExplanation

#: Bets of calibration whose bins are shown, the strongest first.
SHOWN = 3


def outcome_lines(found: OutcomeExplanation) -> list[str]:
    """The explanation as text: every number follows from the others by the formulas that stand beside it."""
    out = [
        f"{found.model}, {found.feature} ({found.view}), predictions from {found.start} to {found.end}, labels as of "
        f"{found.due}: {found.status}" + (f", alarm: {found.alarm}" if found.alarm else "")
    ]
    if found.waits:
        return [*out, f"left out           {found.waits}"]
    strongest = sorted(found.bets, key=lambda bet: -bet.weight * bet.after)
    out += _errors(found) if not found.bins else _calibration(found, [bet for bet in strongest if bet.weight][:SHOWN])
    names = ("λ", "L", "κ", "L/κ", "cap", "a", "R before", "R after", "w")
    out.append(f"{'bet':24}" + "".join(f"{name:>11}" for name in names))
    for bet in strongest:
        numbers = (
            bet.fraction, bet.log_gain, bet.kappa, bet.log_gain / bet.kappa, bet.cap, bet.entered, bet.before,
            bet.after, bet.weight,
        )  # fmt: skip
        out.append(f"{_name(bet):24}" + "".join(f"{number:>11.5g}" for number in numbers))
    out += _formulas(found)
    out.append(
        f"evidence           {found.value:,.6g} outcome panes, the mean of w·R after over {len(found.bets)} bets; "
        f"before this pane {found.value_before:,.6g}"
    )
    share = f"A = {found.budget:,.8g} panes, of which this chart has v = {found.prior:.6g}"
    if found.inside:
        out.append(f"limit              {found.limit:,.8g}: it is in the open incident, and alarms again from A on")
    else:
        out.append(f"limit              {found.limit:,.8g} alone, A/v ({share}); A/(k·v) where k pass it together")
    return out


def _errors(found: OutcomeExplanation) -> list[str]:
    mean = found.total / max(found.n, 1)
    return [
        f"labels             n = {found.n:,}, losses S = {found.total:,.6g}, {mean:.4%} of n (a label counts as "
        f"1/{found.design_effect:.5g})",
        f"reference          {found.reference}: {found.rate:.4%}; at this hour μ = {found.mean:.6f}",
        f"tolerated          up to p = min(μ + tol, (1 + μ)/2), tol = {found.tolerance:.6f}, which is ε = "
        f"{found.epsilon:.5g} sd",
    ]


def _calibration(found: OutcomeExplanation, shown: list[OutcomeBet]) -> list[str]:
    out = [
        f"labels             n = {found.n:,}, information Σ g(1 − g) = {found.information:,.6g} (a label counts as "
        f"1/{found.design_effect:.5g})",
        f"reference          {found.reference}: g, what the scores of a bin stand for at this hour",
        f"tolerated          a change of every bin by ε = {found.tolerance:.5g} in logit",
        f"{'score, above to':20}{'labels n':>10}{'ones y':>8}{'g':>10}"
        + "".join(f"{f'δ {_name(bet)}':>17}{'c':>10}" for bet in shown),
    ]
    places = [found.bets.index(bet) for bet in shown]
    for one in found.bins:
        moves = "".join(f"{one.delta[k]:>17.5f}{one.tolerated[k]:>10.5f}" for k in places)
        out.append(f"{f'{one.low:.4f} to {one.high:.4f}':20}{one.n:>10,}{one.ones:>8,}{one.expected:>10.5f}{moves}")
    return out


def _name(bet: OutcomeBet) -> str:
    if bet.step is not None:
        return f"η = {bet.step:g}"
    return f"a {bet.a:+g}, b {bet.b:g}"


def _formulas(found: OutcomeExplanation) -> list[str]:
    slack = "" if found.strict else "(1 + ε/λ)"
    if found.bins:
        over = f" / {slack}" if slack else ""
        deff = ", ".join(f"{_name(bet)}: {bet.design_effect:.4g}" for bet in found.bets)
        return [
            "L = Σ y·δ − n·ln(1 + g*·(e^δ − 1)), g* = σ(logit g + c)",
            f"κ = max(1, (1 + (deff − 1)·max(1, n/n̄)){over}), n̄ = {found.usual_n:.5g}, deff by bet: {deff}",
            "a = min(1, A·λ·ε·Σ g(1 − g)/(10·κ));  R after = (R before + a)·exp(min(L/κ, cap))",
        ]
    times = f"κ·{slack}" if slack else "κ"
    return [
        "L = S·η − n·ln(1 + p·(e^η − 1))",
        f"κ, at least 1, solves {times} = 1 + (deff − 1)·f + M₃·f²·λ/(3·κ), f = max(1, n/n̄), n̄ = {found.usual_n:.5g}, "
        f"M₃ = {found.skew:.5g}",
        "a = min(1, A·λ·ε·n/(10·κ));  R after = (R before + a)·exp(min(L/κ, cap))",
    ]
