"""Zombies of the notify agent under a virtual clock: whoever is stopped, on-call is never paged for what is over."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from schemas.alerts import AlertState, Incident
from schemas.envelopes import wrap
from streamer.core.notifying import Notifier, NotifyPolicy, Post
from streamer.kafka.simulated import SimulatedLog, SimulatedSettings
from streamer.kafka.telling import Telling
from tests.simulation.mutants import zombies_post
from tests.simulation.world import VirtualLoop

BEGAN = 1_700_000_000_000
SESSION_S = 6.0


@dataclass
class Alertmanager:
    """What every worker told one replica: who, and whether it was a resolve."""

    told: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def paged_for_what_is_over(self) -> list[str]:
        """Workers that said firing after another, or they, had said resolved."""
        over = [at for at, (_, resolved) in enumerate(self.told) if resolved]
        return [who for who, resolved in self.told[over[0] :] if not resolved] if over else ["nobody said resolved"]


class Owner:
    """A worker that tells, and may be stopped as a whole."""

    def __init__(self, name: str, log: SimulatedLog, alertmanager: Alertmanager, rng: random.Random) -> None:
        self.name, self._alertmanager, self._rng = name, alertmanager, rng
        self.failures: list[Exception] = []
        self.runs = asyncio.Event()
        self.runs.set()
        self.telling = Telling(
            SimulatedSettings(log=log, turn=self._turn, session_timeout_ms=int(1000 * SESSION_S)),
            notifier=lambda: Notifier(["http://a"], NotifyPolicy(resend_ms=2_000)),
            sink=self,
            failed=self.failures.append,
            now=lambda: BEGAN + int(1000 * asyncio.get_running_loop().time()),
        )

    async def send(self, post: Post) -> None:
        self._alertmanager.told += [(self.name, alert.ends_at is not None) for alert in post.alerts]

    async def close(self) -> None: ...

    async def _turn(self, what: str) -> None:
        await asyncio.sleep(self._rng.random() / 2)
        await self.runs.wait()


def say(log: SimulatedLog, state: AlertState, *, sequence: int) -> None:
    """Append the incident's state, as stage 2 would, at the time that it is."""
    now = BEGAN + int(1000 * asyncio.get_running_loop().time())
    over = now if state is AlertState.RESOLVED else None
    record = Incident(
        id="i", model="credit", version="1", state=state, severity="page", opened_at=BEGAN, updated_at=now,
        resolved_at=over, sequence=sequence, evidence=[], open_alerts=1,
    )  # fmt: skip
    value, headers = wrap(record, id=f"i-{sequence}", source="/tripline/0", subject="credit", at=now)
    log.partition("incidents", 0).append(b"credit|1", value, headers=headers, at=now)


async def story(seed: int) -> Alertmanager:
    """An incident fires; who told it is stopped for over a session; another tells the resolve; the zombie goes on."""
    rng, alertmanager = random.Random(seed), Alertmanager()
    log = SimulatedLog({"incidents": 1})
    zombie, heir = (Owner(name, log, alertmanager, rng) for name in ("zombie", "heir"))
    await zombie.telling.start()
    say(log, AlertState.FIRING, sequence=0)
    await asyncio.sleep(4 + 4 * rng.random())
    zombie.runs.clear()
    await asyncio.sleep(SESSION_S)
    await heir.telling.start()
    await asyncio.sleep(4 * rng.random())
    say(log, AlertState.RESOLVED, sequence=1)
    await asyncio.sleep(2 + 4 * rng.random())
    zombie.runs.set()
    await asyncio.sleep(10)
    for owner in (zombie, heir):
        await owner.telling.stop()
        assert owner.failures == []
    return alertmanager


def stories() -> list[Alertmanager]:
    found = []
    for seed in range(60):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            found.append(runner.run(story(seed)))
    return found


def test_a_zombie_tells_nothing_but_the_latest() -> None:
    """It reads `incidents` to their end anew before its next POST; both then tell the same."""
    told = stories()
    assert [one.paged_for_what_is_over for one in told] == [[]] * 60
    assert {name for one in told for name, resolved in one.told if resolved} == {"zombie", "heir"}


def test_without_that_it_pages_for_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that posts what it last knew is caught."""
    zombies_post(monkeypatch)
    assert sum("zombie" in one.paged_for_what_is_over for one in stories()) > 10
