"""What services publish: predictions, feature rows and outcomes; and what becomes of a bad record.

Times are event times: an integer of milliseconds since the epoch, a float of milliseconds, or an RFC 3339 string.
Unknown fields are ignored. Values of features are numbers, strings, booleans or null.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FeatureValue = float | int | str | bool | None
Timestamp = int | float | str

#: 1980-01-01T00:00:00Z. An earlier time is nearly always seconds taken for milliseconds.
EARLIEST_MS = 315_532_800_000
#: How far the clock of a producer may run ahead of the log's append time.
FUTURE_MS = 300_000


class Prediction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One prediction. `score` is a number (probability of the positive class, or a ranking score), `proba` a
    probability per class, `label` the predicted class, `value` a regression's result. `outcome`, where it is known
    already, is what an outcome event would say, at `outcome_ts` (the prediction's own time otherwise).

    >>> Prediction(id="a1", model="credit", ts=1_735_689_600_000, features={"age": 41}, score=0.12).score
    0.12
    """

    id: str
    model: str
    ts: Timestamp
    version: str = ""
    features: dict[str, FeatureValue] = {}
    score: float | None = None
    proba: dict[str, float] | None = None
    label: str | int | bool | None = None
    value: float | None = None
    segment: dict[str, str | int | bool] = {}
    variant: str | None = None
    latency_ms: float | None = None
    cost: float | None = None
    status: str | None = None
    weight: float | None = None
    outcome: str | int | float | bool | None = None
    outcome_ts: Timestamp | None = None


class FeatureRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A row of a feature set: monitored like a model without outputs, under the name `feature_set`."""

    feature_set: str
    ts: Timestamp
    entity: str | None = None
    version: str = ""
    features: dict[str, FeatureValue] = {}
    segment: dict[str, str | int | bool] = {}


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a prediction; `prediction` echoes it and makes the join unnecessary."""

    id: str
    ts: Timestamp
    model: str | None = None
    label: str | int | bool | None = None
    value: float | None = None
    business: dict[str, float] = {}
    prediction: Prediction | None = None


class DropReason(StrEnum):
    """Why a record was not counted: one word in counters, dead letters, metrics and tests."""

    DECODE = "decode"
    SCHEMA = "schema"
    UNKNOWN_MODEL = "unknown_model"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    NON_FINITE = "non_finite"
    LATE = "late"
    FUTURE = "future"
    UNMATCHED_OUTCOME = "unmatched_outcome"
    DUPLICATE = "duplicate"
    OVER_LIMIT = "over_limit"


class DeadLetter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A record that was not counted: where it is, why, and a hash of it; never its payload unless asked.

    kind: `record` for one, `suppressed` for `count` further ones of a batch with the same reason, `replayed` (count 0)
    for one that `tripline dlq replay` has written again to its topic.
    sha256: of the record's value, in hex. payload: base64, only with `dead_letter_payload: true`.
    """

    reason: DropReason
    topic: str
    partition: int
    offset: int
    kind: str = "record"
    count: int = 1
    detail: str = ""
    model: str = ""
    sha256: str = ""
    size: int = 0
    append_ts: int = 0
    payload: str | None = None
