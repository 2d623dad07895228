"""The log of a worker: one line per thing that happened, however often a client library says it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_EVERY_S = 30.0
#: Libraries that say on every retry what we say once.
_CHATTY = ("aiokafka", "faust", "mode")


class OnceInAWhile(logging.Filter):
    """Lets a message of a chatty logger through once in `every` seconds, however its numbers differ.

    >>> often = OnceInAWhile(every=30.0, clock=iter([0.0, 1.0, 40.0]).__next__)
    >>> said = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "no node %s", (1,), None)
    >>> [bool(often.filter(said)) for _ in range(3)]
    [True, False, True]
    """

    def __init__(self, *, every: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every, self._clock = every, clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is said."""
        if not record.name.startswith(_CHATTY):
            return True
        now = self._clock()
        if now - self._said.get(record.msg, -self._every) < self._every:
            return False
        self._said[record.msg] = now
        return True


def set_up(*, verbose: bool = False) -> None:
    """Log to stderr; `verbose` is for those who look for a fault in a client library."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if not verbose:
        handler.addFilter(OnceInAWhile())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.INFO if verbose else logging.WARNING)
