"""A sample of events through the stream's own decoder: would they count, and if not, why?

Each line of the file is one event. It is an error when none would count; a warning for each line that would not (an
unknown model among them), for each feature that the reference does not know or knows as another type, and for each of
the reference's that no event carries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.profiles import Table as DeltaTable
from detectors.references import Reference
from schemas.errors import ConfigurationError
from schemas.events import DeadLetter
from schemas.layouts import Layout
from schemas.profiles import Delta, decode
from streamer.applying import control_of
from streamer.config import Loaded
from streamer.core import profiling
from streamer.core.records import Batch, Output, PlainRecord
from streamer.core.tallies import decode_rows

#: Lines that are named one by one.
SHOWN = 20

#: What is said of an extra of a delta, by its kind.
_ODD = {
    "unknown": "is in {n}, but not in the reference",
    "wrong_type": "has a value of a wrong type in {n}",
    "unseen": "has levels that the reference never saw in {n}",
}


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
    tables = {name: DeltaTable(reference.specs) for name, reference in references.items()}
    records = [decode(output.value or b"") for output in outputs if output.topic == "profiles"]
    counted = [record for record in records if isinstance(record, Delta)]
    warnings += _about_features(counted, str(path))
    warnings += _absent(counted, tables, str(path))
    if state.denied:
        message = f"{state.denied} value{'s' * (state.denied != 1)} of features that are denied: they are not read"
        warnings.append(ConfigurationError(message, file=str(path)))
    if state.applied == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in state.drops.items() if count)
        return [ConfigurationError(f"no event of {len(lines)} would count: {reasons}", file=str(path))], warnings
    return [], warnings


def _counted(
    loaded: Loaded, layouts: Mapping[str, Layout], references: Mapping[str, Reference], lines: list[bytes]
) -> tuple[list[Output], profiling.ProfilingState]:
    """Every line through the input that its models are read from; where both are, that of the first line that fits."""
    control = control_of(layouts, references, mappings=loaded.config.mapping)
    best: tuple[list[Output], profiling.ProfilingState] | None = None
    for input in sorted({layout.kind for layout in layouts.values()}, reverse=True):
        state = profiling.start(control, 0)
        # No append time: a sample may be old or made up.
        records = [PlainRecord(input, 0, i, -1, None, line) for i, line in enumerate(lines)]
        state, outputs = profiling.apply(state, Batch(input, records, len(lines)), control)
        if best is None or state.applied > best[1].applied:
            best = (outputs, state)
    assert best is not None
    return best


def _about_features(deltas: Iterable[Delta], file: str) -> list[ConfigurationError]:
    found = []
    odd: Counter[tuple[str, str, str]] = Counter()
    for delta in deltas:
        for extra in delta.extras:
            odd[delta.model, extra.kind, extra.feature or extra.name] += extra.count
    for (model, kind, feature), count in sorted(odd.items()):
        if kind in _ODD:
            message = _ODD[kind].format(n=f"{count} event{'s' * (count != 1)}")
            found.append(ConfigurationError(f"{feature} {message}", file=file, path=model))
    return found


def _absent(deltas: Iterable[Delta], tables: Mapping[str, DeltaTable], file: str) -> Iterator[ConfigurationError]:
    """Features of a model's reference that are missing from every event of the model."""
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for delta in deltas:
        if delta.width == tables[delta.model].width:
            rows = decode_rows(delta)
            total = counts.setdefault(delta.model, np.zeros(delta.width, dtype=np.int64))
            # Rows of marginal tables hold the events of the cells once more, and stand behind them.
            cells = rows.bounds[sum(not row.marginal for row in delta.rows)]
            np.add.at(total, rows.column[:cells], rows.values[:cells])
    for model, total in sorted(counts.items()):
        table = tables[model]
        for spec in table.specs:
            of_feature = total[table.features[spec.name]]
            events = int(of_feature.sum())
            if events and of_feature[spec.columns.index("missing")] == events:
                says = f"{spec.name} is in the reference, but in none of the {events} events that would count"
                yield ConfigurationError(says, file=file, path=model)
