"""Prometheus metrics, made at the scrape from what the tasks say, and the HTTP page with them.

Counters count since this process started, so that `rate` and a sum over workers are right; every reason of a drop is
there at zero from the start. `tripline_position_*` are the totals of a partition since its first event, from its
position record: there consumed is applied plus dropped, exactly, through any crash.
"""

from __future__ import annotations

import errno
import hmac
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aiohttp import web
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detectors.charts.rivers import RIVERS
from streamer.kafka.stages import Counts

log = logging.getLogger(__name__)

#: Workers of one machine share a configuration: how many ports are tried from the configured one on.
PORTS = 20
#: A stage's further totals: metric, what it says, values of its label `state` that are there from the start.
MORE: dict[str, tuple[str, tuple[str, ...]]] = {
    "profiles_repeated": ("Records of profiles that came a second time and were dropped", ("",)),
    "delta_events_folded": ("Events with a name that was one of too many for one delta, under __other__", ("",)),
    "features_denied": ("Values of features that `features` denies, in events counted: not read", ("",)),
    "dead_letters_suppressed": ("Bad records without a dead letter of their own: beyond limits.dead_letters", ("",)),
    "events_folded": ("Events beyond a limit, counted under __other__", ("",)),
    "marginals_folded": ("Events beyond a limit in the table of a marginal column, once per column", ("",)),
    "outcomes": (
        "Outcomes by what became of them; echoed and early ones are matched, too, as are late ones (after maturity)",
        ("matched", "corrected", "duplicate", "unmatched", "echoed", "late", "early"),
    ),
    "predictions_not_kept": ("Predictions beyond limits.pending_rows: counted, and not joined with outcomes", ("",)),
    "panes_closed": ("Panes closed, empty ones included", ("",)),
    "windows": ("Window reports published, revisions included", ("",)),
    "window_revisions": ("Window reports published after their first", ("",)),
    "outcome_reports": ("Reports on outcome panes published, revisions included", ("",)),
    "river_alarms": ("Alarms of river's detectors, noted outside the budget, by detector", tuple(RIVERS)),
    "audit_records": ("Audit records published", ("",)),
    "alerts": ("Transitions of alerts", ("firing", "resolved")),
    "incidents": ("Records of incidents", ("firing", "resolved")),
    "triggers": ("Retrain triggers", ("approved", "pending", "dry_run", "rejected", "expired")),
}

_COMMIT_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class StageMetrics:
    """What one stage's tasks did since this process started. `note` is called at every commit of a task."""

    def __init__(self, registry: CollectorRegistry, *, stage: str, reasons: Iterable[str]) -> None:
        self.stage = stage
        self.consumed = self.applied = self.batches = 0
        self.drops = Counter(dict.fromkeys(reasons, 0))
        self.more: Counter[tuple[str, str]] = Counter()
        self.positions: dict[int, Counts] = {}
        self._commit = Histogram(
            f"tripline_{stage}_commit_seconds", "Time of a transaction", buckets=_COMMIT_BUCKETS, registry=registry
        )

    def restored(self, partition: int, counts: Counts) -> None:
        """A task is here from now on; what it counted before is not ours."""
        self.positions[partition] = counts

    def committed(self, partition: int, counts: Counts, seconds: float) -> None:
        """A task's totals after a transaction that took `seconds`."""
        before = self.positions[partition]
        self.positions[partition] = counts
        self.batches += 1
        self.consumed += counts.consumed - before.consumed
        self.applied += counts.applied - before.applied
        for reason, n in counts.drops.items():
            self.drops[reason] += n - before.drops.get(reason, 0)
        for what, n in counts.more.items():
            self.more[what] += n - before.more.get(what, 0)
        self._commit.observe(seconds)

    def gone(self, partition: int) -> None:
        """A task is another worker's now."""
        self.positions.pop(partition, None)


