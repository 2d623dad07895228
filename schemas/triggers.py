"""Retrain triggers and approvals: what we tell machines."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from schemas.alerts import Evidence


class RetrainTrigger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request to retrain. A job acts on `state == "approved"` only; `id` is a hash of its cause.

    state: `approved` (mode auto, or a person approved), `pending` (waits for approval until `expires_at`),
    `dry_run`, `rejected`, `expired`. Key on Kafka: the id.
    """

    id: str
    model: str
    version: str
    policy: str
    state: Literal["approved", "pending", "dry_run", "rejected", "expired"]
    incident: str
    window_end: int
    opened_at: int
    reference: str
    evidence: list[Evidence]
    expires_at: int | None = None
    decided_by: str = ""
    old_news: bool = False


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word on a pending trigger, on the `control` topic under `approval|<trigger id>`."""

    trigger: str
    decision: Literal["approve", "reject"]
    by: str
    at: int


def trigger_id(*, model: str, version: str, policy: str, scope: str, window_end: int) -> str:
    """Hash of a trigger's cause: the same cause is the same trigger, however often it is computed.

    >>> trigger_id(model="credit", version="3", policy="default", scope="model", window_end=0)
    '55c86825bf65a097'
    """
    raw = "\x1f".join([model, version, policy, scope, str(window_end)]).encode()
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
