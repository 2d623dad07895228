"""The changelog of the join: what its records hold in memory."""

from __future__ import annotations

import weakref

import numpy as np

from streamer.core.join_log import EXTENDED, JoinLog


def test_a_record_that_is_written_for_good_holds_no_matches_any_more() -> None:
    """It stays for the horizon, a month perhaps; it took 24 bytes for each match all that time."""
    log, numbers = JoinLog(), np.arange(EXTENDED)
    held = weakref.ref(numbers)
    log.begin(EXTENDED, 0)
    log.rows(0, EXTENDED, 10, {})
    log.settled(numbers, numbers, numbers, None, at=EXTENDED)
    del numbers
    assert held() is not None, "the next batch may still extend the record"
    log.begin(1, EXTENDED)
    assert held() is None
    assert (log.first, log.next) == (0, 1), "the record itself stays until its rows have passed"
