"""The page of metrics: two workers of one machine, one configuration."""

from aiohttp import ClientSession
from brokers import free_port
from prometheus_client import CollectorRegistry

from streamer.metrics import Page


async def test_a_second_worker_takes_the_next_port() -> None:
    port = free_port()
    pages = [Page(CollectorRegistry(), host="127.0.0.1", port=port, ready=lambda: "") for _ in range(2)]
    async with pages[0], pages[1], ClientSession() as session:
        assert pages[0].port == port
        assert pages[1].port > port
        async with session.get(f"http://127.0.0.1:{pages[1].port}/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
