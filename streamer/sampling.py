"""A sample of events through the stream's own decoder: would they count, and if not, why?

Each line of the file is one event. It is an error when none would count, a warning for each line that would not,
and for each feature that the reference does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from detectors.references import Reference
from schemas.errors import ConfigurationError
from schemas.events import DeadLetter
from schemas.layouts import Layout
from schemas.profiles import Delta, decode
from streamer.applying import control_of
from streamer.config import Loaded
from streamer.core import profiling
from streamer.core.records import Batch, Output, PlainRecord

#: Lines that are named one by one.
SHOWN = 20


def sample_findings(
    loaded: Loaded, layouts: Mapping[str, Layout], references: Mapping[str, Reference], path: Path
) -> tuple[list[ConfigurationError], list[ConfigurationError]]:
    """Errors and warnings about a file of events, one JSON a line."""
    try:
        numbered = [(n, line) for n, line in enumerate(path.read_bytes().splitlines(), start=1) if line.strip()]
    except OSError as error:
        return [ConfigurationError(f"cannot be read: {error.strerror}", file=str(path))], []
    lines = [line for _, line in numbered]
    if not lines:
        return [ConfigurationError("has no events", file=str(path))], []
    outputs, state = _counted(loaded, layouts, references, lines)
    letters = [msgspec.json.decode(o.value or b"", type=DeadLetter) for o in outputs if o.topic == "dead-letter"]
    refused = [letter for letter in letters if letter.kind == "record"]
    warnings = [
        ConfigurationError(
            f"would be dropped: {letter.reason}" + (f": {letter.detail}" if letter.detail else ""),
            file=str(path), line=numbered[letter.offset][0], path=letter.model,
        )
        for letter in refused[:SHOWN]
    ]  # fmt: skip
    dropped = sum(state.drops.values())
    if dropped > len(warnings):
        warnings.append(ConfigurationError(f"{dropped - len(warnings)} more lines would be dropped", file=str(path)))
    warnings += _about_features(outputs, references, str(path))
    if state.applied == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in state.drops.items() if count)
        return [ConfigurationError(f"no event of {len(lines)} would count: {reasons}", file=str(path))], warnings
    return [], warnings


def _counted(
    loaded: Loaded, layouts: Mapping[str, Layout], references: Mapping[str, Reference], lines: list[bytes]
) -> tuple[list[Output], profiling.ProfilingState]:
    """Every line through the input that its models are read from; where both are, that of the first line that fits."""
    mappings = loaded.config.mapping
    control = control_of(layouts, references)
    best: tuple[list[Output], profiling.ProfilingState] | None = None
    for input in sorted({layout.kind for layout in layouts.values()}, reverse=True):
        state = profiling.start(control, 0, mappings=mappings)
        # No append time: a sample may be old or made up.
        records = [PlainRecord(input, 0, i, -1, None, line) for i, line in enumerate(lines)]
        state, outputs = profiling.apply(state, Batch(input, records, len(lines)), control)
        if best is None or state.applied > best[1].applied:
            best = (outputs, state)
    assert best is not None
    return best


def _about_features(outputs: list[Output], references: Mapping[str, Reference], file: str) -> list[ConfigurationError]:
    found = []
    unknown: Counter[tuple[str, str, str]] = Counter()
    for output in outputs:
        record = decode(output.value or b"") if output.topic == "profiles" else None
        if not isinstance(record, Delta):
            continue
        for extra in record.extras:
            unknown[record.model, extra.kind, extra.feature or extra.name] += extra.count
    says = {
        "unknown": "is in {n} events, but not in the reference",
        "wrong_type": "has a value of a wrong type in {n} events",
        "unseen": "has levels that the reference never saw in {n} events",
    }
    for (model, kind, feature), count in sorted(unknown.items()):
        if kind in says:
            message = says[kind].format(n=count)
            found.append(ConfigurationError(f"{feature} {message}", file=file, path=model))
    return found
