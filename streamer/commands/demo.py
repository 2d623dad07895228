"""`tripline demo`: two weeks of history, a quiet stretch, a drift, its end, through the worker, with no server.

Why it can be believed: the worker is the one that `tripline run` starts, the reference is learned as `reference build`
learns it, and what is printed is read back from the output topics. Only the broker is a stand-in, librdkafka's mock
cluster inside this process; it does not fence or abort, so exactness needs a real one. The clock is event time, some
ten thousand times faster than life.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.alerts import Incident
from schemas.envelopes import TYPES, open_envelope, unwrap
from schemas.errors import ConfigurationError
from schemas.triggers import RetrainTrigger
from schemas.verdicts import WindowReport
from streamer.commands.demo_words import Narrator, Seen
from streamer.commands.histories import FEATURES, MAP, write_history
from streamer.generating import DAY_MS, HOUR_MS, Applicants, Shift

if TYPE_CHECKING:
    from streamer.app import Worker
    from streamer.config import Loaded
    from streamer.core.notifying import Notifier
    from streamer.kafka.settings import KafkaSettings

#: Monday 2025-03-17, 00:00 UTC: the two weeks before are history.
BEGIN_MS = 1_742_169_600_000
DRIFT_MS = BEGIN_MS + 2 * DAY_MS + 9 * HOUR_MS
BACK_MS = DRIFT_MS + 9 * HOUR_MS
#: By then at the latest the incident must have resolved.
LAST_MS = BACK_MS + 42 * HOUR_MS
PER_DAY = 14_400.0
#: An hour of event time is fed this often, as long as the reports are not further behind than that.
PACE_SECONDS, LEAD_MS = 0.2, 8 * HOUR_MS
_READ = ("windows", "incidents", "retrain-triggers")
#: Nothing comes for so long: the demo gives up.
PATIENCE_SECONDS = 30.0

CONFIGURATION = """\
kafka:
  bootstrap_servers: "{bootstrap}"
  inputs: {{predictions: predictions, features: null, outcomes: null}}
{alertmanager}
start: earliest
max_alert_age: off                 # the demo's events lie in the past
models:
  credit:
    reference: credit.json
    pane: 10m
    lateness: 30s
    timezone: Europe/Paris
    segments: [country]
    false_alarms: 1 per 30d
    tolerance: 0.1
    owner: team-lending
    runbook: https://runbooks.example/credit
    retrain: {{when: drift for 30m, cooldown: 24h, mode: auto}}
