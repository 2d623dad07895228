"""What is seen of a running deployment, judged: findings with what, where, and what to do. Nothing here asks anybody.

Why apart from the asking (streamer/kafka/survey.py): what is too little retention, too much skew or a task that hangs
is decided in one place, by plain values, and tested without a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from schemas.layouts import Layout
from streamer.core.control import Control
from streamer.core.wording import span

Level = Literal["wrong", "warning", "unknown", "fine"]
#: The order in which they are shown.
LEVELS: tuple[Level, ...] = ("wrong", "warning", "unknown", "fine")

#: An outage that nothing should be lost in, ms.
OUTAGE_MS = 86_400_000
#: A clock this far off confuses people; beyond `FUTURE_MS` of events, it drops what its machine produces.
SKEW_MS, FAR_MS = 1_000, 300_000
#: A task writes at least once a second; one that has not for so long hangs.
STUCK_MS = 30_000
#: Records that wait for so long are a backlog.
BEHIND_MS = 60_000
#: A restore within this is hardly seen.
RESTORE_S = 5.0
#: The largest batch that a worker sends.
LARGEST_BYTES = 900_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about a deployment. check: what was looked at; where: topic, task or address; todo: "" where nothing.

    >>> print(Finding(level="warning", check="clock", where="this machine", what="is 3 s ahead", todo="run NTP"))
    warning  clock: this machine is 3 s ahead: run NTP
    """

    level: Level
    check: str
    where: str
    what: str
    todo: str = ""

    def __str__(self) -> str:
        """One line for a person."""
        said = " ".join(part for part in (self.where, self.what) if part)
        return f"{self.level:8} {self.check}: {said}" + (f": {self.todo}" if self.todo else "")


@dataclass(frozen=True, kw_only=True)
class TopicSeen:
    """A topic as its broker has it, the worst of its partitions. leaderless: partitions that nobody serves."""

    name: str
    partitions: int
    replicas: int
    in_sync: int
    leaderless: int
    configs: Mapping[str, str] = field(default_factory=dict)

    def number(self, key: str, otherwise: int) -> int:
        """A setting that is a number."""
        return int(self.configs.get(key, otherwise))


