"""river's detectors on panes of counts: the same as river itself on the same values, and a state that is a value."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from river import drift
from river.drift import binary

from detectors.charts.rivers import (
    MEMORY,
    MOST,
    OF_OUTCOMES,
    OF_STATISTICS,
    RIVERS,
    Noted,
    Riverside,
    alarms_a_month,
    interleaved,
    load,
    save,
    take,
    unfit,
    update,
)
from schemas.errors import FormatError
from schemas.layouts import OtherDetector

ALL = tuple(OtherDetector(name=name) for name in OF_OUTCOMES)


def panes(seed: int, *, count: int = 120, n: int = 80, since: int = 60) -> list[tuple[int, int]]:
    """Panes of n labels, .1 of them wrong, .35 from pane `since` on."""
    rng = np.random.default_rng(seed)
    rates = np.where(np.arange(count) < since, 0.1, 0.35)
    return [(n, int(k)) for k in rng.binomial(n, rates)]


def story(others: tuple[OtherDetector, ...], told: list[tuple[int, int]]) -> tuple[Riverside, list[tuple[int, Noted]]]:
    state, found = Riverside.start(others), []
    for at, (n, k) in enumerate(told):
        state, noted = update(others, state, n=n, k=k)
        found += [(at, one) for one in noted]
    return state, found


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (7, 3), (500, 499), (501, 100), (100_000, 33_333)])
def test_a_pane_becomes_its_ones_and_zeros_evenly(n: int, k: int) -> None:
    values = list(interleaved(n, k))
    assert len(values) == min(n, MOST)
    assert abs(sum(values) / len(values) - k / n) <= 0.5 / len(values)
    running = np.cumsum(values) - np.arange(1, len(values) + 1) * sum(values) / len(values)
    assert np.abs(running).max() < 1


@pytest.mark.parametrize(
    ("other", "theirs"),
    [
        (OtherDetector(name="adwin", parameters={"delta": 0.01}), drift.ADWIN(delta=0.01)),
        (OtherDetector(name="ddm"), binary.DDM()),
        (OtherDetector(name="eddm", parameters={"warm_start": 60}), binary.EDDM(warm_start=60)),
        (OtherDetector(name="hddm_a"), binary.HDDMA()),
        (OtherDetector(name="hddm_w", parameters={"lambda_val": 0.02}), binary.HDDMW(lambda_val=0.02)),
        (OtherDetector(name="page_hinkley", parameters={"threshold": 20.0}), drift.PageHinkley(threshold=20.0)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_first_alarm_is_that_of_river_on_the_same_values(other: OtherDetector, theirs: object) -> None:
    told = panes(1)
    first = None
    for at, (n, k) in enumerate(told):
        for value in interleaved(n, k):
            theirs.update(value)  # type: ignore[attr-defined]
            if theirs.drift_detected and first is None:  # type: ignore[attr-defined]
                first = at
    _, found = story((other,), told)
    assert first is not None
    assert found[0][0] == first


def test_fhddm_is_told_what_is_right() -> None:
    """It waits for a fall of what it is fed."""
    _, found = story((OtherDetector(name="fhddm"),), panes(2))
    assert found
    assert min(at for at, _ in found) >= 60


def test_what_is_noted_says_from_what_to_what() -> None:
    _, found = story((OtherDetector(name="adwin"),), panes(3))
    at, first = found[0]
    assert at in range(60, 64)
    assert (first.panes, first.before, first.now) == (
        at + 1,
        pytest.approx(0.1, abs=0.05),
        pytest.approx(0.35, abs=0.1),
    )
    assert "errors rose" in first.words
    assert "never paged" in first.words


@pytest.mark.parametrize("every", [1, 7])
def test_saved_and_restored_it_goes_on_as_if_never_stopped(every: int) -> None:
    """What is fed again gives the same detector, whoever feeds it."""
    told = panes(4)
    whole, found = story(ALL, told)
    state, again = Riverside.start(ALL), list[tuple[int, Noted]]()
    for at, (n, k) in enumerate(told):
        if at % every == 0:
            from detectors.charts import rivers

            rivers._memo.clear()
            state = load(ALL, save(state))
        state, noted = update(ALL, state, n=n, k=k)
        again += [(at, one) for one in noted]
    assert (state, again) == (whole, found)


def test_an_old_state_can_be_gone_on_from_twice() -> None:
    """A value: the memo of how a detector stands changes no answer."""
    told = panes(5)
    half, _ = story(ALL, told[:50])

    def rest() -> list[tuple[str, ...]]:
        state, said = half, []
        for n, k in told[50:]:
            state, noted = update(ALL, state, n=n, k=k)
            said.append(tuple(one.detector for one in noted))
        return said

    assert rest() == rest()


def test_its_memory_is_bounded() -> None:
    quiet = (OtherDetector(name="adwin", parameters={"delta": 1e-12}),)
    state, _ = story(quiet, [(2, 1)] * (2 * MEMORY + 5))
    assert len(state.panes[0]) == 5
    assert len(save(state)) < 100


def test_an_empty_pane_says_nothing() -> None:
    state = Riverside.start(ALL)
    assert update(ALL, state, n=0, k=0) == (state, ())


def test_a_state_of_other_detectors_or_damaged_is_refused() -> None:
    state, _ = story(ALL[:2], panes(6, count=3))
    for raw, words in ((save(state), "of 2, there are 7"), (b"\xff", "state of river's detectors")):
        with pytest.raises(FormatError, match=words):
            load(ALL, raw)
    with pytest.raises(FormatError, match="format 9"):
        load(ALL, b"\x93\x09\x90\x90")


def test_what_does_not_exist_is_told_with_what_does() -> None:
    assert unfit(OtherDetector(name="adwin", parameters={"delta": 0.1})) == ""
    assert unfit(OtherDetector(name="cusum")).startswith("'cusum' is none of adwin")
    assert unfit(OtherDetector(name="adwin", parameters={"beta": 1})).startswith("adwin has no beta")


EDGES = {"between 0 and 1": (1e-12, 0.999), "a whole number from 1 on": (1.0, 400.0), "more than 0": (1e-6, 1e6)}
EDGES["a whole number from 0 on"] = (0.0, 7.0)


@pytest.mark.parametrize("name", RIVERS)
def test_no_parameter_that_is_taken_stumbles_in_the_middle_of_a_stream(name: str) -> None:
    """A worker that falls over a detector that pages nobody would be a bad bargain."""
    rng = np.random.default_rng(0)
    values = rng.random(260).tolist()
    for parameter, kind in RIVERS[name][1].items():
        for edge in EDGES[kind]:
            other = OtherDetector(name=name, parameters={parameter: edge})
            if unfit(other, tuple(RIVERS)):
                continue
            state, panes = Riverside.start((other,)), [(80, 9), (3, 0), (500, 500), (1, 1)]
            for pane in values if name in OF_STATISTICS else panes:
                state, _ = take((other,), state, [pane])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (OtherDetector(name="adwin", parameters={"delta": 0.0}), "delta must be between 0 and 1, got 0"),
        (OtherDetector(name="ddm", parameters={"warm_start": 2.5}), "warm_start must be a whole number from 1 on"),
        (OtherDetector(name="page_hinkley", parameters={"threshold": -1.0}), "threshold must be more than 0"),
        (OtherDetector(name="kswin", parameters={"window_size": 40.0}), "at least twice stat_size, got 40 and 30"),
    ],
)
def test_what_river_would_stumble_over_is_refused_before(other: OtherDetector, words: str) -> None:
    assert words in unfit(other, tuple(RIVERS))


def test_a_month_of_noise_is_counted_in_alarms() -> None:
    """EDDM knows no rest; ADWIN at a small delta does."""
    often = alarms_a_month(OtherDetector(name="eddm"), rate=0.1, labels=50, panes=300)
    seldom = alarms_a_month(OtherDetector(name="adwin", parameters={"delta": 1e-6}), rate=0.1, labels=50, panes=300)
    assert often > 5
    assert seldom == 0.0


def test_river_is_imported_when_it_is_asked_for() -> None:
    code = "import detectors.charts.rivers, streamer.config, sys; print('river' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
