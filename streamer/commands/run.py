"""`tripline run`: one worker, until a signal or an error ends it.

Crash only: whatever goes wrong with Kafka ends the process with its cause in the log and an exit code that says what
an operator does next; a supervisor starts it again, and nothing was lost or counted twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from schemas.errors import ConfigurationError, TriplineError
from streamer import logs
from streamer.app import Address, Notify, Worker
from streamer.applying import differing_in_words, in_words
from streamer.commands.apply import applied, control_of_topic
from streamer.config import Loaded, load
from streamer.connections import kafka_settings
from streamer.core.notifying import Notifier, NotifyPolicy
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.topics import await_broker
from streamer.stages import Monitoring, Profiling

log = logging.getLogger(__name__)

_UNEXPECTED = 70


def run(config: Path, *, slot: str | None = None, accept_gap: bool = False, verbose: bool = False) -> int:
    """Run a worker on a configuration; the exit code.

    slot: name of this worker among those that run at once: after a restart in its slot it has its tasks back at once;
    without one, the others wait for `session_timeout` first. accept_gap: go on where retention took what was not read.
    """
    logs.set_up(verbose=verbose)
    loaded = load(config)
    settings = kafka_settings(loaded, os.environ, slot=slot, accept_gap=accept_gap)
    if slot is None:
        log.warning(
            "no --slot: after a crash this worker's tasks wait %g s for it; name a slot per worker to avoid that",
            settings.session_timeout_ms / 1000,
        )
    try:
        return asyncio.run(_run(loaded, settings))
    except TriplineError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        # Not further up: a broken pipe is taken there for a reader of ours that went away, and is not told.
        log.error("unexpected", exc_info=error)
        return _UNEXPECTED


def worker_of(loaded: Loaded, settings: KafkaSettings) -> Worker:
    """A worker as configured, not started; to be made inside its event loop."""
    from streamer.sinks.alertmanager import connect

    config = loaded.config
    stages = (
        Profiling(
            inputs=tuple(settings.inputs),
            dead_letter_payload=config.dead_letter_payload,
            dead_letter_limit=config.limits.dead_letters,
        ),
        Monitoring(),
    )
    notify = None
    if (alertmanager := config.alertmanager) is not None:
        policy = NotifyPolicy(resend_ms=alertmanager.resend)
        notify = Notify(lambda: Notifier(alertmanager.urls, policy), connect(alertmanager, os.environ))
    token = config.metrics.bearer_token
    shown = "" if token is None else token.read(os.environ)
    page = Address(config.metrics.host, config.metrics.port, bearer_token=shown)
    return Worker(settings, stages=stages, notify=notify, page=page, memory=config.limits.memory)


async def put_in_force(loaded: Loaded, settings: KafkaSettings) -> None:
    """Apply the file where nothing is in force; refuse one that differs from what is."""
    await await_broker(settings)
    there = await control_of_topic(settings)
    changes = await applied(loaded, settings, control=there, dry_run=bool(there.models), timed=not there.models)
    if there.models and changes:
        listed = "\n".join(f"  {differing_in_words(change)}" for change in changes)
        raise ConfigurationError(
            f"the file differs from what is in force; put it in force with `tripline apply`:\n{listed}"
        )
    for change in changes:
        log.info("in force: %s", in_words(change))


async def serve(build: Callable[[], Worker]) -> int:
    """Start a worker, and stop it at SIGTERM, SIGINT or when it fails; the exit code.

    At SIGHUP `build` makes another one, which reads the secrets anew, and this one gives way to it with its last
    batches committed. When a secret cannot be read, the log says which, and the worker goes on as it is.
    """
    loop = asyncio.get_running_loop()
    asked, again = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    following: list[Worker] = []

    def read_anew() -> None:
        try:
            following.append(build())
        except TriplineError as error:
            log.error("SIGHUP: goes on as it is: %s", error)
        else:
            log.info("SIGHUP: secrets are read anew")
            again.set()

    loop.add_signal_handler(signal.SIGHUP, read_anew)
    worker = build()
    while True:
        code = await _until_stopped(worker, asked=asked, again=again)
        if code is not None:
            return code
        again.clear()
        worker = following.pop()
        following.clear()


async def _until_stopped(worker: Worker, *, asked: asyncio.Event, again: asyncio.Event) -> int | None:
    """Start a worker, and see it end; None when another one is to take its place."""
    starting = asyncio.create_task(worker.start())
    ending = [asyncio.create_task(one) for one in (asked.wait(), again.wait(), worker.wait_until_failed())]
    await asyncio.wait([starting, *ending], return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            gc.collect()
            # What is there now stays: collections then look at what batches leave behind only (+17 % measured).
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
    except Exception as error:
        worker.fail(error)
    except asyncio.CancelledError as error:
        worker.fail(_cancelled("starting", error))
    for waiting in (starting, *ending):
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await waiting
    try:
        await worker.stop()
    except Exception as error:
        worker.fail(error)
    except asyncio.CancelledError as error:
        worker.fail(_cancelled("stopping", error))
    failure = worker.failure
    if failure is None and again.is_set() and not asked.is_set():
        return None
    if failure is None:
        log.info("stopped")
        return 0
    return failure.exit_code if isinstance(failure, TriplineError) else _UNEXPECTED


def _cancelled(what: str, error: asyncio.CancelledError) -> RuntimeError:
    """A client library that cancels what we wait for: nobody has asked this worker to give up."""
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise error
    found = RuntimeError(f"{what} was cancelled from within")
    found.__cause__ = error
    return found


async def _run(loaded: Loaded, settings: KafkaSettings) -> int:
    try:
        await put_in_force(loaded, settings)
    except TriplineError as error:
        log.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    except Exception as error:
        # Crash only, as later: the supervisor starts it again.
        log.error("unexpected", exc_info=error)
        return _UNEXPECTED

    def build() -> Worker:
        fresh = kafka_settings(loaded, os.environ, slot=settings.slot, accept_gap=settings.accept_gap)
        return worker_of(loaded, fresh)

    return await serve(build)
