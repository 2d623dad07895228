"""The arithmetic of one verdict on outcomes: a table through the cores until the pane is mature, then step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.charts import calibration, losses, mixture
from detectors.charts.calibration import Calibration
from detectors.charts.calibration_map import expit
from detectors.charts.losses import UNIT, WORSE, Losses
from detectors.charts.mixture import Mixture
from detectors.outcome_frames import OutcomeScope
from detectors.outcome_scopes import update
from detectors.outcome_ticks import scored
from detectors.outcomes import losses_of
from detectors.references import Reference
from detectors.results import STATUSES
from detectors.seasonality import pane_weights
from schemas.errors import ConfigurationError
from schemas.layouts import Layout, View
from schemas.verdicts import Status
from streamer.applying import control_of
from streamer.backtesting import Crossings, pieces
from streamer.core.closing import SeenOutcomes, Sought
from streamer.replaying import Replay
from streamer.spans import rfc3339
from streamer.tables import Part

Floats: TypeAlias = npt.NDArray[np.float64]

_WEEK_MS = 7 * 86_400_000


class OutcomeBet(msgspec.Struct, frozen=True, kw_only=True):
    """One bet. `evidence = log gain / kappa`, at most `cap`; `after = (before + entered)·exp(evidence)`.

    step: η of losses; a, b of calibration: `logit q = m + a + b·(logit g − m)`. weight: in the mean over the bets.
    fraction: λ; design_effect: that tempers it.
    """

    step: float | None = None
    a: float | None = None
    b: float | None = None
    weight: float
    fraction: float
    design_effect: float
    log_gain: float
    kappa: float
    cap: float
    evidence: float
    entered: float
    before: float
    after: float


class ScoreBin(msgspec.Struct, frozen=True, kw_only=True):
    """Labels of scores in (low, high]: n, ones of them, and g, how many of them the reference expects now.

    delta: δ of each bet; tolerated: c.
    """

    low: float
    high: float
    n: int
    ones: int
    expected: float
    delta: list[float]
    tolerated: list[float]


class OutcomeExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict on outcomes. value: mean of weight·after over the bets, in outcome panes; limit: as for features.

    n labels in the pane, of losses `total` together; rate: p0 of the reference, mean: of this hour; tolerance: in the
    rate, or in logit; epsilon: in sd. usual_n: n̄; skew: M₃. bins: of calibration, those with labels. due: when the
    charts took the pane; waits: why they left it out.
    """

    model: str
    view: str
    feature: str
    start: str
    end: str
    due: str
    status: Status
    waits: str
    n: int
    reference: str
    design_effect: float
    usual_n: float
    strict: bool
    tolerance: float
    epsilon: float
    bets: list[OutcomeBet]
    bins: list[ScoreBin] = []
    information: float = 0.0
    total: float = 0.0
    rate: float = 0.0
    mean: float = 0.0
    skew: float = 0.0
    value_before: float
    value: float
    limit: float
    budget: float
    prior: float
    inside: bool
    alarm: str
    alarm_limit: float | None


def explain(
    parts: Iterable[Part], *, layout: Layout, reference: Reference, feature: str, at: int, view: View | None = None
) -> OutcomeExplanation:
    """Explain what the chart `feature` (`error`, `calibration`, …) said of the predictions in the outcome pane of `at`.

    `ConfigurationError`: no such chart, no such pane, or one whose labels are not mature when the table ends.
    """
    if not layout.horizon_ms:
        raise ConfigurationError(f"--feature {feature}: the table has no outcomes, or the reference nothing to compare")
    layout = msgspec.structs.replace(layout, from_ms=0, partition=0, max_alert_age_ms=None)
    start = at // layout.outcome_pane_ms * layout.outcome_pane_ms
    sought = Sought(layout.model, start)
    replay = Replay(control_of({layout.model: layout}, {layout.model: reference}))
    replay.seek(sought)
    for piece in pieces(parts, Crossings(layout.pane_ms, layout.lateness_ms)):
        replay.rows(piece.rows, layout.model, append_ts=piece.append_ts, ids=piece.ids, ahead=piece.ahead)
        if sought.outcomes is not None:
            break
    else:
        replay.flush(layout.model, layout.kind)
    if sought.outcomes is None:
        raise ConfigurationError(
            f"--at {rfc3339(at)}: the table has no predictions with outcomes in the pane at {rfc3339(start)}, or ends "
            "before they are mature"
        )
    return explain_seen(sought.outcomes, start=start, feature=feature, view=view or View())


