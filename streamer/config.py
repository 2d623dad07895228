"""The configuration: one YAML file, its types, and `load`, which finds every error at once, each with its line.

Why: a person edits this file at night. A message names the file, the line, the place and the value; a key that is not
known is an error with the nearest known one; nothing is started on a file that is half right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from detectors.batches import BATCH_MS
from schemas.errors import ConfigurationError
from schemas.layouts import FeatureLists, Limits, Statistic
from streamer import spans
from streamer.complaints import complaints
from streamer.config_conditions import DRIFT, Expression, Group, Line, When, misplaced, view_of
from streamer.config_fields import (
    Beside,
    ClassName,
    Compare,
    Compared,
    Date,
    DayWord,
    Duration,
    DurationOrOff,
    FalseAlarms,
    Flag,
    Instant,
    Int,
    Name,
    Number,
    Pane,
    Server,
    Url,
    Zone,
    many,
    off_or,
    place_to_start,
    policies,
    section_or_off,
)
from streamer.config_rivers import RiverDetectors, SeriesDetector
from streamer.core.drops import LETTERS
from streamer.documents import Document, Place, parse, read

if TYPE_CHECKING:
    from streamer.formats.mapping import TopicMapping


class Section(BaseModel):
    """A part of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(Section):
    """Where a secret is; never the secret itself, so that no file, log or error can show it."""

    env: str | None = None
    file: Beside | None = None

    @model_validator(mode="before")
    @classmethod
    def _reference_only(cls, value: object) -> object:
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError("must be {env: NAME} or {file: PATH}: a secret does not stand in this file")
        return value

    def read(self, environment: Mapping[str, str]) -> str:
        """The secret. `environment` comes from the composition root. `ConfigurationError` when it is not there."""
        if self.env is not None:
            if self.env not in environment:
                raise ConfigurationError(f"the environment has no {self.env}")
            return environment[self.env]
        try:
            return Path(self.file or "").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"secret file {self.file}: {error.strerror}") from error


class Tls(Section):
    """TLS to a server. Without `ca_file` the system's authorities are trusted."""

    ca_file: Beside | None = None
    certificate_file: Beside | None = None
    key_file: Beside | None = None
    key_password: Secret | None = None
    check_hostname: Flag = True


class Sasl(Section):
    """SASL to Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str
    password: Secret


class Inputs(Section):
    """Names of the input topics; `null` where there is none."""

    predictions: str | None = "predictions"
    features: str | None = "features"
    outcomes: str | None = "outcomes"


class Kafka(Section):
    """The broker, and what our topics are called there."""

    bootstrap_servers: Annotated[
        list[Server], Field(min_length=1), BeforeValidator(many, json_schema_input_type=list[Server] | Server)
    ]
    app: Name = Field(default="tripline", description="Prefix of groups, transactional ids and changelogs.")
    topic_prefix: str = Field(default="", description="Put before every topic but the inputs.")
    inputs: Inputs = Inputs()
    profiles_partitions: Annotated[Int, Field(ge=1, le=256)] = Field(default=8, description="Fixed at creation.")
    linger: Duration = Field(default=100, description="How long a batch waits for more events.")
    broker_timeout: Annotated[Duration, Field(ge=1_000)] = Field(
        default=60_000, description="How long a worker waits for a broker that is away."
    )
    session_timeout: Annotated[Duration, Field(ge=1_000)] = Field(
        default=10_000, description="How long the others wait for a worker that is away before they take its tasks."
    )
    tls: Tls | None = None
    sasl: Sasl | None = None


class BasicAuth(Section):
    """HTTP basic authentication."""

    username: str
    password: Secret


class Alertmanager(Section):
    """Every replica is addressed on its own."""

    urls: list[Url] = Field(min_length=1)
    basic_auth: BasicAuth | None = None
    bearer_token: Secret | None = None
    tls: Tls | None = None
    timeout: Duration = 10_000
    resend: Duration = Field(default=60_000, description="How often a firing incident is sent again.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Alertmanager:
        if self.basic_auth and self.bearer_token:
            raise ValueError("basic_auth and bearer_token exclude each other")
        return self


class Metrics(Section):
    """Where `/metrics`, `/healthz` and `/readyz` listen."""

    host: str = "127.0.0.1"
    port: Annotated[Int, Field(ge=0, le=65535)] = 9464
    bearer_token: Secret | None = Field(default=None, description="What a client of /metrics must show.")


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
    constants: dict[str, str | Number | Flag] = {}
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


class Expect(Section):
    """A hard rule on one feature: it pages at the first closed pane, without statistics."""

    missing_below: Annotated[Number, Field(gt=0, le=1)] | None = None
    range: Annotated[list[Number | None], Field(min_length=2, max_length=2)] | None = None
    required: Flag = False
    levels: Literal["closed"] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Expect:
        low, high = self.range or (None, None)
        if low is not None and high is not None and low > high:
            raise ValueError("range must be [low, high], low at most high")
        return self


class Expectations(BaseModel):
    """Hard rules by feature; `rows_at_least` is the model's own: events per pane."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Expect] = Field(init=False)
    rows_at_least: Annotated[Int, Field(ge=1)] | None = None


