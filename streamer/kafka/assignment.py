"""What is wrong when the group gives a worker other partitions than its stage has tasks."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import BrokerUnavailable, ConfigurationError
from streamer.kafka.settings import KafkaSettings


def misfit(settings: KafkaSettings, stage: str, counts: Mapping[str, int], *, partitions: int) -> Exception:
    """The error that ends the worker. counts: partitions by input, as the broker tells now; partitions: as they were.

    >>> settings = KafkaSettings(bootstrap_servers="")
    >>> print(misfit(settings, "profiling", {"predictions": 0, "outcomes": 4}, partitions=4))
    profiling: topic predictions is not there any more: put it back from a copy, or start a new `kafka.app` on a new one
    >>> print(misfit(settings, "profiling", {"predictions": 4}, partitions=4))
    profiling: the group gave partitions out as before an input was made anew, or named in kafka.inputs; it forgets that
    """
    if gone := [settings.topic(name) for name, n in counts.items() if not n]:
        words = "is not there any more: put it back from a copy, or start a new `kafka.app` on a new one"
        return ConfigurationError(f"{stage}: topic {', '.join(gone)} {words}")
    if set(counts.values()) == {partitions}:
        # A static member that comes back within its session is given what it had; nobody looks whether that still fits.
        words = "partitions out as before an input was made anew, or named in kafka.inputs; it forgets that"
        return BrokerUnavailable(f"{stage}: the group gave {words}")
    found = ", ".join(f"{name} {n}" for name, n in counts.items())
    return ConfigurationError(
        f"{stage}: partitions are now {found}, but were {partitions}: which partition an event is in decides who "
        "counts it. Go back to the old count, or start a new `kafka.app` on the new topics."
    )
