"""Two stages that merely count, by the same protocol as the real ones: what the rim is proved with, alone.

`Counting` counts input values and says how many of each came in a range of its input; `Summing` adds that up and
refuses what does not join. Everything they say is JSON, so that a checker needs nothing of ours.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from schemas.errors import ProtocolBroken
from streamer.core.control import Control
from streamer.core.milestones import Milestone, passed
from streamer.core.records import Batch, Output, Record
from streamer.kafka.stages import Counts

State = dict[str, Any]
#: How many records of a source `Summing` would know again.
REMEMBERED = 8


class Counting(NamedTuple):
    """Counts the values of `predictions`; a value's counts go to partition crc32(value) % profiles of `profiles`."""

    profiles: int
    name: str = "profiling"
    inputs: tuple[str, ...] = ("predictions", "features")
    writes: tuple[str, ...] = ("dead-letter",)
    spreads: tuple[str, ...] = ("profiles",)
    ticks: bool = True
    begins: str | None = None
    reasons: tuple[str, ...] = ("decode", "gap")
    awaits_control: bool = False

    def start(self, control: Control, partition: int, positions: Mapping[str, int]) -> State:
        begun = {"source": partition, "next": dict(positions), "seq": 0, "consumed": 0, "lost": 0}
        return {**begun, "milestones": {}}

    def restore(self, control: Control, partition: int, records: Iterable[tuple[bytes, bytes]]) -> State:
        state: State = json.loads(dict(records)[b"position"])
        return state

    def replay_from(self, state: State) -> int | None:
        return None

    def replay(self, control: Control, state: State, records: Sequence[Record]) -> State:
        raise NotImplementedError

    def verify(self, control: Control, state: State) -> State:
        return state

    def apply(self, control: Control, state: State, batch: Batch) -> tuple[State, list[Output]]:
        begin = sum(state["next"].values())
        tallies: dict[int, dict[str, int]] = {}
        for record in batch.records:
            assert record.offset >= state["next"][batch.input]
            value = (record.value or b"").decode()
            of = tallies.setdefault(zlib.crc32(value.encode()) % self.profiles, {})
            of[value] = of.get(value, 0) + 1
        state["next"][batch.input] = batch.next_offset
        state["seq"] += 1
        state["consumed"] += len(batch.records)
        if batch.records:
            known = self.milestones(state).get(batch.input, [])
            stones = passed(known, batch.records[-1])
            state["milestones"][batch.input] = [(one.offset, one.digest) for one in stones]
        said = {"source": state["source"], "seq": state["seq"], "begin": begin, "end": sum(state["next"].values())}
        outputs = [
            Output("profiles", b"", json.dumps({**said, "counts": counts}).encode(), q) for q, counts in tallies.items()
        ]
        return state, [*outputs, Output("changelog", b"position", json.dumps(state).encode())]

    def positions(self, state: State) -> Mapping[str, int]:
        return state["next"]

    reached = positions

    def milestones(self, state: State) -> Mapping[str, Sequence[Milestone]]:
        return {name: [Milestone(*one) for one in stones] for name, stones in state["milestones"].items()}

    def moved(self, state: State, positions: Mapping[str, int]) -> State:
        state["lost"] += sum(at - state["next"][name] for name, at in positions.items())
        state["next"].update(positions)
        return state

    def pending(self, state: State) -> bool:
        return False

    def boundary(self, control: Control, after_ms: int) -> int | None:
        return None

    def counts(self, state: State) -> Counts:
        return Counts(state["consumed"] + state["lost"], state["consumed"], {"decode": 0, "gap": state["lost"]})


class Summing(NamedTuple):
    """Adds up what `Counting` says, and publishes the totals so far as one window per batch."""

    name: str = "monitoring"
    inputs: tuple[str, ...] = ("profiles",)
    writes: tuple[str, ...] = ("windows", "incidents")
    spreads: tuple[str, ...] = ()
    ticks: bool = False
    begins: str | None = "earliest"
    reasons: tuple[str, ...] = ("late",)
    awaits_control: bool = True

    def start(self, control: Control, partition: int, positions: Mapping[str, int]) -> State:
        return {"next": dict(positions), "totals": {}, "seen": {}, "window": 0, "consumed": 0, "repeats": 0}

    def restore(self, control: Control, partition: int, records: Iterable[tuple[bytes, bytes]]) -> State:
        state: State = json.loads(dict(records)[b"position"])
        return state

    def replay_from(self, state: State) -> int | None:
        return max(0, state["next"]["profiles"] - 10) if state["window"] else None

    def replay(self, control: Control, state: State, records: Sequence[Record]) -> State:
        assert all(record.offset < state["next"]["profiles"] for record in records)
        return state

    def verify(self, control: Control, state: State) -> State:
        return state

    def apply(self, control: Control, state: State, batch: Batch) -> tuple[State, list[Output]]:
        for record in batch.records:
            said = json.loads(record.value or b"{}")
            source = str(said["source"])
            # The sequence of a source rises in every partition. What a crash hid after it was read comes once more, and
            # is dropped like any whole repeat (streamer/core/ranges.py); anything else that does not rise is a fault.
            seq, digest = said["seq"], sha256(record.value or b"").hexdigest()
            seen = state["seen"].setdefault(source, [])
            if [seq, digest] in seen:
                state["repeats"] += 1
                continue
            if seen and seq <= seen[-1][0]:
                raise ProtocolBroken(f"source {source} said {seq} after {seen[-1][0]}")
            state["seen"][source] = [*seen[1 - REMEMBERED :], [seq, digest]]
            for value, n in said["counts"].items():
                state["totals"][value] = state["totals"].get(value, 0) + n
                state["consumed"] += n
        state["next"]["profiles"] = batch.next_offset
        if not batch.records:
            return state, []
        state["window"] += 1
        window = Output("windows", str(state["window"]).encode(), json.dumps(state["totals"]).encode())
        return state, [window, Output("changelog", b"position", json.dumps(state).encode())]

    def positions(self, state: State) -> Mapping[str, int]:
        return state["next"]

    reached = positions

    def milestones(self, state: State) -> Mapping[str, Sequence[Milestone]]:
        return {}

    def moved(self, state: State, positions: Mapping[str, int]) -> State:
        state["next"].update(positions)
        return state

    def pending(self, state: State) -> bool:
        return False

    def boundary(self, control: Control, after_ms: int) -> int | None:
        return None

    def counts(self, state: State) -> Counts:
        return Counts(state["consumed"], state["consumed"], {"late": 0}, {("windows", ""): state["window"]})
