"""Errors, split by what the caller does next.

TriplineError
├── ConfigurationError     fix the file and start again; exit 2; carries file, line and path
├── ReferenceFileError     rebuild or replace the reference; exit 2
├── FormatError            a stored record is of a newer format, or damaged; exit 65
├── ProtocolBroken         source ranges do not join, digests differ; exit 71, never continue
├── PositionLost           a position outside the log; exit 72, the operator decides (`--accept-gap`)
├── LateLayout             a layout or mapping was learned after its time; exit 73, restart with it in place
├── BrokerUnavailable      Kafka does not answer in the time allowed; exit 70, the supervisor restarts
├── AccessDenied           Kafka does not let us in, or not do that; exit 77, grant the right
├── MemoryExceeded         the worker's memory is beyond `limits.memory`; exit 74, more workers or a larger limit
└── TaskTaken              another worker owns the task now; exit 70, the supervisor restarts

A bad *record* is never an exception outside the decoder: it is a `DropReason` and a dead letter.
"""

from __future__ import annotations


class TriplineError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigurationError(TriplineError):
    """A configuration that cannot be used: `file:line: path: what is wrong, with the value`."""

    exit_code = 2

    def __init__(self, message: str, *, file: str = "", line: int = 0, path: str = "") -> None:
        place = ": ".join(part for part in (f"{file}:{line}" if line else file, path) if part)
        super().__init__(f"{place}: {message}" if place else message)
        self.message, self.file, self.line, self.path = message, file, line, path


class ReferenceFileError(TriplineError):
    """A reference file or its chunks that do not parse, or whose hash is not its id."""

    exit_code = 2


class FormatError(TriplineError):
    """A stored record of a newer format, or a damaged one."""

    exit_code = 65


class BrokerUnavailable(TriplineError):
    """Kafka did not answer in the time allowed."""

    exit_code = 70


class AccessDenied(TriplineError):
    """A credential that is not accepted, or a right that is missing: it does not come back by itself."""

    exit_code = 77


class MemoryExceeded(TriplineError):
    """State has grown beyond `limits.memory`. Nothing was dropped: given the memory, work goes on where it stood."""

    exit_code = 74


class TaskTaken(TriplineError):
    """Another worker owns a task of ours: this one was given up for dead. Nothing of it was counted twice."""

    exit_code = 70


class ProtocolBroken(TriplineError):
    """Ranges overlap or leave a gap, a sequence jumps or a digest differs: counting on would lie."""

    exit_code = 71


class PositionLost(TriplineError):
    """A stored position lies before the log's start or past its end."""

    exit_code = 72


class LateLayout(TriplineError):
    """A task learned of a layout or a mapping after the time from which it holds had passed there."""

    exit_code = 73
