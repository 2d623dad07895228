"""The configuration: one YAML file, its types, and `load`, which finds every error at once, each with its line.

Why: a person edits this file at night. A message names the file, the line, the place and the value; a key that is not
known is an error with the nearest known one; nothing is started on a file that is half right.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from schemas.errors import ConfigurationError
from schemas.layouts import Limits
from streamer.complaints import complaints
from streamer.config_conditions import Expression, Group, Line, misplaced
from streamer.config_connections import Alertmanager, Kafka, Metrics, Tls
from streamer.config_fields import DurationOrOff, Flag, Int, Name, Number, off_or, place_to_start
from streamer.config_model import Expectations, Model
from streamer.config_section import Secret, Section
from streamer.core.drops import LETTERS
from streamer.documents import Document, Place, parse, read

if TYPE_CHECKING:
    from streamer.formats.mapping import TopicMapping

__all__ = [
    "Alertmanager", "Config", "ConfigurationErrors", "Expectations", "LimitsSection", "Loaded", "MappingSection",
    "Model", "Secret", "Section", "Tls", "json_schema", "load", "load_text",
]  # fmt: skip


class LimitsSection(Section):
    """Bounds on what data and configuration can make grow."""

    models: Annotated[Int, Field(ge=1)] = Field(default=10_000, description="In this file; more are refused.")
    features: Annotated[Int, Field(ge=1)] = Field(
        default=2_000, description="Of a reference, outputs included; one with more is refused."
    )
    levels: Annotated[Int, Field(ge=1)] = Field(
        default=1_000, description="Of one feature of a reference; one with more is refused."
    )
    memory: Annotated[Int, Field(ge=100_000_000)] = Field(
        default=4_000_000_000, description="Bytes of a worker; beyond, it says so and stops (exit 74)."
    )
    batch_output: Annotated[Int, Field(ge=10_000)] = Field(
        default=8_000_000, description="Bytes that a transaction should write; beyond, the next batch is half as large."
    )
    dead_letters: Annotated[Int, Field(ge=1)] = Field(
        default=LETTERS, description="Of a batch and reason; the others share one letter that counts them."
    )
    versions: Annotated[Int, Field(ge=1)] = Limits().versions
    segment_values: Annotated[Int, Field(ge=1)] = Limits().segment_values
    tested_views: Annotated[Int, Field(ge=1, le=64)] = Limits().tested_views
    open_panes: Annotated[Int, Field(ge=2)] = Field(
        default=Limits().open_panes, description="Of a model at once; events of further ones are dropped as over_limit."
    )
    event_bytes: Annotated[Int, Field(ge=1_000)] = Limits().event_bytes
    nesting: Annotated[Int, Field(ge=4, le=500)] = Limits().nesting
    string_length: Annotated[Int, Field(ge=1)] = Limits().string_length
    duplicates_window: Annotated[Int, Field(ge=0)] = Field(default=100_000, description="Ids remembered per partition.")
    pending_rows: Annotated[Int, Field(ge=0, le=100_000_000)] = Field(
        default=Limits().pending_rows, description="Predictions per partition that may wait for an outcome."
    )


class MappingSection(Section):
    """How an input that is not ours is read: our field → dotted path, constants, the form of its times."""

    fields: dict[str, str] = Field(description="Our field: path, for instance ts: meta.at. segment.NAME, proba.NAME.")
    features: dict[str, str] | str = Field(default={}, description="name: path, or in.* for a whole object.")
    constants: dict[str, str | Number | Flag] = Field(default={})
    timestamp: str = Field(default="ms", description="ms, s, us, ns, rfc3339, or a strptime format.")

    def build(self) -> TopicMapping:
        """The mapping as the decoder takes it; ValueError says what does not fit."""
        from streamer.formats.mapping import TopicMapping

        return TopicMapping(
            fields=self.fields, features=self.features, constants=self.constants, timestamp=self.timestamp
        )


if TYPE_CHECKING:
    ReadBy: TypeAlias = TopicMapping
    InputName: TypeAlias = str
else:
    InputName = Literal["predictions", "features", "outcomes"]
    ReadBy = Annotated[MappingSection, AfterValidator(MappingSection.build)]


class Config(Section):
    """The whole file."""

    kafka: Kafka | None = None
    alertmanager: Alertmanager | None = None
    metrics: Metrics = Metrics()
    start: Annotated[
        Literal["latest", "earliest"] | int,
        BeforeValidator(place_to_start),
        WithJsonSchema({"type": "string", "examples": ["latest", "earliest", "2025-01-31T14:00:00Z"]}),
    ] = Field(default="latest", description="Where a worker without a position begins to read.")
    max_alert_age: DurationOrOff = Field(default=86_400_000, description="For every model that does not say otherwise.")
    dead_letter_payload: Flag = Field(default=False, description="Keep the payload of bad records.")
    limits: LimitsSection = LimitsSection()
    mapping: dict[InputName, ReadBy] = Field(default={}, description="How an input that is not ours is read.")
    conditions: dict[Name, Expression] = Field(default={}, description="Conditions by name, for when and page_when.")
    models: dict[Name, Model] = Field(min_length=1)

    @model_validator(mode="after")
    def _nothing_denied_kept(self) -> Config:
        denying = [name for name, model in self.models.items() if model.features.lists.given]
        if self.dead_letter_payload and denying:
            raise ValueError(
                f"dead_letter_payload keeps bad records whole, with what {denying[0]} denies: one of the two has to go"
            )
        return self

    @field_validator("mapping")
    @classmethod
    def _of_outcomes(cls, mapping: dict[InputName, ReadBy]) -> dict[InputName, ReadBy]:
        if "outcomes" in mapping:
            from streamer.formats.outcomes import FIELDS

            named = {*mapping["outcomes"].fields, *mapping["outcomes"].constants}
            strangers = sorted(named - FIELDS)
            if strangers:
                raise ValueError(
                    f"outcomes: {strangers[0]} is nothing that an outcome says; it has {', '.join(sorted(FIELDS))}"
                )
            if "id" not in named:
                raise ValueError("outcomes: id must be mapped: by it they are joined")
        return mapping


class Loaded:
    """A configuration with its file: places for messages, and the folder that its paths are relative to.

    >>> loaded = load_text("models: {credit: {reference: credit.json}}", file="conf/tripline.yaml")
    >>> loaded.config.models["credit"].pane, str(loaded.path_of("references/a.json"))
    (300000, 'conf/references/a.json')
    """

    def __init__(self, config: Config, document: Document) -> None:
        self.config, self.document = config, document

    def path_of(self, path: str) -> Path:
        """A path of the file, relative to it."""
        return Path(self.document.file).parent / path

    def fault(self, *place: str | int, message: str) -> ConfigurationError:
        """An error at a place of the file."""
        return self.document.fault(place, message)


class ConfigurationErrors(ConfigurationError):
    """All that is wrong with one file, a line each."""

    def __init__(self, errors: list[ConfigurationError]) -> None:
        self.errors = sorted(errors, key=lambda error: (error.line, error.path))
        super().__init__("\n".join(str(error) for error in self.errors))


def load(path: Path) -> Loaded:
    """Configuration of a file; `ConfigurationErrors` with every error in it."""
    return _checked(read(path))


def load_text(text: str, *, file: str = "tripline.yaml") -> Loaded:
    """Configuration of a text, as if it stood in `file`."""
    return _checked(parse(text, file=file))


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors; `deploy/tripline.schema.json` is its copy."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "tripline.yaml"}


def _checked(document: Document) -> Loaded:
    faults = list(document.faults)
    if not isinstance(document.data, dict):
        raise ConfigurationErrors([document.fault((), "must be a mapping with `models:` in it")])
    data = _inherit(document.data)
    try:
        config = Config.model_validate(data, context={"folder": Path(document.file).parent})
    except ValidationError as error:
        faults += complaints(error, document, Config)
        raise ConfigurationErrors(faults) from None
    faults += _misplaced(config, document)
    if faults:
        raise ConfigurationErrors(faults)
    return Loaded(config, document)


def _misplaced(config: Config, document: Document) -> list[ConfigurationError]:
    used: list[tuple[Place, Line | Group | None]] = []
    for name, model in config.models.items():
        # One policy may stand without its list; `known` then leaves the number out.
        used += [(("models", name, "retrain", i, "when"), policy.when) for i, policy in enumerate(model.retrain)]
        used.append((("models", name, "page_when"), model.page_when))
    return [document.fault(document.known(place), text) for place, text in misplaced(config.conditions, used)]


def _inherit(data: dict[str, Any]) -> dict[str, Any]:
    """`max_alert_age` at the top holds for every model that has none of its own."""
    models = data.get("models")
    if not isinstance(models, dict):
        return data
    try:
        off_or(data["max_alert_age"])
    except (KeyError, ValueError):
        return data
    age = {"max_alert_age": data["max_alert_age"]}
    return {**data, "models": {k: {**age, **v} if isinstance(v, dict) else v for k, v in models.items()}}
