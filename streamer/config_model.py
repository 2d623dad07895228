"""The part of the file that describes one model: its reference, its time, its rules, its outcomes, whom to tell."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from detectors.batches import BATCH_MS
from schemas.layouts import FeatureLists, Statistic
from streamer import spans
from streamer.config_conditions import DRIFT, Expression, When, view_of
from streamer.config_fields import (
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
    Zone,
    many,
    policies,
    section_or_off,
)
from streamer.config_rivers import RiverDetectors, SeriesDetector
from streamer.config_section import Section


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
    ] = Field(default=[])
    owner: str = ""
    runbook: str = ""
    links: dict[str, str] = Field(default={})
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
