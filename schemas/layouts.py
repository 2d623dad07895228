"""A layout: everything about a model that changes a result, from one event time on.

Layouts travel on the compacted `control` topic; a pane's start chooses the layout it is counted under.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import re
from typing import Literal, TypeAlias

import msgspec

LAYOUT_FORMAT = 1
#: Of a layout with lists of features: a worker that does not know them would count what is denied, and must refuse it.
LISTS_FORMAT = 2

#: Descriptive statistics on a pane's counts, see `detectors.catalogue`.
Statistic: TypeAlias = Literal[
    "psi", "jensen_shannon", "ks", "hellinger", "total_variation", "wasserstein", "chi2", "cramers_v", "l_infinity"
]


class View(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A sum of cells that is tested: the whole model (`""`), a version, or one value of one segment column.

    >>> str(View("country", "FR")), str(View())
    ('country=FR', 'model')
    """

    column: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.column}={self.value}" if self.column else "model"


class Expectation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hard rule on one feature (DETECTION 6); `feature` "" is the model itself (`rows_at_least`)."""

    feature: str
    missing_below: float | None = None
    range: tuple[float | None, float | None] | None = None
    required: bool = False
    levels_closed: bool = False
    rows_at_least: int | None = None


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A predicate over what fires in the open incident: a leaf, or, with `of`, that at least `least` of those hold.

    A leaf holds when something fires that fits: `feature`, a name or glob, "" for any; `view`, None for any. kind:
    `drift` a chart, but for features whose values are gone; `step`, `ramp` such a drift of that shape, `trend` of
    either; `missing`, `range`, `levels` a hard rule or a chart on missing values, values outside the reference's range,
    unseen levels; `rows`, `silence` the rules on the model; `rule` any hard rule.

    >>> Condition(of=(Condition(feature="age"), Condition(kind="missing", feature="country")), least=1).least
    1
    """

    kind: Literal["drift", "step", "ramp", "trend", "missing", "range", "levels", "rows", "silence", "rule"] = "drift"
    feature: str = ""
    view: View | None = None
    of: tuple[Condition, ...] = ()
    least: int = 0


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on a descriptive statistic of one feature of the whole model: a rule, outside the budget."""

    feature: str
    statistic: Statistic
    above: float


class ReportLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on a number of the reports on outcomes: a rule, outside the budget; exactly one of above and below.

    metric: as in `Metric.name`, or `coverage`. least: rows that it must rest on. coverage: share of the labels that
    must be in before an early report is judged.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    view: View = View()
    least: int = 100
    coverage: float = 0.95


class OtherDetector(msgspec.Struct, frozen=True, kw_only=True):
    """A detector of river's on matured outcome panes: noted, outside the budget. See `detectors.charts.rivers`."""

    name: str
    parameters: dict[str, float] = {}

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.parameters.items()))))


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A detector of river's on a statistic of one feature of the whole model, one value a pane: noted."""

    feature: str
    statistic: Statistic
    detector: OtherDetector


class RetrainPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a retrain trigger is emitted: `condition` has held for `for_ms` of event time, once per incident.

    cooldown_ms: no second trigger of (model, name) whose window ends sooner after the last one's.
    mode: `auto` emits, `approve` asks and waits for `tripline triggers approve ID`, `dry_run` only records.
    """

    name: str = "default"
    for_ms: int = 0
    cooldown_ms: int = 86_400_000
    mode: Literal["auto", "approve", "dry_run"] = "auto"
    approval_expires_ms: int = 86_400_000
    min_label_coverage: float = 0.0
    condition: Condition = Condition()


class FeatureLists(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of an event's `features` that may be read: names and globs, letters as they are written.

    allow: these and no others; empty: all. deny: not these, whatever `allow` says. Outputs are no features.

    >>> lists = FeatureLists(allow=("income", "age*"), deny=("*_raw",))
    >>> [name for name in ("income", "age", "age_raw", "email") if lists.permits(name)]
    ['income', 'age']
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Something may not be read."""
        return bool(self.allow or self.deny)

    def permits(self, name: str) -> bool:
        """Whether a feature may be read."""
        if self.allow and not _any_of(self.allow).match(name):
            return False
        return not (self.deny and _any_of(self.deny).match(name))


