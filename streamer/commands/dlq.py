"""`tripline dlq show | replay`: records that were not counted; see them, and write them again when they can be."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from schemas.errors import ConfigurationError
from schemas.events import DeadLetter, DropReason
from streamer import spans
from streamer.commands.connecting import settings_from, settings_of, since_of
from streamer.config import load
from streamer.kafka.letters import BYTES, RECORDS, Originals, Replay, originals, read_letters
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import Since
from streamer.letters import Pile, Wanted, as_line, place_of, summary, warnings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a replay would do: letters whose records were found, in their order; those left for a further run; all."""

    letters: list[DeadLetter]
    left: int
    originals: Originals
    pile: Pile


def show(
    config: Path,
    *,
    reason: str = "",
    model: str = "",
    since: str = "earliest",
    limit: int = 20,
    payload: bool = False,
    as_json: bool = False,
) -> None:
    """Print the last letters, and sums by reason over all that are meant. payload: read the records, too.

    Where a model has features that may not be read, no record is shown: whose a bad one is may not be known, nor where
    in it its features are. As in the dead letters themselves.
    """
    loaded = load(config)
    settings, wanted = settings_from(loaded), _wanted(reason, model)
    pile = asyncio.run(read_letters(settings, wanted, since=_since(since)))
    letters = pile.newest(limit)
    denying = sorted(name for name, one in loaded.config.models.items() if one.features.lists.given)
    if payload and denying:
        withheld = f"not shown: {denying[0]} has features that may not be read, and a bad record may have them anywhere"
        records = Originals(lost={place_of(letter): withheld for letter in letters})
    else:
        records = asyncio.run(originals(settings, letters)) if payload else Originals()
    if as_json:
        listed = [_plain(letter, pile, records) for letter in letters]
        sums = {name: asdict(of_reason) for name, of_reason in sorted(pile.sums.items())}
        print(json.dumps({"letters": listed, "summary": sums}, indent=2, ensure_ascii=False))
        return
    for letter in letters:
        place = place_of(letter)
        print(as_line(letter, again=place in pile.replayed))
        if payload and place in records.found:
            print(f"    {(records.found[place].value or b'').decode(errors='backslashreplace')}")
        elif payload:
            print(f"    {records.lost.get(place, 'not a record')}")
    if letters:
        print()
    print("\n".join(summary(pile.sums)) if pile.sums else "no dead letters")


def replay(
    config: Path,
    *,
    reason: str = "",
    model: str = "",
    since: str = "earliest",
    limit: int = RECORDS,
    dry_run: bool = False,
    yes: bool = False,
    as_json: bool = False,
) -> int:
    """Write records that were dropped again to their input; 0: all that were meant, 1: some cannot be had.

    Nothing is written with `dry_run`, nor without a person's word: `yes`, or an answer on a terminal.
    """
    settings, wanted, first = settings_of(config), _wanted(reason, model), _since(since)
    limit = min(limit or RECORDS, RECORDS)
    plan = asyncio.run(_planned(settings, wanted, first, limit))
    written = 0
    if not as_json:
        _say(plan)
    if plan.letters and not dry_run and (yes or _agreed(len(plan.letters))):
        plan, written = asyncio.run(_written(settings, wanted, first, limit))
    if as_json:
        lost = {str(place): why for place, why in sorted(plan.originals.lost.items())}
        places = [str(place_of(letter)) for letter in plan.letters]
        print(json.dumps({"written": written, "replayable": places, "left": plan.left, "lost": lost}, indent=2))
    elif written:
        print(f"{written:,} records written again; they are counted, or dropped with a new letter, as any other")
    elif plan.letters:
        print("nothing was written; --yes writes")
    return int(bool(plan.originals.lost))


async def _planned(settings: KafkaSettings, wanted: Wanted, since: Since, limit: int) -> Plan:
    pile = await read_letters(settings, wanted, since=since)
    letters = pile.open()
    chosen: list[DeadLetter] = []
    answer = Originals()
    size = looked = 0
    # In pieces: what retention took must not stand in the way of what is still there.
    while looked < len(letters) and len(chosen) < limit and size < BYTES:
        piece = letters[looked : looked + limit]
        looked += len(piece)
        found = await originals(settings, piece)
        answer.lost.update(found.lost)
        for letter in piece:
            place = place_of(letter)
            if place in found.found and len(chosen) < limit and size < BYTES:
                chosen.append(letter)
                answer.found[place] = found.found[place]
                size += letter.size
    left = len(letters) - len(chosen) - len(answer.lost)
    return Plan(letters=chosen, left=left, originals=answer, pile=pile)


async def _written(settings: KafkaSettings, wanted: Wanted, since: Since, limit: int) -> tuple[Plan, int]:
    """Plan anew once no other replay can write any more, and write."""
    async with Replay(settings) as one:
        plan = await _planned(settings, wanted, since, limit)
        return plan, await one.write(plan.letters, plan.originals.found, by=getpass.getuser())


def _say(plan: Plan) -> None:
    print("\n".join(summary(plan.pile.sums)) if plan.pile.sums else "no dead letters")
    for place, why in sorted(plan.originals.lost.items()):
        print(f"{place}: {why}")
    suppressed = sum(sums.suppressed for sums in plan.pile.sums.values())
    if suppressed:
        print(f"{suppressed:,} were suppressed: of them only the number is known, and they cannot be replayed")
    if plan.letters:
        size = sum(letter.size for letter in plan.letters)
        topics = ", ".join(sorted({letter.topic for letter in plan.letters}))
        print(f"{len(plan.letters):,} records ({size:,} bytes) can be written again to {topics}, each once")
    if plan.left:
        print(f"{plan.left:,} more are left for another run: a replay is one transaction of {RECORDS:,} at most")
    for words in warnings(plan.letters):
        print(words)


def _agreed(n: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"Write {n:,} records again? [y/N] ").strip().lower() in ("y", "yes")


def _wanted(reason: str, model: str) -> Wanted:
    known = [one.value for one in DropReason]
    if reason and reason not in known:
        raise ConfigurationError(f"--reason {reason!r}: must be one of {', '.join(known)}")
    return Wanted(reason=reason, model=model)


def _since(text: str) -> Since:
    """`24h` ago, or as `since_of`."""
    try:
        return time.time_ns() // 1_000_000 - spans.duration(text)
    except ValueError:
        return since_of(text)


def _plain(letter: DeadLetter, pile: Pile, records: Originals) -> dict[str, object]:
    place = place_of(letter)
    plain: dict[str, object] = msgspec.to_builtins(letter)
    plain["replayed"] = place in pile.replayed
    if place in records.found:
        plain["record"] = (records.found[place].value or b"").decode(errors="backslashreplace")
    elif place in records.lost:
        plain["lost"] = records.lost[place]
    return plain
