"""A layout that is a reset: nothing that was learned goes on, what is open resolves, accounts stay."""

from __future__ import annotations

import msgspec

from schemas.alerts import AlertState, Reason
from schemas.control import Cluster
from schemas.layouts import Layout, Limits
from streamer.applying import begin_anew, differing, plan
from streamer.core.control import Control
from tests.core.stage2 import BEGIN, DAY, PANE, Log, Reader, Source, control, layout, steady
from tests.core.test_yardsticks import YESTERDAY, bag, setting

ONE = layout()
AT = BEGIN + 12 * PANE
ANEW = msgspec.structs.replace(ONE, from_ms=AT, reset="ann: moved house")
OTHER = msgspec.structs.replace(ONE, from_ms=AT, owner="others")


def read(following: Layout, *, shifted: range) -> Reader:
    """Two layouts, one after the other, over 20 panes of which some are shifted by 3 sd."""
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=12, shifts=dict.fromkeys(shifted, 3.0))
    steady(log, [source], following, panes=8, start=AT)
    return Reader.start(control(ONE, following)).read(log)


def test_what_is_open_resolves_with_its_own_reason_and_the_audit_says_why() -> None:
    reader = read(ANEW, shifted=range(4, 12))
    last = reader.said("incidents")[-1]
    assert (last.state, last.reason, last.resolved_at) == (AlertState.RESOLVED, Reason.RESET, AT)
    assert {alert.reason for alert in reader.said("alerts") if alert.ends_at} == {Reason.RESET}
    (note,) = [audit for audit in reader.said("audit") if audit.decision == "begins anew"]
    assert (note.reason, note.at, note.details["why"]) == (Reason.RESET, AT, "ann: moved house")


def test_what_the_stream_has_taught_is_learned_again() -> None:
    """A change of the layout on day 2 keeps what two days have taught; a reset does not: the week begins with it."""
    one, _ = setting(**YESTERDAY)
    lessons = []
    for following in (
        msgspec.structs.replace(one, from_ms=BEGIN + 2 * DAY, tolerance=0.2),
        msgspec.structs.replace(one, from_ms=BEGIN + 2 * DAY, reset="ann"),
    ):
        known = Control(
            models={"m": (one, following)}, references={bag().id: bag()}, cluster=Cluster(sources=2, profiles=1)
        )
        log, sources = Log(), [Source(0), Source(1)]
        steady(log, sources, one, panes=4, n=200)
        steady(log, sources, following, panes=16, n=200, start=BEGIN + 2 * DAY)
        audits = Reader.start(known).read(log).said("audit")
        lessons.append([audit.at for audit in audits if audit.reason is Reason.LEARNED])
    assert lessons == [[BEGIN + 7 * DAY], [BEGIN + 9 * DAY]]


def test_nothing_is_counted_twice_or_left_out_over_a_reset() -> None:
    """Accounts are those of a stream that never was reset."""
    plain, anew = read(OTHER, shifted=range(0)), read(ANEW, shifted=range(0))
    assert anew.state.counters.consumed == plain.state.counters.consumed > 0
    assert anew.state.counters.applied == plain.state.counters.applied
    assert [report.n for report in anew.said("windows")] == [report.n for report in plain.said("windows")]


def test_a_restart_at_any_record_after_it_gives_the_same_bytes() -> None:
    log, source = Log(), Source()
    steady(log, [source], ONE, panes=12, shifts=dict.fromkeys(range(4, 12), 3.0))
    steady(log, [source], ANEW, panes=4, start=AT)
    whole = Reader.start(control(ONE, ANEW)).read(log)
    single = Reader.start(control(ONE, ANEW)).read(log, range(len(log.records)))
    assert single.outputs == whole.outputs


def test_the_file_is_in_force_as_before_and_a_change_after_it_is_no_reset() -> None:
    known = Control(models={"m": (ONE,)})
    change = begin_anew("m", known, times={"m": BEGIN}, word="ann")
    assert (change.layout.reset, change.before) == ("ann", ONE)
    assert change.layout.from_ms >= BEGIN + 2 * PANE
    assert change.layout.id != ONE.id
    assert differing(change.layout, ONE) == ()
    after = Control(models={"m": (ONE, change.layout)})
    wanted = msgspec.structs.replace(ONE, owner="others")
    (following,) = plan({"m": wanted}, after, profiles=1, rates={}, times={"m": BEGIN})
    assert (following.layout.reset, following.differences) == ("", ("owner",))


def test_a_second_reset_comes_after_the_first() -> None:
    known = Control(models={"m": (ONE,)})
    first = begin_anew("m", known, times={"m": BEGIN}, word="ann").layout
    second = begin_anew("m", Control(models={"m": (ONE, first)}), times={"m": BEGIN}, word="ann").layout
    assert second.from_ms > first.from_ms


def test_the_id_of_a_layout_does_not_depend_on_what_stands_at_its_default() -> None:
    """A field that a later version adds must not change the id of a layout that is in force."""
    assert ONE.id == msgspec.structs.replace(ONE, limits=Limits()).id
    assert ONE.id != msgspec.structs.replace(ONE, limits=Limits(versions=17)).id
    assert ONE.id != ANEW.id != OTHER.id
