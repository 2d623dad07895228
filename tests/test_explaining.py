"""Explain: the pane in the open gives the number that the backtest's report has, and its own lines add up to it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from schemas.layouts import Layout
from streamer.applying import control_of, layout_of
from streamer.commands.explain import lines
from streamer.config import load_text
from streamer.explaining import Explanation, explain
from streamer.replaying import Replay
from streamer.tables import Part
from tests.histories import HOUR, START, reference, rows

REFERENCE = reference()
FILE = "models: {m: {reference: r, pane: 1h, retrain: {when: drift}}}"
TABLE = rows(40, start=START, seed=2, shift=1.0, since=24)


def layout() -> Layout:
    return layout_of("m", load_text(FILE).config.models["m"], REFERENCE)


def parts() -> Iterator[Part]:
    for first in range(0, len(TABLE), 700):
        yield Part(first, TABLE.take(slice(first, first + 700)))


def found(hour: float, feature: str = "age") -> Explanation:
    at = START + int(hour * HOUR)
    return explain(parts(), layout=layout(), reference=REFERENCE, feature=feature, at=at)


def reported(hour: int, feature: str) -> float:
    """The value in the window report of the same stream."""
    replay = Replay(control_of({"m": layout()}, {"m": REFERENCE}), windows=True)
    for part in parts():
        replay.rows(part.rows, "m", append_ts=int(part.rows.ts.max()))
    replay.flush("m", "predictions")
    window = next(window for window in replay.said.windows if window.start == START + hour * HOUR)
    return next(one.verdict.value for one in window.views[0].features if one.feature == feature and one.verdict)


@pytest.mark.parametrize("hour", [0, 10, 24, 25, 39])
@pytest.mark.parametrize("feature", ["age", "country"])
def test_it_is_the_verdict_of_the_report(hour: int, feature: str) -> None:
    """Also of the first pane and of the last, which only the end of the table closes."""
    assert found(hour + 0.5, feature).value == pytest.approx(reported(hour, feature), rel=1e-6)


def test_the_lines_add_up() -> None:
    """R of every bet follows from its own numbers, and w·R of all of them is the evidence."""
    one = found(24)
    for bet in one.bets:
        cap = math.inf if bet.cap is None else bet.cap
        assert bet.evidence == pytest.approx(min(bet.log_gain / bet.kappa, cap))
        assert bet.after == pytest.approx((bet.before + bet.entered) * math.exp(bet.evidence))
    assert one.value == pytest.approx(sum(bet.weight * bet.after for bet in one.bets))
    assert one.value_before == pytest.approx(sum(bet.weight * bet.before for bet in one.bets))
    assert one.limit == pytest.approx(one.budget / one.prior)
    assert one.n == 40


@pytest.mark.parametrize("feature", ["age", "country"])
def test_every_number_follows_from_what_is_printed(feature: str) -> None:
    """By hand: gains from the counts, κ from the design effect, a, the limit; as a person would do it."""
    one = found(24, feature)
    along = {direction.name: direction for direction in one.directions}
    shapes = [direction.name for direction in one.directions if direction.shape]
    for bet in one.bets:
        way, sign = along[bet.direction], 1.0 if bet.up else -1.0
        if way.shape:
            worth = [(column.n, column.phi[shapes.index(way.name)]) for column in one.columns]
        else:
            worth = [(way.inside, way.high), (one.n - way.inside, way.low)]
        assert sum(n for n, _ in worth) == one.n
        assert way.total == pytest.approx(sum(n * phi for n, phi in worth))
        assert bet.moved == pytest.approx(way.total - one.n * way.mean, abs=1e-9)
        gain = sum(n * math.log1p(sign * bet.fraction * phi) for n, phi in worth)
        gain -= one.n * math.log1p(bet.fraction * (sign * way.mean + bet.tolerance))
        assert bet.log_gain == pytest.approx(gain, abs=2 * one.n * 2.0**-20)
        clumped = 1 + (way.design_effect - 1) * max(1.0, one.n / way.usual_n)
        assert bet.kappa == pytest.approx(max(1.0, clumped / (1 + bet.tolerance / bet.fraction)))
        entered = one.budget * bet.fraction * bet.tolerance * one.n / (10 * bet.kappa)
        assert bet.entered == pytest.approx(min(1.0, entered))
    main = along[one.main]
    assert one.effective_n == pytest.approx(one.n / one.design_effect)
    assert main.name in ("location", shapes[0] if shapes else one.directions[0].name)


def test_the_printed_rows_can_be_computed_anew() -> None:
    """What the digits leave: R after from the columns of its line, and their sum from the weights."""
    text = lines(found(25))
    head = next(line for line in text if line.startswith("bet "))
    names = head.replace("R before", "R_before").replace("R after", "R_after").split()[1:]
    rows = [line for line in text[text.index(head) + 1 :] if line.split()[1:2] in (["up"], ["down"])]
    assert len(rows) > 3
    for row in rows:
        number = dict(zip(names, map(float, row.split()[-len(names) :]), strict=True))
        assert number["L/κ"] == pytest.approx(number["L"] / number["κ"], rel=2e-4)
        step = min(number["L/κ"], number["cap"])
        assert number["R_after"] == pytest.approx((number["R_before"] + number["a"]) * math.exp(step), rel=1e-3)
        assert number["w·R"] == pytest.approx(number["w"] * number["R_after"], rel=2e-4)


def test_in_the_pane_of_its_alarm_the_limit_is_the_one_before_it() -> None:
    """And in the incident it is the budget."""
    alarm = next(one for one in map(found, range(24, 30)) if one.alarm)
    assert alarm.limit == pytest.approx(alarm.budget / alarm.prior)
    assert alarm.alarm_limit is not None
    assert alarm.value >= alarm.alarm_limit
    after = found(30)
    assert (after.inside, after.limit) == (True, after.budget)


def test_evidence_grows_with_the_change_and_the_alarm_is_named() -> None:
    values = [found(hour) for hour in range(22, 30)]
    assert values[1].value < values[2].value < values[3].value
    assert np.sum([one.alarm == "location up" for one in values]) >= 1


def test_the_text_has_the_words_of_the_table() -> None:
    text = "\n".join(lines(found(25)))
    assert "m, age (model), 2025-01-07T01:00:00Z to 2025-01-07T02:00:00Z" in text
    assert "location up" in text
    assert "limit" in text


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ConfigurationError, match="--feature height: not monitored; age, country are"):
        found(1, "height")
    with pytest.raises(ConfigurationError, match="no events in the pane at 2025-01-10"):
        found(100)
