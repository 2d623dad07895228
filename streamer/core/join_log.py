"""What the join keeps in the changelog: a record per batch with its new rows, its matches and the outcomes that wait.

Records are numbered and leave in that order, each when all its rows have left and nothing of it waits; so every match
outlives the row that it is of. Small batches share a record, which is then written anew with every one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.errors import FormatError, ProtocolBroken
from streamer.core.join_cells import Cell, JoinCells
from streamer.core.pending import RANKS, Pending, Rows

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

KEY = b"join|"
JOIN_FORMAT = 1
#: Up to so many rows and matches the last record is written anew with further ones.
EXTENDED = 512


class Waiting(msgspec.Struct, array_like=True):
    """An outcome whose prediction has not come. append: of the record, ms; append_s: the largest up to it, s.

    seen: the largest event time of its model's outcomes up to it, ms. until: s; a prediction appended later is not its.
    """

    number: int
    key: int
    ts: int
    append: int
    append_s: int
    seen: int
    until: int
    model: str
    text: str | None
    value: float | None
    offset: int
    topic: str


class Chunk(msgspec.Struct, array_like=True):
    """Rows `start` up to `stop` by column, their `cell` an index into `names`; then, in order, the matches.

    settled: numbers of rows (int64); outcomes (int8), delays (uint8), truths (float64, empty where there are none).
    waiting: outcomes that wait since then; resolved: numbers of those that wait no longer.
    """

    start: int
    stop: int
    columns: dict[str, bytes]
    names: list[Cell]
    settled: bytes
    outcomes: bytes
    delays: bytes
    truths: bytes
    waiting: list[Waiting]
    resolved: list[int]
    format: int = JOIN_FORMAT


@dataclass(eq=False)
class _Kept:
    """A record that is in the changelog. until_s: append time of outcomes from which none can be of its rows any more;
    until_ms: their event time, by model, all of which must have passed.
    """

    number: int
    start: int
    stop: int
    until_s: int = 0
    until_ms: dict[str, int] = field(default_factory=dict)
    waits: int = 0
    settled: list[tuple[Ints, Ints, Ints, Floats | None]] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    resolved: list[int] = field(default_factory=list)
    size: int = 0


class JoinLog:
    """The records of one task. first, next: their numbers."""

    def __init__(self) -> None:
        self.next = 0
        self._kept: deque[_Kept] = deque()
        self._open: _Kept | None = None
        self._dirty = False
        self._home: dict[int, _Kept] = {}  # of each outcome that waits

    @property
    def first(self) -> int:
        """Number of the oldest record."""
        return self._kept[0].number if self._kept else self.next

    def begin(self, rows: int, at: int) -> None:
        """A batch of at most so many rows and matches begins; `at`: number of the next row."""
        self._dirty = False
        if self._open is not None and (self._open.size + rows > EXTENDED or self._open.stop != at):
            # It is written for good, and stands for as long as the horizon: what it says is not needed here any more.
            self._open.settled, self._open.waiting, self._open.resolved = [], [], []
            self._open = None

    def rows(self, start: int, stop: int, until_s: int, until_ms: Mapping[str, int]) -> None:
        """Rows were appended."""
        kept = self._record(start)
        kept.stop = stop
        kept.size += stop - start
        kept.until_s = max(kept.until_s, until_s)
        for model, until in until_ms.items():
            kept.until_ms[model] = max(until, kept.until_ms.get(model, until))

    def settled(self, numbers: Ints, outcome: Ints, delay: Ints, truth: Floats | None, *, at: int) -> None:
        """Rows were settled; `at`: number of the next row."""
        kept = self._record(at)
        kept.settled.append((numbers, outcome, delay, truth))
        kept.size += numbers.size

    def waits(self, waiting: Waiting, *, at: int) -> None:
        """An outcome waits."""
        kept = self._record(at)
        kept.waiting.append(waiting)
        kept.waits += 1
        kept.size += 1
        self._home[waiting.number] = kept

    def resolved(self, number: int, *, at: int) -> None:
        """An outcome waits no longer."""
        kept = self._record(at)
        kept.resolved.append(number)
        kept.size += 1
        self._home.pop(number).waits -= 1

    def changes(self, pending: Pending, cells: JoinCells) -> list[tuple[bytes, bytes | None]]:
        """Pairs for the changelog after a batch."""
        if not self._dirty or self._open is None:
            return []
        return [(KEY + b"%d" % self._open.number, msgspec.msgpack.encode(_chunk(self._open, pending, cells)))]

    def expire(self, pending: Pending, now_s: int, now_ms: Mapping[str, int]) -> list[tuple[bytes, bytes | None]]:
        """Let rows go that no later outcome can be of, and records of which nothing is left: their tombstones.

        now_s: no outcome will be read that was appended before. now_ms: outcomes of the model have come so far.
        """
        pairs: list[tuple[bytes, bytes | None]] = []
        gone = pending.first
        for kept in self._kept:
            passed = kept.until_s < now_s or (
                bool(kept.until_ms) and all(until < now_ms.get(model, until) for model, until in kept.until_ms.items())
            )
            if kept is self._open or not passed:
                break
            gone = kept.stop
        if gone > pending.first:
            pending.forget(gone)
        while self._kept and self._kept[0] is not self._open:
            if self._kept[0].stop > pending.first or self._kept[0].waits:
                break
            pairs.append((KEY + b"%d" % self._kept.popleft().number, None))
        return pairs

    def _record(self, at: int) -> _Kept:
        self._dirty = True
        if self._open is None:
            self._open = _Kept(self.next, at, at)
            self._kept.append(self._open)
            self.next += 1
        return self._open

    def restored(self, number: int, chunk: Chunk, until_s: int, until_ms: dict[str, int]) -> None:
        """A record as the changelog has it, the oldest first."""
        kept = _Kept(number, chunk.start, chunk.stop, until_s, until_ms, waits=len(chunk.waiting))
        self._kept.append(kept)
        self.next = number + 1
        for waiting in chunk.waiting:
            self._home[waiting.number] = kept
        for gone in chunk.resolved:
            home = self._home.pop(gone, None)
            if home is not None:
                home.waits -= 1


def _chunk(kept: _Kept, pending: Pending, cells: JoinCells) -> Chunk:
    columns: dict[str, bytes] = {}
    names: list[Cell] = []
    start = max(kept.start, pending.first)
    if kept.stop > start:
        columns = pending.columns(start, kept.stop)
        codes, local = np.unique(pending.cell(np.arange(start, kept.stop)), return_inverse=True)
        names = [cells.names[code] for code in codes.tolist()]
        columns["cell"] = local.astype("<u4").tobytes()
    numbers, outcomes, delays, truths = _joined(kept.settled)
    return Chunk(
        start=start,
        stop=kept.stop,
        columns=columns,
        names=names,
        settled=numbers.astype("<i8").tobytes(),
        outcomes=outcomes.astype("i1").tobytes(),
        delays=delays.astype("u1").tobytes(),
        truths=b"" if truths is None else truths.astype("<f8").tobytes(),
        waiting=kept.waiting,
        resolved=kept.resolved,
    )


def _joined(settled: list[tuple[Ints, Ints, Ints, Floats | None]]) -> tuple[Ints, Ints, Ints, Floats | None]:
    if not settled:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none, None
    numbers, outcomes, delays = (np.concatenate([part[k] for part in settled]) for k in range(3))
    if all(part[3] is None for part in settled):
        return numbers, outcomes, delays, None
    filled = [np.full(part[0].size, np.nan) if part[3] is None else part[3] for part in settled]
    return numbers, outcomes, delays, np.concatenate(filled)


def decode_chunks(pairs: Iterable[tuple[bytes, bytes]], *, first: int, following: int) -> list[tuple[int, Chunk]]:
    """Records numbered `first` up to `following`, in order; `ProtocolBroken` when one is not there."""
    found = []
    for key, raw in pairs:
        try:
            number = int(key.removeprefix(KEY))
            if first <= number < following:
                found.append((number, msgspec.msgpack.decode(raw, type=Chunk)))
        except ValueError as error:
            raise FormatError(f"changelog record {key!r}: {error}") from error
    found.sort(key=lambda pair: pair[0])
    if [number for number, _ in found] != list(range(first, following)):
        wanted = f"records {first} to {following - 1} of the join are wanted"
        raise ProtocolBroken(f"changelog: {wanted}, found {len(found)} of them")
    newer = [chunk.format for _, chunk in found if chunk.format > JOIN_FORMAT]
    if newer:
        raise FormatError(f"join record of format {newer[0]}; this worker reads up to {JOIN_FORMAT}")
    return found


def rows_of(chunk: Chunk, cells: JoinCells) -> Rows:
    """The rows of a record."""
    columns = chunk.columns
    local = np.array([cells.code(Cell(*name)) for name in chunk.names], dtype=np.int64)

    def column(name: str, kind: str) -> npt.NDArray[np.generic]:
        return np.frombuffer(columns[name], dtype=kind)

    ts = column("seconds", "<u4").astype(np.int64) * 1000 + column("millis", "<u2").astype(np.int64)
    return Rows(
        key=column("key", "<u8").astype(np.uint64),
        ts=ts,
        append=column("append", "<u4").astype(np.int64),
        score=column("score", "<f4").astype(np.float64),
        label=column("label", "i1").astype(np.int64),
        cell=local[column("cell", "<u4").astype(np.int64)],
        value=column("value", "<f8").astype(np.float64) if "value" in columns else None,
        ranks=column("ranks", "i1").reshape(-1, RANKS).astype(np.int64) if "ranks" in columns else None,
    )


def matches_of(chunk: Chunk, *, first: int) -> tuple[Ints, Ints, Ints, Floats | None]:
    """The last match of each row from number `first` on: rows, outcomes, delays, truths."""
    numbers = np.frombuffer(chunk.settled, dtype="<i8")
    outcome = np.frombuffer(chunk.outcomes, dtype="i1").astype(np.int64)
    delay = np.frombuffer(chunk.delays, dtype="u1").astype(np.int64)
    truth = np.frombuffer(chunk.truths, dtype="<f8") if chunk.truths else None
    _, last = np.unique(numbers[::-1], return_index=True)
    kept = numbers.size - 1 - last
    kept = kept[numbers[kept] >= first]
    return numbers[kept], outcome[kept], delay[kept], None if truth is None else truth[kept]
