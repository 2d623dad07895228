"""`tripline reset MODEL`: a model begins anew in a running deployment, at a pane ahead, without a restart.

It is a layout like the one in force, with a word in it: so it is exact, in order and audited as any layout is, and a
worker that comes back finds it on `control`.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from pathlib import Path

from schemas.errors import ConfigurationError
from streamer import spans
from streamer.applying import Change, begin_anew
from streamer.commands.apply import control_of_topic, times_of
from streamer.commands.connecting import settings_of
from streamer.complaints import nearest
from streamer.core.control import publish_layout
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import publish

LOST = (
    "the evidence of all its {monitors:,} monitors: charts begin at zero",
    "what the stream has taught: means of a first week, of yesterday, of the last days",
    "its open incident and alerts: they resolve, with the reason `reset`",
)
KEPT = "its reference, positions, counters, remembered ids, waiting predictions, reports, and cooldowns of retraining"


def reset(config: Path, model: str, *, reason: str = "", by: str = "", yes: bool = False, as_json: bool = False) -> int:
    """Say what is lost, and, on a person's word, put it in force; 1 when nobody gave it."""
    settings = settings_of(config)
    word = f"{by or getpass.getuser()}: {reason}" if reason else by or getpass.getuser()
    change = asyncio.run(planned(settings, model, word=word))
    if not as_json:
        _say(change)
    agreed = yes or _agreed(model)
    if agreed:
        asyncio.run(publish(settings, [publish_layout(change.layout)]))
    if as_json:
        layout = change.layout
        found = {"model": model, "from": spans.rfc3339(layout.from_ms), "layout": layout.id, "in_force": agreed}
        print(json.dumps(found, indent=2))
    else:
        print("in force; no worker need be restarted" if agreed else "nothing was changed; --yes puts it in force")
    return int(not agreed)


async def planned(settings: KafkaSettings, model: str, *, word: str) -> Change:
    """The layout with which a model begins anew; `ConfigurationError` when no such model is in force."""
    control = await control_of_topic(settings)
    if model not in control.models:
        raise ConfigurationError(f"no model {model!r} is in force" + nearest(model, list(control.models)))
    return begin_anew(model, control, times=await times_of(settings, control), word=word)


def _say(change: Change) -> None:
    layout = change.layout
    print(f"{layout.model} begins anew with its events from {spans.rfc3339(layout.from_ms)} on (event time). Lost is:")
    for line in LOST:
        print(f"  {line.replace('{monitors:,}', f'{layout.monitors:,}')}")
    print(f"Kept is {KEPT}.")


def _agreed(model: str) -> bool:
    return sys.stdin.isatty() and input(f"Name the model to go on [{model}]: ").strip() == model
