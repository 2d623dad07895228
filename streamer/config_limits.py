"""How large a file and its references may be, each fault at its place; what data makes grow is bounded elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from detectors.references import Reference
from schemas.errors import ConfigurationError
from streamer.config import Loaded


def too_large(loaded: Loaded, references: Mapping[str, Reference]) -> Iterator[ConfigurationError]:
    """Models, features and levels beyond `limits`: the message has both numbers."""
    limits = loaded.config.limits
    if len(references) > limits.models:
        yield loaded.fault("models", message=f"{len(references)} of them; limits.models is {limits.models}")
    for name, reference in references.items():
        features = len(reference.specs)
        if features > limits.features:
            message = f"has {features} features; limits.features is {limits.features}"
            yield loaded.fault("models", name, "reference", message=message)
        for spec in reference.specs:
            if len(spec.levels) > limits.levels:
                message = f"{spec.name} has {len(spec.levels)} levels; limits.levels is {limits.levels}"
                yield loaded.fault("models", name, "reference", message=message)
