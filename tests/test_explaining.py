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
