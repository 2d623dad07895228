"""`also: [adwin, {ddm: {drift_threshold: 4}}]`: river's detectors as people name them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, InstanceOf, WithJsonSchema

from detectors.charts.rivers import OF_OUTCOMES, OF_STATISTICS, RIVERS, unfit
from schemas.layouts import OtherDetector

#: So many of them at most: each reads every matured pane.
MOST = 8


def other_detector(value: object, among: Sequence[str] = OF_OUTCOMES) -> OtherDetector:
    """One entry: a name, ours or river's own (`river.PageHinkley`), or a name with parameters.

    among: those that may be named here.

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
        raise ValueError(f"must be one of {', '.join(among)}, or {{NAME: {{PARAMETER: number}}}}")
    wrong = [key for key, number in given.items() if isinstance(number, bool) or not isinstance(number, int | float)]
    if wrong:
        raise ValueError(f"{name}: {wrong[0]} must be a number, got {given[wrong[0]]!r}")
    bare = name.removeprefix("river.").lower().replace("_", "")
    name = next((known for known in RIVERS if known.replace("_", "") == bare), name)
    found = OtherDetector(name=name, parameters={str(key): float(number) for key, number in given.items()})
    complaint = unfit(found, among)
    if complaint:
        raise ValueError(complaint)
    return found


def _schema(among: Sequence[str]) -> dict[str, Any]:
    parameters = {
        name: {
            "type": "object",
            "additionalProperties": False,
            "properties": {parameter: {"type": "number"} for parameter in RIVERS[name][1]},
        }
        for name in among
    }
    return {
        "anyOf": [
            {"enum": list(among)},
            {"type": "string", "pattern": r"^river\.[A-Za-z_]+$"},
            {"type": "object", "additionalProperties": False, "maxProperties": 1, "properties": parameters},
        ]
    }


#: On ones and zeros of matured outcome panes.
RiverDetector: TypeAlias = Annotated[
    InstanceOf[OtherDetector], BeforeValidator(other_detector), WithJsonSchema(_schema(OF_OUTCOMES))
]
RiverDetectors: TypeAlias = Annotated[list[RiverDetector], Field(max_length=MOST)]
#: On a statistic, one value a pane.
SeriesDetector: TypeAlias = Annotated[
    InstanceOf[OtherDetector],
    BeforeValidator(partial(other_detector, among=OF_STATISTICS)),
    WithJsonSchema(_schema(OF_STATISTICS)),
]
