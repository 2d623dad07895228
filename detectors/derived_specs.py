"""Learning of derived features in the first pass over a table: their inputs, how they are made, their bins."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from detectors.bins import FeatureSpec
from detectors.derived import LEAST_INPUTS, MOST_INPUTS, Derivation, learn_derivation
from detectors.joint_sample import JointSample
from detectors.references import Finding
from detectors.rows import Rows
from detectors.survey import Survey
from schemas.errors import ConfigurationError

#: Every numeric feature, if there are at most 20.
ALL = ("all",)
#: Rows with fewer are no yardstick of a connection.
LEAST_ROWS = 500
_PLACE = "derived"


def derived_specs(
    asked: Sequence[str], specs: Sequence[FeatureSpec], outputs: Collection[str], sample: JointSample
) -> tuple[Derivation | None, list[FeatureSpec], list[Finding]]:
    """How derived features are made of those that were asked for, their specs, and what is remarkable.

    specs: of everything in the table. outputs: names that are no features. None with fewer than two inputs that vary.
    `ConfigurationError` when one that is named is no numeric feature, or there are more than 20.
    """
    features = {spec.name: spec for spec in specs if spec.kind == "numeric" and spec.name not in outputs}
    names = list(features) if tuple(asked) == ALL else list(asked)
    strange = [name for name in names if name not in features]
    if strange:
        raise ConfigurationError(
            f"{strange[0]!r} is no numeric feature; they are {', '.join(features) or 'none'}", path=_PLACE
        )
    # A column that never varies is connected with nothing.
    inputs = [features[name] for name in names if features[name].edges]
    if len(inputs) > MOST_INPUTS:
        raise ConfigurationError(f"there are {len(inputs)} numeric features; name at most {MOST_INPUTS}", path=_PLACE)
    if len(inputs) < LEAST_INPUTS:
        words = f"derived: {len(inputs)} numeric features that vary; a connection needs {LEAST_INPUTS}"
        return None, [], [Finding("derived", "", words)]
    rows = sample.of([spec.name for spec in inputs])
    if len(rows) < LEAST_ROWS:
        words = f"derived: {len(rows)} rows; a connection is learned from {LEAST_ROWS} or more"
        return None, [], [Finding("derived", "", words)]
    derivation = learn_derivation(inputs, rows)
    taken = [name for name in derivation.names if name in {spec.name for spec in specs}]
    if taken:
        raise ConfigurationError(f"the table has a column {taken[0]!r} already", path=_PLACE)
    survey = Survey()
    values = derivation.values(np.ascontiguousarray(rows.T))
    columns = dict(zip(derivation.names, values, strict=True))
    survey.add(Rows(ts=np.zeros(len(rows), dtype=np.int64), columns=columns))
    found, findings = [], list[Finding]()
    for name in derivation.names:
        spec, remarks = survey.spec(name)
        found.append(spec)
        findings += remarks
    return derivation, found, findings