@dataclass(frozen=True, kw_only=True)
class TaskSeen:
    """A task's changelog, and where it stands. Sizes are of what was read, `share` of all of it.

    seconds: how long reading and restoring took. next, lag: by input; behind_ms: how long the oldest record that is not
    done has waited. written_ms: when its position was last written; None: it never was. replay: records of `profiles`
    that a restore reads again. fault: why it cannot be restored. lost: what became of an input that it reads.
    """

    stage: str
    partition: int
    records: int = 0
    bytes: int = 0
    share: float = 1.0
    seconds: float = 0.0
    next: Mapping[str, int] = field(default_factory=dict)
    lag: Mapping[str, int] = field(default_factory=dict)
    behind_ms: int = 0
    written_ms: int | None = None
    replay: int = 0
    fault: str = ""
    lost: str = ""

    @property
    def name(self) -> str:
        """`stage/partition`."""
        return f"{self.stage}/{self.partition}"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """What is wrong first, each level in the order in which it was found."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def replication(topics: Iterable[TopicSeen], *, brokers: int) -> list[Finding]:
    """Copies of each topic, and what `min.insync.replicas` makes of them.

    >>> once = TopicSeen(name="control", partitions=1, replicas=3, in_sync=1, leaderless=0,
    ...                  configs={"min.insync.replicas": "2"})
    >>> [finding.what.partition(",")[0] for finding in replication([once], brokers=3)]
    ['has 1 in-sync copies of 3']
    """
    found: list[Finding] = []
    alone: list[str] = []
    for topic in topics:
        least = topic.number("min.insync.replicas", 1)

        def say(level: Level, what: str, todo: str, where: str = topic.name) -> None:
            found.append(Finding(level=level, check="replication", where=where, what=what, todo=todo))

        if topic.leaderless:
            say("wrong", f"has {topic.leaderless} partitions without a leader", "bring its brokers back")
        elif topic.in_sync < least:
            what = f"has {topic.in_sync} in-sync copies of {topic.replicas}, fewer than min.insync.replicas {least}"
            say("wrong", what, "nothing can be written to it: bring its brokers back, or lower min.insync.replicas")
        elif topic.in_sync < topic.replicas:
            say("warning", f"has {topic.in_sync} in-sync copies of {topic.replicas}", "see why a copy lags")
        if topic.replicas == 1:
            alone.append(topic.name)
        elif least < 2 <= topic.replicas:
            what = "min.insync.replicas is 1: what one broker alone has acknowledged is lost with it"
            say("warning", what, "set min.insync.replicas=2")
        elif least == topic.replicas:
            what = f"min.insync.replicas is {least}, as many as there are copies: one broker away stops every worker"
            say("warning", what, "have three copies, or min.insync.replicas one less")
    if alone:
        what = f"{len(alone)} topics have one copy: a broker's disk lost is state lost ({', '.join(alone[:3])}, …)"
        todo = "make three copies of them (`tripline topics create --replication 3` for new ones)"
        level: Level = "warning" if brokers > 1 else "fine"
        what = what if brokers > 1 else f"one broker, one copy of each of {len(alone)} topics: its disk is the state"
        found.append(Finding(level=level, check="replication", where="", what=what, todo=todo if brokers > 1 else ""))
    return found


def retention(
    topics: Mapping[str, TopicSeen], control: Control, *, inputs: Iterable[str], profiles: str
) -> list[Finding]:
    """Whether `profiles` and the inputs keep long enough. inputs, profiles: names on Kafka."""
    found: list[Finding] = []
    layouts = [layout for of_model in control.models.values() for layout in of_model[-1:]]
    needed = max((_needed(layout) for layout in layouts), default=0)
    if (seen := topics.get(profiles)) is not None:
        kept = seen.number("retention.ms", -1)
        if 0 <= kept < needed:
            what = f"keeps {span(kept)}, but open and held panes need {span(needed)}: a restart would exit 72"
            todo = f"set retention.ms to at least {needed + OUTAGE_MS}"
            found.append(Finding(level="wrong", check="retention", where=profiles, what=what, todo=todo))
        elif 0 <= kept < needed + OUTAGE_MS:
            what = f"keeps {span(kept)}: after an outage of more than {span(kept - needed)} open panes are gone"
            todo = f"set retention.ms to at least {needed + OUTAGE_MS}"
            found.append(Finding(level="warning", check="retention", where=profiles, what=what, todo=todo))
    for name in inputs:
        seen = topics.get(name)
        if seen is None:
            continue
        kept, policy = seen.number("retention.ms", -1), seen.configs.get("cleanup.policy", "delete")
        if "compact" in policy:
            what = "is compacted: of events with one key only the last is sure to be there when it is counted"
            found.append(
                Finding(level="warning", check="retention", where=name, what=what, todo="set cleanup.policy=delete")
            )
        if "delete" in policy and 0 <= kept < OUTAGE_MS:
            what = f"keeps {span(kept)}: what no worker has counted by then is lost (exit 72)"
            todo = f"set retention.ms to at least {OUTAGE_MS}, or longer than your longest outage"
            found.append(Finding(level="warning", check="retention", where=name, what=what, todo=todo))
    for name in (*inputs, profiles):
        seen = topics.get(name)
        if seen is not None and seen.number("retention.bytes", -1) >= 0:
            what = f"keeps at most {seen.number('retention.bytes', -1):,} bytes a partition, however young they are"
            todo = "set retention.bytes=-1, or watch that a day of traffic fits"
            found.append(Finding(level="warning", check="retention", where=name, what=what, todo=todo))
    return found or [
        Finding(level="fine", check="retention", where="", what="inputs and profiles outlive holds and a day's outage")
    ]


def sizes(topics: Iterable[TopicSeen]) -> list[Finding]:
    """Topics of ours that would refuse a worker's largest batch."""
    return [
        Finding(
            level="wrong",
            check="topics",
            where=topic.name,
            what=f"max.message.bytes is {topic.number('max.message.bytes', LARGEST_BYTES):,}: too small a batch",
            todo="set max.message.bytes to at least 1048588",
        )
        for topic in topics
        if topic.number("max.message.bytes", LARGEST_BYTES) < LARGEST_BYTES
    ]


def clock(ahead_ms: int | None, *, where: str = "this machine", than: str = "the broker") -> Finding:
    """How far a clock is ahead of the broker's (behind when negative); None: it could not be seen.

    >>> clock(-420_000).level, clock(12).level, clock(None).level
    ('wrong', 'fine', 'unknown')
    """
    if ahead_ms is None:
        what = "was not compared with the broker's: nothing was appended to profiles meanwhile"
        return Finding(level="unknown", check="clock", where=where, what=what, todo="look again while a worker runs")
    off = abs(ahead_ms)
    what = f"is {span(off) if off >= 1000 else f'{off} ms'} {'ahead of' if ahead_ms > 0 else 'behind'} {than}"
    if off < SKEW_MS:
        return Finding(level="fine", check="clock", where=where, what=what)
    if off < FAR_MS:
        todo = "synchronise both (chrony, NTP): ages and `apply` times are off by as much"
        return Finding(level="warning", check="clock", where=where, what=what, todo=todo)
    todo = "synchronise both (chrony, NTP): events that a clock five minutes ahead has stamped are dropped as `future`"
    return Finding(level="wrong", check="clock", where=where, what=what, todo=todo)


