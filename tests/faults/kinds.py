"""The faults, one function each: `(storm, chance)` acts, and returns when the fault itself is over.

The table FAULTS names them for plans, the printed table and the README.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable

import logs
from brokers import eventually
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from steps import STEPS

from streamer.commands.measured_worker import tripline
from streamer.core.profiling_state import decode_position
from tests.faults.storm import SESSION_MS, Storm
from tests.simulation.invariants import gaps_in

Fault = Callable[[Storm, random.Random], None]


def kill_worker(storm: Storm, chance: random.Random) -> None:
    """SIGKILL of a worker at any moment."""
    storm.end(chance.choice(storm.slots), signal.SIGKILL)


def kill_while_it_restores(storm: Storm, chance: random.Random) -> None:
    """SIGKILL, and again up to two seconds after the restart: between any two steps of a restore."""
    slot = chance.choice(storm.slots)
    for _ in range(2):
        storm.end(slot, signal.SIGKILL)
        time.sleep(chance.uniform(0.5, 2.5))
    storm.end(slot, signal.SIGKILL)


def die_at_a_step(storm: Storm, chance: random.Random) -> None:
    """A worker comes back and dies by SIGKILL between two named steps of a restore or of a transaction, thrice."""
    slot = chance.choice(storm.slots)
    for step in chance.sample(STEPS, 3):
        before = storm.ends(slot)
        storm.steps[slot] = step
        storm.end(slot, signal.SIGKILL)
        with contextlib.suppress(AssertionError):  # a worker without a task of that stage does not come by there
            eventually(lambda: storm.ends(slot) > before + 1, within=20)  # noqa: B023
    storm.end(slot, signal.SIGKILL)


def kill_all_workers(storm: Storm, chance: random.Random) -> None:
    """SIGKILL of every worker at once."""
    for slot in storm.slots:
        storm.end(slot, signal.SIGKILL)


def make_a_zombie(storm: Storm, chance: random.Random) -> None:
    """SIGSTOP for longer than the session, then SIGCONT: others have its tasks, it must be fenced."""
    child = storm.child(chance.choice(storm.slots))
    child.send_signal(signal.SIGSTOP)
    time.sleep(SESSION_MS / 1000 + chance.uniform(1.0, 3.0))
    child.send_signal(signal.SIGCONT)


def pause_worker(storm: Storm, chance: random.Random) -> None:
    """SIGSTOP for less than the session."""
    child = storm.child(chance.choice(storm.slots))
    child.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(1.0, SESSION_MS / 2000))
    child.send_signal(signal.SIGCONT)


def add_and_remove_worker(storm: Storm, chance: random.Random) -> None:
    """One more worker for a few seconds, which leaves in good order."""
    slot = max(storm.slots) + 1
    storm.spawn(slot)
    storm.held_back.discard(slot)
    time.sleep(chance.uniform(3.0, 6.0))
    ready = storm.ready(slot)
    code = storm.end(slot, signal.SIGTERM, respawn=False)
    # A signal that comes while it starts ends it before it can take its leave.
    if code and (ready or code != -signal.SIGTERM):
        storm.exits.append((slot, code))


def same_slot_twice(storm: Storm, chance: random.Random) -> None:
    """A second worker in a slot that is taken, for a few seconds: one of them is turned away."""
    slot = chance.choice(storm.slots)
    with (storm.folder / "double.log").open("ab") as out:
        command = [*tripline(), "run", "-c", str(storm.file(slot)), "--slot", str(slot)]
        double = subprocess.Popen(command, stdout=out, stderr=out)
    time.sleep(chance.uniform(3.0, 5.0))
    double.kill()
    double.wait()


def move_a_clock(storm: Storm, chance: random.Random) -> None:
    """A worker comes back with its clock an hour ahead; or right again, when it was ahead."""
    slot = chance.choice(storm.slots)
    storm.ahead ^= {slot}
    storm.end(slot, signal.SIGKILL)


def kill_broker(storm: Storm, chance: random.Random) -> None:
    """SIGKILL of the broker, and its restart."""
    storm.kafka.kill()
    time.sleep(chance.uniform(0.0, 2.0))
    storm.kafka.start()


def pause_broker(storm: Storm, chance: random.Random) -> None:
    """SIGSTOP of the broker, for up to 20 s."""
    storm.kafka.pause()
    time.sleep(chance.choice((3.0, 8.0, 20.0)))
    storm.kafka.resume()


def cut_the_line(storm: Storm, chance: random.Random) -> None:
    """Every connection to the broker is dropped, and new ones too, for a few seconds."""
    storm.kafka.set("cut")
    time.sleep(chance.uniform(0.0, 4.0))
    storm.kafka.set("through")


def lose_the_group(storm: Storm, chance: random.Random) -> None:
    """All workers die, and the groups' offsets are deleted before they come back."""
    for slot in storm.slots:
        storm.end(slot, signal.SIGKILL, respawn=False)
    _delete_groups(storm)
    storm.held_back -= set(storm.slots)


def truncate_an_input(storm: Storm, chance: random.Random) -> None:
    """Retention takes what nobody has read: the worker of that partition ends with 72; told to accept, it goes on."""
    place = chance.randrange(storm.partitions)
    for slot in storm.slots:
        storm.end(slot, signal.SIGKILL, respawn=False)
    eventually(lambda: _unread(storm, place) > 300, within=60, every=0.5, what="something unread")
    storm.keep("predictions")
    start = _truncate(storm, place)
    before = len(storm.exits)
    storm.held_back -= set(storm.slots)
    eventually(lambda: 72 in {code for _, code in storm.exits[before:]}, within=60, what="exit 72")
    storm.accepting |= set(storm.slots)
    eventually(lambda: (place, start) in _accepted(storm), within=60, every=0.5, what="the gap accepted")
    storm.accepting.clear()
    storm.exits[before:] = [one for one in storm.exits[before:] if one[1] != 72]
    storm.last_words[:] = [words for words in storm.last_words if "ended with 72" not in words]
    # From now on nobody may pass over anything.
    for slot in storm.slots:
        storm.end(slot, signal.SIGKILL)


