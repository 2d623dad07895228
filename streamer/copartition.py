"""Do outcomes lie in the partition of their predictions? By what hash each topic's records were spread over it.

Why: the two must meet in one task, and the clients do not agree. Java's producers (and aiokafka's) hash a key by
murmur2, librdkafka's by CRC32 unless told otherwise; a record without a key goes anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: Fewer keys than this say nothing; so large a share of them must lie where a hash puts them.
FEW_KEYS, SURE = 20, 0.98
_REMEDY = {
    "CRC32": "set `partitioner=murmur2_random` on its librdkafka producer",
    "murmur2": "set `partitioner=murmur2_random` on the librdkafka producer of the other",
}


class Sampled(NamedTuple):
    """A record: its key, its partition, and the id in it, "" where none was found."""

    key: bytes | None
    partition: int
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the records of a topic lie. hash: `murmur2`, `CRC32`, `` where it is neither, or cannot be said.

    keyed: share of records with a key. said: enough keys were seen to say something of the hash.
    """

    topic: str
    partitions: int
    hash: str
    keyed: float
    said: bool


def murmur2(key: bytes) -> int:
    """Kafka's 32-bit hash of a key, as Java's default partitioner takes it.

    >>> murmur2(b"21"), murmur2(b"foobar")
    (3321034988, 3504634814)
    """
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ (k >> 24)) * m & mask)
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


_HASHES: dict[str, Callable[[bytes, int], int]] = {
    "murmur2": lambda key, partitions: (murmur2(key) & 0x7FFFFFFF) % partitions,
    "CRC32": lambda key, partitions: zlib.crc32(key) % partitions,
}


def spread_of(topic: str, partitions: int, records: Sequence[Sampled]) -> Spread:
    """What a sample of a topic says.

    >>> crc32 = [Sampled(b"%d" % i, zlib.crc32(b"%d" % i) % 4) for i in range(50)]
    >>> spread_of("outcomes", 4, crc32).hash
    'CRC32'
    """
    keys = sorted({(record.key, record.partition) for record in records if record.key is not None})
    keyed = sum(record.key is not None for record in records) / len(records) if records else 0.0
    said = len(keys) >= FEW_KEYS and partitions > 1
    shares = {
        name: sum(place(key or b"", partitions) == at for key, at in keys) / max(1, len(keys))
        for name, place in _HASHES.items()
    }
    best = max(shares, key=shares.__getitem__)
    return Spread(
        topic=topic, partitions=partitions, hash=best if said and shares[best] >= SURE else "", keyed=keyed, said=said
    )


def misplaced(predictions: Spread, outcomes: Spread) -> list[str]:
    """Why outcomes may not meet their predictions, in words that name the topic at fault; empty where they do.

    >>> java = Spread(topic="predictions", partitions=8, hash="murmur2", keyed=1.0, said=True)
    >>> c = Spread(topic="outcomes", partitions=8, hash="CRC32", keyed=1.0, said=True)
    >>> misplaced(java, java), [words.partition(":")[0] for words in misplaced(java, c)]
    ([], ['outcomes is hashed by CRC32, predictions by murmur2'])
    """
    if predictions.partitions != outcomes.partitions:
        return [
            f"{predictions.topic} has {predictions.partitions} partitions, {outcomes.topic} {outcomes.partitions}: "
            "an outcome and its prediction must be in partitions of one number"
        ]
    if predictions.partitions == 1:
        return []
    found = [
        f"{100 * (1 - one.keyed):.0f} % of the records of {one.topic} have no key and lie anywhere: key them by the id "
        "of the prediction"
        for one in (predictions, outcomes)
        if one.keyed < SURE
    ]
    hashed = [one for one in (outcomes, predictions) if one.said and one.keyed >= SURE]
    found += [
        f"{one.topic}: its keys do not lie where murmur2 or CRC32 would put them; its producer must use the "
        "partitioner of the other topic's"
        for one in hashed
        if not one.hash
    ]
    if len(hashed) > 1 and all(one.hash for one in hashed) and predictions.hash != outcomes.hash:
        guilty, other = (outcomes, predictions) if outcomes.hash == "CRC32" else (predictions, outcomes)
        found.append(
            f"{guilty.topic} is hashed by {guilty.hash}, {other.topic} by {other.hash}: outcomes lie in other "
            f"partitions than their predictions; {_REMEDY[guilty.hash]}"
        )
    return found


def apart(predictions: Sequence[Sampled], outcomes: Sequence[Sampled]) -> tuple[int, int]:
    """Of ids that both samples hold: in how many partitions differ, and how many there are.

    >>> apart([Sampled(None, 0, "a"), Sampled(None, 1, "b")], [Sampled(None, 0, "a"), Sampled(None, 3, "b")])
    (1, 2)
    """
    place = {record.id: record.partition for record in predictions if record.id}
    both = [(place[record.id], record.partition) for record in outcomes if record.id in place]
    return sum(one != other for one, other in both), len(both)
