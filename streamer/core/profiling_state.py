"""The state of a stage-1 task, and how it is kept in the changelog: a position record, and chunks of recent ids.

What a task counted leaves with every batch, so its state is small: where it stands, what it dropped, the latest time
of each model, and the identities that an event may repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from schemas.control import InputMapping
from schemas.errors import FormatError, ProtocolBroken
from schemas.events import DropReason
from streamer.core.control import Control
from streamer.core.drops import LETTERS
from streamer.core.join_log import KEY as JOIN_KEY
from streamer.core.join_position import JoinPosition
from streamer.core.joining import Join
from streamer.core.mappings import format_for
from streamer.core.milestones import Milestone
from streamer.core.plans import Plans
from streamer.core.recent import KEY, Recent
from streamer.formats.seam import Format
from streamer.formats.shapes import Kind, Shapes

#: 2: `folded` and what stands after it. 3: `milestones`.
POSITION_FORMAT = 3
POSITION_KEY = b"position"


class ProfilingPosition(msgspec.Struct, kw_only=True):
    """The record under `position`: with the chunks of ids, all that a stage-1 task needs to go on.

    next: next offset of each input. maxima: running maximum of accepted times by model. ends: where the last range
    written to each partition of `profiles` ended: (partition, position). first_id, next_id: numbers of the identities
    in the changelog; ids: their sum modulo 2**64. consumed == applied + Σ drops. folded: events of which a version or a
    segment value went to `__other__` in their delta. appended: largest append time by input. join: of outcomes; those
    that wait are neither applied nor dropped yet. denied: values of features that may not be read, in events applied.
    milestones: records of each input by which its log is known again. digest: of all the other fields.
    """

    format: int = POSITION_FORMAT
    source: int
    seq: int
    next: dict[str, int]
    consumed: int
    applied: int
    drops: dict[str, int]
    maxima: dict[str, int]
    ends: list[tuple[int, int]]
    caught_up: bool
    first_id: int
    next_id: int
    ids: int
    control_offset: int
    digest: str = ""
    folded: int = 0
    join: JoinPosition | None = None
    appended: dict[str, int] = {}
    denied: int = 0
    milestones: dict[str, list[Milestone]] = {}


@dataclass(eq=False, kw_only=True)
class ProfilingState:
    """A stage-1 task between two batches. source: the partition of its inputs.

    next: where the rim reads on, by input. letters: dead letters per batch and reason; suppressed: refusals that had
    none of their own, since this worker has the task. quiet: of the replay of a table nobody reads the changelog.
    Everything else is the core's own.
    """

    source: int
    payload: bool
    plans: Plans
    next: dict[str, int]
    seq: int = 0
    consumed: int = 0
    applied: int = 0
    folded: int = 0
    denied: int = 0
    drops: dict[str, int] = field(default_factory=lambda: {reason.value: 0 for reason in DropReason})
    maxima: dict[str, int] = field(default_factory=dict)
    appended: dict[str, int] = field(default_factory=dict)
    milestones: dict[str, list[Milestone]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    caught_up: bool = False
    recent: Recent = field(default_factory=lambda: Recent(0))
    formats: dict[str, Format] = field(default_factory=dict)
    strangers: dict[str, set[str]] = field(default_factory=dict)
    control_offset: int = 0
    join: Join | None = None
    letters: int = LETTERS
    suppressed: int = 0
    quiet: bool = False

    @property
    def waiting(self) -> int:
        """Outcomes that wait for their predictions: consumed, and neither applied nor dropped."""
        return self.join.waiting.count if self.join is not None else 0

    @property
    def position(self) -> int:
        """Input position: the sum of the next offsets."""
        return sum(self.next.values())

    @property
    def mappings(self) -> Mapping[str, tuple[InputMapping, ...]]:
        """How inputs that are not ours are read, by input."""
        return self.plans.control.mappings

    def format_of(self, name: str, kind: Kind) -> Format:
        """Decoder of an input, made anew when the layouts or the unknown features seen have changed."""
        found = self.formats.get(name)
        if found is None:
            sketches, joined = self.plans.sketches(kind), bool(self.plans.joined)
            shapes = Shapes.of(sketches, kind=kind, strangers=self.strangers, outcomes=joined)
            found = self.formats[name] = format_for(shapes, self.mappings.get(name, ()))
        return found

    def learn(self, name: str) -> None:
        """Let the decoder of an input know the unknown features that it has met. Changes speed, never a result."""
        met = self.formats[name].strangers
        if met:
            self.strangers = {**self.strangers, **{model: set(names) for model, names in met.items()}}
            del self.formats[name]

    def record(self) -> ProfilingPosition:
        """The position record of this state."""
        position = ProfilingPosition(
            source=self.source,
            seq=self.seq,
            next=self.next,
            consumed=self.consumed,
            applied=self.applied,
            folded=self.folded,
            denied=self.denied,
            appended=self.appended,
            milestones=self.milestones,
            drops=self.drops,
            maxima=self.maxima,
            ends=sorted(self.ends.items()),
            caught_up=self.caught_up,
            first_id=self.recent.first,
            next_id=self.recent.next,
            ids=self.recent.digest,
            control_offset=self.control_offset,
            join=None if self.join is None else self.join.position(),
        )
        position.digest = _digest(position)
        return position


def decode_position(raw: bytes) -> ProfilingPosition:
    """The position record, checked: `FormatError` when damaged or newer than this code.

    >>> decode_position(msgspec.msgpack.encode({"format": 99}))
    Traceback (most recent call last):
    schemas.errors.FormatError: position record of format 99; this worker reads up to 3
    """
    try:
        version = msgspec.msgpack.decode(raw).get("format")
        if isinstance(version, int) and version > POSITION_FORMAT:
            raise FormatError(f"position record of format {version}; this worker reads up to {POSITION_FORMAT}")
        position = msgspec.msgpack.decode(raw, type=ProfilingPosition)
    except (ValueError, AttributeError) as error:
        raise FormatError(f"position record: {error}") from error
    if position.digest != _digest(position):
        raise ProtocolBroken(f"position record of source {position.source}: its digest differs")
    waiting = 0 if position.join is None else position.join.waiting
    if position.consumed != position.applied + waiting + sum(position.drops.values()):
        raise ProtocolBroken(f"position record of source {position.source}: consumed is not applied and dropped")
    return position


def from_changelog(
    pairs: Iterable[tuple[bytes, bytes | None]],
    control: Control,
    *,
    payload: bool,
    letters: int = LETTERS,
) -> ProfilingState | None:
    """The state that a task's changelog holds; None where it holds none."""
    latest = dict(pairs)
    raw = latest.get(POSITION_KEY)
    if raw is None:
        return None
    position = decode_position(raw)
    plans = Plans.of(control)
    chunks = [(key, value) for key, value in latest.items() if key.startswith(KEY) and value is not None]
    recent = Recent.restore(chunks, window=plans.window, first=position.first_id, following=position.next_id)
    if recent.digest != position.ids:
        raise ProtocolBroken(f"changelog of source {position.source}: the digest of the recent ids differs")
    join = Join(plans) if plans.joined else None
    if position.join is not None:
        records = [(key, value) for key, value in latest.items() if key.startswith(JOIN_KEY) and value is not None]
        join = Join.restore(position.join, records, plans)
    return ProfilingState(
        source=position.source,
        payload=payload,
        letters=letters,
        plans=plans,
        next=position.next,
        seq=position.seq,
        consumed=position.consumed,
        applied=position.applied,
        folded=position.folded,
        denied=position.denied,
        appended=position.appended,
        milestones=position.milestones,
        drops=position.drops,
        maxima=position.maxima,
        ends=dict(position.ends),
        caught_up=position.caught_up,
        recent=recent,
        control_offset=position.control_offset,
        join=join,
    )


#: Fields that came later, with their defaults: left out of the digest while they have them, so that it is that of
#: the record as an older worker wrote it.
_LATER = {
    field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    for field in msgspec.structs.fields(ProfilingPosition)[ProfilingPosition.__struct_fields__.index("digest") :]
}


def _digest(position: ProfilingPosition) -> str:
    fields = {name: value for name, value in msgspec.structs.asdict(position).items() if name != "digest"}
    for name, default in _LATER.items():
        if fields.get(name) == default:
            del fields[name]
    raw = msgspec.msgpack.encode({**fields, "digest": ""}, order="sorted")
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
