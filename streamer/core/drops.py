"""Records that are not counted: their counters, and the dead letters that say which they were.

consumed = applied + Σ drops, exactly: the counters live in the position record and move in the same transaction.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from schemas.events import DeadLetter, DropReason
from streamer.core.records import Output, Record
from streamer.formats.seam import Refusal

#: Dead letters per batch and reason; the others become one `suppressed` record.
LETTERS = 20
#: A payload beyond this stays where it is; so do all once a batch's letters carry as much as `PAYLOADS`.
PAYLOAD, PAYLOADS = 64 * 1024, 1024 * 1024
#: Names in a letter are cut: they come from the record.
_NAME = 256


def counted(drops: dict[str, int], refusals: Sequence[Refusal]) -> dict[str, int]:
    """The counters after `refusals`.

    >>> counted({"late": 2}, [Refusal(0, DropReason.LATE), Refusal(3, DropReason.DECODE)])
    {'late': 3, 'decode': 1}
    """
    more = Counter(refusal.reason.value for refusal in refusals)
    return {**drops, **{reason: drops.get(reason, 0) + n for reason, n in more.items()}}


def suppressed(refusals: Sequence[Refusal], *, letters: int = LETTERS) -> int:
    """How many of a batch's refusals have no letter of their own.

    >>> suppressed([Refusal(at, DropReason.DECODE) for at in range(7)] + [Refusal(9, DropReason.LATE)], letters=5)
    2
    """
    return sum(max(0, n - letters) for n in Counter(refusal.reason for refusal in refusals).values())


def dead_letters(
    records: Sequence[Record] | Mapping[int, Record],
    refusals: Sequence[Refusal],
    *,
    payload: bool,
    letters: int = LETTERS,
) -> list[Output]:
    """Letters for the task's own partition, in the order of the records; `refusals` are of `records` by number.

    The first `letters` of each reason have a letter of their own; the rest of a reason share one, with their count,
    at the place of the first of them.
    """
    outputs: list[Output] = []
    seen: Counter[DropReason] = Counter()
    first_suppressed: dict[DropReason, Refusal] = {}
    carried = 0
    for refusal in sorted(refusals):
        seen[refusal.reason] += 1
        if seen[refusal.reason] > letters:
            first_suppressed.setdefault(refusal.reason, refusal)
            continue
        record = records[refusal.at]
        value = record.value or b""
        carry = payload and record.value is not None and len(value) <= PAYLOAD and carried + len(value) <= PAYLOADS
        carried += len(value) if carry else 0
        letter = DeadLetter(
            reason=refusal.reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            detail=refusal.detail[:_NAME],
            model=refusal.model[:_NAME],
            sha256=hashlib.sha256(value).hexdigest(),
            size=len(value),
            append_ts=_append_ts(record),
            payload=base64.b64encode(value).decode() if carry else None,
        )
        outputs.append(_output(letter))
    for reason, refusal in first_suppressed.items():
        record = records[refusal.at]
        outputs.append(
            _output(
                DeadLetter(
                    kind="suppressed",
                    count=seen[reason] - letters,
                    reason=reason,
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    append_ts=_append_ts(record),
                )
            )
        )
    return outputs


def _append_ts(record: Record) -> int:
    return record.timestamp if record.timestamp is not None else -1


def _output(letter: DeadLetter) -> Output:
    key = f"{letter.topic}|{letter.partition}|{letter.offset}"
    return Output("dead-letter", key.encode(), msgspec.json.encode(letter))
