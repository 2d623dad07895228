"""Every limit has a default in the configuration, a metric, and a test here that hits it, or one that is named here.

versions, segment_values: tests/core/test_merging.py; tested_views: tests/test_config_misfits.py; open_panes:
tests/core/test_open_panes.py; event_bytes, nesting, string_length: tests/core/test_bad_records.py; pending_rows:
tests/core/test_joining.py; duplicates_window: tests/core/test_recent.py; memory: tests/integration/test_memory.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.events import DeadLetter
from streamer.applying import load_references, targets
from streamer.config import ConfigurationErrors, LimitsSection, load_text
from streamer.core.control import Control
from streamer.core.profiling import apply, start
from streamer.core.records import Batch, Output
from streamer.metrics import MORE
from streamer.stages import Profiling
from tests.core.stage1 import CONTROL, SOURCE, record
from tests.histories import write_reference
from tests.kafka.test_tasks import SETTINGS, Bench, Noting

TWO = "  m: {reference: reference.json, pane: 1h}\n  n: {reference: reference.json, pane: 1h}\n"


def refused(folder: Path, limits: str) -> str:
    """What is said of a file of two models with a number and a category of two levels."""
    write_reference(folder)
    text = f"limits: {limits}\nmodels:\n{TWO}"
    loaded = load_text(text, file=str(folder / "tripline.yaml"))
    with pytest.raises(ConfigurationErrors) as raised:
        targets(loaded, load_references(loaded))
    return str(raised.value)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("{models: 1}", "models: 2 of them; limits.models is 1"),
        ("{features: 1}", "reference: has 2 features; limits.features is 1"),
        ("{levels: 1}", "reference: country has 2 levels; limits.levels is 1"),
    ],
)
def test_a_file_beyond_a_limit_is_refused_at_its_place(tmp_path: Path, limits: str, said: str) -> None:
    message = refused(tmp_path, limits)
    assert said in message
    assert message.startswith(f"{tmp_path / 'tripline.yaml'}:")


def test_dead_letters_beyond_their_rate_are_one_that_counts_them() -> None:
    """Accounts stay exact: seven were dropped, two have letters, one letter stands for five."""
    state = start(CONTROL, SOURCE, dead_letter_limit=2)
    batch = Batch("predictions", [record(b"{", offset=i) for i in range(7)], 7)
    state, outputs = apply(state, batch, CONTROL)
    letters = [msgspec.json.decode(o.value or b"", type=DeadLetter) for o in outputs if o.topic == "dead-letter"]
    assert [(letter.kind == "suppressed", letter.count) for letter in letters] == [(False, 1), (False, 1), (True, 5)]
    assert (state.drops["decode"], state.suppressed) == (7, 5)
    assert Profiling().counts(state).more["dead_letters_suppressed", ""] == 5
    assert "dead_letters_suppressed" in MORE


class Wordy(Noting):
    """A stage that says a hundred bytes per record."""

    def apply(self, control: Control, state: Any, batch: Batch) -> tuple[Any, list[Output]]:
        state, outputs = super().apply(control, state, batch)
        return state, [*outputs, Output("windows", b"", b"x" * 100 * len(batch.records))]


async def test_a_transaction_that_wrote_too_much_halves_the_next_batch() -> None:
    """Nothing is dropped: the rest comes in later batches, and the bound is there to be seen."""
    bench = Bench(Wordy(), replace(SETTINGS, batch_bytes=600))
    bounds, sizes = [], list[int]()
    bench.feed(*range(40), now=100.0)
    for step in range(9):
        batch = bench.task.offer(now=101.0 + step)
        assert batch is not None
        bench.task.take(batch)
        sizes.append(len(batch.records))
        bounds.append(bench.task.rows_bound)
        await bench.commit()
        if sum(sizes) == 40:
            break
        await asyncio.sleep(0)
    assert sizes[:4] == [10, 5, 10, 5]
    assert bounds[:4] == [5, 10, 5, 10]
    assert sum(sizes) == 40


def test_every_limit_has_a_default_that_is_accepted() -> None:
    limits: Mapping[str, Any] = LimitsSection().model_dump()
    assert min(limits.values()) > 0
    assert {"models", "features", "levels", "memory", "batch_output", "dead_letters"} <= limits.keys()
