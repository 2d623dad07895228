"""A worker of the counting stages as a process: `counting_worker.py '{"bootstrap_servers": …, "profiles": 3, …}'`.

mend: false leaves what a crash has hidden as it is; without it a test of the mending would prove nothing. steps: a file
that names the steps at which it dies (steps.py).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from counting import Counting, Summing
from steps import stepping

from streamer import logs
from streamer.app import Address, Worker
from streamer.commands.run import serve
from streamer.kafka import restore
from streamer.kafka.settings import KafkaSettings


def main(options: dict[str, Any]) -> int:
    profiles, page = options.pop("profiles"), options.pop("page", None)
    if not options.pop("mend", True):
        restore.lacking = lambda tails, task: []
    if (plan := options.pop("steps", None)) is not None:
        stepping(Path(plan))
    settings = KafkaSettings(**options)
    logs.set_up()

    def build() -> Worker:
        return Worker(
            settings,
            stages=(Counting(profiles), Summing()),
            page=None if page is None else Address("127.0.0.1", page),
        )

    return asyncio.run(serve(build))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
