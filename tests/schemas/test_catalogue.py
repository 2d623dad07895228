"""The published contract: committed files equal the types, are valid, and accept what we write."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from schemas.alerts import Alert, AlertState, AuditRecord, Evidence, Incident, Mark, Reason
from schemas.catalogue import CHANNELS, WIRE_TYPES, Wire, file_name
from schemas.control import Cluster, InputMapping, ReferenceHead
from schemas.envelopes import TYPES, Message, wrap
from schemas.events import DeadLetter, DropReason, FeatureRow, Outcome, Prediction
from schemas.layouts import Layout, RetrainPolicy, View
from schemas.profiles import Delta, DeltaRow, Progress
from schemas.triggers import Approval, RetrainTrigger
from schemas.verdicts import (
    CalibrationReport,
    CellCount,
    FeatureReport,
    MarginalCount,
    Metric,
    OutcomeReport,
    OutcomeVerdict,
    OutcomeViewReport,
    ReliabilityRow,
    Status,
    Verdict,
    ViewReport,
    WindowReport,
)
from streamer.commands.schema import documents, export, json_schema

EVIDENCE = Evidence(
    feature="age", detector="distribution", direction="location up", view=View("country", "FR"), size=0.4
)
VERDICT = Verdict(status=Status.UNDECIDED, value=0.0, limit=360.0, n=12, effective_n=3.5, reference="r1")
METRIC = Metric(name="accuracy", n=11, value=0.8, low=0.5, high=0.9, interval="wilson")
EXAMPLES: tuple[msgspec.Struct, ...] = (
    Prediction(id="a1", model="credit", ts=1_735_689_600_000, features={"age": 41, "job": None}, proba={"0": 0.9}),
    FeatureRow(feature_set="users", ts="2025-01-01T00:00:00Z", features={"age": 41.5, "vip": True}),
    Outcome(id="a1", ts=1_735_689_600_000.5, label=1, prediction=Prediction(id="a1", model="credit", ts=0)),
    Cluster(sources=4, profiles=8),
    InputMapping(input="predictions", fields={"ts": "meta.at"}, features="in.*", constants={"model": "credit"}),
    Layout(
        model="credit", from_ms=0, reference="r1", views=(View(), View("country", "FR")), policies=(RetrainPolicy(),)
    ),
    ReferenceHead(id="r1", chunks=2, size=700_000, sha256="00"),
    Approval(trigger="t1", decision="approve", by="me", at=0),
    Mark(incident="i1", model="credit", word="false", by="me", at=0, opened_at=0),
    WindowReport(
        model="credit",
        layout="l1",
        reference="r1",
        start=0,
        end=60_000,
        revision=0,
        n=12,
        late_n=0,
        cells=[CellCount(version="3", segment=("FR",), n=12)],
        views=[
            ViewReport(view=View(), n=12, features=[FeatureReport(feature="age", n=12, missing=0.0, verdict=VERDICT)])
        ],
        marginals=[MarginalCount(column="device", version="3", value="ios", n=12)],
    ),
    OutcomeReport(
        model="credit",
        layout="l1",
        reference="r1",
        start=0,
        end=3_600_000,
        revision=1,
        early=False,
        n=11,
        expected=12,
        late_n=0,
        coverage=0.917,
        views=[
            OutcomeViewReport(
                view=View(),
                n=11,
                expected=12,
                metrics=[METRIC],
                calibration=CalibrationReport(
                    n=11,
                    ece=0.1,
                    ece_noise=0.08,
                    ece_debiased=METRIC,
                    slope=METRIC,
                    intercept=METRIC,
                    reliability=[ReliabilityRow(11, 0.2, 0.3, 0.1, 0.6)],
                ),
            )
        ],
        delays={"1": {"p50": 7_200_000.0}},
        verdicts=[OutcomeVerdict(view=View(), feature="error", verdict=VERDICT)],
    ),
    Alert(
        id="al",
        incident="i1",
        model="credit",
        version="3",
        state=AlertState.FIRING,
        reason=Reason.ABOVE_LIMIT,
        evidence=EVIDENCE,
        starts_at=0,
        window_end=60_000,
        layout="l1",
        reference="r1",
    ),
    Incident(
        id="i1",
        model="credit",
        version="3",
        state=AlertState.FIRING,
        severity="page",
        opened_at=0,
        updated_at=0,
        sequence=0,
        evidence=[EVIDENCE],
        open_alerts=1,
    ),
    RetrainTrigger(
        id="t1",
        model="credit",
        version="3",
        policy="default",
        state="approved",
        incident="i1",
        window_end=0,
        opened_at=0,
        reference="r1",
        evidence=[EVIDENCE],
    ),
    AuditRecord(subject="t1", decision="trigger", reason=Reason.POLICY_MET, at=0, details={"n": 1, "why": None}),
    DeadLetter(reason=DropReason.DECODE, topic="predictions", partition=0, offset=7),
    VERDICT,
)
MESSAGES = tuple(example for example in EXAMPLES if type(example) in TYPES)
#: Delta and Progress travel as msgpack; their schema tells the same structure.
BINARY: tuple[msgspec.Struct, ...] = (
    Delta(0, 0, 5, 0, 1, 3, "credit", "l1", 60_000, 4, [DeltaRow(0, "3", ("FR",))], b"\x00"),
    Progress(0, 5, 5, 0, 1, 4, True, {"credit": 60_000}),
)


def value_of(example: msgspec.Struct) -> Any:
    """The record's value as JSON: a CloudEvent where it travels in one."""
    if type(example) in TYPES:
        message: Any = example
        return json.loads(wrap(message, id="x", source="/tripline/0", subject="s", at=0)[0])
    return json.loads(msgspec.json.encode(example))