def recreate_an_input(storm: Storm, chance: random.Random) -> None:
    """An input is deleted and made anew, with other records past every position: who comes back ends with 72.

    Nothing of it is counted; when the log is put back from a copy, all go on.
    """
    every = range(storm.partitions)
    eventually(lambda: all(_positions(storm).get(place) for place in every), within=60, every=0.5, what="all begun")
    storm.hold_stream()
    for slot in storm.slots:
        storm.end(slot, signal.SIGKILL, respawn=False)
    storm.keep("predictions")
    whole = [storm.kept["predictions"][at] for at in sorted(storm.kept["predictions"])]
    before, known = _positions(storm), len(storm.exits)
    others = [record._replace(value=b"{}", timestamp=0) for record in whole + whole[-chance.randrange(1, 400) :]]
    storm.recreate("predictions", others)
    storm.held_back -= set(storm.slots)
    eventually(lambda: 72 in {code for _, code in storm.exits[known:]}, within=60, what="exit 72")
    for slot in storm.slots:
        storm.end(slot, signal.SIGKILL, respawn=False)
    assert _positions(storm) == before, "another log was counted"
    storm.recreate("predictions", whole, copied=True)
    storm.held_back -= set(storm.slots)
    # How the last of them ended is noted only when it is started again.
    eventually(lambda: all(map(storm.ready, storm.slots)), within=90, every=0.5, what="all know the copy again")
    storm.exits[known:] = [one for one in storm.exits[known:] if one[1] != 72]
    storm.last_words[:] = [words for words in storm.last_words if "ended with 72" not in words]
    storm.go_on()


def lose_alertmanager(storm: Storm, chance: random.Random) -> None:
    """Alertmanager ends and comes back with nothing in memory."""
    import shutil

    storm.alertmanager.kill()
    time.sleep(chance.choice((2.0, 5.0, 5.0, 60.0)))
    shutil.rmtree(storm.alertmanager.folder / "data", ignore_errors=True)
    storm.alertmanager.start()


def sicken_alertmanager(storm: Storm, chance: random.Random) -> None:
    """Alertmanager answers 500 or 429, hangs, or ends its answers in their middle."""
    storm.alert_line.set(chance.choice(("500", "429", "hang", "half")))  # type: ignore[arg-type]
    time.sleep(chance.uniform(2.0, 5.0))
    storm.alert_line.set("through")


def apply_a_layout(storm: Storm, chance: random.Random) -> None:
    """A new layout comes into force while everything runs."""
    storm.tolerance = round(storm.tolerance + 0.01, 2)
    storm.configure()
    storm.site.command("apply", "-c", str(storm.file(0)))


def _unread(storm: Storm, place: int) -> int:
    """Records of a partition of the predictions that no position has passed."""
    return _end(storm, place) - _positions(storm)[place]


def _positions(storm: Storm) -> dict[int, int]:
    """Where each partition of the predictions is read on."""
    there = logs.read(storm.site.bootstrap, storm.topic(f"{storm.site.name}-profiling-changelog"))
    records = [record for record in there if record.key == b"position"]
    return {record.partition: decode_position(record.value or b"").next["predictions"] for record in records}


def _end(storm: Storm, place: int) -> int:
    reader = Consumer({"bootstrap.servers": storm.site.bootstrap, "group.id": "storm", "log_level": 0})
    try:
        return int(reader.get_watermark_offsets(TopicPartition(storm.topic("predictions"), place), timeout=30)[1])
    finally:
        reader.close()


def _truncate(storm: Storm, place: int) -> int:
    """Delete what was kept of a partition of the predictions; the log's new start."""
    start = 1 + max(offset for partition, offset in storm.kept["predictions"] if partition == place)
    admin = AdminClient({"bootstrap.servers": storm.site.bootstrap, "log_level": 0})
    at = TopicPartition(storm.topic("predictions"), place, start)
    admin.delete_records([at])[at].result()
    return start


def _accepted(storm: Storm) -> set[tuple[int, int]]:
    """Partition and end of every gap that the audit has."""
    return {(partition, end) for _, partition, _, end in gaps_in(logs.read(storm.site.bootstrap, storm.topic("audit")))}


def _delete_groups(storm: Storm) -> None:
    """As soon as their sessions are over: a group with members cannot be deleted."""
    admin = AdminClient({"bootstrap.servers": storm.site.bootstrap, "log_level": 0})

    def deleted(group: str) -> bool:
        try:
            admin.delete_consumer_groups([group], request_timeout=10)[group].result()
        except KafkaException as error:
            return bool(error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND)
        return True

    for stage in ("profiling", "monitoring"):
        group = f"{storm.site.name}.{stage}"
        eventually(lambda: deleted(group), within=30, every=0.5, what=f"{group} deleted")  # noqa: B023


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_worker, kill_while_it_restores, die_at_a_step, kill_all_workers, make_a_zombie, pause_worker,
        add_and_remove_worker, same_slot_twice, move_a_clock, kill_broker, pause_broker, cut_the_line,
        lose_the_group, truncate_an_input, recreate_an_input, lose_alertmanager, sicken_alertmanager, apply_a_layout,
    )
}  # fmt: skip
