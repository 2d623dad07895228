"""A seeded plan of faults, carried out; what was invariant, and how long each model and source stood still.

python -m tests.faults.running --faults 200 --seed 1 [--kafka 3.9] [--slots 1] [--partitions 16]    # make faults
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from brokers import eventually

from schemas.alerts import AlertState, Incident
from schemas.envelopes import unwrap
from schemas.profiles import OUTCOME
from streamer.core.profiling_state import decode_position
from tests.faults.evidence import INPUTS, Left, Undisturbed
from tests.faults.kinds import FAULTS
from tests.faults.storm import EXPECTED_EXITS, Storm
from tests.simulation.invariants import counts, violations

#: Between two faults.
GAPS_S = (2.0, 5.0)
#: After the last fault: until everything is counted, and until Alertmanager has it.
CATCH_UP_S, DELIVERY_S = 60.0, 90.0


@dataclass
class Outcome:
    """What came of a storm. resumed: seconds to progress of every (model, source) after each fault, by its name."""

    happened: Counter[str] = field(default_factory=Counter)
    resumed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    longest_stall: float = 0.0
    caught_up: float = 0.0
    events: int = 0
    joined: int = 0
    windows: int = 0

    def table(self) -> str:
        """As Markdown."""
        lines = ["| fault | times | progress again, median s | most s |", "|---|---|---|---|"]
        for name, times in sorted(self.happened.items()):
            waits = self.resumed[name]
            lines.append(f"| {name} | {times} | {statistics.median(waits):.1f} | {max(waits):.1f} |")
        every = [wait for waits in self.resumed.values() for wait in waits]
        lines.append(f"| all | {self.happened.total()} | {statistics.median(every):.1f} | {max(every):.1f} |")
        said = "; ".join(self.wrong) if self.wrong else "I1 to I7 hold"
        return "\n".join(
            [
                *lines,
                "",
                f"{self.events} events, {self.joined} joined with outcomes, {self.windows} windows; longest stall "
                f"{self.longest_stall:.1f} s; caught up {self.caught_up:.1f} s after the last fault. {said}.",
            ]
        )


def plan(
    seed: int, faults: int, *, kinds: Sequence[str] = (), gaps: tuple[float, float] = GAPS_S
) -> list[tuple[str, float]]:
    """Names of faults and the seconds after each; every kind once before any comes again."""
    chance, names = random.Random(seed), list(kinds or FAULTS)
    chosen: list[str] = []
    while len(chosen) < faults:
        chance.shuffle(names)
        chosen += names
    return [(name, chance.uniform(*gaps)) for name in chosen[:faults]]


def carry_out(storm: Storm, planned: Sequence[tuple[str, float]], *, seed: int, say: bool = False) -> Outcome:
    """The plan in a running storm, then all checks. seed: of what the faults themselves leave to chance."""
    outcome, chance = Outcome(), random.Random(seed + 1)
    over: list[tuple[str, float]] = []
    for name, gap in planned:
        if say:
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        FAULTS[name](storm, chance)
        outcome.happened[name] += 1
        over.append((name, time.monotonic()))
        time.sleep(gap)
    last = over[-1][1]
    eventually(lambda: storm.watcher.resumed(last) is not None, within=CATCH_UP_S, what=f"progress: {storm.tail(0)}")
    storm.stop_stream()
    eventually(lambda: _all_counted(storm), within=CATCH_UP_S, every=1.0, what=f"all counted: {storm.tail(0)}")
    outcome.caught_up = time.monotonic() - last
    for name, at in over:
        outcome.resumed[name].append(storm.watcher.resumed(at) or 0.0)
    outcome.longest_stall = storm.watcher.longest_stall()
    outcome.wrong += [f"I5 {one}" for one in _undelivered(storm)]
    # What lives on says more: of panes that close empty, for one. All is looked at when nobody speaks any more.
    outcome.wrong += [f"a worker left with {code}" for code in storm.leave() if code]
    left = Left(storm)
    # A cut line may keep the stream away for 10 s: sources are idle then. `incidents` is compacted.
    outcome.wrong += violations(left, Undisturbed(left), idle=True, compacted=("incidents",))
    outcome.wrong += [f"slot {slot} ended with {code}" for slot, code in storm.exits if code not in EXPECTED_EXITS]
    sums = counts(left)
    outcome.events = sum(dict(entries).get(0, 0) for cell, entries in sums.items() if cell[0] != OUTCOME)
    outcome.joined = sum(dict(entries).get(0, 0) for cell, entries in sums.items() if cell[0] == OUTCOME)
    outcome.windows = len(left.visible("windows"))
    return outcome


def _all_counted(storm: Storm) -> bool:
    left = Left(storm)
    positions = {
        record.partition: decode_position(record.value or b"")
        for record in left.changelog("profiling")
        if record.key == b"position"
    }
    return sum(position.consumed for position in positions.values()) == sum(len(left.visible(name)) for name in INPUTS)


def _undelivered(storm: Storm) -> list[str]:
    """I5: incidents whose latest state Alertmanager does not have, after some time."""
    try:
        eventually(lambda: not _undelivered_now(storm), within=DELIVERY_S, every=1.0)
    except AssertionError:
        return _undelivered_now(storm)
    return []


def _undelivered_now(storm: Storm) -> list[str]:
    latest: dict[bytes | None, Incident] = {}
    for record in Left(storm).visible("incidents"):
        latest[record.key] = unwrap(record.value or b"", Incident)
    firing = {(one.model, one.version) for one in latest.values() if one.state is AlertState.FIRING}
    there = {(one["labels"]["model"], one["labels"]["version"]) for one in storm.alertmanager.alerts()}
    return [f"{model} {version} does not fire" for model, version in sorted(firing - there)] + [
        f"{model} {version} still fires" for model, version in sorted(there - firing)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="A storm of faults over real parts; exit 1 when an invariant breaks")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kafka", default="4.3")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--brokers", type=int, default=1, choices=(1, 3), help="3: replicated, the leader dies")
    parser.add_argument("--only", action="append", default=[], choices=list(FAULTS), help="these kinds and no others")
    parser.add_argument("--gap", type=float, nargs=2, default=GAPS_S, help="least and most seconds between two faults")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tripline-faults-") as folder,
        Storm(
            Path(folder), version=asked.kafka, slots=asked.slots, partitions=asked.partitions, brokers=asked.brokers
        ) as storm,
    ):
        planned = plan(asked.seed, asked.faults, kinds=asked.only, gaps=tuple(asked.gap))
        try:
            outcome = carry_out(storm, planned, seed=asked.seed, say=True)
        except AssertionError:
            # The folder goes with us: what the workers last said would be gone.
            print(*(f"slot {slot}:\n{storm.tail(slot)}" for slot in storm.slots), storm.exits[-12:], sep="\n\n")
            raise
        print(
            f"\nKafka {storm.kafka.version} ({asked.brokers}), {asked.slots} workers, {asked.partitions} partitions, "
            f"seed {asked.seed}\n"
        )
        print(outcome.table())
        print(*storm.last_words, sep="\n\n")
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
