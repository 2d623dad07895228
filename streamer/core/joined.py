"""What the join adds to a batch of stage 1: refusals, dead letters, pairs of the changelog, and deltas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from schemas.layouts import Layout
from schemas.profiles import Delta
from streamer.core.admission import Arrivals, Group
from streamer.core.drops import counted, dead_letters
from streamer.core.echoes import read_echoes
from streamer.core.joining import Join
from streamer.core.profiling_state import ProfilingState
from streamer.core.records import Output, PlainRecord, Record
from streamer.core.told import Told, pick
from streamer.formats.seam import Refusal


class JoinedBatch(NamedTuple):
    """refusals: outcomes of the batch that are dropped. pairs: for the changelog. letters: of those that waited."""

    refusals: Sequence[Refusal] = ()
    pairs: Sequence[tuple[bytes, bytes | None]] = ()
    letters: Sequence[Output] = ()


def join_batch(
    state: ProfilingState,
    arrivals: Arrivals | None,
    groups: Sequence[Group],
    told: Told | None,
    *,
    consumed: int,
    caught_up: bool,
) -> JoinedBatch:
    """Join what came: predictions as they were admitted, or outcomes. The accounts move, but for the refusals."""
    join = state.join
    if join is None:
        return JoinedBatch()
    refusals: list[Refusal] = []
    join.begin(consumed)
    if arrivals is not None and groups:
        join.predictions(arrivals, groups)
    if told is not None:
        told = join.placed(told)
        echoed = np.array([bool(echo) for echo in told.echo])
        if echoed.any():
            wrong, echoes, rows = read_echoes(pick(told, np.flatnonzero(echoed)), state.plans, join.cells)
            refusals += wrong
            refusals += [] if rows is None else join.echoes(echoes, rows)
            told = pick(told, np.flatnonzero(~echoed))
        if told.at.size:
            refusals += join.outcomes(told)
    pairs = join.finish(caught_up=caught_up)
    state.applied += join.applied
    gone = [Refusal(at, one.reason, one.detail, one.waiting.model) for at, one in enumerate(join.dropped)]
    state.drops = counted(state.drops, gone)
    waited: dict[int, Record] = {
        at: PlainRecord(one.waiting.topic, state.source, one.waiting.offset, one.waiting.append, None, None)
        for at, one in enumerate(join.dropped)
    }
    return JoinedBatch(refusals, pairs, dead_letters(waited, gone, payload=False))


def joined(join: Join) -> Iterator[tuple[Layout, Callable[..., Iterator[Delta]]]]:
    """Layouts of which the batch joined something, and their deltas: call with `max_ts` and `transaction`."""
    for place in join.tables.places():
        yield join.cells.plans[place].layout, partial(join.tables.deltas, place, join.cells)
