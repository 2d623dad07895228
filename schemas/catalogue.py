"""Every topic and what travels on it: the one list that the JSON Schemas and the AsyncAPI document are made from."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from schemas.alerts import Alert, AuditRecord, Incident, Mark
from schemas.control import Cluster, InputMapping, ReferenceHead
from schemas.envelopes import TYPES
from schemas.events import DeadLetter, FeatureRow, Outcome, Prediction
from schemas.layouts import Layout
from schemas.profiles import Delta, Progress
from schemas.triggers import Approval, RetrainTrigger
from schemas.verdicts import OutcomeReport, Verdict, WindowReport

JSON, MSGPACK, CLOUDEVENT = "application/json", "application/msgpack", "application/cloudevents+json"

Wire = type[msgspec.Struct]


class Channel(NamedTuple):
    """A topic by its logical name. ours: we write it; otherwise services or people do. kept: its cleanup policy."""

    name: str
    summary: str
    messages: tuple[Wire, ...]
    content: str
    key: str
    ours: bool
    kept: Literal["delete", "compact"] = "delete"


CHANNELS: tuple[Channel, ...] = (
    Channel("predictions", "What models answered.", (Prediction,), JSON, "the prediction's id, or none", ours=False),
    Channel("features", "Rows of feature sets.", (FeatureRow,), JSON, "the entity, or none", ours=False),
    Channel("outcomes", "What became of predictions.", (Outcome,), JSON, "the prediction's id", ours=False),
    Channel(
        "control",
        "What is in force: partition counts, layouts, mappings, references (chunks are raw bytes), and people's words.",
        (Cluster, Layout, InputMapping, ReferenceHead, Approval, Mark),
        JSON,
        "cluster, layout|<model>|<from_ms>, mapping|<input>|<from_ms>, reference|<id>|head, reference|<id>|<i>, or "
        "approval|<trigger id>, mark|<incident id>",
        ours=False,
        kept="compact",
    ),
    Channel(
        "profiles",
        "Counts from stage 1 to stage 2.",
        (Delta, Progress),
        MSGPACK,
        "the model, or source|<partition>",
        ours=True,
    ),
    Channel(
        "windows",
        "One report per closed pane, and one per outcome pane.",
        (WindowReport, OutcomeReport),
        CLOUDEVENT,
        "model|start|revision, or model|outcomes|start|revision",
        ours=True,
    ),
    Channel("alerts", "Transitions of each monitor's alert.", (Alert,), CLOUDEVENT, "the alert's id", ours=True),
    Channel(
        "incidents",
        "State of the incident of each model and version; what Alertmanager is told.",
        (Incident,),
        CLOUDEVENT,
        "model|version",
        ours=True,
        kept="compact",
    ),
    Channel(
        "retrain-triggers",
        "Requests to retrain; a job acts on state `approved` only, once per id.",
        (RetrainTrigger,),
        CLOUDEVENT,
        "the trigger's id",
        ours=True,
    ),
    Channel(
        "audit",
        "Named decisions, with the numbers that decided.",
        (AuditRecord,),
        CLOUDEVENT,
        "the model, or the subject",
        ours=True,
    ),
    Channel(
        "dead-letter",
        "Records that were not counted: where they are and why.",
        (DeadLetter,),
        JSON,
        "topic|partition|offset",
        ours=True,
    ),
)

#: Types that have a schema of their own: what travels, and what is inside that people ask for by name.
WIRE_TYPES: tuple[Wire, ...] = (*(message for channel in CHANNELS for message in channel.messages), Verdict)


def file_name(kind: Wire) -> str:
    """Name of a type's schema.

    >>> file_name(RetrainTrigger)
    'retrain_trigger'
    """
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")


def is_cloudevent(kind: Wire) -> bool:
    """Whether the record's value is a CloudEvent with this as its data."""
    return kind in TYPES