def committed(name: str) -> str:
    return files("schemas").joinpath(name).read_text(encoding="utf-8")


def validator(kind: Wire) -> Draft202012Validator:
    return Draft202012Validator(json.loads(committed(f"jsonschema/{file_name(kind)}.json")))


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_committed_document_is_the_one_that_the_types_give(name: str) -> None:
    """When this fails: `make schema`, and think whether readers of the old records can read the new ones."""
    assert committed(name) == documents()[name]


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=file_name)
def test_every_schema_is_valid_json_schema(kind: Wire) -> None:
    Draft202012Validator.check_schema(json_schema(kind))


@pytest.mark.parametrize("example", [*EXAMPLES, *BINARY], ids=lambda example: file_name(type(example)))
def test_what_we_write_is_what_the_schema_says(example: msgspec.Struct) -> None:
    validator(type(example)).validate(value_of(example))


def test_every_wire_type_has_an_example_here() -> None:
    assert {type(example) for example in (*EXAMPLES, *BINARY)} == set(WIRE_TYPES)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: file_name(type(message)))
@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type", "data"])
def test_a_cloudevent_without_a_required_attribute_is_refused(message: Message, attribute: str) -> None:
    value = value_of(message)
    del value[attribute]
    with pytest.raises(ValidationError, match=attribute):
        validator(type(message)).validate(value)


def test_a_prediction_without_a_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="'ts' is a required property"):
        validator(Prediction).validate({"id": "a", "model": "credit"})


def test_asyncapi_refers_only_to_what_is_there() -> None:
    document = yaml.safe_load(committed("asyncapi.yaml"))
    names = {file_name(kind) for channel in CHANNELS for kind in channel.messages}
    assert document["asyncapi"] == "3.1.0"
    assert set(document["channels"]) == {channel.name for channel in CHANNELS}
    assert set(document["components"]["messages"]) == names
    payloads = {message["payload"]["schema"]["$ref"] for message in document["components"]["messages"].values()}
    assert payloads == {f"./jsonschema/{name}.json" for name in names}
    channels = {operation["channel"]["$ref"] for operation in document["operations"].values()}
    assert channels == {f"#/channels/{channel.name}" for channel in CHANNELS}


def test_export_writes_all_and_removes_what_is_no_more(tmp_path: Path) -> None:
    gone = tmp_path / "jsonschema" / "gone.json"
    gone.parent.mkdir()
    gone.write_text("{}")
    written = export(tmp_path)
    assert not gone.exists()
    assert sorted(str(path.relative_to(tmp_path)) for path in written) == sorted(documents())
