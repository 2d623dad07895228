"""The content of the `control` topic as a value: layouts, mappings, references, approvals, marks, partition counts.

Both stages and `backtest` get a `Control`; how its records arrived is the rim's business. A newer `Control` is a new
value: `control = control.apply(key, value, offset=…)`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import msgspec

from detectors.references import Reference, loads
from schemas.alerts import Mark
from schemas.control import CHUNK_BYTES, CONTROL_FORMAT, Cluster, InputMapping, ReferenceHead
from schemas.errors import FormatError, ReferenceFileError
from schemas.layouts import LISTS_FORMAT, Layout
from schemas.triggers import Approval
from streamer.core.mappings import topic_mapping
from streamer.core.records import Output

CLUSTER_KEY = b"cluster"
#: What the keys of people's words on incidents begin with.
MARK_KEY = b"mark|"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Everything that changes a result and is not an event.

    models: layouts of each model, ascending by `from_ms`; mappings: those of each input likewise. references: by id,
    complete and hash-checked only.
    offset: next offset of the control topic that is not in here yet.
    """

    models: dict[str, tuple[Layout, ...]] = field(default_factory=dict)
    mappings: dict[str, tuple[InputMapping, ...]] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    cluster: Cluster | None = None
    offset: int = 0
    _chunks: dict[tuple[str, int], bytes] = field(default_factory=dict, repr=False)
    _heads: dict[str, ReferenceHead] = field(default_factory=dict, repr=False)

    def layout_at(self, model: str, ts: int) -> Layout | None:
        """Layout that an event of `model` at `ts` is counted under; None when the model is unknown."""
        found = None
        for layout in self.models.get(model, ()):
            if layout.from_ms > ts:
                break
            found = layout
        return found

    def layout(self, layout_id: str, model: str) -> Layout | None:
        """Layout of `model` by its id."""
        return next((layout for layout in self.models.get(model, ()) if layout.id == layout_id), None)

    def reference(self, reference_id: str) -> Reference | None:
        """Reference by id; None while its chunks are not all here."""
        return self.references.get(reference_id)

    def apply(self, key: bytes, value: bytes | None, *, offset: int = -1) -> Control:
        """Take in one record of the control topic. `FormatError` on a record of a newer format or a damaged one."""
        control = replace(self, offset=offset + 1) if offset >= self.offset else self
        kind, _, rest = key.decode().partition("|")
        try:
            return control._take(kind, rest, value)
        except (msgspec.DecodeError, ValueError) as error:
            raise FormatError(f"control record {key.decode()!r} at offset {offset}: {error}") from error

    def _take(self, kind: str, rest: str, value: bytes | None) -> Control:
        if kind == "cluster" and value is not None:
            return replace(self, cluster=msgspec.json.decode(value, type=Cluster))
        if kind == "layout":
            return self._take_layout(rest, value)
        if kind == "mapping":
            return self._take_mapping(rest, value)
        if kind == "approval":
            kept = {name: approval for name, approval in self.approvals.items() if name != rest}
            if value is not None:
                kept[rest] = msgspec.json.decode(value, type=Approval)
            return replace(self, approvals=kept)
        if kind == "mark":
            marks = {name: mark for name, mark in self.marks.items() if name != rest}
            if value is not None:
                marks[rest] = msgspec.json.decode(value, type=Mark)
            return replace(self, marks=marks)
        if kind == "reference":
            return self._take_reference(rest, value)
        raise FormatError(f"control record of unknown kind {kind!r}: written by a newer version?")

    def _take_layout(self, rest: str, value: bytes | None) -> Control:
        model, _, from_ms = rest.rpartition("|")
        others = [layout for layout in self.models.get(model, ()) if layout.from_ms != int(from_ms)]
        if value is not None:
            layout = msgspec.json.decode(value, type=Layout)
            if layout.format > LISTS_FORMAT:
                raise FormatError(f"layout of format {layout.format}; this worker reads up to {LISTS_FORMAT}")
            others.append(layout)
        # A copy in C: of ten thousand models, all that are read at a start take .3 s, not 3.
        models = dict(self.models)
        models.pop(model, None)
        if others:
            models[model] = tuple(sorted(others, key=lambda layout: layout.from_ms))
        return replace(self, models=models)

    def _take_mapping(self, rest: str, value: bytes | None) -> Control:
        name, _, from_ms = rest.rpartition("|")
        others = [mapping for mapping in self.mappings.get(name, ()) if mapping.from_ms != int(from_ms)]
        if value is not None:
            mapping = msgspec.json.decode(value, type=InputMapping)
            if mapping.format > CONTROL_FORMAT:
                raise FormatError(f"mapping of format {mapping.format}; this worker reads up to {CONTROL_FORMAT}")
            topic_mapping(mapping)  # ValueError where it cannot work
            others.append(mapping)
        mappings = {known: found for known, found in self.mappings.items() if known != name}
        if others:
            mappings[name] = tuple(sorted(others, key=lambda mapping: mapping.from_ms))
        return replace(self, mappings=mappings)

    def _take_reference(self, rest: str, value: bytes | None) -> Control:
        reference_id, _, part = rest.rpartition("|")
        if value is None:
            gone = {name: ref for name, ref in self.references.items() if name != reference_id}
            return replace(self, references=gone)
        if part != "head":
            chunks = {**self._chunks, (reference_id, int(part)): value}
            # A head may stand before a chunk in a compacted log: look again whenever a chunk arrives.
            return replace(self, _chunks=chunks)._complete(reference_id)
        head = msgspec.json.decode(value, type=ReferenceHead)
        return replace(self, _heads={**self._heads, reference_id: head})._complete(reference_id)

    def _complete(self, reference_id: str) -> Control:
        head = self._heads.get(reference_id)
        if head is None or reference_id in self.references:
            return self
        chunks = [self._chunks.get((reference_id, i)) for i in range(head.chunks)]
        if any(chunk is None for chunk in chunks):
            return self
        raw = b"".join(chunk for chunk in chunks if chunk is not None)
        if hashlib.sha256(raw).hexdigest() != head.sha256:
            return self
        reference = loads(raw)
        if reference.id != reference_id:
            raise ReferenceFileError(f"reference {reference_id}: its content has the id {reference.id}")
        rest = {at: chunk for at, chunk in self._chunks.items() if at[0] != reference_id}
        return replace(self, references={**self.references, reference_id: reference}, _chunks=rest)


