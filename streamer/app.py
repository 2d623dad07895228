"""The composition root of a worker: a Faust app with its agents, services and timers, built, started and stopped here.

Faust supervises; aiokafka delivers (`BootStrategy.enable_kafka = False`); Kafka transactions make it exact. Nothing
else of a worker reads the configuration or knows what is connected with what.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import faust
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from prometheus_client.core import Metric

from schemas.errors import MemoryExceeded, TriplineError
from schemas.layouts import Layout
from streamer.agents import add_stage_agent
from streamer.core.control import Control
from streamer.core.monitoring import MonitoringState
from streamer.core.notifying import Notifier
from streamer.core.profiling_state import ProfilingState
from streamer.kafka.control_feed import ControlFeed
from streamer.kafka.delivery import Delivery
from streamer.kafka.embedded import MOCK_PARTITIONS
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.stages import Stage
from streamer.kafka.tasks import Status
from streamer.kafka.telling import Sink, Telling
from streamer.kafka.topics import await_broker, refuse_misfits
from streamer.metrics import Page, StageMetrics, WorkerCollector, gauge, new_registry
from streamer.stages import Monitoring, Profiling

log = logging.getLogger(__name__)


_SLOW_COMMIT_S = 5.0
_STATM = Path("/proc/self/statm")


class Notify(NamedTuple):
    """How incidents are told: a fresh notifier for every assignment, and where its posts go."""

    notifier: Callable[[], Notifier]
    sink: Sink


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0: any free one. bearer_token: what a client must show; "" for nothing."""

    host: str
    port: int
    bearer_token: str = field(default="", repr=False)


