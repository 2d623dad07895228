"""When a watched direction is clear: its own size, its own window, no alarm in it."""

from __future__ import annotations

import numpy as np
import pytest
from panes_of_counts import DAY, EVENTS, PANE, counts, layout, play, reference, rows

from detectors import resolve
from detectors.resolve import Watches
from detectors.scopes import build_scope

NOBODY = np.zeros(0, dtype=np.int64)
OF, SIX_DAYS = reference(numbers=1), 6 * DAY // PANE


def watched(size: float) -> Watches:
    return resolve.watch(Watches.none(), directions=np.array([3]), sizes=np.array([size]), restart=NOBODY)


def clear_at(
    size: float, *, shift: float, n: float = 50.0, deff: float = 1.0, clear_for: int = 6, panes: int = 400
) -> int:
    """Number of the first pane in which a direction that moves by `shift` sd a row is clear; 0 for never."""
    watches = watched(size)
    for pane in range(1, panes + 1):
        watches, clear = resolve.observe(
            watches, shift=np.array([shift * n]), n=np.array([n]), deff=np.array([deff]), clear_for=clear_for
        )
        if clear[0]:
            return pane
    return 0


@pytest.mark.parametrize(
    ("size", "deff", "clear_for", "expected"),
    [(0.5, 1.0, 6, 6), (0.2, 1.0, 6, 22), (0.5, 19.0, 6, 66), (1.0, 1.0, 60, 60)],
)
def test_it_clears_after_its_window(size: float, deff: float, clear_for: int, expected: int) -> None:
    """W is clear_for, or the panes for h <= size/4; to 3 % beyond 32 panes."""
    assert clear_at(size, shift=0.0, deff=deff, clear_for=clear_for) == pytest.approx(expected, rel=0.05)


def test_what_stays_beyond_half_its_size_never_clears() -> None:
    assert clear_at(0.5, shift=0.3) == 0


def test_what_falls_well_under_half_clears() -> None:
    assert clear_at(0.5, shift=0.1) > 0


def test_the_other_sign_does_not_clear_either() -> None:
    assert clear_at(0.5, shift=-0.4) == 0


def test_empty_panes_count_for_nothing() -> None:
    watches = watched(0.5)
    for _ in range(100):
        watches, clear = resolve.observe(watches, shift=np.zeros(1), n=np.zeros(1), deff=np.ones(1), clear_for=6)
    assert not clear[0]
    assert watches.ring.sum() == 0


def test_an_alarm_begins_the_window_anew_and_keeps_the_size() -> None:
    watches = watched(0.5)
    for _ in range(5):
        watches, _ = resolve.observe(watches, shift=np.zeros(1), n=np.full(1, 50.0), deff=np.ones(1), clear_for=6)
    again = resolve.watch(watches, directions=np.array([3]), sizes=np.array([2.0]), restart=np.array([3]))
    _, clear = resolve.observe(again, shift=np.zeros(1), n=np.full(1, 50.0), deff=np.ones(1), clear_for=6)
    assert again.size.tolist() == [0.5]
    assert not clear[0]


def test_watches_stay_in_order() -> None:
    """Blocks of the saved state are cut by direction."""
    watches = resolve.watch(watched(0.5), directions=np.array([9, 1]), sizes=np.array([0.9, 0.1]), restart=NOBODY)
    assert watches.direction.tolist() == [1, 3, 9]
    assert watches.size.tolist() == [0.1, 0.5, 0.9]
    assert resolve.drop(watches, np.array([3])).direction.tolist() == [1, 9]


def test_a_few_percent_that_go_missing_and_stay_missing_are_one_incident() -> None:
    """Four runs of six days: 4 opened. With the reference's variance in h, 10 had opened."""
    scope, opened = build_scope(OF, layout(OF)), 0
    for seed in (101, 103, 104, 109):
        drawn = rows(seed, SIX_DAYS * EVENTS, numbers=1, missing=0.05)
        _, results = play(scope, counts(OF, drawn, panes=SIX_DAYS))
        opened += sum(result.opened for result in results)
    assert opened == 4