def explain_seen(seen: SeenOutcomes, *, start: int, feature: str, view: View) -> OutcomeExplanation:
    """Explain a pane that the cores have shown."""
    scope, state, layout = seen.form.outcomes, seen.state, seen.form.layout
    assert scope is not None
    m = _monitor(scope, feature, view)
    if not isinstance(scope.plan, Losses) and scope.monitors[m].kind == "losses":
        raise ConfigurationError(
            f"--feature {feature}: the reference has no outcomes, so errors are compared with the time before, by a "
            "limit that is simulated; there is no sum of bets to show"
        )
    _, result = update(scope, state, start=start, local=seen.local, counts=seen.counts)
    weights = pane_weights(seen.local % _WEEK_MS, layout.outcome_pane_ms)
    inside = bool(state.member[m])
    alarms = [*result.alarms, *(absorbed.alarm for absorbed in result.absorbed)]
    found = next((one.evidence for one in alarms if (one.view, one.feature) == scope.monitor_of(m)), None)
    said = _losses(scope, seen, m, weights) if scope.monitors[m].kind == "losses" else _maps(scope, seen, m, weights)
    return OutcomeExplanation(
        model=layout.model,
        view=str(scope.views[scope.monitors[m].view]),
        feature=scope.monitors[m].name,
        start=rfc3339(start),
        end=rfc3339(result.end),
        due=rfc3339(result.end + layout.maturity_ms),
        status=STATUSES[int(result.status[m])],
        waits=result.waits,
        reference=scope.reference.id,
        strict=layout.strict,
        limit=scope.budget if inside else float(scope.limit[m]),
        budget=scope.budget,
        prior=float(scope.prior[m]),
        inside=inside,
        alarm="" if found is None else found.direction,
        alarm_limit=None if found is None else found.limit,
        **said,
    )


def _monitor(scope: OutcomeScope, feature: str, view: View) -> int:
    for m, monitor in enumerate(scope.monitors):
        if monitor.name == feature and scope.views[monitor.view] == view:
            return m
    known = sorted({monitor.name for monitor in scope.monitors if scope.views[monitor.view] == view})
    raise ConfigurationError(f"--feature {feature}: has no chart of {view}; {', '.join(known) or 'none'} has")


def _losses(scope: OutcomeScope, seen: SeenOutcomes, m: int, weights: Floats) -> dict[str, Any]:
    plan, charts = scope.plan, seen.state.losses
    assert isinstance(plan, Losses)
    assert isinstance(charts, Mixture)
    rows, sums = losses_of(scope.table, seen.counts[scope.loss_views])
    mu = weights @ scope.loss_profile
    n, total, mean = float(rows[m]), float(sums[m]) / UNIT, float(np.clip(mu, 0.0, 1.0)[m])
    p = min(mean + float(plan.tolerance[WORSE, m]), (1.0 + mean) / 2.0)
    gain = total * losses.STEPS - n * np.log1p(p * np.expm1(losses.STEPS))
    kappa = losses.temper(plan, rows.astype(np.float64))[WORSE, :, m]
    entering = mixture.entry(
        budget=plan.budget, fraction=plan.fraction[WORSE, :, m], tolerance=plan.epsilon[WORSE, m], n=np.array(n),
        kappa=kappa,
    )  # fmt: skip
    before = charts.r[WORSE, :, m]
    after, _ = losses.tick(plan, charts, n=rows, sums=sums, mu=mu, pane=1)
    bets = [
        OutcomeBet(
            step=step,
            weight=1.0,
            fraction=float(plan.fraction[WORSE, k, m]),
            design_effect=float(plan.deff[m]),
            log_gain=float(gain[k]),
            kappa=float(kappa[k]),
            cap=float(plan.cap[m]),
            evidence=min(float(gain[k] / kappa[k]), float(plan.cap[m])),
            entered=float(entering[k]),
            before=float(before[k]),
            after=float(after.r[WORSE, k, m]),
        )
        for k, step in enumerate(losses.STEPS.tolist())
    ]
    return {
        "n": int(n), "total": total, "rate": float(plan.rate[m]), "mean": mean, "bets": bets,
        "tolerance": float(plan.tolerance[WORSE, m]), "epsilon": float(plan.epsilon[WORSE, m]),
        "design_effect": float(plan.deff[m]), "usual_n": float(plan.n_bar[m]), "skew": float(plan.third[WORSE, m]),
        "value_before": float(mixture.average(charts.r)[WORSE, m]),
        "value": float(mixture.average(after.r)[WORSE, m]),
    }  # fmt: skip


