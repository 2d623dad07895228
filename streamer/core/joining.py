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

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

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
from streamer.core.join_position import COUNTS, JoinPosition
from streamer.core.join_tables import JoinTables
from streamer.core.pairing import ANY, EQUAL, NEW, UNFIT, Pairing
from streamer.core.pending import LATEST_S, NONE, Pending, Rows
from streamer.core.plans import Plan, Plans
from streamer.core.predicted import Own, Predicted, concatenated, predicted_of
from streamer.core.told import Told
from streamer.core.waiting_outcomes import Dropped, WaitingOutcomes, as_told
from streamer.formats.seam import Refusal

Ints: TypeAlias = npt.NDArray[np.int64]

#: Where all inputs were read to their end, one has come as far as the other, but for clocks of brokers that differ.
MARGIN_S = 60
#: An outcome that waits takes as much memory as so many predictions; there may always be so many that wait.
WAIT_SHARE, FEW_WAIT = 10, 1_000
#: Different words among the outcomes of a table that are none of the classes.
MOST_STRANGERS = 1_000
_NOBODY = -3
_UNTOLD = -(1 << 62)
_UNFIT_WORDS = "label: is none of the classes of its prediction's layout"


class Join:
    """The join of one task. waiting: outcomes that came before their prediction.

    strangers: outcomes of a table that are none of the classes, how many of each; after_horizon: that came too late.
    """

    def __init__(self, plans: Plans, pending: Pending | None = None) -> None:
        self.cells, self.log = JoinCells(), JoinLog()
        self.pending = Pending(plans.pending_rows) if pending is None else pending
        self.waiting = WaitingOutcomes(self.log)
        self.predicted_s = self.told_s = 0
        self.seen: dict[str, int] = {}
        self.counts = Counter(dict.fromkeys(COUNTS, 0))
        self._pairing = Pairing(self.pending, self.cells, self.log, self.counts)
        self.strangers: Counter[str] = Counter()
        self.after_horizon = 0
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
        self._code_of = {name: code for code, name in enumerate(self.cells.models)} | {"": ANY}

    @property
    def tables(self) -> JoinTables:
        """What the batch has joined."""
        return self._pairing.tables

    def begin(self, rows: int) -> None:
        """A batch of so many records begins: nothing is joined yet."""
        self._pairing.begin()
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
            self._pairing.expect(rows)
            self._pairing.count_own(rows, own)
            return
        places = places[order]
        named = np.zeros(places.size, dtype=bool)
        if arrivals.key is not None:
            named[:] = True if arrivals.anonymous is None else ~arrivals.anonymous[places]
        self._pairing.expect(rows.take(named | (own.code != NONE)))
        delay = self._pairing.count_own(rows, own)
        if arrivals.key is None or not named.any():
            return
        rows, own, delay, key = rows.take(named), own.take(named), delay[named], arrivals.key[places[named]]
        start = self._keep(key, rows)
        kept = self.pending.next - start
        here = np.flatnonzero(own.code[:kept] != NONE)
        self._pairing.keep(start + here, own.code[here], delay[here], own.truth[here])
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
            fits = self._pairing.fits(numbers, ts=told.ts[at], append=append[at], seen=seen[at], model=model[at])
            best[at[fits]] = numbers[fits]  # the older ones come last: the first in the log stays
        found = np.flatnonzero(best >= 0)
        refusals = self._accounted(told, found, self._pairing.settle(best[found], told, found))
        for i in np.flatnonzero(best < 0).tolist():
            until = int(append[i]) + self._wait_of.get(told.model[i], 0)
            refusal = Refusal(int(told.at[i]), DropReason.UNMATCHED_OUTCOME, "", told.model[i])
            if until < self.predicted_s:
                self.counts["unmatched"] += 1
                refusals.append(refusal)
            elif self.waiting.count >= max(FEW_WAIT, self.pending.limit // WAIT_SHARE):
                refusals.append(refusal._replace(reason=DropReason.OVER_LIMIT, detail="too many outcomes wait"))
            else:
                found_s, come, next_row = int(append[i]), int(seen[i]), self.pending.next
                self.waiting.put(told, i, append_s=found_s, seen=come, until=until, at=next_row)
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
                fits = self._pairing.fits(
                    numbers, ts=told.ts[of], append=append[of], seen=seen[of], model=self.cells.model[rows.place[of]]
                )
                best[at[fits]] = numbers[fits]
            new = np.flatnonzero(best < 0)
            code, truth = self._pairing.codes(rows.place[now[new]], told, now[new])
            new, code, truth = new[code != NONE], code[code != NONE], truth[code != NONE]
            fresh = rows.take(now[new])
            start = self._keep(key[now[new]], fresh)
            kept = self.pending.next - start
            best[new[:kept]] = np.arange(start, start + kept)
            status = np.full(now.size, UNFIT)
            # Beyond the limit they count, and their repeats with them.
            over = np.arange(kept, new.size)
            self._pairing.count(fresh.take(over), told.ts[now[new[over]]], code[over], truth[over])
            status[new[over]] = NEW
            there = np.flatnonzero(best >= 0)
            status[there] = self._pairing.settle(best[there], told, now[there], echo=rows.take(now[there]))
            self.counts["echoed"] += int((status == NEW).sum())
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
        for one in self.waiting.expire(predicted, at=self.pending.next):
            self.counts["unmatched"] += 1
            self.dropped.append(Dropped(one, DropReason.UNMATCHED_OUTCOME, ""))
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
            waiting=self.waiting.count,
            next_waiting=self.waiting.next,
            predicted_s=self.predicted_s,
            told_s=self.told_s,
            seen=dict(self.seen),
            counts=dict(self.counts),
        )

    @classmethod
    def restore(cls, position: JoinPosition, pairs: Iterable[tuple[bytes, bytes]], plans: Plans) -> Join:
        """The join as the changelog's pairs say; `ProtocolBroken` when a record or a row is not there."""
        room = position.next - position.first
        join = cls(plans, Pending(room, first=position.first, room=room))
        limit, join.pending.limit = join.pending.limit, room
        waiting: dict[int, Waiting] = {}
        for number, chunk in decode_chunks(pairs, first=position.first_record, following=position.next_record):
            until_s, until_ms = 0, dict[str, int]()
            if chunk.columns:
                rows = rows_of(chunk, join.cells)
                until_s, until_ms = join._until(join.cells.place(rows.cell), rows.append, rows.ts)
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
            join.waiting.restored(one)
        join.waiting.next, join.seen = position.next_waiting, dict(position.seen)
        join.predicted_s, join.told_s = position.predicted_s, position.told_s
        join.counts.update(position.counts)
        wanted = position.next, position.waiting, position.digest
        if (join.pending.next, join.waiting.count, join._digest()) != wanted:
            raise ProtocolBroken("changelog: the pending predictions are not those of the position record")
        return join

    def _digest(self) -> int:
        return (self.pending.digest + self.waiting.digest) % (1 << 64)

    def _of_group(self, arrivals: Arrivals, group: Group, append: Ints) -> tuple[Predicted, Own]:
        plan, at = group.plan, group.rows
        layout = plan.layout
        version = Names(arrivals.version.codes[at], arrivals.version.names)
        segments = [arrivals.values.segment(plan, column, at) for column in (*layout.segments, *layout.marginals)]
        columns = [bounded(column, layout.limits.string_length) for column in (version, *segments)]
        place = self.cells.plans.index(plan)
        said = arrivals.values.said(at)
        cell = self.cells.codes(plan, columns)
        # In a table nothing comes later, so nothing has to be kept.
        whole = arrivals.append is None
        rows = predicted_of(plan, place, said, ts=arrivals.ts[at], append=append[at], cell=cell, echo=whole)
        own = Own.of(plan, said, rows.ts)
        if whole and said.outcome is not None:  # of a stream such an event is dropped before
            self._note_strangers(plan, said.outcome.text, own, rows.ts)
        return rows, own

    def _note_strangers(self, plan: Plan, text: Sequence[str | None], own: Own, ts: Ints) -> None:
        """Count the outcomes of a table that are none of the classes, or no numbers; and those that came too late."""
        assert plan.outcomes is not None
        spec = plan.outcomes.spec
        beyond = own.ts > ts + plan.layout.horizon_ms
        self.after_horizon += sum(text[at] is not None for at in np.flatnonzero(beyond).tolist())
        words = [text[at] for at in np.flatnonzero((own.code == NONE) & ~beyond).tolist()]
        known = class_codes(spec, words) != NONE if spec.kind != "regression" else np.zeros(len(words), dtype=bool)
        said = (word for word, one in zip(words, known.tolist(), strict=True) if word is not None and not one)
        self.strangers.update(said)
        if len(self.strangers) > MOST_STRANGERS:
            self.strangers = Counter(dict(self.strangers.most_common(MOST_STRANGERS)))

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
        if status == UNFIT:
            return DropReason.SCHEMA, _UNFIT_WORDS
        if status == EQUAL:
            self.counts["duplicate"] += 1
            return DropReason.DUPLICATE, "equal to the outcome that is known"
        self.applied += 1
        self.counts["matched" if status == NEW else "corrected"] += 1
        return None

    def _join_waiting(self, start: int, key: npt.NDArray[np.uint64]) -> None:
        """Outcomes that waited for rows `start` and on."""
        numbers: list[int] = []
        found: list[Waiting] = []
        for at, word in enumerate(key.tolist()):
            waiting = self.waiting.of(word)
            if not waiting:
                continue
            row = np.full(len(waiting), start + at, dtype=np.int64)
            fits = self._pairing.fits(
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
                self.waiting.resolve(one, at=self.pending.next)
        if found:
            status = self._pairing.settle(np.array(numbers, dtype=np.int64), as_told(found), np.arange(len(found)))
            for one, how in zip(found, status.tolist(), strict=True):
                self.counts["early"] += 1
                refused = self._account(how)
                if refused is not None:
                    self.dropped.append(Dropped(one, *refused))
