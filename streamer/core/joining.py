"""The join of outcomes with predictions: which outcome is of which prediction, and what becomes of the others.

Whatever the order in which the two inputs are read, whatever the batches, the same pairs come out, because an outcome o
is of a prediction p by what the two logs say alone (`append` is the largest append time of the log up to the record, in
whole seconds; `seen` the largest time of the model's outcomes up to o):

* o.ts <= p.ts + horizon                          it is not too late by its own time
* p.append <= o.append + early_outcome_wait       it is not too early
* o.append <= p.append + horizon + hold           it is not too late by the log's time …
* o.seen <= p.ts + horizon + hold                 … nor by the time that the model's outcomes have come to

and of the first such prediction in the log. The last two are what lets predictions go: both only grow. A second outcome
of a prediction is a duplicate when it is equal, else a correction: the old one is taken out, the new one put in, in the
pane of the prediction; the delay stays that of the first. One that comes before its prediction waits for it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.outcomes import class_codes
from schemas.errors import ProtocolBroken
from schemas.events import DropReason
from streamer.core.admission import Arrivals, Group
from streamer.core.cells import bounded
from streamer.core.columns import Names
from streamer.core.join_cells import MOST, JoinCells
from streamer.core.join_log import JoinLog, Waiting, decode_chunks, matches_of, rows_of
from streamer.core.join_tables import JoinTables, Pairs, delay_buckets
from streamer.core.pending import LATEST_S, NONE, Pending, Rows
from streamer.core.plans import Plan, Plans
from streamer.core.predicted import Own, Predicted, concatenated, predicted_of
from streamer.core.told import Told
from streamer.formats.seam import Refusal

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: What is counted beside the accounts: see `JoinPosition.counts`.
COUNTS = ("matched", "corrected", "duplicate", "unmatched", "echoed", "late", "early", "over_limit")
#: Where all inputs were read to their end, one has come as far as the other, but for clocks of brokers that differ.
MARGIN_S = 60
#: An outcome that waits takes as much memory as so many predictions; there may always be so many that wait.
WAIT_SHARE, FEW_WAIT = 10, 1_000
#: Different words among the outcomes of a table that are none of the classes.
MOST_STRANGERS = 1_000
_ANY, _NOBODY = -1, -3
_LATE = 0x80
_UNTOLD = -(1 << 62)
_NEW, _CORRECTED, _EQUAL, _UNFIT = range(4)
_UNFIT_WORDS = "label: is none of the classes of its prediction's layout"


class JoinPosition(msgspec.Struct, kw_only=True):
    """What the position record says of the join.

    first, next: numbers of the pending rows; digest: of them, their outcomes and the outcomes that wait. first_record,
    next_record: numbers of the changelog's records. waiting: outcomes that wait; next_waiting: number of the next.
    predicted_s, told_s: largest append times, s. seen: largest time of outcomes by model. counts, since the start:
    matched, corrected, duplicate, unmatched; echoed: with their prediction in them; late: matched after maturity;
    early: that waited for their prediction; over_limit: predictions that were not kept.
    """

    first: int
    next: int
    digest: int
    first_record: int
    next_record: int
    waiting: int
    next_waiting: int
    predicted_s: int
    told_s: int
    seen: dict[str, int]
    counts: dict[str, int]


class Dropped(NamedTuple):
    """An outcome of an earlier batch that waited in vain, or was none after all."""

    waiting: Waiting
    reason: DropReason
    detail: str


class Join:
    """The join of one task. waiting: outcomes by the key of their id, in the order of their log.

    strangers: outcomes of a table that are none of the classes, how many of each.
    """

    def __init__(self, plans: Plans) -> None:
        self.pending = Pending(plans.pending_rows)
        self.cells = JoinCells()
        self.log = JoinLog()
        self.waiting: dict[int, list[Waiting]] = {}
        self.waits = self.next_waiting = self._waiting_keys = 0
        self._waiting_by_number: dict[int, Waiting] = {}
        self._queue: list[tuple[int, int]] = []  # (until, number) of those that wait, and of some that did
        self.predicted_s = self.told_s = 0
        self.seen: dict[str, int] = {}
        self.counts = Counter(dict.fromkeys(COUNTS, 0))
        self.strangers: Counter[str] = Counter()
        self.serve(plans)
        self.begin(0)

    def serve(self, plans: Plans) -> None:
        """Go by these layouts from now on."""
        self.pending.limit = plans.pending_rows
        self.cells.serve(plans)
        waits: dict[str, int] = {}
        for plan, wait in zip(self.cells.plans, self.cells.wait_s.tolist(), strict=False):
            waits[plan.layout.model] = max(wait, waits.get(plan.layout.model, 0))
        self._wait_of = {**waits, "": max(waits.values(), default=0)}
        self._code_of = {name: code for code, name in enumerate(self.cells.models)} | {"": _ANY}

    def begin(self, rows: int) -> None:
        """A batch of so many records begins: nothing is joined yet."""
        self.tables = JoinTables()
        self.applied = 0
        self.dropped: list[Dropped] = []
        if len(self.cells.names) >= MOST:
            live = np.unique(self.pending.cell(np.arange(self.pending.first, self.pending.next)))
            if live.size < MOST // 2:
                self.pending.recode(self.cells.forget_others(live))
        self.log.begin(rows, self.pending.next)

    def predictions(self, arrivals: Arrivals, groups: Sequence[Group]) -> None:
        """Keep the predictions that were admitted; join those whose outcome came with them, or before."""
        append = np.zeros(arrivals.ts.size, dtype=np.int64)
        if arrivals.append is not None:
            append = np.maximum.accumulate(np.maximum(arrivals.append // 1000, self.predicted_s))
            self.predicted_s = int(append[-1])
        joined = [group for group in groups if group.plan.outcomes is not None]
        if not joined:
            return
        parts = [self._of_group(arrivals, group, append) for group in joined]
        places = np.concatenate([group.rows for group in joined])
        order = np.argsort(places, kind="stable")
        rows = concatenated([part for part, _ in parts]).take(order)
        own = Own.concatenated([own for _, own in parts], order)
        if arrivals.append is None:  # a table: no outcome comes later
            self._expect(rows)
            self._count_own(rows, own)
            return
        places = places[order]
        named = np.zeros(places.size, dtype=bool)
        if arrivals.key is not None:
            named[:] = True if arrivals.anonymous is None else ~arrivals.anonymous[places]
        self._expect(rows.take(named | (own.code != NONE)))
        delay = self._count_own(rows, own)
        if arrivals.key is None or not named.any():
            return
        rows, own, delay, key = rows.take(named), own.take(named), delay[named], arrivals.key[places[named]]
        start = self._keep(key, rows)
        kept = self.pending.next - start
        here = np.flatnonzero(own.code[:kept] != NONE)
        self._settle_rows(start + here, own.code[here], delay[here], own.truth[here])
        if self.waiting:
            self._join_waiting(start, key[:kept])

    def placed(self, told: Told) -> Told:
        """Outcomes with `append_s` and `seen`: all of a batch together, in the order of their log."""
        append = np.maximum.accumulate(np.maximum(told.append // 1000, self.told_s))
        self.told_s = int(append[-1])
        seen = np.full(told.ts.size, _UNTOLD, dtype=np.int64)
        names = set(told.model)
        for name in names - {""}:
            mine = np.flatnonzero([one == name for one in told.model]) if len(names) > 1 else np.arange(told.ts.size)
            seen[mine] = np.maximum.accumulate(np.maximum(told.ts[mine], self.seen.get(name, _UNTOLD)))
            self.seen[name] = int(seen[mine[-1]])
        return told._replace(append_s=append, seen=seen)

    def outcomes(self, told: Told) -> list[Refusal]:
        """Join outcomes that came by themselves, `placed`; why some are dropped, by `told.at`."""
        append, seen = told.append_s, told.seen
        assert append is not None
        assert seen is not None
        best = np.full(told.key.size, -1, dtype=np.int64)
        model = np.array([self._code_of.get(name, _NOBODY) for name in told.model], dtype=np.int64)
        for at, numbers in self.pending.find(told.key):
            fits = self._fits(numbers, ts=told.ts[at], append=append[at], seen=seen[at], model=model[at])
            best[at[fits]] = numbers[fits]  # the older ones come last: the first in the log stays
        found = np.flatnonzero(best >= 0)
        refusals = self._accounted(told, found, self._settle(best[found], told, found))
        for i in np.flatnonzero(best < 0).tolist():
            until = int(append[i]) + self._wait_of.get(told.model[i], 0)
            refusal = Refusal(int(told.at[i]), DropReason.UNMATCHED_OUTCOME, "", told.model[i])
            if until < self.predicted_s:
                self.counts["unmatched"] += 1
                refusals.append(refusal)
            elif self.waits >= max(FEW_WAIT, self.pending.limit // WAIT_SHARE):
                refusals.append(refusal._replace(reason=DropReason.OVER_LIMIT, detail="too many outcomes wait"))
            else:
                self._wait(told, i, append_s=int(append[i]), seen=int(seen[i]), until=until)
        return refusals

    def echoes(self, told: Told, rows: Predicted) -> list[Refusal]:
        """Join outcomes that carry their prediction, (n,) both, `placed`; why some are dropped, by `told.at`.

        The first of an id is kept like a prediction, so that further ones are duplicates or corrections of it.
        """
        append, seen = told.append_s, told.seen
        assert append is not None
        assert seen is not None
        rows = rows._replace(append=append)
        key = told.key ^ np.uint64(0xEC40EC40EC40EC41)
        refusals = []
        todo = np.flatnonzero(told.ts <= rows.ts + self.cells.horizon[rows.place])
        for late in np.setdiff1d(np.arange(key.size), todo).tolist():
            self.counts["unmatched"] += 1
            detail = "after the horizon of its prediction"
            refusals.append(Refusal(int(told.at[late]), DropReason.UNMATCHED_OUTCOME, detail, told.model[late]))
        while todo.size:
            _, first = np.unique(key[todo], return_index=True)
            now = todo[np.sort(first)]
            best = np.full(now.size, -1, dtype=np.int64)
            for at, numbers in self.pending.find(key[now]):
                of = now[at]
                fits = self._fits(
                    numbers, ts=told.ts[of], append=append[of], seen=seen[of], model=self.cells.model[rows.place[of]]
                )
                best[at[fits]] = numbers[fits]
            new = np.flatnonzero(best < 0)
            code, truth = self._codes(rows.place[now[new]], told, now[new])
            new, code, truth = new[code != NONE], code[code != NONE], truth[code != NONE]
            fresh = rows.take(now[new])
            self._expect(fresh)
            start = self._keep(key[now[new]], fresh)
            kept = self.pending.next - start
            best[new[:kept]] = np.arange(start, start + kept)
            status = np.full(now.size, _UNFIT)
            # Beyond the limit they count, and their repeats with them.
            over = np.arange(kept, new.size)
            self._count(fresh.take(over), told.ts[now[new[over]]], code[over], truth[over])
            status[new[over]] = _NEW
            there = np.flatnonzero(best >= 0)
            status[there] = self._settle(best[there], told, now[there], echo=rows.take(now[there]))
            self.counts["echoed"] += int((status == _NEW).sum())
            refusals += self._accounted(told, now, status)
            todo = np.setdiff1d(todo, now)
        return refusals

    def finish(self, *, caught_up: bool) -> list[tuple[bytes, bytes | None]]:
        """The batch is over: who waited long enough goes. Returns pairs for the changelog.

        caught_up: all inputs were read to their end.
        """
        predicted, told = self.predicted_s, self.told_s
        if caught_up:
            predicted, told = max(predicted, told - MARGIN_S), max(told, predicted - MARGIN_S)
        self._expire_waiting(predicted)
        pairs = self.log.changes(self.pending, self.cells)
        return [*pairs, *self.log.expire(self.pending, told, self.seen)]

    def position(self) -> JoinPosition:
        """What the position record says of all this."""
        return JoinPosition(
            first=self.pending.first,
            next=self.pending.next,
            digest=self._digest(),
            first_record=self.log.first,
            next_record=self.log.next,
            waiting=self.waits,
            next_waiting=self.next_waiting,
            predicted_s=self.predicted_s,
            told_s=self.told_s,
            seen=dict(self.seen),
            counts=dict(self.counts),
        )

    @classmethod
    def restore(cls, position: JoinPosition, pairs: Iterable[tuple[bytes, bytes]], plans: Plans) -> Join:
        """The join as the changelog's pairs say; `ProtocolBroken` when a record or a row is not there."""
        join = cls(plans)
        limit, room = join.pending.limit, position.next - position.first
        join.pending = Pending(room, first=position.first, room=room)
        waiting: dict[int, Waiting] = {}
        for number, chunk in decode_chunks(pairs, first=position.first_record, following=position.next_record):
            until_s, until_ms = 0, dict[str, int]()
            if chunk.columns:
                rows = rows_of(chunk, join.cells)
                until_s, until_ms = join._until(join._places(rows.cell), rows.append, rows.ts)
                skip = max(0, position.first - chunk.start)
                if chunk.start + skip != join.pending.next and skip < rows.key.size:
                    raise ProtocolBroken(f"changelog: pending row {join.pending.next} is wanted, found {chunk.start}")
                join.pending.append(rows.take(slice(skip, None)))
            numbers, outcome, delay, truth = matches_of(chunk, first=position.first)
            if numbers.size:
                join.pending.settle(numbers, outcome, delay, truth)
            waiting.update((one.number, one) for one in chunk.waiting)
            for gone in chunk.resolved:
                waiting.pop(gone, None)
            join.log.restored(number, chunk, until_s, until_ms)
        join.pending.limit = limit
        join.log.next = position.next_record
        for one in waiting.values():
            join._add_waiting(one)
        join.next_waiting, join.seen = position.next_waiting, dict(position.seen)
        join.predicted_s, join.told_s = position.predicted_s, position.told_s
        join.counts.update(position.counts)
        if (join.pending.next, join.waits, join._digest()) != (position.next, position.waiting, position.digest):
            raise ProtocolBroken("changelog: the pending predictions are not those of the position record")
        return join

    def _digest(self) -> int:
        return (self.pending.digest + self._waiting_keys) % (1 << 64)

    def _of_group(self, arrivals: Arrivals, group: Group, append: Ints) -> tuple[Predicted, Own]:
        plan, at = group.plan, group.rows
        layout = plan.layout
        version = Names(arrivals.version.codes[at], arrivals.version.names)
        segments = [arrivals.values.segment(plan, column, at) for column in layout.segments]
        columns = [bounded(column, layout.limits.string_length) for column in (version, *segments)]
        place = self.cells.plans.index(plan)
        said = arrivals.values.said(at)
        cell = self.cells.codes(plan, columns)
        rows = predicted_of(plan, place, said, ts=arrivals.ts[at], append=append[at], cell=cell)
        own = Own.of(plan, said, rows.ts)
        if arrivals.append is None and said.outcome is not None:  # of a stream such an event is dropped before
            self._note_strangers(plan, said.outcome.text, own)
        return rows, own

    def _note_strangers(self, plan: Plan, text: Sequence[str | None], own: Own) -> None:
        """Count the outcomes of a table that are none of the classes, or no numbers."""
        assert plan.outcomes is not None
        spec = plan.outcomes.spec
        words = [text[at] for at in np.flatnonzero(own.code == NONE).tolist()]
        known = class_codes(spec, words) != NONE if spec.kind != "regression" else np.zeros(len(words), dtype=bool)
        said = (word for word, one in zip(words, known.tolist(), strict=True) if word is not None and not one)
        self.strangers.update(said)
        if len(self.strangers) > MOST_STRANGERS:
            self.strangers = Counter(dict(self.strangers.most_common(MOST_STRANGERS)))

    def _places(self, cell: Ints) -> Ints:
        return self.cells.place(cell)

    def _expect(self, rows: Predicted) -> None:
        pane = self.cells.pane[rows.place]
        start = rows.ts // pane * pane
        for place in np.unique(rows.place).tolist():
            mine = rows.place == place
            self.tables.expect(place, start[mine], rows.cell[mine])

    def _keep(self, key: npt.NDArray[np.uint64], rows: Predicted) -> int:
        """Keep predictions for outcomes to come, as many as may be; the number of the first."""
        start = self.pending.next
        if not key.size:
            return start
        far = np.flatnonzero(rows.ts // 1000 > LATEST_S)
        if far.size:
            rows = rows._replace(ts=np.minimum(rows.ts, LATEST_S * 1000))
        value = None if np.isnan(rows.value).all() else rows.value
        columns = rows.ts, rows.append, rows.score, rows.label, rows.cell
        kept = self.pending.append(Rows(key, *columns, value, rows.ranks))
        self.counts["over_limit"] += key.size - kept
        if kept:
            until_s, until_ms = self._until(rows.place[:kept], rows.append[:kept], rows.ts[:kept])
            self.log.rows(start, start + kept, until_s, until_ms)
        return start

    def _until(self, place: Ints, append: Ints, ts: Ints) -> tuple[int, dict[str, int]]:
        """When no outcome can be of these rows any more: append time, and event time by model."""
        until_ms, model = ts + self.cells.kept[place], self.cells.model[place]
        known = np.unique(model[model >= 0]).tolist()
        by_model = {self.cells.models[code]: int(until_ms[model == code].max()) for code in known}
        return int((append + self.cells.kept_s[place]).max()), by_model

    def _fits(self, numbers: Ints, *, ts: Ints, append: Ints, seen: Ints, model: Ints) -> Bools:
        """Which outcomes are of which rows: see the top of this file."""
        cells, place = self.cells, self._places(self.pending.cell(numbers))
        of_row, appended = self.pending.ts(numbers), self.pending.append_s(numbers)
        fits: Bools = (
            (ts <= of_row + cells.horizon[place])
            & (appended <= append + cells.wait_s[place])
            & (append <= appended + cells.kept_s[place])
            & (seen <= of_row + cells.kept[place])
            & ((model == _ANY) | (model == cells.model[place]))
        )
        return fits

    def _codes(self, place: Ints, told: Told, at: Ints) -> tuple[Ints, Floats]:
        """Codes of outcomes, −1 for what does not fit the layout at `place`; and numbers, for a regression."""
        code, truth = np.full(at.size, NONE, dtype=np.int64), np.full(at.size, np.nan)
        for one in np.unique(place).tolist():
            mine = np.flatnonzero(place == one)
            table = self.cells.plans[one].outcomes
            assert table is not None
            if table.spec.kind == "regression":
                truth[mine] = told.number[at[mine]]
                code[mine] = np.where(np.isnan(truth[mine]), NONE, 0)
            else:
                code[mine] = class_codes(table.spec, [told.text[i] for i in at[mine].tolist()])
        return code, truth

    def _settle(self, numbers: Ints, told: Told, at: Ints, *, echo: Predicted | None = None) -> Ints:
        """Outcomes `at` of `told` are of the rows `numbers`: new, a correction, equal to what is known, or unfit.

        echo: the predictions that they carry, (n,) as `at`.
        """
        place = self._places(self.pending.cell(numbers))
        code, truth = self._codes(place, told, at)
        status = np.full(at.size, _UNFIT, dtype=np.int64)
        todo = np.flatnonzero(code != NONE)
        while todo.size:
            _, first = np.unique(numbers[todo], return_index=True)
            now = todo[np.sort(first)] if first.size < todo.size else todo
            said = None if echo is None else echo.take(now)
            status[now] = self._settle_once(numbers[now], told.ts[at[now]], code[now], truth[now], said)
            todo = np.setdiff1d(todo, now) if now.size < todo.size else todo[:0]
        return status

    def _settle_once(self, numbers: Ints, ts: Ints, code: Ints, truth: Floats, echo: Predicted | None) -> Ints:
        known, before = self.pending.outcome(numbers), self.pending.truth(numbers)
        equal = (known == code) & ((truth == before) | np.isnan(truth))
        status = np.where(known == NONE, _NEW, np.where(equal, _EQUAL, _CORRECTED))
        new, changed = np.flatnonzero(status == _NEW), np.flatnonzero(status == _CORRECTED)
        if new.size:
            rows = self._recall(numbers[new]).echoing(None if echo is None else echo.take(new))
            delay = self._count(rows, ts[new], code[new], truth[new])
            self._settle_rows(numbers[new], code[new], delay, truth[new])
        if changed.size:
            rows, old = self._recall(numbers[changed]), self.pending.delay(numbers[changed])
            rows = rows.echoing(None if echo is None else echo.take(changed))
            late = self._is_late(rows, ts[changed]) | ((old & _LATE) > 0)
            bucket = old & ~_LATE
            self._pair(rows, known[changed], before[changed], bucket, late, sign=-1)
            self._pair(rows, code[changed], truth[changed], bucket, late, sign=1)
            self._settle_rows(numbers[changed], code[changed], bucket | np.where(late, _LATE, 0), truth[changed])
        return status

    def _settle_rows(self, numbers: Ints, code: Ints, delay: Ints, truth: Floats) -> None:
        if numbers.size:
            truths = None if np.isnan(truth).all() else truth
            self.pending.settle(numbers, code, delay, truths)
            self.log.settled(numbers, code, delay, truths, at=self.pending.next)

    def _recall(self, numbers: Ints) -> Predicted:
        pending, cell = self.pending, self.pending.cell(numbers)
        return Predicted(
            place=self._places(cell),
            ts=pending.ts(numbers),
            append=pending.append_s(numbers),
            cell=cell,
            score=pending.score(numbers),
            label=pending.label(numbers),
            value=pending.value(numbers),
            ranks=pending.ranks(numbers),
        )

    def _count(self, rows: Predicted, ts: Ints, code: Ints, truth: Floats) -> Ints:
        """Count first outcomes; what is kept of their delays: the bucket, and whether they were late."""
        bucket, late = delay_buckets(ts - rows.ts), self._is_late(rows, ts)
        self._pair(rows, code, truth, bucket, late, sign=1)
        self.counts["late"] += int(late.sum())
        return bucket | np.where(late, _LATE, 0)

    def _count_own(self, rows: Predicted, own: Own) -> Ints:
        """Count outcomes that came on their predictions; what is kept of their delays, (n,)."""
        here, delay = np.flatnonzero(own.code != NONE), np.zeros(own.code.size, dtype=np.int64)
        if here.size:
            delay[here] = self._count(rows.take(here), own.ts[here], own.code[here], own.truth[here])
            self.counts["matched"] += here.size
        return delay

    def _is_late(self, rows: Predicted, ts: Ints) -> Bools:
        pane = self.cells.pane[rows.place]
        late: Bools = ts > rows.ts // pane * pane + pane + self.cells.maturity[rows.place]
        return late

    def _pair(self, rows: Predicted, code: Ints, truth: Floats, bucket: Ints, late: Bools, *, sign: int) -> None:
        pane = self.cells.pane[rows.place]
        pairs = Pairs(
            pane=rows.ts // pane * pane,
            cell=rows.cell,
            late=late,
            score=rows.score,
            label=rows.label,
            value=rows.value,
            ranks=rows.ranks,
            shares=rows.shares,
            outcome=code,
            truth=truth,
            delay=bucket,
            sign=np.full(code.size, sign, dtype=np.int64),
        )
        places = np.unique(rows.place).tolist()
        for place in places:
            mine = np.flatnonzero(rows.place == place)
            self.tables.add(place, pairs if len(places) == 1 else pairs.take(mine))

    def _accounted(self, told: Told, at: Ints, status: Ints) -> list[Refusal]:
        """Count outcomes `at` of `told`; those that are dropped."""
        refusals = []
        for i, one in zip(at.tolist(), status.tolist(), strict=True):
            refused = self._account(one)
            if refused is not None:
                refusals.append(Refusal(int(told.at[i]), refused[0], refused[1], told.model[i]))
        return refusals

    def _account(self, status: int) -> tuple[DropReason, str] | None:
        """Count one outcome; why it is dropped, if it is."""
        if status == _UNFIT:
            return DropReason.SCHEMA, _UNFIT_WORDS
        if status == _EQUAL:
            self.counts["duplicate"] += 1
            return DropReason.DUPLICATE, "equal to the outcome that is known"
        self.applied += 1
        self.counts["matched" if status == _NEW else "corrected"] += 1
        return None

    def _wait(self, told: Told, at: int, *, append_s: int, seen: int, until: int) -> None:
        number = told.number[at]
        one = Waiting(
            number=self.next_waiting,
            key=int(told.key[at]),
            ts=int(told.ts[at]),
            append=int(told.append[at]),
            append_s=append_s,
            seen=seen,
            until=until,
            model=told.model[at],
            text=told.text[at],
            value=None if np.isnan(number) else float(number),
            offset=told.offset[at],
            topic=told.topic,
        )
        self.next_waiting += 1
        self._add_waiting(one)
        self.log.waits(one, at=self.pending.next)

    def _add_waiting(self, one: Waiting) -> None:
        self.waiting.setdefault(one.key, []).append(one)
        self.waits += 1
        self._waiting_keys += one.key
        self._waiting_by_number[one.number] = one
        heapq.heappush(self._queue, (one.until, one.number))

    def _join_waiting(self, start: int, key: npt.NDArray[np.uint64]) -> None:
        """Outcomes that waited for rows `start` and on."""
        numbers: list[int] = []
        found: list[Waiting] = []
        for at, word in enumerate(key.tolist()):
            waiting = self.waiting.get(word)
            if waiting is None:
                continue
            row = np.full(len(waiting), start + at, dtype=np.int64)
            fits = self._fits(
                row,
                ts=np.array([one.ts for one in waiting], dtype=np.int64),
                append=np.array([one.append_s for one in waiting], dtype=np.int64),
                seen=np.array([one.seen for one in waiting], dtype=np.int64),
                model=np.array([self._code_of.get(one.model, _NOBODY) for one in waiting], dtype=np.int64),
            )
            mine = [one for one, fit in zip(waiting, fits.tolist(), strict=True) if fit]
            found += mine
            numbers += [start + at] * len(mine)
            for one in mine:
                self._resolve(one)
        if found:
            status = self._settle(np.array(numbers, dtype=np.int64), _told(found), np.arange(len(found)))
            for one, how in zip(found, status.tolist(), strict=True):
                self.counts["early"] += 1
                refused = self._account(how)
                if refused is not None:
                    self.dropped.append(Dropped(one, *refused))

    def _resolve(self, one: Waiting) -> None:
        left = [other for other in self.waiting[one.key] if other is not one]
        if left:
            self.waiting[one.key] = left
        else:
            del self.waiting[one.key]
        self.waits -= 1
        self._waiting_keys -= one.key
        del self._waiting_by_number[one.number]
        self.log.resolved(one.number, at=self.pending.next)

    def _expire_waiting(self, now_s: int) -> None:
        gone = []
        while self._queue and self._queue[0][0] < now_s:
            one = self._waiting_by_number.get(heapq.heappop(self._queue)[1])
            if one is not None:  # it was not joined meanwhile
                gone.append(one)
        for one in sorted(gone, key=attrgetter("number")):
            self._resolve(one)
            self.counts["unmatched"] += 1
            self.dropped.append(Dropped(one, DropReason.UNMATCHED_OUTCOME, ""))


def _told(found: Sequence[Waiting]) -> Told:
    """Outcomes that waited, as if they had come now."""
    none = np.zeros(len(found), dtype=np.int64)
    return Told(
        at=none,
        key=none.astype(np.uint64),
        ts=np.array([one.ts for one in found], dtype=np.int64),
        append=none,
        model=[one.model for one in found],
        text=[one.text for one in found],
        number=np.array([np.nan if one.value is None else one.value for one in found]),
        echo=[],
        offset=[one.offset for one in found],
        topic="",
    )


def outcome_counts(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Totals for metrics, by (metric, state): `JoinPosition.counts`.

    >>> outcome_counts({"matched": 7})["outcomes", "matched"], len(outcome_counts({}))
    (7, 8)
    """
    found = {("outcomes", name): counts.get(name, 0) for name in COUNTS if name != "over_limit"}
    return found | {("predictions_not_kept", ""): counts.get("over_limit", 0)}