class WorkerCollector(Collector):
    """Families of one worker. gauges: (name, help, labels) → values by label values, read at the scrape."""

    def __init__(
        self,
        stages: Iterable[StageMetrics],
        *,
        told: Callable[[], dict[str, int]],
        gauges: Callable[[], Iterator[Metric]],
    ) -> None:
        self._stages, self._told, self._gauges = list(stages), told, gauges

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        yield self._counter("events_consumed", "Events taken in", lambda stage: stage.consumed)
        yield self._counter("events_applied", "Events counted", lambda stage: stage.applied)
        yield self._counter("batches", "Transactions committed", lambda stage: stage.batches)
        records = CounterMetricFamily("tripline_records_consumed", "Input records taken in by stage 1")
        records.add_metric([], sum(stage.consumed for stage in self._stages if stage.stage == "profiling"))
        yield records
        dropped = CounterMetricFamily("tripline_events_dropped", "Events not counted", labels=["stage", "reason"])
        for stage in self._stages:
            for reason, n in stage.drops.items():
                dropped.add_metric([stage.stage, reason], n)
        yield dropped
        yield from self._more()
        yield from self._positions()
        posts = CounterMetricFamily("tripline_notifications", "Alerts sent to Alertmanager", labels=["result"])
        for result, n in self._told().items():
            posts.add_metric([result], n)
        yield posts
        yield from self._gauges()

    def _counter(self, name: str, says: str, of: Callable[[StageMetrics], int]) -> Metric:
        family = CounterMetricFamily(f"tripline_{name}", says, labels=["stage"])
        for stage in self._stages:
            family.add_metric([stage.stage], of(stage))
        return family

    def _more(self) -> Iterator[Metric]:
        total: Counter[tuple[str, str]] = Counter()
        for stage in self._stages:
            total.update(stage.more)
        for name, (says, states) in MORE.items():
            found = {state for what, state in total if what == name} | set(states)
            family = CounterMetricFamily(f"tripline_{name}", says, labels=[] if found == {""} else ["state"])
            for state in sorted(found):
                family.add_metric([state] if state else [], total[name, state])
            yield family

    def _positions(self) -> Iterator[Metric]:
        labels = ["stage", "partition"]
        consumed = GaugeMetricFamily("tripline_position_consumed_events", "Events of a partition, ever", labels=labels)
        applied = GaugeMetricFamily("tripline_position_applied_events", "Events of it counted, ever", labels=labels)
        dropped = GaugeMetricFamily(
            "tripline_position_dropped_events", "Events of it dropped, ever", labels=[*labels, "reason"]
        )
        for stage in self._stages:
            for partition, counts in stage.positions.items():
                at = [stage.stage, str(partition)]
                consumed.add_metric(at, counts.consumed)
                applied.add_metric(at, counts.applied)
                for reason, n in counts.drops.items():
                    dropped.add_metric([*at, reason], n)
        yield from (consumed, applied, dropped)


def gauge(name: str, says: str, values: float | dict[tuple[str, ...], float], *labels: str) -> Metric:
    """A gauge family: one value, or values by label values.

    >>> [sample.value for sample in gauge("tasks", "Tasks", {("0",): 1.0, ("1",): 2.0}, "partition").samples]
    [1.0, 2.0]
    """
    family = GaugeMetricFamily(name, says, labels=list(labels))
    for at, value in (values if isinstance(values, dict) else {(): values}).items():
        family.add_metric(list(at), value)
    return family


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures in it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class Page(Service):  # type: ignore[misc]
    """`/metrics`, `/healthz` (it runs) and `/readyz` (assigned and restored) over HTTP.

    port: the first that is free from there on is taken, 20 at most; 0: any. `port` says which. bearer_token: without it
    the metrics are refused, and the other two say yes or no, and not why; "": everybody may see everything.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        host: str,
        port: int,
        ready: Callable[[], str],
        bearer_token: str = "",
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.host, self.port = host, port
        self._expected = f"Bearer {bearer_token}".encode() if bearer_token else b""
        self._registry, self._ready = registry, ready
        self._runner: web.AppRunner | None = None

    async def on_start(self) -> None:
        """Listen."""
        page = web.Application()
        page.router.add_get("/metrics", self._metrics)
        page.router.add_get("/healthz", self._health)
        page.router.add_get("/readyz", self._readiness)
        self._runner = web.AppRunner(page, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await self._listen(self._runner)

    async def _listen(self, runner: web.AppRunner) -> None:
        # Two workers on one machine read one configuration: the next takes the next port, and its log says so.
        for further in range(PORTS if self.port else 1):
            try:
                await web.TCPSite(runner, self.host, self.port + further).start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or further + 1 == PORTS:
                    raise
            else:
                break
        self.port = runner.addresses[0][1]
        log.info("metrics: http://%s:%d/metrics", self.host, self.port)

    async def on_stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _known(self, request: web.Request) -> bool:
        """Whether a client has shown the token, where there is one."""
        shown = request.headers.get("Authorization", "").encode(errors="replace")
        return not self._expected or hmac.compare_digest(shown, self._expected)

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._known(request):
            return web.Response(text="a bearer token is needed\n", status=401, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        waits = self._ready()
        if waits and not self._known(request):
            waits = "not ready"
        return web.Response(text=f"{waits or 'ok'}\n", status=503 if waits else 200)