def publish_layout(layout: Layout) -> Output:
    """Record that puts a layout in force."""
    return Output("control", f"layout|{layout.model}|{layout.from_ms}".encode(), msgspec.json.encode(layout))


def publish_mapping(mapping: InputMapping) -> Output:
    """Record that says how an input is read from an append time on."""
    return Output("control", f"mapping|{mapping.input}|{mapping.from_ms}".encode(), msgspec.json.encode(mapping))


def publish_cluster(cluster: Cluster) -> Output:
    """Record that fixes the partition counts."""
    return Output("control", CLUSTER_KEY, msgspec.json.encode(cluster))


def publish_approval(approval: Approval) -> Output:
    """Record that carries a person's word on a trigger."""
    return Output("control", f"approval|{approval.trigger}".encode(), msgspec.json.encode(approval))


def publish_mark(mark: Mark) -> Output:
    """Record that carries a person's word on an incident."""
    return Output("control", f"mark|{mark.incident}".encode(), msgspec.json.encode(mark))


def publish_reference(reference_id: str, raw: bytes) -> list[Output]:
    """Records that carry a reference: its chunks, its head last. `raw` is `detectors.references.dumps(reference)`."""
    chunks = [raw[at : at + CHUNK_BYTES] for at in range(0, len(raw), CHUNK_BYTES)]
    head = ReferenceHead(id=reference_id, chunks=len(chunks), size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    records = [Output("control", f"reference|{reference_id}|{i}".encode(), chunk) for i, chunk in enumerate(chunks)]
    return [*records, Output("control", f"reference|{reference_id}|head".encode(), msgspec.json.encode(head))]
