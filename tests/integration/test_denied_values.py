"""What `features` denies is in no topic of ours and in no log, with a real worker over a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from brokers import Kafka, eventually
from deployments import Deployment, event
from fleets import read_topic

from streamer.kafka.topics import partition_counts

HOUR = 3_600_000
SECRET = "s3cret@example.org"
APPLIED = 'tripline_events_applied_total{stage="monitoring"}'
DENIED = "tripline_features_denied_total"


def with_secret(at: int, *, age: float) -> bytes:
    """An event that carries what is denied, beside features that are not."""
    extra = b', "ssn": "' + SECRET.encode() + b'"}'
    return event(at, age=age).replace(b'"country": "FR"}', b'"country": "FR"' + extra)


def test_a_denied_value_reaches_no_topic_and_no_log(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Events that count, drift, come late, are bad or of nobody: a report, an incident, letters, and no value of it."""
    with Deployment(kafka, prefix, tmp_path, model="features: {deny: [ssn]}") as deployment:
        deployment.create()
        worker = deployment.run()
        good = [with_secret(i * HOUR // 20, age=41.0 if i < 100 else 90.0) for i in range(400)]
        bad = [good[0][:-1], good[1].replace(b'"m"', b'"n"'), good[2].replace(b'"ts"', b'"tz"')]
        deployment.send([*good, *bad])
        eventually(lambda: deployment.metric(APPLIED) == 400 or not worker.running, within=40, what="counted")
        eventually(lambda: deployment.metric(DENIED) == 400, within=10, what="counted as denied")
        shown = deployment.tripline("dlq", "show", "--payload").stdout
        assert shown.count("not shown: m has features that may not be read") == 3
        shown += deployment.tripline("dlq", "show", "--payload", "--json").stdout
        shown += deployment.tripline("alerts", "tail", "--once").stdout
        settings = deployment.settings
        names = [name for name in asyncio.run(partition_counts(settings)) if name.startswith(prefix)]
        written = {
            name: b"".join((record.key or b"") + (record.value or b"") for record in read_topic(settings, name))
            for name in names
        }
        log = worker.log.read_bytes()
    assert written[deployment.input].count(SECRET.encode()) == 403
    del written[deployment.input]
    kept = {name.removeprefix(prefix) for name, said in written.items() if said}
    assert {"control", "profiles", "windows", "incidents", "alerts", "dead-letter"} <= kept
    assert [name for name, said in written.items() if SECRET.encode() in said] == []
    assert SECRET.encode() not in log + shown.encode()