@functools.lru_cache(maxsize=1024)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what data can make grow; what exceeds them goes to `__other__` and is counted.

    open_panes: panes of a model that may be open at once; events of further ones are dropped, `over_limit`.
    pending_rows: predictions of one partition that may wait for an outcome; further ones are not joined.
    """

    versions: int = 16
    segment_values: int = 64
    tested_views: int = 64
    open_panes: int = 4096
    event_bytes: int = 1_000_000
    nesting: int = 32
    string_length: int = 256
    pending_rows: int = 5_000_000


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How one model is counted and judged from event time `from_ms` on.

    kind: `predictions` (features and a score, label or value) or `features` (feature rows).
    reference: id of the reference; its features, bins and levels are the columns that are counted.
    segments: at most two columns, crossed into cells; marginals: further columns, each counted by itself and version.
    views: what is tested, the model first. monitored: names of the features that are tested, `score` and `label` too.
    monitors: M, the configured number of monitors (views × monitored, capacity included).
    false_alarms, budget_ms: the budget, `false_alarms` incidents per `budget_ms` of event time.
    partition: the partition of `profiles` that carries the model.
    calendar: date in `timezone` -> the weekday that it goes like, or `off`. weights: prior weights, 1 others.
    compare_days, compare_lag: compared with the mean of so many days, which end so many whole days before today; 0:
    with the reference's own. batch_gap_ms: a pane is a batch of a table, whose rows lie closer than that; 0: a pane is
    a slice of time.
    horizon_ms: how long after its prediction an outcome counts; 0: outcomes are not joined. outcome_pane_ms: the bucket
    of prediction time of outcomes; maturity_ms: how long after its end charts take it.
    early_outcome_wait_ms: how much sooner than its prediction an outcome may be appended. positive: the positive of
    two classes; "": the one of `1`, `true`, `yes`, else the last in order.
    page_when: an incident is posted from the pane on at whose close it holds; None: from its opening.
    reset: why, and on whose word, everything begins anew at `from_ms`; "": what the stream taught goes on.
    statistics: reported beside PSI, Jensen–Shannon and KS; watch: limits on statistics. reported: limits on numbers of
    the reports on outcomes. also: river's detectors on the model's errors, noted;
    series: on statistics. features: which of them may be read; the reference knows no other.
    """

    model: str
    from_ms: int
    reference: str
    kind: Literal["predictions", "features"] = "predictions"
    format: int = LAYOUT_FORMAT
    pane_ms: int = 300_000
    lateness_ms: int = 30_000
    idle_after_ms: int = 10_000
    hold_ms: int = 3_600_000
    outcome_pane_ms: int = 3_600_000
    maturity_ms: int = 0
    horizon_ms: int = 0
    timezone: str = "UTC"
    segments: tuple[str, ...] = ()
    marginals: tuple[str, ...] = ()
    views: tuple[View, ...] = (View(),)
    monitored: tuple[str, ...] = ()
    monitors: int = 1
    tolerance: float = 0.1
    strict: bool = False
    false_alarms: float = 1.0
    budget_ms: int = 30 * 86_400_000
    share: float = 1.0
    page_provisional: bool = False
    clear_for: int = 6
    cooldown_panes: int = 6
    expect: tuple[Expectation, ...] = ()
    policies: tuple[RetrainPolicy, ...] = ()
    owner: str = ""
    runbook: str = ""
    links: dict[str, str] = {}
    severity: str = "page"
    max_alert_age_ms: int | None = 86_400_000
    duplicates_window: int = 100_000
    partition: int = 0
    limits: Limits = Limits()
    early_outcome_wait_ms: int = 600_000
    positive: str = ""
    page_when: Condition | None = None
    statistics: tuple[Statistic, ...] = ()
    watch: tuple[Watch, ...] = ()
    calendar: dict[str, str] = {}
    weights: dict[str, float] = {}
    compare_days: int = 0
    compare_lag: int = 0
    batch_gap_ms: int = 0
    reported: tuple[ReportLimit, ...] = ()
    also: tuple[OtherDetector, ...] = ()
    series: tuple[Series, ...] = ()
    reset: str = ""
    features: FeatureLists = FeatureLists()

    @property
    def id(self) -> str:
        """Content hash, 16 hex digits: equal layouts are one layout.

        >>> a = Layout(model="m", from_ms=0, reference="r")
        >>> len(a.id), a.id == Layout(model="m", from_ms=0, reference="r").id
        (16, True)
        """
        return layout_id(self)

    @property
    def budget_panes(self) -> float:
        """A: panes per false incident, shared with other models by `share`.

        >>> Layout(model="m", from_ms=0, reference="r", pane_ms=7_200_000).budget_panes
        360.0
        """
        return self.budget_ms / self.pane_ms / self.false_alarms / self.share


def layout_id(layout: Layout) -> str:
    """Content hash of a layout, 16 hex digits of BLAKE2b over the sorted JSON of all that is not as by default.

    What stands at its default is left out, so that a field of a later version does not change the id of a layout that
    is in force: a worker would take it for one that it learned of too late.
    """
    raw = msgspec.json.encode(_told(layout), order="sorted")
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


@functools.cache
def _defaults(kind: type[msgspec.Struct]) -> dict[str, object]:
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
    }


def _told(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        named = ((name, getattr(value, name), default) for name, default in _defaults(type(value)).items())
        return {name: _told(found) for name, found, default in named if found != default}
    if isinstance(value, tuple | list):
        return [_told(one) for one in value]
    return value
