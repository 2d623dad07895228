"""The notifier against real Alertmanagers: what on-call sees fires, resolves, and outlives an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from aiohttp import web
from brokers import Alertmanager, eventually, free_port

from schemas.alerts import AlertState, Evidence, Incident
from streamer.core.notifying import Notifier, NotifyPolicy, Post, PostableAlert
from streamer.sinks.alertmanager import Access, AlertmanagerSink
from streamer.sinks.errors import SinkError, SinkRefused, SinkUnreachable, SinkUnwell


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def incident(*, resolved: bool = False, model: str = "credit", alerts: int = 2, age_ms: int = 60_000) -> Incident:
    opened = now_ms() - age_ms
    return Incident(
        id=f"{model}-1",
        model=model,
        version="3",
        state=AlertState.RESOLVED if resolved else AlertState.FIRING,
        severity="page",
        opened_at=opened,
        resolved_at=now_ms() - 1_000 if resolved else None,
        updated_at=opened,
        sequence=0,
        evidence=[
            Evidence(feature="age", detector="distribution", direction="location up", size=0.4, onset=opened, n=900),
            Evidence(feature="income", detector="missing", direction="missing up", size=0.6, unit="share"),
        ],
        open_alerts=0 if resolved else alerts,
        owner="team-lending",
        runbook="https://runbooks.example/credit",
    )


async def pump(notifier: Notifier, sink: AlertmanagerSink) -> list[str]:
    """One round of what the notify agent does; the errors of the replicas that did not take theirs."""

    async def deliver(post: Post) -> str:
        try:
            await sink.send(post)
        except SinkError as error:
            notifier.done(post, ok=False, now=now_ms(), retriable=error.retriable)
            return type(error).__name__
        notifier.done(post, ok=True, now=now_ms())
        return ""

    said = await asyncio.gather(*(deliver(post) for post in notifier.due(now_ms())))
    return [name for name in said if name]


async def settled(notifier: Notifier, sink: AlertmanagerSink, *, within: float = 20.0) -> None:
    """Pump until every replica has the latest state of everything."""
    async with asyncio.timeout(within):
        while notifier.waiting:
            await pump(notifier, sink)
            await asyncio.sleep(0.02)


@pytest.fixture
async def sink() -> AsyncIterator[AlertmanagerSink]:
    async with AlertmanagerSink(Access(timeout_ms=2_000)) as opened:
        yield opened


async def test_an_incident_fires_and_resolves_at_every_replica(
    alertmanagers: Callable[[], Alertmanager], sink: AlertmanagerSink
) -> None:
    """One alert, with the labels and annotations that on-call needs, at both; none after the resolve."""
    replicas = [alertmanagers(), alertmanagers()]
    notifier = Notifier([replica.url for replica in replicas])
    notifier.take("credit|3", incident(), now_ms())
    await settled(notifier, sink)
    (alert,) = eventually(lambda: replicas[1].alerts(alertname="TriplineIncident"))
    assert alert["labels"] == {
        "alertname": "TriplineIncident",
        "model": "credit",
        "version": "3",
        "severity": "page",
        "team": "team-lending",
    }
    assert alert["annotations"]["summary"].startswith("credit, version 3: age rose by 0.40 sd since ")
    assert alert["annotations"]["runbook_url"] == "https://runbooks.example/credit"
    assert 'alertname="TriplineIncident"' in replicas[0].amtool("alert", "query", "model=credit", "-o", "extended")
    notifier.take("credit|3", incident(resolved=True), now_ms())
    await settled(notifier, sink)
    eventually(lambda: not replicas[0].alerts() and not replicas[1].alerts(), what="resolved at both")


async def test_after_an_outage_the_latest_state_arrives(
    alertmanagers: Callable[[], Alertmanager], sink: AlertmanagerSink
) -> None:
    """While one replica is away, one incident resolves and another one opens; the other replica never waits."""
    here, away = alertmanagers(), alertmanagers()
    notifier = Notifier([here.url, away.url], NotifyPolicy(backoff_ms=50, backoff_limit_ms=200))
    notifier.take("credit|3", incident(), now_ms())
    await settled(notifier, sink)
    away.stop()
    notifier.take("credit|3", incident(resolved=True), now_ms())
    notifier.take("fraud|3", incident(model="fraud"), now_ms())
    assert await pump(notifier, sink) == ["SinkUnreachable"]
    eventually(lambda: [alert["labels"]["model"] for alert in here.alerts()] == ["fraud"])
    notifier.take("fraud|3", incident(model="fraud", alerts=7), now_ms())
    await pump(notifier, sink)
    away.start()
    await settled(notifier, sink)
    (alert,) = eventually(away.alerts)
    assert alert["labels"]["model"] == "fraud"
    assert alert["annotations"]["summary"].endswith("; 7 alerts open")


async def test_an_old_event_time_fires_and_resolves_too(alertmanager: Alertmanager, sink: AlertmanagerSink) -> None:
    """A replay of January: the alert is open although it began long ago, and its end lies in the past."""
    year = 365 * 86_400_000
    notifier = Notifier([alertmanager.url])
    notifier.take("credit|3", incident(age_ms=year), now_ms())
    await settled(notifier, sink)
    assert len(alertmanager.alerts()) == 1
    ended = msgspec.structs.replace(incident(resolved=True, age_ms=year), resolved_at=now_ms() - year + 7_200_000)
    notifier.take("credit|3", ended, now_ms())
    await settled(notifier, sink)
    eventually(lambda: not alertmanager.alerts(), what="resolved")


async def test_content_that_alertmanager_refuses_is_not_retriable(
    alertmanager: Alertmanager, sink: AlertmanagerSink
) -> None:
    nameless = PostableAlert(labels={}, annotations={}, starts_at="2025-01-01T00:00:00.000Z")
    with pytest.raises(SinkRefused, match="HTTP 400"):
        await sink.send(Post(alertmanager.url, (nameless,), ()))


async def test_nobody_there_is_retriable(sink: AlertmanagerSink) -> None:
    with pytest.raises(SinkUnreachable) as caught:
        await sink.send(Post(f"http://127.0.0.1:{free_port()}", (), ()))
    assert caught.value.retriable


@pytest.fixture
async def odd_server() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that wants a token, redirects and hangs; and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.path} {request.headers.get('Authorization', '')}")
        if request.path.startswith("/moved"):
            raise web.HTTPTemporaryRedirect("/elsewhere")
        if request.path.startswith("/slow"):
            await asyncio.sleep(5)
        return web.Response(status=200 if "Authorization" in request.headers else 401, text="who are you")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}", asked
    await runner.cleanup()


async def test_a_redirect_is_not_followed(odd_server: tuple[str, list[str]], sink: AlertmanagerSink) -> None:
    url, asked = odd_server
    with pytest.raises(SinkUnwell, match="HTTP 307"):
        await sink.send(Post(f"{url}/moved", (), ()))
    assert asked == ["/moved/api/v2/alerts "]


async def test_a_wrong_or_missing_credential_is_retriable_and_a_token_gets_in(
    odd_server: tuple[str, list[str]], sink: AlertmanagerSink
) -> None:
    url, asked = odd_server
    with pytest.raises(SinkUnwell, match="HTTP 401: who are you"):
        await sink.send(Post(url, (), ()))
    async with AlertmanagerSink(Access(bearer_token="s3cret")) as bearer:
        await bearer.send(Post(url, (), ()))
    async with AlertmanagerSink(Access(username="tripline", password="s3cret")) as basic:
        await basic.send(Post(url, (), ()))
    assert asked == [f"/api/v2/alerts {how}" for how in ("", "Bearer s3cret", "Basic dHJpcGxpbmU6czNjcmV0")]


async def test_a_server_that_hangs_is_left_in_time(odd_server: tuple[str, list[str]]) -> None:
    url, _ = odd_server
    async with AlertmanagerSink(Access(timeout_ms=200)) as impatient:
        with pytest.raises(SinkUnreachable, match="TimeoutError"):
            await impatient.send(Post(f"{url}/slow", (), ()))


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Access(password="s3cret", bearer_token="s3cret"))
