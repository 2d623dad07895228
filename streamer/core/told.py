"""Outcomes in columns, as read from their input."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


class Told(NamedTuple):
    """Sound outcomes, (n,) each, in the order of the log. at: numbers of their records. key: of the id.

    append: the log's time, ms, −1 where unknown. model: "" where none is named. text: as a class, None where it cannot
    be one; number: as a value, NaN where it cannot be one. echo: the prediction, as JSON, empty where there is none.
    offset: in the log of `topic`. append_s: the largest append time of the log up to each, s; seen: the largest time of
    its model's outcomes up to each, ms; both None until the join has looked at them.
    """

    at: Ints
    key: npt.NDArray[np.uint64]
    ts: Ints
    append: Ints
    model: list[str]
    text: list[str | None]
    number: Floats
    echo: list[bytes]
    offset: list[int]
    topic: str
    append_s: Ints | None = None
    seen: Ints | None = None


def pick(told: Told, at: Ints) -> Told:
    """Some of them."""
    places = at.tolist()
    return Told(
        at=told.at[at],
        key=told.key[at],
        ts=told.ts[at],
        append=told.append[at],
        model=[told.model[i] for i in places],
        text=[told.text[i] for i in places],
        number=told.number[at],
        echo=[told.echo[i] for i in places],
        offset=[told.offset[i] for i in places],
        topic=told.topic,
        append_s=None if told.append_s is None else told.append_s[at],
        seen=None if told.seen is None else told.seen[at],
    )