class Worker:
    """One worker: tasks of every stage, in this event loop. `async with Worker(settings) as worker` or start and stop.

    stages: in the order of the data. notify: None where nobody is told. page: None without HTTP. memory: bytes of the
    process, beyond which it says so and stops (`MemoryExceeded`); None: no bound.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        stages: Sequence[Stage] | None = None,
        notify: Notify | None = None,
        page: Address | None = None,
        memory: int | None = None,
    ) -> None:
        self.settings, self._memory = settings, memory
        self.stages = stages or (Profiling(inputs=tuple(settings.inputs)), Monitoring())
        self._registry = new_registry()
        self._metrics = {
            stage.name: StageMetrics(self._registry, stage=stage.name, reasons=stage.reasons) for stage in self.stages
        }
        self._notify = notify
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._app = _App(
            settings.app, broker="kafka://unused", autodiscover=False, web_enabled=False, stream_wait_empty=False
        )
        self._channels = {stage.name: self._app.channel(maxsize=64) for stage in self.stages}
        for name, channel in self._channels.items():
            add_stage_agent(self._app, channel, name=name)
        self._app.timer(1.0)(self._say_what_hangs)
        self._app.timer(1.0)(self._refuse_to_grow)
        self.page: Page | None = None
        if page is not None:
            self.page = Page(
                self._registry, host=page.host, port=page.port, bearer_token=page.bearer_token, ready=self.waits_for
            )
        self._feed: ControlFeed | None = None
        self.deliveries: dict[str, Delivery] = {}
        self._telling: Telling | None = None
        self._registry.register(WorkerCollector(self._metrics.values(), told=self._told, gauges=self._gauges))

    async def __aenter__(self) -> Worker:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.stop()

    @property
    def control(self) -> Control:
        """What is in force, as this worker knows it."""
        return self._feed.control if self._feed is not None else Control()

    @property
    def failure(self) -> Exception | None:
        """What ended the worker's work, if something did."""
        return self._failure.result() if self._failure.done() else None

    def waits_for(self) -> str:
        """Why it is not ready; empty when every task is assigned and restored."""
        if self.failure is not None:
            return f"failed: {self.failure}"
        for stage in self.stages:
            delivery = self.deliveries.get(stage.name)
            if delivery is None or not delivery.ready:
                return f"{stage.name} is not assigned and restored"
        if self._telling is not None and not self._telling.caught_up:
            return "notify has not read the incidents to their end"
        return ""

    async def start(self) -> None:
        """Connect, check the topics, read `control`, join the groups. Tasks are restored after it has returned.

        `BrokerUnavailable` when Kafka does not answer in time, `ConfigurationError` when the topics do not fit.
        """
        self._app.flow_control.resume()
        await self._app.start()
        if self.page is not None:
            await self._app.add_runtime_dependency(self.page)
        there = {} if self.settings.embedded else await await_broker(self.settings)
        self._feed = ControlFeed(self.settings, failed=self.fail)
        if self.settings.embedded:
            sources = profiles = MOCK_PARTITIONS
            await self._app.add_runtime_dependency(self._feed)
        else:
            refuse_misfits(self.settings, there, sources=None, profiles=None)
            await self._app.add_runtime_dependency(self._feed)
            cluster = self.control.cluster
            sources, profiles = refuse_misfits(
                self.settings,
                there,
                sources=cluster.sources if cluster else None,
                profiles=cluster.profiles if cluster else None,
            )
        for stage in self.stages:
            self.deliveries[stage.name] = delivery = Delivery(
                self.settings,
                stage,
                # The first stage reads the inputs, the others what it spreads.
                partitions=sources if stage is self.stages[0] else profiles,
                profiles=profiles,
                channel=self._channels[stage.name],
                control=lambda: self.control,
                failed=self.fail,
                sensor=self._metrics[stage.name],
            )
            await self._app.add_runtime_dependency(delivery)
        if self._notify is not None:
            notifier, sink = self._notify
            self._telling = Telling(self.settings, notifier=notifier, sink=sink, failed=self.fail)
            await self._app.add_runtime_dependency(self._telling)

    async def wait_until_ready(self) -> None:
        """Until every task is assigned and restored; raises what ended the worker instead."""
        while self.waits_for():
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(0.02)

    async def wait_until_failed(self) -> Exception:
        """What ended the worker's work, when it has."""
        return await asyncio.shield(self._failure)

    def fail(self, error: Exception) -> None:
        """Note what ends the worker; the first error is the one that counts."""
        if self._failure.done():
            return
        if isinstance(error, TriplineError):
            log.error("%s: %s", type(error).__name__, error)
            if error.__cause__ is not None:
                log.info("because of", exc_info=error.__cause__)
        else:
            log.error("unexpected", exc_info=error)
        self._failure.set_result(error)

    async def stop(self) -> None:
        """See the last batches committed, leave; within `stop_timeout_s` and a second."""
        if self.failure is None:
            await asyncio.gather(*(delivery.quiesce() for delivery in self.deliveries.values()))
        with contextlib.suppress(asyncio.TimeoutError, KafkaError):
            await asyncio.wait_for(self._app.stop(), self.settings.stop_timeout_s / 2 + 0.5)

    async def _refuse_to_grow(self) -> None:
        if self._memory is None or self.failure is not None or (now := resident()) <= self._memory:
            return
        tasks = ", ".join(f"{len(delivery.tasks)} of {name}" for name, delivery in self.deliveries.items())
        self.fail(
            MemoryExceeded(
                f"{now / 1e6:,.0f} MB for {len(self.control.models)} models and the tasks {tasks}, limits.memory is "
                f"{self._memory / 1e6:,.0f} MB: start more workers, or allow more; nothing was dropped"
            )
        )

    async def _say_what_hangs(self) -> None:
        now = time.monotonic()
        for delivery in self.deliveries.values():
            hung = [task for task in delivery.tasks.values() if now - (task.commit_began or now) > _SLOW_COMMIT_S]
            if hung:
                names = ", ".join(task.name for task in hung)
                log.warning(
                    "Kafka at %s does not answer: commits of %s wait; giving up after %g s",
                    self.settings.bootstrap_servers,
                    names,
                    self.settings.broker_timeout_s,
                )

    def _told(self) -> dict[str, int]:
        return self._telling.told if self._telling is not None else {}

    def _gauges(self) -> Iterator[Metric]:
        bounds: dict[tuple[str, ...], float] = {}
        sizes: dict[tuple[str, ...], float] = {}
        for model, layouts in self.control.models.items():
            sizes |= {(model, of): float(n) for of, n in size_of(layouts[-1], self.control).items()}
        for name, delivery in self.deliveries.items():
            bounds |= {(name, str(task.partition)): float(task.rows_bound) for task in delivery.tasks.values()}
        yield gauge("tripline_models", "Models in force; limits.models", float(len(self.control.models)))
        yield gauge("tripline_layout_size", "Features, levels of a feature at most, tested views", sizes, "model", "of")
        says = "Rows of a batch at most: halved while a transaction writes more than limits.batch_output"
        yield gauge("tripline_batch_rows_bound", says, bounds, "stage", "partition")
        if self._memory is not None:
            yield gauge("tripline_memory_limit_bytes", "Beyond it the worker stops", float(self._memory))
        yield gauge("tripline_ready", "Every task is assigned and restored", float(not self.waits_for()))
        tasks: dict[tuple[str, ...], float] = {}
        lags: dict[tuple[str, ...], float] = {}
        watermarks: dict[tuple[str, ...], float] = {}
        incidents = 0.0
        marked: dict[tuple[str, ...], float] = {}
        stated: dict[tuple[str, ...], float] = {}
        coverage: dict[tuple[str, ...], float] = {}
        delays: dict[tuple[str, ...], float] = {}
        pending: dict[tuple[str, ...], float] = {}
        waiting: dict[tuple[str, ...], float] = {}
        for name, delivery in self.deliveries.items():
            states = Counter(task.status for task in delivery.tasks.values())
            tasks |= {(name, status.value): float(states[status]) for status in (Status.RESTORING, Status.READY)}
            lags |= {(name, str(at), of): float(behind) for (at, of), behind in delivery.lags().items()}
            for task in delivery.tasks.values():
                if isinstance(task.state, ProfilingState):
                    join = task.state.join
                    pending[str(task.partition),] = float(0 if join is None else len(join.pending))
                    waiting[str(task.partition),] = float(task.state.waiting)
                if isinstance(task.state, MonitoringState):
                    incidents += task.state.incidents_open
                    watermarks |= {(model,): at / 1000 for model, at in task.state.watermarks().items()}
                    budgets = task.state.budgets(self.control)
                    marked |= {(model,): float(budget.marked) for model, budget in budgets.items()}
                    stated |= {(model,): budget.stated for model, budget in budgets.items()}
                    coverage |= {(model,): share for model, share in task.state.label_coverage().items()}
                    delays |= task.state.label_delays()
        yield gauge("tripline_tasks", "Tasks on this worker", tasks, "stage", "status")
        yield gauge("tripline_input_lag_records", "Offsets not yet committed", lags, "stage", "partition", "input")
        yield gauge("tripline_watermark_timestamp_seconds", "Event time of a model", watermarks, "model")
        yield gauge("tripline_incidents_open", "Models with an open incident", incidents)
        says = "Incidents marked false within the last budget of event time"
        yield gauge("tripline_false_alarms_spent", says, marked, "model")
        yield gauge("tripline_label_coverage", "Share of predictions with an outcome at maturity", coverage, "model")
        of = ("model", "class", "quantile")
        yield gauge("tripline_label_delay_seconds", "Delay of outcomes, of the last mature panes", delays, *of)
        yield gauge("tripline_false_alarms_stated", "Incidents that the budget allows in that time", stated, "model")
        yield gauge("tripline_pending_predictions", "Predictions that an outcome may come for", pending, "partition")
        says = "Outcomes that wait for their predictions: consumed, neither applied nor dropped yet"
        yield gauge("tripline_waiting_outcomes", says, waiting, "partition")
        if self._telling is not None:
            notifier = self._telling.notifier
            yield gauge("tripline_notify_firing", "Incidents that on-call is told of", float(notifier.firing))
            unsent = float(notifier.waiting)
            yield gauge("tripline_notify_waiting", "Latest states that some replica has not got", unsent)


def size_of(layout: Layout, control: Control) -> dict[str, int]:
    """What `limits` bound of a model: its features, levels of the feature that has most, views that are tested."""
    reference = control.reference(layout.reference)
    specs = reference.specs if reference is not None else ()
    levels = max((len(spec.levels) for spec in specs), default=0)
    return {"features": len(specs), "levels": levels, "views": len(layout.views)}


def resident() -> int:
    """Bytes of memory that this process has now; where the system does not say, the most that it ever had."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Boot(BootStrategy):  # type: ignore[misc]
    enable_kafka = False
    enable_web = False


class _NoConsumer:
    """What Faust's streams ask of a consumer. A real one would bring a thread with an event loop of its own."""

    def __init__(self) -> None:
        self._unacked_messages: set[object] = set()

    def assignment(self) -> set[object]:
        return set()


class _App(faust.App):  # type: ignore[misc]
    BootStrategy = _Boot

    async def on_first_start(self) -> None:
        """Nothing: Faust would make a folder for its tables here."""

    async def on_start(self) -> None:
        """Only what the agents need."""
        self.finalize()
        self.consumer = _NoConsumer()
