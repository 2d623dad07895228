"""Named steps of a restore and of a transaction of a real worker, at any of which it can be made to die by SIGKILL.

`stepping(FILE)` in a worker process, before it starts, takes the first line off FILE, such as `monitoring: batch sent`,
and the process dies there. As a program it is `tripline` with that: `steps.py FILE run -c …`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamer.kafka import restore
from streamer.kafka.mending import Tail
from streamer.kafka.transactions import Ledger

RESTORE = (
    "fence", "fenced", "barrier begun", "barrier one sent", "barrier sent", "barrier aborted", "barrier passed",
    "tails read", "changelog read", "restored",
)  # fmt: skip
BATCH = ("batch begun", "batch one sent", "batch sent", "batch committed", "batch noted")
#: Every step, of both stages; `replayed` is stage 2's alone.
STEPS = (
    *(f"{stage}: {step}" for stage in ("profiling", "monitoring") for step in (*RESTORE, *BATCH)),
    "monitoring: replayed",
)


class _Producer:
    """A producer whose steps are told. of: stage; doing: what the transaction is."""

    def __init__(self, producer: Any, of: str, reached: Callable[[str], None]) -> None:
        self._producer, self._of, self._reached = producer, of, reached
        self.doing = "barrier"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    async def start(self) -> None:
        self._reached(f"{self._of}: fence")
        await self._producer.start()
        self._reached(f"{self._of}: fenced")

    async def begin_transaction(self) -> None:
        await self._producer.begin_transaction()
        self._reached(f"{self._of}: {self.doing} begun")

    async def send(self, *args: Any, **more: Any) -> Any:
        sent = await self._producer.send(*args, **more)
        self._reached(f"{self._of}: {self.doing} one sent")
        return sent

    async def commit_transaction(self) -> None:
        self._reached(f"{self._of}: {self.doing} sent")
        await self._producer.commit_transaction()
        self._reached(f"{self._of}: {self.doing} committed")

    async def abort_transaction(self) -> None:
        self._reached(f"{self._of}: {self.doing} sent")
        await self._producer.abort_transaction()
        self._reached(f"{self._of}: {self.doing} aborted")


def stepping(plan: Path) -> None:
    """Die at the step that the first line of `plan` names, if there is one; the line is gone then."""
    first, _, rest = plan.read_text().partition("\n")
    if not first:
        return
    plan.write_text(rest)

    def reached(step: str) -> None:
        if step == first:
            os.kill(os.getpid(), signal.SIGKILL)

    _tell(reached)


def _tell(reached: Callable[[str], None]) -> None:
    made, write, session = Ledger.__init__, Ledger.write, restore._Session

    def __init__(self: Any, settings: Any, *, stage: str, partition: int) -> None:
        made(self, settings, stage=stage, partition=partition)
        self._producer = _Producer(self._producer, stage, reached)

    async def written(self: Any, outputs: Any) -> None:
        self._producer.doing = "batch"
        await write(self, outputs)
        reached(f"{self.name.partition('/')[0]}: batch noted")

    Ledger.__init__, Ledger.write = __init__, written  # type: ignore[method-assign]
    read = restore.read_tails

    async def tails(*args: Any, **more: Any) -> dict[Any, Tail]:
        found = await read(*args, **more)
        (stage,) = {name.rpartition(".")[0].rpartition(".")[2] for names in args[3].values() for name in names}
        reached(f"{stage}: tails read")
        return found

    restore.read_tails = tails
    for name, step in (
        ("pass_barriers", "barrier passed"),
        ("read_changelogs", "changelog read"),
        ("replay", "replayed"),
        ("restored", "restored"),
    ):
        _after(session, name, step, reached)


def _after(session: Any, name: str, step: str, reached: Callable[[str], None]) -> None:
    whole = getattr(session, name)

    async def told(self: Any, *args: Any, **more: Any) -> Any:
        found = await whole(self, *args, **more)
        reached(f"{self.stage.name}: {step}")
        return found

    setattr(session, name, told)


if __name__ == "__main__":
    from streamer.commands import main

    stepping(Path(sys.argv.pop(1)))
    main()
