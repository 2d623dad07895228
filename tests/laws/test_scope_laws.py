"""Laws of a scope's state: a value, bounded, the same bits whatever the batching, the same bytes after a restart."""

from __future__ import annotations

import copy
import tracemalloc

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from panes_of_counts import EVENTS, PANE, T0, counts, layout, play, quiet, reference, rows

from detectors.scopes import Scope, ScopeState, build_scope, load_state, save_state, skip_empty, update
from detectors.states import HEAD, MONITORS_PER_BLOCK, STATE_FORMAT
from schemas.errors import FormatError
from schemas.layouts import Expectation

Panes = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def scope() -> Scope:
    expect = (Expectation(feature="x0", missing_below=0.3), Expectation(feature="", rows_at_least=5))
    return build_scope(reference(), layout(reference(), expect=expect))


@pytest.fixture(scope="module")
def panes() -> Panes:
    """Quiet, a drift with an outage in it, quiet, empty panes, quiet: an incident opens and resolves, rules too."""
    of = reference()
    drift = counts(of, rows(5, 40 * EVENTS, shift=0.8), panes=40)
    outage = counts(of, rows(6, 8 * 7, missing=1.0), panes=8)
    none = np.zeros((9, 1, of.table.width), dtype=np.int64)
    return np.concatenate([quiet(of, 30), drift, outage, quiet(of, 40, seed=9), none, quiet(of, 30, seed=10)])


def said(results: list) -> list[tuple]:  # type: ignore[type-arg]
    return [
        (r.start, r.end, r.status.tolist(), r.value.tolist(), r.alarms, r.absorbed, r.cleared, r.opened, r.resolved)
        for r in results
    ]


@pytest.mark.parametrize("stop", [1, 31, 45, 70, 76, 100, 121, 130])
def test_save_restore_and_go_on_equals_never_stopped(scope: Scope, panes: Panes, stop: int) -> None:
    """To the bit, in the quiet, in the incident, in an outage, in the silence and after it."""
    before, _ = play(scope, panes[:stop])
    restored = load_state(scope, save_state(before))
    whole, results = play(scope, panes)
    again, rest = play(scope, panes[stop:], state=restored, first=stop)
    assert save_state(again) == save_state(whole)
    assert said(rest) == said(results[stop:])


def test_a_saved_state_loads_to_equal_bytes(scope: Scope, panes: Panes) -> None:
    state, _ = play(scope, panes[:60])
    assert save_state(load_state(scope, save_state(state))) == save_state(state)


def test_the_story_has_what_the_laws_are_about(scope: Scope, panes: Panes) -> None:
    """The panes above really open and resolve, silence and rules included: laws over nothing prove nothing."""
    _, results = play(scope, panes)
    detectors = {alarm.evidence.detector for result in results for alarm in result.alarms}
    assert detectors == {"distribution", "missing", "silence", "rows"}
    assert sum(result.resolved for result in results) == 2


def test_update_changes_neither_its_state_nor_its_counts(scope: Scope, panes: Panes) -> None:
    state, _ = play(scope, panes[:50])
    saved, pane = save_state(state), panes[50].copy()
    kept = copy.deepcopy(pane)
    update(scope, state, start=T0 + 50 * PANE, counts=pane)
    skip_empty(scope, state, start=T0 + 50 * PANE, panes=10)
    assert save_state(state) == saved
    np.testing.assert_array_equal(pane, kept)


def test_counts_summed_in_any_order_and_blocks_give_the_same_bits(scope: Scope) -> None:
    """The pane of 3,000 rows, as one sum and as the sum of its shards in a random order."""
    rng = np.random.default_rng(0)
    shards = counts(reference(), rows(3, 3000), panes=60)
    blocks = np.array_split(rng.permutation(60), 7)
    one = update(scope, scope.start(), start=T0, counts=shards.sum(axis=0))[0]
    other = update(scope, scope.start(), start=T0, counts=sum(shards[block].sum(axis=0) for block in blocks))[0]
    assert save_state(one) == save_state(other)


@pytest.mark.parametrize("panes_before", [0, 20, 45])
@pytest.mark.parametrize("gap", [1, 2, 3, 700])
def test_a_gap_in_closed_form_equals_its_empty_panes(scope: Scope, panes: Panes, panes_before: int, gap: int) -> None:
    state, _ = play(scope, panes[:panes_before])
    none = np.zeros((gap, 1, reference().table.width), dtype=np.int64)
    slowly, results = play(scope, none, state=state, first=panes_before)
    quickly, result = skip_empty(scope, state, start=T0 + panes_before * PANE, panes=gap)
    assert save_state(quickly) == save_state(slowly)
    assert result.alarms == tuple(alarm for one in results for alarm in one.alarms)
    assert result.opened == any(one.opened for one in results)


def test_ten_years_without_events_take_no_time_and_no_memory(scope: Scope) -> None:
    state, _ = play(scope, quiet(reference(), 3))
    tracemalloc.start()
    after, result = skip_empty(scope, state, start=T0 + 3 * PANE, panes=10 * 365 * 288)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert sorted(alarm.evidence.detector for alarm in result.alarms) == ["rows", "silence"]
    assert after.last_rows == T0 + 3 * PANE


def test_the_state_does_not_grow(scope: Scope, panes: Panes) -> None:
    """Ten incidents later it is no larger than after the first."""
    once = sum(map(len, save_state(play(scope, panes)[0]).values()))
    many = sum(map(len, save_state(play(scope, np.tile(panes, (10, 1, 1)))[0]).values()))
    assert many <= once * 1.15


def test_a_newer_format_is_refused(scope: Scope) -> None:
    saved = save_state(scope.start())
    head = msgspec.msgpack.decode(saved[HEAD])
    newer = {**saved, HEAD: msgspec.msgpack.encode([STATE_FORMAT + 1, *head[1:], "what is to come"])}
    with pytest.raises(FormatError, match="of format 3; this worker reads up to 2"):
        load_state(scope, newer)


@pytest.mark.parametrize("key", [HEAD, "0"])
def test_a_damaged_or_missing_block_is_refused(scope: Scope, key: str) -> None:
    saved = save_state(scope.start())
    with pytest.raises(FormatError):
        load_state(scope, {**saved, key: saved[key][:-9]})
    with pytest.raises(FormatError, match="no block"):
        load_state(scope, {name: raw for name, raw in saved.items() if name != key})


def test_the_state_of_another_layout_is_refused(scope: Scope) -> None:
    other = build_scope(reference(), layout(reference(), monitored=("x0",), monitors=1))
    with pytest.raises(FormatError, match="other monitors"):
        load_state(other, save_state(scope.start()))


def test_blocks_hold_at_most_256_monitors_and_half_a_megabyte() -> None:
    """Four hundred numbers, the same column again and again."""
    of = reference()
    wide = build_scope(of, layout(of, monitored=("x0", "x1") * 200))
    saved = save_state(play(wide, quiet(of, 2))[0])
    sizes = [block.monitors[1] - block.monitors[0] for block in wide.blocks]
    assert sum(sizes) == 400
    assert max(sizes) <= MONITORS_PER_BLOCK
    assert max(map(len, saved.values())) < 700_000


def test_a_state_is_an_immutable_value(scope: Scope) -> None:
    state: ScopeState = scope.start()
    with pytest.raises(AttributeError):
        state.open = True  # type: ignore[misc]
