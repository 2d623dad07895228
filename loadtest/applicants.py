"""Applicants to try a real installation with: two weeks of history as a table, and a live stream that drifts.

    python loadtest/applicants.py history history.parquet
    python loadtest/applicants.py stream --bootstrap 127.0.0.1:9092 --drift-after 5m --drift-for 20m

The stream goes to the topic `predictions` at the rate given, stamped with this machine's clock, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from streamer.commands.histories import write_history
from streamer.generating import HOUR_MS, Applicants, Shift
from streamer.spans import duration

TICK_MS = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    history = commands.add_parser("history", help="write a Parquet table that ends with this hour")
    history.add_argument("file", type=Path)
    history.add_argument("--per-day", type=float, default=20_000.0)
    stream = commands.add_parser("stream", help="publish applications as they come")
    stream.add_argument("--bootstrap", default="127.0.0.1:9092")
    stream.add_argument("--topic", default="predictions")
    stream.add_argument("--rate", type=int, default=50, help="events a second")
    stream.add_argument("--drift-after", type=duration, default=duration("5m"))
    stream.add_argument("--drift-for", type=duration, default=duration("20m"))
    for one in (history, stream):
        one.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.command == "history":
        end = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS
        print(f"{write_history(asked.file, Applicants(seed=asked.seed, per_day=asked.per_day), end=end):,} rows")
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        _stream(asked)
    return 0


def _stream(asked: argparse.Namespace) -> None:
    begin = time.time_ns() // 1_000_000 // TICK_MS * TICK_MS
    drift = begin + asked.drift_after
    shift = Shift(start=drift, end=drift + asked.drift_for, income=-0.3, utilisation=0.8, missing_employment=0.08)
    applicants = Applicants(seed=asked.seed, shifts=(shift,))
    places = list(
        AdminClient({"bootstrap.servers": asked.bootstrap}).list_topics(asked.topic).topics[asked.topic].partitions
    )
    producer = Producer({"bootstrap.servers": asked.bootstrap, "linger.ms": 5})
    per_tick = max(1, asked.rate * TICK_MS // 1000)
    for tick in range(1 << 31):
        at = begin + tick * TICK_MS
        time.sleep(max(0.0, at / 1000 - time.time()))
        for i, event in enumerate(applicants.at(at + np.arange(per_tick) * TICK_MS // per_tick, part=tick).events()):
            producer.produce(asked.topic, event, partition=places[(tick + i) % len(places)])
        producer.poll(0)
        if tick % 600 == 0:
            print(f"{time.strftime('%H:%M:%S')}  {'drift' if drift <= at < shift.end else 'quiet'}", flush=True)
    producer.flush(10)


if __name__ == "__main__":
    raise SystemExit(main())
