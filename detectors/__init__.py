"""Drift detection with a false-alarm budget that holds, as a library: pure values, no clock, no I/O.

    from detectors import Layout, ReferenceBuilder, Rows, build_scope, pane_counts, update

`pane_counts` has the whole way as an example: rows, a reference, a scope, panes, an alarm.

Names are imported when they are first used, so that `import detectors` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectors.bins import Binner, FeatureSpec
    from detectors.building import ReferenceBuilder
    from detectors.catalogue import DETECTORS, RULES, STATISTICS
    from detectors.charts.adaptive import build_adaptive
    from detectors.charts.calibration import CalibrationReference, build_calibration, learn_calibration
    from detectors.charts.losses import LossReference, build_losses, learn_losses
    from detectors.pane_of_rows import pane_counts
    from detectors.profiles import Table
    from detectors.references import Reference, dumps, loads
    from detectors.results import Absorbed, Alarm, Cleared, ScopeResult
    from detectors.rows import Rows
    from detectors.scopes import Scope, build_scope, load_state, quiet_panes, skip_empty, update
    from detectors.states import ScopeState, save_state
    from detectors.statistics.chi2 import chi2
    from detectors.statistics.cramers_v import cramers_v
    from detectors.statistics.hellinger import hellinger
    from detectors.statistics.jensen_shannon import jensen_shannon
    from detectors.statistics.ks import ks
    from detectors.statistics.l_infinity import l_infinity
    from detectors.statistics.missing_rate import missing_rate
    from detectors.statistics.psi import psi
    from detectors.statistics.total_variation import total_variation
    from detectors.statistics.wasserstein import wasserstein
    from schemas.layouts import Layout, View

_PLACES = {
    "Absorbed": "results",
    "Alarm": "results",
    "Binner": "bins",
    "CalibrationReference": "charts.calibration",
    "Cleared": "results",
    "DETECTORS": "catalogue",
    "FeatureSpec": "bins",
    "Layout": "frames",
    "LossReference": "charts.losses",
    "RULES": "catalogue",
    "Reference": "references",
    "ReferenceBuilder": "building",
    "Rows": "rows",
    "STATISTICS": "catalogue",
    "Scope": "scopes",
    "ScopeResult": "results",
    "ScopeState": "states",
    "Table": "profiles",
    "View": "frames",
    "build_adaptive": "charts.adaptive",
    "build_calibration": "charts.calibration",
    "build_losses": "charts.losses",
    "build_scope": "scopes",
    "chi2": "statistics.chi2",
    "cramers_v": "statistics.cramers_v",
    "dumps": "references",
    "hellinger": "statistics.hellinger",
    "jensen_shannon": "statistics.jensen_shannon",
    "ks": "statistics.ks",
    "l_infinity": "statistics.l_infinity",
    "learn_calibration": "charts.calibration",
    "learn_losses": "charts.losses",
    "load_state": "scopes",
    "loads": "references",
    "missing_rate": "statistics.missing_rate",
    "pane_counts": "pane_of_rows",
    "psi": "statistics.psi",
    "quiet_panes": "scopes",
    "save_state": "states",
    "skip_empty": "scopes",
    "total_variation": "statistics.total_variation",
    "update": "scopes",
    "wasserstein": "statistics.wasserstein",
}

__all__ = [
    "DETECTORS",
    "RULES",
    "STATISTICS",
    "Absorbed",
    "Alarm",
    "Binner",
    "CalibrationReference",
    "Cleared",
    "FeatureSpec",
    "Layout",
    "LossReference",
    "Reference",
    "ReferenceBuilder",
    "Rows",
    "Scope",
    "ScopeResult",
    "ScopeState",
    "Table",
    "View",
    "build_adaptive",
    "build_calibration",
    "build_losses",
    "build_scope",
    "chi2",
    "cramers_v",
    "dumps",
    "hellinger",
    "jensen_shannon",
    "ks",
    "l_infinity",
    "learn_calibration",
    "learn_losses",
    "load_state",
    "loads",
    "missing_rate",
    "pane_counts",
    "psi",
    "quiet_panes",
    "save_state",
    "skip_empty",
    "total_variation",
    "update",
    "wasserstein",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'detectors' has no attribute {name!r}")
    found: object = getattr(import_module(f"detectors.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
