"""`also: [adwin, {ddm: {drift_threshold: 4}}]`: river's detectors as people name them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, InstanceOf, WithJsonSchema

from detectors.charts.rivers import RIVERS, unfit
from schemas.layouts import OtherDetector

#: So many of them at most: each reads every matured pane.
MOST = 8


def other_detector(value: object) -> OtherDetector:
    """One entry: a name, or a name with parameters.

    >>> other_detector({"adwin": {"delta": 0.01}})
    OtherDetector(name='adwin', parameters={'delta': 0.01})
    """
    if isinstance(value, OtherDetector):
        return value
    name, given = value, object()
    if isinstance(value, dict) and len(value) == 1:
        [(name, given)] = value.items()
    else:
        given = {}
    if not isinstance(name, str) or not isinstance(given, dict):
        raise ValueError(f"must be one of {', '.join(RIVERS)}, or {{NAME: {{PARAMETER: number}}}}")
    wrong = [key for key, number in given.items() if isinstance(number, bool) or not isinstance(number, int | float)]
    if wrong:
        raise ValueError(f"{name}: {wrong[0]} must be a number, got {given[wrong[0]]!r}")
    found = OtherDetector(name=name, parameters={str(key): float(number) for key, number in given.items()})
    complaint = unfit(found)
    if complaint:
        raise ValueError(complaint)
    return found


_PARAMETERS = {
    name: {
        "type": "object",
        "additionalProperties": False,
        "properties": {parameter: {"type": "number"} for parameter in parameters},
    }
    for name, (_, parameters) in RIVERS.items()
}

RiverDetector: TypeAlias = Annotated[
    InstanceOf[OtherDetector],
    BeforeValidator(other_detector),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(RIVERS)},
                {"type": "object", "additionalProperties": False, "maxProperties": 1, "properties": _PARAMETERS},
            ]
        }
    ),
]
RiverDetectors: TypeAlias = Annotated[list[RiverDetector], Field(max_length=MOST)]