def _maps(scope: OutcomeScope, seen: SeenOutcomes, m: int, weights: Floats) -> dict[str, Any]:
    plan, charts = scope.calibrated, seen.state.calibration
    assert isinstance(plan, Calibration)
    assert charts is not None
    i = m - scope.loss_views.size
    table = i if len(plan.maps) > 1 else 0
    labels, shift = scored(scope, seen.counts, weights @ scope.map_profile)
    after, value = calibration.tick(plan, charts, counts=labels, shift=shift, pane=1)
    judged = plan.weight[table] > 0
    rows, ones = labels[i].sum(axis=1) * judged, labels[i, :, 1] * judged
    logit = plan.logit[table] + shift[i]
    g, delta, moved = expit(logit), plan.delta[table], plan.moved[table]
    gain = (ones[:, None] * delta - rows[:, None] * np.log1p(expit(logit[:, None] + moved) * np.expm1(delta))).sum(0)
    n = np.zeros(plan.monitors)
    n[i] = rows.sum()
    kappa = calibration.temper(plan, n)[:, i]
    information = float((rows * g * (1.0 - g)).sum())
    entering = mixture.entry(
        budget=plan.budget, fraction=plan.fraction[:, table], tolerance=plan.epsilon[table],
        n=np.array(information), kappa=kappa,
    )  # fmt: skip
    bets = [
        OutcomeBet(
            a=a,
            b=b,
            weight=float(plan.active[k, table]),
            fraction=float(plan.fraction[k, table]),
            design_effect=float(plan.deff[k, table]),
            log_gain=float(gain[k]),
            kappa=float(kappa[k]),
            cap=float(plan.cap[i]),
            evidence=min(float(gain[k] / kappa[k]), float(plan.cap[i])),
            entered=float(entering[k]),
            before=float(charts.r[k, i]),
            after=float(after.r[k, i]),
        )
        for k, (a, b) in enumerate(calibration.BETS)
    ]
    return {
        "n": int(n[i]), "bets": bets, "information": information,
        "bins": list(_bins(plan.maps[table].edges, rows, ones, g, delta=delta, moved=moved)),
        "tolerance": float(plan.epsilon[table]), "epsilon": float(plan.epsilon[table]),
        "design_effect": float(plan.shared_deff[table]), "usual_n": float(plan.n_bar[i]),
        "value_before": float(mixture.average(charts.r * plan.active)[i]), "value": float(value[i]),
    }  # fmt: skip


def _bins(edges: Floats, rows: Floats, ones: Floats, g: Floats, *, delta: Floats, moved: Floats) -> Iterator[ScoreBin]:
    ends = [0.0, *expit(edges).tolist(), 1.0]
    for at, (low, high) in enumerate(pairwise(ends)):
        if rows[at]:
            yield ScoreBin(
                low=low, high=high, n=int(rows[at]), ones=int(ones[at]), expected=float(g[at]),
                delta=delta[at].tolist(), tolerated=moved[at].tolist(),
            )  # fmt: skip
