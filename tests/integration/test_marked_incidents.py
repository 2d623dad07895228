"""`alerts mark` over a real broker, and what a real worker makes of it: an audit record, metrics, reports."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from brokers import Kafka
from typer.testing import CliRunner

from detectors.references import dumps
from schemas.alerts import Alert, AlertState, AuditRecord, Evidence, Incident, Mark, Reason
from schemas.control import Cluster
from schemas.envelopes import unwrap
from schemas.verdicts import WindowReport
from streamer.app import Address, Worker
from streamer.commands import alerts, app
from streamer.core.control import Control, publish_cluster, publish_layout, publish_reference
from streamer.core.outbox import Outbox
from streamer.core.records import Output
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import history, publish
from streamer.kafka.topics import create_topics, topic_specs
from streamer.stages import Monitoring
from tests.core.stage2 import BEGIN, PANE, Log, Source, layout, reference, steady


@pytest.fixture
def settings(kafka: Kafka, prefix: str) -> KafkaSettings:
    made = KafkaSettings(
        bootstrap_servers=kafka.bootstrap,
        app=prefix + "app",
        topic_prefix=prefix,
        replication=1,
        inputs={"features": prefix + "features"},
    )
    asyncio.run(create_topics(made, topic_specs(made, sources=1, profiles=1)))
    return made


def in_force() -> list[Output]:
    return [
        publish_cluster(Cluster(sources=1, profiles=1)),
        *publish_reference(reference().id, dumps(reference())),
        publish_layout(layout()),
    ]


def profiles(panes: int, *, shifted: range) -> list[Output]:
    """Live traffic of one source, in which x moves by two sd for a while."""
    log, source = Log(), Source()
    steady(log, [source], layout(), panes=panes, shifts=dict.fromkeys(shifted, 2.0))
    return [Output("profiles", b"m", record.value, 0) for record in log.records]


async def said(settings: KafkaSettings, topic: str, kind: type[Any]) -> list[Any]:
    return [unwrap(record.value, kind) for record in await history(settings, topic) if record.value is not None]


async def page(worker: Worker) -> str:
    assert worker.page is not None
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{worker.page.port}/metrics") as answer:
        return await answer.text()


async def closed(settings: KafkaSettings, panes: int) -> list[WindowReport]:
    """Window reports, when there are as many."""
    while True:
        found: list[WindowReport] = await said(settings, "windows", WindowReport)
        if len(found) >= panes:
            return found
        await asyncio.sleep(0.1)


async def test_a_mark_is_audited_counted_and_reported(settings: KafkaSettings) -> None:
    """The worker says who marked it, and the spent budget stands beside the stated one."""
    records = profiles(30, shifted=range(4, 8))
    await publish(settings, [*in_force(), *records[:40]])
    async with Worker(settings, stages=(Monitoring(),), page=Address("127.0.0.1", 0)) as worker, asyncio.timeout(60):
        await worker.wait_until_ready()
        await closed(settings, 19)
        [opened, *_] = await said(settings, "incidents", Incident)
        assert 'tripline_false_alarms_spent{model="m"} 0.0' in await page(worker)
        mark = await asyncio.to_thread(alerts.mark, settings, opened.id, "false", reason="a sale", by="ada")
        assert (mark.incident, mark.model, mark.opened_at) == (opened.id, "m", opened.opened_at)
        while mark.incident not in worker.control.marks:
            await asyncio.sleep(0.05)
        await publish(settings, records[40:])
        last = (await closed(settings, 29))[-1]
        text = await page(worker)
    assert (last.false_alarms_spent, last.false_alarms_stated) == (1, 1.0)
    assert 'tripline_false_alarms_spent{model="m"} 1.0' in text
    assert 'tripline_false_alarms_stated{model="m"} 1.0' in text
    [audit] = [one for one in await said(settings, "audit", AuditRecord) if one.reason is Reason.MARKED_FALSE]
    found = {name: audit.details[name] for name in ("by", "why", "spent", "stated")}
    assert (audit.subject, found) == (
        f"incident {opened.id}",
        {"by": "ada", "why": "a sale", "spent": 1, "stated": 1.0},
    )


def test_the_command_line_marks_and_the_tail_shows_it(settings: KafkaSettings, tmp_path: Path) -> None:
    incident = Incident(
        id="i1", model="m", version="1", state=AlertState.FIRING, severity="page", opened_at=BEGIN,
        updated_at=BEGIN + PANE, sequence=1, evidence=[], open_alerts=0,
    )  # fmt: skip
    outbox = Outbox(partition=0, audits=0)
    outbox.incident(incident)
    # Compaction has taken the incident of this one; its alert still says which it was.
    age = Evidence(feature="age", detector="distribution", direction="location up")
    outbox.alert(
        Alert(
            id="a0", incident="i0", model="m", version="1", state=AlertState.FIRING, reason=Reason.ABOVE_LIMIT,
            evidence=age, starts_at=BEGIN - PANE, window_end=BEGIN, layout="l", reference="r",
        )
    )  # fmt: skip
    asyncio.run(publish(settings, [*outbox.records]))
    config = tmp_path / "tripline.yaml"
    config.write_text(
        f"kafka: {{bootstrap_servers: '{settings.bootstrap_servers}', topic_prefix: {settings.topic_prefix}}}\n"
        "models: {m: {reference: r.json}}\n"
    )
    run = CliRunner()
    done = run.invoke(app, ["alerts", "mark", "i1", "false", "--reason", "a sale", "--by", "ada", "-c", str(config)])
    assert (done.exit_code, "incident i1 of m, by ada: a sale" in done.output) == (0, True)
    control = Control()
    for record in asyncio.run(history(settings, "control")):
        control = control.apply(record.key or b"", record.value, offset=record.offset)
    assert (control.marks["i1"].word, control.marks["i1"].opened_at) == ("false", BEGIN)
    old = asyncio.run(marked_by_alert(settings))
    assert (old.incident, old.word, old.opened_at) == ("i0", "true", BEGIN - PANE)
    shown = run.invoke(app, ["alerts", "tail", "--since", "earliest", "--once", "--json", "-c", str(config)])
    kinds = [next(iter(json.loads(line))) for line in shown.output.splitlines()]
    assert sorted(kinds) == ["alert", "incident", "mark", "mark"]


async def marked_by_alert(settings: KafkaSettings) -> Mark:
    return await asyncio.to_thread(alerts.mark, settings, "a0", "true", by="ada")


def test_an_unknown_incident_is_said(settings: KafkaSettings) -> None:
    with pytest.raises(alerts.IncidentUnknown, match="no incident or alert nope"):
        alerts.mark(settings, "nope", "false", by="ada")
