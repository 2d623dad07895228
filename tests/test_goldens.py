"""State that a released version has left on people's disks is read by this one; state of a newer one is refused."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import msgspec
import pytest

from schemas.errors import FormatError
from streamer.core import monitoring, profiling
from streamer.stages import Monitoring, Profiling
from tests.goldens.making import HERE, control_of, make, read, run

GOLDENS = sorted(HERE.glob("*.json.gz"))
INPUTS = ("predictions", "outcomes")


def versions(path: Path) -> str:
    return path.name.removesuffix(".json.gz")


@pytest.mark.parametrize("path", GOLDENS, ids=versions)
def test_what_a_version_left_is_restored_and_goes_on(path: Path) -> None:
    """Every kind of record is in it; digests fit, the open incident is there, and further events are counted."""
    golden = read(path)
    control = control_of(golden["control"])
    assert {key.partition(b"|")[0] for key, _ in golden["monitoring"]} == {
        b"position", b"clock", b"ledger", b"chart", b"held", b"late", b"outcome",
    }  # fmt: skip
    first = Profiling(inputs=INPUTS).restore(control, 0, golden["profiling"])
    second = Monitoring().restore(control, 0, golden["monitoring"])
    assert first is not None
    second = Monitoring().verify(control, Monitoring().replay(control, second, golden["profiles"]))
    assert [first.consumed, second.counters.consumed] == golden["consumed"]
    assert second.incidents_open == 1
    assert first.waiting > 0
    _, decided, _ = run(first, second, golden["events"], control)
    assert first.consumed == golden["consumed"][0] + len(golden["events"])
    assert len([output for output in decided if output.topic == "windows"]) >= 3


@pytest.mark.parametrize("path", GOLDENS, ids=versions)
def test_the_layout_in_force_has_the_id_that_it_had(path: Path) -> None:
    """Another one would be a layout that nobody had told of in time: no worker would start after an upgrade."""
    golden = read(path)
    (layout,) = control_of(golden["control"]).models["m"]
    state = Monitoring().restore(control_of(golden["control"]), 0, golden["monitoring"])
    assert state.models["m"].layout == layout.id
    assert state.models["m"].known == [layout.id]


def test_the_newest_golden_has_every_kind_of_record_that_this_version_writes() -> None:
    """A kind that is new needs a golden that has it: `python -m tests.goldens.making VERSION`."""
    made, golden = make(), read(GOLDENS[-1])
    for stage in ("profiling", "monitoring"):
        today = {b64decode(key).partition(b"|")[0] for key, _ in made[stage]}
        assert today == {key.partition(b"|")[0] for key, _ in golden[stage]}


@pytest.mark.parametrize(
    ("stage", "kind"),
    [("profiling", b"position"), *(("monitoring", kind) for kind in (b"position", b"clock", b"ledger", b"held"))],
)
def test_state_of_a_newer_version_is_refused_with_both_numbers(stage: str, kind: bytes) -> None:
    golden = read(GOLDENS[-1])
    control = control_of(golden["control"])

    def newer(key: bytes, value: bytes) -> bytes:
        if key.partition(b"|")[0] != kind:
            return value
        return msgspec.msgpack.encode({**msgspec.msgpack.decode(value), "format": 99})

    pairs = [(key, newer(key, value)) for key, value in golden[stage]]
    restore = {"profiling": profiling.restore, "monitoring": lambda p, c: monitoring.restore(p, c, 0)}[stage]
    with pytest.raises(FormatError, match=r"format 99; this worker reads up to \d"):
        restore(pairs, control)
