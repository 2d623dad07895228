"""What went wrong with Kafka, as an error of ours: nobody answers, somebody else has the task, or we may not.

Why apart: a right that is missing does not come back by itself. It ends a worker with another exit code than a broker
that is away, and is told with the name of what was refused.
"""

from __future__ import annotations

import logging
import re
from types import TracebackType

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidProducerEpoch,
    ProducerFenced,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from schemas.errors import AccessDenied, BrokerUnavailable, TaskTaken, TriplineError
from streamer.kafka.settings import KafkaSettings

_NOT_US = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
_NOT_THIS = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
#: What a client library says of a connection that will not be let in, however often it is tried.
_SHUT_OUT = re.compile(r"Authentication ?[Ff]ailed|SaslAuthenticationFailed|CERTIFICATE_VERIFY_FAILED|SaslMechanism")
#: All that it says where a broker does not take our certificate.
_CLOSED = re.compile(r"Connection at \S+ closed")


def explained(what: str, error: BaseException, settings: KafkaSettings) -> TriplineError:
    """The error of ours that says what an operator does next. what: what was being done, "" where that is plain.

    >>> settings = KafkaSettings(bootstrap_servers="h:1")
    >>> explained("task profiling/0", TopicAuthorizationFailedError("audit"), settings)
    AccessDenied('task profiling/0: Kafka at h:1 does not allow it: topic audit (see deploy/kafka-acls.csv)')
    """
    if isinstance(error, TriplineError):
        return error
    where = f"{what}: Kafka at {settings.bootstrap_servers}" if what else f"Kafka at {settings.bootstrap_servers}"
    if isinstance(error, ProducerFenced | InvalidProducerEpoch):
        return TaskTaken(f"{what}: another worker has taken it ({type(error).__name__})")
    if isinstance(error, _NOT_THIS):
        return AccessDenied(f"{where} does not allow it: {_named(error)} (see deploy/kafka-acls.csv)")
    if isinstance(error, _NOT_US):
        return AccessDenied(f"{where} does not let us in: {error}")
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{where}: no answer for {settings.broker_timeout_s:g} s")
    return BrokerUnavailable(f"{where}: {type(error).__name__}: {error}")


class Overheard(logging.Handler):
    """The last thing that aiokafka has logged within a `with` block: its errors leave out why no connection came about.

    >>> with Overheard() as last:
    ...     logging.getLogger("aiokafka.conn").error("Unable connect to %s: CERTIFICATE_VERIFY_FAILED", "h:1")
    >>> last.said, last.shut_out
    ('Unable connect to h:1: CERTIFICATE_VERIFY_FAILED', True)
    """

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.said = ""

    @property
    def shut_out(self) -> bool:
        """The other side is there, and will not have us: trying again is of no use."""
        return bool(_SHUT_OUT.search(self.said))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said = record.getMessage()

    def __enter__(self) -> Overheard:
        logging.getLogger("aiokafka").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("aiokafka").removeHandler(self)

    def error(self, settings: KafkaSettings, error: BaseException) -> TriplineError:
        """As `explained`, with what was overheard."""
        if self.shut_out:
            return AccessDenied(f"Kafka at {settings.bootstrap_servers} does not let us in: {self.said}")
        found = explained("", error, settings)
        if "ssl_context" in settings.security and _CLOSED.search(self.said):
            what = "closes the connection: does it want a certificate of ours, or another one (kafka.tls)?"
            return BrokerUnavailable(f"Kafka at {settings.bootstrap_servers} {what}")
        return BrokerUnavailable(f"{found}: {self.said}") if self.said else found


def _named(error: BaseException) -> str:
    kinds = {
        GroupAuthorizationFailedError: "group",
        TopicAuthorizationFailedError: "topic",
        TransactionalIdAuthorizationFailed: "transactional id",
    }
    parts = [sorted(one) if isinstance(one, set | frozenset | list | tuple) else [str(one)] for one in error.args]
    return " ".join([kinds.get(type(error), type(error).__name__), *(", ".join(part) for part in parts)])
