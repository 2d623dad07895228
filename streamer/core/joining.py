"""The place of outcomes in a stage-1 task. The join itself comes with the issue "Outcomes".

What is here already: outcomes are an input of the task like the others, with a next offset in the position record and
a place in the accounts. Until predictions are kept, none can be matched: each is dropped as `unmatched_outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import DropReason
from streamer.core.records import Record
from streamer.formats.seam import Refusal


def unmatched(records: Sequence[Record]) -> list[Refusal]:
    """Outcomes without a prediction to join: all of them.

    >>> from streamer.core.records import PlainRecord
    >>> unmatched([PlainRecord("outcomes", 0, 7, 0, b"a", b"{}")])[0].reason.value
    'unmatched_outcome'
    """
    return [Refusal(at, DropReason.UNMATCHED_OUTCOME) for at in range(len(records))]
