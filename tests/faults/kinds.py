"""The faults, one function each: `(storm, chance)` acts, and returns when the fault itself is over.

The table FAULTS names them for plans, the printed table and the README.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable

from brokers import eventually
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamer.commands.measured_worker import tripline
from tests.faults.storm import SESSION_MS, Storm

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


def lose_alertmanager(storm: Storm, chance: random.Random) -> None:
    """Alertmanager ends and comes back with nothing in memory."""
    import shutil

    storm.alertmanager.kill()
    time.sleep(chance.uniform(1.0, 5.0))
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
        kill_worker, kill_while_it_restores, kill_all_workers, make_a_zombie, pause_worker, add_and_remove_worker,
        same_slot_twice, move_a_clock, kill_broker, pause_broker, cut_the_line, lose_the_group, lose_alertmanager,
        sicken_alertmanager, apply_a_layout,
    )
}  # fmt: skip
