"""State of a scope as a value, and as bytes: save, restore and go on equals never stopped, to the bit.

Blocks hold runs of whole monitors, at most 256 of them and at most 12,000 bets, so that a block stays well under a
megabyte: it is one record of a changelog. Twins that are at 0 keep nothing and cost a bit each.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.charts.bets import Bets
from detectors.charts.tempered import PASSAGES, Charts
from detectors.resolve import BLOCKS, Watches
from detectors.shapes import Trails
from detectors.trailing import Trailing
from detectors.trailing import load as load_trailing
from detectors.trailing import save as save_trailing
from detectors.week import Own, Week, load_week
from detectors.week import save as save_week
from schemas.errors import FormatError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
T = TypeVar("T")

STATE_FORMAT = 2
MONITORS_PER_BLOCK, BETS_PER_BLOCK = 256, 12_000
HEAD = "scope"

#: (view, feature, rule): who is in the incident by a hard rule.
RuleKey: TypeAlias = tuple[int, int, str]


class Block(msgspec.Struct, frozen=True):
    """Which monitors, bets and directions a saved block holds, half open."""

    monitors: tuple[int, int]
    bets: tuple[int, int]
    directions: tuple[int, int]


class ScopeState(NamedTuple):
    """State of a scope; a value, never changed in place.

    open, opened_at: the incident, -1 when none; cooldown_until: alarms before it (ms) open nothing. member (M,):
    monitors that are in the incident by their chart; watches: what must calm down before they clear; met: rules in
    the incident, with the panes in which each has been met again. begun: start of the first pane, which has number 1.
    last_rows: end of the last pane with events, or of a day off. carried (2, 2, M), expected: events that rules have
    not judged yet.
    day, day_n, day_panes: today's events and non-empty panes per view (V,); typical_n, typical_panes: a whole day's.
    visible, visible_panes (V × F,): follow from those; not saved, nor are the blocks, which follow from the scope.
    trails: how the members' changes have gone on since their first alarms. week: what a scope that learns from its own
    first week has kept so far; own: what it has learned; the scope that it then makes is in force (`scopes.in_force`).
    trailing: sums of the last days, of a layout that compares with them.
    """

    charts: Charts
    member: Bools
    watches: Watches
    carried: Ints
    blocks: tuple[Block, ...]
    day_n: Ints
    day_panes: Ints
    typical_n: Floats
    typical_panes: Floats
    visible: Floats
    visible_panes: Floats
    met: dict[RuleKey, int]
    expected: tuple[tuple[int, int], ...]
    open: bool = False
    opened_at: int = -1
    cooldown_until: int = -1
    begun: int = -1
    last_rows: int = -1
    day: int = -1
    trails: Trails = Trails.none()
    week: Week | None = None
    own: Own | None = None
    trailing: Trailing | None = None


def blocks_of(bets: Bets) -> tuple[Block, ...]:
    """How the monitors are cut into blocks: by number and by bets."""
    found, first = [], 0
    for monitor in range(bets.monitors):
        full = monitor - first >= MONITORS_PER_BLOCK
        heavy = int(bets.bet_start[monitor + 1] - bets.bet_start[first]) > BETS_PER_BLOCK
        if monitor > first and (full or heavy):
            found.append(_block(bets, first, monitor))
            first = monitor
    return (*found, _block(bets, first, bets.monitors)) if bets.monitors else ()


def save_state(state: ScopeState) -> dict[str, bytes]:
    """Blocks of at most 256 monitors, keys "scope", "0", "1", …; equal states give equal bytes."""
    head = _Head(
        # A state that uses nothing new is what an older worker reads.
        format=1 if state.week is None and state.own is None and state.trailing is None else STATE_FORMAT,
        blocks=state.blocks,
        open=state.open,
        opened_at=state.opened_at,
        cooldown_until=state.cooldown_until,
        begun=state.begun,
        last_rows=state.last_rows,
        met=[(*key, panes) for key, panes in sorted(state.met.items())],
        expected=state.expected,
        day=state.day,
        day_n=state.day_n.astype("<i8").tobytes(),
        day_panes=state.day_panes.astype("<i8").tobytes(),
        typical_n=state.typical_n.astype("<f8").tobytes(),
        typical_panes=state.typical_panes.astype("<f8").tobytes(),
    )
    saved = {HEAD: _encoder.encode(head)}
    for number, block in enumerate(state.blocks):
        saved[str(number)] = _encoder.encode(_pack(state, block))
    return {**saved, **save_week(state.week, state.own), **save_trailing(state.trailing)}


def load_state(fresh: ScopeState, blocks: dict[str, bytes]) -> ScopeState:
    """State from all its blocks, in the shape of `fresh`, a state that has seen nothing.

    `FormatError` when a block is of a newer format, damaged, missing or of another layout.
    """
    raw = blocks.get(HEAD)
    if raw is None:
        raise FormatError("state of a scope: no block `scope`")
    head = _decode(raw, _head_decoder, HEAD)
    if head.blocks != fresh.blocks:
        raise FormatError("state of a scope: it was written for other monitors than this layout's")
    parts: list[_Monitors] = []
    for number in range(len(fresh.blocks)):
        if str(number) not in blocks:
            raise FormatError(f"state of a scope: no block {number} of {len(fresh.blocks)}")
        parts.append(_decode(blocks[str(number)], _block_decoder, str(number)))
    unpacked = [_unpack(part, block) for part, block in zip(parts, fresh.blocks, strict=True)]
    charts = Charts(
        **{
            name: np.concatenate([getattr(one.charts, name) for one in unpacked], axis=-1)
            if unpacked
            else getattr(fresh.charts, name)
            for name in Charts.__dataclass_fields__
        }
    )
    views = fresh.day_n.size
    return ScopeState(
        charts=charts,
        member=np.concatenate([one.member for one in unpacked]) if unpacked else fresh.member,
        watches=Watches(
            direction=np.concatenate([one.watches.direction for one in unpacked] or [fresh.watches.direction]),
            size=np.concatenate([one.watches.size for one in unpacked] or [fresh.watches.size]),
            ring=np.concatenate([one.watches.ring for one in unpacked] or [fresh.watches.ring]),
        ),
        carried=np.concatenate([one.carried for one in unpacked], axis=2) if unpacked else fresh.carried,
        blocks=fresh.blocks,
        day_n=_array(head.day_n, "<i8", views, HEAD).astype(np.int64),
        day_panes=_array(head.day_panes, "<i8", views, HEAD).astype(np.int64),
        typical_n=_array(head.typical_n, "<f8", views, HEAD),
        typical_panes=_array(head.typical_panes, "<f8", views, HEAD),
        visible=fresh.visible,
        visible_panes=fresh.visible_panes,
        met={(view, feature, rule): panes for view, feature, rule, panes in head.met},
        expected=head.expected,
        open=head.open,
        opened_at=head.opened_at,
        cooldown_until=head.cooldown_until,
        begun=head.begun,
        last_rows=head.last_rows,
        day=head.day,
        trails=Trails(
            direction=np.concatenate([one.trails.direction for one in unpacked] or [fresh.trails.direction]),
            first=np.concatenate([one.trails.first for one in unpacked] or [fresh.trails.first]),
            least=np.concatenate([one.trails.least for one in unpacked] or [fresh.trails.least]),
            ring=np.concatenate([one.trails.ring for one in unpacked] or [fresh.trails.ring]),
        ),
        week=None if fresh.week is None else load_week(fresh.week, blocks),
        own=fresh.own,
        trailing=None if fresh.trailing is None else load_trailing(fresh.trailing, blocks),
    )


class _Head(msgspec.Struct, array_like=True):
    format: int
    blocks: tuple[Block, ...]
    open: bool
    opened_at: int
    cooldown_until: int
    begun: int
    last_rows: int
    met: list[tuple[int, int, str, int]]
    expected: tuple[tuple[int, int], ...]
    day: int
    day_n: bytes
    day_panes: bytes
    typical_n: bytes
    typical_panes: bytes


class _Monitors(msgspec.Struct, array_like=True):
    format: int
    r: bytes
    depth: bytes
    passages: bytes
    alive: bytes  # bits of the bets whose twin is above 0; the next five are of these only
    twin: bytes
    moved: bytes
    events: bytes
    since: bytes
    latest: bytes
    member: bytes  # bits
    carried: bytes
    watched: bytes
    sizes: bytes
    rings: bytes  # zlib: mostly zeros
    trailed: bytes = b""
    trail_firsts: bytes = b""
    trail_rings: bytes = b""  # zlib


@dataclass(frozen=True, eq=False)
class _Unpacked:
    charts: Charts
    member: Bools
    carried: Ints
    watches: Watches
    trails: Trails


class _Format(msgspec.Struct, array_like=True):
    """The first field of every block, whatever follows."""

    format: int


_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(_Head)
_format_decoder = msgspec.msgpack.Decoder(_Format)
_block_decoder = msgspec.msgpack.Decoder(_Monitors)


def _block(bets: Bets, first: int, last: int) -> Block:
    return Block(
        monitors=(first, last),
        bets=(int(bets.bet_start[first]), int(bets.bet_start[last])),
        directions=(int(bets.direction_start[first]), int(bets.direction_start[last])),
    )


def _pack(state: ScopeState, block: Block) -> _Monitors:
    charts, bets, monitors = state.charts, slice(*block.bets), slice(*block.monitors)
    alive = charts.since[bets] > 0
    here = slice(*np.searchsorted(state.watches.direction, block.directions).tolist())
    gone_on = slice(*np.searchsorted(state.trails.direction, block.directions).tolist())
    trails = state.trails
    return _Monitors(
        format=1,
        r=charts.r[bets].astype("<f8").tobytes(),
        depth=charts.depth[bets].astype("<f4").tobytes(),
        passages=charts.passages[:, bets].astype("<i4").tobytes(),
        alive=np.packbits(alive).tobytes(),
        twin=charts.twin[bets][alive].astype("<f8").tobytes(),
        moved=charts.moved[bets][alive].astype("<f8").tobytes(),
        events=charts.events[bets][alive].astype("<f8").tobytes(),
        since=charts.since[bets][alive].astype("<i4").tobytes(),
        latest=charts.latest[bets][alive].astype("<i4").tobytes(),
        member=np.packbits(state.member[monitors]).tobytes(),
        carried=state.carried[:, :, monitors].astype("<i8").tobytes(),
        watched=state.watches.direction[here].astype("<i8").tobytes(),
        sizes=state.watches.size[here].astype("<f8").tobytes(),
        rings=zlib.compress(state.watches.ring[here].astype("<f8").tobytes(), 1),
        trailed=trails.direction[gone_on].astype("<i8").tobytes(),
        trail_firsts=np.column_stack([trails.first, trails.least])[gone_on].astype("<f8").tobytes(),
        trail_rings=zlib.compress(trails.ring[gone_on].astype("<f8").tobytes(), 1),
    )


def _unpack(saved: _Monitors, block: Block) -> _Unpacked:
    name = f"of monitors from {block.monitors[0]}"
    size, monitors = block.bets[1] - block.bets[0], block.monitors[1] - block.monitors[0]
    bits = _array(saved.alive, "u1", (size + 7) // 8, name)
    alive = np.unpackbits(bits.astype(np.uint8), count=size).astype(bool)
    count = int(alive.sum())

    def spread(raw: bytes, kind: str) -> npt.NDArray[np.generic]:
        values = _array(raw, kind, count, name)
        whole = np.zeros(size, dtype=values.dtype.newbyteorder("="))
        whole[alive] = values
        return whole

    charts = Charts(
        r=_array(saved.r, "<f8", size, name).astype(np.float64),
        twin=spread(saved.twin, "<f8").astype(np.float64),
        since=spread(saved.since, "<i4").astype(np.int32),
        moved=spread(saved.moved, "<f8").astype(np.float64),
        events=spread(saved.events, "<f8").astype(np.float64),
        latest=spread(saved.latest, "<i4").astype(np.int32),
        passages=_array(saved.passages, "<i4", PASSAGES * size, name).reshape(PASSAGES, size).astype(np.int32),
        depth=_array(saved.depth, "<f4", size, name).astype(np.float32),
    )
    direction = np.frombuffer(saved.watched, "<i8").astype(np.int64)
    rings = _rings(saved.rings, direction.size, name)
    trailed = np.frombuffer(saved.trailed, "<i8").astype(np.int64)
    trail_rings = _rings(saved.trail_rings, trailed.size, name) if trailed.size else b""
    firsts = _array(saved.trail_firsts, "<f8", trailed.size * 3, name).reshape(-1, 3).astype(np.float64)
    carried = _array(saved.carried, "<i8", 4 * monitors, name).reshape(2, 2, monitors)
    member = np.unpackbits(_array(saved.member, "u1", (monitors + 7) // 8, name).astype(np.uint8), count=monitors)
    return _Unpacked(
        charts=charts,
        member=member.astype(bool),
        carried=carried.astype(np.int64),
        watches=Watches(
            direction=direction,
            size=_array(saved.sizes, "<f8", direction.size, name).astype(np.float64),
            ring=_array(rings, "<f8", direction.size * BLOCKS * 3, name).reshape(-1, BLOCKS, 3).astype(np.float64),
        ),
        trails=Trails(
            direction=trailed,
            first=firsts[:, :2],
            least=firsts[:, 2],
            ring=_array(trail_rings, "<f8", trailed.size * BLOCKS * 3, name).reshape(-1, BLOCKS, 3).astype(np.float64),
        ),
    )


def _rings(raw: bytes, count: int, name: str) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, count * BLOCKS * 24 + 1)
    except zlib.error as error:
        raise FormatError(f"state of a scope, block {name}: {error}") from error


def _array(raw: bytes, kind: str, size: int, name: str) -> npt.NDArray[np.float64]:
    if len(raw) != size * np.dtype(kind).itemsize:
        raise FormatError(f"state of a scope, block {name}: {len(raw)} bytes for {size} values of {kind}")
    return np.frombuffer(raw, dtype=kind)


def _decode(raw: bytes, decoder: msgspec.msgpack.Decoder[T], name: str) -> T:
    try:
        written = _format_decoder.decode(raw).format
        if written > STATE_FORMAT:
            raise FormatError(f"state of a scope of format {written}; this worker reads up to {STATE_FORMAT}")
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"state of a scope, block {name}: {error}") from error