class Retrain(Section):
    """When a retrain trigger is emitted."""

    name: Name = "default"
    when: When = Field(
        default_factory=lambda: DRIFT, description="drift for 30m, trend for 2h; all, any, at_least of such lines."
    )
    cooldown: Duration = 86_400_000
    mode: Literal["auto", "approve", "dry_run"] = "auto"
    approval_expires: Duration = 86_400_000


class ReportLimitSection(Section):
    """A limit on a number of the reports on outcomes: a rule, outside the false-alarm budget."""

    metric: str = Field(description="As reports name it: accuracy, roc_auc, ece, mae, coverage, …")
    above: Number | None = None
    below: Number | None = None
    view: str = Field(default="model", description="COLUMN=VALUE; otherwise the whole model.")
    rows: Annotated[Int, Field(ge=1)] = Field(default=100, description="With fewer of them it is not judged.")
    coverage: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=0.95, description="Share of the labels that must be in before a report is judged ahead of its maturity."
    )

    @model_validator(mode="after")
    def _one_side(self) -> ReportLimitSection:
        if (self.above is None) == (self.below is None):
            raise ValueError("must have exactly one of above, below")
        view_of(self.view)
        return self


class Outcomes(Section):
    """Labels that come later: how long they are waited for, and when they are judged."""

    horizon: Duration = Field(default=7 * 86_400_000, description="How long after its prediction an outcome counts.")
    maturity: Duration | None = Field(
        default=None,
        description="Delay after which charts take a pane's labels; otherwise a seventh of the horizon, at most a day.",
    )
    pane: Pane = Field(default=3_600_000, description="The bucket of prediction time; a multiple of the model's pane.")
    early_outcome_wait: Duration = Field(
        default=600_000, description="How much sooner than its prediction an outcome may be appended."
    )
    positive: ClassName | None = Field(default=None, description="The positive of two classes; otherwise 1, true, yes.")
    watch: list[ReportLimitSection] = Field(
        default=[], description="Limits on reported numbers; their alerts are amended or withdrawn by later labels."
    )

    also: RiverDetectors = Field(
        default=[], description="river's detectors on the same matured panes: noted, outside the budget."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Outcomes:
        if self.horizon < self.pane:
            raise ValueError(
                f"horizon must be at least the outcome pane ({spans.words(self.pane)}), got {spans.words(self.horizon)}"
            )
        if self.maturity is not None and self.maturity > self.horizon:
            raise ValueError(
                f"maturity must be at most the horizon ({spans.words(self.horizon)}), got {spans.words(self.maturity)}"
            )
        return self


class WatchSection(Section):
    """A limit on a descriptive statistic of a feature: a rule, outside the false-alarm budget; or a detector on it."""

    feature: str
    statistic: Statistic
    above: Annotated[Number, Field(gt=0)] | None = None
    detector: SeriesDetector | None = Field(
        default=None, description="river's, on one value a pane: noted, outside the budget, no page."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> WatchSection:
        if (self.above is None) == (self.detector is None):
            raise ValueError("must have exactly one of above, detector")
        return self


#: A name of a feature, or a glob.
Pattern: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
_Patterns: TypeAlias = Annotated[
    list[Pattern], Field(min_length=1), BeforeValidator(many, json_schema_input_type=list[Pattern] | Pattern)
]


class FeaturesSection(Section):
    """Which entries of an event's `features` may be read. What is denied is read nowhere: no profile has it."""

    allow: _Patterns | None = Field(default=None, description="Names and globs: these and no others.")
    deny: _Patterns | None = Field(default=None, description="Names and globs: not these, whatever `allow` says.")

    @property
    def lists(self) -> FeatureLists:
        """As layouts carry them: sorted, each pattern once."""
        return FeatureLists(allow=tuple(sorted({*(self.allow or ())})), deny=tuple(sorted({*(self.deny or ())})))


class TableSection(Section):
    """How `backtest` reads this model's tables; the command line's options come first."""

    mapping: dict[str, str] = Field(default={}, description="Our field: the table's column, as --map.")
    features: Annotated[list[str], BeforeValidator(many, json_schema_input_type=list[str] | str)] = Field(
        default=[], description="Globs and c0..c32."
    )
    every: Duration | None = Field(default=None, description="Time between rows of a table without a time column.")
    start: Instant | None = Field(default=None, description="Time of row 0, with `every`.")
    header: Flag | None = Field(default=None, description="Whether a CSV has a header.")


class Model(Section):
    """One model, or one feature set: what it is compared with, how it is cut in time, and whom to tell."""

    reference: str = Field(description="File made by `tripline reference build`; relative to this file.")
    kind: Literal["predictions", "features"] | None = Field(default=None, description="The reference's otherwise.")
    pane: Pane = Field(default=300_000, description="Or `batch`: one per batch of a table, for `backtest`.")
    batch_gap: Duration | None = Field(
        default=None, description="Rows further apart are of two batches; with `pane: batch`, 6h unless said."
    )
    lateness: Duration = 30_000
    idle_after: Duration = 10_000
    hold: Duration = 3_600_000
    timezone: Zone | None = Field(default=None, description="The reference's otherwise.")
    segments: Annotated[list[Name], Field(max_length=6)] = Field(
        default=[], description="The first two are crossed into cells; each further one has a table of its own."
    )
    false_alarms: FalseAlarms = Field(
        default=spans.Budget(1.0, 30 * 86_400_000), description="For every feature, segment and detector together."
    )
    tolerance: Annotated[Number, Field(ge=0, le=5)] = Field(default=0.1, description="Reference sd that do not matter.")
    strict: Flag = False
    compare: Compare = Field(
        default=Compared(0, 0), description="The reference, or the stream's own last days: only the means move."
    )
    calendar: dict[Date, DayWord] = Field(
        default={}, description="Dates that go like another day, or are off: shown, not judged."
    )
    weights: dict[Name, Annotated[Number, Field(gt=0, le=100)]] = Field(
        default={}, description="Features that matter more, or less, than others (1): their share of the budget."
    )
    page_provisional: Flag = False
    features: FeaturesSection = Field(
        default=FeaturesSection(), description="Which may be read at all; the reference is built without the others."
    )
    ignore: list[str] = Field(default=[], description="Features that are counted but not tested; globs.")
    clear_for: Annotated[Int, Field(ge=1)] = 6
    cooldown: Annotated[Int, Field(ge=0)] = Field(default=6, description="Panes after an incident in which none opens.")
    expect: Expectations = Expectations()
    retrain: Annotated[
        list[Retrain], BeforeValidator(policies, json_schema_input_type=list[Retrain] | Retrain | Literal["off"] | None)
    ] = []
    owner: str = ""
    runbook: str = ""
    links: dict[str, str] = {}
    severity: Name = "page"
    statistics: list[Statistic] = Field(default=[], description="Reported beside psi, jensen_shannon and ks.")
    watch: list[WatchSection] = Field(default=[], description="Limits on statistics; check says how often they fire.")
    page_when: Expression | None = Field(
        default=None, description="An incident is a note, not posted, until this holds. Default: it pages at once."
    )
    outcomes: Annotated[
        Outcomes | None,
        BeforeValidator(section_or_off, json_schema_input_type=Outcomes | Literal["off"] | None),
    ] = Field(default=None, description="Outcomes are joined where this section stands, with its defaults if empty.")
    max_alert_age: DurationOrOff = Field(default=86_400_000, description="Older transitions are recorded, not posted.")
    table: TableSection = TableSection()

    @model_validator(mode="before")
    @classmethod
    def _batches(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("pane") != "batch":
            if data.get("batch_gap") is not None:
                raise ValueError("batch_gap goes with `pane: batch`")
            return data
        named = [key for key in ("outcomes", "calendar", "timezone", "compare") if data.get(key) not in (None, "off")]
        if named:
            raise ValueError(f"pane: batch has no clock for {named[0]}")
        return {**data, "pane": spans.words(BATCH_MS), "batch_gap": data.get("batch_gap", "6h")}

    @field_validator("outcomes")
    @classmethod
    def _whole_panes(cls, outcomes: Outcomes | None, info: ValidationInfo) -> Outcomes | None:
        pane = info.data.get("pane")
        if outcomes is not None and pane is not None and outcomes.pane % pane:
            raise ValueError(
                f"pane must be a multiple of the model's pane ({spans.words(pane)}), got {spans.words(outcomes.pane)}"
            )
        return outcomes

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        names = [policy.name for policy in self.retrain]
        if len(set(names)) < len(names):
            raise ValueError(f"retrain policies need different names, got {', '.join(names)}")
        twice = sorted({s for s in self.segments if self.segments.count(s) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice in segments")
        if "version" in self.segments:
            raise ValueError("version is no segment: what is counted by segment is counted by version too")
        denied = [name for name in self.segments if not self.features.lists.permits(name)]
        if denied:
            raise ValueError(f"{denied[0]} is a segment, and denied by features: its values would be counted")
        return self


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