"""


def demo(*, alertmanager: str | None = None, seed: int = 1, as_json: bool = False) -> int:
    """Tell the story; 0 when the drift fired, triggered and resolved, and nothing fired before it, else 1.

    alertmanager: URL of one that shall have the incident too. as_json: one JSON document at the end, no story.
    """
    if alertmanager is not None:
        alertmanager = _checked(alertmanager)
    began = time.monotonic()
    logging.disable(logging.CRITICAL)
    narrator = Narrator(silent=as_json, drift=DRIFT_MS, back=BACK_MS)
    narrator.opening()
    with tempfile.TemporaryDirectory(prefix="tripline-demo-") as name:
        seen, told = asyncio.run(_story(Path(name), narrator, alertmanager=alertmanager, seed=seed))
    seconds = round(time.monotonic() - began, 1)
    good = seen.complete and not seen.false_alarms
    if as_json:
        print(json.dumps({"ok": good, "seconds": seconds, **seen.plain(), "alertmanager": told}, indent=2))
    else:
        narrator.closing(seen, good=good, seconds=seconds, told=told)
    return 0 if good else 1


async def _story(folder: Path, narrator: Narrator, *, alertmanager: str | None, seed: int) -> tuple[Seen, str]:
    from streamer.app import Notify, Worker
    from streamer.config import load
    from streamer.connections import kafka_settings
    from streamer.core.notifying import Notifier
    from streamer.kafka.embedded import EmbeddedBroker
    from streamer.sinks.alertmanager import connect

    shift = Shift(start=DRIFT_MS, end=BACK_MS, income=-0.3, utilisation=0.8, brokers=0.1, missing_employment=0.08)
    applicants = Applicants(seed=seed, per_day=PER_DAY, shifts=(shift,))
    _learn(folder, applicants, narrator)
    async with EmbeddedBroker() as broker:
        told = f"alertmanager: {{urls: [{json.dumps(alertmanager)}]}}" if alertmanager else ""
        (folder / "tripline.yaml").write_text(
            CONFIGURATION.format(bootstrap=broker.bootstrap_servers, alertmanager=told)
        )
        loaded = load(folder / "tripline.yaml")
        settings = replace(kafka_settings(loaded, os.environ, slot="0"), embedded=True)
        await broker.make_topics(settings)
        await _put_in_force(loaded, settings)
        notify, notifiers = None, list[Notifier]()
        if (section := loaded.config.alertmanager) is not None:

            def notifier() -> Notifier:
                notifiers.append(Notifier(section.urls))
                return notifiers[-1]

            notify = Notify(notifier, connect(section, os.environ))
        async with Worker(settings, notify=notify) as worker:
            await worker.wait_until_ready()
            narrator.quiet(BEGIN_MS)
            seen = await _watch(worker, settings, applicants, narrator)
            return seen, await _told(notifiers, alertmanager)


def _checked(url: str) -> str:
    from streamer.config_fields import web_address

    try:
        return web_address(url)
    except ValueError as error:
        raise ConfigurationError(f"--alertmanager {url!r}: {error}") from error


def _learn(folder: Path, applicants: Applicants, narrator: Narrator) -> None:
    """Two weeks of history as a table, and the reference learned from it."""
    from detectors.references import dumps
    from streamer.commands.reference import learn
    from streamer.tables import Reading, Table, reading_of

    began = time.monotonic()
    rows = write_history(folder / "history.parquet", applicants, end=BEGIN_MS)
    reading = reading_of(Reading(), map=MAP, features=FEATURES, segments="country")
    reference = learn(Table(folder / "history.parquet", reading), model="credit", timezone="Europe/Paris")
    (folder / "credit.json").write_bytes(dumps(reference))
    narrator.learned(rows, reference, time.monotonic() - began)


async def _put_in_force(loaded: Loaded, settings: KafkaSettings) -> None:
    """What `tripline apply` would publish."""
    from schemas.control import Cluster
    from streamer.applying import load_references, plan, records, targets
    from streamer.core.control import Control, publish_cluster
    from streamer.kafka.embedded import MOCK_PARTITIONS
    from streamer.kafka.tailing import publish

    references = load_references(loaded)
    changes = plan(targets(loaded, references), Control(), profiles=MOCK_PARTITIONS, rates={}, times={})
    cluster = publish_cluster(Cluster(sources=MOCK_PARTITIONS, profiles=MOCK_PARTITIONS))
    outputs = [cluster, *records(changes, references, Control())]
    # The mock gives every topic four partitions; `control` is read from the first.
    await publish(settings, [output._replace(partition=0) for output in outputs])


async def _watch(worker: Worker, settings: KafkaSettings, applicants: Applicants, narrator: Narrator) -> Seen:
    """Feed the stream and read what comes of it, until the story is over or nothing comes any more."""
    from aiokafka import TopicPartition

    from streamer.kafka.embedded import MOCK_PARTITIONS

    seen = Seen(drift=DRIFT_MS, closed=BEGIN_MS)
    consumer = settings.consumer(role="demo")
    await consumer.start()
    feeding = asyncio.create_task(_feed(settings, applicants, seen))
    try:
        topics = [settings.topic(name) for name in _READ]
        consumer.assign([TopicPartition(name, p) for name in topics for p in range(MOCK_PARTITIONS)])
        await consumer.seek_to_beginning()
        heard = time.monotonic()
        waiting: list[tuple[tuple[int, int], WindowReport | Incident | RetrainTrigger]] = []
        while not seen.complete and time.monotonic() < heard + PATIENCE_SECONDS:
            if worker.failure is not None:
                raise worker.failure
            if feeding.done() and feeding.exception() is not None:
                feeding.result()
            polled = await consumer.getmany(timeout_ms=200)
            waiting += [_message(record.value) for records in polled.values() for record in records]
            heard = time.monotonic() if polled else heard
            # The topics are read in no order: what is said of a pane is told after the pane.
            closed = max((at[0] for at, said in waiting if isinstance(said, WindowReport)), default=seen.closed)
            for at, said in sorted(waiting, key=lambda one: one[0]):
                if at[0] <= closed:
                    seen.take(said)
                    narrator.tell(said, seen)
            waiting = [one for one in waiting if one[0][0] > closed]
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await consumer.stop()
    return seen


async def _feed(settings: KafkaSettings, applicants: Applicants, seen: Seen) -> None:
    """An hour of event time every `PACE_SECONDS`, round the partitions."""
    from confluent_kafka import Producer

    from streamer.kafka.embedded import MOCK_PARTITIONS

    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 5, "log_level": 0})
    try:
        for hour in range(BEGIN_MS, LAST_MS, HOUR_MS):
            began = time.monotonic()
            while hour > seen.closed + LEAD_MS:
                await asyncio.sleep(0.02)
            for i, event in enumerate(applicants.between(hour, hour + HOUR_MS).events()):
                producer.produce(settings.topic("predictions"), event, partition=i % MOCK_PARTITIONS)
            producer.poll(0)
            await asyncio.sleep(max(0.0, began + PACE_SECONDS - time.monotonic()))
    finally:
        producer.flush(2)


def _message(value: bytes) -> tuple[tuple[int, int], WindowReport | Incident | RetrainTrigger]:
    """A record and its place in the story: by event time; at one time the pane, then the incident, the trigger."""
    kind = open_envelope(value).type
    if kind == TYPES[WindowReport]:
        report = unwrap(value, WindowReport)
        return (report.end, 0), report
    if kind == TYPES[Incident]:
        incident = unwrap(value, Incident)
        return (incident.updated_at, 1), incident
    trigger = unwrap(value, RetrainTrigger)
    return (trigger.window_end, 2), trigger


async def _told(notifiers: list[Notifier], url: str | None) -> str:
    """Whether Alertmanager has the last state too; waits a little for it."""
    if not notifiers or url is None:
        return ""
    notifier, end = notifiers[-1], time.monotonic() + 5.0
    counters = notifier.counters
    while (notifier.firing or notifier.waiting or not counters["posted"]) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    if notifier.firing or notifier.waiting:
        return f"{url} did not take it all: {counters['posted']} alerts posted, {counters['failed']} POSTs failed"
    return f"{url} was told that it fired and that it resolved, {counters['posted']} alerts posted"