def tasks(seen: Sequence[TaskSeen], *, members: Mapping[str, int], now: int) -> list[Finding]:
    """Whether every task is looked after, and how far each is behind. members: workers by stage. now: ms."""
    found: list[Finding] = []
    for stage, workers in members.items():
        of_stage = [task for task in seen if task.stage == stage]
        waiting = sum(sum(task.lag.values()) for task in of_stage)
        if not workers:
            what = f"has no worker; {waiting:,} records wait" if of_stage else "has no worker, and never had one"
            found.append(Finding(level="wrong", check="workers", where=stage, what=what, todo="start `tripline run`"))
            continue
        stuck = [task for task in of_stage if task.written_ms is not None and now - task.written_ms > STUCK_MS]
        for task in stuck:
            what = f"has written nothing for {span(now - (task.written_ms or 0))} though {workers} workers are there"
            todo = "read the log of the worker that has it; restart that one"
            found.append(Finding(level="wrong", check="workers", where=task.name, what=what, todo=todo))
        behind = [task for task in of_stage if task.behind_ms > BEHIND_MS and task not in stuck]
        for task in behind:
            lag = sum(task.lag.values())
            what = f"is {span(task.behind_ms)} behind: {lag:,} records wait"
            todo = "give it time after an outage; otherwise start more workers, or more partitions in a new `kafka.app`"
            found.append(Finding(level="warning", check="lag", where=task.name, what=what, todo=todo))
        if not stuck and not behind:
            what = f"{workers} workers, {len(of_stage)} tasks, {waiting:,} records wait"
            found.append(Finding(level="fine", check="workers", where=stage, what=what))
    return found


def restores(seen: Sequence[TaskSeen]) -> list[Finding]:
    """Whether the state of every task can be read, and how long one worker would need for all of it."""
    found = [
        Finding(
            level="wrong", check="state", where=task.name, what=f"cannot be restored: {task.fault}",
            todo="run the version that wrote it; see the exit codes",
        )
        for task in seen
        if task.fault
    ]  # fmt: skip
    found += [
        Finding(level="wrong", check="inputs", where=task.name, what=f"would end its worker with 72: {task.lost}")
        for task in seen
        if task.lost
    ]
    size, seconds, records = (sum(amount) for amount in zip(*map(_whole, seen), strict=True)) if seen else (0, 0.0, 0)
    measured = sum(task.seconds for task in seen)
    read = sum(task.bytes for task in seen)
    what = (
        f"{size / 1e6:,.1f} MB in {records:,.0f} records of {len(seen)} changelogs: about {seconds:.1f} s "
        f"for one worker to restore all ({read / 1e6 / max(measured, 1e-9):,.0f} MB/s measured)"
    )
    slow = seconds > RESTORE_S
    todo = "run more workers; is compaction behind (min.cleanable.dirty.ratio, max.compaction.lag.ms)?" if slow else ""
    return [*found, Finding(level="warning" if slow else "fine", check="state", where="", what=what, todo=todo)]


def transactions(held: Mapping[str, int], *, seconds: float) -> list[Finding]:
    """Open transactions that hide records. held: records behind an end that did not move for `seconds`, by place."""
    return [
        Finding(
            level="warning",
            check="transactions",
            where=place,
            what=f"a transaction has been open for {seconds:.0f} s or more and hides {records:,} records",
            todo="its producer hangs or is gone: it is ended when its task is taken, or after transaction.timeout.ms",
        )
        for place, records in sorted(held.items())
    ] or [Finding(level="fine", check="transactions", where="", what=f"none hangs ({seconds:.0f} s looked at)")]


def in_force(control: Control) -> list[Finding]:
    """Models whose references are not whole on `control`."""
    found = []
    for model, layouts in sorted(control.models.items()):
        lacking = {layout.reference for layout in layouts if control.reference(layout.reference) is None}
        for reference in sorted(lacking):
            what = f"reference {reference} is not whole on control: its events cannot be counted"
            found.append(
                Finding(level="wrong", check="control", where=model, what=what, todo="`tripline apply` publishes it")
            )
    if not control.models:
        what = "no model is in force"
        return [Finding(level="wrong", check="control", where="control", what=what, todo="`tripline apply`")]
    return found


def _needed(layout: Layout) -> int:
    """How long `profiles` must keep what a pane of a layout is rebuilt from, ms."""
    return layout.pane_ms + layout.lateness_ms + layout.hold_ms


def _whole(task: TaskSeen) -> tuple[float, float, float]:
    """Bytes, seconds and records of a whole changelog, from the share that was read."""
    share = max(task.share, 1e-6)
    return task.bytes / share, task.seconds / share, task.records / share
