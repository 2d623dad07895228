"""What the monitor agent keeps in its changelog: one record per thing that changes by itself.

| key                             | value                                             | written                    |
|---------------------------------|---------------------------------------------------|----------------------------|
| `position`                      | `MonitoringPosition`                              | when anything changed      |
| `clock|<model>`                 | `ClockRecord`: watermark, closed-through, layouts | with its deltas and closes |
| `ledger|<model>`                | `LedgerRecord`: open incident, policies           | when one of them changed   |
| `chart|<block>|<model>`         | a block of at most 256 monitors (`save_state`)    | when a pane closed         |
| `held|<start>|<layout>|<model>` | `HeldRecord`: a closed pane's table               | at its close, until hold   |
| `late|<start>|<layout>|<model>` | `LateRecord`: what came late for it               | when something did         |
| `outcome|<start>|<layout>|<model>` | `OutcomeRecord` (outcome_panes.py)             | charted; dirty for a while |

Open panes are not here: they are rebuilt from `profiles`, from `replay_from` on. Values are msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from schemas.alerts import AlertState
from schemas.errors import FormatError
from schemas.events import DropReason
from streamer.core.incidents import Episode
from streamer.core.policy import Ledger
from streamer.core.ranges import Source
from streamer.core.tallies import PackedTally
from streamer.core.watermarks import Clock

MONITORING_FORMAT = 1
POSITION_KEY = b"position"
#: Drop reason of events that a source counted under a layout that is not the one of their pane.
WRONG_LAYOUT = "layout"
DROPS = (DropReason.LATE.value, WRONG_LAYOUT, DropReason.OVER_LIMIT.value)
_STATES = tuple(state.value for state in AlertState)


class Counters(msgspec.Struct, kw_only=True):
    """What metrics show; part of the position, hence exact through any crash. consumed == applied + Σ drops, in events.

    repeated: records dropped because all of them had been here. folded: events that went to `__other__`;
    folded_marginals: the same in tables of marginal columns, an event once per column. panes: closed, empty ones
    included. windows: reports, revisions included. audits, alerts, incidents, triggers: records, by state.
    outcomes: matches applied to outcome panes less those taken back by corrections; outcome_drops: those dropped.
    noted: alarms of river's detectors, by name.
    """

    consumed: int = 0
    applied: int = 0
    drops: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(DROPS, 0))
    repeated: int = 0
    folded: int = 0
    panes: int = 0
    windows: int = 0
    revisions: int = 0
    audits: int = 0
    alerts: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(_STATES, 0))
    incidents: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(_STATES, 0))
    triggers: dict[str, int] = {}
    folded_marginals: int = 0
    outcomes: int = 0
    outcome_drops: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(DROPS[:2], 0))
    outcome_reports: int = 0
    noted: dict[str, int] = {}


class MonitoringPosition(msgspec.Struct, kw_only=True):
    """The truth about a stage-2 task. next: of `profiles`, the first record that is not in the state.

    replay_from: oldest offset that feeds an open pane (`next` when none does). skipped: offsets in between that came
    twice. digest: over the integers of the open panes. now: largest append time seen; began: the first one; ticked: of
    the last progress. seq: applies that changed anything. absent: sources announced as silent that never spoke.
    opened: by model, the first record of each open pane; of models only that have refused rows at `replay_from` or
    later because too many panes were open: what came before that is not in the pane.
    """

    partition: int
    seq: int
    next: dict[str, int]
    replay_from: int
    now: int
    sources: dict[int, Source]
    skipped: list[int]
    digest: int
    control_offset: int
    counters: Counters
    began: int | None
    absent: list[int]
    ticked: int
    format: int = MONITORING_FORMAT
    opened: dict[str, dict[int, int]] = {}


class ClockRecord(msgspec.Struct, kw_only=True):
    """A model's event time. closed: panes up to here are closed; layout: in force there; known: ids ever seen.

    version: the one with most events in the last pane that had any. refused: the last record of `profiles` of which
    rows were refused because too many panes were open; -1 when none ever was.
    """

    clock: Clock
    closed: int | None
    layout: str
    version: str
    known: list[str]
    format: int = MONITORING_FORMAT
    refused: int = -1


class LedgerRecord(msgspec.Struct, kw_only=True):
    """A model's open incident and what its policies remember."""

    episode: Episode | None
    ledger: Ledger
    format: int = MONITORING_FORMAT


class HeldRecord(msgspec.Struct, kw_only=True):
    """A closed pane that late events may still reach. extras: (kind, feature, name, count)."""

    on_time: PackedTally
    extras: list[tuple[str, str, str, int]]
    format: int = MONITORING_FORMAT


class LateRecord(msgspec.Struct, kw_only=True):
    """What came late for a held pane. revision: of its last report; unsaid: more came since that."""

    late: PackedTally
    extras: list[tuple[str, str, str, int]]
    revision: int
    unsaid: bool
    format: int = MONITORING_FORMAT


_T = TypeVar("_T", bound=msgspec.Struct)
_encoder = msgspec.msgpack.Encoder()


def pack(record: msgspec.Struct) -> bytes:
    """Value of a changelog record."""
    return _encoder.encode(record)


def unpack(raw: bytes, kind: type[_T], *, key: bytes) -> _T:
    """Inverse of `pack`; `FormatError` when it is damaged or of a newer format."""
    try:
        written = msgspec.msgpack.decode(raw, type=_Written).format
        if written > MONITORING_FORMAT:
            raise FormatError(f"changelog {key!r}: format {written}; this worker reads up to {MONITORING_FORMAT}")
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"changelog {key!r}: {error}") from error


def latest(pairs: Iterable[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    """The last value of every key, in the order of the first; tombstones take a key away.

    >>> latest([(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"b", None)])
    {b'a': b'3'}
    """
    found: dict[bytes, bytes] = {}
    for key, value in pairs:
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


class _Written(msgspec.Struct):
    format: int
