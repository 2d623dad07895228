"""Errors of a sink, split by what the caller does next.

SinkError                 `retriable`: keep the latest state, wait, try again
├── SinkUnreachable       no connection, time-out, TLS: retriable
├── SinkUnwell            the other side answers, but cannot or will not now (429, 5xx, 401, a redirect): retriable
└── SinkRefused           it says that the content is bad (400, 413, 422): not retriable
"""

from __future__ import annotations

from schemas.errors import TriplineError


class SinkError(TriplineError):
    """A batch that was not delivered."""

    retriable = True


class SinkUnreachable(SinkError):
    """Nobody answered."""


class SinkUnwell(SinkError):
    """An answer that says nothing about the content; an operator may have to act (credentials, address)."""


class SinkRefused(SinkError):
    """The content is bad: the same again would be refused again."""

    retriable = False
